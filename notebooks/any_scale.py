# %% [markdown]
# # Any scale
#
# The published generators are trained on one grid, and away from it their images are mosaics of
# cells. Family `inr_gan_any` is one continuous function of (x, y): its coarse levels are known at
# nodes and read between them, its last level is evaluated at whatever points are wanted. This page
# measures what that promises, on the quickstart's digits (trained here for a minute, if there are
# none). `docs/any_scale.md` has the details.

# %%
import matplotlib.pyplot as plt
import numpy as np
from common import centres, quickstart, row

model = quickstart()
image = model.image(seed=9, classes=3)
print(model.config.model.family, image)

# %% [markdown]
# ## One function, 32 to 1024
#
# These are six renders, not one that was resized.

# %%
sizes = (32, 64, 128, 256, 512, 1024)
renders = {size: image.render(size, size) for size in sizes}
row(list(renders.values()), titles=[f"{size} x {size}" for size in sizes], side=1.7)

# %% [markdown]
# ## Sizes agree
#
# A pixel of a camera is a mean over its area. So four pixels of a render, averaged, should be one
# pixel of the render at half the size. How nearly they are, in decibels (peak to peak 2):


# %%
def mean_of(pixels: np.ndarray, times: int) -> np.ndarray:
    """Pixels `[H, W, C]`, times x times of them averaged."""
    h, w, c = pixels.shape
    return pixels.reshape(h // times, times, w // times, times, c).mean((1, 3))


def decibels(a: np.ndarray, b: np.ndarray) -> float:
    return 10 * np.log10(4 / np.mean((a - b) ** 2))


for size in sizes[:-1]:
    agreement = decibels(mean_of(renders[2 * size], 2), renders[size])
    print(f"{2 * size:5} averaged, against {size:4}: {agreement:.0f} dB")

# %% [markdown]
# ## The footprint
#
# A small render asks few points of a function that may move fast between them: it aliases, unless
# each point stands for its pixel. So every sinusoid of the last level is weakened to its mean over
# the pixel that it draws, the **footprint**. `render` does so by itself; `points` has
# an option. Against the means of the 1024 render, with and without:

# %%
small = (4, 8, 16, 32, 64)
means = {size: mean_of(renders[1024], 1024 // size) for size in small}


def asked(size: int, footprint: float) -> np.ndarray:
    return np.asarray(image.points(centres(size), footprint=footprint)).reshape(size, size, 1)


plt.figure(figsize=(6, 3), layout="constrained")
for label, side in (("a pixel", 2), ("none", 0)):
    found = [decibels(asked(size, side / size), means[size]) for size in small]
    plt.plot(small, found, ".-", label=f"footprint: {label}")
plt.xscale("log", base=2)
plt.xticks(small, small)
plt.xlabel("pixels a side")
plt.ylabel("dB against the mean")
plt.legend()
plt.show()

# %% [markdown]
# ## Zooming
#
# Into the steepest place, a window four times as small each time. The function is asked at other
# points, that is all: no picture here knows another. Each is stretched from black to white, for the
# deeper ones span little: near enough, a function is a plane, and what is left is its gradient.

# %%
places = centres(64)
steepness = np.linalg.norm(image.gradient(places)[:, 0], axis=1)
x, y = map(float, places[steepness.argmax()])


def stretched(pixels: np.ndarray) -> np.ndarray:
    return 2 * (pixels - pixels.min()) / np.ptp(pixels) - 1


zooms = [1 / 4**k for k in range(6)]
row(
    [stretched(image.render(160, 160, window=(x - r, y - r, x + r, y + r))) for r in zooms],
    titles=[f"x {1 / r:g}" for r in zooms],
    side=1.7,
)

# %% [markdown]
# ## Beyond the frame
#
# Nodes and coordinates go on beyond the frame (dashed). Nothing there was judged in training.

# %%
beyond = image.render(256, 256, window=(-2, -2, 2, 2))
plt.figure(figsize=(3.6, 3.6), layout="constrained")
plt.imshow(beyond.squeeze(), cmap="gray", vmin=-1, vmax=1, extent=(-2, 2, -2, 2))
plt.plot([-1, 1, 1, -1, -1], [-1, -1, 1, 1, -1], "--", color="tab:orange", linewidth=1)
plt.axis("off")
plt.show()

# %% [markdown]
# ## What more pixels do not give
#
# A function can be asked anywhere, but it learned from 16x16 pixels: no picture told it about waves
# that are shorter than two of those, 8 across the frame. Power by frequency, of the 256 render:

# %%
renders = [model.image(seed=seed, classes=3).render(256, 256).squeeze() for seed in range(16)]
power = np.mean(np.abs(np.fft.fft2(renders)) ** 2, axis=0)
waves = np.fft.fftfreq(256, 1 / 256)  # across the frame
radius = np.rint(np.hypot(waves, waves[:, None])).astype(int)
radial = np.bincount(radius.ravel(), power.ravel()) / np.bincount(radius.ravel())

plt.figure(figsize=(6, 3), layout="constrained")
plt.loglog(np.arange(1, 100), radial[1:100])
plt.axvline(8, color="gray", linewidth=0.8, linestyle=":")
plt.text(7.5, radial[99], "what 16 pixels can show", color="gray", ha="right")
plt.xlabel("waves across the frame")
plt.ylabel("power")
plt.show()

# %% [markdown]
# Beyond the line it only falls: a render at 1024 has smooth outlines, and no detail that is new. To
# learn detail, train on pictures at their own sizes, by patches of one size cut from them:
#
# ```
# inr-gan train --config=any_scale_small --config.data.source=photos    # a laptop: up to 128
# inr-gan train --config=any_scale --config.data.source=photos          # up to 1024
# ```
#
# How good that is so far, with numbers: `docs/any_scale.md`.
