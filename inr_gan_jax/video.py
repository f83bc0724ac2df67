"""Films and grids of what lies between images, and films that zoom into one.

    python -m inr_gan_jax.video --checkpoint=runs/digits --seeds=1,2,3 --loop --dest=morph.mp4
    python -m inr_gan_jax.video --checkpoint=runs/digits --seeds=1,2 --space=style \\
        --size=64x64 --frames=30 --dest=morph.webp
    python -m inr_gan_jax.video --checkpoint=runs/digits --seed=3 --zoom=0.2,-0.1,8 \\
        --size=128x128 --dest=zoom.gif
    python -m inr_gan_jax.video --checkpoint=runs/digits --corners=1,2,3,4 --steps=7 \\
        --grid=corners.png

Between seeds the film runs in the space of the networks' effective weights (the paper's image-space
interpolation), of styles, of latents or of pixels. A zoom shrinks the window geometrically around a
point x,y of the frame (-1,-1,1,1), y upwards. Coordinates, grids and densities: render/image.py.
"""

import math
from collections.abc import Iterator

import numpy as np
from absl import flags, logging
from etils import epath
from tqdm import tqdm

from inr_gan_jax.cli import flags as shared
from inr_gan_jax.cli.arguments import parse_class, parse_seeds
from inr_gan_jax.cli.run import run
from inr_gan_jax.errors import UserError
from inr_gan_jax.pictures.encode import PICTURES
from inr_gan_jax.pictures.film import FILMS

CHECKPOINT = shared.checkpoint()
SEEDS = flags.DEFINE_string("seeds", None, "The film passes through them: 1,2,3 or 0-7.")
LOOP = flags.DEFINE_bool("loop", False, "Come back to the first seed; zoom in and out again.")
DEST = shared.path("dest", None, "The film: x.mp4, x.gif or x.webp.")
FRAMES = flags.DEFINE_integer("frames", 60, "Frames of the whole film.", lower_bound=2)
FPS = flags.DEFINE_integer("fps", 30, "Frames per second.", lower_bound=1)
SPACE = flags.DEFINE_enum(
    "space", "weights", ["weights", "style", "latent", "pixel"], "Where blends are made."
)
CLASS = shared.class_index("Class of all seeds; default: drawn for each like the training data's.")
TRUNCATION = shared.truncation()
VIEW = shared.View("size", "window", "superres_from", "density")
GRID = shared.path("grid", None, "A picture of blends between four corners, x.png.")
CORNERS = flags.DEFINE_string("corners", None, "Seeds: top left, top right, bottom left, right.")
STEPS = flags.DEFINE_integer("steps", 7, "Images per side of the grid.", lower_bound=2)
SEED = flags.DEFINE_integer("seed", None, "The image to zoom into.", lower_bound=0)
ZOOM = flags.DEFINE_string("zoom", None, "x,y,factor: where to zoom and how many times closer.")

MOST = 10_000  # seeds of a film
LARGEST = 2**30  # pixels held in memory


def _seeds(name: str, text: str) -> list[int]:
    """`0-3,7` -> [0, 1, 2, 3, 7]; two or more for a film, four for corners."""
    seeds = parse_seeds(text, name)
    if name == "corners" and len(seeds) != 4:
        raise UserError(f"--corners={text}: give four seeds")
    if not 2 <= len(seeds) <= MOST:
        raise UserError(f"--{name}={text}: give 2 to {MOST:,} seeds")
    return seeds


def _numbers(name: str, text: str, form: str) -> tuple[float, ...]:
    """Comma-separated finite numbers, as many as `form` has."""
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) != len(form.split(",")) or not all(map(math.isfinite, numbers)):
        raise UserError(f"--{name}={text} is not of the form {form}")
    return numbers


def _task() -> str:
    """`morph`, `zoom` or `grid`: what the flags ask for; UserError unless they ask for one."""
    wanted = {
        "morph": (SEEDS.value is not None, DEST, "--seeds=1,2,3 --dest=x.mp4"),
        "zoom": (ZOOM.value is not None or SEED.value is not None, DEST,
                 "--seed=3 --zoom=x,y,factor --dest=x.mp4"),
        "grid": (CORNERS.value is not None or GRID.value is not None, GRID,
                 "--corners=1,2,3,4 --grid=x.png"),
    }  # fmt: skip
    tasks = [task for task, (asked, _, _) in wanted.items() if asked]
    if len(tasks) != 1:
        raise UserError("give one of: " + ", ".join(form for _, _, form in wanted.values()))
    _, target, form = wanted[tasks[0]]
    pair = {"zoom": (ZOOM, SEED), "grid": (CORNERS, GRID)}.get(tasks[0], ())
    if any(flag.value is None for flag in (target, *pair)):
        raise UserError(f"give {form}")
    if (GRID if target is DEST else DEST).value is not None:
        raise UserError("give --dest or --grid, one of the two")
    return tasks[0]


def _target(path: str, suffixes) -> epath.Path:
    """A file with one of these suffixes, its folder made, so that no work is lost at the end."""
    target = epath.Path(path)
    if target.suffix.lower() not in suffixes:
        raise UserError(f"{path} must end in {', '.join(suffixes)}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_dir():
            raise UserError(f"{path} is a folder: give a file")
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror or error}") from None
    return target


