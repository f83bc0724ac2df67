"""How a run computes: in which precision, and by which programs; what is measured is remembered."""

import math
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp

from inr_gan_jax.config import Config
from inr_gan_jax.kernels import choice
from inr_gan_jax.models.convolution import conv2d
from inr_gan_jax.models.networks import Networks


class Means(NamedTuple):
    """How a run computes: the type of features, what evaluates grids (xla or pallas), and why."""

    dtype: str
    kernels: str
    why: str


def means_of(config: Config, networks: Networks, record: dict) -> Means:
    """The means of a run on the devices at hand.

    What is measured is noted in `record` (a run's own) and found there again: a run that goes on
    computes as before. UserError where kernels are demanded that cannot be.
    """
    train, dtype = config.train, config.train.dtype
    if dtype == "bfloat16" and jax.default_backend() == "cpu":
        dtype = record["cpu_dtype"] = record.get("cpu_dtype") or quicker_dtype()
    one_pass = train.batch_size // jax.device_count() // train.microbatches
    images = 1 if train.remat else max(1, one_pass)
    if config.kernels == "auto" and (train.d_levels or train.jitter):
        kernels = "xla", "there are no kernels for levels and jitter"
    elif config.kernels == "auto" and jax.default_backend() == "tpu":
        of_kind = record.setdefault("kernels", {})
        kind = jax.devices()[0].device_kind
        kernels = of_kind[kind] = of_kind.get(kind) or choice.choose(
            config.kernels, networks, images, dtype
        )
    else:
        kernels = choice.choose(config.kernels, networks, images, dtype)
    return Means(dtype, *kernels)


def quicker_dtype(repeats: int = 5) -> str:
    """`bfloat16` or `float32`: in which this machine does a training step's work sooner.

    A product and a 3x3 convolution with its gradients, both with float32 sums: a machine may be
    quick at the one and slow at the other. Timed in turns, and bfloat16 must win by a fifth: where
    they are close, noise must not decide in which precision a run computes.
    """

    def loss(x, w):
        y = conv2d(x, w, padding=1)
        y = jnp.matmul(y, w[0, 0], preferred_element_type=jnp.float32)
        return jnp.sum(jnp.square(y))

    work = jax.jit(jax.grad(loss, (0, 1)))
    best = {}
    for _ in range(repeats + 1):  # the first call compiles and is beaten by the others
        for name in ("bfloat16", "float32"):
            x, w = jnp.ones((4, 32, 32, 128), name), jnp.ones((3, 3, 128, 128), name)
            jax.block_until_ready((x, w))
            start = time.perf_counter()
            jax.block_until_ready(work(x, w))
            best[name] = min(best.get(name, math.inf), time.perf_counter() - start)
    return "bfloat16" if best["bfloat16"] < 0.8 * best["float32"] else "float32"
