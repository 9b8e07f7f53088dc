"""What the ledger forgets, and what it must not."""

from dataclasses import replace

import pytest

from fedmeta.govern.rules.pruning import horizon, prune
from fedmeta.govern.state.records import (
    Attestation,
    Fault,
    Hold,
    Proposal,
    Recipe,
    Round,
    Seal,
    Term,
    Update,
    Vote,
)
from fedmeta.govern.wire import codec
from fedmeta.govern.wire import transactions as tx
from tests.govern.playing import RECIPE, Play
from tests.govern.small import context, later

OF_A_ROUND = (Update, Seal, Hold, Attestation)


def old():
    """Return the context of a height at which what was over before height 160 is forgotten."""
    now = context(contributors=())
    now = later(now, 160 + 3_440 - now.height)
    # The first term is over, so that no term that began before height 160 still counts.
    now.draft.put(replace(now.term, ended=now.time))
    now.draft.put(replace(now.draft.need(Term, 2), start=1_001, ends=4_000))
    now.change_chain(term=2)
    return now


def round_of(now, number, settled, term=1, recipe=b"r" * 32):
    made = Round(
        number=number,
        recipe=recipe,
        model=b"",
        term=term,
        pool=0,
        cohort=(),
        seats=(),
        windows=(),
        stretch=0,
        attempt=1,
        phase="final" if settled else "commit",
        scheduled=1,
        opened=1,
        opened_time=0,
        committed=1,
        smallest=3,
        exposed=False,
        seen=False,
        members=(),
        result=b"",
        settled=settled,
    )
    now.draft.put(made)
    now.draft.put(Update(number, "ada", "org-ada", b"", number, 1, False))
    now.draft.put(Seal(number, "ada", b"", b""))
    now.draft.put(Hold(number, "ada", ()))
    now.draft.put(Attestation(number, "ada", 1, b"", 0, b"", (), b""))


def numbers(now, cls):
    return [one.number for one in now.draft.all(cls)]


@pytest.mark.parametrize(("settled", "stays"), [(159, False), (160, True), (161, True)])
def test_a_round_that_was_over_is_forgotten_with_all_that_belongs_to_it(settled, stays):
    now = old()
    round_of(now, 1, settled)
    round_of(now, 2, 500)
    now.change_chain(round=2)
    prune(now)
    assert numbers(now, Round) == ([1, 2] if stays else [2])
    assert [now.draft.count(cls) for cls in OF_A_ROUND] == [1 + stays] * 4
    assert [one.rounds for one in now.events] == [] if stays else [1]


def test_the_latest_round_stays_however_old_and_a_live_one_too():
    now = old()
    for number, settled in ((1, 50), (2, 60), (3, 0)):
        round_of(now, number, settled)
    now.change_chain(round=3)
    prune(now)
    assert numbers(now, Round) == [3]
    now.draft.put(replace(now.draft.need(Round, 3), settled=61))
    prune(now)
    assert numbers(now, Round) == [3]


def test_the_latest_round_of_each_recipe_stays_because_the_next_may_take_its_commitments_over():
    now = old()
    for number in (1, 2, 3, 4):
        round_of(now, number, 50 + number)
    now.change_chain(round=4)
    now.draft.put(replace(now.draft.need(Recipe, RECIPE), round=2))
    prune(now)
    assert numbers(now, Round) == [2, 4]
    assert sorted(one.round for one in now.draft.all(Update)) == [2, 4]


def test_a_void_round_s_commitments_are_taken_over_however_long_ago_it_was():
    play = Play(term_length=4, unbonding_blocks=1_450)
    play.to_deliver()
    play.must(play.hold("dan"))
    contributors = play.committed()
    assert len(contributors) == 5
    while not play.state.need(Round, 1).settled:
        play.wait()
    assert (play.latest.phase, play.latest.seen) == ("void", True)
    play.wait(1_450 + 20)
    assert play.state.get(Term, 1) is not None
    play.must(*((name, tx.JoinRecipe(RECIPE)) for name in contributors))
    play.to_commit()
    carried = {one.member: one.origin for one in play.state.where(Update, "round", 2)}
    assert carried == dict.fromkeys(contributors, 1)


def test_a_term_stays_as_long_as_a_round_names_it():
    now = old()
    now.change_chain(term=4, round=2)
    for number, start, ended in ((2, 21, 1), (3, 41, 1), (4, 1_001, 0), (5, 0, 0)):
        now.draft.put(Term(number, 0, start, 20 * number, (), (), ended, 0, 0))
    now.draft.put(replace(now.draft.need(Term, 1), ends=20))
    round_of(now, 1, settled=50, term=1)
    round_of(now, 2, settled=0, term=2)
    prune(now)
    assert numbers(now, Term) == [2, 4, 5]
    assert numbers(now, Round) == [2]


@pytest.mark.parametrize(("ends", "stays"), [(159, False), (160, True)])
def test_a_term_that_nothing_names_is_forgotten_once_its_stake_has_answered_for_it(ends, stays):
    now = old()
    now.draft.put(replace(now.draft.need(Term, 1), ends=ends))
    prune(now)
    assert (now.draft.get(Term, 1) is not None) == stays


