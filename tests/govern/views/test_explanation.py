"""The worked examples of docs/ledger.md: every row is what the ledger gives."""

import re
from pathlib import Path

import pytest

from fedmeta.govern.machine.genesis import (
    FirstCandidate,
    FirstDelegation,
    FirstMember,
    FirstRecipe,
    FirstRegistration,
    Genesis,
    start,
)
from fedmeta.govern.rules import faults, slashing, stake
from fedmeta.govern.rules.context import Context
from fedmeta.govern.rules.rewards import lower_median
from fedmeta.govern.state.parameters import MILLION, TABLE
from fedmeta.govern.state.records import Candidate, Delegation, Term, Unbonding
from fedmeta.govern.wire import transactions as tx
from fedmeta.govern.wire.round_events import ContributorPaid, PoolReturned, SuperNodePaid
from tests.govern.playing import MODEL, RECIPE, Play, key
from tests.govern.small import settle_all

PAGE = (Path(__file__).parents[3] / "docs" / "ledger.md").read_text("utf-8")
NAMES = ("north", "east", "south", "west")
POOLS = {"north": 45_000, "east": 30_000, "south": 20_000, "west": 15_000}
COMMISSIONS = {"north": 50_000, "east": 100_000, "south": 100_000, "west": 0}


CONTRIBUTORS = ("east", "river", "south", "west")


def genesis():
    return Genesis(
        chain_id="hospitals",
        time=0,
        sequencer=key("sequencer").public,
        treasury=1_000_000,
        parameters={"super_nodes": 4, "standbys": 0},
        members=tuple(FirstMember(name, f"{name}-org", key(name).public, 5_000, "", "") for name in (*NAMES, "river")),
        candidates=tuple(
            FirstCandidate(name, COMMISSIONS[name], 40_000 if name == "north" else POOLS[name]) for name in NAMES
        ),
        delegations=(FirstDelegation("east", "north", 5_000),),
        recipes=(FirstRecipe(RECIPE, "", MODEL, 1),),
        registrations=tuple(FirstRegistration(name, RECIPE) for name in CONTRIBUTORS),
    )


@pytest.fixture
def context():
    return Context(start(genesis()).state, 1, 0)


def row(*cells):
    return "| " + " | ".join(f"{one:,}" if isinstance(one, int) else one for one in cells) + " |"


def pool(context):
    """Return units and shares of north's pool, and what each of three members has in it."""
    north = context.candidate("north")
    held = [context.draft.get(Delegation, name, "north") for name in ("north", "east", "west")]
    return north.tokens, north.shares, *(stake.value_of(north, one.shares) if one else 0 for one in held)


def test_the_example_of_pools_and_shares_is_what_the_ledger_gives(context):
    assert row("at first", *pool(context)) in PAGE
    slashing.cut_stake(context, "north", 1, 50_000, MILLION)
    assert row("slashed by 5 %", *pool(context)) in PAGE
    stake.delegate(context, "west", tx.Delegate("north", 1_000))
    assert row("west delegates 1,000", *pool(context)) in PAGE


def test_the_example_of_powers_is_what_an_election_gives(context):
    seats = context.draft.need(Term, 1).seats
    total = sum(seat.power for seat in seats)
    for seat in seats:
        assert row(seat.candidate, seat.weight, seat.power, f"{seat.power * 100 / total:.4f} %") in PAGE
    # The largest whole number that is at most 33 % of itself and the others together.
    assert 32_014 * 100 <= 33 * (32_014 + 65_000)
    assert 32_015 * 100 > 33 * (32_015 + 65_000)
    power = {seat.candidate: seat.power for seat in seats}
    needed = total * 2 // 3
    assert f"more than {needed:,}" in " ".join(PAGE.split())
    assert power["east"] + power["south"] + power["west"] > needed >= power["north"] + power["east"]


def test_the_example_of_the_median_is_what_the_rules_give(context):
    power = {seat.candidate: seat.power for seat in context.draft.need(Term, 1).seats}
    scores = {name: SCORES[name][0] for name in ("west", "north", "south")}
    for name, score in scores.items():
        assert row(name, power[name], score) in PAGE
    assert lower_median((score, power[name]) for name, score in scores.items()) == 250_000
    half = sum(power[name] for name in scores) // 2
    assert f"Half of their power, {half:,}, is reached at the second" in " ".join(PAGE.split())


