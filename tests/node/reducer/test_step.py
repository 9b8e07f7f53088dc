"""The reducer, step by step: what a node does, and above all what it does not."""

from dataclasses import replace

import pytest

from fedmeta.govern.state.records import Attestation, Hold, Seal
from fedmeta.govern.wire import transactions as tx
from fedmeta.govern.wire.parts import Window
from fedmeta.node.reducer import Memory, learn, promises_of, step
from fedmeta.node.reducer import actions as act
from fedmeta.node.reducer import events as ev
from fedmeta.node.reducer.promises import ResultPromise, SealPromise, Silence, Started, UpdatePromise, decode, encode
from fedmeta.node.reducer.seat import LOOKED_AT
from fedmeta.node.reducer.step import AT_ONCE, FIRST_WAIT, PATIENCE
from fedmeta.node.simulated.ledger import RECIPE
from fedmeta.node.simulated.world import World

APPROVAL = ev.Approval(RECIPE, 32, 64)


def look_at(phase, name="s0", number=1, **options):
    """Return what a member's node looks at when a round has come to a phase."""
    world = World(seed=2, **options)
    assert world.run(lambda: world.round is not None and world.round.number >= number and world.round.phase == phase)
    world.run(lambda: world.hosts[name].seen >= world.ledger.height)
    return world, world.hosts[name].memory.view


def begun(view, *promises, models=None, updates=(), approvals=(APPROVAL,), start=1, **options):
    """Return the memory of a node that has just been started, and what it does when it sees the ledger."""
    models = {view.round.model} if models is None else models
    # The rounds here began with the ledger: whether the journal has all that was said is another test's (`history`).
    options.setdefault("silent_until", min(view.round.scheduled + 1, view.height))
    event = ev.Start(start, tuple(promises), frozenset(models), frozenset(updates), tuple(approvals), **options)
    memory, first = step(Memory(view.me), event)
    assert not first
    return step(memory, ev.Seen(view))


def duties(actions, *kinds):
    return [one.duty for one in actions if not kinds or isinstance(one.duty, kinds)]


def only(actions, kind):
    (found,) = [one for one in actions if isinstance(one.duty, kind)]
    return found


def bodies(actions):
    return [one.duty.body for one in actions if isinstance(one.duty, act.Submit)]


@pytest.fixture(scope="module")
def commit():
    world = World(seed=2)
    assert world.run(lambda: world.round is not None and world.hosts["c0"].seen == world.ledger.height)
    return world.hosts["c0"].memory.view


@pytest.fixture(scope="module")
def deliver():
    return look_at("deliver")


@pytest.fixture(scope="module")
def compute():
    return look_at("compute")


@pytest.fixture(scope="module")
def reveal():
    return look_at("reveal")


# What leaves was promised before


def test_an_update_is_trained_promised_flushed_and_only_then_committed_to(commit):
    memory, actions = begun(commit)
    train = only(actions, act.Train)
    assert not bodies(actions)
    memory, actions = step(memory, ev.Done(1, train.number, (b"c" * 32, 32, b"s" * 32)))
    append = only(actions, act.Append)
    assert append.duty.promise == UpdatePromise(commit.round.number, commit.round.model, b"c" * 32, 32, b"s" * 32)
    assert not bodies(actions)
    memory, actions = step(memory, ev.Done(1, append.number))
    due = tx.update_digest(commit.genesis, commit.round.number, "c0", b"s" * 32, b"c" * 32)
    assert bodies(actions) == [tx.CommitUpdate(commit.round.number, due)]


def test_what_was_promised_before_a_crash_is_said_again_and_nothing_else(commit):
    promise = UpdatePromise(commit.round.number, commit.round.model, b"c" * 32, 32, b"s" * 32)
    _, actions = begun(commit, promise, updates={(commit.round.number, "c0")}, start=2)
    assert not duties(actions, act.Train, act.Append)
    due = tx.update_digest(commit.genesis, commit.round.number, "c0", b"s" * 32, b"c" * 32)
    assert bodies(actions) == [tx.CommitUpdate(commit.round.number, due)]


