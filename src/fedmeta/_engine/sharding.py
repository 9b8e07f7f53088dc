"""A cohort over several devices: the mesh, pytrees on it, and pytrees taken back.

With one process on one device nothing here moves or copies anything.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from fedmeta.errors import UsageError

AXIS = "clients"
"""The mesh's only axis: the clients of a cohort."""


def several() -> bool:
    """Return whether this process has joined others; it does not start JAX."""
    return jax.distributed.is_initialized()


def is_leader() -> bool:
    """Return whether this is process 0, which alone writes and prints; it does not start JAX."""
    return not several() or jax.process_index() == 0


def mesh(devices: int | None = None) -> Mesh:
    """Return a mesh with the one axis "clients", over all devices of all processes, in the processes' order.

    Args:
        devices: with one process, use this many of its devices instead, from the first.

    Raises:
        UsageError: there are fewer devices, or several processes would not all take part.
    """
    found = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
    if devices is not None and not 1 <= devices <= len(found):
        raise UsageError(f"devices must lie between 1 and the {len(found)} that there are, not {devices}")
    if devices is not None and devices < len(found) and jax.process_count() > 1:
        raise UsageError(f"several processes use all of their {len(found)} devices, not {devices} of them")
    return Mesh(np.array(found[:devices]), (AXIS,))


def padded(count: int, mesh: Mesh) -> int:
    """Return the size to which a cohort of `count` clients is padded so that all devices hold equally many."""
    return -(-count // mesh.size) * mesh.size


def share(count: int, mesh: Mesh) -> slice:
    """Return which clients of a padded cohort this process holds: contiguous, in the processes' order.

    Args:
        count: clients in the cohort, a multiple of the mesh's devices.
        mesh: see `mesh`.

    Raises:
        UsageError: the devices cannot hold equally many.
    """
    if count % mesh.size:
        raise UsageError(
            f"a cohort of {count} clients must be padded to {padded(count, mesh)}, for {mesh.size} devices"
        )
    if mesh.size == 1:
        return slice(0, count)
    owners = [device.process_index for device in mesh.devices.flat]
    mine = jax.process_index()
    first, each = owners.index(mine), count // mesh.size
    return slice(first * each, (first + owners.count(mine)) * each)


def replicate(tree: Any, mesh: Mesh) -> Any:
    """Return a pytree whose arrays are whole on every device of the mesh.

    On a mesh of one device the pytree is returned as it is, host arrays included.

    Args:
        tree: host arrays, or arrays of this process's devices; the same in every process, which is not checked.
        mesh: see `mesh`.
    """
    if mesh.size == 1:
        return tree
    sharding = NamedSharding(mesh, PartitionSpec())

    def place(leaf: Any) -> jax.Array:
        if isinstance(leaf, jax.Array) and leaf.sharding == sharding:
            return leaf
        if not several():
            return jax.device_put(leaf, sharding)
        # `device_put` would compare the values of all processes.
        value = jax.device_get(leaf)
        return jax.make_array_from_process_local_data(sharding, np.asarray(value), np.shape(value))

    return jax.tree.map(place, tree)


def spread(tree: Any, mesh: Mesh) -> Any:
    """Return a pytree of arrays [clients, ...], spread over the mesh by clients.

    On a mesh of one device the pytree is returned as it is, host arrays included.

    Args:
        tree: host arrays of this process's `share` of the cohort, each of shape [clients of this process, ...].
        mesh: see `mesh`.

    Raises:
        ValueError: the clients cannot be divided equally among this process's devices.
    """
    if mesh.size == 1:
        return tree
    sharding = NamedSharding(mesh, PartitionSpec(AXIS))
    return jax.tree.map(
        lambda leaf: jax.make_array_from_process_local_data(sharding, np.asarray(jax.device_get(leaf))), tree
    )


def to_host(tree: Any) -> Any:
    """Return a pytree's arrays whole, as host arrays.

    An array that is spread over processes is gathered; all processes must take part.
    """

    def fetch(leaf: Any) -> Any:
        if isinstance(leaf, jax.Array) and not (leaf.is_fully_addressable or leaf.is_fully_replicated):
            return multihost_utils.process_allgather(leaf, tiled=True)
        return leaf

    return jax.device_get(jax.tree.map(fetch, tree) if several() else tree)


def broadcast(tree: Any) -> Any:
    """Return process 0's pytree in every process, bit for bit, as host arrays; with one process the pytree itself.

    Args:
        tree: arrays or numbers of the same structure, shapes and types in every process.
    """
    if not several():
        return tree
    leaves, structure = jax.tree.flatten(to_host(tree))
    leaves = [np.asarray(leaf) for leaf in leaves]
    # As bytes: a sum of numbers would turn -0.0 into 0.0.
    mine = np.frombuffer(b"".join(leaf.tobytes() for leaf in leaves), np.uint8)
    everywhere = mesh()
    rows = np.zeros((len(everywhere.local_devices), mine.size), np.uint8)
    if is_leader():
        rows[0] = mine
    data = to_host(sum_over_devices(everywhere)(spread(rows, everywhere))).tobytes()
    start, received = 0, []
    for leaf in leaves:
        received.append(np.frombuffer(data, leaf.dtype, leaf.size, start).reshape(leaf.shape).copy())
        start += leaf.nbytes
    return jax.tree.unflatten(structure, received)


@lru_cache(maxsize=4)
def sum_over_devices(mesh: Mesh) -> Callable[[Any], jax.Array]:
    """Return the compiled sum of a spread array over its first axis; the result is whole on every device."""
    whole = NamedSharding(mesh, PartitionSpec())
    return jax.jit(lambda x: jnp.sum(x, axis=0, dtype=x.dtype), out_shardings=whole)
