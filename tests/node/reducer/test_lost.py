"""What the disk has damaged is not gone on with: it is taken or fetched again."""

from dataclasses import replace

import pytest

from fedmeta.govern.wire import transactions as tx
from fedmeta.node.reducer import actions as act
from fedmeta.node.reducer import events as ev
from fedmeta.node.reducer import step
from fedmeta.node.reducer.promises import ResultPromise, UpdatePromise
from fedmeta.node.reducer.step import AT_ONCE
from fedmeta.node.simulated.ledger import RECIPE
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


def test_a_void_round_of_one_recipe_keeps_nothing_of_other_rounds_on_the_disk(compute):
    _, view = compute
    other = replace(view.recipes[RECIPE], digest=b"o" * 32, exposed=True)
    view = replace(view, recipes={**view.recipes, other.digest: other}, left_over=frozenset([3]))
    round = replace(view.round, number=9, scheduled=0)
    updates = {name: replace(one, round=9, origin=9) for name, one in view.updates.items()}
    view = replace(view, round=round, updates=updates, seals={}, holds={}, attestations={})
    promise = UpdatePromise(9, round.model, b"c" * 32, 32, b"s" * 32)
    digest = tx.update_digest(view.genesis, 9, "s0", promise.salt, promise.content)
    view = replace(view, updates={**updates, "s0": replace(updates["s0"], digest=digest)})
    _, actions = begun(view, promise, updates={(3, "c0"), (8, "c0"), (9, "c0")})
    assert duties(actions, act.Drop) == [act.Drop(9, frozenset([3, 9]))]


def test_room_that_has_come_free_is_used():
    world, view = look_at("deliver")
    promises = world.hosts["s0"].disk.promises()
    memory, _ = begun(view, *promises, limits=ev.Limits(room=0))
    assert not duties(step(memory, ev.Arrived(1, "c0"))[1], act.Take)
    memory, _ = step(memory, ev.Room(1 << 20))
    assert [one.member for one in duties(step(memory, ev.Arrived(1, "c0"))[1], act.Take)] == ["c0"]


def test_only_so_many_updates_are_opened_at_a_time():
    world, view = look_at("deliver", others=20)
    promises = world.hosts["s0"].disk.promises()
    memory, _ = begun(view, *promises, approvals=())
    for name in view.updates:
        memory, _ = step(memory, ev.Arrived(1, name))
    _, actions = step(memory, ev.Approved(APPROVAL))
    assert len(duties(actions, act.Take, act.Push, act.Pull)) == AT_ONCE
