from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fedmeta.govern.machine.application import Application
from fedmeta.govern.machine.genesis import start
from fedmeta.govern.rules import candidates, election, members
from fedmeta.govern.rules.context import Context
from fedmeta.govern.state.parameters import PHASES, check_parameters
from fedmeta.govern.state.records import Candidate, Chain, Delegation, Hold, Member, Round, Term
from fedmeta.govern.state.state import State
from fedmeta.govern.wire import transactions as tx
from fedmeta.govern.wire.block import Block
from fedmeta.govern.wire.parts import Seat
from tests.govern.playing import CONTRIBUTORS, TIME, federation, key
from tests.govern.small import context as small_context

CAP = 330_000


PERIODS = {f"{phase}_blocks": 210 for phase in PHASES} | {"unbonding_blocks": 50_000}
"""Windows that are long enough for 100 seats."""


def world(people, term=0, height=10, **parameters):
    """Return a context with candidates: name -> fields, of which `own` and `others` are units of stake."""
    now = Context(State.empty(), height, 0)
    defaults = {"min_self_stake": 10, "standbys": 2, "super_nodes": 4, **PERIODS}
    now.draft.put(check_parameters({**defaults, **parameters}, 10**15))
    now.draft.put(Chain("small", bytes(32), 2, 0, 0, 10**15, 0, term, 0, 0, 0, 0, 0, 0, 0))
    for name, given_ in people.items():
        add(now, name, **given_)
    return now


def add(now, name, own=100, others=0, organisation=None, registered=1, here=True, **fields):
    organisation = organisation or f"org-{name}"
    now.draft.put(Member(name, organisation, here, 0, (), None, 0, 0, 0, "", "", b""))
    values = {"active": True, "jailed": False, "absent": False, "tombstoned": False, **fields}
    now.draft.put(
        Candidate(
            member=name,
            organisation=organisation,
            registered=registered,
            commission=0,
            commission_time=0,
            tokens=own + others,
            shares=own + others,
            reward_index=0,
            outstanding=0,
            jailed_until=0,
            window=0,
            **values,
        )
    )
    if own:
        now.draft.put(Delegation(name, name, own, 0))


def seats(*names):
    return tuple(Seat(name, f"org-{name}", 100, 100) for name in names)


def term(number, *names, **fields):
    plain = {"snapshot": 0, "start": 0, "ends": 0, "seats": seats(*names), "standbys": ()}
    return Term(number, **{**plain, "ended": 0, "paid": 0, "spent": 0, **fields})


def named(found):
    return [one.candidate for one in found]


# Who may be elected, with what weight


def test_weight_is_the_stake_behind_a_candidate_but_at_most_so_many_times_its_own():
    now = world({"a": {"own": 100, "others": 899}, "b": {"own": 100, "others": 901}, "c": {"own": 100}})
    assert {one.candidate: one.weight for one in election.ranking(now)} == {"a": 999, "b": 1_000, "c": 100}


@pytest.mark.parametrize(
    "fields",
    [
        {"active": False},
        {"jailed": True},
        {"jailed": True, "tombstoned": True},
        {"here": False},
        {"own": 9, "others": 90},
        {"own": 0},
    ],
    ids=str,
)
def test_who_may_not_serve_is_not_elected(fields):
    now = world({"good": {}, "bad": {"others": 500, **fields}})
    assert named(election.ranking(now)) == ["good"]


def test_ties_go_to_the_earliest_registration_and_then_by_name():
    now = world({"a": {"registered": 2}, "d": {"registered": 1}, "c": {"registered": 1}, "b": {"own": 101}})
    assert named(election.ranking(now)) == ["b", "c", "d", "a"]


def test_the_next_in_rank_are_standbys_whatever_their_organisation():
    people = {f"c{at}": {"own": 100 - at, "organisation": "one" if at < 3 else None} for at in range(7)}
    found = election.elect(world(people), 1)
    assert named(found.seats) == ["c0", "c3", "c4", "c5"]
    assert named(found.standbys) == ["c1", "c2"]
    assert all(one.power > 0 for one in found.seats)
    assert all(one.power == 0 for one in found.standbys)


