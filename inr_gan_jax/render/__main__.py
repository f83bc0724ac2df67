"""One image of any size, of a trained generator or of an .inr file.

A PNG, JPEG or WebP; a BigTIFF or Deep Zoom pyramid of any size, in bounded memory: when stopped,
the same command goes on; float32 pixels (.npy); or an .inr file, which is the image itself:

    python -m inr_gan_jax.render --checkpoint=runs/digits --seed=3 --size=512x512 --dest=three.png
    python -m inr_gan_jax.render --checkpoint=runs/digits --seed=3 --size=2048x2048 --dest=huge.tif
    python -m inr_gan_jax.render --checkpoint=runs/digits --seeds=0-15 --dest=many.inr
    python -m inr_gan_jax.render --image=many.inr --index=3 --window=-0.5,-0.5,0.5,0.5 \\
        --size=300x300 --samples=4 --dest=detail.webp
    python -m inr_gan_jax.render --image=many.inr --size=1000x1000 --dest=zoom.dzi

The frame of the training images is -1,-1,1,1: left, bottom, right, top; windows may go beyond.
"""

import dataclasses
import sys

from absl import flags

from inr_gan_jax.cli import flags as shared
from inr_gan_jax.cli.arguments import parse_class, parse_seeds
from inr_gan_jax.cli.run import run
from inr_gan_jax.errors import UserError

CHECKPOINT = shared.checkpoint(required=False)
IMAGE = shared.path("image", None, "Instead of a checkpoint: an .inr file.")
INDEX = flags.DEFINE_integer("index", 0, "Which image of the .inr file.")
SEED = flags.DEFINE_integer("seed", None, "The image that the checkpoint's generator makes of it.")
SEEDS = flags.DEFINE_string("seeds", None, "Many images for one .inr file: 0-15 or 3,7,20-29.")
CLASS = shared.class_index("Class of the image; default: drawn like the training data's.")
TRUNCATION = shared.truncation()
DEST = shared.path(
    "dest", None, "The file: x.png, .jpg, .webp, .tif, .dzi, .npy or .inr.", required=True
)
OVERWRITE = flags.DEFINE_bool("overwrite", False, "Replace what is there.")
VIEW = shared.View(*shared.View.TEXTS)
DTYPE = flags.DEFINE_enum(
    "dtype", "float32", ["float32", "bfloat16"], "Of the network's features; of numbers in .inr."
)
TILE = flags.DEFINE_integer(
    "tile", None, "Pixels a side rendered at a time; default: 256 (.dzi: 254).", lower_bound=1
)
TILE_FORMAT = flags.DEFINE_enum("tile_format", "png", ["png", "jpg"], "Tiles of a .dzi.")
QUALITY = flags.DEFINE_integer("quality", 90, "1 to 100, of JPEG and WebP.")


def _seeds() -> list[int]:
    """The seeds that flags ask for, none with --image; UserError where they contradict."""
    if (CHECKPOINT.value is None) == (IMAGE.value is None):
        raise UserError("give --checkpoint=DIR or --image=x.inr, one of the two")
    shared.finite(TRUNCATION)  # or it is an error
    if IMAGE.value is not None:
        for name in ("seed", "seeds", "class_index"):
            if flags.FLAGS[name].present:
                raise UserError(f"--{name} goes with --checkpoint; an .inr file has --index")
        return []
    if flags.FLAGS["index"].present:
        raise UserError("--index goes with --image; a checkpoint has --seed")
    if (SEED.value is None) == (SEEDS.value is None):
        raise UserError("give --seed=3, or --seeds=0-15 for an .inr file, one of the two")
    seeds = parse_seeds(SEEDS.value if SEED.value is None else str(SEED.value))
    if len(seeds) > 1 and not DEST.value.lower().endswith(".inr"):
        raise UserError(f"--seeds={SEEDS.value}: {DEST.value} holds one image, only .inr many")
    return seeds


def _generated(seeds: list[int]):
    """InrParams of the images of some seeds, and how many images their generator has seen."""
    model = shared.load()
    classes = parse_class(model, seeds, CLASS.value)
    params = model.functions(seeds, classes=classes, truncation=TRUNCATION.value)
    return params, model.images_seen


def _save_function(params, options: dict) -> str:
    """Writes all images into one .inr file; what there is to say about it."""
    from inr_gan_jax.render.files import writable
    from inr_gan_jax.render.inr_file import save_images

    if options:
        raise UserError(f"{DEST.value} holds the image itself: no --size, --window, --samples ...")
    with writable(DEST.value, OVERWRITE.value) as path:
        size, each = save_images(path, params, DTYPE.value)
    count = f"{len(params)} image{'s'[: len(params) > 1]}"
    return f"{count}, {size / 1e3:.1f} kB; each further image adds {each / 1e3:.1f} kB"


def main(_) -> None:
    """Parses flags, renders, writes."""
    seeds, options = _seeds(), VIEW.options()

    import jax

    from inr_gan_jax.render import files
    from inr_gan_jax.render.image import ContinuousImage, open_image
    from inr_gan_jax.runtime.devices import use_compilation_cache

    use_compilation_cache()
    try:
        if seeds:
            params, seen = _generated(seeds)
            origin = f"from {seen / 1000:.1f} kimg of training"
        else:
            one = open_image(IMAGE.value, INDEX.value).params
            params = dataclasses.replace(one, image=jax.tree.map(lambda a: a[None], one.image))
            origin = f"image {INDEX.value} of {IMAGE.value}"
        if DEST.value.lower().endswith(files.FUNCTION):
            what = _save_function(params, options)
        else:
            image = ContinuousImage(params[0], dtype=DTYPE.value)
            view = image.view(**options)
            files.save(
                image,
                DEST.value,
                overwrite=OVERWRITE.value,
                tile=TILE.value,
                quality=QUALITY.value,
                tile_format=TILE_FORMAT.value,
                **options,
            )
            what = f"{view.width}x{view.height}"
    except ValueError as error:  # a view or an image that cannot be
        raise UserError(str(error)) from None
    except KeyboardInterrupt:
        if DEST.value.lower().endswith((*files.TIFF, files.DEEP_ZOOM)):
            print(f"{DEST.value} is not complete: the same command goes on", file=sys.stderr)
        raise
    print(f"{DEST.value}: {what}, {origin}")


if __name__ == "__main__":
    run(main)
