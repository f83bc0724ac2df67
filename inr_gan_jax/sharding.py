"""The device mesh, and how arrays lie on it."""

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


def local_copy(tree):
    """The same arrays, replicated ones of many processes as this process's own."""

    def own(array):
        if isinstance(array, jax.Array) and not array.is_fully_addressable:
            return array.addressable_data(0)
        return array

    return jax.tree.map(own, tree)
