"""What training evaluates of a coordinate network beside its grid: sums after levels, patches."""

import jax
import jax.numpy as jnp

from inr_gan_jax.models import inr, nodes, places
from inr_gan_jax.models.parameters import InrParams


def levels_one(
    params: InrParams, dtype=jnp.float32, jitter_key: jax.Array | None = None
) -> list[jax.Array]:
    """RGB of one image after each level of `spec.rgb_levels` and after the last: `[h, w, C]`.

    With `jitter_key` each level's coordinates are moved within their cells, all by as much; of a
    network with nodes those of the last level alone.
    """
    spec, place_of = params.spec, inr.on_grid(params.spec)

    def moved(block):
        key = jax.random.fold_in(jitter_key, spec.levels.index(block.size))
        return places.jittered(inr.on_grid(spec)(block), block.size, spec.frame, key)

    if jitter_key is not None:
        place_of = nodes.on_grid(spec, jitter_key) if spec.has_nodes else moved
    outputs = inr.evaluate(params, place_of, dtype)
    last = {block.size: out for block, out in zip(spec.blocks, outputs, strict=True)}
    return [
        inr.final_rgb(params, [last[size]]).reshape(-1, *size).transpose(1, 2, 0)
        for size in (*spec.rgb_levels, spec.size)
    ]


def patch_one(
    params: InrParams,
    window: jax.Array,
    dtype=jnp.float32,
    noise_key: jax.Array | None = None,
    *,
    coarser: int = 1,
) -> jax.Array:
    """A patch of one image of a continuous network: `[H, W, C]` (see nodes.in_window)."""
    spec = params.spec
    h, w = (side // coarser for side in spec.size)
    if spec.has_nodes:
        place_of = nodes.in_window(spec, window, coarser)
    else:
        everywhere = places.in_window(spec.size, window, coarser)

        def place_of(block):
            return everywhere

    outputs = inr.evaluate(params, place_of, dtype, noise=inr.noise_of(noise_key, h * w))
    return inr.final_rgb(params, outputs).reshape(-1, h, w).transpose(1, 2, 0)


def levels(params: InrParams, dtype, jitter_keys: jax.Array | None) -> list[jax.Array]:
    """RGB `[B, h, w, C]` after each level (see levels_one); `jitter_keys` `[B]`, or None."""
    axes = (params.axes, None if jitter_keys is None else 0)
    return jax.vmap(lambda one, key: levels_one(one, dtype, key), in_axes=axes)(params, jitter_keys)


def patches(
    params: InrParams, windows: jax.Array, dtype, noise_keys=None, *, coarser: int = 1
) -> jax.Array:
    """Patches of images, `windows` int32 `[B, 3]`, `noise_keys` `[B]` or None: `[B, H, W, C]`."""

    def one(params, window, key):
        return patch_one(params, window, dtype, key, coarser=coarser)

    axes = (params.axes, 0, None if noise_keys is None else 0)
    return jax.vmap(one, in_axes=axes)(params, windows, noise_keys)
