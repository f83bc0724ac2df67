# %% [markdown]
# # The geometry of a function
#
# An image of this generator is a small network: coordinates in, brightness out. So it has what
# functions have: derivatives, parts that add up, parameters. This page looks at each, on one digit
# of the quickstart's model (trained here for a minute, if there is none).

# %%
import dataclasses

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from common import centres, quickstart, row

from inr_gan_jax.models.parameters import weights
from inr_gan_jax.render.between import SPACES, Between, materialize
from inr_gan_jax.render.image import ContinuousImage

model = quickstart()
image = model.image(seed=9, classes=3)
FRAME = (-1, 1, -1, 1)  # left, right, bottom, top, as matplotlib wants it

# %% [markdown]
# ## Gradients
#
# `image.gradient(points)` is the derivative in x and in y at any points, `[N, channels, 2]`. No
# differences of pixels: the network itself is differentiated. Against central differences:

# %%
points = np.random.default_rng(0).uniform(-0.95, 0.95, (1000, 2)).astype(np.float32)
exact = image.gradient(points)[:, 0]
h = 1e-3
sides = [[h, 0], [0, h]]
near = [image.points(points + side) - image.points(points - side) for side in np.float32(sides)]
error = np.linalg.norm(exact - np.concatenate(near, axis=1) / (2 * h), axis=1)
size = np.linalg.norm(exact, axis=1)
print(f"gradients are {np.median(size):.2f} long (median)")
print(f"and differ from differences by {np.median(error):.1g} (median)")

# %% [markdown]
# A gradient is a direction and a length at each point. It stands at right angles to the lines of
# equal brightness, so the outline of a digit (brightness 0) comes with its normals, finer than any
# pixel. Taken as slopes, gradients make a landscape, lit here from the upper left.

# %%
SIDE = 256
pixels = image.points(centres(SIDE)).reshape(SIDE, SIDE)
slope = np.asarray(image.gradient(centres(SIDE))).reshape(SIDE, SIDE, 2)
normal = np.concatenate([-slope, np.full((SIDE, SIDE, 1), 6.0)], axis=-1)
normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
light = np.array([-1, 1, 1]) / 3**0.5

figure, axes = plt.subplots(1, 3, figsize=(10, 3.5), layout="constrained")
axes[0].imshow(pixels, cmap="gray", vmin=-1, vmax=1, extent=FRAME)
line = axes[0].contour(pixels[::-1], [0], colors="tab:orange", extent=FRAME, linewidths=1.5)
edge = np.concatenate(line.allsegs[0])[::25]
arrows = np.asarray(image.gradient(edge))[:, 0]
axes[0].quiver(*edge.T, *arrows.T, color="tab:cyan", angles="xy", width=0.006)
axes[0].set_title("an outline, and its normals")
axes[1].imshow(np.linalg.norm(slope, axis=-1), cmap="magma", extent=FRAME)
axes[1].set_title("how steep it is")
axes[2].imshow(normal @ light, cmap="gray", extent=FRAME)
axes[2].set_title("as a landscape")
for axis in axes:
    axis.axis("off")
plt.show()

# %% [markdown]
# The creases are true. Along the curved ones a leaky ReLU changes sign: the network is smooth
# waves, folded many times. The straight ones are lines through nodes: levels below the last are
# known at 8x8 of those and read bilinearly between them, so that slopes jump there, while
# brightness does not. (`--config.model.nodes=spline` reads them without.)
#
# ## What each level adds
#
# The network is a stack of blocks at growing resolutions (the multi-scale INR of the paper's
# section 3.2). Each block turns its features into brightness, by a linear layer of its own, and the
# image is the sum. So it comes apart exactly: silence all such layers but one, and render.


# %%
def alone(image: ContinuousImage, name: str) -> ContinuousImage:
    """The same function, of which one block's brightness alone is kept."""

    def silenced(blocks: dict) -> dict:
        return {
            block: layers | {"rgb": jax.tree.map(jnp.zeros_like, layers["rgb"])}
            if block != name and "rgb" in layers
            else layers
            for block, layers in blocks.items()
        }

    params = image.params
    changed = {"shared": silenced(params.shared), "image": silenced(params.image)}
    return ContinuousImage(dataclasses.replace(params, **changed))


blocks = image.params.spec.blocks
parts = [alone(image, block.name).render(SIDE, SIDE) for block in blocks]
whole = image.render(SIDE, SIDE)
print(f"the sum differs from the image by {np.abs(sum(parts) - whole).max():.1g} at most")