@pytest.mark.parametrize("super_nodes", [1, 3, 4, 7, 100])
def test_an_organisation_holds_one_seat(super_nodes):
    people = {f"c{at:02}": {"own": 1_000 - at, "organisation": "one"} for at in range(super_nodes)}
    people |= {f"z{at:02}": {"own": 100} for at in range(super_nodes)}
    found = election.elect(world(people, super_nodes=super_nodes), 1)
    assert len(found.seats) == super_nodes
    assert [one.organisation for one in found.seats].count("one") == 1
    assert named(found.seats)[0] == "c00"


def test_a_term_without_candidates_has_no_seats():
    assert election.elect(world({}), 1).seats == ()


# Who was absent


ABSENT = {"jailed": True, "absent": True}


@pytest.mark.parametrize(
    ("organisations", "serve"),
    [
        (["a", "b", "c", "d"], "abcd"),
        (["a", "b", "c"], "abcx"),
        (["a", "b"], "abxy"),
        ([], "xyz"),
        (["a", "a", "b", "c"], "acdx"),
    ],
    ids=str,
)
def test_who_was_only_absent_serves_where_fewer_than_four_organisations_could_without(organisations, serve):
    people = {
        name: {"own": 200 - at, "organisation": one}
        for at, (name, one) in enumerate(zip("abcd", organisations, strict=False))
    }
    people |= {name: {"own": 900 - at, **ABSENT} for at, name in enumerate("xyz")}
    assert "".join(sorted(named(election.elect(world(people), 1).seats))) == serve


def test_who_was_absent_ranks_behind_all_others_and_stands_by_for_nobody_where_four_can_serve():
    people = {name: {"own": 100 + at} for at, name in enumerate("abc")} | {"x": {"own": 999, **ABSENT}}
    found = election.ranking(world(people))
    assert named(found) == ["c", "b", "a", "x"]
    assert named(election.ranking(world({**people, "d": {}}))) == ["c", "b", "a", "d"]


def test_who_was_absent_adds_an_organisation_and_not_a_second_member_of_one():
    people = {name: {} for name in "abc"} | {"x": {"own": 999, "organisation": "org-a", **ABSENT}}
    assert named(election.ranking(world(people))) == ["a", "b", "c"]
    people |= {"y": {"own": 50, **ABSENT}, "z": {"own": 60, "organisation": "org-y", **ABSENT}}
    assert named(election.ranking(world(people))) == ["a", "b", "c", "z"]


@pytest.mark.parametrize(
    "fields", [{"absent": False}, {"absent": False, "tombstoned": True}, {"active": False}, {"here": False}]
)
def test_who_did_worse_than_to_be_absent_does_not_serve_however_few_are_left(fields):
    people = {"a": {}, "b": {}, "bad": {"own": 500, **ABSENT, **fields}}
    assert named(election.ranking(world(people))) == ["a", "b"]


def test_where_nobody_can_be_elected_the_seats_stay_as_they_are():
    people = {name: {"own": 200 - at} for at, name in enumerate("abcd")}
    now = world(people, term=1)
    election.elect(now, 1)
    election.elect(now, 2)
    for name in people:
        candidates.jail(now, name, 5, absent=False)
    assert named(now.draft.need(Term, 2).seats) == ["d"]
    assert named(election.elect(now, 3).seats) == ["d"]


def test_seats_that_stay_as_they_are_answer_with_the_stake_that_elected_them():
    people = {name: {"own": 200 - at} for at, name in enumerate("abcd")}
    now = world(people, term=1)
    election.elect(now, 1)
    first = election.elect(now, 2).snapshot
    for name in people:
        candidates.jail(now, name, 5, absent=False)
    for number in (3, 4, 5):
        now = at_height(now, now.height + 10)
        assert election.elect(now, number).snapshot == first == 10
    # Once somebody can be elected, by the stakes of that moment.
    now = at_height(now, now.height + 10)
    candidates.unjail(now, "a", tx.Unjail())
    found = election.elect(now, 6)
    assert (named(found.seats), found.snapshot) == (["a"], now.height)


