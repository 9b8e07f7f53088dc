"""The parameters of a ledger: a table with unit, range, default and meaning of each, and the rules between them."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from fedmeta.govern.errors import Refused
from fedmeta.govern.wire.layout import record
from fedmeta.govern.wire.parts import Window

MILLION = 1_000_000
"""Shares and rates are in parts per million."""

ATTEMPTS = 3
"""Attempts after which a round is void."""

LONGEST_STRETCH = 3
"""How often the windows of a round can be doubled."""

PHASES = ("commit", "deliver", "compute", "reveal")
"""The phases of a round; the last three are those of an attempt."""

SHORTEST_UNBONDING = 60
"""Seconds in which evidence against those who decide blocks counts, at least."""

LARGEST_TRANSACTION = 65_536
"""Bytes that hold the names of the largest cohort, and its scores."""


def _parameter(unit: str, low: int, high: int, default: int, meaning: str) -> Any:
    return field(default=default, metadata={"unit": unit, "low": low, "high": high, "meaning": meaning})


@record("parameters", key=())
@dataclass(frozen=True, slots=True)
class Parameters:
    """Every parameter of a ledger, each a whole number; `TABLE` says unit, range, default and meaning."""

    term_length: int = _parameter("blocks", 2, 10**6, 1_000, "blocks of a term")
    super_nodes: int = _parameter("seats", 1, 100, 7, "super nodes elected for a term, of as many organisations")
    standbys: int = _parameter("seats", 0, 100, 5, "standbys elected for a term")
    self_stake_factor: int = _parameter(
        "times", 1, 1_000, 10, "a candidate's weight is at most this times its own stake"
    )
    organisation_cap: int = _parameter("ppm", 1, 333_332, 330_000, "the largest part of the power of one organisation")
    max_seat_changes: int = _parameter("seats", 1, 100, 2, "newcomers in place of incumbents in one election")
    min_self_stake: int = _parameter("units", 1, 10**15, 1_000, "own stake that a candidate needs to be elected")
    commission_cap: int = _parameter("ppm", 0, MILLION, 200_000, "the highest commission")
    commission_rise: int = _parameter("ppm a year", 0, MILLION, 50_000, "how fast a commission may rise, in block time")
    unbonding_blocks: int = _parameter("blocks", 1, 10**9, 10_000, "blocks from undelegating to being paid, at least")
    unbonding_seconds: int = _parameter("s", 0, 10**9, 1_209_600, "block time from it to being paid, at least")
    max_delegations: int = _parameter("candidates", 1, 1_000, 30, "candidates that one member may delegate to")
    max_unbonding: int = _parameter("entries", 1, 1_000, 30, "unbonding and redelegation entries of one member")
    round_pool: int = _parameter("units", 0, 10**12, 1_000, "the most that one final round is paid, by the treasury")
    term_budget: int = _parameter("units", 0, 10**15, 50_000, "the most that the rounds of one term are paid")
    contributor_share: int = _parameter("ppm", 0, MILLION, 500_000, "the contributors' part of the pool")
    super_node_share: int = _parameter("ppm", 0, MILLION, 400_000, "the part of super nodes and their voters")
    treasury_share: int = _parameter("ppm", 0, MILLION, 100_000, "the part of the pool that stays in the treasury")
    cohort_size: int = _parameter("organisations", 3, 500, 20, "the most organisations that contribute to a round")
    smallest: int = _parameter("updates", 3, 500, 3, "the fewest updates that a round is made of")
    commit_blocks: int = _parameter("blocks", 12, 10**6, 100, "blocks in which the cohort trains and commits, at least")
    commit_seconds: int = _parameter("s", 0, 10**7, 600, "block time in which it does, at least")
    deliver_blocks: int = _parameter("blocks", 12, 10**6, 40, "blocks in which updates reach the seats, at least")
    deliver_seconds: int = _parameter("s", 0, 10**7, 300, "block time in which they do, at least")
    compute_blocks: int = _parameter("blocks", 12, 10**6, 40, "blocks in which seats compute and commit, at least")
    compute_seconds: int = _parameter("s", 0, 10**7, 300, "block time in which they do, at least")
    reveal_blocks: int = _parameter("blocks", 12, 10**6, 40, "blocks in which seats open their commitments, at least")
    reveal_seconds: int = _parameter("s", 0, 10**7, 120, "block time in which they do, at least")
    duty_window: int = _parameter("duties", 1, 64, 20, "the last duties over which misses are counted")
    duty_misses: int = _parameter("duties", 1, 64, 6, "misses in the window that cost the seat")
    signing_blocks: int = _parameter(
        "blocks", 10, 10**6, 100, "blocks of which one is looked at for which super nodes signed it"
    )
    slash_false_result: int = _parameter("ppm", 0, MILLION, 50_000, "slashed for opening another result than the final")
    slash_double_signature: int = _parameter(
        "ppm", 0, MILLION, 100_000, "slashed for signing two blocks of a height, or a header to mislead light clients"
    )
    jail_blocks: int = _parameter("blocks", 1, 10**8, 1_000, "blocks in jail after a fault or too many absences")
    proposal_deposit: int = _parameter("units", 0, 10**12, 100, "given back unless the proposal is vetoed")
    max_proposals: int = _parameter("proposals", 10, 10_000, 100, "proposals that may be open at once")
    max_own_proposals: int = _parameter(
        "proposals", 1, 10_000, 5, "proposals of one organisation that may be open at once"
    )
    voting_blocks: int = _parameter("blocks", 1, 10**8, 500, "blocks in which a proposal is voted on, at least")
    voting_seconds: int = _parameter("s", 0, 10**8, 259_200, "block time in which it is, at least")
    delay_blocks: int = _parameter("blocks", 1, 10**8, 100, "blocks from passing to taking effect, at least")
    delay_seconds: int = _parameter("s", 0, 10**8, 86_400, "block time from passing to taking effect, at least")
    quorum: int = _parameter("ppm", 1, 600_000, 400_000, "the part of the bonded stake that must vote")
    threshold: int = _parameter("ppm", 500_000, 666_667, 500_000, "yes must be above this part of yes, no and veto")
    veto: int = _parameter("ppm", 250_000, 500_000, 333_333, "vetoes above this part of the votes cost the deposit")
    spending: int = _parameter("ppm", 0, 100_000, 10_000, "the part of the supply that proposals may spend in a term")
    member_transactions: int = _parameter(
        "transactions", 1, 10**6, 200, "transactions of one member in a block, parts of rounds aside"
    )
    max_transaction_bytes: int = _parameter("bytes", 40_960, LARGEST_TRANSACTION, 65_536, "the size of a transaction")
    max_block_bytes: int = _parameter("bytes", 65_536, 1 << 26, 1 << 21, "the size of a block's transactions")


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table of parameters."""

    name: str
    unit: str
    low: int
    high: int
    default: int
    meaning: str


