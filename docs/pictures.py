"""Makes the README's pictures from the run of `make quickstart`: python docs/pictures.py"""

import math
from pathlib import Path

import numpy as np
from PIL import Image

import inr_gan_jax
from inr_gan_jax.monitor import encode_png, tile, to_uint8

DOCS, RUN = Path(__file__).parent, Path("runs/digits")


def main() -> None:
    """Writes docs/digits.png (the last grid, enlarged) and docs/one_function.png."""
    grid = Image.open(sorted(RUN.glob("samples/0*.png"))[-1])
    grid.resize((grid.width * 3, grid.height * 3), Image.Resampling.NEAREST).save(
        DOCS / "digits.png"
    )
    image = inr_gan_jax.load(RUN).image(7, classes=3)
    views = [
        {"superres_from": 2},
        {},
        {"superres_from": 0, "density": math.inf},
        {"superres_from": 0, "density": math.inf, "window": (-0.9, -0.9, 0.1, 0.1)},
        {"superres_from": 0, "density": math.inf, "window": (-2, -2, 2, 2)},
    ]
    pictures = np.stack([to_uint8(image.render(192, 192, **view)) for view in views])
    (DOCS / "one_function.png").write_bytes(encode_png(tile(pictures, len(views), gap=4)))


if __name__ == "__main__":
    main()