def test_an_outage_never_leaves_a_term_or_an_engine_without_a_super_node():
    app = Application(start(federation(duty_misses=1, duty_window=1)).state)

    def parts():
        """Return what the contributors and the seats send as long as no result is asked for."""
        live = app.state.get(Round, app.chain.round)
        if live is None or app.state.where(Hold, "round", live.number):
            return
        names, body = (), None
        if live.phase == "commit":
            names, body = CONTRIBUTORS, tx.CommitUpdate(live.number, bytes(32))
        elif live.phase == "deliver":
            names = tuple(one.candidate for one in live.seats)
            body = tx.Hold(live.number, live.attempt, tuple(one.member for one in live.cohort))
        for name in names:
            yield tx.sign(key(name), app.chain.genesis, name, 0, body)

    for height in range(1, 420):
        app.finalize(Block(height, TIME + height, tuple(parts())))
        app.commit()
        assert app.seats
        assert len(app.state.need(Term, app.chain.term).seats) == 4
    everyone = app.state.all(Candidate)
    assert all(one.jailed and one.absent for one in everyone)


# Bounded change


def test_an_election_brings_in_so_many_newcomers_and_keeps_incumbents_of_lower_rank():
    people = {name: {"own": 200 - at} for at, name in enumerate("nopqabcd")}
    now = world(people, term=1, max_seat_changes=2)
    now.draft.put(term(1, *"abcd"))
    found = election.elect(now, 2)
    assert named(found.seats) == ["n", "o", "a", "b"]
    assert named(found.standbys) == ["p", "q"]


def test_the_first_election_is_not_bounded():
    found = election.elect(world({name: {} for name in "abcdef"}, max_seat_changes=1), 1)
    assert named(found.seats) == ["a", "b", "c", "d"]


def test_seats_that_no_incumbent_can_take_are_filled_by_further_newcomers():
    people = {name: {"own": 200 - at} for at, name in enumerate("nopqa")} | {"b": {"jailed": True}}
    now = world(people, term=1, max_seat_changes=1)
    now.draft.put(term(1, *"abcd"))
    assert named(election.elect(now, 2).seats) == ["n", "o", "p", "a"]


def test_who_replaced_another_in_the_term_before_is_an_incumbent():
    people = {name: {"own": 200 - at} for at, name in enumerate("nabcs")}
    now = world(people, term=1, max_seat_changes=1, super_nodes=4)
    now.draft.put(term(1, *"abcs"))
    assert named(election.elect(now, 2).seats) == ["n", "a", "b", "c"]


def by_the_book(people, incumbents, size, changes):
    """Elect as the rules say it: first as if change were free, then with the newcomers beyond the bound taken out."""
    able = {
        name: one
        for name, one in people.items()
        if one["active"] and one["own"] >= 10 and not one["tombstoned"] and (one["absent"] or not one["jailed"])
    }
    weight = {name: min(one["own"] + one["others"], 10 * one["own"]) for name, one in able.items()}
    order = sorted(able, key=lambda name: (Fraction(1, weight[name]), able[name]["registered"], name))
    ranked = [name for name in order if not able[name]["jailed"]]
    for name in order:
        there = {able[one]["organisation"] for one in ranked}
        if able[name]["jailed"] and len(there) < 4 and able[name]["organisation"] not in there:
            ranked.append(name)

    def room(chosen, name):
        theirs = [one for one in chosen if able[one]["organisation"] == able[name]["organisation"]]
        return len(chosen) < size and not theirs

    def fill(chosen, names):
        for name in names:
            if room(chosen, name):
                chosen = [*chosen, name]
        return chosen

    free = fill([], ranked)
    if incumbents is not None:
        new = [name for name in free if name not in incumbents]
        kept = [name for name in free if name in incumbents or name in new[:changes]]
        kept = fill(kept, [name for name in ranked if name in incumbents])
        free = fill(kept, ranked)
    rest = [name for name in ranked if name not in free]
    return sorted(free, key=ranked.index), rest, weight


mostly = st.sampled_from([True] * 6 + [False])
person = st.fixed_dictionaries(
    {
        "own": st.integers(5, 60),
        "others": st.integers(0, 400),
        "organisation": st.sampled_from(["one", "two", "three", "four", "five"]),
        "registered": st.integers(1, 3),
        "active": mostly,
        "jailed": mostly.map(lambda good: not good),
        "tombstoned": mostly.map(lambda good: not good),
        "absent": st.booleans(),
    }
).map(lambda one: {**one, "jailed": one["jailed"] or one["tombstoned"], "absent": one["absent"] and one["jailed"]})
people_of = st.dictionaries(st.sampled_from("abcdefghijklmnop"), person, max_size=16)


