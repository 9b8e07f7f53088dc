from collections import Counter
from dataclasses import asdict, replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmeta.govern.errors import REFUSALS, WrongProtocol
from fedmeta.govern.machine.execute import begin, end
from fedmeta.govern.rules import candidates, proposal_actions, proposals, rounds
from fedmeta.govern.rules.context import Context
from fedmeta.govern.rules.proposal_actions import ACTIONS, read_action
from fedmeta.govern.rules.proposals import Tally, count_votes, end_block, verdict
from fedmeta.govern.state.parameters import Parameters
from fedmeta.govern.state.records import (
    Candidate,
    Chain,
    Delegation,
    Fault,
    Member,
    Proposal,
    Recipe,
    Round,
    Term,
    Vote,
)
from fedmeta.govern.state.state import State
from fedmeta.govern.views.invariants import supply_parts
from fedmeta.govern.wire import codec
from fedmeta.govern.wire import transactions as tx
from fedmeta.govern.wire.block import Block
from tests.govern.playing import MODEL, RECIPE, key
from tests.govern.small import HOSPITALS, later, refuses
from tests.govern.small import context as small_context

SPEND = {"kind": "spend", "member": "evora", "amount": 70}
ADMIT = {"kind": "admit", "member": "fulda", "organisation": "org-f", "public": key("fulda").public, "title": "Fulda"}


NEW = {
    "kind": "recipe",
    "digest": b"r" * 32,
    "title": "New",
    "model": b"m" * 32,
    "active": True,
    "interval": 7,
}


def context(**options):
    return small_context(**{"delegations": (("evora", "ada", 1_000),), **options})


def play(now, action, votes, blocks=5, time=0):
    """Propose, vote at once, and go on to the height and the time at which it closes."""
    proposals.propose(now, "evora", tx.Propose("title", action))
    number = now.chain.proposals
    for name, choice in votes.items():
        proposals.cast_vote(now, name, tx.CastVote(number, choice))
    now = later(now, blocks, time)
    end_block(now)
    return now, now.draft.need(Proposal, number)


def yes(*names):
    return dict.fromkeys(names or HOSPITALS, "yes")


def said(now, kind):
    return [event for event in now.events if event.kind == kind]


def test_a_proposal_costs_its_deposit_and_gives_it_back():
    now = context()
    proposals.propose(now, "evora", tx.Propose("title", SPEND))
    assert now.member("evora").free == 9_900
    assert supply_parts(now.draft.finish())["deposits"] == 100
    now = later(now, 5)
    end_block(now)
    assert now.draft.need(Proposal, 1).status == "rejected"
    assert now.member("evora").free == 10_000


def test_who_cannot_pay_the_deposit_does_not_propose():
    now = context(free=99)
    with refuses("insufficient-funds"):
        proposals.propose(now, "evora", tx.Propose("title", SPEND))


def test_there_are_so_many_open_proposals_at_most():
    now = context(max_proposals=10, max_own_proposals=5)
    for name in ("evora", "ada") * 5:
        proposals.propose(now, name, tx.Propose("title", SPEND))
    with refuses("limit-reached", "10 proposals are open"):
        proposals.propose(now, "bern", tx.Propose("title", SPEND))
    now = later(now, 5)
    end_block(now)
    proposals.propose(now, "bern", tx.Propose("title", SPEND))
    assert now.chain.proposals == 11


