"""The device mesh, and how arrays lie on it."""

import math

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec


def make_mesh(devices=None) -> Mesh:
    """All devices (of all processes) along one axis, `data`."""
    devices = jax.devices() if devices is None else devices
    # Automatic axes: under explicit ones reshapes of a sharded batch are refused.
    return jax.make_mesh((len(devices),), ("data",), axis_types=(AxisType.Auto,), devices=devices)


def replicated(mesh: Mesh) -> NamedSharding:
    """Every device holds the whole array."""
    return NamedSharding(mesh, PartitionSpec())


def over_batch(mesh: Mesh, axis: int = 0) -> NamedSharding:
    """The batch axis is split over the mesh."""
    return NamedSharding(mesh, PartitionSpec(*[None] * axis, "data"))


def to_devices(mesh: Mesh, batch: dict[str, np.ndarray]) -> dict[str, jax.Array]:
    """This process's rows of a global batch -> global arrays, split over the leading axis."""
    sharding = over_batch(mesh)
    return {k: jax.make_array_from_process_local_data(sharding, v) for k, v in batch.items()}


def legal_batch_sizes(devices: int, group: int, near: int) -> list[int]:
    """Batch sizes around `near` whose share of every device consists of whole groups."""
    unit = math.lcm(devices * group, devices)
    below = max(near // unit, 1) * unit
    return sorted({max(below - unit, unit), below, below + unit})