@given(
    people_of,
    st.one_of(st.none(), st.sets(st.sampled_from("abcdefghijklmnop"), max_size=7)),
    st.integers(1, 8),
    st.integers(1, 4),
    st.integers(0, 4),
)
def test_an_election_is_the_one_that_the_rules_describe(people, incumbents, size, changes, standbys):
    now = world(people, term=1, super_nodes=size, max_seat_changes=changes, standbys=standbys)
    if incumbents is not None:
        now.draft.put(term(1, *sorted(incumbents)))
    found = election.elect(now, 2 if incumbents is not None else 1)
    chosen, rest, weight = by_the_book(people, incumbents, size, changes)
    if incumbents and not chosen:
        assert found.seats == now.draft.need(Term, 1).seats
        assert not found.standbys
        return
    assert named(found.seats) == chosen
    assert named(found.standbys) == rest[:standbys]
    assert [one.weight for one in (*found.seats, *found.standbys)] == [
        weight[one] for one in [*chosen, *rest[:standbys]]
    ]
    assert [one.power for one in found.seats] == election.powers([weight[one] for one in chosen], CAP)


# Power under the cap


def naive_powers(weights, cap):
    """Recompute powers with fractions and by trying every limit."""
    share = Fraction(cap, 1_000_000)
    if len(weights) * share < 1:
        return [min(weights)] * len(weights)
    tries = range(max(weights) + 1)
    limit = max(one for one in tries if one <= share * sum(min(one, other) for other in weights))
    return [min(one, limit) for one in weights]


@given(
    st.lists(st.integers(1, 60), min_size=1, max_size=12),
    st.sampled_from([330_000, 333_332, 250_000, 200_000, 100_000]),
)
def test_powers_are_what_a_slow_recomputation_with_fractions_gives(weights, cap):
    assert election.powers(weights, cap) == naive_powers(weights, cap)


weights_of = st.lists(
    st.one_of(st.integers(1, 5), st.integers(1, 10**6), st.integers(1, 10**15)), min_size=1, max_size=40
)


@given(weights_of, st.integers(1, 333_332))
def test_no_seat_of_four_or_more_has_a_third_of_the_power_whatever_the_weights_and_the_cap(weights, cap):
    found = election.powers(weights, cap)
    total = sum(found)
    if len(found) >= 4:
        assert all(power * 3 < total for power in found)
    if len(found) * cap >= 1_000_000:
        assert all(power * 1_000_000 <= cap * total for power in found)
    else:
        assert len(set(found)) == 1
    assert all(1 <= power <= weight for power, weight in zip(found, weights, strict=True))


@given(weights_of, st.integers(1, 333_332), st.randoms(use_true_random=False))
def test_more_weight_is_never_less_power_and_the_order_of_the_seats_is_nothing(weights, cap, random):
    found = election.powers(weights, cap)
    pairs = sorted(zip(weights, found, strict=True))
    assert [power for _, power in pairs] == sorted(found)
    random.shuffle(pairs)
    assert election.powers([weight for weight, _ in pairs], cap) == [power for _, power in pairs]


def test_weights_under_the_cap_are_the_powers():
    assert election.powers([320, 330, 250, 100], CAP) == [320, 330, 250, 100]


def test_the_largest_is_cut_to_the_cap_of_what_is_left():
    # L <= 0.33 * (300 + L) gives L = 147.
    assert election.powers([10_000, 100, 100, 100], CAP) == [147, 100, 100, 100]


def test_too_few_seats_for_the_cap_have_the_same_power_each():
    assert election.powers([2_000, 700, 600], CAP) == [600, 600, 600]


def test_no_seats_have_no_power():
    assert election.powers([], CAP) == []


@given(st.lists(st.integers(1, 10**6), min_size=4, max_size=16), st.data())
def test_without_any_one_seat_the_others_can_still_decide(weights, data):
    found = election.powers(weights, CAP)
    gone = data.draw(st.sampled_from(found))
    assert (sum(found) - gone) * 3 > sum(found) * 2


# Replacement


def elected(**options):
    people = {name: {"own": 200 - at} for at, name in enumerate("abcdefgh")}
    now = world(people, term=1, **options)
    election.elect(now, 1)
    election.elect(now, 2)
    return now


