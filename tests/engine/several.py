"""What the tests of devices run in processes of their own: `python -m tests.engine.several PART [ARGUMENTS]`."""

import os
import signal
import sys
import time

import jax
import numpy as np
from jax.sharding import PartitionSpec

from fedmeta._engine import processes, sharding
from fedmeta.errors import FedmetaError


def total(mesh):
    """Return the compiled sum over clients of [clients, numbers], by one explicit collective."""
    add = jax.shard_map(
        lambda x: jax.lax.psum(x.sum(0), sharding.AXIS),
        mesh=mesh,
        in_specs=PartitionSpec(sharding.AXIS),
        out_specs=PartitionSpec(),
    )
    return jax.jit(add)


def check_devices():
    """Four devices in one process."""
    processes.use_cpu_devices(4)
    mesh = sharding.mesh()
    assert mesh.shape == {"clients": 4}
    assert sharding.mesh(2).size == 2
    assert sharding.is_leader()
    assert sharding.share(8, mesh) == slice(0, 8)
    clients = {"x": np.arange(24, dtype=np.float32).reshape(8, 3), "n": np.arange(8)}
    spread = sharding.spread(clients, mesh)
    assert [shard.data.shape for shard in spread["x"].addressable_shards] == [(2, 3)] * 4
    for name, values in sharding.to_host(spread).items():
        np.testing.assert_array_equal(values, clients[name])
    np.testing.assert_array_equal(total(mesh)(spread["x"]), clients["x"].sum(0))
    whole = sharding.replicate({"a": np.float32(3), "b": jax.numpy.ones((2, 5))}, mesh)
    assert all(leaf.is_fully_replicated and len(leaf.addressable_shards) == 4 for leaf in whole.values())
    assert all(new is old for new, old in zip(sharding.replicate(whole, mesh).values(), whole.values(), strict=True))
    assert sharding.broadcast(whole) is whole
    try:
        processes.use_cpu_devices(2)
    except FedmetaError as error:
        print(error)


def check_processes():
    """Two processes of two devices each."""
    mesh = sharding.mesh()
    place = jax.process_index()
    assert mesh.shape == {"clients": 4}
    assert [device.process_index for device in mesh.devices.flat] == [0, 0, 1, 1]
    assert sharding.is_leader() == (place == 0)
    mine = sharding.share(8, mesh)
    assert mine == slice(4 * place, 4 * place + 4)
    cohort = np.arange(24, dtype=np.float32).reshape(8, 3)
    spread = sharding.spread(cohort[mine], mesh)
    assert spread.shape == (8, 3)
    np.testing.assert_array_equal(sharding.to_host(total(mesh)(spread)), cohort.sum(0))
    np.testing.assert_array_equal(sharding.to_host(spread), cohort)
    whole = sharding.replicate({"step": 7, "phi": cohort, "there": jax.numpy.ones(3)}, mesh)
    assert all(leaf.is_fully_replicated and not leaf.is_fully_addressable for leaf in whole.values())
    assert all(new is old for new, old in zip(sharding.replicate(whole, mesh).values(), whole.values(), strict=True))
    np.testing.assert_array_equal(sharding.to_host(whole)["phi"], cohort)
    checkpoint = {"phi": np.array([-0.0, np.nan, 0.1], np.float32), "round": np.int32(9), "none": np.zeros((0, 2))}
    sent = checkpoint if place == 0 else jax.tree.map(np.zeros_like, checkpoint)
    received = sharding.broadcast(sent)
    for name, value in checkpoint.items():
        assert received[name].dtype == value.dtype
        assert received[name].shape == value.shape
        assert received[name].tobytes() == value.tobytes()
    print("done")


def check_loss():
    """The last process is killed between two sums."""
    mesh = sharding.mesh()
    ones = sharding.spread(np.ones((len(mesh.local_devices), 3)), mesh)
    start = time.monotonic()
    with processes.guard():
        for number in range(100_000):
            jax.block_until_ready(total(mesh)(ones))
            if number == 5 and not sharding.is_leader():
                os.kill(os.getpid(), signal.SIGKILL)
            assert time.monotonic() < start + 60


def main(part, *arguments):
    try:
        if arguments:
            coordinator, *place = arguments
            count, process = (int(place[0]), int(place[1])) if place else (None, None)
            processes.use_cpu_devices(2)
            processes.join(coordinator, count, process, timeout=float(place[2]) if len(place) > 2 else 60)
        {"devices": check_devices, "processes": check_processes, "loss": check_loss}[part]()
    except FedmetaError as error:
        print(type(error).__name__, error)
        sys.stdout.flush()
        os._exit(1)


if __name__ == "__main__":
    main(*sys.argv[1:])
