from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmeta.govern.errors import Refused
from fedmeta.govern.rules import candidates
from fedmeta.govern.state.records import Candidate, Delegation
from fedmeta.govern.wire import transactions as tx
from tests.govern.playing import TIME, YEAR
from tests.govern.small import context, later, refuses


def test_a_member_registers_once_and_within_the_cap():
    now = context(height=9, time=TIME + 5)
    with refuses("commission-cap", "200001"):
        candidates.register(now, "evora", tx.Register(200_001))
    candidates.register(now, "evora", tx.Register(200_000))
    made = now.candidate("evora")
    assert (made.active, made.registered, made.commission, made.commission_time) == (True, 9, 200_000, TIME + 5)
    assert (made.organisation, made.tokens, made.shares, made.outstanding) == ("org-evora", 0, 0, 0)
    with refuses("already-done"):
        candidates.register(now, "evora", tx.Register(0))


def test_who_has_left_does_not_register():
    now = context()
    now.draft.put(replace(now.member("evora"), active=False))
    with refuses("not-active"):
        candidates.register(now, "evora", tx.Register(0))


@pytest.mark.parametrize(
    ("elapsed", "highest"),
    [(0, 100_000), (YEAR // 2, 125_000), (YEAR, 150_000), (9 * YEAR, 150_000), (YEAR // 50_000, 100_001)],
)
def test_a_commission_rises_by_the_yearly_rate_for_a_year_at_most(elapsed, highest):
    now = context(time=TIME + elapsed)
    with refuses("commission-cap", str(highest)):
        candidates.set_commission(now, "ada", tx.SetCommission(highest + 1))
    if elapsed:
        candidates.set_commission(now, "ada", tx.SetCommission(highest))
        assert now.candidate("ada").commission == highest


def test_a_commission_never_rises_above_the_cap():
    now = context(time=TIME + YEAR, commission_rise=1_000_000)
    with refuses("commission-cap", "cap is 200000"):
        candidates.set_commission(now, "ada", tx.SetCommission(200_001))
    candidates.set_commission(now, "ada", tx.SetCommission(200_000))


def test_lowering_is_free_but_starts_the_year_anew():
    now = context(time=TIME + YEAR)
    candidates.set_commission(now, "ada", tx.SetCommission(0))
    with refuses("commission-cap"):
        candidates.set_commission(now, "ada", tx.SetCommission(1))
    half = later(now, time=YEAR // 2)
    with refuses("commission-cap"):
        candidates.set_commission(half, "ada", tx.SetCommission(25_001))
    candidates.set_commission(half, "ada", tx.SetCommission(25_000))


def test_retiring_and_registering_again_is_no_way_around_the_rate():
    now = context(height=5)
    candidates.retire(now, "ada", tx.Retire())
    with refuses("commission-cap"):
        candidates.register(now, "ada", tx.Register(100_001))
    candidates.register(now, "ada", tx.Register(100_000))
    assert now.candidate("ada").commission_time == TIME
    assert now.candidate("ada").registered == 5


@given(st.lists(st.tuples(st.integers(0, YEAR), st.integers(0, 200_000), st.booleans()), max_size=12))
def test_no_course_of_changes_beats_the_yearly_rate(steps):
    now = context()
    history = [(now.time, now.candidate("ada").commission)]
    for wait, wanted, again in steps:
        now = later(now, time=wait)
        try:
            if again:
                candidates.retire(now, "ada", tx.Retire())
                candidates.register(now, "ada", tx.Register(wanted))
            else:
                candidates.set_commission(now, "ada", tx.SetCommission(wanted))
        except Refused:
            if not now.candidate("ada").active:
                now.draft.put(replace(now.candidate("ada"), active=True))
        history.append((now.time, now.candidate("ada").commission))
    for at, (start, before) in enumerate(history):
        for end, after in history[at:]:
            # What rises in a span was earned within it and the year before it; before genesis nothing was.
            assert (after - before) * YEAR <= 50_000 * (end - max(TIME, start - YEAR))


def test_a_change_to_the_same_commission_is_none():
    with refuses("already-done"):
        candidates.set_commission(context(time=TIME + YEAR), "ada", tx.SetCommission(100_000))


def test_retiring_leaves_the_stake_where_it_is():
    now = context()
    candidates.retire(now, "ada", tx.Retire())
    assert (now.candidate("ada").active, now.candidate("ada").tokens) == (False, 1_500)
    with refuses("already-done"):
        candidates.retire(now, "ada", tx.Retire())


def test_jail_takes_the_seat_and_the_longer_time_counts():
    now = context(height=10)
    candidates.jail(now, "ada", 100, absent=False)
    candidates.jail(now, "ada", 50, absent=False)
    assert (now.candidate("ada").jailed, now.candidate("ada").jailed_until) == (True, 110)
    assert all(seat.candidate != "ada" for seat in now.term.seats)


@pytest.mark.parametrize(
    ("course", "absent"),
    [([True], True), ([True, True], True), ([True, False], False), ([False, True], False), ([False], False)],
)
def test_who_is_in_jail_for_something_worse_is_not_there_for_absence(course, absent):
    now = context(height=10)
    for one in course:
        candidates.jail(now, "ada", 5, absent=one)
    assert now.candidate("ada").absent == absent
    assert [one.absent for one in now.events if one.kind == "candidate-jailed"][-1] == absent
    out = later(now, 6)
    candidates.unjail(out, "ada", tx.Unjail())
    assert not out.candidate("ada").absent
    candidates.jail(out, "ada", 5, absent=True)
    assert out.candidate("ada").absent


def test_the_barred_are_there_for_more_than_absence():
    now = context(height=10)
    candidates.jail(now, "ada", 5, absent=True)
    assert any(seat.candidate == "ada" for seat in now.term.seats)
    candidates.tombstone(now, "ada")
    assert not now.candidate("ada").absent
    assert all(seat.candidate != "ada" for seat in now.term.seats)


def test_out_of_jail_after_the_time_and_with_enough_own_stake():
    now = context(height=10)
    with refuses("already-done"):
        candidates.unjail(now, "ada", tx.Unjail())
    candidates.jail(now, "ada", 5, absent=False)
    last = later(now, 5)
    with refuses("jailed", "height 15"):
        candidates.unjail(last, "ada", tx.Unjail())
    out = later(last)
    own = out.draft.need(Delegation, "ada", "ada")
    out.draft.put(replace(own, shares=99 * own.shares // 1_000))
    with refuses("insufficient-funds", "99"):
        candidates.unjail(out, "ada", tx.Unjail())
    out.draft.put(own)
    candidates.unjail(out, "ada", tx.Unjail())
    assert not out.candidate("ada").jailed


def test_a_tombstone_is_for_good():
    now = context()
    candidates.tombstone(now, "ada")
    said = len(now.events)
    candidates.tombstone(now, "ada")
    assert len(now.events) == said
    assert now.draft.need(Candidate, "ada").jailed
    out = later(now, 10**6)
    with refuses("tombstoned"):
        candidates.unjail(out, "ada", tx.Unjail())
    candidates.retire(out, "ada", tx.Retire())
    with refuses("tombstoned"):
        candidates.register(out, "ada", tx.Register(0))


def test_who_is_no_candidate_cannot_act_as_one():
    for rule, body in ((candidates.retire, tx.Retire()), (candidates.unjail, tx.Unjail())):
        with refuses("not-found"):
            rule(context(), "evora", body)
