"""Images on their training grid through fused kernels, one for each block."""

import functools

import jax
import jax.numpy as jnp

from inr_gan_jax.kernels.block import Fused
from inr_gan_jax.models import places
from inr_gan_jax.models.fourier import embed
from inr_gan_jax.models.parameters import Block, InrParams


def grid(params: InrParams, dtype=jnp.float32, *, interpret: bool = False) -> jax.Array:
    """`inr.grid` by kernels: images `[B, H, W, C]` float32, about [-1, 1], unclipped.

    Has gradients, of first order and in reverse only. ValueError for networks whose pixels depend
    on each other (INR-GAN-bil). `interpret`: on any device, slowly.
    """
    spec = params.spec
    if not spec.fusible:
        raise ValueError(
            "the kernels are for pixel-independent networks: bilinear upsampling and instance norm "
            "need whole levels"
        )
    if jnp.dtype(dtype) not in (jnp.float32, jnp.bfloat16):
        raise ValueError(f"the kernels compute in float32 or bfloat16, not in {jnp.dtype(dtype)}")
    h = rgb = None
    for block in spec.blocks:
        place = places.on_grid(block.size, block.upsample, spec.frame, spec.upsampling)
        shared, image = (dict(tree.get(block.name, {})) for tree in (params.shared, params.image))
        own = image.pop("embedding", {})
        e = _embedding(block, place, shared.pop("embedding", {}), own)
        fused = Fused(
            block,
            spec.activation,
            jnp.dtype(dtype).name,
            keeps=block is not spec.blocks[-1],
            own_embedding=bool(own),
            interpret=interpret,
        )
        h, emitted = fused(h, e, shared, image)
        if rgb is not None and block.upsample > 1:
            rgb = jax.vmap(place.upsample)(rgb)
        if emitted is not None:
            rgb = emitted if rgb is None else rgb + emitted
    rgb = jnp.tanh(rgb) if spec.output == "tanh" else rgb
    return rgb.reshape(*rgb.shape[:2], *spec.size).transpose(0, 2, 3, 1)


def _embedding(block: Block, place: places.Place, shared: dict, image: dict):
    """Coordinate features of a level: `[N, E]` of all images, or `[B, E, N]` of each."""
    if not block.embedding:
        return None
    table = place.table(shared["table"]) if "table" in shared else None
    of = functools.partial(embed, block.embedding, shared)
    if image:
        return jax.vmap(lambda own: of(own, place.x, place.y, block.size, table))(image)
    return of({}, place.x, place.y, block.size, table).T
