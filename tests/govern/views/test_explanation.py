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
from fedmeta.govern.wire.events import ContributorPaid, PoolReturned, PoolShared, SuperNodePaid
from tests.govern.playing import MODEL, RECIPE, Play, key
from tests.govern.small import settle_all

PAGE = (Path(__file__).parents[3] / "docs" / "ledger.md").read_text("utf-8")
TEXT = " ".join(PAGE.split())
NAMES = ("north", "east", "south", "west")
CONTRIBUTORS = ("east", "river", "south", "west")
POOLS = {"north": 45_000, "east": 30_000, "south": 20_000, "west": 15_000}
COMMISSIONS = {"north": 50_000, "east": 100_000, "south": 100_000, "west": 0}


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
    assert f"more than {needed:,}" in TEXT
    assert f"the sum that it leads to, {total:,}" in TEXT
    assert power["east"] + power["south"] + power["west"] > needed >= power["north"] + power["east"]


def test_the_example_of_the_median_is_what_the_rules_give(context):
    power = {seat.candidate: seat.power for seat in context.draft.need(Term, 1).seats}
    scores = {name: given[0] for name, given in SCORES.items() if name != "east"}
    for name, score in scores.items():
        assert row(name, power[name], score) in PAGE
    half = sum(power[name] for name in scores) // 2
    assert f"Half of their power, {half:,}, is reached at the second" in TEXT
    assert lower_median([(score, power[name]) for name, score in scores.items()]) == 250_000
    # Who scores others higher than it can pay for has none left for the rest.
    assert all(sum(given) <= 250_000 * sum(map(bool, given)) for given in SCORES.values())


def test_the_example_of_a_final_round_is_what_the_ledger_pays():
    play = Play(genesis())
    round = play.round(scores=SCORES)
    assert round.members == CONTRIBUTORS
    paid = play.events(ContributorPaid)
    assert [event.member for event in paid] == list(CONTRIBUTORS)
    for event in paid:
        exact = event.pool * event.score / event.total_score
        sum_ = f"{event.pool} * {event.score:,} / {event.total_score:,} = {exact:.2f}"
        assert row(event.member, event.score, sum_, event.amount) in PAGE
    assert f"Here they sum to {sum(event.score for event in paid):,}, and the rest stays in the treasury" in TEXT
    for event in play.events(SuperNodePaid):
        rate = event.commission_rate // 10_000
        commission = f"{event.commission} ({rate} %)" if rate else "0"
        assert row(event.candidate, event.amount, commission, event.voters) in PAGE
    (shared,), (kept,) = play.events(PoolShared), play.events(PoolReturned)
    spent, contributors = 1_000_000 - play.chain.treasury, sum(event.amount for event in paid)
    assert (spent, kept.amount, shared.seats) == (891, shared.pool - 891, 4)
    assert (
        f"The treasury is {spent} units lower after this round: {contributors} went to contributors and "
        f"{spent - contributors} to super nodes and voters"
    ) in TEXT
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
    first, second = ([f"{times * 95 * part / 45:.2f}" for part in (40, 5)] for times in (1, 2))
    assert f"40,000 of 45,000 give {first[0]} and east's 5,000 give {first[1]}" in TEXT
    assert f"after a second such round {second[0]} and {second[1]} are due in all" in TEXT
    assert "now they get 84 and 10" in TEXT
    assert f"they get another {168 - 84} and {21 - 10}" in TEXT


def of_north(state):
    """Return what north and east could claim of the rewards that lie in north's pool."""
    candidate = state.need(Candidate, "north")
    return tuple(stake.accrued(state.need(Delegation, name, "north"), candidate) for name in ("north", "east"))


SCORES = {
    "west": (220_000, 290_000, 240_000, 0),
    "north": (250_000, 233_333, 240_000, 260_000),
    "south": (300_000, 200_000, 0, 250_000),
    "east": (0, 233_333, 240_000, 260_000),
}
"""What each seat gives the updates of east, river, south and west: nothing to its own."""


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
    for figure in (
        "A false result (5 %) leaves 42,750 of 45,000.",
        "takes 50,000 of 950,000 parts of that, 2,250, and leaves 40,500",
    ):
        assert figure in TEXT


def test_the_page_says_what_each_fault_costs():
    for name, kind in faults.KINDS.items():
        cost = TABLE[kind.parameter].default // 10_000
        then = "barred for good" if kind.final else "and jail"
        assert re.search(rf"^\| `{name}` \| .* \| {cost} %, {then} \|$", PAGE, re.MULTILINE), name