def test_a_seal_is_promised_before_it_is_signed(deliver):
    _, view = deliver
    view = replace(view, seals={})
    memory, actions = begun(view)
    append = next(one for one in actions if isinstance(one.duty, act.Append))
    assert append.duty.promise == SealPromise(view.round.number, view.closing)
    assert tx.Seal(view.round.number, view.closing) not in bodies(actions)
    _, actions = step(memory, ev.Done(1, append.number))
    assert tx.Seal(view.round.number, view.closing) in bodies(actions)


def test_after_a_failed_flush_there_is_nothing_but_a_halt(commit):
    memory, actions = begun(commit)
    memory, actions = step(memory, ev.Broken("the flush failed"))
    assert [type(one) for one in duties(actions) if not isinstance(one, act.Cancel)] == [act.Halt]
    memory, actions = step(memory, ev.Seen(replace(commit, height=commit.height + 1)))
    assert not actions
    assert memory.halted == "the flush failed"


def test_two_histories_halt_a_seat(deliver):
    _, view = deliver
    memory, actions = begun(replace(view, seals={}), SealPromise(view.round.number, b"o" * 32))
    assert "two histories" in only(actions, act.Halt).duty.why
    assert not bodies(actions)
    assert memory.halted


def test_every_kind_of_promise_is_read_as_it_was_written():
    some = (
        Started(3),
        UpdatePromise(1, b"m" * 32, b"c" * 32, 5, b"s" * 32),
        SealPromise(2, b"h" * 32),
        ResultPromise(2, 1, ("a", "b"), b"r" * 32, (1, 0), b"s" * 32),
        Silence(9),
    )
    assert tuple(decode(encode(one)) for one in some) == some


def test_a_journal_made_shorter_says_the_same(compute):
    _, view = compute
    number = view.round.number
    promises = (
        UpdatePromise(number, view.round.model, b"c" * 32, 5, b"s" * 32),
        SealPromise(number, view.closing),
        ResultPromise(number, 1, view.round.members, b"r" * 32, (0,) * 6, b"s" * 32),
        Silence(1),
    )
    memory, _ = begun(view, *promises)
    again, _ = begun(view, *promises_of(memory))
    assert (memory.own, memory.seals, memory.results) == (again.own, again.seals, again.results)
    assert memory.silent_until == again.silent_until >= 1


# Answers


def test_answers_to_an_earlier_start_and_to_nothing_are_ignored(commit):
    memory, actions = begun(commit, start=2)
    train = only(actions, act.Train)
    for start, number in ((1, train.number), (2, train.number + 100)):
        after, more = step(memory, ev.Done(start, number, (b"c" * 32, 32, b"s" * 32)))
        assert after == memory
        assert not more


def test_what_failed_is_tried_again_later_and_later(commit):
    memory, actions = begun(commit)
    waits = []
    for _ in range(4):
        number = only(actions, act.Train).number
        memory, actions = step(memory, ev.Failed(1, number, "no"))
        assert not duties(actions, act.Train)
        now = memory.now
        while not duties(actions, act.Train):
            memory, actions = step(memory, ev.Tick(memory.now + 100))
        waits.append(memory.now - now)
    assert waits == [FIRST_WAIT, 2 * FIRST_WAIT, 4 * FIRST_WAIT, 8 * FIRST_WAIT]


def test_what_was_sent_and_is_not_on_the_ledger_is_sent_again(commit):
    promise = UpdatePromise(commit.round.number, commit.round.model, b"c" * 32, 32, b"s" * 32)
    memory, actions = begun(commit, promise)
    memory, actions = step(memory, ev.Done(1, only(actions, act.Submit).number))
    assert not bodies(actions)
    memory, actions = step(memory, ev.Tick(PATIENCE - 1))
    assert not bodies(actions)
    _, actions = step(memory, ev.Tick(PATIENCE))
    assert len(bodies(actions)) == 1


