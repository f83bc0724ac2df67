"""Every test compares float32 results: products at the highest precision on every backend."""

import jax

jax.config.update("jax_default_matmul_precision", "highest")
