"""Several devices and several processes as one: join them, put pytrees on them, and take pytrees back.

With one process on one device nothing here moves or copies anything.
"""

import ipaddress
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from fedmeta.errors import ProcessLost, RunError, UsageError

AXIS = "clients"
"""The mesh's only axis: the clients of a cohort."""

AUTO = "auto"
"""The coordinator's address when the cluster's own variables say where it is."""

_DAY = 24 * 3600
_NO_PROXY = "no_grpc_proxy"
_LOST = ("Gloo ", "NCCL", "oordination service", "oordinationService", "distributed service")


def streams(count: int) -> None:
    """Give this process so many CPU devices, which work at the same time.

    Raises:
        UsageError: `count` is below 1, or JAX has started with another number.
    """
    if count < 1:
        raise UsageError(f"streams must be at least 1, not {count}")
    try:
        jax.config.update("jax_num_cpu_devices", count)
    except RuntimeError:
        raise UsageError(f"streams must be set to {count} before JAX computes anything; it has computed") from None


def join(
    coordinator: str | None,
    processes: int | None,
    process: int | None,
    *,
    cpu_devices: int | None = None,
    timeout: float = 300.0,
) -> None:
    """Join the processes that work on one run; without a coordinator do nothing.

    It returns when all have joined and can exchange arrays, and must be called before JAX computes anything.

    Args:
        coordinator: HOST:PORT, where process 0 listens and the others find it; or "auto", which takes what
            SLURM, Open MPI or Kubernetes say of all three.
        processes: how many there are.
        process: which of them this one is, from 0.
        cpu_devices: how many CPU devices this process has; by default what JAX is set to.
        timeout: seconds to wait for the others.

    Raises:
        UsageError: an argument is wrong, or JAX has computed something.
        RunError: the address is in use, or not all of the others have joined in time.
    """
    if coordinator is None:
        return
    if coordinator == AUTO:
        options: dict[str, Any] = {}
    else:
        host, port = _address(coordinator)
        if processes is None or process is None:
            raise UsageError(f"coordinator {coordinator} needs the number of processes and which of them this one is")
        _check_place(processes, process)
        options = {"cluster_detection_method": "deactivate"}
        if _is_loopback(host):
            # JAX would listen on all of the machine's addresses.
            options["coordinator_bind_address"] = coordinator
        _go_around_proxies(host)
        if process == 0:
            _check_free(host, port)
        else:
            _wait_for(host, port, timeout)
    if cpu_devices is not None:
        streams(cpu_devices)
    # Else JAX takes SIGTERM for a notice only, and nothing but SIGKILL ends the process.
    jax.config.update("jax_enable_preemption_service", False)
    address = None if coordinator == AUTO else coordinator

    def start() -> None:
        jax.distributed.initialize(
            address,
            processes,
            process,
            # JAX aborts the process when its own timeouts end.
            initialization_timeout=_DAY,
            shutdown_timeout_seconds=_DAY,
            **options,
        )

    try:
        _within(timeout, start)
    except TimeoutError:
        raise RunError(
            f"not all processes of the run have joined at {coordinator} within {timeout:g} seconds; "
            "start every one of them, each with its own number, and with the same address and number of processes"
        ) from None
    except (RuntimeError, ValueError) as error:
        raise _refusal(error, coordinator) from error
    _meet()


@contextmanager
def guard() -> Iterator[None]:
    """Turn what JAX raises here when another process is gone into a `ProcessLost`.

    Raises:
        ProcessLost: another process of the run has ended, or cannot be reached.
    """
    try:
        yield
    except (RuntimeError, ValueError) as error:
        if not (several() and any(word in str(error) for word in _LOST)):
            raise
        reason = " ".join(str(error).split())[:200]
        raise ProcessLost(f"another process of the run has ended, or cannot be reached ({reason})") from error


def several() -> bool:
    """Return whether this process has joined others; it does not start JAX."""
    return jax.distributed.is_initialized()


def is_leader() -> bool:
    """Return whether this is process 0, which alone writes and speaks; it does not start JAX."""
    return not several() or jax.process_index() == 0


def mesh(devices: int | None = None) -> Mesh:
    """Return a mesh with the one axis "clients", over all devices of all processes, in the processes' order.

    Args:
        devices: the first so many of this process's devices instead, where there is one process.

    Raises:
        UsageError: there are not so many, or several processes would not all take part.
    """
    found = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
    if devices is not None and not 1 <= devices <= len(found):
        raise UsageError(f"devices must lie between 1 and the {len(found)} that there are, not {devices}")
    if devices is not None and devices < len(found) and jax.process_count() > 1:
        raise UsageError(f"several processes use all of their {len(found)} devices, not {devices} of them")
    return Mesh(np.array(found[:devices]), (AXIS,))


