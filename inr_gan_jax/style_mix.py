"""A table of style mixes: images of the rows with some of the columns' styles.

    python -m inr_gan_jax.style_mix --checkpoint=runs/digits --rows=0-3 --cols=4-9 --layers=0-2 \\
        --dest=mix.png
    python -m inr_gan_jax.style_mix --checkpoint=runs/digits --rows=0,1 --cols=2,3 --layers=3-5 \\
        --size=64x64 --truncation=0.7 --class_index=3 --dest=mix.webp

The first row and the first column show the sources; a cell is its row's image with the styles of
its column in --layers (Karras et al. 2019, section 3.1), which count from 0, the coarsest.
"""

import math
from collections.abc import Iterator

import numpy as np
from absl import flags
from etils import epath
from tqdm import tqdm

from inr_gan_jax.arguments import parse_class, parse_seeds, parse_size
from inr_gan_jax.errors import UserError, run
from inr_gan_jax.pictures.encode import PICTURES

CHECKPOINT = flags.DEFINE_string("checkpoint", None, "A workdir or one checkpoint.", required=True)
ROWS = flags.DEFINE_string("rows", None, "Seeds of the rows: 0-3 or 3,7,20-29.", required=True)
COLS = flags.DEFINE_string("cols", None, "Seeds of the columns, written alike.", required=True)
LAYERS = flags.DEFINE_string("layers", None, "What columns give: 0-2 or 0-2,5.", required=True)
DEST = flags.DEFINE_string("dest", None, "The picture: x.png, x.jpg or x.webp.", required=True)
TRUNCATION = flags.DEFINE_float("truncation", 1.0, "Psi: 1 is none, 0 the average image.")
CLASS = flags.DEFINE_integer(
    "class_index", None, "Class of all seeds; default: drawn for each like the training data's."
)
SIZE = flags.DEFINE_string("size", None, "Pixels of an image, WxH; default: the training size.")

BATCH = 16  # images made at a time
LARGEST = 2**28  # pixels of the table, which is held in memory


def _seeds(name: str, text: str) -> list[int]:
    try:
        return parse_seeds(text)
    except UserError as error:
        raise UserError(str(error).replace("--seeds", f"--{name}")) from None


def _layers(text: str, count: int) -> list[int]:
    """`0-2,5` -> [0, 1, 2, 5]; UserError for layers that a model with `count` styles has not."""
    try:
        layers = parse_seeds(text)
    except UserError:
        layers = [count]
    if max(layers) >= count:
        raise UserError(f"--layers={text}: give some of 0-{count - 1}, the layers of this model")
    return layers


def mixes(rows_nlw: np.ndarray, columns_nlw: np.ndarray, layers: list[int]) -> np.ndarray:
    """Styles `[n, L, w_dim]` of rows and of columns -> those of all cells, `[R, C, L, w_dim]`.

    A cell has its row's styles, but those of its column in `layers`.
    """
    taken = np.isin(np.arange(rows_nlw.shape[1]), layers)[:, None]
    return np.where(taken, columns_nlw[None], rows_nlw[:, None])


def _native(model, ws: np.ndarray) -> Iterator[np.ndarray]:
    """Images `[H, W, C]` of styles on the training grid."""
    batch = min(BATCH, len(ws))
    for start in range(0, len(ws), batch):
        rows = np.arange(start, start + batch) % len(ws)  # whole batches: compiled once
        yield from model.images(ws=ws[rows])[: len(ws) - start]


def _rendered(model, ws: np.ndarray, width: int, height: int) -> Iterator[np.ndarray]:
    """Images `[height, width, C]` of styles; ValueError for what is no coordinate function."""
    from inr_gan_jax.render.frames import Planned, plan

    first = model.image(ws=ws[0])
    view = first.view(width, height)
    plans = plan(first, [view])
    return (Planned(model.image(ws=one), plans).show(view) for one in ws)


def _table(images: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Images of rows, of columns and of cells -> those of the whole table, row by row."""
    table = np.full((rows + 1, columns + 1, *images.shape[1:]), 128, np.uint8)
    table[1:, 0], table[0, 1:], cells = np.split(images, [rows, rows + columns])
    table[1:, 1:] = cells.reshape(rows, columns, *images.shape[1:])
    return table.reshape(-1, *images.shape[1:])


def main(_) -> None:
    """Parses flags, mixes, draws, writes."""
    rows, columns = _seeds("rows", ROWS.value), _seeds("cols", COLS.value)
    size = None if SIZE.value is None else parse_size(SIZE.value)
    if not math.isfinite(TRUNCATION.value):
        raise UserError(f"--truncation={TRUNCATION.value} must be finite")
    dest = epath.Path(DEST.value).expanduser()
    if dest.suffix.lower() not in PICTURES:
        raise UserError(f"--dest={dest} must end in {', '.join(PICTURES)}")

    from inr_gan_jax.model import load
    from inr_gan_jax.pictures.encode import encode
    from inr_gan_jax.pictures.pixels import opaque, tile, to_uint8
    from inr_gan_jax.render.files import writable
    from inr_gan_jax.runtime.devices import use_compilation_cache
    from inr_gan_jax.storage.atomic import replaced

    use_compilation_cache()
    model = load(CHECKPOINT.value)
    shape, layers = model.config.model, _layers(LAYERS.value, model.num_styles)
    width, height = size or (shape.width, shape.height)
    across, down = (len(columns) + 1) * (width + 1) + 1, (len(rows) + 1) * (height + 1) + 1
    kind, longest = PICTURES[dest.suffix.lower()]
    if across * down > LARGEST or max(across, down) > longest:
        raise UserError(
            f"--dest={dest}: {across}x{down} pixels are too many: fewer or smaller images"
        )

    def styles(seeds):
        classes = parse_class(model, seeds, CLASS.value)
        return np.asarray(model.styles(seeds=seeds, classes=classes, truncation=TRUNCATION.value))

    sources = styles(rows), styles(columns)
    cells = mixes(*sources, layers)
    ws = np.concatenate([*sources, cells.reshape(-1, *cells.shape[2:])])
    try:
        made = _rendered(model, ws, width, height) if size else _native(model, ws)
    except ValueError as error:  # --size of the StyleGAN2 baseline
        raise UserError(f"--size={SIZE.value}: {error}") from None
    with writable(dest, overwrite=True):
        shown = np.stack([to_uint8(x) for x in tqdm(made, total=len(ws), unit="image", delay=2)])
        picture = opaque(tile(_table(shown, *map(len, sources)), len(columns) + 1))
        with replaced(dest) as file:
            encode(picture, file, kind, quality=90)
    print(
        f"{dest}: {across}x{down}, {len(rows)} x {len(columns)} images with layers {LAYERS.value} "
        f"of {model.num_styles} from the columns"
    )


if __name__ == "__main__":
    run(main)
