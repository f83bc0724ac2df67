"""The device mesh, how arrays lie on it, and what the devices exchange.

A batch is spread over all devices. With `fsdp` above 1 what a network learns (parameters, their
average, the optimiser's state) is cut along that axis of the mesh and put together where it is
needed (fully sharded data parallelism: Rajbhandari et al. 2020, "ZeRO").
"""

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from inr_gan_jax.errors import UserError

AXES = ("data", "fsdp")


def make_mesh(devices=None, *, fsdp: int = 1) -> Mesh:
    """All devices (of all processes), `fsdp` of them to an array; UserError if they do not fit."""
    devices = jax.devices() if devices is None else devices
    if len(devices) % fsdp:
        legal = [n for n in range(1, len(devices) + 1) if len(devices) % n == 0]
        raise UserError(
            f"config.mesh.fsdp = {fsdp} must divide the number of devices, {len(devices)}: "
            f"{', '.join(map(str, legal))}"
        )
    # Automatic axes: under explicit ones reshapes of a sharded batch are refused.
    axis_types = (AxisType.Auto,) * len(AXES)
    return jax.make_mesh((len(devices) // fsdp, fsdp), AXES, axis_types, devices=devices)


def replicated(mesh: Mesh) -> NamedSharding:
    """Every device holds the whole array."""
    return NamedSharding(mesh, PartitionSpec())


def over_batch(mesh: Mesh) -> NamedSharding:
    """The leading axis is split over all devices."""
    return NamedSharding(mesh, PartitionSpec(AXES))


def cut(tree, mesh: Mesh):
    """How the arrays of a tree (or their shapes) are cut along `fsdp`: a PartitionSpec for each.

    Along the longest axis that the number of devices divides; arrays that have none stay whole.
    """
    count = mesh.shape["fsdp"]

    def spec(leaf) -> PartitionSpec:
        lengths = [n if n % count == 0 else 0 for n in leaf.shape]
        if count == 1 or not any(lengths):
            return PartitionSpec()
        return PartitionSpec(*[None] * int(np.argmax(lengths)), "fsdp")

    return jax.tree.map(spec, tree)


def whole(tree, specs):
    """Within shard_map: the whole arrays of a tree that `specs` cut."""

    def gather(x, spec):
        return jax.lax.all_gather(x, "fsdp", axis=len(spec) - 1, tiled=True) if spec else x

    return jax.tree.map(gather, tree, specs)


def mean_over_devices(tree, specs=None):
    """Within shard_map: the mean of every device's arrays, each device's part of it as cut."""
    size = jax.lax.axis_size(AXES)

    def mean(x, spec):
        if not spec:
            return jax.lax.psum(x, AXES) / size
        x = jax.lax.psum_scatter(x, "fsdp", scatter_dimension=len(spec) - 1, tiled=True)
        return jax.lax.psum(x, "data") / size

    if specs is None:
        return jax.tree.map(lambda x: mean(x, None), tree)
    return jax.tree.map(mean, tree, specs)


def together(tree):
    """The same arrays, whole on every device; all processes make this call."""
    if all(leaf.sharding.is_fully_replicated for leaf in jax.tree.leaves(tree)):
        return tree
    mesh = jax.tree.leaves(tree)[0].sharding.mesh
    return jax.jit(lambda tree: tree, out_shardings=replicated(mesh))(tree)


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
