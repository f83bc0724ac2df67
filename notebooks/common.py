"""What the notebooks share: the quickstart's model, and pictures side by side."""

import subprocess
import sys
from itertools import zip_longest
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import inr_gan_jax
from inr_gan_jax.pictures.pixels import to_uint8

RUN = Path(__file__).resolve().parents[1] / "runs" / "digits"
KIMG = 20  # of the quickstart's 140


def quickstart() -> inr_gan_jax.Model:
    """The model of `make quickstart`; where it has not run, its first minute is trained here."""
    if not any(RUN.glob("checkpoints/[0-9]*")):
        print(f"There is no {RUN}: training the first {KIMG} kimg of the quickstart, a minute or")
        print("two. `make quickstart` goes on from there, and gives better digits.\n")
        flags = ("--config=digits", f"--workdir={RUN}", f"--config.train.kimg={KIMG}")
        command = [sys.executable, "-m", "inr_gan_jax.main", *flags, "--config.evaluate.kimg=0"]
        told = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        with subprocess.Popen(command, **told) as training:
            for line in training.stdout:
                print(line, end="")
        if training.returncode:
            raise RuntimeError("the training failed: see above")
    return inr_gan_jax.load(RUN)


def row(images, titles=(), side: float = 1.6) -> None:
    """Draws images `[H, W, C]`, about [-1, 1], side by side; their pixels are squares."""
    titled = 0.25 if len(titles) else 0
    size = (side * len(images), side + titled)
    _, axes = plt.subplots(1, len(images), figsize=size, squeeze=False, layout="constrained")
    for axis, image, title in zip_longest(axes[0], images, titles, fillvalue=""):
        axis.imshow(to_uint8(image).squeeze(), cmap="gray", vmin=0, vmax=255)
        axis.set_title(title, fontsize=9)
        axis.axis("off")
    plt.show()


def centres(size: int) -> np.ndarray:
    """The middles of size x size pixels of the frame, row by row from the top: `[N, 2]`, (x, y)."""
    at = (2 * np.arange(size) + 1) / size - 1
    return np.stack(np.meshgrid(at, -at), axis=-1).reshape(-1, 2)
