"""How cases are timed against each other, and on what."""

import functools
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp

SIDE = 2048  # of the products whose rate others are told against


def medians(cases: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Seconds of each case, median of `repeats`, after one call of each that is not counted."""
    for case in cases.values():
        jax.block_until_ready(case())
    times = {name: [] for name in cases}
    for _ in range(repeats):
        for name, case in cases.items():
            start = time.perf_counter()
            jax.block_until_ready(case())
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def product_rate(dtype) -> float:
    """Operations a second of products of SIDE x SIDE matrices."""
    side = jnp.ones((SIDE, SIDE), dtype)
    product = functools.partial(jax.jit(jnp.matmul), side, side)
    return 2 * SIDE**3 / medians({"it": product}, 15)["it"]


def machine() -> dict:
    """What the numbers were taken on."""
    device = jax.devices()[0]
    about = Path("/proc/cpuinfo")  # Linux alone names it here
    lines = about.read_text().splitlines() if about.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return {
        "device": f"{len(jax.devices())} x {device.device_kind}",
        "cpu": names[0] if names else platform.processor(),
        "jax": jax.__version__,
        "python": platform.python_version(),
        "date": time.strftime("%Y-%m-%d"),
    }
