"""Facts about the devices at hand, and what follows from them."""

import os
import time
from pathlib import Path

import jax
import jax.numpy as jnp


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


def quicker_dtype(size: int = 512, repeats: int = 5) -> str:
    """`bfloat16` or `float32`: in which this machine multiplies sooner (float32 sums in both)."""
    seconds = {}
    for name in ("bfloat16", "float32"):
        a = jnp.ones((8, size, size), name)
        product = jax.jit(lambda a: jnp.matmul(a, a, preferred_element_type=jnp.float32))
        product(a).block_until_ready()
        times = []
        for _ in range(repeats):
            start = time.perf_counter()
            product(a).block_until_ready()
            times.append(time.perf_counter() - start)
        seconds[name] = min(times)
    return min(seconds, key=seconds.get)