def test_a_job_that_is_of_no_use_any_more_is_cancelled(commit, deliver):
    memory, actions = begun(commit)
    number = only(actions, act.Train).number
    later = replace(deliver[1], me="c0", organisation="org-c0", height=commit.height + 50, updates={})
    _, actions = step(memory, ev.Seen(later))
    assert act.Cancel(number) in duties(actions)


def test_a_block_that_was_seen_is_not_seen_again(commit):
    memory, _ = begun(commit)
    assert learn(memory, ev.Seen(replace(commit, height=commit.height - 1, round=None))) == memory


# No duty without an approval


@pytest.mark.parametrize("phase", ["commit", "deliver", "compute", "reveal"])
def test_without_an_approval_there_is_no_duty(phase, commit, deliver, compute, reveal):
    view = {"commit": commit, "deliver": deliver[1], "compute": compute[1], "reveal": reveal[1]}[phase]
    memory, actions = begun(view, approvals=())
    # A moment after a start what was approved may not have been looked at yet.
    assert not duties(actions)
    memory, _ = step(memory, ev.Tick(5))
    memory, actions = step(memory, ev.Tick(4 + LOOKED_AT))
    assert not duties(actions)
    _, actions = step(memory, ev.Tick(5 + LOOKED_AT))
    assert not [one for one in duties(actions) if not isinstance(one, act.Tell)]
    if phase != "commit":
        assert "nobody here has approved" in only(actions, act.Tell).duty.text


def test_an_approval_begins_duties_and_its_end_ends_them(commit):
    memory, _ = begun(commit, approvals=())
    memory, actions = step(memory, ev.Approved(APPROVAL))
    number = only(actions, act.Train).number
    _, actions = step(memory, ev.Revoked(RECIPE))
    assert duties(actions) == [act.Cancel(number)]


def test_a_member_that_only_aggregates_brings_nothing(commit):
    _, actions = begun(commit, approvals=(replace(APPROVAL, contributes=False),))
    assert not duties(actions)


def test_a_silent_node_says_and_promises_nothing_until_its_height(commit):
    memory, actions = begun(commit, silent_until=commit.height + 5)
    assert not actions
    _, actions = step(memory, ev.Seen(replace(commit, height=commit.height + 5)))
    assert duties(actions, act.Train)


def test_who_stops_begins_nothing(commit):
    memory, actions = begun(commit)
    memory, actions = step(memory, ev.Stop())
    memory, actions = step(memory, ev.Done(1, 1, (b"c" * 32, 32, b"s" * 32)))
    assert not [one for one in duties(actions) if not isinstance(one, act.Cancel)]


# An update goes out


def contributor_in(deliver, name="c0"):
    world, view = deliver
    promise = next(one for one in world.hosts[name].disk.promises() if isinstance(one, UpdatePromise))
    return replace(view, me=name, organisation=f"org-{name}", holds={}), promise


def test_bytes_leave_only_when_more_than_two_thirds_have_signed_the_header_that_is_seen(deliver):
    view, promise = contributor_in(deliver)
    number = view.round.number
    signed = {one.candidate: Seal(number, one.candidate, view.closing, b"k" * 32) for one in view.round.seats}
    two = dict(list(signed.items())[:2])
    for some, leaves in ((signed, True), (two, False), ({}, False)):
        _, actions = begun(replace(view, seals=some), promise, updates={(number, "c0")})
        assert bool(duties(actions, act.Push)) is leaves
    other = {name: replace(one, header=b"o" * 32) for name, one in signed.items()}
    _, actions = begun(replace(view, seals=other), promise, updates={(number, "c0")})
    assert not duties(actions, act.Push)


