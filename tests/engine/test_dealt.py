"""A round whose clients are dealt to devices and processes is the round of one device, memories of clients included."""

import json
import subprocess
import sys

import jax
import numpy as np
import pytest

from tests import toys
from tests.engine import dealt
from tests.engine.test_devices import LOOPBACK, ROOT, free_port
from tests.examples import in_soak


def start(*words):
    # Here the program is watched, not measured: the suite's own flags hold there as well.
    command = [sys.executable, "-m", "tests.engine.dealt", *map(str, words)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(*processes):
    """Wait for all of them, each of which compiles a dozen rounds; say what one that failed has said."""
    try:
        said = [process.communicate(timeout=400)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    for err, process in zip(said, processes, strict=True):
        assert process.returncode == 0, err


@pytest.fixture(scope="module")
def of_one_process(tmp_path_factory):
    out = tmp_path_factory.mktemp("devices")
    finish(start("devices", out))
    return out


@pytest.fixture(scope="module")
def of_two_processes(tmp_path_factory):
    out = tmp_path_factory.mktemp("together")
    address = f"{LOOPBACK}:{free_port()}"
    finish(*(start("together", out, address, 2, place) for place in range(2)))
    return out


def load(folder, case, count):
    with np.load(folder / f"{case} {count}.npz") as file:
        return dict(file)


def check(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-9, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("count", dealt.COUNTS)
@pytest.mark.parametrize("case", dealt.CASES)
def test_several_devices_give_what_one_gives(case, count, of_one_process):
    expected = load(of_one_process, case, 1)
    assert any(name.startswith("memory") for name in expected) is ("memory" in case)
    check(load(of_one_process, case, count), expected)


@in_soak
@pytest.mark.parametrize("case", dealt.CASES)
def test_two_processes_give_what_one_device_gives(case, of_one_process, of_two_processes):
    check(load(of_two_processes, case, 2), load(of_one_process, case, 1))


def test_no_device_ever_holds_all_updates_for_a_rule_by_columns(of_one_process):
    """A rule by columns has a quarter of each array of all clients; a rule on whole updates shows what else is seen."""
    exchanged = json.loads((of_one_process / "exchanged.json").read_text())
    largest = max(leaf.size for leaf in jax.tree.leaves(dealt.MODEL.init(jax.random.key(0))))
    for case, (_, _, aggregator) in dealt.CASES.items():
        names, most = exchanged[case]
        if aggregator.needs == "columns":
            assert "all_to_all" in names
            assert 1 <= most <= -(-largest // 4)
        elif aggregator.needs == "updates":
            assert "all_gather" in names
            assert most >= largest
        else:
            assert not {"all_to_all", "all_gather"} & set(names)
            # Of the eight numbers that are kept of twenty, at most.
            assert most <= 1
    assert largest == toys.FEATURES * 4
