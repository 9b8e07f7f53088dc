"""Why a member has what it has: its holdings followed through the events of the blocks, to the unit.

The identity that is kept: holdings (free, owed, the value of what is bonded, the rewards accrued on it, unbonding, and
deposits, each place rounded down) after the blocks are those before them plus the amounts of all lines. Rewards count
when they accrue, so that each falls into the term that earned it; to settle and to claim them only moves them.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from fedmeta.govern.errors import StateError
from fedmeta.govern.rules.stake import INDEX_SCALE
from fedmeta.govern.state.parameters import MILLION
from fedmeta.govern.state.records import Candidate, Chain, Delegation, Member, Proposal
from fedmeta.govern.state.state import State
from fedmeta.govern.views.explanation import Check, Explanation, Line, Move, Part, Settlement, mixed
from fedmeta.govern.views.holdings import holdings

_SCALE_BITS = INDEX_SCALE.bit_length() - 1

ToldBlock = tuple[int, int, Iterable[Any]]
"""A block's height, its time in milliseconds since 1970, and its events, each a kind and a map of fields."""


def explain(
    blocks: Iterable[ToldBlock],
    member: str,
    term: int | None = None,
    *,
    before: State | None = None,
    after: State | None = None,
) -> Explanation:
    """Return why a member's holdings changed, in one term or in all.

    Everything is told from the events; the states only say what there was at the beginning, and check the end.

    Args:
        blocks: The blocks in order, without a gap; from height 0, that is genesis, unless `before` is given.
        member: The member's name.
        term: Which term's lines are wanted; None for all.
        before: The state at the height before the first block; earlier blocks are passed over.
        after: The state at the height of the last block.

    Raises:
        Refused: `unknown-member` if `after` does not know the member.
        StateError: a block is missing, or `after` is of another height than the last block.
    """
    book = _Book(member)
    # Validators leave no events of a block in which nothing happened.
    gaps = after is not None and after.need(Chain).validators
    if before is not None:
        book.begin(before)
    for height, time, events in blocks:
        if before is not None and height < book.due:
            continue
        if height != book.due and not gaps:
            raise StateError(f"block {book.due} is missing: the next one that was given is {height}")
        book.turn(height, time, events)
    book.close()
    check = None
    if after is not None and not (after.height == book.due - 1 or (gaps and after.height >= book.due)):
        raise StateError(f"the state is of height {after.height}: the last block is {book.due - 1}")
    if before is not None and after is not None:
        change = sum(line.amount for line in book.lines)
        # Who was admitted in these blocks held nothing before them.
        held = 0 if before.get(Member, member) is None else holdings(before, member).total
        check = Check(held, change, holdings(after, member).total)
    totals: dict[int, int] = {}
    for line in book.lines:
        totals[line.term] = totals.get(line.term, 0) + line.amount
    return Explanation(
        member=member,
        term=term,
        first=book.first,
        last=book.due - 1,
        lines=tuple(one for one in book.lines if term in (None, one.term)),
        settlements=tuple(one for one in book.settlements if term is None or term in one.terms()),
        moves=tuple(one for one in book.moves if term in (None, one.term)),
        terms=tuple(sorted(totals.items())),
        check=check,
    )


@dataclass(slots=True)
class _Pool:
    """A candidate's pool, as the events tell it, and what the member has in it."""

    tokens: int = 0
    shares: int = 0
    index: int = 0
    held: int = 0
    since: int = 0
    """The reward index when the member's part was last settled."""
    counted: int = 0
    """Units that have accrued since then."""
    rest: int = 0
    """The fraction of a unit that was left over then, times `INDEX_SCALE`."""

    @property
    def grown(self) -> int:
        """What has accrued, times `INDEX_SCALE`."""
        return self.rest + self.held * (self.index - self.since)

    @property
    def value(self) -> int:
        return self.held * self.tokens // self.shares if self.shares else 0


