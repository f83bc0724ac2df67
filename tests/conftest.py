"""Two host devices in every test process, and float32 products at the highest precision.

A file's tests run in one process; the files that take longest come first, so that no process ends
up with one of them while the others have nothing left to do.
"""

import os

from helpers.environment import PROGRAMS, xla_flags

os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {xla_flags(2)}".strip()
# Most of the time of these tests is compilation: programs are kept, also for the next time.
os.environ["JAX_COMPILATION_CACHE_DIR"] = str(PROGRAMS)
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"

import jax  # noqa: E402
from hypothesis import settings  # noqa: E402

settings.register_profile("compiled", deadline=None)  # an example may be the first to compile
settings.load_profile("compiled")

jax.config.update("jax_default_matmul_precision", "highest")
# The programs are tiny: they are run for less time than it takes to optimise them.
jax.config.update("jax_disable_most_optimizations", True)
jax.config.update("jax_traceback_in_locations_limit", 0)

LONGEST = [
    "test_step", "test_main", "test_evaluate", "test_objectives", "test_recipes", "test_project",
    "test_patch_training", "test_project_command", "test_devices", "test_image", "test_inr",
    "test_golden", "test_small_data", "test_levels", "test_loop", "test_render_command",
]  # fmt: skip


def pytest_collection_modifyitems(items):
    rank = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(rank)))