def _size(model, options: dict) -> tuple[int, int]:
    """(width, height) of an image."""
    shape = model.config.model
    return options.get("width", shape.width), options.get("height", shape.height)


def _between(model, seeds: list[int], options: dict):
    from inr_gan_jax.render.between import Between

    classes = parse_class(model, seeds, CLASS.value)
    if SPACE.value == "latent" and classes is not None and len(set(classes.tolist())) > 1:
        raise UserError(
            f"--space=latent has nothing between the classes {sorted(set(classes.tolist()))} of "
            "these seeds: give --class_index, or --space=style"
        )
    return Between(
        model, model.latents(seeds), space=SPACE.value, classes=classes,
        truncation=TRUNCATION.value, **options,
    )  # fmt: skip


def _morph(model, seeds: list[int], options: dict) -> Iterator[np.ndarray]:
    """Frames through all seeds, evenly spaced, and back to the first with --loop."""
    between = _between(model, seeds, options)
    last = len(seeds) if LOOP.value else len(seeds) - 1
    for position in np.linspace(0, last, FRAMES.value, endpoint=not LOOP.value):
        yield between.render(between.along(float(position)))


def _zoom(model, point: tuple, factor: float, options: dict) -> Iterator[np.ndarray]:
    """Frames that come closer to a point of one image, and go back with --loop."""
    from inr_gan_jax.render.frames import Planned, deepest_zoom, plan, zoom_windows
    from inr_gan_jax.render.view import FRAME

    window = options.get("window", FRAME)
    deepest = deepest_zoom(window, *_size(model, options))
    if not 1 < factor <= deepest:
        raise UserError(f"--zoom: the factor must be above 1 and at most {deepest:.0f}")
    windows = zoom_windows(window, point, factor, FRAMES.value, back=LOOP.value)
    classes = parse_class(model, [SEED.value], CLASS.value)
    image = model.image(
        SEED.value, classes=None if classes is None else classes[0], truncation=TRUNCATION.value
    )
    views = [image.view(**options | {"window": w}) for w in windows]
    planned = Planned(image, plan(image, tqdm(views, desc="planning", unit="frame", delay=2)))
    for view in views:
        yield planned.show(view)


def _grid(model, seeds: list[int], options: dict) -> Iterator[np.ndarray]:
    """The images of a grid, row by row."""
    between = _between(model, seeds, options)
    for v in np.linspace(0, 1, STEPS.value):
        for u in np.linspace(0, 1, STEPS.value):
            yield between.render(between.across(float(u), float(v)))


def main(_) -> None:
    """Parses flags, renders frame by frame, writes."""
    logging.set_verbosity(logging.WARNING)  # orbax tells each step of a restore
    task = _task()
    options = VIEW.options()
    shared.finite(TRUNCATION)  # or it is an error
    if task == "grid":
        target = _target(GRID.value, PICTURES)
        kind, _ = PICTURES[target.suffix.lower()]
    else:
        target = _target(DEST.value, FILMS)
        kind = target.suffix.lower()[1:]
    if task == "zoom":
        x, y, factor = _numbers("zoom", ZOOM.value, "x,y,factor")
    else:
        seeds = (
            _seeds("seeds", SEEDS.value) if task == "morph" else _seeds("corners", CORNERS.value)
        )
    if SEED.value is not None and SEED.value >= 2**32:
        raise UserError(f"--seed={SEED.value} must be below 2^32")

    from inr_gan_jax.pictures.encode import encode as encode_picture
    from inr_gan_jax.pictures.film import check, encode
    from inr_gan_jax.pictures.pixels import opaque, tile, to_uint8
    from inr_gan_jax.runtime.devices import use_compilation_cache
    from inr_gan_jax.storage.atomic import replaced

    use_compilation_cache()
    model = shared.load()
    width, height = _size(model, options)
    total = STEPS.value**2 if task == "grid" else FRAMES.value
    if width * height * (1 if kind == "mp4" else total) > LARGEST:
        raise UserError(
            f"{total} images of {width}x{height} fill the memory: make fewer or smaller"
        )
    if task == "grid":
        frames = _grid(model, seeds, options)
    else:
        check(kind, width, height, FPS.value)
        morph = task == "morph"
        frames = _morph(model, seeds, options) if morph else _zoom(model, (x, y), factor, options)
    shown = tqdm(map(to_uint8, frames), total=total, unit="frame", delay=2)
    try:
        with replaced(target) as file:
            if task == "grid":
                picture = tile(np.stack(list(shown)), STEPS.value)
                height, width = picture.shape[:2]
                encode_picture(opaque(picture, alpha=kind != "JPEG"), file, kind, quality=90)
            else:
                file.write(encode(shown, kind, FPS.value))
    except OSError as error:
        raise UserError(f"{target} cannot be written: {error.strerror or error}") from None
    except ValueError as error:  # a view or a space that this model cannot have
        raise UserError(str(error)) from None
    what = f"{total} images" if task == "grid" else f"{total} frames, {total / FPS.value:g} s"
    print(f"{target}: {width}x{height}, {what}, {target.stat().length / 1e3:.0f} kB")


if __name__ == "__main__":
    run(main)
