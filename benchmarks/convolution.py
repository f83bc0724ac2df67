"""Convolutions on this device: what models run against what XLA makes of the same definition.

Shapes are the discriminator's at 32x32 and 256x256. Details give each as a part of the rate of
products of 2048x2048 matrices: Winograd's way counts the work that it saves, so it may pass 1.
"""

import functools

import jax
import jax.numpy as jnp

from benchmarks.networks import random_like
from benchmarks.timing import medians, product_rate
from inr_gan_jax.models.convolution import Shape, convolution_p, input_gradient_p, weight_gradient_p

REPEATS = 5
# Images, pixels a side, channels, stride.
CASES = (
    (32, 32, 64, 1), (32, 16, 64, 1), (32, 8, 64, 1), (32, 16, 32, 1), (4, 256, 64, 1),
    (4, 128, 128, 1), (4, 64, 256, 1), (4, 32, 512, 1), (4, 16, 512, 1), (32, 32, 64, 2),
    (4, 128, 128, 2), (4, 64, 256, 2),
)  # fmt: skip
WAYS = {
    "forward": (convolution_p, (0, 1)),
    "input's gradient": (input_gradient_p, (2, 1)),
    "weights' gradient": (weight_gradient_p, (0, 2)),
}


def rows() -> list[dict]:
    """XLA's seconds over ours, for each of the three maps at each shape, float32."""
    rate, found = product_rate("float32"), []
    for images, side, channels, stride in CASES:
        padding = 1 if stride == 1 else 0  # as the discriminator has it, after a blur
        size = side if stride == 1 else side + 1
        out = (size + 2 * padding - 3) // stride + 1
        shape = Shape(stride, padding, (size, size), (3, 3))
        arrays = random_like(
            tuple(
                jax.ShapeDtypeStruct(s, jnp.float32)
                for s in (
                    (images, size, size, channels),
                    (3, 3, channels, channels),
                    (images, out, out, channels),
                )
            )
        )
        work = 2 * images * out**2 * 9 * channels**2
        for name, (primitive, taken) in WAYS.items():
            both = {"ours": primitive.bind, "xla": primitive.meaning}
            cases = {
                k: functools.partial(
                    jax.jit(functools.partial(f, shape=shape)), *(arrays[i] for i in taken)
                )
                for k, f in both.items()
            }
            seconds = medians(cases, REPEATS)
            ours, xla = (work / seconds[k] / rate for k in ("ours", "xla"))
            found.append(
                {
                    "what": f"{images} x {side}x{side}x{channels}, stride {stride}: {name}",
                    "ratio": seconds["xla"] / seconds["ours"],
                    "detail": f"{1e3 * seconds['ours']:.3g} ms; of the product rate "
                    f"{ours:.2f}, XLA's {xla:.2f}",
                }
            )
    return found
