"""Perceptual path length: how far an image moves, to the eye, along a short step in latent space.

Karras et al. 2019, section 4.1 ("full": anywhere on the path; "end": at its beginning).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from inr_gan_jax.config.metric_names import Metric
from inr_gan_jax.metrics.images import Generated
from inr_gan_jax.metrics.vgg import shown as shown_to_lpips

EPSILON = 1e-4


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
        made = [generated.synthesis(of_generator, x, classes) for x in w]
        shown = [shown_to_lpips(_middle(images) if crop else images) for images in made]
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


def _middle(images_bhwc: jax.Array) -> jax.Array:
    """The middle of faces, in eighths of the height and width, as published."""
    h, w = images_bhwc.shape[1:3]
    return images_bhwc[:, h * 3 // 8 : h * 7 // 8, w // 4 : w * 3 // 4]