TABLE = {one.name: Row(one.name, default=one.default, **one.metadata) for one in fields(Parameters)}  # type: ignore[arg-type]
"""Name to row, in the order of the documentation."""

OF_SUPPLY = {"proposal_deposit": 1_000, "min_self_stake": 10_000, "round_pool": 10_000}
"""The most that some amounts may be, in parts per million of the supply: else nobody could propose or be elected."""


def check_parameters(values: Mapping[str, Any], supply: int, validators: bool = False) -> Parameters:
    """Return the parameters of the defaults and `values`, for a ledger of so many units.

    `validators` says that the super nodes decide the blocks, and answer for them with their stake.

    Raises:
        Refused: an unknown name, a value outside its range, or values that contradict each other; code `bad-value`.
    """
    for name, value in values.items():
        row = TABLE.get(name)
        if row is None:
            raise Refused("bad-value", f"unknown parameter {name!r:.80}: known are {', '.join(TABLE)}")
        if type(value) is not int or not row.low <= value <= row.high:
            raise Refused(
                "bad-value", f"parameter {name} is {value!r:.80}: it must be from {row.low} to {row.high} {row.unit}"
            )
    whole = Parameters(**values)
    _check_supply(whole, supply)
    _check_together(whole)
    if validators and whole.unbonding_seconds < SHORTEST_UNBONDING:
        raise Refused(
            "bad-value",
            f"unbonding_seconds is {whole.unbonding_seconds}: it must be at least {SHORTEST_UNBONDING} where super "
            "nodes decide blocks: so long evidence counts, and for two thirds of it light clients trust them",
        )
    return whole


