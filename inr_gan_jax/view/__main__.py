"""Looking at a generator, or at the functions of an .inr file, in a browser, as close as you like.

    python -m inr_gan_jax.view --checkpoint=runs/digits
    python -m inr_gan_jax.view --checkpoint=many.inr --port=8000 --no_open

What is seen stands in the page's address; the page tells the command that makes the same picture:

    python -m inr_gan_jax.view --checkpoint=runs/digits --picture='seeds=1,2&u=0.3' \\
        --window=-0.5,-0.5,0.5,0.5 --size=512x512 --dest=picture.png

A page that zooms into functions by itself, without Python and without a network, is one file,
index.html, in a folder, which works from a disk and from any web server:

    python -m inr_gan_jax.view --checkpoint=runs/digits --export=site --seeds=0-15
"""

from pathlib import Path

from absl import flags

from inr_gan_jax.cli import flags as shared
from inr_gan_jax.cli.arguments import parse_class, parse_seeds
from inr_gan_jax.cli.run import run
from inr_gan_jax.errors import UserError

CHECKPOINT = shared.checkpoint()
HOST = flags.DEFINE_string("host", "127.0.0.1", "Where to listen; 0.0.0.0: let others in.")
PORT = flags.DEFINE_integer(
    "port", None, "Default: 8765, or the next free one.", lower_bound=0, upper_bound=65535
)
NO_OPEN = flags.DEFINE_bool("no_open", False, "Do not open a browser.")
PICTURE = flags.DEFINE_string("picture", None, "What is seen, as the page's address tells it.")
DEST = shared.path("dest", None, "The file of that picture: x.png, .jpg, .webp, .tif or .inr.")
VIEW = shared.View("size", "window")
EXPORT = shared.path("export", None, "The folder to write a page into; made if absent.")
SEEDS = flags.DEFINE_string("seeds", None, "Images of that page: 0-15 or 3,7,20-29; default: 0-15.")
CLASS = shared.class_index("Class of that page's images; default: like the training data's.")
TRUNCATION = shared.truncation()

MOST = 10_000  # functions of a page
# What each way of looking takes, beside --checkpoint.
TAKES = {
    "export": ("seeds", "class_index", "truncation"),
    "picture": ("dest", "size", "window"),
    "": ("host", "port", "no_open"),
}


def _way() -> str:
    """export, picture, or neither; UserError for flags that go with another way."""
    given = [name for name, flag in (("export", EXPORT), ("picture", PICTURE)) if flag.value]
    if len(given) > 1:
        raise UserError("give --export or --picture, one of the two")
    way = given[0] if given else ""
    for other, names in TAKES.items():
        for name in names if other != way else ():
            if flags.FLAGS[name].present:
                goes = f"--{other}" if other else "neither --export nor --picture"
                raise UserError(f"--{name} goes with {goes}")
    if way == "picture" and not DEST.value:
        raise UserError("--picture needs --dest=x.png, the file to write")
    shared.finite(TRUNCATION)  # or it is an error
    return way


def _is_file_of_functions() -> bool:
    """Whether it is an .inr file; UserError where flags ask for what only a generator has."""
    if not CHECKPOINT.value.lower().endswith(".inr"):
        return False
    for name in ("seeds", "class_index", "truncation", "ema"):
        if flags.FLAGS[name].present:
            raise UserError(f"--{name} goes with a generator; {CHECKPOINT.value} holds images")
    return True


def _export(from_file: bool) -> None:
    """Makes the functions, writes the page."""
    from inr_gan_jax.render.inr_file import open_images
    from inr_gan_jax.view.export import export_site, functions_of, page_in

    seeds = [] if from_file else parse_seeds(SEEDS.value or "0-15")
    if len(seeds) > MOST:
        raise UserError(f"--seeds={SEEDS.value}: a page holds at most {MOST:,}")
    page_in(EXPORT.value)  # what is wrong with it is known before any work is done
    if from_file:
        params = open_images(CHECKPOINT.value)
        names = [f"image {number}" for number in range(len(params))]
    else:
        model = shared.load()
        classes = parse_class(model, seeds, CLASS.value)
        params, names = functions_of(model, seeds, classes, TRUNCATION.value)
    page = export_site(params, names, Path(EXPORT.value), Path(CHECKPOINT.value).absolute().name)
    print(
        f"{page}: {len(names)} functions, {page.stat().st_size / 1e3:,.0f} kB; open it in a browser"
    )


def _source(from_file: bool):
    """What is shown, and what is told of it."""
    from inr_gan_jax.render.inr_file import open_images
    from inr_gan_jax.view.serve import told
    from inr_gan_jax.view.shown import Generated, Opened

    if from_file:
        params = open_images(CHECKPOINT.value)
        return Opened(params), f"{len(params)} function{'s'[: len(params) > 1]} of a file"
    model = shared.load()
    return Generated(model), told(model)


def _draw(from_file: bool) -> None:
    """One picture into a file."""
    from inr_gan_jax.render.files import FUNCTION, writable
    from inr_gan_jax.view.picture import parse
    from inr_gan_jax.view.save import Order

    picture, options = parse(PICTURE.value), VIEW.options()
    with writable(DEST.value, overwrite=False) as path:
        if path.suffix.lower() == FUNCTION and options:
            raise UserError(f"{path} would hold the function itself: it has no size or window")
        source, _ = _source(from_file)
        size = {"width": source.world.width, "height": source.world.height} | options
        order = Order(picture, path.suffix.lower(), **size)
        try:
            order.write(source, path, lambda: None)
        except ValueError as error:
            raise UserError(str(error)) from None
    size = "" if order.suffix == FUNCTION else f": {order.width}x{order.height}"
    print(f"{path}{size}")


def _serve(from_file: bool) -> None:
    """The viewer, until it is stopped."""
    from inr_gan_jax.view import serve
    from inr_gan_jax.view.server import Studio

    with serve.listening(HOST.value, PORT.value) as listener:
        source, told = _source(from_file)
        command = [f"--checkpoint={CHECKPOINT.value}"]
        command += [f"--ema={','.join(flags.FLAGS.ema)}"] if flags.FLAGS["ema"].present else []
        studio = Studio(source, Path(CHECKPOINT.value).absolute().name, told, command)
        if not from_file and serve.is_workdir(CHECKPOINT.value):
            serve.watched(studio, CHECKPOINT.value, shared.load)
        try:
            serve.serve(studio, HOST.value, listener, open_browser=not NO_OPEN.value)
        finally:
            studio.end()


def main(_) -> None:
    """Parses flags, and shows what they ask for."""
    way, from_file = _way(), _is_file_of_functions()

    from inr_gan_jax.runtime.devices import use_compilation_cache

    use_compilation_cache()
    {"export": _export, "picture": _draw, "": _serve}[way](from_file)


if __name__ == "__main__":
    run(main)
