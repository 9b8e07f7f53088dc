"""A run that was interrupted and goes on gives bit for bit what an uninterrupted run gives."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import optax
import pytest

import fedmeta as fm
from fedmeta import pytrees
from fedmeta.errors import CheckpointError
from fedmeta.simulation import memory
from tests import interrupted_run, toys
from tests.examples import TIMES, cells

ROOT = Path(__file__).parents[1]
ALGORITHM = fm.MAML(inner_lr=0.2)
SERVER = optax.adam(0.01)
DATA = toys.classification((8, 8, 8, 6, 6))


def contents(folder):
    """What a run leaves: its result and checkpoint as bytes, and its history without the wall time."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for row in rows:
        assert row.pop("seconds") >= 0
    return (
        (folder / "model.safetensors").read_bytes(),
        (folder / "checkpoint" / "state.safetensors").read_bytes(),
        (folder / "run.toml").read_text(),
        rows,
    )


def train(model, folder, rounds=5, **options):
    return fm.train(
        ALGORITHM,
        model,
        DATA,
        **{"rounds": rounds, "cohort_size": 2, "server": SERVER, "support": 0.5, "checkpoint_every": 2, **options},
        directory=folder,
    )


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, model):
    folder = tmp_path_factory.mktemp("uninterrupted")
    return train(model, folder), contents(folder)


@pytest.fixture(scope="module")
def never_killed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("never killed")
    interrupted_run.run(folder)
    return contents(folder)


@pytest.mark.parametrize("point", cells([*interrupted_run.POINTS][1:2], [*interrupted_run.POINTS]))
def test_a_killed_process_loses_nothing_that_it_does_not_find_again(point, never_killed, tmp_path):
    dead = subprocess.run([sys.executable, "-m", "tests.interrupted_run", str(tmp_path), point], cwd=ROOT, check=False)
    assert dead.returncode == -signal.SIGKILL
    left = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert 3 <= len(left) <= interrupted_run.ROUNDS
    assert (tmp_path / "model.safetensors").exists() is False
    resumed = interrupted_run.run(tmp_path)
    assert contents(tmp_path) == never_killed
    assert resumed.history.num_rows == interrupted_run.ROUNDS


KEEPING = [
    ("error feedback", "in the program of round 4"),
    ("error feedback", "in the middle of a row that a client keeps"),
    ("FedPer", "between the program and the row of round 5"),
    ("FedPer", "between the new file of rows and its checkpoint"),
    ("SCAFFOLD", "before the checkpoint of round 4 is renamed"),
    ("SCAFFOLD", "before the result is renamed"),
]


@pytest.fixture(scope="module")
def with_memory(tmp_path_factory):
    """What a run of a kind leaves that nobody kills, the files of what clients keep included."""
    done = {}

    def leaves(kind):
        if kind not in done:
            folder = tmp_path_factory.mktemp(kind)
            run = interrupted_run.run(folder, kind)
            done[kind] = contents(folder), kept(folder), run.state
        return done[kind]

    return leaves


def kept(folder):
    return {path.name: path.read_bytes() for path in (folder / "memory").iterdir()}


@pytest.mark.parametrize(("kind", "point"), cells(KEEPING[-1:], KEEPING))
def test_a_killed_process_loses_nothing_that_its_clients_keep(kind, point, with_memory, tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "SLACK", -(1 << 30))
    expected = with_memory(kind)
    assert any(expected[1].values()), "something is kept"
    command = [sys.executable, "-m", "tests.interrupted_run", str(tmp_path), point, kind]
    dead = subprocess.run(command, cwd=ROOT, check=False)
    assert dead.returncode == -signal.SIGKILL
    run = interrupted_run.run(tmp_path, kind)
    assert (contents(tmp_path), kept(tmp_path)) == expected[:2]
    assert toys.same_bits(run.state, expected[2])


