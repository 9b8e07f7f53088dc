"""What anyone may ask of a state: each query is a pure function that gives maps, lists, integers, texts and bytes."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fedmeta.govern.errors import Refused
from fedmeta.govern.rules.candidates import allowed_rise
from fedmeta.govern.rules.members import key_at
from fedmeta.govern.rules.proposals import count_votes
from fedmeta.govern.rules.registrations import place
from fedmeta.govern.rules.rewards import agreed_on, merged
from fedmeta.govern.rules.round_phases import power, window
from fedmeta.govern.rules.stake import value_of
from fedmeta.govern.state.parameters import TABLE, Parameters
from fedmeta.govern.state.records import (
    Attestation,
    Candidate,
    Chain,
    Delegation,
    Fault,
    Hold,
    Member,
    Proposal,
    Recipe,
    Redelegation,
    Registration,
    Round,
    Seal,
    Term,
    Update,
    Vote,
)
from fedmeta.govern.state.state import State
from fedmeta.govern.views import fairness
from fedmeta.govern.views.holdings import holdings
from fedmeta.govern.views.invariants import supply_parts
from fedmeta.govern.wire import codec
from fedmeta.govern.wire.layout import plain
from fedmeta.govern.wire.signatures import digest

PAGE = 100
"""How many entries a list gives, unless asked for fewer or more."""

LARGEST_PAGE = 1_000


@dataclass(frozen=True, slots=True)
class Query:
    """A query: its function, and its arguments after the state with their types; those in `optional` have defaults."""

    function: Callable[..., Any]
    arguments: dict[str, type]
    optional: dict[str, Any]

    @property
    def meaning(self) -> str:
        """What it gives, in one sentence."""
        return (self.function.__doc__ or "").partition("\n")[0]


QUERIES: dict[str, Query] = {}
"""Name to query, in the order of the documentation."""


def _query(function: Callable[..., Any]) -> Callable[..., Any]:
    parameters = list(inspect.signature(function).parameters.values())[1:]
    arguments = {one.name: one.annotation for one in parameters}
    optional = {one.name: one.default for one in parameters if one.default is not one.empty}
    name = function.__name__.removeprefix("ask_").replace("_", "-")
    QUERIES[name] = Query(function, arguments, optional)
    return function


def query(state: State, name: str, /, **arguments: Any) -> Any:
    """Answer a query of `QUERIES`.

    Raises:
        Refused: `not-found` for a query, or a thing, that does not exist; `unknown-member`; `bad-value` for arguments.
    """
    found = QUERIES.get(name)
    if found is None:
        raise Refused("not-found", f"there is no query {name[:40]!r}: there are {', '.join(QUERIES)}")
    for given, value in arguments.items():
        due = found.arguments.get(given)
        if due is None or type(value) is not due:
            wanted = ", ".join(f"{one}: {kind.__name__}" for one, kind in found.arguments.items())
            raise Refused(
                "bad-value", f"{given[:40]}={value!r:.40} is no argument of {name}: it takes {wanted or 'none'}"
            )
    missing = [one for one in found.arguments if one not in arguments and one not in found.optional]
    if missing:
        raise Refused("bad-value", f"the query {name} needs {missing[0]}")
    return found.function(state, **arguments)


@_query
def ask_status(state: State) -> dict[str, Any]:
    """Where the ledger stands: height, term, round, and how many there are of what."""
    chain = state.need(Chain)
    term, round = state.need(Term, chain.term), state.get(Round, chain.round)
    return {
        **plain(chain),
        "height": state.height,
        "time": state.time,
        "app_hash": state.root,
        "term_ends": term.ends,
        "super_nodes": [seat.candidate for seat in term.seats],
        "standbys": [seat.candidate for seat in term.standbys],
        "phase": round.phase if round else "",
        "attempt": round.attempt if round else 0,
        "members": state.count(Member),
        "candidates": state.count(Candidate),
        "voting": [one.number for one in state.where(Proposal, "status", "voting")],
    }


@_query
def ask_supply(state: State) -> dict[str, int]:
    """Where all units lie; the parts add up to the supply."""
    return {**supply_parts(state), "supply": state.need(Chain).supply}


@_query
def ask_member(state: State, name: str) -> dict[str, Any]:
    """A member: its organisation, profile, keys, and whether it is a candidate."""
    member = _need(state, Member, name, "unknown-member", f"nobody named {name!r} is a member")
    height = state.height
    # A member that was admitted in the last block signs from the next one on.
    public = key_at(member, max(height, member.keys[0].since))
    return {**plain(member), "public": public, "candidate": state.get(Candidate, name) is not None}


@_query
def ask_members(state: State, after: str = "", limit: int = PAGE) -> list[dict[str, Any]]:
    """Members by name, those after a name."""
    return [plain(one) for one in _page(state.all(Member), lambda one: one.name > after, limit)]


@_query
def ask_balance(state: State, name: str) -> dict[str, Any]:
    """All that a member holds, in units: free, owed, accrued, bonded, unbonding, deposits, and the total."""
    held = holdings(state, name)
    return {
        "member": name,
        "free": held.free,
        "owed": held.owed,
        "accrued": sum(one.accrued for one in held.bonded),
        "bonded": [plain(one) for one in held.bonded],
        "unbonding": [plain(one) for one in held.unbonding],
        "redelegations": [plain(one) for one in state.where(Redelegation, "member", name)],
        "deposits": held.deposits,
        "total": held.total,
    }


@_query
def ask_candidate(state: State, name: str) -> dict[str, Any]:
    """A candidate: its pool, its own stake, its weight, its commission and what it may rise to now, and its faults."""
    candidate = _need(state, Candidate, name, "not-found", f"{name!r} is no candidate")
    return {**_candidate(state, candidate), "faults": [plain(one) for one in state.where(Fault, "offender", name)]}


@_query
def ask_candidates(state: State, after: str = "", limit: int = PAGE) -> list[dict[str, Any]]:
    """Candidates by name, those after a name."""
    return [_candidate(state, one) for one in _page(state.all(Candidate), lambda one: one.member > after, limit)]


def _candidate(state: State, candidate: Candidate) -> dict[str, Any]:
    own = state.get(Delegation, candidate.member, candidate.member)
    own_stake = value_of(candidate, own.shares) if own else 0
    parameters = state.need(Parameters)
    rise = allowed_rise(candidate, parameters.commission_rise, state.time)
    return {
        **plain(candidate),
        "own_stake": own_stake,
        "weight": min(candidate.tokens, parameters.self_stake_factor * own_stake),
        "highest_commission": min(candidate.commission + rise, parameters.commission_cap),
    }


@_query
def ask_term(state: State, number: int) -> dict[str, Any]:
    """A term: its super nodes and standbys with weight and power, and each organisation's power."""
    term = _need(state, Term, number, "not-found", f"term {number} is not elected yet, or forgotten")
    return {**plain(term), "powers": fairness.powers_by_organisation(term.seats)}


