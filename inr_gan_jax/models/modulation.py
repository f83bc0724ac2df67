"""Modulation: the weights of one image from weights that all images share (paper section 3.1).

Factorised multiplicative modulation (FMM): the hypernetwork makes two thin matrices A `[out, k]`
and B `[k, in]`, and the layer's weight is W_s * (activation(A B / sqrt(k)) + 1), elementwise.
Everything here is a pure function for one image; a batch is a vmap.
"""

import jax
import jax.numpy as jnp

HIGHEST = jax.lax.Precision.HIGHEST


def _fmm(shared: dict, image: dict) -> jax.Array:
    rank = image["a"].shape[-1]
    return jnp.matmul(image["a"], image["b"], precision=HIGHEST) / rank**0.5


def _fmm_demod(shared, image):
    w = shared["weight"] * (_fmm(shared, image) + 1)
    return w / (jnp.linalg.norm(w, axis=-1, keepdims=True) + 1e-8)


def _fmm_tanh(shared, image):
    return shared["weight"] * (jnp.tanh(_fmm(shared, image)) + 1)


def _fmm_sigmoid(shared, image):
    return shared["weight"] * (jax.nn.sigmoid(_fmm(shared, image)) + 0.5)


def _fmm_paper(shared, image):
    """The paper's own code: W_s * 2 sigmoid(A B), neither scaled by the rank nor demodulated."""
    logits = jnp.matmul(image["a"], image["b"], precision=HIGHEST)
    return shared["weight"] * (2 * jax.nn.sigmoid(logits))


def _style(shared, image):
    return shared["weight"] * image["style"]


def _style_demod(shared, image):
    """Weight modulation of StyleGAN2 (Karras et al. 2020, equations 1 to 3) for a 1x1 layer."""
    w = shared["weight"] * image["style"]
    return w * jax.lax.rsqrt(jnp.sum(jnp.square(w), axis=-1, keepdims=True) + 1e-8)


def _full(shared, image):
    return image["weight"]


KINDS = {
    "fmm_demod": _fmm_demod,
    "fmm_tanh": _fmm_tanh,
    "fmm_sigmoid": _fmm_sigmoid,
    "fmm_paper": _fmm_paper,
    "style": _style,
    "style_demod": _style_demod,
    "full": _full,
}


def effective_weight(kind: str, shared: dict, image: dict) -> jax.Array:
    """The weight `[out, in]` of one layer of one image, float32.

    `kind` is a key of KINDS. `shared` holds `weight` `[out, in]` (all kinds but `full`); `image`
    holds `a` `[out, k]` and `b` `[k, in]` (FMM), `style` `[in]`, or `weight` `[out, in]` (`full`).
    """
    return KINDS[kind](shared, image)
