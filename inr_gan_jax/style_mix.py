"""A table of style mixes: images of the rows with some of the columns' styles.

    python -m inr_gan_jax.style_mix --checkpoint=runs/digits --rows=0-3 --cols=4-9 --layers=0-2 \\
        --dest=mix.png
    python -m inr_gan_jax.style_mix --checkpoint=runs/digits --rows=0,1 --cols=2,3 --layers=3-5 \\
        --size=64x64 --truncation=0.7 --class_index=3 --dest=mix.webp

The first row and the first column show the sources; a cell is its row's image with the styles of
its column in --layers (Karras et al. 2019, section 3.1), which count from 0, the coarsest.
"""

from collections.abc import Iterator

import numpy as np
from absl import flags
from etils import epath
from tqdm import tqdm

from inr_gan_jax.cli import flags as shared
from inr_gan_jax.cli.arguments import parse_class, parse_seeds
from inr_gan_jax.cli.run import run
from inr_gan_jax.errors import UserError
from inr_gan_jax.pictures.encode import PICTURES

CHECKPOINT = shared.checkpoint()
ROWS = flags.DEFINE_string("rows", None, "Seeds of the rows: 0-3 or 3,7,20-29.", required=True)
COLS = flags.DEFINE_string("cols", None, "Seeds of the columns, written alike.", required=True)
LAYERS = flags.DEFINE_string("layers", None, "What columns give: 0-2 or 0-2,5.", required=True)
DEST = shared.path("dest", None, "The picture: x.png, x.jpg or x.webp.", required=True)
TRUNCATION = shared.truncation()
CLASS = shared.class_index("Class of all seeds; default: drawn for each like the training data's.")
VIEW = shared.View(size="Pixels of an image, WIDTHxHEIGHT; default: the training size.")

BATCH = 16  # images made at a time
LARGEST = 2**28  # pixels of the table, which is held in memory


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
    rows, columns = parse_seeds(ROWS.value, "rows"), parse_seeds(COLS.value, "cols")
    size, truncation, dest = VIEW.options(), shared.finite(TRUNCATION), epath.Path(DEST.value)
    if dest.suffix.lower() not in PICTURES:
        raise UserError(f"--dest={dest} must end in {', '.join(PICTURES)}")

    from inr_gan_jax.pictures.encode import encode
    from inr_gan_jax.pictures.pixels import opaque, tile, to_uint8
    from inr_gan_jax.render.files import writable
    from inr_gan_jax.runtime.devices import use_compilation_cache
    from inr_gan_jax.storage.atomic import replaced

    use_compilation_cache()
    model = shared.load()
    shape, layers = model.config.model, _layers(LAYERS.value, model.num_styles)
    width, height = size.get("width", shape.width), size.get("height", shape.height)
    across, down = (len(columns) + 1) * (width + 1) + 1, (len(rows) + 1) * (height + 1) + 1
    kind, longest = PICTURES[dest.suffix.lower()]
    if across * down > LARGEST or max(across, down) > longest:
        raise UserError(
            f"--dest={dest}: {across}x{down} pixels are too many: fewer or smaller images"
        )

    def styles(seeds):
        classes = parse_class(model, seeds, CLASS.value)
        return np.asarray(model.styles(seeds=seeds, classes=classes, truncation=truncation))

    sources = styles(rows), styles(columns)
    cells = mixes(*sources, layers)
    ws = np.concatenate([*sources, cells.reshape(-1, *cells.shape[2:])])
    try:
        made = _rendered(model, ws, width, height) if size else _native(model, ws)
    except ValueError as error:  # --size of the StyleGAN2 baseline
        raise UserError(f"--size={VIEW['size']}: {error}") from None
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
