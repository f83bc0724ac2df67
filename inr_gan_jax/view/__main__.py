"""A page that zooms into functions by itself, without Python and without a network.

    python -m inr_gan_jax.view --checkpoint=runs/digits --export=site --seeds=0-15
    python -m inr_gan_jax.view --checkpoint=many.inr --export=site

The folder holds one file, index.html, that works from a disk and from any web server.
"""

from pathlib import Path

from absl import flags

from inr_gan_jax.cli import flags as shared
from inr_gan_jax.cli.arguments import parse_class, parse_seeds
from inr_gan_jax.cli.run import run
from inr_gan_jax.errors import UserError

CHECKPOINT = shared.checkpoint()
EXPORT = shared.path("export", None, "The folder to write; made if absent.", required=True)
SEEDS = flags.DEFINE_string("seeds", None, "Images of the page: 0-15 or 3,7,20-29; default: 0-15.")
CLASS = shared.class_index("Class of all images; default: drawn like the training data's.")
TRUNCATION = shared.truncation()

MOST = 10_000  # functions of a page


def _seeds() -> list[int]:
    """The seeds that flags ask for, none of an .inr file; UserError where they contradict."""
    shared.finite(TRUNCATION)  # or it is an error
    if CHECKPOINT.value.lower().endswith(".inr"):
        for name in ("seeds", "class_index", "truncation", "ema"):
            if flags.FLAGS[name].present:
                raise UserError(f"--{name} goes with a generator; {CHECKPOINT.value} holds images")
        return []
    seeds = parse_seeds(SEEDS.value or "0-15")
    if len(seeds) > MOST:
        raise UserError(f"--seeds={SEEDS.value}: a page holds at most {MOST:,}")
    return seeds


def _functions(seeds: list[int]):
    """(InrParams, names) of the images of some seeds, or of all those of an .inr file."""
    from inr_gan_jax.render.inr_file import open_images
    from inr_gan_jax.view.export import functions_of

    if not seeds:
        params = open_images(CHECKPOINT.value)
        return params, [f"image {number}" for number in range(len(params))]
    model = shared.load()
    classes = parse_class(model, seeds, CLASS.value)
    return functions_of(model, seeds, classes, TRUNCATION.value)


def main(_) -> None:
    """Parses flags, makes the functions, writes the page."""
    seeds = _seeds()

    from inr_gan_jax.runtime.devices import use_compilation_cache
    from inr_gan_jax.view.export import export_site, page_in

    page_in(EXPORT.value)  # what is wrong with it is known before any work is done
    use_compilation_cache()
    params, names = _functions(seeds)
    title = Path(CHECKPOINT.value).absolute().name
    page = export_site(params, names, Path(EXPORT.value), title)
    print(
        f"{page}: {len(names)} functions, {page.stat().st_size / 1e3:,.0f} kB; open it in a browser"
    )


if __name__ == "__main__":
    run(main)
