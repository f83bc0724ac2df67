"""Images from a trained generator.

python -m inr_gan_jax.generate --checkpoint=DIR --seeds=0-15 --outdir=OUT
    [--truncation=0.7] [--class_index=3] [--latents=z.npy] [--format=png|npy]
"""

import re

import numpy as np
from absl import flags
from etils import epath
from tqdm import tqdm

from inr_gan_jax.errors import UserError, run

CHECKPOINT = flags.DEFINE_string("checkpoint", None, "A workdir or one checkpoint.", required=True)
SEEDS = flags.DEFINE_string("seeds", None, "Seeds, one image each: 0-15 or 3,7,20-29.")
LATENTS = flags.DEFINE_string("latents", None, "Instead of seeds: float array [n, z_dim] (.npy).")
OUTDIR = flags.DEFINE_string("outdir", None, "Where to write; made if absent.", required=True)
TRUNCATION = flags.DEFINE_float("truncation", 1.0, "Psi: 1 is none, 0 the average image.")
CLASS = flags.DEFINE_integer(
    "class_index", None, "Class of all images; default: drawn like the training data's."
)
FORMAT = flags.DEFINE_enum(
    "format", "png", ["png", "npy"], "png: a file each; npy: float32 [n, H, W, C], unclipped."
)
BATCH = flags.DEFINE_integer("batch_size", 16, "Images at a time.", lower_bound=1)


def parse_seeds(text: str) -> list[int]:
    """`0-3,7` -> [0, 1, 2, 3, 7]; UserError for anything else than seeds from 0 to 2^32 - 1."""
    seeds = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if first > last or last >= 2**32:
            raise UserError(f"--seeds={text}: {part!r} is no seed or range like 0-15 (below 2^32)")
        seeds.extend(range(first, last + 1))
    return seeds


def _read_latents(path: str, z_dim: int) -> np.ndarray:
    try:
        with epath.Path(path).open("rb") as file:
            z = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"--latents={path} cannot be read as a .npy array: {error}") from None
    if z.ndim != 2 or z.shape[1] != z_dim or z.dtype.kind not in "fiu" or not len(z):
        raise UserError(
            f"--latents={path} holds {z.dtype} {list(z.shape)}, not floats [n, {z_dim}]"
        )
    if not np.isfinite(z).all():
        raise UserError(f"--latents={path} holds values that are not finite")
    return z.astype(np.float32)


def _classes(model, seeds: list[int]) -> np.ndarray | None:
    """Classes `[n]`, one per seed; UserError if --class_index does not fit the model."""
    if not model.num_classes:
        if CLASS.value is not None:
            raise UserError("--class_index: this model is not class-conditional")
        return None
    if CLASS.value is None:
        return model.classes(seeds)
    if not 0 <= CLASS.value < model.num_classes:
        raise UserError(f"--class_index={CLASS.value} must be 0 to {model.num_classes - 1}")
    return np.full(len(seeds), CLASS.value)


def main(_) -> None:
    """Parses flags, generates in batches, writes."""
    if (SEEDS.value is None) == (LATENTS.value is None):
        raise UserError("give --seeds=0-15 or --latents=z.npy, one of the two")
    seeds = parse_seeds(SEEDS.value) if SEEDS.value is not None else None

    from inr_gan_jax.devices import use_compilation_cache
    from inr_gan_jax.model import load
    from inr_gan_jax.monitor import encode_png, to_uint8

    use_compilation_cache()
    model = load(CHECKPOINT.value)
    if seeds is None:
        z, names = _read_latents(LATENTS.value, model.config.model.z_dim), "latent"
        seeds = list(range(len(z)))
    else:
        z, names = model.latents(seeds), "seed"
    classes = _classes(model, seeds)
    outdir = epath.Path(OUTDIR.value)
    try:
        outdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--outdir={outdir} cannot be made: {error.strerror or error}") from None
    batch, images = min(BATCH.value, len(z)), []
    with tqdm(total=len(z), unit="image", delay=2) as bar:
        for start in range(0, len(z), batch):
            rows = np.arange(start, start + batch) % len(z)  # whole batches: compiled once
            made = model.images(
                z[rows],
                classes=None if classes is None else classes[rows],
                truncation=TRUNCATION.value,
            )[: len(z) - start]
            if FORMAT.value == "npy":
                images.append(made)
            else:
                for k, image in enumerate(to_uint8(made), start):
                    path = outdir / f"{names}{seeds[k]:04d}.png"
                    path.write_bytes(encode_png(image))
            bar.update(len(made))
    if FORMAT.value == "npy":
        with (outdir / "images.npy").open("wb") as file:
            np.save(file, np.concatenate(images))
    what = "images.npy" if FORMAT.value == "npy" else f"{len(z)} PNG files"
    print(f"{outdir}: {what} from {model.images_seen / 1000:.1f} kimg of training")


if __name__ == "__main__":
    run(main)
