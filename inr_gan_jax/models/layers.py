"""Equalised layers and activations, shared by every network.

An equalised layer stores weights of unit variance and scales them at run time, so that Adam's step
is the same relative size in every layer (Karras et al. 2018, section 4.1).
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

from inr_gan_jax.models.convolution import add_bias, conv2d


class Buffer(nnx.Variable):
    """A fixed array that belongs to a network and is saved with it, but is never trained."""


class Draws:
    """A network's random arrays, cut from one draw of each kind; modules take it as `nnx.Rngs`.

    A compiler takes long for a hundred generators of random numbers. Without a `key` it gives zeros
    and counts: how many normal and uniform numbers a network takes.
    """

    def __init__(self, key: jax.Array | None = None, counts: dict[str, int] | None = None):
        self.taken = dict.fromkeys(("normal", "uniform"), 0)
        if key is not None:
            keys = dict(zip(self.taken, jax.random.split(key), strict=True))
            drawn = {
                kind: getattr(jax.random, kind)(keys[kind], (n,)) for kind, n in counts.items()
            }
            # Otherwise each array might draw all numbers again for itself.
            self.drawn = jax.lax.optimization_barrier(drawn)

    def normal(self, shape: tuple[int, ...]) -> jax.Array:
        """N(0, 1)."""
        return self._take("normal", shape)

    def uniform(self, shape: tuple[int, ...], *, minval=0.0, maxval=1.0) -> jax.Array:
        """U(minval, maxval)."""
        return minval + (maxval - minval) * self._take("uniform", shape)

    def _take(self, kind: str, shape: tuple[int, ...]) -> jax.Array:
        start = self.taken[kind]
        self.taken[kind] += math.prod(shape)
        if not hasattr(self, "drawn"):
            return jnp.zeros(shape)
        return self.drawn[kind][start : self.taken[kind]].reshape(shape)


def one_by_one(make: Callable, inputs: tuple):
    """`make(*inputs)` for one image of a batch at a time, whose insides gradients compute again.

    Arrays of `inputs` and of the result have the batch as their first axis.
    """

    def one(inputs):
        made = make(*jax.tree.map(lambda x: x[None], inputs))
        return jax.tree.map(lambda y: y[0], made)

    return jax.lax.map(jax.checkpoint(one), inputs)


def lrelu(x: jax.Array) -> jax.Array:
    """Leaky ReLU, slope 0.2, times sqrt(2), which keeps the second moment of a normal input."""
    return jnp.where(x >= 0, x, 0.2 * x) * jnp.asarray(2**0.5, x.dtype)


def normalize(x_bc: jax.Array) -> jax.Array:
    """Divides each row of `[B, C]` by its root mean square (pixel norm)."""
    return x_bc * jax.lax.rsqrt(jnp.mean(jnp.square(x_bc), axis=-1, keepdims=True) + 1e-8)


class Dense(nnx.Module):
    """Equalised affine map `[..., in] -> [..., out]`; weights are stored as `[out, in]`."""

    def __init__(self, inputs: int, outputs: int, *, rngs: nnx.Rngs, lr_mult=1.0, bias=0.0):
        self.weight = nnx.Param(rngs.normal((outputs, inputs)) / lr_mult)
        self.bias = nnx.Param(jnp.full((outputs,), bias))
        self.lr_mult = lr_mult

    def __call__(self, x: jax.Array) -> jax.Array:
        gain = self.lr_mult / self.weight.shape[1] ** 0.5
        # The gain comes last: a hypernetwork's weights outweigh all else by far, and a single
        # row that is scaled before is multiplied slowly on a CPU.
        return x @ self.weight[...].T * gain + self.bias[...] * self.lr_mult


class Conv(nnx.Module):
    """Equalised convolution, NHWC; weights `[k, k, in, out]`; the bias is optional."""

    def __init__(self, inputs: int, outputs: int, kernel: int, *, rngs: nnx.Rngs, bias=True):
        self.weight = nnx.Param(rngs.normal((kernel, kernel, inputs, outputs)))
        if bias:
            self.bias = nnx.Param(jnp.zeros((outputs,)))
        self.has_bias = bias

    @property
    def scaled(self) -> jax.Array:
        """The weights as they multiply."""
        k, _, inputs, _ = self.weight.shape
        return self.weight[...] / (inputs * k * k) ** 0.5

    def __call__(self, x_bhwi: jax.Array, *, stride=1, padding: int | None = None) -> jax.Array:
        padding = self.weight.shape[0] // 2 if padding is None else padding
        y_bhwo = conv2d(x_bhwi, self.scaled, stride=stride, padding=padding)
        return add_bias(y_bhwo, self.bias[...]) if self.has_bias else y_bhwo
