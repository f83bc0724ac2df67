"""The `pixel` detector: principal components of small images. Quick, and needs no weights."""

from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np

from inr_gan_jax.metrics.statistics import Moments

SIDE = 32  # pixels at most
COMPONENTS = 64  # features at most


def fit(batches: Iterable[np.ndarray]) -> dict[str, np.ndarray]:
    """Parameters of `features`: `mean` `[P]` and `basis` `[P, F]`, float32, of real images.

    `batches` are uint8 `[B, H, W, C]`, all of one size. F is COMPONENTS, or the rank of their
    covariance if that is less; components are of unit length, those of most variance first, with
    the largest coefficient positive. Raises ValueError if all images are the same.
    """
    moments = None
    for images_bhwc in batches:
        vectors_bp = np.asarray(_vectors(images_bhwc))
        if moments is None:
            moments = Moments(vectors_bp.shape[1])
        moments.add(vectors_bp)
    if moments is None:
        raise ValueError("there are no images to fit components to")
    values, basis = (array[..., ::-1] for array in np.linalg.eigh(moments.covariance))
    # The pixels' rounding has less variance than this, any change of a pixel's value more.
    rank = int((values > len(values) * np.finfo(np.float32).eps ** 2).sum())
    if not rank:
        raise ValueError("all images are the same: they have no principal components")
    basis = basis[:, : min(rank, COMPONENTS)]
    largest = np.take_along_axis(basis, np.abs(basis).argmax(axis=0)[None], axis=0)
    return {
        "mean": moments.mean.astype(np.float32),
        "basis": (basis * np.sign(largest)).astype(np.float32),
    }


def features(params: dict[str, jax.Array], images_bhwc: jax.Array) -> jax.Array:
    """Coordinates `[B, F]` of uint8 images `[B, H, W, C]` in the basis that `fit` found.

    The images have the size of those fitted. One unit is the difference of a black and a white
    value. Raises ValueError for other types and sizes.
    """
    centred_bp = _vectors(images_bhwc) - params["mean"]
    return jnp.matmul(centred_bp, params["basis"], precision=jax.lax.Precision.HIGHEST)


@jax.jit
def _vectors(images_bhwc: jax.Array) -> jax.Array:
    """`[B, P]` in [0, 1]: all values of the images, averaged over areas if larger than SIDE."""
    if images_bhwc.dtype != jnp.uint8:
        raise ValueError(f"images must be uint8, not {images_bhwc.dtype}")
    height, width = images_bhwc.shape[1:3]
    shrink = max(height, width, SIDE) / SIDE
    small_bhwc = jnp.einsum(
        "yh,bhwc,xw->byxc",
        coverage(height, max(round(height / shrink), 1)),
        images_bhwc.astype(jnp.float32) / 255,
        coverage(width, max(round(width / shrink), 1)),
        precision=jax.lax.Precision.HIGHEST,
    )
    return small_bhwc.reshape(len(small_bhwc), -1)


def coverage(size: int, cells: int) -> np.ndarray:
    """`[cells, size]`: the part of each cell, of `size / cells` pixels, that each pixel covers."""
    edges, pixels = np.arange(cells + 1)[:, None] * size / cells, np.arange(size)
    overlaps = np.minimum(edges[1:], pixels + 1) - np.maximum(edges[:-1], pixels)
    return (np.maximum(overlaps, 0) * cells / size).astype(np.float32)
