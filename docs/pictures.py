"""Makes the pictures of README and pages from the run of `make quickstart`.

python docs/pictures.py                   # all of that run
python docs/pictures.py zoom fmm levels   # some
python docs/pictures.py scales            # of --suite=scales --only=shapes,shapes/rate
"""

import dataclasses
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

import inr_gan_jax
from inr_gan_jax.models.parameters import InrParams, layer_weights
from inr_gan_jax.pictures.encode import encode_png
from inr_gan_jax.pictures.pixels import tile, to_uint8
from inr_gan_jax.render.image import ContinuousImage

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

DOCS, RUN = Path(__file__).parent, Path("runs/digits")
GREY = {"cmap": "gray", "vmin": -1, "vmax": 1}
SEEDS = ((3, 3), (6, 6), (8, 8))  # a seed and its class, of zoom and fmm


def digits() -> None:
    """The run's last grid, enlarged."""
    grid = Image.open(sorted(RUN.glob("samples/0*.png"))[-1])
    grid.resize((grid.width * 3, grid.height * 3), Image.Resampling.NEAREST).save(
        DOCS / "digits.png"
    )


def one_function() -> None:
    """Native pixels, and four views of the function."""
    image = inr_gan_jax.load(RUN).image(9, classes=3)
    views = [{}, {"window": (-0.9, -0.9, 0.1, 0.1)}, {"window": (-0.5, -0.5, -0.25, -0.25)},
             {"window": (-2, -2, 2, 2)}]  # fmt: skip
    native = Image.fromarray(to_uint8(image.render(16, 16))[..., 0])
    pictures = [np.asarray(native.resize((192, 192), Image.Resampling.NEAREST))[..., None]]
    pictures += [to_uint8(image.render(192, 192, **view)) for view in views]
    strip = tile(np.stack(pictures), len(pictures), gap=4)
    (DOCS / "one_function.png").write_bytes(encode_png(strip))


def inpainted() -> None:
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


def closer(at: tuple[float, float], half: float) -> tuple[float, float, float, float]:
    """The window of half a side `half` about a point, or the nearest that the frame holds."""
    x, y = (np.clip(v, half - 1, 1 - half) for v in at)
    return x - half, y - half, x + half, y + half


def zoom() -> None:
    """The pixels and the function, closer and closer; and functions between functions."""
    model = inr_gan_jax.load(RUN)
    image, at = model.image(SEEDS[1][0], classes=SEEDS[1][1]), (0.05, -0.25)
    pixels = np.asarray(image.render(16, 16))[..., 0]
    halves = [2.0**-n for n in range(5)]
    figure, axes = plt.subplots(3, 5, figsize=(8, 4.9), gridspec_kw={"wspace": 0, "hspace": 0})
    for column, half in enumerate(halves):
        window = closer(at, half)
        close = image.render(192, 192, window=window, align="center")[..., 0]
        for row, shown in enumerate((pixels, close)):
            extent = (-1, 1, -1, 1) if row == 0 else (window[0], window[2], window[1], window[3])
            axis = axes[row, column]
            axis.imshow(shown, extent=extent, interpolation="nearest", **GREY)
            axis.set_xlim(window[0], window[2])
            axis.set_ylim(window[1], window[3])
        axes[0, column].set_title(f"x {1 / half:g}", fontsize=9)
    other = SEEDS[2]
    for column, t in enumerate(np.linspace(0, 1, 5)):
        between = model.interpolate(SEEDS[1][0], other[0], t, classes=(SEEDS[1][1], other[1]))
        axes[2, column].imshow(between.render(192, 192)[..., 0], **GREY)
    titles = ("16x16 pixels", "the function", "between two\nfunctions' weights")
    for axis, title in zip(axes[:, 0], titles, strict=True):
        axis.set_ylabel(title, fontsize=9)
    _save(figure, axes, "zoom.png")