def test_the_first_standby_replaces_a_jailed_super_node_in_the_present_and_the_next_term():
    now = elected()
    candidates.jail(now, "b", 5, absent=False)
    for number in (1, 2):
        found = now.draft.need(Term, number)
        assert named(found.seats) == ["a", "e", "c", "d"]
        assert named(found.standbys) == ["f"]
        assert [one.power for one in found.seats] == [one.weight for one in found.seats]
    said = [event for event in now.events if event.kind == "seat-replaced"]
    assert [(one.term, one.candidate, one.by) for one in said] == [(1, "b", "e"), (2, "b", "e")]
    assert named(said[0].seats) == ["a", "e", "c", "d"]


@pytest.mark.parametrize("bad", ["jailed", "tombstoned"])
def test_a_standby_that_may_not_serve_is_passed_over(bad):
    now = elected()
    now.draft.put(replace(now.candidate("e"), **{bad: True}))
    candidates.tombstone(now, "b")
    assert named(now.term.seats) == ["a", "f", "c", "d"]


def test_a_standby_whose_member_was_removed_is_passed_over():
    now = elected()
    now.draft.put(replace(now.member("e"), active=False))
    candidates.jail(now, "b", 5, absent=False)
    assert named(now.term.seats) == ["a", "f", "c", "d"]


def test_a_standby_does_not_give_its_organisation_a_second_seat():
    people = {
        name: {"own": 200 - at, "organisation": "one" if name in "ae" else None} for at, name in enumerate("abcdef")
    }
    now = world(people, term=1)
    election.elect(now, 1)
    assert named(now.term.seats) == ["a", "b", "c", "d"]
    assert named(now.term.standbys) == ["e", "f"]
    candidates.jail(now, "b", 5, absent=False)
    assert named(now.term.seats) == ["a", "f", "c", "d"]
    candidates.jail(now, "a", 5, absent=False)
    assert named(now.term.seats) == ["e", "f", "c", "d"]


@pytest.mark.parametrize("absent", [False, True])
@pytest.mark.parametrize("size", [4, 5])
def test_a_seat_that_nobody_takes_stays_with_who_was_only_absent_while_there_are_four(size, absent):
    now = elected(standbys=0, super_nodes=size)
    candidates.jail(now, "b", 5, absent=absent)
    kept = absent and size == 4
    for number in (1, 2):
        assert ("b" in named(now.draft.need(Term, number).seats)) == kept
    assert bool([one for one in now.events if one.kind == "seat-replaced"]) != kept


@pytest.mark.parametrize(("size", "kept"), [(4, True), (5, False)])
def test_one_of_four_that_has_retired_and_is_absent_keeps_its_seat(size, kept):
    now = elected(standbys=0, super_nodes=size)
    candidates.retire(now, "b", tx.Retire())
    candidates.jail(now, "b", 5, absent=True)
    for number in (1, 2):
        found = now.draft.need(Term, number)
        assert ("b" in named(found.seats)) == kept
        assert len(found.seats) == 4
    # It is elected no more.
    assert "b" not in named(election.elect(now, 3).seats)


def test_a_seat_that_a_standby_takes_is_lost_also_by_who_was_only_absent():
    now = elected(standbys=1)
    candidates.jail(now, "b", 5, absent=True)
    assert named(now.term.seats) == ["a", "e", "c", "d"]
    candidates.jail(now, "c", 5, absent=True)
    assert named(now.term.seats) == ["a", "e", "c", "d"]


@pytest.mark.parametrize("then", ["jailed for worse", "barred", "removed"])
def test_who_kept_its_seat_in_absence_loses_it_for_anything_worse(then):
    now = elected(standbys=0)
    candidates.jail(now, "b", 5, absent=True)
    if then == "removed":
        members.remove(now, "b", 1)
    elif then == "barred":
        candidates.tombstone(now, "b")
    else:
        candidates.jail(now, "b", 5, absent=False)
    assert named(now.term.seats) == ["a", "c", "d"]


def test_without_a_standby_the_seat_goes_empty_but_the_last_one_stays():
    now = elected(standbys=0)
    for name in "abcd":
        candidates.jail(now, name, 5, absent=False)
    assert named(now.term.seats) == ["d"]
    said = [event for event in now.events if event.kind == "seat-replaced" and event.term == 1]
    assert [(one.candidate, one.by) for one in said] == [("a", ""), ("b", ""), ("c", "")]


