"""Matrix products with float32 sums, and how much of them a CPU's cache holds."""

import jax
import jax.numpy as jnp

CACHED = 1 << 19  # values of 4 bytes: what is worked on at once on a CPU


def at_least_float32(dtype) -> jnp.dtype:
    """What sums are kept in where features are of `dtype`: float32, or float64 in float64."""
    return jnp.promote_types(dtype, jnp.float32)


def matmul(x: jax.Array, w: jax.Array) -> jax.Array:
    """`[..., i] x [i, o]` in x's type."""
    sums = at_least_float32(x.dtype)
    return jnp.matmul(x, w, preferred_element_type=sums).astype(x.dtype)


@jax.custom_jvp
def wide_product(x: jax.Array, y: jax.Array) -> jax.Array:
    """`[o, i] x [i, n]` of one type, in the type of the sums.

    What passes back through it has the factors' type: half the bytes of the sums, and no products
    of bfloat16 with float32, which GPUs have none for.
    """
    return jnp.matmul(x, y, preferred_element_type=at_least_float32(x.dtype))


@wide_product.defjvp
def _wide_product_jvp(factors, tangents):
    (x, y), (dx, dy) = factors, tangents
    out = wide_product(x, y)
    return out, (jnp.matmul(dx, y) + jnp.matmul(x, dy)).astype(out.dtype)


def product_over_rows(x: jax.Array, dy: jax.Array) -> jax.Array:
    """`[..., i], [..., o] -> [i, o]`, summed over all else; in the type of the sums."""
    x, dy = x.reshape(-1, x.shape[-1]), dy.reshape(-1, dy.shape[-1])
    sums = at_least_float32(x.dtype)
    return jax.lax.dot_general(x, dy, (((0,), (0,)), ((), ())), preferred_element_type=sums)


def fitting(count: int, values: int) -> int:
    """The largest divisor of `count` whose times `values` are CACHED at most; 1 where none is."""
    divisors = (n for n in range(1, count + 1) if count % n == 0)
    return max(n for n in divisors if n == 1 or n * values <= CACHED)