def fmm() -> None:
    """One layer of three images: what they share, what is each one's own, what multiplies."""
    model = inr_gan_jax.load(RUN)
    figure, axes = plt.subplots(3, 4, figsize=(7.4, 5.6))
    titles = ("shared $W_s$", r"$AB/\sqrt{k} + 1$, of this image", "its weights", "its image")
    for row, (seed, label) in zip(axes, SEEDS, strict=True):
        image = model.image(seed, classes=label)
        block = image.params.spec.blocks[-1]
        layer = block.layers[1]
        shared, own = image.params.of(block, layer)
        factor = own["w"]["a"] @ own["w"]["b"] / own["w"]["a"].shape[-1] ** 0.5 + 1
        weights = layer_weights(layer, shared, own)["h"]
        for axis, matrix in zip(row, (shared["w"]["weight"], factor - 1, weights), strict=False):
            most = np.percentile(np.abs(matrix), 99)
            axis.imshow(matrix, cmap="RdBu", vmin=-most, vmax=most, interpolation="nearest")
        row[3].imshow(image.render(192, 192)[..., 0], **GREY)
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, fontsize=9)
    _save(figure, axes, "fmm.png")


def alone(params: InrParams, name: str) -> InrParams:
    """The same function with the RGB layer of one block: all blocks' add up to the image."""
    shared = dict(params.shared)
    for block in params.spec.blocks:
        if block.rgb and block.name != name:
            silent = jax.tree.map(jnp.zeros_like, shared[block.name]["rgb"])
            shared[block.name] = shared[block.name] | {"rgb": silent}
    return dataclasses.replace(params, shared=shared)


def levels() -> None:
    """What each block of two images adds, and what their sum is after it."""
    model = inr_gan_jax.load(RUN)
    names = [block.name for block in model.networks.spec.blocks]
    figure, axes = plt.subplots(4, len(names), figsize=(5.6, 7.4))
    for pair, (seed, label) in enumerate(SEEDS[1:]):
        params, sum_so_far = model.image(seed, classes=label).params, 0
        for column, name in enumerate(names):
            added = ContinuousImage(alone(params, name)).render(192, 192)[..., 0]
            sum_so_far = sum_so_far + added
            most = np.abs(added).max()
            axes[2 * pair, column].imshow(added, cmap="RdBu_r", vmin=-most, vmax=most)
            axes[2 * pair + 1, column].imshow(sum_so_far, **GREY)
        for row, title in enumerate(("adds", "sum")):
            axes[2 * pair + row, 0].set_ylabel(title, fontsize=9)
    for axis, block in zip(axes[0], model.networks.spec.blocks, strict=True):
        last = block.name == names[-1]
        where = "at every point" if last else f"{block.size[1]}x{block.size[0]} nodes"
        axis.set_title(f"{block.name}: {where}", fontsize=9)
    _save(figure, axes, "levels.png")


def scales() -> None:
    """Zooms into two images of the suite scales: trained at 32 pixels alone, and up to 128."""
    shown = (("plain-0", 3, (-0.45, -0.25)), ("rate-1", 2, (0.05, 0.15)))
    halves = [2.0**-n for n in range(5)]
    figure, axes = plt.subplots(2, 5, figsize=(8, 3.3), gridspec_kw={"wspace": 0, "hspace": 0})
    for row, (run, seed, at) in enumerate(shown):
        image = inr_gan_jax.load(Path("runs/scales/shapes") / run).image(seed)
        for column, half in enumerate(halves):
            close = image.render(192, 192, window=closer(at, half))
            axes[row, column].imshow(to_uint8(close))
            axes[0, column].set_title(f"x {1 / half:g}", fontsize=9)
    axes[0, 0].set_ylabel("trained at\n32x32", fontsize=9)
    axes[1, 0].set_ylabel("patches up\nto 128x128", fontsize=9)
    _save(figure, axes, "scales.png")


def _save(figure, axes, name: str) -> None:
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
    figure.tight_layout(pad=0.2)
    figure.savefig(DOCS / name, dpi=110, facecolor="white")
    plt.close(figure)


USUAL = (digits, one_function, inpainted, zoom, fmm, levels)
PICTURES = {f.__name__: f for f in (*USUAL, scales)}


if __name__ == "__main__":
    for name in sys.argv[1:] or [f.__name__ for f in USUAL]:
        PICTURES[name]()