def test_the_example_of_a_final_round_is_what_the_ledger_pays():
    play = Play(genesis())
    round = play.round(scores=SCORES)
    assert round.members == CONTRIBUTORS
    paid = play.events(ContributorPaid)
    for name, event in zip(CONTRIBUTORS, paid, strict=True):
        assert event.member == name
        exact = event.pool * event.score / event.total_score
        sum_ = f"{event.pool} * {event.score:,} / {event.total_score:,} = {exact:.2f}"
        assert row(name, event.score, sum_, event.amount) in PAGE
    assert f"Here they sum to {sum(event.score for event in paid):,}" in " ".join(PAGE.split())
    for event in play.events(SuperNodePaid):
        rate = event.commission_rate // 10_000
        commission = f"{event.commission} ({rate} %)" if rate else "0"
        assert row(event.candidate, event.amount, commission, event.voters) in PAGE
    (kept,) = play.events(PoolReturned)
    lower = 1_000_000 - play.chain.treasury
    assert kept.amount == 1_000 - lower
    given = sum(event.amount for event in paid)
    told = " ".join(PAGE.split())
    assert f"The treasury is {lower} units lower after this round: {given} went to contributors" in told
    assert f"and {lower - given} to super nodes and voters" in told
    assert of_north(play.state) == (84, 10)


@pytest.mark.parametrize("settling", [False, True])
def test_two_claims_give_what_one_after_two_rounds_gives(context, settling):
    settled = [0, 0]
    for due in ([84, 10], [168, 21]):
        stake.give_voters(context, "north", 95)
        accrued = of_north(context.draft)
        assert [before + now for before, now in zip(settled, accrued, strict=True)] == due
        if settling:
            settled = due
            for name in ("north", "east"):
                settle_all(context, name)
    assert "84.44 and east's 5,000 give 10.56" in " ".join(PAGE.split())
    assert (f"{95 * 40 / 45:.2f}", f"{95 * 5 / 45:.2f}") == ("84.44", "10.56")
    assert (f"{190 * 40 / 45:.2f}", f"{190 * 5 / 45:.2f}") == ("168.89", "21.11")
    assert "168.89 and 21.11 are due in all, and they get another 84 and 11" in " ".join(PAGE.split())


def of_north(state):
    """Return what north and east could claim of the rewards that lie in north's pool."""
    candidate = state.need(Candidate, "north")
    return tuple(stake.accrued(state.need(Delegation, name, "north"), candidate) for name in ("north", "east"))


SCORES = {
    "north": (250_000, 233_333, 240_000, 260_000),
    "east": (0, 235_000, 240_000, 265_000),
    "south": (300_000, 200_000, 0, 250_000),
    "west": (220_000, 240_000, 245_000, 0),
}
"""For the four updates of the example, in the order of their names."""


def test_the_example_of_a_slash_is_what_the_ledger_takes(context):
    stake.delegate(context, "east", tx.Delegate("north", 1_000))
    stake.undelegate(context, "east", tx.Undelegate("north", 1_000))
    assert context.candidate("north").tokens == 45_000
    before = context.chain.treasury
    fault = faults.prove(context, "north", "false-result", 1, infraction=1)
    taken = {cut.place: cut.amount for cut in fault.cuts}
    assert row("the pool", 45_000, taken["pool"]) in PAGE
    assert row("on its way out", 1_000, taken["unbonding"]) in PAGE
    assert f"| the treasury gets | | {context.chain.treasury - before:,} |" in PAGE
    assert context.draft.need(Unbonding, "north", "east", 1).amount == 950


def test_two_faults_of_a_term_take_what_the_graver_one_takes(context):
    faults.prove(context, "north", "false-result", 1, infraction=1)
    assert context.candidate("north").tokens == 42_750
    fault = faults.prove(context, "north", "double-signature", 1, infraction=1)
    assert sum(cut.amount for cut in fault.cuts) == 2_250
    assert context.candidate("north").tokens == 40_500 == 45_000 * 90 // 100
    for figure in ("42,750", "50,000 of 950,000", "2,250", "40,500"):
        assert figure in PAGE


def test_the_page_says_what_each_fault_costs():
    for name, kind in faults.KINDS.items():
        cost = TABLE[kind.parameter].default // 10_000
        then = "barred for good" if kind.final else "and jail"
        assert re.search(rf"^\| `{name}` \| .* \| {cost} %, {then} \|$", PAGE, re.MULTILINE), name