@_query
def ask_validators(state: State) -> list[dict[str, Any]]:
    """Who decides the next block, by which key and with how much power; nobody where a sequencer orders the blocks.

    `since_term` is the first of the terms without a break in which it has a seat, of those that are not forgotten, and
    `missed` how many of its last duties it missed.
    """
    chain = state.need(Chain)
    if not chain.validators:
        return []
    found = []
    for seat in state.need(Term, chain.term).seats:
        candidate, since = state.need(Candidate, seat.candidate), chain.term
        while (before := state.get(Term, since - 1)) and any(one.candidate == seat.candidate for one in before.seats):
            since -= 1
        found.append(
            {
                "candidate": seat.candidate,
                "organisation": seat.organisation,
                "power": seat.power,
                "public": candidate.consensus,
                "address": digest(candidate.consensus)[:20],
                "since_term": since,
                "missed": candidate.window.bit_count(),
            }
        )
    return found


@_query
def ask_round(state: State, number: int) -> dict[str, Any]:
    """A round: its course, what was committed, who holds what, and what the seats revealed.

    `closes` and `closes_time` say when the present window closes at the latest; both must have come.
    """
    round = _need(state, Round, number, "not-found", f"there is no round {number} yet, or it is forgotten")
    due = None if round.settled else window(round)
    return {
        **plain(round),
        "power": power(round),
        "closes": round.opened + due.blocks if due else 0,
        "closes_time": round.opened_time + due.milliseconds if due else 0,
        "updates": [plain(one) for one in state.where(Update, "round", number)],
        "seals": [plain(one) for one in state.where(Seal, "round", number)],
        "holds": [plain(one) for one in state.where(Hold, "round", number)],
        "attestations": [plain(one) for one in state.where(Attestation, "round", number)],
    }


