"""Improved precision and recall (Kynkaanniemi et al. 2019): overlap of nearest-neighbour balls."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm


def precision_recall(
    real_nf: np.ndarray, generated_nf: np.ndarray, k: int = 3, tile: int = 4096
) -> tuple[float, float]:
    """(precision, recall) of generated features `[m, F]` against real ones `[n, F]`.

    Around every point of a set lies a ball that reaches to its k-th nearest neighbour within the
    set, itself excluded. Precision is the part of generated points in the ball of any real one,
    recall the part of real points in the ball of any generated one.

    Distances are float32, on the default device, `tile` x `tile` at a time: there are never more
    than that and two tiles of features on the device. Raises ValueError unless both are `[>k, F]`
    with the same F and finite.
    """
    sets = [np.asarray(real_nf), np.asarray(generated_nf)]
    shapes = " and ".join(str(x.shape) for x in sets)
    if not all(x.ndim == 2 and len(x) > k for x in sets) or sets[0].shape[1] != sets[1].shape[1]:
        raise ValueError(f"k = {k} needs two sets [more than {k}, features], not {shapes}")
    # Distances come from differences of squares, which cancel less when points lie around 0.
    centre = sum(x.mean(axis=0, dtype=np.float64) for x in sets) / 2
    if not np.isfinite(centre).all():
        raise ValueError("features must be finite")

    def put(rows):
        return jnp.asarray(rows, jnp.float32) - jnp.asarray(centre, jnp.float32)

    real, generated = ([x[start : start + tile] for start in range(0, len(x), tile)] for x in sets)
    pairs = len(real) ** 2 + len(generated) ** 2 + len(real) * len(generated)
    with tqdm(total=pairs, desc="neighbours", unit="tile", delay=5) as bar:
        real_radii = _squared_radii(real, k, put, bar)
        generated_radii = _squared_radii(generated, k, put, bar)
        covered_real = [np.zeros(len(rows), bool) for rows in real]
        covered_generated = []
        for points, radii in zip(generated, generated_radii, strict=True):
            points, covered = put(points), np.zeros(len(points), bool)
            for others, other_radii, others_covered in zip(
                real, real_radii, covered_real, strict=True
            ):
                in_theirs, in_ours = _covered(points, radii, put(others), other_radii)
                covered |= np.asarray(in_theirs)
                others_covered |= np.asarray(in_ours)
                bar.update()
            covered_generated.append(covered)
    return tuple(float(np.concatenate(c).mean()) for c in (covered_generated, covered_real))


def _squared_radii(tiles: list[np.ndarray], k: int, put: Callable, bar: tqdm) -> list[jax.Array]:
    """Squared distances `[rows]`, tile by tile, of points to their k-th nearest neighbours."""
    radii = []
    for rows in map(put, tiles):
        nearest = jnp.full((len(rows), k + 1), jnp.inf)  # one more: each point finds itself
        for columns in map(put, tiles):
            nearest = _nearest(nearest, rows, columns).block_until_ready()  # else tiles pile up
            bar.update()
        radii.append(nearest[:, k])
    return radii


def _squared_distances(a_nf: jax.Array, b_mf: jax.Array) -> jax.Array:
    products = jnp.matmul(a_nf, b_mf.T, precision=jax.lax.Precision.HIGHEST)
    squares = jnp.square(a_nf).sum(axis=1)[:, None] + jnp.square(b_mf).sum(axis=1)
    return jnp.maximum(squares - 2 * products, 0)


@jax.jit
def _nearest(nearest_nk: jax.Array, a_nf: jax.Array, b_mf: jax.Array) -> jax.Array:
    """The least squared distances from each of a to what was seen before and to b, ascending."""
    candidates = jnp.concatenate([nearest_nk, _squared_distances(a_nf, b_mf)], axis=1)
    return -jax.lax.top_k(-candidates, nearest_nk.shape[1])[0]


@jax.jit
def _covered(a_nf, a_radii_n, b_mf, b_radii_m) -> tuple[jax.Array, jax.Array]:
    """Which of a `[n]` lie in a ball of b, and which of b `[m]` in a ball of a."""
    distances = _squared_distances(a_nf, b_mf)
    return (distances <= b_radii_m).any(axis=1), (distances <= a_radii_n[:, None]).any(axis=0)
