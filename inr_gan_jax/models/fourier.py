"""Coordinates -> features: the embedding that a coordinate network sees (paper section 3.2).

Features stand in this order: raw coordinates, sines of all phases, cosines of all phases, table.
A phase is a dot product of the coordinates with a direction; directions come from four places:
`log` (powers of two), `random` (fixed), `shared` (trained) and `predicted` (from the style).
"""

import functools
import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from inr_gan_jax.models.products import at_least_float32

# From octave to octave: of a right angle, after which axes meet themselves, the golden section. So
# no two octaves share an axis, and axes of any few octaves are spread evenly.
TURN = math.pi / 2 * (math.sqrt(5) - 1) / 2


@dataclass(frozen=True)
class Embedding:
    """What an embedding consists of; sizes are numbers of directions (`table`: of channels).

    `log` is an upper bound: ceil(log2(resolution)) frequencies in 2 directions (4 if `diagonal`)
    must fit into it. `scale` and `distribution` (normal or uniform) initialise `random` and
    `shared`; `scale` also multiplies predicted directions. `shifted`: phases of `shared` directions
    have a trained shift each. `table_side`: cells of the table's longer side (0: the grid's).
    `finest`: the resolution whose log frequencies there are, where it is more than the grid's.
    `falloff`: log directions of frequency f have amplitude f^-falloff, the lowest one 1.
    `turned`: each octave's log directions are turned beyond those of the one before.
    `spiral`: `log` directions exactly, from lowest to highest frequency in equal ratios, each
    turned by the golden section of half a turn: no two share a frequency or an axis.
    """

    raw: bool = False
    log: int = 0
    diagonal: bool = False
    random: int = 0
    shared: int = 0
    predicted: int = 0
    cosine: bool = False
    table: int = 0
    scale: float = math.sqrt(10)
    distribution: str = "normal"
    shifted: bool = False
    table_side: int = 0
    finest: int = 0
    falloff: float = 0.0
    turned: bool = False
    spiral: bool = False

    def __post_init__(self):
        if self.distribution not in ("normal", "uniform"):
            raise ValueError(
                f"embedding distribution is {self.distribution!r}, not normal or uniform"
            )
        if self.spiral and (self.turned or self.diagonal):
            raise ValueError(
                "an embedding's spiral is in place of turned and diagonal: set both False"
            )

    def log_directions(self, size: tuple[int, int]) -> np.ndarray:
        """The fixed directions `[n, 2]` at a grid of `size`; ValueError if they do not fit."""
        if not self.log:
            return np.zeros((0, 2))
        octaves = math.ceil(math.log2(max(self.finest, *size)))
        if self.spiral:
            frequencies = np.geomspace(1, 2.0 ** (octaves - 1), self.log) * 2 * math.pi / 4
            along = np.stack([frequencies, np.zeros(self.log)], -1)
            return _turned(along, np.arange(self.log) * 2 * TURN)
        frequencies = 2.0 ** np.arange(octaves) * 2 * math.pi / 4
        units = [(0, 1), (1, 0)]
        if self.diagonal:  # unit vectors at sqrt(1/2) of the frequency
            units += [(-0.5, 0.5), (0.5, 0.5)]
        directions = np.concatenate([np.outer(frequencies, unit) for unit in units])
        if self.turned:
            directions = _turned(directions, np.tile(np.arange(octaves), len(units)) * TURN)
        if len(directions) > self.log:
            raise ValueError(
                f"the embedding at {size[0]}x{size[1]} needs {len(directions)} log directions, "
                f"but log = {self.log}: raise it to {len(directions)} or set diagonal = False"
            )
        return directions

    def amplitudes(self, size: tuple[int, int], phases: int) -> np.ndarray:
        """Of so many phases, of which those of the log directions come first: `[phases]`."""
        lengths = np.linalg.norm(self.log_directions(size), axis=1)
        lowest = lengths.min(initial=np.inf)
        return np.concatenate([(lowest / lengths) ** self.falloff, np.ones(phases - len(lengths))])

    def table_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """(height, width) of the learned table at a grid of `size`."""
        if not self.table_side:
            return size
        return tuple(max(1, n * self.table_side // max(size)) for n in size)

    def features(self, size: tuple[int, int]) -> int:
        """Number of features at a grid of `size` = (height, width)."""
        phases = len(self.log_directions(size)) + self.random + self.shared + self.predicted
        return 2 * self.raw + phases * (1 + self.cosine) + self.table


def _turned(directions: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """Directions `[n, 2]`, each turned by its own angle."""
    cosine, sine = np.cos(angles), np.sin(angles)
    x, y = directions.T
    return np.stack([cosine * x - sine * y, sine * x + cosine * y], -1)


def embed(
    embedding: Embedding,
    shared: dict,
    image: dict,
    x: jax.Array,
    y: jax.Array,
    size: tuple[int, int],
    table: jax.Array | None,
    sides: tuple[jax.Array, jax.Array] | None = None,
    footprint: jax.Array | None = None,
) -> jax.Array:
    """Features `[E, N]` of one image at N coordinates (x, y), float32.

    `shared` may hold `random` and `shared` directions `[n, 2]` and the latter's `shift` `[n]`;
    `image` predicted ones as `basis` `[n, 2]` and `phase` `[n]`; `table` is the learned table read
    at the coordinates, `[C, N]` or None; `size` (height, width) of the training grid decides the
    log frequencies. `sides`: where the coordinates are all of x `[w]` by y `[h]`, row by row.
    `footprint` (width, height) of a pixel, in coordinates: sines are weakened to their mean over it
    (mip-NeRF, Barron et al. 2021, equation 14: a Gaussian of a box's variance).
    """
    directions = [jnp.asarray(embedding.log_directions(size), at_least_float32(x.dtype))]
    directions += [shared[k] for k in ("random", "shared") if k in shared]
    if "basis" in image:
        directions.append(image["basis"])
    basis = jnp.concatenate(directions)
    shift = jnp.zeros(len(basis), basis.dtype)
    if "shift" in shared:
        first = len(directions[0]) + (len(shared["random"]) if "random" in shared else 0)
        shift += jnp.pad(shared["shift"], (first, len(basis) - first - len(shared["shift"])))
    if "phase" in image:
        shift += jnp.pad(image["phase"], (len(basis) - len(image["phase"]), 0))
    kept = None
    if embedding.falloff:
        kept = jnp.asarray(embedding.amplitudes(size, len(basis)), basis.dtype)
    if footprint is not None:
        means = jnp.exp(-jnp.square(basis) @ jnp.square(footprint).astype(basis.dtype) / 24)
        kept = means if kept is None else kept * means
    features = [jnp.stack([x, y])] if embedding.raw else []
    plain = functools.partial(_waves, x=x, y=y, cosine=embedding.cosine)
    if sides is None or not len(basis):
        features.append(plain(basis, shift))
    else:  # on a CPU in two fifths of the time
        by_sides = functools.partial(_waves_of_sides, sides=sides, cosine=embedding.cosine)
        features.append(jax.lax.platform_dependent(basis, shift, cpu=by_sides, default=plain))
    if kept is not None:
        features[-1] *= jnp.tile(kept, 1 + embedding.cosine)[:, None]
    if table is not None:
        features.append(table)
    return jnp.concatenate(features)


def _waves(basis, shift, *, x, y, cosine: bool) -> jax.Array:
    """Sines of all phases, then their cosines where they are wanted: `[n or 2n, N]`."""
    # Elementwise on purpose: accelerators round float32 matrix products, and phases lose pixels.
    phases = basis[:, :1] * x + basis[:, 1:] * y + shift[:, None]
    return jnp.concatenate([jnp.sin(phases), jnp.cos(phases)]) if cosine else jnp.sin(phases)


def _waves_of_sides(basis, shift, *, sides, cosine: bool) -> jax.Array:
    """The same of a whole grid, sin(a + b) = cos b sin a + sin b cos a, as a product for each."""
    a, b = basis[:, :1] * sides[0], basis[:, 1:] * sides[1] + shift[:, None]
    along = jnp.stack([jnp.sin(a), jnp.cos(a)], 1)
    down = [jnp.stack([jnp.cos(b), jnp.sin(b)], -1)]
    if cosine:
        down.append(jnp.stack([-jnp.sin(b), jnp.cos(b)], -1))
    waves = jnp.matmul(jnp.concatenate(down), jnp.concatenate([along] * len(down)))
    return waves.reshape(len(waves), -1)