@pytest.mark.parametrize("damage", ["short", "gone"])
def test_what_clients_keep_is_missed_where_it_is_damaged(damage, tmp_path):
    interrupted_run.run(tmp_path, "FedPer")
    (file,) = (tmp_path / "memory").iterdir()
    file.write_bytes(file.read_bytes()[:-1]) if damage == "short" else file.unlink()
    with pytest.raises(CheckpointError, match=rf"{file.name} is damaged"):
        interrupted_run.run(tmp_path, "FedPer")


@pytest.mark.parametrize("first", [1, 3])
def test_more_rounds_later_are_as_good_as_at_once(first, model, uninterrupted, tmp_path):
    assert train(model, tmp_path, rounds=first).history.num_rows == first
    run = train(model, tmp_path)
    assert contents(tmp_path) == uninterrupted[1]
    assert toys.same_bits(run.state, uninterrupted[0].state)
    assert run.history.drop_columns("seconds").equals(uninterrupted[0].history.drop_columns("seconds"))


@pytest.mark.parametrize("stop", [1, 3, 5])
def test_an_interrupt_keeps_every_round_that_was_told(stop, model, uninterrupted, tmp_path):
    def interrupt(event):
        if isinstance(event, fm.events.RoundEnded) and event.round == stop:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(model, tmp_path, listeners=[interrupt])
    kept = pytrees.load_metadata(tmp_path / "checkpoint" / "state.safetensors")
    assert kept == {"round": stop}
    train(model, tmp_path)
    assert contents(tmp_path) == uninterrupted[1]


def test_a_run_that_is_done_stays_as_it_is(model, uninterrupted, tmp_path):
    train(model, tmp_path)
    events = []
    train(model, tmp_path, listeners=[events.append])
    assert [type(event).__name__ for event in events] == ["RunStarted", "RunEnded"]
    assert events[0].done == 5
    assert contents(tmp_path) == uninterrupted[1]


def test_the_folder_makes_no_difference_to_the_result(model, uninterrupted):
    assert toys.same_bits(train(model, None).state, uninterrupted[0].state)


def test_a_row_cut_off_while_it_was_written_is_dropped(model, uninterrupted, tmp_path):
    train(model, tmp_path, rounds=2)
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"round": 3, "lo')
    train(model, tmp_path)
    assert contents(tmp_path) == uninterrupted[1]


def test_rows_past_the_checkpoint_are_run_again(model, uninterrupted, tmp_path):
    train(model, tmp_path, rounds=2)
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"round": 3, "loss": 99.0}\n')
    train(model, tmp_path)
    assert contents(tmp_path) == uninterrupted[1]


def test_fewer_rounds_than_are_done_are_refused_and_the_run_stays_as_it_is(model, uninterrupted, tmp_path):
    train(model, tmp_path)
    with pytest.raises(fm.errors.UsageError, match="has 5 rounds done, more than the 3 that are asked for"):
        train(model, tmp_path, rounds=3)
    assert contents(tmp_path) == uninterrupted[1]


@pytest.mark.skipif(not TIMES, reason="compiled as users do, which takes long: a part of `make soak`")
def test_what_users_run_resumes_bit_for_bit_too(tmp_path):
    """With the compiler's own settings, which the rest of this suite does not use, and a process for each part."""
    as_users = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}

    def fedmeta(*words):
        command = [sys.executable, "-m", "fedmeta", *map(str, words)]
        done = subprocess.run(command, env=as_users, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    digits = ("train", "--data", "digits", "--algorithm", "maml", "--model", "softmax_regression")
    digits = (*digits, "--baselines", "none")
    fedmeta(*digits, "--validate-every", 3, "--rounds", 6, "--out", tmp_path / "whole")
    fedmeta(*digits, "--validate-every", 3, "--rounds", 3, "--out", tmp_path / "parts")
    fedmeta("resume", tmp_path / "parts", "--rounds", 6)
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")