sizes = [f"{block.size[1]} x {block.size[0]}" for block in blocks]
kinds = [f"{size} nodes" for size in sizes[:-1]] + ["at the points themselves"]
figure, axes = plt.subplots(1, len(parts) + 1, figsize=(11, 3), layout="constrained")
titles = [f"{block.name}: {kind}" for block, kind in zip(blocks, kinds, strict=True)]
for axis, part, title in zip(axes, [*parts, whole], [*titles, "their sum"], strict=True):
    most = np.abs(part).max()
    shown = axis.imshow(part.squeeze(), cmap="RdBu_r", vmin=-most, vmax=most)
    figure.colorbar(shown, ax=axis, shrink=0.8, location="bottom")
    axis.set_title(title, fontsize=9)
    axis.axis("off")
plt.show()

# %% [markdown]
# Red adds brightness, blue takes it away; each has a scale of its own.
#
# ## Weights
#
# What the hypernetwork emits for an image is little: for each layer two thin matrices A and B. They
# modulate a weight that all images share, elementwise (FMM, the paper's section 3.1):
#
# $$W = W_s \odot \left(\frac{A B}{\sqrt{k}} + 1\right), \quad A \in R^{out \times k}, B \in R^{k
# \times in}$$
#
# and each row of W is divided by its length. `materialize` makes the network that this stands for.


# %%
def numbers(tree) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


params = model.inr(model.styles(seeds=[9, 4], classes=[3, 8]))  # two networks
emitted, full = numbers(params[0].image), numbers(materialize(params)[0].image)
print(f"{emitted:,} numbers are emitted for an image; its own weights are {full:,}")

block, layer = blocks[-1], blocks[-1].layers[1]
shared = np.asarray(params.of(block, layer)[0]["w"]["weight"])
shown = {"shared: $W_s$": shared}
for k, name in enumerate(("a three", "an eight")):
    factors = params[k].of(block, layer)[1]["w"]
    rank = factors["a"].shape[-1]
    product = np.asarray(factors["a"] @ factors["b"])
    shown[f"{name}: modulation"] = product / rank**0.5 + 1
    shown[f"{name}: $W$"] = np.asarray(weights(params[k])[block.name][layer.name]["h"])

figure, axes = plt.subplots(1, 5, figsize=(11, 2.5), layout="constrained")
for axis, (title, matrix) in zip(axes, shown.items(), strict=True):
    most = np.abs(matrix).max()
    axis.imshow(matrix, cmap="RdBu_r", vmin=-most, vmax=most)
    axis.set_title(title, fontsize=9)
    axis.axis("off")
plt.show()

# %% [markdown]
# The thin matrices bound the rank of A B, and nothing else: the modulated weights themselves have
# full rank. Singular values, largest first:

# %%
plt.figure(figsize=(6, 2.8), layout="constrained")
for label, matrix in (("A B", product), ("W", shown["an eight: $W$"])):
    values = np.linalg.svd(matrix, compute_uv=False)
    numbered = np.arange(1, len(values) + 1)
    plt.semilogy(numbered, np.maximum(values / values[0], 1e-8), ".-", label=label)
plt.axvline(rank, color="gray", linewidth=0.8, linestyle=":")
plt.text(rank + 0.3, 1e-4, f"k = {rank}", color="gray")
plt.xlabel("number")
plt.ylabel("over the largest")
plt.legend()
plt.show()

# %% [markdown]
# ## Where to go from one image to another
#
# Between two images there are several straight ways: in the pixels, in the networks' weights, in
# the styles, and (along a sphere) in the latents. All start and end at the same two pictures: those
# of 16 that differ most.

# %%
images = model.images(seeds=range(16), classes=4)
differences = np.square(images[:, None] - images).mean((2, 3, 4))
pair = np.unravel_index(differences.argmax(), differences.shape)

steps = np.linspace(0, 1, 7)
for space in SPACES:
    way = Between(model, model.latents(pair), space=space, classes=4, width=64, height=64)
    ends = way.anchor(0), way.anchor(1)
    print(space)
    row([way.render(way.blend(*ends, t)) for t in steps], side=1.2)

# %% [markdown]
# `pixel` fades one picture out and the other in: its middle shows both. The other three are
# functions all the way. `weights` is what the paper calls interpolation in image space: linear in
# the weights after modulation (those of `materialize`), it needs the two functions alone and no
# generator.
#
# Next: `any_scale.ipynb`, the same function at every size.