def test_an_update_goes_to_seats_with_a_third_of_the_power_and_later_to_all_that_lack_it(deliver):
    view, promise = contributor_in(deliver)
    number, seats = view.round.number, [one.candidate for one in view.round.seats]
    view = replace(view, seals={one: Seal(number, one, view.closing, b"k" * 32) for one in seats})
    _, actions = begun(view, promise, updates={(number, "c0")})
    first = {one.seat for one in duties(actions, act.Push)}
    assert view.power_of(first) * 3 > view.power
    assert len(first) < len(seats)
    half = (view.closes - view.round.opened) // 2
    late = replace(view, height=view.round.opened + half, holds={"s3": Hold(number, "s3", ("c0",))})
    _, actions = begun(late, promise, updates={(number, "c0")})
    assert {one.seat for one in duties(actions, act.Push)} == {"s0", "s1", "s2"}


def test_an_update_that_is_not_here_cannot_be_brought_and_that_is_said(deliver):
    view, promise = contributor_in(deliver)
    for promises, updates in (((), {(view.round.number, "c0")}), ((promise,), set())):
        _, actions = begun(view, *promises, updates=updates)
        assert not duties(actions, act.Push)
        assert "not on this machine" in only(actions, act.Tell).duty.text


def test_a_link_that_is_too_slow_takes_no_part(commit):
    slow = replace(commit, round=replace(commit.round, windows=(Window(20, 10_000),) * 4))
    big = replace(APPROVAL, message_bytes=10**6)
    _, actions = begun(slow, approvals=(big,), limits=ev.Limits(upload=1_000))
    assert not duties(actions, act.Train)
    assert "do not leave in time" in only(actions, act.Tell).duty.text
    _, actions = begun(slow, approvals=(big,), limits=ev.Limits(upload=10**6))
    assert duties(actions, act.Train)


def test_no_update_is_made_for_a_ledger_on_which_fewer_are_enough_than_the_policy_asks(commit):
    few = commit.round.smallest
    _, actions = begun(commit, approvals=(replace(APPROVAL, smallest=few + 1),))
    assert not duties(actions, act.Train)
    assert f"asks for {few + 1}" in only(actions, act.Tell).duty.text
    _, actions = begun(commit, approvals=(replace(APPROVAL, smallest=few),))
    assert duties(actions, act.Train)


def test_a_seat_computes_nothing_of_fewer_updates_than_its_aggregator_takes(compute):
    _, view = compute
    here = {(view.updates[one].origin, one) for one in view.round.members}
    view = replace(view, attestations={})
    _, actions = begun(view, updates=here, approvals=(replace(APPROVAL, takes=len(here) + 1),))
    assert not duties(actions, act.Aggregate)
    assert any("aggregator takes" in one.text for one in duties(actions, act.Tell))
    _, actions = begun(view, updates=here, approvals=(replace(APPROVAL, takes=len(here)),))
    assert duties(actions, act.Aggregate)


# Updates come in


def test_what_does_not_fit_on_the_disk_is_not_taken(deliver):
    _, view = deliver
    _, actions = begun(view, limits=ev.Limits(room=100))
    assert not duties(actions, act.Take, act.Pull)
    assert any("do not fit" in one.text for one in duties(actions, act.Tell))


def test_what_came_and_does_not_open_is_pulled_from_a_seat_that_holds_it(deliver):
    _, view = deliver
    number = view.round.number
    view = replace(view, holds={"s1": Hold(number, "s1", ("c0",))})
    memory, _ = begun(view)
    memory, actions = step(replace(memory, busy={}), ev.Arrived(number, "c0"))
    take = only(actions, act.Take)
    memory, actions = step(memory, ev.Failed(1, take.number, "not what was committed to", final=True))
    pull = only(actions, act.Pull)
    assert (pull.duty.member, pull.duty.source) == ("c0", "s1")
    memory, actions = step(memory, ev.Failed(1, pull.number, "not either", final=True))
    memory, actions = step(replace(memory, bad=frozenset()), ev.Tick(10**9))
    assert not [one for one in duties(actions, act.Take, act.Pull) if one.member == "c0"]


