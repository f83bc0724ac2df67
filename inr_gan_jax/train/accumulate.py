"""Gradients over microbatches: a batch in several passes, of which one is in memory at a time."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from inr_gan_jax.runtime.sharding import mean_over_devices


def split(inputs, microbatches: int):
    """A device's rows `[b, ...]` -> `[microbatches, b / microbatches, ...]`, of each array."""
    return jax.tree.map(lambda x: x.reshape(microbatches, -1, *x.shape[1:]), inputs)


def gradients(loss: Callable, params: dict, inputs: dict) -> tuple:
    """Mean loss, auxiliary values and gradients over microbatches; the first two over all devices.

    `loss(params, microbatch) -> (value, aux)`; `inputs` are split. Gradients are this device's:
    their mean over devices is taken once, when they are used.
    """
    grad = jax.value_and_grad(loss, has_aux=True)
    microbatches = len(jax.tree.leaves(inputs)[0])

    def evaluate(microbatch):
        (value, aux), grads = grad(params, microbatch)
        return value, aux, grads

    def add(total, microbatch):
        return jax.tree.map(jnp.add, total, evaluate(microbatch)), None

    first = jax.tree.map(lambda x: x[0], inputs)
    if microbatches == 1:
        value, aux, grads = evaluate(first)
    else:
        shapes = jax.eval_shape(evaluate, first)
        zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
        total, _ = jax.lax.scan(add, zeros, inputs)
        value, aux, grads = jax.tree.map(lambda x: x / microbatches, total)
    return *mean_over_devices((value, aux)), grads
