"""What the command does: one file or folder to another, and what to tell about it."""

import shlex

from etils import epath

from inr_gan_jax.convert import exports
from inr_gan_jax.convert.workdir import CONFIG_FILE, write_workdir
from inr_gan_jax.errors import UserError
from inr_gan_jax.foreign.checkpoint import file_of, kimg_of
from inr_gan_jax.foreign.kinds import open_published
from inr_gan_jax.foreign.published import Published
from inr_gan_jax.model import Model, load
from inr_gan_jax.models.networks import count_parameters
from inr_gan_jax.storage.atomic import replaced

PREVIEW, PREVIEWED = "preview.png", 8  # a picture, and the seeds in it
# What somebody means by these names is a file, of a kind that is not written here.
FOREIGN = (".onnx", ".pt", ".pth", ".pkl", ".npz", ".ckpt", ".h5", ".inr", ".zip", ".html")
EXPORTS = {".safetensors": exports.write_safetensors, ".stablehlo": exports.write_stablehlo}


def convert(source: epath.PathLike, dest: epath.PathLike, *, images: int = 0) -> list[str]:
    """Converts `source` into `dest`; returns lines that say what was made and how to use it.

    Args:
      source: a published file, a hub's (hf://user/model), or, for exports, also a workdir or
        checkpoint of ours.
      dest: `x.safetensors`, `x.stablehlo`, or else a new folder, which becomes a workdir.
      images: how many images a published file has seen in training (0: as its name tells).

    Raises UserError, one line, for a source that cannot be read or a dest that cannot be written.
    """
    source, dest = file_of(source), epath.Path(dest).expanduser()
    if not source.exists():
        raise UserError(f"--source={source}: there is no such file or folder")
    write, ways = EXPORTS.get(dest.suffix), " or ".join(f"--dest=x{suffix}" for suffix in EXPORTS)
    if dest.suffix.lower() in FOREIGN:
        raise UserError(
            f"--dest={dest}: no {dest.suffix} is written here; give {ways}, or a new folder"
        )
    if source.is_dir():
        if write is None:
            raise UserError(f"--source={source} is no file: what is ours already takes {ways}")
        if images:
            raise UserError("--kimg is for released files: a checkpoint of ours knows its count")
        model, lines = load(source), []
    else:
        published = open_published(source)
        images = images or round(1000 * kimg_of(source.name)) or published.images
        lines = _describe(published)
        if write is None:
            write_workdir(published, dest, images=images)
            complete = published.g is not None
            del published  # a preview needs memory, too
            return [*lines, *_preview(dest), *_after_workdir(dest, images, complete)]
        model = Model(
            published.config,
            published.g_ema,
            published.buffers,
            published.w_avg,
            class_counts=published.class_counts,
            class_names=published.class_names,
            images_seen=images,
            draws=published.draws,
        )
    write(model, dest)
    return [*lines, *_after_export(dest, model)]


def _describe(published: Published) -> list[str]:
    model = published.config.model
    classes = f", {model.num_classes} classes" if model.num_classes else ""
    told = f"generator {count_parameters(published.g_ema):,} parameters"
    if published.d is not None:
        told += f", discriminator {count_parameters(published.d):,}"
    else:
        told += ", the average alone (no G and D to train)"
    notes = list(published.notes)
    if model.num_classes and not published.counts:
        notes.append(
            "the file does not tell how often its data had each class: they are drawn evenly, and "
            "truncation leads to the one mean of all"
        )
    return [
        f"{published.system}: {model.family} {model.width}x{model.height}{classes}, {told}",
        *(f"note: {note}" for note in notes),
    ]


def _preview(dest: epath.Path) -> list[str]:
    """Draws images of the first seeds into the new workdir."""
    path = dest / PREVIEW
    with replaced(path) as file:
        file.write(exports.picture_of(load(dest), PREVIEWED, PREVIEWED // 2))
    return [f"{path}: seeds 0 to {PREVIEWED - 1}"]


def _after_workdir(dest: epath.Path, images: int, complete: bool) -> list[str]:
    here, config = shlex.quote(str(dest)), shlex.quote(str(dest / CONFIG_FILE))
    more = (
        f"  images:         python -m inr_gan_jax.generate --checkpoint={here} --seeds=0-15 "
        "--outdir=out"
    )
    if not complete:
        return [
            f"{dest}: the checkpoint of an averaged generator; a new run can start from it: "
            f"--config.train.init_from={here}",
            more,
        ]
    return [
        f"{dest}: the checkpoint; optimisers start fresh (published files hold none), images are "
        f"counted from {images / 1000:g} kimg",
        more,
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