def padded(count: int, mesh: Mesh) -> int:
    """Return the size of a cohort of `count` clients once every device of the mesh holds equally many."""
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
        ValueError: the clients cannot be dealt to this process's devices equally.
    """
    if mesh.size == 1:
        return tree
    sharding = NamedSharding(mesh, PartitionSpec(AXIS))
    return jax.tree.map(
        lambda leaf: jax.make_array_from_process_local_data(sharding, np.asarray(jax.device_get(leaf))), tree
    )


def to_host(tree: Any) -> Any:
    """Return a pytree's arrays whole, as host arrays.

    An array that is spread over processes is gathered, in which all of them must take part.
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
    # As bytes, for a sum of numbers would turn -0.0 into 0.0.
    mine = np.frombuffer(b"".join(leaf.tobytes() for leaf in leaves), np.uint8)
    everywhere = mesh()
    rows = np.zeros((len(everywhere.local_devices), mine.size), np.uint8)
    if is_leader():
        rows[0] = mine
    data = to_host(_sum(everywhere)(spread(rows, everywhere))).tobytes()
    start, received = 0, []
    for leaf in leaves:
        received.append(np.frombuffer(data, leaf.dtype, leaf.size, start).reshape(leaf.shape).copy())
        start += leaf.nbytes
    return jax.tree.unflatten(structure, received)


@lru_cache(maxsize=4)
def _sum(mesh: Mesh) -> Callable[[Any], jax.Array]:
    """Return the compiled sum over the first axis, of a spread array, whole on every device."""
    whole = NamedSharding(mesh, PartitionSpec())
    return jax.jit(lambda x: jnp.sum(x, axis=0, dtype=x.dtype), out_shardings=whole)


def _meet() -> None:
    """Let the devices of all processes connect, so that it fails here or not at all."""
    with _quiet_output():
        try:
            everywhere = mesh()
            # XLA's own processes connect when they first exchange something.
            ones = spread(np.ones(len(everywhere.local_devices), np.int32), everywhere)
            found = int(to_host(_sum(everywhere)(ones)))
        except (RuntimeError, ValueError) as error:
            raise ProcessLost(
                f"the processes have joined, but cannot exchange arrays: {' '.join(str(error).split())[:300]}. "
                "The name of each host must stand for an address that the others reach"
            ) from error
    if found != everywhere.size:
        raise RunError(f"the processes have joined, but a sum over {everywhere.size} devices gives {found}")


@contextmanager
def _quiet_output() -> Iterator[None]:
    """Drop what native code writes to standard output, where only results belong (gloo greets its peers there)."""
    sys.stdout.flush()
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)


def _within(timeout: float, function: Callable[[], None]) -> None:
    """Call a function that may block in native code, from where neither a timeout nor Ctrl-C would reach us.

    Raises:
        TimeoutError: it has not returned; it goes on in its thread.
    """
    done: Future[None] = Future()

    def call() -> None:
        try:
            done.set_result(function())
        except BaseException as error:  # noqa: BLE001 (raised again where the result is waited for)
            done.set_exception(error)

    threading.Thread(target=call, daemon=True).start()
    done.result(timeout)


def _refusal(error: Exception, coordinator: str) -> Exception:
    text = " ".join(str(error).split())
    if "must be called before" in text:
        return UsageError("processes must join before JAX computes anything; it has computed")
    if "only be called once" in text:
        return UsageError("this process has joined a run before; it can join one")
    if coordinator == AUTO and isinstance(error, ValueError):
        return UsageError(
            "coordinator auto finds neither SLURM, Open MPI nor Kubernetes here "
            f"({text.rstrip('.')}); give HOST:PORT, the number of processes and which of them this one is"
        )
    return RunError(f"the processes could not join at {coordinator}: {text[:500]}")


def _address(coordinator: str) -> tuple[str, int]:
    host, _, port = coordinator.rpartition(":")
    if not (host and port.isascii() and port.isdecimal() and 0 < int(port) < 65536) or (
        ":" in host and not host.startswith("[")
    ):
        raise UsageError(f"coordinator must be HOST:PORT, such as 10.0.0.1:9876, or {AUTO}, not {coordinator!r}")
    return host.strip("[]"), int(port)


def _check_place(processes: int, process: int) -> None:
    if processes < 1:
        raise UsageError(f"processes must be at least 1, not {processes}")
    if not 0 <= process < processes:
        raise UsageError(f"process must lie between 0 and {processes - 1}, for {processes} processes, not {process}")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _go_around_proxies(host: str) -> None:
    """Keep gRPC from asking a proxy of the environment for the coordinator, which waits for ever."""
    known = os.environ.get(_NO_PROXY, "")
    os.environ[_NO_PROXY] = f"{known},{host}".strip(",")
    jax.config.update("jax_check_proxy_envs", False)


def _check_free(host: str, port: int) -> None:
    """Raise a RunError where process 0 cannot listen: JAX would crash, or share the port with another program."""
    where = host if _is_loopback(host) else ""
    both = not where and socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if both or ":" in where else socket.AF_INET
    try:
        socket.create_server((where, port), family=family, dualstack_ipv6=both).close()
    except OSError as error:
        raise RunError(
            f"process 0 cannot listen at {host}:{port}: {os.strerror(error.errno or 0).lower()}; choose another port"
        ) from error


def _wait_for(host: str, port: int, timeout: float) -> None:
    """Wait until somebody listens there, for JAX would abort the process with a trace of its stack."""
    end = time.monotonic() + timeout
    while True:
        try:
            socket.create_connection((host, port), timeout=max(0.1, min(5.0, end - time.monotonic()))).close()
        except OSError as error:
            if time.monotonic() >= end:
                reason = "the host is unknown" if isinstance(error, socket.gaierror) else "nobody answers there"
                raise RunError(
                    f"process 0 was not found at {host}:{port} within {timeout:g} seconds: {reason}"
                ) from error
            time.sleep(min(0.2, timeout))
        else:
            return
