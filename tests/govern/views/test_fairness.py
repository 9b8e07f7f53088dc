from fractions import Fraction
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmeta.govern.state.parameters import MILLION
from fedmeta.govern.state.records import Proposal
from fedmeta.govern.views import fairness
from fedmeta.govern.views.fairness import Nakamoto, Overlap, gini, nakamoto
from fedmeta.govern.wire import transactions as tx
from tests.govern.playing import TIME, Play

amounts = st.lists(st.integers(0, 10**15), min_size=1, max_size=12)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], 0),
        ([0, 0], 0),
        ([7], 0),
        ([5, 5, 5], 0),
        ([0, 1], MILLION // 2),
        ([0, 0, 0, 9], 3 * MILLION // 4),
        ([1, 2, 3, 4], MILLION // 4),
        ([1, 3], MILLION // 4),
    ],
)
def test_gini_of_what_can_be_done_by_hand(values, expected):
    assert gini(values) == expected


@given(st.integers(1, 200))
def test_gini_of_the_first_n_numbers_has_a_closed_form(n):
    assert gini(range(1, n + 1)) == (n - 1) * MILLION // (3 * n)


@given(amounts)
def test_gini_is_half_the_relative_mean_difference(values):
    total = sum(values)
    differences = sum(abs(one - other) for one in values for other in values)
    exact = Fraction(differences, 2 * len(values) * total) if total else Fraction(0)
    assert gini(values) == int(exact * MILLION)
    assert gini(values[::-1]) == gini(values)


@given(amounts, st.integers(1, 1_000))
def test_gini_has_no_unit_and_one_who_has_all_of_n_gives_one_less_an_nth(values, factor):
    assert gini([factor * value for value in values]) == gini(values)
    assert gini([0] * (factor - 1) + [factor]) == (factor - 1) * MILLION // factor


@pytest.mark.parametrize(
    ("powers", "expected"),
    [
        ({}, (0, 0)),
        ({"a": 0}, (0, 0)),
        ({"a": 9}, (1, 1)),
        ({"a": 1, "b": 1, "c": 1}, (1, 3)),
        ({"a": 1, "b": 1, "c": 1, "d": 1}, (2, 3)),
        ({"a": 50, "b": 30, "c": 20}, (1, 2)),
        ({"a": 33, "b": 33, "c": 34}, (1, 2)),
        ({"a": 33, "b": 33, "c": 33, "d": 1}, (2, 3)),
    ],
)
def test_nakamoto_of_what_can_be_done_by_hand(powers, expected):
    assert nakamoto(powers) == Nakamoto(*expected)


@given(st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 20), min_size=1))
def test_nakamoto_is_the_size_of_the_smallest_coalition(powers):
    total = sum(powers.values())

    def smallest(enough):
        for size in range(1, len(powers) + 1):
            if any(enough(sum(some)) for some in combinations(powers.values(), size)):
                return size
        raise AssertionError

    # What is left must not be more than two thirds, or it would go on without the coalition.
    assert nakamoto(powers).stop == smallest(lambda held: (total - held) * 3 <= total * 2)
    assert nakamoto(powers).decide == smallest(lambda held: held * 3 > total * 2)


def test_the_turnout_is_what_voted_of_what_was_bonded():
    counts = {"yes": 100, "no": 20, "abstain": 3, "against": 4}
    proposal = decided(**counts, bonded=1_000)
    assert fairness.turnout(proposal) == 127_000
    assert fairness.turnout(decided(yes=0, no=0, abstain=0, against=0, bonded=0)) == 0


def decided(**counts):
    return Proposal(1, "ann", "", b"", 0, 1, 2, TIME, 0, 0, "rejected", **counts)


@pytest.fixture(scope="module")
def voted():
    """Three decided proposals and one that is open; hal and ann are of one organisation."""
    play = Play(organisations={"ann": "north", "hal": "north"}, contributors=("ann", "bob", "ivy", "joy"))
    spend = {"kind": "spend", "member": "joy", "amount": 1}
    ballots = [
        {"ann": "yes", "hal": "yes", "bob": "yes", "cat": "no"},
        {"ann": "yes", "hal": "no", "bob": "yes"},
        {"ann": "veto", "bob": "veto", "cat": "veto"},
    ]
    for ballot in ballots:
        play.must(("joy", tx.Propose("spend", spend)))
        number = play.chain.proposals
        play.must(*((name, tx.CastVote(number, choice)) for name, choice in ballot.items()))
    play.wait(6)
    play.must(("joy", tx.Propose("spend", spend)))
    play.must(*((name, tx.CastVote(4, "yes")) for name in ("ann", "bob")))
    return play.state


def test_overlap_counts_decided_proposals_and_one_choice_of_all_members(voted):
    assert fairness.vote_overlap(voted) == [
        Overlap("north", "org-bob", both=3, alike=2),
        Overlap("north", "org-cat", both=2, alike=1),
        Overlap("org-bob", "org-cat", both=2, alike=1),
    ]


def test_overlap_is_of_the_organisations_that_are_asked_for(voted):
    assert fairness.vote_overlap(voted, {"org-bob", "org-cat"}) == [Overlap("org-bob", "org-cat", 2, 1)]


def test_stake_is_counted_for_whoever_bonded_it(voted):
    stakes = fairness.stake_by_member(voted)
    assert (stakes["hal"], stakes["ivy"], stakes["ann"]) == (1_000, 1_000, 5_000)
    assert sum(stakes.values()) == 19_200 + 2_700
