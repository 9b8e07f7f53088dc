"""Several processes that work on one run: how they join, and how they notice that one of them has ended."""

import ipaddress
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np

from fedmeta._engine import sharding
from fedmeta.errors import ProcessLost, RunError, UsageError

AUTO = "auto"
"""Stands for the coordinator's address where the cluster's variables give it."""

_DAY = 24 * 3600
_NO_PROXY = "no_grpc_proxy"
_LOST = ("Gloo ", "NCCL", "oordination service", "oordinationService", "distributed service")


def use_cpu_devices(count: int) -> None:
    """Give this process this many CPU devices, which work at the same time.

    Raises:
        UsageError: `count` is below 1, or JAX has started with another number.
    """
    if count < 1:
        raise UsageError(f"CPU devices must be at least 1, not {count}")
    try:
        jax.config.update("jax_num_cpu_devices", count)
    except RuntimeError:
        raise UsageError(f"CPU devices must be set to {count} before JAX computes anything; it has computed") from None


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
        coordinator: HOST:PORT, where process 0 listens and the others find it; or "auto", which takes all
            three values from SLURM, Open MPI or Kubernetes.
        processes: how many there are.
        process: the number of this process, from 0.
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
            raise UsageError(f"coordinator {coordinator} needs the number of processes and the number of this process")
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
        use_cpu_devices(cpu_devices)
    # Otherwise JAX treats SIGTERM as a notice only, and only SIGKILL ends the process.
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
            "start every process, each with its own number, and with the same address and number of processes"
        ) from None
    except (RuntimeError, ValueError) as error:
        raise _refusal(error, coordinator) from error
    _meet()


@contextmanager
def guard() -> Iterator[None]:
    """Turn what JAX raises here when another process has ended into a `ProcessLost`.

    Raises:
        ProcessLost: another process of the run has ended, or cannot be reached.
    """
    try:
        yield
    except (RuntimeError, ValueError) as error:
        if not (sharding.several() and any(word in str(error) for word in _LOST)):
            raise
        reason = " ".join(str(error).split())[:200]
        raise ProcessLost(f"another process of the run has ended, or cannot be reached ({reason})") from error


def _meet() -> None:
    """Let the devices of all processes connect, so that a failure shows here and not later."""
    with _quiet_output():
        try:
            everywhere = sharding.mesh()
            # XLA's own processes connect when they first exchange something.
            ones = sharding.spread(np.ones(len(everywhere.local_devices), np.int32), everywhere)
            found = int(sharding.to_host(sharding.sum_over_devices(everywhere)(ones)))
        except (RuntimeError, ValueError) as error:
            raise ProcessLost(
                f"the processes have joined, but cannot exchange arrays: {' '.join(str(error).split())[:300]}. "
                "The name of each host must resolve to an address that the other hosts can reach"
            ) from error
    if found != everywhere.size:
        raise RunError(f"the processes have joined, but a sum over {everywhere.size} devices gives {found}")


@contextmanager
def _quiet_output() -> Iterator[None]:
    """Drop what native code writes to standard output, where only results belong (gloo prints a greeting)."""
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
    """Call a function that may block in native code, where no timeout and no Ctrl-C has any effect.

    Raises:
        TimeoutError: it has not returned in time; it continues in its thread.
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
        return UsageError("this process has joined a run already, and can join only one")
    if coordinator == AUTO and isinstance(error, ValueError):
        return UsageError(
            "coordinator auto finds neither SLURM, Open MPI nor Kubernetes here "
            f"({text.rstrip('.')}); give HOST:PORT, the number of processes and the number of this process"
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
    """Keep gRPC from asking the environment's proxy for the coordinator, which would wait for ever."""
    known = os.environ.get(_NO_PROXY, "")
    os.environ[_NO_PROXY] = f"{known},{host}".strip(",")
    jax.config.update("jax_check_proxy_envs", False)


def _check_free(host: str, port: int) -> None:
    """Raise a RunError if process 0 cannot listen: JAX would crash, or share the port with another program."""
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
    """Wait until somebody listens there: JAX alone would abort the process with a stack trace."""
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
