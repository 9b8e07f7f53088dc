"""What the disk has damaged is not gone on with: it is taken or fetched again."""

from dataclasses import replace

import pytest

from fedmeta.node.reducer import actions as act
from fedmeta.node.reducer import events as ev
from fedmeta.node.reducer import step
from fedmeta.node.reducer.promises import ResultPromise
from tests.node.reducer.test_step import APPROVAL, begun, duties, look_at


@pytest.fixture(scope="module")
def compute():
    return look_at("compute")


def start(compute, **options):
    """Return the memory of a seat that has promised no result yet, and what it does."""
    world, view = compute
    promises = [one for one in world.hosts["s0"].disk.promises() if not isinstance(one, ResultPromise)]
    return begun(replace(view, attestations={}), *promises, **options)


def held(view):
    return {(one.origin, one.member) for one in view.updates.values()}


def test_a_lost_update_is_fetched_and_then_the_round_is_computed(compute):
    memory, actions = start(compute, updates=held(compute[1]))
    assert duties(actions, act.Aggregate)
    memory, actions = step(memory, ev.Lost(updates=frozenset([(1, "c0")])))
    (again,) = duties(actions, act.Pull)
    assert again.member == "c0"
    assert not duties(actions, act.Aggregate)
    (number,) = [one.number for one in actions if isinstance(one.duty, act.Pull)]
    memory, actions = step(memory, ev.Done(1, number))
    assert duties(actions, act.Aggregate)


def test_a_lost_model_is_fetched_and_then_the_round_is_computed(compute):
    model = compute[1].round.model
    memory, _ = start(compute, updates=held(compute[1]))
    memory, actions = step(memory, ev.Lost(models=frozenset([model])))
    assert [one.model for one in duties(actions, act.FetchModel)] == [model]
    (number,) = [one.number for one in actions if isinstance(one.duty, act.FetchModel)]
    _, actions = step(memory, ev.Done(1, number))
    assert duties(actions, act.Aggregate)


def test_what_is_lost_at_the_gate_is_pulled_from_a_seat_that_holds_it(compute):
    memory, _ = start(compute, updates=held(compute[1]) - {(1, "c0")}, approvals=())
    memory, _ = step(memory, ev.Arrived(1, "c0"))
    memory, actions = step(memory, ev.Approved(APPROVAL))
    assert [one.member for one in duties(actions, act.Take)] == ["c0"]
    _, actions = step(memory, ev.Lost(arrived=frozenset([(1, "c0")])))
    assert [one.member for one in duties(actions, act.Pull)] == ["c0"]
