"""How cases are timed against each other."""

import statistics
import time
from collections.abc import Callable

import jax


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
