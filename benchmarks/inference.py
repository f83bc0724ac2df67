"""Generating on this device: how near to what its own matrix products allow.

The bound is the time of the model's products alone, each of its own shape, timed in a loop that
reuses its memory: those of the hypernetwork's heads and of the coordinate network. Everything else
that the model does (sines, activations, upsampling, modulated weights) is what it takes beyond.
Work is always counted as 22.1 GFLOP an image. Its siblings are told against products of 2048x2048
matrices, their work as costs.flops counts it.
"""

import functools
from collections import Counter

import jax
import jax.numpy as jnp

from benchmarks.growth import forward
from benchmarks.networks import random_like, random_networks
from benchmarks.timing import medians, product_rate
from inr_gan_jax.models.products import at_least_float32

GFLOP, BATCH, LOOPS, REPEATS = 22.1, 4, 4, 5
SIBLINGS = ("inr_gan_bil", "stylegan2", "cips", "cips_skip")


def rows() -> list[dict]:
    """INR-GAN 256x256, batch 4: the bound's seconds over the model's, for both types."""
    networks, params, buffers = random_networks("inr_gan")
    config = networks.generator_config
    ws = random_like(jax.ShapeDtypeStruct((BATCH, networks.num_styles, config.w_dim), jnp.float32))
    emitted = jax.eval_shape(
        lambda p, b, ws: networks.generator(p, b).inr_params(ws), params, buffers, ws
    )
    shapes = products(emitted, config.w_dim)
    found, images = [], {}
    for dtype in ("float32", "bfloat16"):
        make = functools.partial(_generate, networks, dtype=jnp.dtype(dtype))
        generate = functools.partial(jax.jit(make), params, buffers, ws)
        cases = {"model": generate} | {shape: _product(*shape, dtype) for shape in shapes}
        side = random_like(jax.ShapeDtypeStruct((2048, 2048), jnp.dtype(dtype)))
        cases["square"] = functools.partial(jax.jit(_multiplied), side, side)
        seconds = medians(cases, REPEATS)
        images[dtype] = generate()
        bound = sum(n * seconds[shape] / LOOPS for shape, n in shapes.items())
        rate, square = GFLOP * BATCH / seconds["model"], 2 * 2048**3 / seconds["square"] / 1e9
        detail = (
            f"{BATCH / seconds['model']:.2f} images/s, {rate:.0f} GFLOP/s; products alone "
            f"{GFLOP * BATCH / bound:.0f}; 2048^3 {square:.0f} (ratio {rate / square:.2f})"
        )
        if dtype == "bfloat16":
            span = jnp.ptp(images["float32"])
            off = float(jnp.max(jnp.abs(images[dtype] - images["float32"])) / span)
            detail += f"; images off by {off:.1e} of float32's range"
        what = f"INR-GAN 256, batch {BATCH}, {dtype}: its products alone / model, seconds"
        found.append({"what": what, "ratio": bound / seconds["model"], "detail": detail})
    return found + [sibling(family) for family in SIBLINGS]


def sibling(family: str) -> dict:
    """Another family's operations a second over those of products, float32."""
    make, gflop = forward(random_networks(family), BATCH)
    rate = product_rate("float32") / 1e9
    each = medians({"it": make}, REPEATS)["it"] / BATCH
    return {
        "what": f"{family} 256, batch {BATCH}, float32: operations a second / 2048^3 products",
        "ratio": gflop / each / rate,
        "detail": f"{1 / each:.3g} images/s of {gflop:.1f} GFLOP, products {rate:.0f} GFLOP/s",
    }


def _generate(networks, params, buffers, ws, dtype):
    return networks.generator(params, buffers).image(ws, dtype=dtype)


def products(params, w_dim: int) -> Counter:
    """(out, in, positions, kind) of all products of a batch, and how often each occurs."""
    found = Counter()
    for block in params.spec.blocks:
        n = block.size[0] * block.size[1]
        for number, layer in enumerate(block.modulated):
            below = n // block.upsample**2 if number == 0 else n
            image = params.image[block.name][layer.name]
            emitted = sum(leaf.size for leaf in jax.tree.leaves(image)) // BATCH
            found[emitted, w_dim, BATCH, "head"] += 1
            if layer.h:
                found[layer.outputs, layer.h, below, "each"] += 1
            if layer.e:
                found[layer.outputs, layer.e, n, "common"] += 1
    return found


def _product(outputs: int, inputs: int, positions: int, kind: str, dtype: str):
    """It, LOOPS times with other weights; `each` image has its own input."""
    images = [] if kind == "head" else [BATCH]
    dtype = "float32" if kind == "head" else dtype  # as in the model
    w, x = random_like(
        (
            jax.ShapeDtypeStruct((LOOPS, *images, outputs, inputs), jnp.dtype(dtype)),
            jax.ShapeDtypeStruct((*(images if kind == "each" else []), inputs, positions), dtype),
        )
    )

    @jax.jit
    def loop(w, x):
        def body(i, _):
            return _multiplied(w[i], x)

        made = jnp.zeros((*images, outputs, positions), at_least_float32(dtype))
        return jax.lax.fori_loop(0, LOOPS, body, made)

    return functools.partial(loop, w, x)


def _multiplied(w, x):
    return jnp.matmul(w, x, preferred_element_type=jnp.float32)