class _Book:
    """Follows one member through the blocks, and writes down the lines."""

    def __init__(self, member: str):
        self.member = member
        self.lines: list[Line] = []
        self.moves: list[Move] = []
        self.settlements: list[Settlement] = []
        self.first = self.due = 0
        """The height of the next block."""
        self.height = self.time = 0
        self.term = 1
        self._pools: dict[str, _Pool] = {}
        self._parts: dict[str, list[Part]] = {}
        self._deposits: dict[int, int] = {}
        self._dropped: dict[str, list[int]] = {}
        """Losses by shares that were slashed after they had moved; the fault that they are for is said after them."""
        self._rounding: dict[tuple[int, str], tuple[int, int, int]] = {}

    def begin(self, state: State) -> None:
        """Take over what there is in a state."""
        self.first = self.due = state.height + 1
        self.term = state.need(Chain).term
        for one in state.all(Candidate):
            self._pools[one.member] = _Pool(one.tokens, one.shares, one.reward_index)
        for held in state.where(Delegation, "member", self.member):
            pool = self._pools[held.candidate]
            pool.held, pool.since, pool.rest = held.shares, held.index, held.rest
            if pool.grown:
                pool.counted = pool.grown // INDEX_SCALE
                exact = Fraction(pool.grown, INDEX_SCALE)
                self._parts[held.candidate] = [Part(0, 0, f"{pool.counted} whole units", exact, pool.counted)]
        for proposal in state.where(Proposal, "status", "voting"):
            if proposal.proposer == self.member:
                self._deposits[proposal.number] = proposal.deposit

    def turn(self, height: int, time: int, events: Iterable[Any]) -> None:
        """Go through one block's events."""
        self.height, self.time, self.due = height, time, height + 1
        for kind, fields in events:
            tell = _TELL.get(kind)
            if tell is not None:
                tell(self, fields)
        if height == 0:
            # What there is from genesis on was neither won nor lost.
            self._rounding.clear()
            self.moves.clear()

    def close(self) -> None:
        """Write down what is not settled, and what rounding did."""
        for candidate in sorted(self._parts):
            # A fraction that is left over, and nothing since, was said with what it is left of.
            if any(part.round or part.counted for part in self._parts[candidate]):
                self._settle(candidate, settled=False)
        for (term, candidate), (height, time, amount) in sorted(self._rounding.items()):
            if amount:
                text = (
                    f"what stakes that came and went left in the pool of {candidate}, or rounding took, in term {term}"
                )
                self.lines.append(Line(height, time, term, 0, "rounding", "", text, amount))
        self.lines.sort(key=lambda line: line.height)

    def _line(self, why: str, amount: int, formula: str, text: str, term: int = 0, round: int = 0) -> None:
        self.lines.append(Line(self.height, self.time, term or self.term, round, why, formula, text, amount))

    def _moved(self, amount: int, text: str) -> None:
        self.moves.append(Move(self.height, self.time, self.term, amount, text))

    def _round_off(self, candidate: str, amount: int) -> None:
        key = self.term, candidate
        sum_before = self._rounding[key][2] if key in self._rounding else 0
        self._rounding[key] = self.height, self.time, sum_before + amount

    def _pool(self, candidate: str) -> _Pool:
        return self._pools.setdefault(candidate, _Pool())

    def _change(self, fields: dict[str, Any], candidate: str, tokens: int, shares: int, held: str) -> int:
        """Change a pool by units and shares; return by how much the value of the member's part changed."""
        pool = self._pool(candidate)
        before = pool.value
        pool.tokens += tokens
        pool.shares += shares
        if fields.get("member") == self.member and held:
            if not pool.held:
                pool.since = pool.index
            pool.held = fields[held]
            if not pool.held:
                # Who takes everything out leaves the fraction in the pool.
                pool.rest = 0
                self._parts.pop(candidate, None)
        return pool.value - before

    def registered(self, fields: dict[str, Any]) -> None:
        self._pool(fields["candidate"])

    def term_started(self, fields: dict[str, Any]) -> None:
        self.term = fields["term"]

    def staked(self, fields: dict[str, Any]) -> None:
        candidate, amount = fields["candidate"], fields["amount"]
        change = self._change(fields, candidate, amount, fields["shares"], "held")
        if fields["member"] == self.member:
            self._moved(amount, f"staked on {candidate}")
            change -= amount
        self._round_off(candidate, change)

    def unstaked(self, fields: dict[str, Any]) -> None:
        candidate, amount = fields["candidate"], fields["amount"]
        change = self._change(fields, candidate, -amount, -fields["shares"], "held")
        if fields["member"] == self.member:
            self._moved(amount, f"taken back from {candidate}, to be paid at block {fields['completes']}")
            change += amount
        self._round_off(candidate, change)

    def redelegated(self, fields: dict[str, Any]) -> None:
        source, destination, amount = fields["source"], fields["destination"], fields["amount"]
        left = self._change(fields, source, -amount, -fields["source_shares"], "source_held")
        entered = self._change(fields, destination, amount, fields["destination_shares"], "destination_held")
        if fields["member"] == self.member:
            self._moved(amount, f"moved from {source} to {destination}")
            left, entered = left + amount, entered - amount
        self._round_off(source, left)
        self._round_off(destination, entered)

    def cancelled(self, fields: dict[str, Any]) -> None:
        candidate, amount = fields["candidate"], fields["amount"]
        change = self._change(fields, candidate, amount, fields["shares"], "held")
        if fields["member"] == self.member:
            self._moved(amount, f"put back to {candidate} before it was paid")
            change -= amount
        self._round_off(candidate, change)

    def completed(self, fields: dict[str, Any]) -> None:
        if fields["member"] == self.member:
            self._moved(fields["amount"], f"of stake with {fields['candidate']} became free")

    def dropped(self, fields: dict[str, Any]) -> None:
        candidate, amount = fields["candidate"], fields["amount"]
        change = self._change(fields, candidate, -amount, -fields["shares"], "held")
        if fields["member"] == self.member and amount:
            self._dropped.setdefault(candidate, []).append(change)
        else:
            self._round_off(candidate, change)

    def pool_closed(self, fields: dict[str, Any]) -> None:
        self._round_off(fields["candidate"], self._change(fields, fields["candidate"], -fields["stake"], 0, ""))

    def claimed(self, fields: dict[str, Any]) -> None:
        if fields["member"] == self.member:
            self._moved(fields["amount"], "of rewards were claimed and became free")

    def contributor_paid(self, fields: dict[str, Any]) -> None:
        if fields["member"] != self.member:
            return
        pool, score, total, amount = (fields[name] for name in ("pool", "score", "total_score", "amount"))
        self._line(
            "contributor",
            amount,
            f"{pool} * {score} // {total} = {amount}",
            f"the contributors' part of the pool, {pool}, times the score of the update, by all scores or {MILLION}",
            fields["term"],
            fields["round"],
        )

    def super_node_paid(self, fields: dict[str, Any]) -> None:
        candidate = fields["candidate"]
        if candidate == self.member:
            self._commission(fields)
        pool = self._pool(candidate)
        pool.index = fields["index_to"]
        if pool.held and fields["index_to"] > fields["index_from"]:
            self._accrue(fields, pool)

    def _commission(self, fields: dict[str, Any]) -> None:
        amount, rate, commission = fields["amount"], fields["commission_rate"], fields["commission"]
        duty = f"{fields['pool']} // {fields['seats']} = {amount}"
        if fields["index_to"] > fields["index_from"]:
            formula = f"{duty}; {amount} * {rate} // {MILLION} = {commission}"
            text = "the super nodes' part of the pool by the number of seats, and of that the commission"
        else:
            commission, formula = amount, duty
            text = "the super nodes' part of the pool by the number of seats; there was nothing to give to voters"
        self._line("super-node", commission, formula, text, fields["term"], fields["round"])

    def _accrue(self, fields: dict[str, Any], pool: _Pool) -> None:
        candidate, voters, shares = fields["candidate"], fields["voters"], fields["shares"]
        parts = self._parts.setdefault(candidate, [])
        over = sum((part.exact for part in parts), Fraction(0)) - pool.counted
        exact = Fraction(pool.held * voters, shares)
        counted = pool.grown // INDEX_SCALE - pool.counted
        pool.counted += counted
        formula = f"{voters} * {pool.held} / {shares} = {mixed(exact)}"
        carried = f"; {mixed(over)} was left over before" if over else ""
        parts.append(Part(fields["term"], fields["round"], formula, exact, counted))
        self._line(
            "voter",
            counted,
            f"{formula}{carried}; {counted} counted, {mixed(over + exact - counted)} left over",
            f"the {voters} units for the voters of {candidate}, by your shares of all shares of its pool",
            fields["term"],
            fields["round"],
        )

    def settled(self, fields: dict[str, Any]) -> None:
        if fields["member"] == self.member:
            self._settle(fields["candidate"], settled=True)

    def _settle(self, candidate: str, settled: bool) -> None:
        pool = self._pool(candidate)
        rest = f"({pool.rest} + " if pool.rest else ""
        shares = f"{rest}{pool.held} * ({pool.index} - {pool.since}){')' if rest else ''}"
        formula = f"{shares} // 2**{_SCALE_BITS} = {pool.counted}"
        parts = tuple(self._parts.pop(candidate, ()))
        settlement = Settlement(self.height, candidate, settled, formula, pool.counted, parts)
        self.settlements.append(settlement)
        if settled:
            self._moved(pool.counted, f"of rewards with {candidate} were settled and became owed")
            pool.rest = pool.grown - pool.counted * INDEX_SCALE
            pool.since, pool.counted = pool.index, 0
            if settlement.left:
                text = f"left over at block {self.height}"
                self._parts[candidate] = [Part(parts[-1].term, 0, text, settlement.left, 0)]

    def fault_proven(self, fields: dict[str, Any]) -> None:
        number, offender = fields["fault"], fields["offender"]
        of = f", round {fields['round']}" if fields["round"] else ""
        fault = f"fault {number} of {offender} ({fields['fault_kind']}{of})"
        for cut in fields["cuts"]:
            candidate, amount = cut["candidate"], cut["amount"]
            if cut["place"] == "pool":
                self._pool_slash(candidate, -amount, f"{fault}: the pool lost {amount}")
            elif cut["member"] == self.member and cut["place"] == "unbonding":
                self._line("slash", -amount, "", f"{fault}: taken from stake on its way out of the pool of {candidate}")
            elif cut["member"] == self.member:
                loss = self._dropped[candidate].pop(0)
                self._line("slash", loss, "", f"{fault}: taken from stake that had moved on to {candidate}")

    def annulled(self, fields: dict[str, Any]) -> None:
        text = f"proposal {fields['proposal']} gave back what was slashed for fault {fields['fault']}"
        for cut in fields["cuts"]:
            if cut["member"] == self.member:
                where = f"what your shares of the pool of {cut['candidate']} had lost" if cut["place"] == "pool" else ""
                self._line("annulled", cut["amount"], where, text)

    def _pool_slash(self, candidate: str, tokens: int, text: str) -> None:
        pool = self._pool(candidate)
        was, before = pool.tokens, pool.value
        pool.tokens += tokens
        if pool.held:
            parts = f"{pool.held} * {pool.tokens} // {pool.shares} - {pool.held} * {was} // {pool.shares}"
            change = pool.value - before
            self._line("slash", change, f"{parts} = {change}", f"{text}; your shares of it are worth {pool.value} now")

    def spent(self, fields: dict[str, Any]) -> None:
        if fields["member"] == self.member:
            self._line("spend", fields["amount"], "", f"proposal {fields['proposal']} paid it out of the treasury")

    def proposal_opened(self, fields: dict[str, Any]) -> None:
        if fields["proposer"] == self.member:
            number, amount = fields["proposal"], fields["deposit"]
            self._deposits[number] = amount
            self._moved(amount, f"put down as the deposit of proposal {number}")

    def proposal_closed(self, fields: dict[str, Any]) -> None:
        number, status = fields["proposal"], fields["status"]
        amount = self._deposits.pop(number, None)
        if amount is None:
            return
        if status == "vetoed":
            self._line("deposit", -amount, "", f"the deposit of proposal {number} ({status}) went to the treasury")
        else:
            self._moved(amount, f"came back as the deposit of proposal {number} ({status})")


_TELL: dict[str, Callable[[_Book, dict[str, Any]], None]] = {
    "candidate-registered": _Book.registered,
    "term-started": _Book.term_started,
    "staked": _Book.staked,
    "unstaked": _Book.unstaked,
    "redelegated": _Book.redelegated,
    "unbonding-cancelled": _Book.cancelled,
    "unbonding-completed": _Book.completed,
    "shares-dropped": _Book.dropped,
    "pool-closed": _Book.pool_closed,
    "rewards-settled": _Book.settled,
    "rewards-claimed": _Book.claimed,
    "contributor-paid": _Book.contributor_paid,
    "super-node-paid": _Book.super_node_paid,
    "fault-proven": _Book.fault_proven,
    "slash-annulled": _Book.annulled,
    "treasury-spent": _Book.spent,
    "proposal-opened": _Book.proposal_opened,
    "proposal-closed": _Book.proposal_closed,
}
"""What each kind of event says about a member's holdings; the others say nothing about them."""