def _check_supply(p: Parameters, supply: int) -> None:
    for name, part in OF_SUPPLY.items():
        value = getattr(p, name)
        if value * MILLION > supply * part:
            raise Refused(
                "bad-value",
                f"{name} is {value}: it must be at most {supply * part // MILLION}, {part} ppm of the supply, {supply}",
            )


def _check_together(p: Parameters) -> None:
    shares = p.contributor_share + p.super_node_share + p.treasury_share
    if shares != MILLION:
        raise Refused(
            "bad-value",
            f"contributor_share, super_node_share and treasury_share add up to {shares}: they must add up to {MILLION}",
        )
    shortest = shortest_window(p.super_nodes)
    for name, window in zip(PHASES, windows(p), strict=True):
        if window.blocks < shortest:
            raise Refused(
                "bad-value",
                f"{name}_blocks is {window.blocks}: it must be at least {shortest}, that is 2 * super_nodes + 10, "
                "or dishonest proposers in a row could fill the window",
            )
    answering = 2 * p.term_length + round_blocks(p)
    if p.unbonding_blocks < answering:
        raise Refused(
            "bad-value",
            f"unbonding_blocks is {p.unbonding_blocks}: it must be at least {answering}, that is 2 * term_length and "
            f"the longest course of a round, {round_blocks(p)}",
        )
    for unit in ("blocks", "seconds"):
        stays, voting, delay = (getattr(p, f"{one}_{unit}") for one in ("unbonding", "voting", "delay"))
        if stays < voting + delay:
            raise Refused(
                "bad-value",
                f"unbonding_{unit} is {stays}: it must be at least {voting + delay}, that is voting_{unit} and "
                f"delay_{unit}, or a slash is forgotten before a proposal can annul it",
            )
    if 2 * p.max_own_proposals > p.max_proposals:
        raise Refused(
            "bad-value", f"max_own_proposals is {p.max_own_proposals}: at most half of max_proposals, {p.max_proposals}"
        )
    if p.duty_misses > p.duty_window:
        raise Refused("bad-value", f"duty_misses is {p.duty_misses}: it must be at most duty_window, {p.duty_window}")
    if p.smallest > p.cohort_size:
        raise Refused("bad-value", f"smallest is {p.smallest}: it must be at most cohort_size, {p.cohort_size}")
    if p.term_budget < p.round_pool:
        raise Refused("bad-value", f"term_budget is {p.term_budget}: it must be at least round_pool, {p.round_pool}")


def windows(p: Parameters) -> tuple[Window, ...]:
    """Return the window of each phase, before it is doubled."""
    return tuple(Window(getattr(p, f"{one}_blocks"), getattr(p, f"{one}_seconds") * 1_000) for one in PHASES)


def shortest_window(seats: int) -> int:
    """Return the fewest blocks of a window: more than dishonest proposers can have in a row, whoever begins."""
    return 2 * seats + 10


def round_blocks(p: Parameters) -> int:
    """Return the most blocks that the windows of a round take, all its attempts and doublings included.

    A window also lasts a time. Where blocks come faster than that time allows for, a round takes more of them.
    """
    commit, *others = (one.blocks for one in windows(p))
    return (commit + ATTEMPTS * sum(others)) << LONGEST_STRETCH
