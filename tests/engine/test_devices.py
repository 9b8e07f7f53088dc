"""Devices and processes. With one of each nothing moves; with several a sum is the sum, and a loss is an error."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from fedmeta._engine import processes, sharding
from fedmeta.errors import ProcessLost, RunError, UsageError

ROOT = Path(__file__).parents[2]
LOOPBACK = "127.0.0.1"


def start(part, *arguments, **variables):
    command = [sys.executable, "-m", "tests.engine.several", part, *map(str, arguments)]
    environment = {**os.environ, **{name: str(value) for name, value in variables.items()}}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=pipe, stderr=pipe, text=True)


def finish(*processes):
    """Return what each of them wrote, and its exit code."""
    try:
        return [(*process.communicate(timeout=90), process.returncode) for process in processes]
    finally:
        for process in processes:
            process.kill()


def free_port():
    with socket.create_server((LOOPBACK, 0)) as server:
        return server.getsockname()[1]


@pytest.fixture
def one():
    return sharding.mesh(1)


def test_one_device_moves_and_copies_nothing(one):
    tree = {"x": np.ones((3, 2)), "y": jax.numpy.zeros(4), "n": 5}
    for same in (sharding.replicate(tree, one), sharding.spread(tree, one), sharding.broadcast(tree)):
        assert same is tree
    assert sharding.share(7, one) == slice(0, 7)
    assert sharding.padded(7, one) == 7
    assert sharding.is_leader()
    assert not sharding.several()
    host = sharding.to_host(tree)
    assert host["x"] is tree["x"]
    assert isinstance(host["y"], np.ndarray)


def test_without_a_coordinator_there_is_nobody_to_join():
    processes.join(None, None, None)
    assert not sharding.several()


def test_a_mesh_has_the_devices_that_there_are(one):
    assert one.axis_names == ("clients",)
    for count in (0, jax.device_count() + 1):
        with pytest.raises(UsageError, match=f"devices must lie between 1 and .* not {count}"):
            sharding.mesh(count)


WRONG = {
    "no port": (("10.0.0.1", 2, 0), "must be HOST:PORT, such as .* not '10.0.0.1'"),
    "no host": ((":9876", 2, 0), "must be HOST:PORT"),
    "a word for a port": (("host:http", 2, 0), "must be HOST:PORT"),
    "too large a port": (("host:65536", 2, 0), "must be HOST:PORT"),
    "a bare IPv6 address": (("::1:9876", 2, 0), "must be HOST:PORT"),
    "no number of processes": (("host:9876", None, 0), "needs the number of processes"),
    "no process": (("host:9876", 2, None), "needs the number of processes and the number of this process"),
    "no processes": (("host:9876", 0, 0), "processes must be at least 1, not 0"),
    "a process too many": (("host:9876", 2, 2), "process must lie between 0 and 1, for 2 processes, not 2"),
    "a process below none": (("host:9876", 2, -1), "process must lie between 0 and 1"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_place_is_refused_at_once(case):
    arguments, says = WRONG[case]
    with pytest.raises(UsageError, match=says):
        processes.join(*arguments)


def test_auto_needs_a_cluster(monkeypatch):
    for name in ("SLURM_JOB_ID", "OMPI_MCA_orte_hnp_uri", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("jax._src.xla_bridge.backends_are_initialized", lambda: False)
    with pytest.raises(UsageError, match="finds neither SLURM, Open MPI nor Kubernetes here"):
        processes.join("auto", None, None)


def test_after_a_computation_it_is_too_late():
    jax.numpy.zeros(1).block_until_ready()
    with pytest.raises(UsageError, match="must join before JAX computes anything"):
        processes.join(f"{LOOPBACK}:{free_port()}", 2, 0)
    with pytest.raises(UsageError, match="CPU devices must be set to 3 before JAX computes anything"):
        processes.use_cpu_devices(3)
    with pytest.raises(UsageError, match="CPU devices must be at least 1, not 0"):
        processes.use_cpu_devices(0)


def test_an_address_in_use_is_named():
    with socket.create_server((LOOPBACK, 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(RunError, match=f"process 0 cannot listen at {LOOPBACK}:{port}: address already in use"):
            processes.join(f"{LOOPBACK}:{port}", 2, 0)


def test_a_coordinator_that_nobody_started_is_not_waited_for_for_ever():
    address = f"{LOOPBACK}:{free_port()}"
    with pytest.raises(RunError, match=f"process 0 was not found at {address} within 0.3 seconds: nobody answers"):
        processes.join(address, 2, 1, timeout=0.3)


def test_an_error_that_is_not_of_another_process_stays_what_it_is(monkeypatch):
    with pytest.raises(ValueError, match="Gloo all-reduce failed"), processes.guard():
        raise ValueError("Gloo all-reduce failed, though there is one process")
    monkeypatch.setattr(sharding, "several", lambda: True)
    with pytest.raises(ValueError, match="of another kind"), processes.guard():
        raise ValueError("of another kind")
    with pytest.raises(ProcessLost, match="has ended, or cannot be reached"), processes.guard():
        raise ValueError("UNKNOWN: Gloo all-reduce failed")


def test_four_devices_of_one_process_hold_a_part_of_the_clients_each():
    ((out, err, code),) = finish(start("devices"))
    assert code == 0, err
    assert out == "CPU devices must be set to 2 before JAX computes anything; it has computed\n"


def by_hand(place, port):
    # A proxy that nobody reaches, as some clusters have for all but their own hosts.
    return start("processes", f"{LOOPBACK}:{port}", 2, place, http_proxy=f"http://{LOOPBACK}:9")


def under_slurm(place, port):
    job = {"SLURM_JOB_ID": 7, "SLURM_STEP_NODELIST": "localhost", "SLURM_NTASKS": 2}
    ours = {"JAX_COORDINATOR_PORT": port, "JAX_COORDINATOR_BIND_ADDRESS": f"{LOOPBACK}:{port}"}
    return start("processes", "auto", SLURM_PROCID=place, SLURM_LOCALID=place, **job, **ours)


@pytest.mark.parametrize("started", [by_hand, under_slurm])
def test_two_processes_sum_gather_and_hear_the_first_bit_for_bit(started):
    port = free_port()
    for out, err, code in finish(*(started(place, port) for place in range(2))):
        assert code == 0, err
        assert out == "done\n", "what native code greets its peers with is no result"


def test_a_process_that_is_killed_is_an_error_of_the_others():
    address = f"{LOOPBACK}:{free_port()}"
    (out, err, code), killed = finish(*(start("loss", address, 2, place) for place in range(2)))
    assert killed[2] == -signal.SIGKILL
    assert code == 1, err
    assert out.startswith("ProcessLost another process of the run has ended, or cannot be reached (")


def test_processes_that_do_not_come_are_not_waited_for_for_ever():
    address = f"{LOOPBACK}:{free_port()}"
    ((out, err, code),) = finish(start("processes", address, 2, 0, 1.5))
    assert code == 1, err
    assert out.startswith(f"RunError not all processes of the run have joined at {address} within 1.5 seconds")
