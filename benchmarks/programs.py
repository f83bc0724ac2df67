"""What `benchmarks.gpu` measures and `make test-gpu-compile` compiles."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from benchmarks.train import configured
from inr_gan_jax.models.networks import networks_of

# Type of features, and how float32 products are rounded.
PRECISIONS = {
    "bfloat16": ("bfloat16", "default"),
    "TF32": ("float32", "tensorfloat32"),
    "float32": ("float32", "highest"),
}
# What is measured, in order of worth: (what, configuration, batch, precision).
CASES = (
    *(("inference", "ffhq", 16, precision) for precision in PRECISIONS),
    *(("training", "ffhq", 16, precision) for precision in PRECISIONS),
    *((what, "ffhq", 64, "bfloat16") for what in ("inference", "training")),
    *((what, "ffhq_1024", 16, "bfloat16") for what in ("inference", "training")),
    *(("inference", f"ffhq_{family}", 16, "bfloat16") for family in ("stylegan2", "bil", "cips")),
)


def images_of(name: str, batch: int, dtype: str) -> tuple[Callable, tuple]:
    """(parameters, buffers, styles) -> a batch of images, and the shapes of these three."""
    config = configured(name, batch)
    networks = networks_of(config.model, config.discriminator)

    def image(params, buffers, ws):
        return networks.generator(params, buffers).image(ws, dtype=jnp.dtype(dtype))

    ws = jax.ShapeDtypeStruct((batch, networks.num_styles, config.model.w_dim), jnp.float32)
    return image, (*jax.eval_shape(networks.init_generator, jax.random.key(0)), ws)
