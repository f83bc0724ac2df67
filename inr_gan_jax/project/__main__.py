"""The image of a generator that is nearest to a photo, to a part of it, or to scattered pixels.

    python -m inr_gan_jax.project --checkpoint=runs/digits --target=photo.png --outdir=out

An image that the generator could have made is found again with --space=w, one style for all
layers; any other photo is met closer with w+, a style for each. What is not known is invented:

    python -m inr_gan_jax.project --checkpoint=runs/digits --target=photo.png --mask=mask.png \\
        --outdir=inpainted
    python -m inr_gan_jax.project --checkpoint=runs/digits --target=middle.png \\
        --target_window=-0.5,-0.5,0.5,0.5 --outdir=outpainted
    python -m inr_gan_jax.project --checkpoint=runs/digits --target=small.png --size=256x256 \\
        --outdir=larger
    python -m inr_gan_jax.project --checkpoint=runs/digits --target=points.csv --space=w \\
        --outdir=from_points

The photo may have any size and fills the frame -1,-1,1,1 (left, bottom, right, top) of the model's
images, or --target_window. White pixels of the mask are known, black ones are not; so are opaque
and transparent pixels of a photo for a model without transparency. Points are rows of x, y in the
frame, y upwards, and values in [-1, 1], as .csv or as an array [n, 2 + channels] in .npy.

In outdir: projected.inr (the image as a function), projected.png, styles.npy [layers, w_dim],
comparison.png (target, projection, difference; the whole image where the target is less),
progress.mp4, and projection.npz, with which the same command goes on after a stop.
"""

import sys
from collections.abc import Callable

from absl import flags
from etils import epath
from tqdm import tqdm

from inr_gan_jax.cli import flags as shared
from inr_gan_jax.cli.arguments import parse_class, parse_window
from inr_gan_jax.cli.run import run
from inr_gan_jax.errors import UserError
from inr_gan_jax.runtime.stopping import stop_signals

CHECKPOINT = shared.checkpoint()
TARGET = shared.path("target", None, "A photo, or points (.csv, .npy).", required=True)
OUTDIR = shared.path("outdir", None, "Where to write; made if absent.", required=True)
MASK = shared.path("mask", None, "A picture of the photo's size: white is known.")
TARGET_WINDOW = flags.DEFINE_string(
    "target_window", None, "Where in the frame the photo lies; default: -1,-1,1,1, all of it."
)
CROP = flags.DEFINE_enum(
    "crop", "none", ["none", "center"], "What to do with a photo of another shape than its place."
)
SPACE = flags.DEFINE_enum("space", "w+", ["w", "w+"], "One style, or one for each layer.")
STEPS = flags.DEFINE_integer("steps", 500, "Steps of the search.", lower_bound=1)
RATE = flags.DEFINE_float("learning_rate", 0.1, "In standard deviations of styles per step.")
SEED = flags.DEFINE_integer(
    "seed", 0, "Decides which pixels each step looks at.", lower_bound=0, upper_bound=2**32 - 1
)
CLASS = shared.class_index("Class of the image; default: the nearest.")
WEIGHTS = shared.paths(
    "detector_weights",
    [],
    "Files of VGG16 and LPIPS: a whole photo is then compared by LPIPS, too.",
)
VIEW = shared.View(
    size="Pixels of projected.png, WIDTHxHEIGHT; default: as the photo's.",
    window="What projected.png shows: left,bottom,right,top; default: -1,-1,1,1.",
)
OVERWRITE = flags.DEFINE_bool("overwrite", False, "Forget another projection in outdir.")

STATE = "projection.npz"
SAVE_EVERY = 100  # steps
MOST_CLASSES = 100  # that are searched for the nearest
LARGEST = 2**28  # pixels of projected.png, which is held in memory


def _target(model):
    """The photo or the scattered pixels that flags name."""
    from inr_gan_jax.project.target import POINTS, read_photo, read_points
    from inr_gan_jax.render.view import FRAME

    if not TARGET.value.lower().endswith(POINTS):
        window = FRAME
        if TARGET_WINDOW.value is not None:
            window = parse_window(TARGET_WINDOW.value, "target_window")
        crop = CROP.value == "center"
        return read_photo(
            TARGET.value, model.config.model, mask=MASK.value, window=window, crop=crop
        )
    for name in ("mask", "target_window", "crop", "detector_weights"):
        if flags.FLAGS[name].present:
            raise UserError(f"--{name} goes with a photo: points say themselves where they lie")
    return read_points(TARGET.value, model.config.model.channels)