@_query
def ask_scores(state: State, number: int) -> dict[str, Any]:
    """What the updates of a final round were found worth, and how far each seat's scores are from the median.

    In millionths. `distance` is the mean over the updates of other organisations, rounded down.
    """
    round = _need(state, Round, number, "not-found", f"there is no round {number} yet, or it is forgotten")
    agreed = agreed_on(state.get, round) if round.result else []
    updates = [state.need(Update, number, one) for one in round.members] if agreed else []
    medians = merged(updates, agreed)
    scorers = []
    for seat, opened in agreed:
        others = [at for at, one in enumerate(updates) if one.organisation != seat.organisation]
        apart = sum(abs(opened.scores[at] - medians[at]) for at in others)
        scorers.append(
            {
                "candidate": seat.candidate,
                "scores": {updates[at].member: opened.scores[at] for at in others},
                "distance": apart // len(others) if others else 0,
            }
        )
    return {
        "round": number,
        "updates": [
            {"member": one.member, "score": score, "unpaid": one.unpaid}
            for one, score in zip(updates, medians, strict=True)
        ],
        "scorers": scorers,
    }


@_query
def ask_registrations(state: State, recipe: bytes) -> list[dict[str, Any]]:
    """Who contributes to a recipe, those that have waited longest first."""
    found = [one for one in state.where(Registration, "recipe", recipe) if one.active]
    return [plain(one) for one in sorted(found, key=place)]


@_query
def ask_proposal(state: State, number: int) -> dict[str, Any]:
    """A proposal: its action, its votes, and the count: the present one while it is voted on."""
    return _proposal(state, _need(state, Proposal, number, "not-found", f"there is no proposal {number}, or no more"))


@_query
def ask_proposals(state: State, after: int = 0, limit: int = PAGE) -> list[dict[str, Any]]:
    """Proposals by number, those after a number."""
    return [_proposal(state, one) for one in _page(state.all(Proposal), lambda one: one.number > after, limit)]


def _proposal(state: State, proposal: Proposal) -> dict[str, Any]:
    votes = state.where(Vote, "proposal", proposal.number)
    shown = plain(proposal)
    if proposal.status == "voting":
        counted = count_votes(state, votes)
        shown |= {name: getattr(counted, name) for name in ("yes", "no", "abstain", "against", "bonded")}
    return {
        **shown,
        "action": codec.decode(proposal.action),
        "votes": {vote.member: vote.choice for vote in votes},
        "turnout": fairness.share(sum(shown[name] for name in ("yes", "no", "abstain", "against")), shown["bonded"]),
    }


@_query
def ask_fault(state: State, number: int) -> dict[str, Any]:
    """A proven fault, and what was slashed for it."""
    return plain(_need(state, Fault, number, "not-found", f"there is no fault {number}, or no more"))


@_query
def ask_recipes(state: State) -> list[dict[str, Any]]:
    """All recipes, with the model that each has reached."""
    return [plain(one) for one in state.all(Recipe)]


@_query
def ask_parameters(state: State) -> list[dict[str, Any]]:
    """All parameters: name, value, unit, range, default and meaning."""
    present = state.need(Parameters)
    return [{"name": row.name, "value": getattr(present, row.name), **plain(row)} for row in TABLE.values()]


@_query
def ask_fairness(state: State) -> dict[str, Any]:
    """Gini and Nakamoto coefficients, turnout, and how often the organisations in the present term vote alike."""
    term = state.need(Term, state.need(Chain).term)
    powers = fairness.powers_by_organisation(term.seats)
    organisations = {seat.organisation for seat in (*term.seats, *term.standbys)}
    decided = [one for one in state.all(Proposal) if one.status != "voting"]
    return {
        "gini_stake": fairness.gini(fairness.stake_by_member(state).values()),
        "gini_rewards": fairness.gini(fairness.rewards_by_member(state).values()),
        "gini_power": fairness.gini(powers.values()),
        "nakamoto": fairness.nakamoto(powers)._asdict(),
        "powers": powers,
        "turnout": {str(one.number): fairness.turnout(one) for one in decided},
        "overlap": [one._asdict() for one in fairness.vote_overlap(state, organisations)],
    }


def _need(state: State, cls: type, key: str | int, code: str, message: str) -> Any:
    found = state.get(cls, key)
    if found is None:
        raise Refused(code, message)
    return found


def _page(records: list[Any], wanted: Callable[[Any], bool], limit: int) -> list[Any]:
    if not 1 <= limit <= LARGEST_PAGE:
        raise Refused("bad-value", f"limit is {limit}: it must be from 1 to {LARGEST_PAGE}")
    return [one for one in records if wanted(one)][:limit]
