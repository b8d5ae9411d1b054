"""The placement of arrays: batches are split over the devices, and all other arrays lie on every device."""

import jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from unified_diffusion.errors import UserError


def data_mesh():
    """The mesh of all devices of all processes, along one axis called "data"."""
    return jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))


def replicated(mesh):
    """The sharding of arrays that lie whole on every device."""
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh, leading=0):
    """The sharding of a batch: examples are split over the devices, behind `leading` axes that are not split."""
    return NamedSharding(mesh, PartitionSpec(*[None] * leading, "data"))


def check_batch_size(batch_size, mesh, field="config.training.batch_size"):
    """Raises UserError unless every device gets the same number of examples."""
    if batch_size < 1 or batch_size % mesh.size:
        near = max(batch_size // mesh.size, 1) * mesh.size
        raise UserError(f"{field} = {batch_size} does not divide over {mesh.size} devices: take {near}")


def place_batch(batch, sharding):
    """Places the part of a batch that this process has, a pytree of NumPy arrays, on the devices."""
    return jax.tree.map(lambda array: jax.make_array_from_process_local_data(sharding, array), batch)
