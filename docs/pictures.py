"""Makes the README's pictures from the run of `make quickstart`: python docs/pictures.py"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

import inr_gan_jax
from inr_gan_jax.pictures.encode import encode_png
from inr_gan_jax.pictures.pixels import tile, to_uint8

DOCS, RUN = Path(__file__).parent, Path("runs/digits")


def main() -> None:
    """Writes digits.png (the last grid, enlarged), one_function.png and inpainted.png."""
    grid = Image.open(sorted(RUN.glob("samples/0*.png"))[-1])
    grid.resize((grid.width * 3, grid.height * 3), Image.Resampling.NEAREST).save(
        DOCS / "digits.png"
    )
    image = inr_gan_jax.load(RUN).image(9, classes=3)
    views = [{}, {"window": (-0.9, -0.9, 0.1, 0.1)}, {"window": (-0.5, -0.5, -0.25, -0.25)},
             {"window": (-2, -2, 2, 2)}]  # fmt: skip
    native = Image.fromarray(to_uint8(image.render(16, 16))[..., 0])
    pictures = [np.asarray(native.resize((192, 192), Image.Resampling.NEAREST))[..., None]]
    pictures += [to_uint8(image.render(192, 192, **view)) for view in views]
    strip = tile(np.stack(pictures), len(pictures), gap=4)
    (DOCS / "one_function.png").write_bytes(encode_png(strip))
    inpaint()


def inpaint() -> None:
    """A real digit whose lower part is hidden, through the command."""
    with tempfile.TemporaryDirectory() as folder:
        photo, mask, outdir = (Path(folder) / name for name in ("photo.png", "mask.png", "out"))
        digit = Image.fromarray(np.uint8(load_digits().images[5] * 255 / 16))
        digit.resize((16, 16), Image.Resampling.LANCZOS).save(photo)
        known = np.full((16, 16), 255, np.uint8)
        known[9:] = 0
        Image.fromarray(known).save(mask)
        flags = {"checkpoint": RUN, "target": photo, "mask": mask, "space": "w", "outdir": outdir}
        command = [sys.executable, "-m", "inr_gan_jax.project"]
        command += [f"--{name}={value}" for name, value in flags.items()]
        subprocess.run(command, check=True)
        shutil.copy(outdir / "comparison.png", DOCS / "inpainted.png")


if __name__ == "__main__":
    main()
