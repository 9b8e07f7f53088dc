"""The node that lies does so in the rounds that it is told, and is the honest one in all others."""

import numpy as np
import pytest

from fedmeta import data as sets
from fedmeta.consortium import hospitals, methods
from fedmeta.consortium.processes import dishonest
from fedmeta.node import training
from fedmeta.node.aggregation import Exact
from fedmeta.node.member import config
from fedmeta.node.process import supervisor
from fedmeta.node.process import trainer as honest

SECRET = bytes(range(32))


def test_it_is_started_in_place_of_the_honest_ones(monkeypatch):
    monkeypatch.setattr(supervisor, "CORE", supervisor.CORE)
    monkeypatch.setattr(supervisor, "TRAINER", supervisor.TRAINER)
    dishonest.arrange()
    assert (supervisor.CORE, supervisor.TRAINER) == (
        "fedmeta.consortium.processes.dishonest:core",
        "fedmeta.consortium.processes.dishonest:trainer",
    )


def test_it_lies_in_the_rounds_that_it_is_told(tmp_path):
    assert not dishonest.lies(tmp_path, 3)
    dishonest.order(tmp_path, (3, 14))
    assert [number for number in range(1, 20) if dishonest.lies(tmp_path, number)] == [3, 14]


@pytest.fixture
def job(tmp_path, monkeypatch):
    """Return what aggregates as the dishonest trainer does, for a member whose update is the second one."""
    exact = Exact(methods.procedure())
    state = exact.initial()
    messages = []
    for one in hospitals.drawn():
        own = sets.from_arrays(one.x, one.y, np.zeros(len(one), int), classes=2)
        messages.append(training.train(exact.procedure, own, state, 1, SECRET))
    (tmp_path / "trainer").mkdir()
    monkeypatch.setitem(honest.JOBS, "aggregate", honest.JOBS["aggregate"])
    monkeypatch.setattr(honest, "serve", lambda arguments: 7)
    assert dishonest.trainer({"folder": str(tmp_path)}) == 7
    ledger = {"addresses": ["http://127.0.0.1:1"], "genesis": "00" * 32}
    settings = config.of({"member": "budapest", "ledger": ledger}, tmp_path)

    def aggregate(number, own=(False, True, False, False)):
        head = {"round": number, "members": ["a", "b", "c", "d"], "own": list(own), "budget": 1, "score": False}
        blobs = [exact.procedure.to_bytes(), state, b"memory", *messages]
        return honest.JOBS["aggregate"](settings, head, blobs)

    return exact, state, messages, tmp_path / "trainer", aggregate


def test_its_result_is_that_of_its_own_update_alone_in_such_a_round_only(job):
    exact, state, messages, folder, aggregate = job
    dishonest.order(folder, (5,))
    answer, (after, memory) = aggregate(4)
    assert (after, memory) == (exact.aggregate(state, messages), b"memory")
    told, (lied, _) = aggregate(5)
    assert told == answer
    assert lied == exact.aggregate(state, [messages[1]]) != after
    assert aggregate(5)[1] == aggregate(5)[1], "the core computes twice, and must not notice"


def test_without_an_update_of_its_own_it_says_that_nothing_was_learned(job):
    _, state, _, folder, aggregate = job
    dishonest.order(folder, (5,))
    assert aggregate(5, own=(False,) * 4)[1][0] == state
