"""The parameters of a ledger: a table with unit, range, default and meaning of each, and the rules between them."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from fedmeta.govern.errors import Refused
from fedmeta.govern.wire.layout import record

MILLION = 1_000_000
"""Shares and rates are in parts per million."""

LARGEST_EVIDENCE = 40_960
"""Bytes that hold two manifests of the largest cohort and the report of them, or the receipts of all super nodes."""


def _parameter(unit: str, low: int, high: int, default: int, meaning: str) -> Any:
    return field(default=default, metadata={"unit": unit, "low": low, "high": high, "meaning": meaning})


@record("parameters", key=())
@dataclass(frozen=True, slots=True)
class Parameters:
    """Every parameter of a ledger, each a whole number; `TABLE` says unit, range, default and meaning."""

    term_length: int = _parameter("blocks", 2, 10**8, 1_000, "blocks of a term")
    super_nodes: int = _parameter("seats", 1, 100, 7, "super nodes elected for a term")
    standbys: int = _parameter("seats", 0, 100, 5, "standbys elected for a term")
    self_stake_factor: int = _parameter(
        "times", 1, 1_000, 10, "a candidate's weight is at most this times its own stake"
    )
    organisation_cap: int = _parameter("ppm", 1, 333_332, 330_000, "the largest part of the power of one organisation")
    max_seat_changes: int = _parameter("seats", 1, 100, 2, "newcomers in place of incumbents in one election")
    min_self_stake: int = _parameter("units", 1, 10**15, 1_000, "own stake that a candidate needs to be elected")
    commission_cap: int = _parameter("ppm", 0, MILLION, 200_000, "the highest commission")
    commission_rise: int = _parameter("ppm a year", 0, MILLION, 50_000, "how fast a commission may rise, in block time")
    unbonding_period: int = _parameter("blocks", 1, 10**9, 10_000, "blocks from undelegating to being paid")
    evidence_age: int = _parameter("blocks", 1, 10**9, 6_000, "blocks after which a fault can no longer be proven")
    max_delegations: int = _parameter("candidates", 1, 1_000, 30, "candidates that one member may delegate to")
    max_unbonding: int = _parameter("entries", 1, 1_000, 30, "unbonding and redelegation entries of one member")
    round_pool: int = _parameter("units", 0, 10**12, 1_000, "paid for one final round, out of the treasury")
    contributor_share: int = _parameter("ppm", 0, MILLION, 500_000, "the contributors' part of the pool")
    super_node_share: int = _parameter("ppm", 0, MILLION, 400_000, "the part of super nodes and their voters")
    treasury_share: int = _parameter("ppm", 0, MILLION, 100_000, "the part of the pool that stays in the treasury")
    leader_points: int = _parameter("points", 0, 100, 1, "duty points for leading a final round; attesting it gives 1")
    cohort_size: int = _parameter("members", 1, 500, 4, "members drawn for a round, or all if there are fewer")
    open_blocks: int = _parameter("blocks", 1, 10**6, 50, "blocks in which the leader must open the round")
    update_blocks: int = _parameter("blocks", 1, 10**6, 100, "blocks in which the cohort commits its updates")
    manifest_blocks: int = _parameter("blocks", 1, 10**6, 50, "blocks in which the leader must post the manifest")
    commit_blocks: int = _parameter("blocks", 1, 10**6, 50, "blocks in which super nodes commit to a result")
    reveal_blocks: int = _parameter("blocks", 1, 10**6, 50, "blocks in which super nodes reveal their result")
    challenge_blocks: int = _parameter("blocks", 1, 10**6, 200, "blocks in which the standbys judge a challenge")
    challenge_deposit: int = _parameter("units", 0, 10**12, 100, "lost by a challenger who is wrong")
    duty_window: int = _parameter("duties", 1, 64, 20, "the last duties over which misses are counted")
    duty_misses: int = _parameter("duties", 1, 64, 6, "misses in the window that are a fault")
    slash_equivocation: int = _parameter("ppm", 0, MILLION, 100_000, "slashed for two manifests for one round")
    slash_false_result: int = _parameter("ppm", 0, MILLION, 50_000, "slashed for a result that a re-execution refutes")
    slash_withheld_reveal: int = _parameter("ppm", 0, MILLION, 10_000, "slashed for a commit that is never revealed")
    slash_left_out: int = _parameter("ppm", 0, MILLION, 10_000, "slashed for leaving out a receipted update")
    slash_missed_duties: int = _parameter("ppm", 0, MILLION, 1_000, "slashed for too many missed duties")
    jail_blocks: int = _parameter("blocks", 1, 10**8, 1_000, "blocks in jail after a fault")
    reporter_share: int = _parameter("ppm", 0, 500_000, 50_000, "the reporter's part of what is slashed")
    reporter_cap: int = _parameter("units", 0, 10**12, 1_000, "the most that a reporter is paid")
    proposal_deposit: int = _parameter("units", 0, 10**12, 100, "given back unless the proposal is vetoed")
    max_proposals: int = _parameter("proposals", 1, 10_000, 100, "proposals that may be open at once")
    max_own_proposals: int = _parameter(
        "proposals", 1, 10_000, 5, "proposals of one organisation that may be open at once"
    )
    voting_blocks: int = _parameter("blocks", 1, 10**8, 500, "blocks in which a proposal is voted on")
    execution_delay: int = _parameter("blocks", 1, 10**8, 100, "blocks from passing to taking effect")
    quorum: int = _parameter("ppm", 1, MILLION, 400_000, "the part of the bonded stake that must vote")
    threshold: int = _parameter("ppm", 500_000, MILLION - 1, 500_000, "yes must be above this part of yes, no and veto")
    veto: int = _parameter("ppm", 1, 500_000, 333_333, "vetoes above this part of the votes cost the deposit")
    max_transaction_bytes: int = _parameter("bytes", LARGEST_EVIDENCE, 65_536, 65_536, "the size of a transaction")
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


def check_parameters(values: Mapping[str, Any]) -> Parameters:
    """Return the parameters of the defaults and `values`.

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
    _check_together(whole)
    return whole


def _check_together(p: Parameters) -> None:
    shares = p.contributor_share + p.super_node_share + p.treasury_share
    if shares != MILLION:
        raise Refused(
            "bad-value",
            f"contributor_share, super_node_share and treasury_share add up to {shares}: they must add up to {MILLION}",
        )
    longest = round_blocks(p)
    if p.evidence_age < longest:
        raise Refused(
            "bad-value",
            f"evidence_age is {p.evidence_age}: it must be at least {longest}, the longest course of a round",
        )
    answering = 2 * p.term_length + longest + p.evidence_age + p.challenge_blocks
    if p.unbonding_period < answering:
        raise Refused(
            "bad-value",
            f"unbonding_period is {p.unbonding_period}: it must be at least {answering}, that is 2 * term_length, the "
            f"longest course of a round, {longest}, evidence_age and challenge_blocks",
        )
    if p.duty_misses > p.duty_window:
        raise Refused("bad-value", f"duty_misses is {p.duty_misses}: it must be at most duty_window, {p.duty_window}")


def round_blocks(p: Parameters) -> int:
    """Return the most blocks that a round can take once it has been opened, if every super node in turn leads it."""
    return p.update_blocks + p.super_nodes * (p.manifest_blocks + p.commit_blocks + p.reveal_blocks)