@pytest.mark.parametrize(
    ("status", "executes", "stays"),
    [
        ("voting", 0, True),
        ("passed", 300, True),
        ("passed", 100, True),
        ("rejected", 0, False),
        ("vetoed", 0, False),
        ("executed", 159, False),
        ("executed", 160, True),
        ("failed", 170, True),
    ],
)
def test_closed_proposals_are_forgotten_with_their_votes(status, executes, stays):
    now = old()
    action = codec.encode({"kind": "remove", "member": "ada"})
    now.draft.put(Proposal(1, "ada", "", action, 0, 1, 100, 0, executes, 0, status, 0, 0, 0, 0, 0))
    now.draft.put(Vote(1, "bern", "yes"))
    prune(now)
    assert (now.draft.count(Proposal), now.draft.count(Vote)) == (int(stays), int(stays))


@pytest.mark.parametrize(("height", "stays"), [(159, False), (160, True)])
def test_old_faults_are_forgotten(height, stays):
    now = old()
    now.draft.put(Fault(1, "ada", "false-result", 1, 1, 1, height, 0, (), 0, False))
    prune(now)
    assert now.draft.count(Fault) == int(stays)


@pytest.mark.parametrize(
    ("status", "stays"), [("voting", True), ("passed", True), ("rejected", False), ("failed", False)]
)
def test_a_fault_that_a_proposal_may_still_annul_is_kept_however_old_it_is(status, stays):
    now = old()
    for number in (1, 2):
        now.draft.put(Fault(number, "ada", "false-result", 1, 1, 1, 5, 0, (), 0, False))
    action = codec.encode({"kind": "annul-slash", "fault": 2})
    now.draft.put(Proposal(1, "ada", "", action, 0, 1, 100, 0, 0, 0, status, 0, 0, 0, 0, 0))
    prune(now)
    assert [one.number for one in now.draft.all(Fault)] == [2] * stays


def test_nothing_is_forgotten_before_the_first_unbonding_period_is_over():
    now = context(contributors=())
    now = later(now, 3_440 - now.height)
    round_of(now, 1, 1)
    round_of(now, 2, 1)
    now.change_chain(round=2)
    prune(now)
    assert numbers(now, Round) == [1, 2]
    assert now.events == []


# The horizon: by blocks and by block time


def aged(blocks, ago, **options):
    """Return the context of a height so many blocks later; the first term ended so many ms before it, at height 99."""
    now = context(contributors=(), **{"unbonding_seconds": 500, **options})
    now = later(now, blocks, 1_000_000)
    now.draft.put(replace(now.term, ends=99, ended=now.time - ago))
    now.draft.put(replace(now.draft.need(Term, 2), start=100, ends=10**6))
    now.change_chain(term=2)
    return now


@pytest.mark.parametrize(
    ("blocks", "ago", "oldest"),
    [
        (3_440 + 49, 500_000, 50),
        (3_440 + 98, 500_000, 99),
        (3_440 + 99, 500_000, 100),
        # The present term counts from its start on, however many blocks it has.
        (3_440 + 9_999, 500_000, 100),
        # One that ended less than an unbonding period ago counts too.
        (3_440 + 9_999, 499_999, 1),
        (3_440 + 9_999, 0, 1),
    ],
)
def test_what_counts_is_an_unbonding_period_old_in_blocks_and_in_the_time_of_whole_terms(blocks, ago, oldest):
    assert horizon(aged(blocks, ago).draft) == oldest


@pytest.mark.parametrize(("ago", "stays"), [(500_000, False), (499_999, True)])
def test_a_fault_a_term_and_a_round_are_kept_as_long_as_their_time_is_not_over_however_fast_blocks_are(ago, stays):
    now = aged(100_000, ago)
    round_of(now, 1, 98)
    round_of(now, 2, 90_000, term=2)
    now.change_chain(round=2)
    now.draft.put(Fault(1, "ada", "false-result", 1, 1, 1, 98, 0, (), 0, False))
    now.draft.put(Proposal(1, "ada", "", b"", 0, 1, 98, 0, 0, 0, "rejected", 0, 0, 0, 0, 0))
    prune(now)
    assert [now.draft.count(cls) for cls in (Fault, Proposal)] == [int(stays)] * 2
    assert (1 in numbers(now, Term), 1 in numbers(now, Round)) == (stays, stays)


def test_what_was_forgotten_is_said_once():
    now = old()
    for number in (1, 2, 3):
        round_of(now, number, 50)
    now.change_chain(round=3)
    now.draft.put(Fault(1, "ada", "false-result", 1, 1, 1, 1, 0, (), 0, False))
    prune(now)
    (said,) = now.events
    assert (said.oldest, said.rounds, said.terms, said.proposals, said.faults) == (160, 2, 0, 0, 1)
    prune(now)
    assert now.events == [said]
