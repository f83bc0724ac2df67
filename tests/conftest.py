"""Two host devices in every test process, and float32 products at the highest precision."""

import os

os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=2"
)

import jax  # noqa: E402

jax.config.update("jax_default_matmul_precision", "highest")
# Most of the time of these tests is compilation, and the programs are tiny.
jax.config.update("jax_disable_most_optimizations", True)