def test_where_it_did_not_open_is_asked_again_in_the_next_attempt(deliver):
    _, view = deliver
    number = view.round.number
    view = replace(view, holds={"s1": Hold(number, "s1", ("c0",))})
    memory, _ = begun(view)
    memory, actions = step(replace(memory, busy={}), ev.Arrived(number, "c0"))
    memory, actions = step(memory, ev.Failed(1, only(actions, act.Take).number, "no", final=True))
    memory, _ = step(memory, ev.Failed(1, only(actions, act.Pull).number, "no", final=True))
    later = replace(view, height=view.height + 1)
    _, actions = step(memory, ev.Seen(later))
    assert not [one for one in duties(actions, act.Take, act.Pull) if one.member == "c0"]
    again = replace(later, round=replace(view.round, attempt=2))
    _, actions = step(memory, ev.Seen(again))
    assert [one.member for one in duties(actions, act.Take)] == ["c0"]


def test_what_a_seat_holds_it_says_once_and_again_in_the_next_attempt(deliver):
    _, view = deliver
    number = view.round.number
    here = {(number, one) for one in ("c0", "c1")}
    view = replace(view, holds={})
    _, actions = begun(view, updates=here)
    assert tx.Hold(number, 1, ("c0", "c1")) in bodies(actions)
    said = replace(view, holds={"s0": Hold(number, "s0", ("c0", "c1"))})
    _, actions = begun(said, updates=here)
    assert not [one for one in bodies(actions) if isinstance(one, tx.Hold)]
    again = replace(view, round=replace(view.round, attempt=2))
    _, actions = begun(again, updates=here)
    assert tx.Hold(number, 2, ("c0", "c1")) in bodies(actions)


def test_only_so_many_transfers_are_under_way_at_a_time():
    _, view = look_at("deliver", others=12)
    number = view.round.number
    everyone = tuple(sorted(view.updates))
    view = replace(view, holds={"s1": Hold(number, "s1", everyone)})
    memory, actions = begun(view)
    assert len(duties(actions, act.Pull)) == AT_ONCE
    _, actions = step(memory, ev.Done(1, next(one.number for one in actions if isinstance(one.duty, act.Pull))))
    assert len(duties(actions, act.Pull)) == 1


# A result


def seat_in_compute(compute):
    _, view = compute
    updates = {(one.origin, one.member) for one in view.updates.values()}
    return replace(view, attestations={}), updates


def aggregate(memory, actions, *results):
    """Answer one computation after another."""
    for result in results:
        number = only(actions, act.Aggregate).number
        memory, actions = step(memory, ev.Done(1, number, (result, (0,) * 6, b"s" * 32)))
    return memory, actions


def test_a_result_is_computed_twice_promised_and_committed_to(compute):
    view, updates = seat_in_compute(compute)
    memory, actions = begun(view, updates=updates)
    assert only(actions, act.Aggregate).duty.members == view.round.members
    memory, actions = aggregate(memory, actions, b"r" * 32, b"r" * 32)
    append = only(actions, act.Append)
    assert not bodies(actions)
    memory, actions = step(memory, ev.Done(1, append.number))
    (attest,) = bodies(actions)
    assert attest.commitment == tx.commitment(view.genesis, view.round.number, 1, "s0", b"r" * 32, (0,) * 6, b"s" * 32)


def test_two_computations_that_differ_are_said_and_nothing_is_promised(compute):
    view, updates = seat_in_compute(compute)
    memory, actions = begun(view, updates=updates)
    _, actions = aggregate(memory, actions, b"r" * 32, b"q" * 32)
    assert not duties(actions, act.Append, act.Submit)
    assert "with two results" in only(actions, act.Tell).duty.text


