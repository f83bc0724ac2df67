# %% [markdown]
# # First steps
#
# A generator that makes no pixels: of a latent it makes the *parameters of a function*, and that
# function gives the brightness at any point (x, y). All of this page follows from that.
#
# The model is the quickstart's: handwritten digits, learned from pictures of 16x16 pixels. Where
# `make quickstart` has not run, the next cell trains its first minute, and says so.

# %%
import tempfile
from pathlib import Path

import numpy as np
from common import quickstart, row
from PIL import Image

import inr_gan_jax
from inr_gan_jax.pictures.pixels import to_uint8

model = quickstart()
print(f"{model.images_seen / 1000:g} kimg, {model.num_classes} classes, family", end=" ")
print(model.config.model.family)

# %% [markdown]
# ## Images
#
# A seed is an image, and stays the same image. This model was trained with labels, so it also wants
# a class, one for all or one for each. Images are float32 `[n, height, width, channels]`, about -1
# to 1.

# %%
images = model.images(seeds=range(10), classes=range(10))
print(images.shape, images.dtype)
row(images, titles=range(10), side=1)

# %% [markdown]
# ## One image is a function
#
# `model.image` stops before the pixels. What it gives can be asked at points, rendered at any size,
# and shown by a notebook as it is.

# %%
image = model.image(seed=9, classes=3)
image

# %% [markdown]
# The frame is (-1, -1) to (1, 1), x to the right and y upwards. Nothing but the points that are
# asked for is computed.

# %%
print(image)
print(image.points([[0, 0], [0.25, 0.5], [-0.9, 0.9]]))

# %%
sizes = (16, 32, 64, 256)
row([image.render(size, size) for size in sizes], titles=[f"{size} x {size}" for size in sizes])

# %% [markdown]
# ## Windows
#
# A window is (left, bottom, right, top), in units of the frame. It has as many pixels as you want,
# and costs no more because it is small: no large picture is made first.

# %%
windows = [(-1, -1, 1, 1), (-0.6, -0.6, 0.4, 0.4), (-0.2, -0.2, 0.2, 0.2), (-2, -2, 2, 2)]
row([image.render(200, 200, window=window) for window in windows], titles=list(map(str, windows)))

# %% [markdown]
# The last one looks beyond the frame. Nothing there was ever judged in training: it is what the
# function happens to be.
#
# ## Super-resolution
#
# Sixteen pixels a side, enlarged, against the function itself at 256: it is asked at more points,
# and nothing is enlarged. (A digit of 16 pixels has little that bicubic filters cannot guess.)

# %%
native = Image.fromarray(to_uint8(image.render()).squeeze())


def enlarged(filter):
    return np.asarray(native.resize((256, 256), filter), np.float32)[..., None] / 127.5 - 1


row(
    [
        enlarged(Image.Resampling.NEAREST),
        enlarged(Image.Resampling.BICUBIC),
        image.render(256, 256),
    ],
    titles=["its pixels", "bicubic", "the function"],
    side=2.4,
)

# %% [markdown]
# The published generators (INR-GAN, `ffhq.py`) are functions of the cells of their grids:
# `superres_from` and `density` say from which level on, and how finely, they are asked between the
# cells. This family is continuous everywhere and needs neither. More of this: `any_scale.ipynb`.
#
# ## Between images
#
# A part t of the way from one image to another, here between their networks' weights: the picture
# between two functions is a function too.

# %%
steps = np.linspace(0, 1, 7)
between = [model.interpolate(9, 4, t, space="weights", classes=[3, 8]) for t in steps]
row([each.render(64, 64) for each in between], titles=[f"{t:.2f}" for t in steps], side=1.3)

# %% [markdown]
# ## Truncation
#
# `truncation` (psi) draws styles towards the mean of their class: fewer surprises, less variety. At
# 0 all seeds are one image.

# %%
for psi in (1, 0.5, 0):
    print(f"psi = {psi}")
    row(model.images(seeds=range(8), classes=5, truncation=psi), side=1)

# %% [markdown]
# ## Files
#
# A suffix says what is written: `.png .jpg .webp` at any size, `.tif` and `.dzi` also at sizes that
# no memory holds, and `.inr`: the function itself, which opens without the model.

# %%
with tempfile.TemporaryDirectory() as folder:
    png, inr = Path(folder) / "three.png", Path(folder) / "three.inr"
    image.save(png, 512, 512)
    image.save(inr)
    again = inr_gan_jax.open_image(inr)
    same = np.array_equal(again.render(64, 64), image.render(64, 64))
    print(f"{png.stat().st_size:,} bytes of pixels, {inr.stat().st_size:,} bytes of function")
    print("the same pixels, bit for bit:", same)

# %% [markdown]
# The same from a shell, from the repository's folder:
#
# ```
# inr-gan generate --checkpoint=runs/digits --seeds=0-15 --outdir=out --class_index=3
# inr-gan render --checkpoint=runs/digits --seed=9 --class_index=3 --size=2048x2048 --dest=three.tif
# inr-gan view --checkpoint=runs/digits
# ```
#
# Next: `geometry.ipynb`, what such a function is made of.