def test_power_is_computed_anew_under_the_cap_when_a_seat_changes():
    people = {name: {"own": 100} for name in "abcd"} | {"e": {"own": 90}, "f": {"own": 80}, "h": {"own": 1_000}}
    now = world(people, term=1, super_nodes=5)
    found = election.elect(now, 1)
    assert named(found.seats) == ["h", "a", "b", "c", "d"]
    # L <= 0.33 * (400 + L) gives 197, and with the two that come in 0.33 * (370 + L) gives 182.
    assert found.seats[0].power == 197
    candidates.jail(now, "a", 5, absent=False)
    candidates.jail(now, "b", 5, absent=False)
    assert [(one.candidate, one.power) for one in now.term.seats] == [
        ("h", 182),
        ("e", 90),
        ("f", 80),
        ("c", 100),
        ("d", 100),
    ]


def test_a_jailed_standby_is_dropped():
    now = elected()
    candidates.jail(now, "e", 5, absent=False)
    assert named(now.term.standbys) == ["f"]
    assert [(one.term, one.candidate) for one in now.events if one.kind == "standby-dropped"] == [(1, "e"), (2, "e")]


def test_a_candidate_without_seat_changes_no_term():
    now = elected()
    before = now.draft.all(Term)
    candidates.jail(now, "h", 5, absent=False)
    assert now.draft.all(Term) == before


# Terms


def end(now):
    election.end_block(now)
    return now


def small(**options):
    return small_context(**{"term_length": 4, "standbys": 1, "delegations": (), **options})


def at_height(now, height):
    return Context(now.draft.finish(), height, now.time)


def test_terms_follow_one_another_and_are_elected_two_ahead():
    now = small()
    assert (now.term.number, now.term.start, now.term.ends) == (1, 1, 4)
    for height in range(1, 13):
        now = end(at_height(now, height))
        assert now.chain.term == 1 + height // 4
        assert [one.number for one in now.draft.all(Term)] == list(range(1, 3 + height // 4))
    assert (now.term.number, now.term.start, now.term.ends, now.term.snapshot) == (4, 13, 16, 8)


def test_a_term_that_is_over_says_at_what_block_time_it_ended():
    now = small()
    started = now.time
    for height in range(1, 10):
        now = Context(now.draft.finish(), height, started + 1_000 * height)
        end(now)
    ended = {one.number: one.ended for one in now.draft.all(Term)}
    assert ended == {1: started + 4_000, 2: started + 8_000, 3: 0, 4: 0}


def test_a_snapshot_is_taken_in_the_last_block_and_serves_a_term_later():
    now = small(members=("fulda",), free=10_000)
    now = at_height(now, 4)
    add(now, "fulda", own=50_000)
    end(now)
    found = {one.number: named(one.seats) for one in now.draft.all(Term)}
    assert "fulda" not in found[2]
    assert found[3][0] == "fulda"


def test_a_change_of_the_term_s_length_counts_from_the_next_term():
    now = small()
    now.draft.put(replace(now.parameters, term_length=10))
    now = end(at_height(now, 4))
    assert (now.term.number, now.term.start, now.term.ends) == (2, 5, 14)
    now = end(at_height(now, 8))
    assert now.chain.term == 2


def test_a_removed_member_loses_its_seat():
    now = small_context(standbys=0)
    members.remove(now, "bern", 1)
    assert named(now.term.seats) == ["ada", "cork", "delft"]


@given(people_of, people_of)
@settings(max_examples=30)
def test_no_election_leaves_a_seat_empty_that_somebody_could_take(first, second):
    now = world(first, term=1, max_seat_changes=1)
    incumbents = named(election.elect(now, 1).seats)
    assume(incumbents)
    for name, given_ in second.items():
        add(now, name, **{**given_, "organisation": first.get(name, given_)["organisation"]})
    found = election.elect(now, 2)
    held = {one.organisation for one in found.seats}
    able = {one.candidate: one for one in election.ranking(now)}
    assert len(held) == len(found.seats)
    if len(found.seats) < 4 and able:
        assert {one.organisation for one in able.values()} == held
    new = [one for one in named(found.seats) if one not in incumbents]
    idle = [one for name, one in able.items() if name in incumbents and name not in named(found.seats)]
    if len(new) > 1:
        assert {one.organisation for one in idle} <= held
