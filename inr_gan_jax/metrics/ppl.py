"""Perceptual path length: how far an image moves, to the eye, along a short step in latent space.

Karras et al. 2019, section 4.1 ("full": anywhere on the path; "end": at its beginning).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from inr_gan_jax.metrics.images import Generated
from inr_gan_jax.metrics.names import Metric

EPSILON = 1e-4
LARGEST = 256  # pixels a side that LPIPS is shown; larger images are averaged down


def squared_rates(
    generated: Generated, metric: Metric, lpips: Callable, *, crop: bool
) -> Callable[[tuple, dict], dict]:
    """A function of ((generator's arrays, LPIPS' parameters), batch) -> {"rate": `[b]`}.

    The rate is LPIPS / epsilon^2 between images at t and t + epsilon of a path from one latent to
    another: along the sphere in z, straight in w. `crop`: the middle of faces, as published.
    """

    def compute(arrays: tuple, batch: dict) -> dict:
        of_generator, of_lpips = arrays
        (a, classes), (b, _) = generated.latents(batch, 0), generated.latents(batch, 1)
        t = jax.vmap(_uniform)(batch["seed"], batch["number"])[:, None]
        t = t if metric.sampling == "full" else jnp.zeros_like(t)
        if metric.space == "z":
            w = [generated.w(of_generator, slerp(a, b, s), classes) for s in (t, t + EPSILON)]
        else:
            w0, w1 = (generated.w(of_generator, z, classes) for z in (a, b))
            w = [w0 + (w1 - w0) * s for s in (t, t + EPSILON)]
        shown = [_shown(generated.synthesis(of_generator, x, classes), crop) for x in w]
        return {"rate": lpips(of_lpips, *shown) / EPSILON**2}

    return compute


def slerp(a_bz: jax.Array, b_bz: jax.Array, t_b1: jax.Array) -> jax.Array:
    """The point a part t of the way from a to b on the unit sphere."""
    a, b = (x / jnp.linalg.norm(x, axis=-1, keepdims=True) for x in (a_bz, b_bz))
    cosine = jnp.sum(a * b, axis=-1, keepdims=True)
    across = b - cosine * a
    across = across / jnp.linalg.norm(across, axis=-1, keepdims=True)
    angle = t_b1 * jnp.arccos(jnp.clip(cosine, -1, 1))
    return a * jnp.cos(angle) + across * jnp.sin(angle)


def _uniform(seed: jax.Array, number: jax.Array) -> jax.Array:
    key = jax.random.fold_in(jax.random.key(seed), number)
    return jax.random.uniform(jax.random.fold_in(key, (1 << 30) + 1))


def _shown(images_bhwc: jax.Array, crop: bool) -> jax.Array:
    """What LPIPS sees: three channels, at most LARGEST pixels a side."""
    b, h, w, c = images_bhwc.shape
    if crop:  # in eighths of the height and width
        images_bhwc = images_bhwc[:, h * 3 // 8 : h * 7 // 8, w // 4 : w * 3 // 4]
        b, h, w, c = images_bhwc.shape
    factor = max(h, w) // LARGEST
    if factor > 1:
        cells = images_bhwc.reshape(b, h // factor, factor, w // factor, factor, c)
        images_bhwc = cells.mean(axis=(2, 4))
    return jnp.broadcast_to(images_bhwc[..., :1], (*images_bhwc.shape[:3], 3)) if c == 1 else (
        images_bhwc[..., :3]
    )  # fmt: skip
