"""Facts about the devices at hand, and what follows from them."""

import math
import os
import time
from pathlib import Path

import jax
import jax.numpy as jnp

from inr_gan_jax.models.layers import conv2d


def use_compilation_cache(directory: str | None = None) -> None:
    """Keeps compiled programs between runs; JAX_COMPILATION_CACHE_DIR has precedence.

    The default is `~/.cache/inr_gan_jax/xla`. Everything is kept, however quick to compile.
    """
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        directory = directory or str(Path(cache) / "inr_gan_jax" / "xla")
        jax.config.update("jax_compilation_cache_dir", directory)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def describe() -> str:
    """One line: how many devices of which kind, in how many processes."""
    devices = jax.devices()
    processes = f" in {jax.process_count()} processes" if jax.process_count() > 1 else ""
    return f"{len(devices)} x {devices[0].device_kind} ({devices[0].platform}){processes}"


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
