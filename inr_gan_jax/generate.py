"""Images from a trained generator.

    python -m inr_gan_jax.generate --checkpoint=runs/digits --seeds=0-15 --outdir=out
    python -m inr_gan_jax.generate --checkpoint=runs/digits --seeds=3,7 --truncation=0.7 \\
        --format=npy --outdir=out
    python -m inr_gan_jax.generate --checkpoint=runs/digits --seeds=0-3 --size=100x50 \\
        --window=-1,0,1,1 --samples=4 --outdir=halves

Without a flag about the view (--size to --tables) images are those of the training grid. The frame
of the training images is -1,-1,1,1: left, bottom, right, top. For one huge image:
python -m inr_gan_jax.render.

A seed is the latent that the model's own code draws for it: of a published .pkl the images are
those that people know. (What training shows, evaluate and report draw streams of their own.)
"""

import itertools
from collections.abc import Iterator

import numpy as np
from absl import flags
from etils import epath
from tqdm import tqdm

from inr_gan_jax.cli import flags as shared
from inr_gan_jax.cli.arguments import parse_class, parse_seeds
from inr_gan_jax.cli.run import run
from inr_gan_jax.errors import UserError

CHECKPOINT = shared.checkpoint()
SEEDS = flags.DEFINE_string("seeds", None, "Seeds, one image each: 0-15 or 3,7,20-29.")
LATENTS = shared.path("latents", None, "Instead of seeds: float array [n, z_dim] (.npy).")
OUTDIR = shared.path("outdir", None, "Where to write; made if absent.", required=True)
TRUNCATION = shared.truncation()
CLASS = shared.class_index("Class of all images; default: drawn like the training data's.")
FORMAT = flags.DEFINE_enum(
    "format", "png", ["png", "npy"], "png: a file each; npy: float32 [n, H, W, C], unclipped."
)
DTYPE = flags.DEFINE_enum(
    "dtype", "float32", ["float32", "bfloat16"], "Of features: bfloat16 is quicker on AMX and GPUs."
)
NOISE = flags.DEFINE_integer(
    "noise_seed", None, "Draw noise anew (StyleGAN2, CIPS); default: fixed, or none.", lower_bound=0
)
BATCH = flags.DEFINE_integer("batch_size", 16, "Images at a time.", lower_bound=1)

VIEW = shared.View(*shared.View.TEXTS)

LARGEST = 2**28  # pixels of one image, which is held in memory


def _read_latents(path: str, z_dim: int) -> np.ndarray:
    try:
        with epath.Path(path).open("rb") as file:
            z = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"--latents={path} cannot be read as a .npy array: {error}") from None
    if not isinstance(z, np.ndarray):
        raise UserError(f"--latents={path} is an archive: give one array, as numpy.save writes it")
    if z.ndim != 2 or z.shape[1] != z_dim or z.dtype.kind not in "fiu" or not len(z):
        raise UserError(
            f"--latents={path} holds {z.dtype} {list(z.shape)}, not floats [n, {z_dim}]"
        )
    with np.errstate(over="ignore"):
        z = z.astype(np.float32)
    if not np.isfinite(z).all():
        raise UserError(f"--latents={path} holds values that are not finite float32 numbers")
    return z


def main(_) -> None:
    """Parses flags, generates in batches, writes."""
    if (SEEDS.value is None) == (LATENTS.value is None):
        raise UserError("give --seeds=0-15 or --latents=z.npy, one of the two")
    seeds = parse_seeds(SEEDS.value) if SEEDS.value is not None else None
    truncation, view = shared.finite(TRUNCATION), VIEW.options()

    from inr_gan_jax.runtime.devices import use_compilation_cache

    use_compilation_cache()
    model = shared.load(dtype=DTYPE.value)
    if seeds is None:
        z, name = _read_latents(LATENTS.value, model.config.model.z_dim), "latent"
        seeds = list(range(len(z)))
    else:
        z, name = model.latents(seeds), "seed"
    classes = parse_class(model, seeds, CLASS.value)
    if NOISE.value is not None and (view or not model.config.model.has_noise):
        raise UserError("--noise_seed: only StyleGAN2 and CIPS have noise, on their own grid")
    if view:
        made = _views(model, z, classes, truncation, view)
    else:
        made = _batches(model, z, classes, truncation)
    outdir = epath.Path(OUTDIR.value)
    try:
        outdir.mkdir(parents=True, exist_ok=True)
        if FORMAT.value == "npy":
            what = "images.npy"
            _write_npy(outdir / what, made, len(z))
        else:
            what = f"{len(z)} PNG files"
            _write_pngs(outdir, made, [f"{name}{seed:04d}.png" for seed in seeds])
    except OSError as error:
        raise UserError(f"--outdir={outdir} cannot be written: {error}") from None
    print(f"{outdir}: {what} from {model.images_seen / 1000:.1f} kimg of training")


def _batches(
    model, z: np.ndarray, classes: np.ndarray | None, truncation: float
) -> Iterator[np.ndarray]:
    """Images `[b, H, W, C]` of latents `[n, z_dim]`, some at a time, with a progress bar."""
    batch = min(BATCH.value, len(z))
    with tqdm(total=len(z), unit="image", delay=2) as bar:
        for start in range(0, len(z), batch):
            rows = np.arange(start, start + batch) % len(z)  # whole batches: compiled once
            made = model.images(
                z[rows],
                classes=None if classes is None else classes[rows],
                truncation=truncation,
                noise_seed=None if NOISE.value is None else NOISE.value + start,
            )[: len(z) - start]
            yield made
            bar.update(len(made))


def _views(
    model, z: np.ndarray, classes: np.ndarray | None, truncation: float, view: dict
) -> Iterator[np.ndarray]:
    """Images `[1, H, W, C]` of latents `[n, z_dim]`, rendered one by one with options of View.

    Raises UserError, before anything is rendered, for views that this model cannot have.
    """

    def image(k):
        which = None if classes is None else classes[k]
        return model.image(latent=z[k], classes=which, truncation=truncation)

    try:
        found = image(0).view(**view)
    except ValueError as error:
        raise UserError(str(error)) from None
    if found.width * found.height > LARGEST:
        raise UserError(
            f"--size={VIEW['size']} is too large here: python -m inr_gan_jax.render writes one "
            "image tile by tile"
        )
    bar = tqdm(range(len(z)), unit="image", delay=2)
    return (image(k).render(**view)[None] for k in bar)


def _write_npy(path: epath.Path, batches: Iterator[np.ndarray], count: int) -> None:
    """One array of all images, written as they come: there may be more than memory holds."""
    from inr_gan_jax.storage.atomic import replaced

    with replaced(path) as file:
        for k, made in enumerate(batches):
            if k == 0:
                header = {"descr": "<f4", "fortran_order": False, "shape": (count, *made.shape[1:])}
                np.lib.format.write_array_header_1_0(file, header)
            file.write(np.ascontiguousarray(made, "<f4").tobytes())


def _write_pngs(outdir: epath.Path, batches: Iterator[np.ndarray], names: list[str]) -> None:
    from inr_gan_jax.pictures.encode import encode_png
    from inr_gan_jax.pictures.pixels import to_uint8
    from inr_gan_jax.storage.atomic import replaced

    images = itertools.chain.from_iterable(map(to_uint8, batches))
    for name, image in zip(names, images, strict=True):
        with replaced(outdir / name) as file:
            file.write(encode_png(image))


if __name__ == "__main__":
    run(main)