def _class(model, goal) -> int | None:
    """The class that a flag gives, or the nearest one; None for an unconditional model."""
    from inr_gan_jax.project.fit import nearest_class

    if CLASS.value is not None or not model.num_classes:
        classes = parse_class(model, [0], CLASS.value)
        return None if classes is None else int(classes[0])
    if model.num_classes > MOST_CLASSES:
        raise UserError(
            f"give --class_index, 0 to {model.num_classes - 1}: more than {MOST_CLASSES} classes "
            "are too many to try"
        )
    nearest = nearest_class(model, goal, SEED.value)
    print(f"class {nearest} is the nearest of {model.num_classes}; --class_index takes another")
    return nearest


def _perceptual(target, goal):
    """LPIPS and the hashes of its weights, or (None, []) where no flag asks for it."""
    import jax

    from inr_gan_jax.project.perceptual import lpips

    if not WEIGHTS.value:
        return None, []
    if not target.whole:
        raise UserError("--detector_weights: LPIPS sees whole photos; a part of this is unknown")
    distance, hashes = lpips(WEIGHTS.value)
    jax.eval_shape(distance, goal.grid.pixels[None], goal.grid.pixels[None])  # or it is too small
    return distance, hashes


def _known(target) -> str:
    """How much of the image is given."""
    from inr_gan_jax.project.target import Photo

    if not isinstance(target, Photo):
        return f"{len(target.points):,} points"
    if target.whole:
        return f"{target.known.size:,} pixels"
    return f"{target.known.sum():,} known of {target.known.size:,} pixels"


def _search(projection, save: Callable[[], None]) -> int:
    """Takes the steps that are left, saves now and then; the signal that ended it, or 0."""
    from inr_gan_jax.project.compare import decibels

    steps = projection.settings.steps
    with (
        stop_signals() as stop,
        tqdm(total=steps, initial=projection.step, desc="projecting", unit="step", delay=1) as bar,
    ):
        while not projection.done and not stop:
            before = projection.step
            bar.update(projection.advance())
            psnr = f"{decibels(projection.error):.1f} dB"
            bar.set_postfix(loss=f"{projection.loss:.4f}", psnr=psnr, refresh=False)
            due = projection.step // SAVE_EVERY > before // SAVE_EVERY
            if due or stop or projection.done:
                save()
    return stop[0] if stop and not projection.done else 0


def main(_) -> int | None:
    """Parses flags, searches, writes."""
    options, outdir = VIEW.options(), epath.Path(OUTDIR.value)

    from inr_gan_jax.models.families import inr_spec
    from inr_gan_jax.project import fit, results, resume
    from inr_gan_jax.project.compare import goal_of, psnr
    from inr_gan_jax.runtime.devices import use_compilation_cache

    use_compilation_cache()
    try:
        settings = fit.Settings(SPACE.value, STEPS.value, SEED.value, RATE.value)
        model = shared.load()
        spec = inr_spec(model.config.model)
        target = _target(model)
        goal = goal_of(target, spec)
        if VIEW["size"] is None:
            size = results.default_size(target, spec.size[::-1], **options)
            options |= dict(zip(("width", "height"), size, strict=True))
        if options["width"] * options["height"] > LARGEST:
            size = "{width}x{height}".format(**options)
            raise UserError(f"projected.png would have {size} pixels: give a --size")
        perceptual, hashes = _perceptual(target, goal)
        index = _class(model, goal)
        projection = fit.Projection(model, goal, settings, class_index=index, perceptual=perceptual)
        image = model.image(ws=projection.styles)
        view = image.view(**options)
    except ValueError as error:  # a model without points, a setting or a view that cannot be
        raise UserError(str(error)) from None
    state, identity = outdir / STATE, resume.identity(model, target, settings, index, hashes)
    resume.restore(state, projection, identity, overwrite=OVERWRITE.value)
    try:
        outdir.mkdir(parents=True, exist_ok=True)
        stopped = _search(projection, lambda: resume.save(state, projection, identity))
        if stopped:
            print(
                f"{outdir}: stopped after {projection.step} of {settings.steps} steps; the same "
                "command goes on",
                file=sys.stderr,
            )
            return 128 + stopped
        image = results.write(outdir, model, target, projection.way, view)
    except OSError as error:
        raise UserError(f"--outdir={outdir} cannot be written: {error.strerror or error}") from None
    print(
        f"{outdir}: {psnr(image, target):.1f} dB over {_known(target)} after {settings.steps} steps"
    )


if __name__ == "__main__":
    run(main)