def test_nothing_is_computed_before_all_that_is_in_is_here(compute):
    view, updates = seat_in_compute(compute)
    _, actions = begun(view, updates=set(list(updates)[1:]))
    assert not duties(actions, act.Aggregate)


def test_a_result_that_was_promised_for_other_updates_halts_a_seat(compute):
    view, updates = seat_in_compute(compute)
    promise = ResultPromise(view.round.number, 1, view.round.members[1:], b"r" * 32, (0,) * 5, b"s" * 32)
    _, actions = begun(view, promise, updates=updates)
    assert "other updates" in only(actions, act.Halt).duty.why


def opened(view, name, result):
    return Attestation(view.round.number, name, 1, b"c" * 32, 2, result, (0,) * 6, b"s" * 32)


def seat_in_reveal(reveal, others):
    _, view = reveal
    promise = ResultPromise(view.round.number, 1, view.round.members, b"r" * 32, (0,) * 6, b"s" * 32)
    mine = Attestation(view.round.number, "s0", 1, b"c" * 32, 0, b"", (), b"")
    attestations = {"s0": mine, **{name: opened(view, name, result) for name, result in others.items()}}
    updates = {(one.origin, one.member) for one in view.updates.values()}
    return begun(replace(view, attestations=attestations), promise, updates=updates)


def test_a_result_is_opened_where_nobody_contradicts(reveal):
    for others in ({}, {"s1": b"r" * 32, "s2": b"r" * 32}):
        _, actions = seat_in_reveal(reveal, others)
        (body,) = [one for one in bodies(actions) if isinstance(one, tx.Reveal)]
        assert (body.result, body.salt) == (b"r" * 32, b"s" * 32)


def test_one_that_contradicts_makes_it_compute_once_more_and_open_what_it_finds_again(reveal):
    memory, actions = seat_in_reveal(reveal, {"s1": b"q" * 32})
    assert not bodies(actions)
    _, actions = aggregate(memory, actions, b"r" * 32)
    assert [type(one) for one in bodies(actions)] == [tx.Reveal]


@pytest.mark.parametrize("found", [b"r", b"q"])
def test_more_than_a_third_that_contradict_make_it_withhold(reveal, found):
    memory, actions = seat_in_reveal(reveal, {"s1": b"q" * 32, "s2": b"q" * 32})
    assert not bodies(actions)
    _, actions = aggregate(memory, actions, found * 32)
    assert not bodies(actions)
    assert "withheld" in only(actions, act.Tell).duty.text


def test_a_computation_that_comes_out_otherwise_is_withheld_whoever_contradicts(reveal):
    memory, actions = seat_in_reveal(reveal, {"s1": b"q" * 32})
    _, actions = aggregate(memory, actions, b"q" * 32)
    assert not bodies(actions)


def test_what_is_not_in_the_journal_is_not_opened(reveal):
    _, view = reveal
    mine = Attestation(view.round.number, "s0", 1, b"c" * 32, 0, b"", (), b"")
    _, actions = begun(replace(view, attestations={"s0": mine}))
    assert not [one for one in bodies(actions) if isinstance(one, tx.Reveal)]
    assert "not in this node's journal" in only(actions, act.Tell).duty.text


# Between rounds


def test_who_was_left_out_is_told_why_and_registers_again(commit):
    before = commit.registrations[RECIPE]
    out = replace(before, active=False, misses=1, until=2)
    _, actions = begun(
        replace(commit, registrations={RECIPE: out}, round=replace(commit.round, settled=9, phase="final"))
    )
    assert bodies(actions) == [tx.JoinRecipe(RECIPE)]
    assert only(actions, act.Submit).duty.by_account
    assert "left out" in only(actions, act.Tell).duty.text


def test_the_same_events_give_the_same_memory_and_the_same_actions(compute):
    view, updates = seat_in_compute(compute)
    assert begun(view, updates=updates) == begun(view, updates=updates)