@pytest.mark.parametrize("most", [10, 11, 100])
def test_no_organisation_takes_more_than_half_of_the_places(most):
    now = context(max_proposals=most, max_own_proposals=most // 2)
    action = {"kind": "set-parameter", "name": "max_own_proposals", "value": most // 2 + 1}
    with refuses("bad-value", f"at most half of max_proposals, {most}"):
        proposals.propose(now, "evora", tx.Propose("title", action))
    for _ in range(most // 2):
        proposals.propose(now, "evora", tx.Propose("title", SPEND))
    with refuses("limit-reached", "of org-evora"):
        proposals.propose(now, "evora", tx.Propose("title", SPEND))
    for _ in range(most - most // 2):
        name = "bern" if len(now.draft.all(Proposal)) < 2 * (most // 2) else "cork"
        proposals.propose(now, name, tx.Propose("title", SPEND))


def test_an_organisation_cannot_take_the_places_of_the_others():
    now = context(members=("other",), organisations={"evora": "org-e", "other": "org-e"}, max_own_proposals=2)
    for name in ("evora", "other"):
        proposals.propose(now, name, tx.Propose("title", SPEND))
    for name in ("evora", "other"):
        with refuses("limit-reached", "of org-e"):
            proposals.propose(now, name, tx.Propose("title", SPEND))
    proposals.propose(now, "bern", tx.Propose("title", SPEND))
    now = later(now, 5)
    end_block(now)
    proposals.propose(now, "other", tx.Propose("title", SPEND))


@pytest.mark.parametrize(
    ("action", "code"),
    [
        ({}, "malformed"),
        ({"kind": "mint", "amount": 5}, "malformed"),
        ({"kind": ["spend"]}, "malformed"),
        ({"kind": "spend", "member": "evora"}, "malformed"),
        ({**SPEND, "extra": 1}, "malformed"),
        ({**SPEND, "amount": 0}, "bad-amount"),
        ({**SPEND, "amount": True}, "bad-amount"),
        ({**SPEND, "member": "nobody"}, "unknown-member"),
        ({"kind": "set-parameter", "name": "colour", "value": 1}, "bad-value"),
        ({"kind": "set-parameter", "name": "super_nodes", "value": 0}, "bad-value"),
        ({"kind": "set-parameter", "name": "unbonding_blocks", "value": 3_439}, "bad-value"),
        ({"kind": "set-parameter", "name": "voting_blocks", "value": 3_438}, "bad-value"),
        ({"kind": "set-parameter", "name": "delay_seconds", "value": 1}, "bad-value"),
        ({"kind": "set-parameter", "name": "term_length", "value": 999}, "bad-value"),
        ({"kind": "set-parameter", "name": "max_proposals", "value": 9}, "bad-value"),
        ({"kind": "set-parameter", "name": "max_own_proposals", "value": 51}, "bad-value"),
        ({"kind": "set-parameter", "name": "treasury_share", "value": 0}, "bad-value"),
        ({"kind": "set-parameter", "name": "organisation_cap", "value": 333_333}, "bad-value"),
        ({"kind": "set-parameter", "name": "smallest", "value": 7}, "bad-value"),
        ({"kind": "set-parameter", "name": "term_budget", "value": 999}, "bad-value"),
        ({"kind": "set-parameter", "name": "duty_misses", "value": 21}, "bad-value"),
        ({"kind": "set-parameters", "values": {}}, "bad-value"),
        ({"kind": "set-parameters", "values": {"quorum": "half"}}, "bad-value"),
        ({"kind": "set-parameters", "values": {"quorum": True}}, "bad-value"),
        ({**ADMIT, "member": "ada"}, "already-done"),
        ({**ADMIT, "public": key("ada").public}, "already-done"),
        ({**ADMIT, "public": bytes(32)}, "bad-value"),
        ({"kind": "remove", "member": "nobody"}, "unknown-member"),
        ({"kind": "annul-slash", "fault": 1}, "not-found"),
        ({**NEW, "digest": bytes(32), "active": False}, "not-found"),
        ({**NEW, "active": 1}, "bad-value"),
        ({**NEW, "interval": -1}, "bad-value"),
        ({name: value for name, value in NEW.items() if name != "interval"}, "malformed"),
        ({"kind": "upgrade", "protocol": 2, "height": 9}, "bad-value"),
        ({"kind": "upgrade", "protocol": 3, "height": 1}, "bad-value"),
    ],
)
def test_what_could_not_be_carried_out_is_not_proposed(action, code):
    with refuses(code):
        proposals.propose(context(), "evora", tx.Propose("title", action))


def test_the_action_is_kept_in_its_one_encoding():
    now = context()
    proposals.propose(now, "evora", tx.Propose("title", ADMIT))
    assert now.draft.need(Proposal, 1).action == codec.encode(ADMIT)
    assert said(now, "proposal-opened")[0].action == ADMIT


def test_votes_are_taken_up_to_the_closing_height():
    now = context()
    proposals.propose(now, "evora", tx.Propose("title", SPEND))
    last = later(now, 5)
    proposals.cast_vote(last, "ada", tx.CastVote(1, "yes"))
    end_block(last)
    with refuses("wrong-phase"):
        proposals.cast_vote(last, "ada", tx.CastVote(1, "yes"))
    with refuses("not-found"):
        proposals.cast_vote(last, "ada", tx.CastVote(2, "yes"))


def test_who_has_no_stake_does_not_vote():
    now = context(members=("free",))
    proposals.propose(now, "evora", tx.Propose("title", SPEND))
    with refuses("not-allowed", "no stake"):
        proposals.cast_vote(now, "free", tx.CastVote(1, "yes"))
    candidates.register(now, "free", tx.Register(0))
    with refuses("not-allowed", "no stake"):
        proposals.cast_vote(now, "free", tx.CastVote(1, "yes"))


def test_a_later_vote_takes_the_place_of_an_earlier():
    now = context()
    proposals.propose(now, "evora", tx.Propose("title", SPEND))
    for choice in ("yes", "no", "abstain"):
        proposals.cast_vote(now, "bern", tx.CastVote(1, choice))
    assert count_votes(now.draft, now.draft.where(Vote, "proposal", 1)) == Tally(0, 0, 1_000, 0, 5_000)


def tally(now, **choices):
    return count_votes(now.draft, [Vote(1, name, choice) for name, choice in choices.items()])


def test_a_vote_follows_the_stake_and_a_delegator_overrides_its_delegate():
    now = context()
    assert tally(now, ada="yes") == Tally(2_000, 0, 0, 0, 5_000)
    assert tally(now, ada="yes", evora="no") == Tally(1_000, 1_000, 0, 0, 5_000)
    assert tally(now, evora="veto") == Tally(0, 0, 0, 1_000, 5_000)
    assert tally(now, ada="yes", evora="abstain", bern="no") == Tally(1_000, 1_000, 1_000, 0, 5_000)


def test_a_candidate_that_is_jailed_or_retired_still_carries_its_voters_but_a_tombstoned_one_only_itself():
    now = context()
    ada = now.candidate("ada")
    for change in ({"jailed": True}, {"active": False}):
        now.draft.put(replace(ada, **change))
        assert tally(now, ada="yes").yes == 2_000
    now.draft.put(replace(ada, jailed=True, tombstoned=True))
    assert tally(now, ada="yes").yes == 1_000
    assert tally(now, ada="yes", evora="no") == Tally(1_000, 1_000, 0, 0, 5_000)


def test_the_vote_of_who_was_removed_does_not_count():
    now = context()
    now.draft.put(replace(now.member("ada"), active=False))
    assert tally(now, ada="yes", bern="yes").yes == 1_000


NAMES = ("a", "b", "c", "d")


pools = st.fixed_dictionaries(
    {name: st.lists(st.integers(0, 50), min_size=4, max_size=4) for name in NAMES[:3]},
)
choices_of = st.dictionaries(st.sampled_from(NAMES), st.sampled_from(["yes", "no", "abstain", "veto"]))


@given(
    pools, st.lists(st.integers(0, 300), min_size=3, max_size=3), choices_of, st.sets(st.sampled_from(NAMES)), st.data()
)
def test_no_unit_votes_twice_and_all_agree_with_exact_fractions(held, worth, voters, gone, data):
    draft = State.empty().draft()
    for name in NAMES:
        draft.put(Member(name, f"org-{name}", name not in gone, 0, (), None, 0, 0, 0, "", "", b""))
    tombstoned = data.draw(st.sets(st.sampled_from(NAMES[:3]), max_size=1))
    for (name, counts), percent in zip(held.items(), worth, strict=True):
        shares = sum(counts)
        for other, count in zip(NAMES, counts, strict=True):
            if count:
                draft.put(Delegation(other, name, count, 0))
        tokens, barred = shares * percent // 100, name in tombstoned
        draft.put(Candidate(name, f"org-{name}", True, 0, 0, 0, tokens, shares, 0, 0, barred, 0, False, barred, 0))
    state = draft.finish()
    votes = [Vote(1, name, choice) for name, choice in voters.items()]
    counted = count_votes(state, votes)
    exact = Counter()
    choices = {vote.member: vote.choice for vote in votes if state.need(Member, vote.member).active}
    for one in state.all(Delegation):
        pool = state.need(Candidate, one.candidate)
        carried = choices.get(pool.member) if not pool.tombstoned else None
        choice = choices.get(one.member, carried)
        if choice:
            exact[choice] += Fraction(one.shares * pool.tokens, pool.shares)
    assert counted.bonded == sum(one.tokens for one in state.all(Candidate))
    assert 0 <= counted.votes <= counted.bonded
    for choice, units in (
        ("yes", counted.yes),
        ("no", counted.no),
        ("veto", counted.against),
        ("abstain", counted.abstain),
    ):
        # Each voter's delegation is rounded down, by less than a unit; a delegate may gain what others lose by it.
        assert abs(units - exact[choice]) < state.count(Delegation) + 1
        assert units >= 0


def decide(votes, **changed):
    parameters = replace(Parameters(), **changed)
    return verdict(Tally(*votes, bonded=1_000), parameters)[0]


@pytest.mark.parametrize(
    ("votes", "status"),
    [
        ((0, 0, 0, 0), "rejected"),
        ((400, 0, 0, 0), "passed"),
        ((399, 0, 0, 0), "rejected"),
        ((1, 0, 399, 0), "passed"),
        ((0, 0, 400, 0), "rejected"),
        ((200, 200, 0, 0), "rejected"),
        ((201, 200, 0, 0), "passed"),
        ((300, 0, 0, 149), "passed"),
        ((300, 0, 0, 151), "vetoed"),
        ((0, 0, 0, 399), "rejected"),
        ((0, 0, 0, 400), "vetoed"),
        ((201, 100, 0, 100), "passed"),
        ((200, 100, 0, 100), "rejected"),
    ],
)
def test_quorum_veto_and_threshold_at_their_edges(votes, status):
    assert decide(votes) == status


def test_a_veto_needs_more_than_its_part_and_a_threshold_more_than_its_part():
    assert decide((500, 0, 0, 500), veto=500_000, threshold=499_999 + 1) == "rejected"
    assert decide((499, 0, 0, 501), veto=500_000) == "vetoed"
    assert decide((600, 400, 0, 0), threshold=600_000) == "rejected"
    assert decide((601, 399, 0, 0), threshold=600_000) == "passed"


def test_nothing_bonded_passes_nothing():
    assert verdict(Tally(0, 0, 0, 0, 0), Parameters())[0] == "rejected"


def test_a_veto_costs_the_deposit():
    now, proposal = play(context(), SPEND, dict.fromkeys(HOSPITALS, "veto"))
    assert proposal.status == "vetoed"
    assert now.member("evora").free == 9_900
    assert now.chain.treasury == 1_000_100
    assert said(now, "proposal-closed")[0].deposit_to == "treasury"


def test_what_passed_is_carried_out_after_the_delay_and_not_before():
    now, proposal = play(context(), SPEND, yes())
    assert (proposal.status, proposal.executes) == ("passed", now.height + 3)
    assert (proposal.yes, proposal.bonded) == (5_000, 5_000)
    now = later(now, 2)
    end_block(now)
    assert now.member("evora").free == 10_000
    now = later(now)
    end_block(now)
    assert now.draft.need(Proposal, 1).status == "executed"
    assert now.member("evora").free == 10_070
    assert now.chain.treasury == 1_000_000 - 70
    now = later(now)
    end_block(now)
    assert now.member("evora").free == 10_070


def carried_out(action, now=None, change=None) -> tuple[Context, Proposal]:
    now, proposal = play(now or context(), action, yes())
    assert proposal.status == "passed"
    now = later(now, 3)
    if change:
        change(now)
    end_block(now)
    return now, now.draft.need(Proposal, proposal.number)


def code(now):
    """Return by which code the last proposal that was due has failed."""
    return said(now, "proposal-executed")[-1].reason


def test_more_than_the_treasury_holds_is_not_spent():
    now = context(treasury=80, proposal_deposit=50, round_pool=500)
    drained = {"change": lambda now: (now.treasury(-20), now.free("evora", 20))}
    now, proposal = carried_out(SPEND, now=now, **drained)
    assert (proposal.status, code(now)) == ("failed", "insufficient-funds")
    assert now.chain.treasury == 60
    assert not said(now, "treasury-spent")


def test_a_parameter_is_validated_again_when_it_takes_effect():
    def shrink(now):
        now.draft.put(replace(now.parameters, unbonding_blocks=3_440))

    # Two terms of 1,001 blocks and the windows of a round need 3,442.
    action = {"kind": "set-parameter", "name": "term_length", "value": 1_001}
    now, proposal = carried_out(action, now=context(unbonding_blocks=3_442), change=shrink)
    assert (proposal.status, now.parameters.term_length) == ("failed", 1_000)
    assert code(now) == "bad-value"
    now, proposal = carried_out(action, now=context(unbonding_blocks=3_442))
    assert (proposal.status, now.parameters.term_length) == ("executed", 1_001)
    assert [asdict(one) for one in said(now, "parameter-set")] == [
        {"name": "term_length", "before": 1_000, "after": 1_001}
    ]


# Periods: heights and block time


CLOCKS = {
    "voting_blocks": 5,
    "voting_seconds": 60,
    "delay_blocks": 3,
    "delay_seconds": 30,
    "unbonding_seconds": 90,
}


@pytest.mark.parametrize(
    ("blocks", "time", "closed"),
    [(5, 60_000, True), (4, 60_000, False), (5, 59_999, False), (4, 10**9, False), (10**4, 59_999, False)],
)
def test_votes_are_counted_once_both_the_height_and_the_time_have_come(blocks, time, closed):
    _, proposal = play(context(**CLOCKS), SPEND, yes(), blocks, time)
    assert proposal.status == ("passed" if closed else "voting")


@pytest.mark.parametrize(
    ("blocks", "time", "due"),
    [(3, 30_000, True), (2, 30_000, False), (3, 29_999, False), (2, 10**9, False), (10**4, 29_999, False)],
)
def test_what_passed_takes_effect_once_both_the_height_and_the_time_have_come(blocks, time, due):
    now, proposal = play(context(**CLOCKS), SPEND, yes(), 5, 60_000)
    assert (proposal.executes, proposal.executes_time) == (now.height + 3, now.time + 30_000)
    now = later(now, blocks, time)
    end_block(now)
    assert now.draft.need(Proposal, 1).status == ("executed" if due else "passed")


@pytest.mark.parametrize("floor", ["voting_seconds", "delay_seconds", "term_length"])
@pytest.mark.parametrize("together", [False, True])
def test_no_vote_makes_voting_or_its_delay_or_a_term_shorter_than_at_genesis(floor, together):
    def action(value):
        if together:
            return {"kind": "set-parameters", "values": {floor: value}}
        return {"kind": "set-parameter", "name": floor, "value": value}

    now = context(**CLOCKS)
    lowest = getattr(now.parameters, floor)
    assert lowest == {**CLOCKS, "term_length": 1_000}[floor]
    with refuses("bad-value", f"at least {lowest}"):
        proposals.propose(now, "evora", tx.Propose("title", action(lowest - 1)))
    # Once it is longer it may become as short as it was, and no shorter.
    now.draft.put(replace(now.parameters, **{floor: lowest + 100}))
    with refuses("bad-value", f"at least {lowest}"):
        proposals.propose(now, "evora", tx.Propose("title", action(lowest - 1)))
    proposals.propose(now, "evora", tx.Propose("title", action(lowest)))


# Spending


def pay(now, *amounts):
    """Carry out proposals that spend these amounts, all due in one block; return how each ended."""
    for amount in amounts:
        proposals.propose(now, "evora", tx.Propose("title", {**SPEND, "amount": amount}))
        for name in HOSPITALS:
            proposals.cast_vote(now, name, tx.CastVote(now.chain.proposals, "yes"))
    now = later(now, 5)
    end_block(now)
    now = later(now, 3)
    end_block(now)
    return now, [(one.status, one.reason) for one in said(now, "proposal-executed")]


def limit_of(now):
    return now.chain.supply * now.parameters.spending // 1_000_000


def test_no_proposal_spends_more_than_a_term_s_limit():
    now = context(spending=5_000)
    with refuses("limit-reached", str(limit_of(now))):
        proposals.propose(now, "evora", tx.Propose("title", {**SPEND, "amount": limit_of(now) + 1}))
    now, done = pay(now, limit_of(now))
    assert done == [("executed", "")]


def test_what_proposals_spend_in_one_term_is_limited_together_and_the_next_term_begins_anew():
    now = context(spending=5_000)
    limit = limit_of(now)
    now, done = pay(now, limit - 10, 11, 10)
    assert done == [("executed", ""), ("failed", "limit-reached"), ("executed", "")]
    assert now.term.spent == limit
    now.draft.put(replace(now.draft.need(Term, 2), start=now.height + 1))
    now.change_chain(term=2)
    now, done = pay(now, limit)
    assert done == [("executed", "")]
    assert [now.draft.need(Term, number).spent for number in (1, 2)] == [limit, limit]


def test_the_limit_is_a_part_of_the_supply_rounded_down_and_may_be_nothing():
    now = context(spending=1)
    assert (now.chain.supply, limit_of(now)) == (1_055_000, 1)
    now.draft.put(replace(now.parameters, spending=0))
    with refuses("limit-reached"):
        proposals.propose(now, "evora", tx.Propose("title", {**SPEND, "amount": 1}))


# Amounts that are bounded by the supply


@pytest.mark.parametrize(
    ("name", "most"), [("proposal_deposit", 1_055), ("min_self_stake", 10_550), ("round_pool", 10_550)]
)
def test_no_vote_makes_proposing_serving_or_paying_impossible_for_all(name, most):
    now = context()
    assert now.chain.supply == 1_055_000
    action = {"kind": "set-parameter", "name": name}
    with refuses("bad-value", f"at most {most}"):
        proposals.propose(now, "evora", tx.Propose("title", {**action, "value": most + 1}))
    proposals.propose(now, "evora", tx.Propose("title", {**action, "value": most}))


@pytest.mark.parametrize(("name", "most"), [("quorum", 600_000), ("threshold", 666_667), ("veto", 500_000)])
def test_no_vote_makes_the_next_one_need_everybody(name, most):
    action = {"kind": "set-parameter", "name": name}
    with refuses("bad-value", str(most)):
        proposals.propose(context(), "evora", tx.Propose("title", {**action, "value": most + 1}))
    now, _ = carried_out({**action, "value": most})
    _, done = play(later(now), SPEND, yes())
    assert done.status == "passed"


def test_shares_that_must_add_up_are_changed_together():
    shares = {"contributor_share": 600_000, "super_node_share": 300_000}
    now, _ = carried_out({"kind": "set-parameters", "values": shares})
    assert (now.parameters.contributor_share, now.parameters.super_node_share) == (600_000, 300_000)
    assert len(said(now, "parameter-set")) == 2


def test_an_admitted_member_is_there():
    now, _ = carried_out(ADMIT)
    assert now.active_member("fulda").title == "Fulda"


def test_who_came_in_meanwhile_is_not_admitted_twice():
    def already(now):
        proposals.propose(now, "evora", tx.Propose("title", ADMIT))

    now, proposal = carried_out(ADMIT)
    assert proposal.status == "executed"
    with refuses("already-done"):
        already(now)


def test_a_removed_member_is_out_and_its_stake_on_its_way():
    now, proposal = carried_out({"kind": "remove", "member": "bern"})
    assert proposal.status == "executed"
    assert not now.member("bern").active
    assert said(now, "member-removed")[0].proposal == 1


def test_a_recipe_is_registered_and_taken_out_of_use_with_the_model_it_has_reached():
    now, _ = carried_out(NEW)
    made = now.draft.need(Recipe, b"r" * 32)
    assert (made.title, made.model, made.active, made.interval) == ("New", b"m" * 32, True, 7)
    assert (made.scheduled, made.round, made.exposed) == (0, 0, False)
    now, _ = carried_out({**NEW, "digest": RECIPE, "active": False}, now=later(now))
    known = now.draft.need(Recipe, RECIPE)
    assert (known.title, known.model, known.active, known.interval, known.exposed) == ("New", MODEL, False, 7, False)


@pytest.mark.parametrize(
    ("model", "seen", "exposed"), [(b"m" * 32, True, True), (b"m" * 32, False, False), (b"n" * 32, True, False)]
)
def test_a_recipe_is_set_to_a_model_of_which_updates_may_have_been_seen_or_not(model, seen, exposed):
    now = context(contributors=HOSPITALS)
    rounds.end_block(now)
    now.draft.put(replace(now.draft.need(Round, 1), model=model, committed=5, seen=seen))
    now, _ = carried_out({**NEW, "digest": RECIPE}, now=now)
    assert now.draft.need(Recipe, RECIPE).exposed == exposed
    # A change of the title, or of the interval, changes nothing.
    now.draft.put(replace(now.draft.need(Recipe, RECIPE), exposed=True))
    now, _ = carried_out({**NEW, "digest": RECIPE, "interval": 8}, now=now)
    assert now.draft.need(Recipe, RECIPE).exposed


def test_a_recipe_that_is_set_anew_keeps_its_rounds_and_its_interval_counts_on():
    now = context(contributors=HOSPITALS)
    rounds.end_block(now)
    before = now.draft.need(Recipe, RECIPE)
    assert (before.round, before.scheduled) == (1, now.height)
    now, _ = carried_out({**NEW, "digest": RECIPE}, now=now)
    after = now.draft.need(Recipe, RECIPE)
    assert (after.round, after.scheduled) == (1, before.scheduled)


# An upgrade


UPGRADE = {"kind": "upgrade", "protocol": 4, "height": 20}


def test_an_upgrade_is_set_moved_and_taken_back():
    now, _ = carried_out(UPGRADE)
    assert (now.chain.protocol, now.chain.upgrade_to, now.chain.upgrade_at) == (3, 4, 20)
    now, _ = carried_out({**UPGRADE, "protocol": 5, "height": 40}, now=now)
    assert (now.chain.upgrade_to, now.chain.upgrade_at) == (5, 40)
    now, _ = carried_out({**UPGRADE, "height": 0}, now=now)
    assert (now.chain.upgrade_to, now.chain.upgrade_at) == (0, 0)
    assert [(one.protocol, one.height) for one in said(now, "upgrade-set")] == [(4, 0)]


def test_an_upgrade_whose_height_has_passed_meanwhile_fails():
    now, proposal = carried_out({**UPGRADE, "height": 9})
    assert (now.height, proposal.status, code(now)) == (9, "failed", "bad-value")
    assert now.chain.upgrade_to == 0


def test_up_to_the_height_of_an_upgrade_these_rules_execute_and_from_it_on_none_of_these():
    now = context(contributors=())
    now.change_chain(upgrade_to=4, upgrade_at=5)
    state = now.draft.finish()
    for height in (2, 3, 4):
        done = end(begin(state, Block(height, now.time)))
        state = done.state
        assert [one.protocol for one in done.events if one.kind == "protocol-changed"] == [4] * (height == 4)
    chain = state.need(Chain)
    assert (chain.protocol, chain.upgrade_to, chain.upgrade_at) == (4, 0, 0)
    with pytest.raises(WrongProtocol, match=r"from height 5 on .* protocol 4: .* protocol 3"):
        begin(state, Block(5, now.time))


def test_a_slash_is_annulled_out_of_the_treasury():
    now = context()
    fault = Fault(1, "ada", "false-result", 1, 1, 1, 1, 10_000, (), 10**9, False)
    now.draft.put(fault)
    now, proposal = carried_out({"kind": "annul-slash", "fault": 1}, now=now)
    assert proposal.status == "executed"
    assert now.draft.need(Fault, 1).annulled
    with refuses("already-done"):
        read_action({"kind": "annul-slash", "fault": 1}).check(now)


def test_of_two_proposals_due_at_once_the_earlier_comes_first_and_the_later_sees_its_effect():
    now, done = pay(context(treasury=100, proposal_deposit=50, round_pool=500), 70, 70)
    assert done == [("executed", ""), ("failed", "insufficient-funds")]
    assert (now.member("evora").free, now.chain.treasury) == (10_000 + 70, 30)


def test_what_fails_leaves_nothing_behind(monkeypatch):
    def half(self, context, proposal):
        context.treasury(-5)
        raise proposal_actions.Refused("not-allowed", "changed its mind")

    monkeypatch.setattr(proposal_actions.Spend, "carry_out", half)
    now, proposal = carried_out(SPEND)
    assert (proposal.status, code(now)) == ("failed", "not-allowed")
    assert now.chain.treasury == 1_000_000


def test_every_action_has_a_schema_and_a_sentence():
    kinds = ["set-parameter", "set-parameters", "admit", "remove", "spend", "annul-slash", "recipe", "upgrade"]
    assert list(ACTIONS) == kinds
    assert all(cls.__doc__ for cls in ACTIONS.values())


def test_supply_is_conserved_by_every_outcome():
    for choice in ("yes", "no", "veto"):
        now, _ = play(context(), SPEND, dict.fromkeys(HOSPITALS, choice))
        now = later(now, 3)
        end_block(now)
        state = now.draft.finish()
        assert sum(supply_parts(state).values()) == 1_000_000 + 5 * 10_000 + 5_000


@pytest.mark.parametrize(
    ("votes", "parameter"),
    [((399, 0, 0, 0), "quorum"), ((300, 0, 0, 151), "veto"), ((200, 200, 0, 0), "threshold"), ((400, 0, 0, 0), "")],
)
def test_a_verdict_names_the_parameter_that_it_failed_by_and_nothing_in_prose(votes, parameter):
    assert verdict(Tally(*votes, bonded=1_000), Parameters())[1] == parameter
    assert parameter in ("", *(one for one in Parameters.__dataclass_fields__))


def test_what_fails_when_it_is_due_says_a_refusal_s_code():
    gone = {"change": lambda now: now.draft.put(replace(now.member("evora"), active=False))}
    now, proposal = carried_out(SPEND, **gone)
    assert (proposal.status, code(now)) == ("failed", "not-active")
    assert code(now) in REFUSALS
