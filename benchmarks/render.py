"""Rendering: what a view of a part, or of a low resolution, costs beside the full image."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from benchmarks.timing import medians
from inr_gan_jax.models import generator
from inr_gan_jax.models.inr import InrParams
from inr_gan_jax.render.image import ContinuousImage


def random_image(family: str) -> ContinuousImage:
    """A published architecture with random parameters: speed does not depend on their values."""
    config = generator.FAMILIES[family]()
    module = nnx.eval_shape(lambda: generator.Generator(config, rngs=nnx.Rngs(0)))
    ws = jax.ShapeDtypeStruct((1, module.num_styles, config.w_dim), jnp.float32)
    shapes: InrParams = jax.eval_shape(lambda m, ws: m.inr_params(ws), module, ws)
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda s: jnp.asarray(rng.standard_normal(s.shape), jnp.float32), shapes)
    return ContinuousImage(params[0])


def rows() -> list[dict]:
    """Full image over 64x64 view, seconds, for models of 256x256."""
    found = []
    for family, repeats in (("inr_gan", 9), ("cips", 3)):
        image = random_image(family)
        seconds = medians(
            {
                "full": lambda image=image: image.render(256, 256),
                "view": lambda image=image: image.render(64, 64),
            },
            repeats,
        )
        found.append(
            {
                "what": f"{family} 256: seconds of the full image / of a 64x64 view",
                "ratio": seconds["full"] / seconds["view"],
                "detail": f"{seconds['full']:.3f} s / {seconds['view']:.3f} s",
            }
        )
    return found
