"""What the command does: one file or folder to another, and what to tell about it."""

import shlex

from etils import epath

from inr_gan_jax.convert import exports
from inr_gan_jax.convert.workdir import CONFIG_FILE, write_workdir
from inr_gan_jax.errors import UserError
from inr_gan_jax.foreign.kinds import open_published
from inr_gan_jax.foreign.published import Published
from inr_gan_jax.model import Model, load
from inr_gan_jax.models.networks import count_parameters

EXPORTS = {".safetensors": exports.write_safetensors, ".stablehlo": exports.write_stablehlo}


def convert(source: epath.PathLike, dest: epath.PathLike, *, images: int = 0) -> list[str]:
    """Converts `source` into `dest`; returns lines that say what was made and how to use it.

    Args:
      source: a released `.pkl`, or, for exports, also a workdir or checkpoint of ours.
      dest: `x.safetensors`, `x.stablehlo`, or else a new folder, which becomes a workdir.
      images: how many images a released file has seen in training.

    Raises UserError, one line, for a source that cannot be read or a dest that cannot be written.
    """
    source, dest = epath.Path(source).expanduser(), epath.Path(dest).expanduser()
    if not source.exists():
        raise UserError(f"--source={source}: there is no such file or folder")
    write = EXPORTS.get(dest.suffix)
    if source.is_dir():
        if write is None:
            ways = " or ".join(f"--dest=x{suffix}" for suffix in EXPORTS)
            raise UserError(f"--source={source} is no file: what is ours already takes {ways}")
        if images:
            raise UserError("--kimg is for released files: a checkpoint of ours knows its count")
        model, lines = load(source), []
    else:
        published = open_published(source)
        lines = _describe(published)
        if write is None:
            write_workdir(published, dest, images=images)
            return [*lines, *_after_workdir(dest, images)]
        model = Model(
            published.config,
            published.g_ema,
            published.buffers,
            published.w_avg,
            class_counts=published.class_counts,
            images_seen=images,
        )
    write(model, dest)
    return [*lines, *_after_export(dest, model)]


def _describe(published: Published) -> list[str]:
    model = published.config.model
    classes = f", {model.num_classes} classes" if model.num_classes else ""
    g, d = (f"{count_parameters(tree):,}" for tree in (published.g, published.d))
    return [
        f"{model.family} {model.width}x{model.height}{classes}: generator {g} parameters, "
        f"discriminator {d}",
        *(f"note: {note}" for note in published.notes),
    ]


def _after_workdir(dest: epath.Path, images: int) -> list[str]:
    here, config = shlex.quote(str(dest)), shlex.quote(str(dest / CONFIG_FILE))
    return [
        f"{dest}: the checkpoint; optimisers start fresh (released files hold none), images are "
        f"counted from {images / 1000:g} kimg",
        f"  images:         python -m inr_gan_jax.generate --checkpoint={here} --seeds=0-15 "
        "--outdir=out",
        f"  train further:  python -m inr_gan_jax.main --config={config} --workdir={here} "
        "--config.data.source=images.zip",
    ]


def _after_export(dest: epath.Path, model: Model) -> list[str]:
    if dest.suffix == ".safetensors":
        return [f"{dest}: the averaged generator's arrays; its configuration is in the metadata"]
    classes = ", one_hot_classes" if model.num_classes else ""
    return [
        f"{dest}: the averaged generator for {', '.join(exports.PLATFORMS)}; with jax alone:",
        f"  call = jax.export.deserialize(open({str(dest)!r}, 'rb').read()).call",
        f"  images = call(latents{classes}, truncation)  # float32 [n, H, W, C], about [-1, 1]",
    ]
