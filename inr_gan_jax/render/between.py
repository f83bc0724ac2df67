"""Between images: blends of latents, of styles, of networks and of pixels.

`weights` is the paper's image-space interpolation: linear in the effective weights of the
coordinate networks, after modulation and demodulation. The factors of which those are made are
affine in the style, so blending factors would be `style` again. `latent` is spherical, as latents
are normal; `pixel` is a cross-fade, for comparison.
"""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from inr_gan_jax.models.modulation import effective_weight
from inr_gan_jax.models.parameters import Block, InrParams, Layer
from inr_gan_jax.render.frames import Planned, plan
from inr_gan_jax.render.image import ContinuousImage

SPACES = ("weights", "style", "latent", "pixel")
Point = Any  # a place in a space: a tree of arrays


@jax.jit
def lerp(a: Point, b: Point, t: float) -> Point:
    """(1 - t) a + t b, leaf by leaf: exactly a at 0 and b at 1."""
    return jax.tree.map(lambda x, y: (1 - t) * x + t * y, a, b)


@jax.jit
def slerp(a: jax.Array, b: jax.Array, t: float) -> jax.Array:
    """Spherical interpolation of two latents `[z_dim]`: at constant angular speed, a to b.

    Lengths of normal latents concentrate at sqrt(z_dim); a straight line would pass through
    shorter ones (Shoemake 1985; White 2016, arXiv 1609.04468). Parallel latents have no plane to
    turn in: there it is linear.
    """
    cosine = jnp.vdot(a, b) / (jnp.linalg.norm(a) * jnp.linalg.norm(b))
    angle = jnp.arccos(jnp.clip(cosine, -1, 1))
    sine = jnp.sin(angle)
    turned = (jnp.sin((1 - t) * angle) * a + jnp.sin(t * angle) * b) / jnp.where(sine, sine, 1)
    return jnp.where(sine > 1e-3, turned, lerp(a, b, t))


class Between:
    """K anchors in one space, and the images between them, all seen in one view.

    `blend`, `along` and `across` give points of the space; `image` and `render` show a point. The
    view is planned once and every frame runs the same compiled program.
    """

    def __init__(
        self,
        model,
        latents: np.ndarray,
        *,
        space: str = "weights",
        classes: int | Sequence[int] | None = None,
        truncation: float = 1.0,
        cutoff: int | None = None,
        **view,
    ):
        """`model`: a Model; `latents` `[K, z_dim]`; the next three as in Model.styles.

        `view` holds options of render.image.View (default: the native grid). Raises ValueError, one
        line, for an unknown space, for the StyleGAN2 baseline, which is no coordinate function, and
        for anchors of several classes in latent space, where there is nothing between classes.
        """
        if space not in SPACES:
            raise ValueError(f"space must be one of {', '.join(SPACES)}, not {space!r}")
        self.space, self._model, self._view_options = space, model, view
        styled = functools.partial(model.styles, truncation=truncation, cutoff=cutoff)
        ws = styled(latents, classes=classes)
        self._params = model.inr(ws)
        if space == "latent":
            if len(set(np.ravel(classes).tolist())) > 1:
                raise ValueError("space latent has nothing between classes: give all one class")
            one_class = None if classes is None else int(np.ravel(classes)[0])
            self._styles_of = lambda z: styled(z[None], classes=one_class)
            self._anchors = jnp.asarray(latents, jnp.float32)
        elif space == "style":
            self._styles_of = lambda w: w[None]
            self._anchors = ws
        elif space == "weights":
            self._params = materialize(self._params)
            self._anchors = self._params.image
        else:
            shown = [self._show(ContinuousImage(self._params[k])) for k in range(len(ws))]
            self._anchors = np.stack(shown)

    def __len__(self) -> int:
        return len(jax.tree.leaves(self._anchors)[0])

    def anchor(self, number: int) -> Point:
        """The point of one anchor."""
        return jax.tree.map(lambda a: a[number], self._anchors)

    def blend(self, a: Point, b: Point, t: float) -> Point:
        """The point a part t of the way from a to b; beyond 0 to 1 it goes on."""
        return (slerp if self.space == "latent" else lerp)(a, b, t)

    def along(self, position: float) -> Point:
        """A point on the closed path through all anchors: 1.25 lies between anchors 1 and 2.

        From the last anchor on the path leads back to the first.
        """
        number = math.floor(position)
        a, b = (self.anchor(k % len(self)) for k in (number, number + 1))
        return self.blend(a, b, position - number)

    def across(self, u: float, v: float) -> Point:
        """A point of the patch spanned by four anchors: top left, top right, bottom left, right.

        `u` runs from left (0) to right (1), `v` from top (0) to bottom (1).
        """
        top, bottom = (self.blend(self.anchor(k), self.anchor(k + 1), u) for k in (0, 2))
        return self.blend(top, bottom, v)

    def image(self, point: Point) -> ContinuousImage | np.ndarray:
        """The image at a point; in pixel space its pixels `[H, W, C]`, in the view."""
        if self.space == "pixel":
            return np.asarray(point)
        if self.space == "weights":
            return ContinuousImage(dataclasses.replace(self._params, image=point))
        return ContinuousImage(self._model.inr(self._styles_of(point))[0])

    def render(self, point: Point) -> np.ndarray:
        """The pixels `[H, W, C]` at a point, float32, about [-1, 1], in the view."""
        image = self.image(point)
        return image if self.space == "pixel" else self._show(image)

    def _show(self, image: ContinuousImage) -> np.ndarray:
        return Planned(image, self._plans).show(self._view)

    @functools.cached_property
    def _view(self):
        return ContinuousImage(self._params[0]).view(**self._view_options)

    @functools.cached_property
    def _plans(self) -> dict:
        return plan(ContinuousImage(self._params[0]), [self._view])


@jax.jit
def materialize(params: InrParams) -> InrParams:
    """The same networks `[B]`, each made of its own effective weights (modulation "full").

    An image's leaves are then the very numbers of its network: weights `[B, out, in]`, biases and
    Fourier bases of its own. To blend them is to blend networks (the paper's image-space
    interpolation). `shared` keeps tables, bases and biases that all images have.
    """

    def full(layer: Layer) -> Layer:
        return dataclasses.replace(layer, modulation="full")

    def own_parts(block: Block, layer: Layer, one: InrParams) -> dict:
        s, i = one.of(block, layer)
        made = {}
        for part in layer.parts:
            biases = {"bias": i[part]["bias"]} if "bias" in i[part] else {}
            weight = effective_weight(layer.modulation, s.get(part, {}), i[part])
            made[part] = {"weight": weight} | biases
        return made

    def own(one: InrParams) -> dict:
        return {
            block.name: one.image[block.name]  # an embedding is its own already
            | {layer.name: own_parts(block, layer, one) for layer in block.modulated}
            for block in one.spec.blocks
        }

    shared = {name: dict(layers) for name, layers in params.shared.items()}
    for block in params.spec.blocks:
        for layer in block.modulated:
            parts = shared.get(block.name, {}).get(layer.name, {})
            kept = {p: {k: v for k, v in s.items() if k != "weight"} for p, s in parts.items()}
            shared.setdefault(block.name, {})[layer.name] = kept
    blocks = tuple(
        dataclasses.replace(b, layers=tuple(map(full, b.layers)), rgb=b.rgb and full(b.rgb))
        for b in params.spec.blocks
    )
    image = jax.vmap(own, in_axes=(params.axes,))(params)
    return InrParams(shared, image, dataclasses.replace(params.spec, blocks=blocks))
