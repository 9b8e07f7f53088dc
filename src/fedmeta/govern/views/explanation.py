"""An explanation of a member's payments: its parts, as plain values, and in words."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any


@dataclass(frozen=True, slots=True)
class Line:
    """One reason why a member's holdings changed, with its arithmetic; `amount` is in units, negative for a loss."""

    height: int
    time: int
    """The block's, in milliseconds since 1970."""
    term: int
    """For a payment of a round the round's term, else the block's."""
    round: int
    """0 where it is of no round."""
    why: str
    """One of `WHYS`."""
    formula: str
    text: str
    amount: int


WHYS = {
    "contributor": "for an update",
    "super-node": "commission on a super node's pay",
    "voter": "as a voter of a super node",
    "spend": "spent by the treasury",
    "annulled": "a slash given back",
    "slash": "slashed",
    "deposit": "a deposit lost",
    "rounding": "rounding in a pool of stake",
}
"""Why holdings change."""


@dataclass(frozen=True, slots=True)
class Move:
    """Units that moved from one place of a member's holdings to another: neither won nor lost."""

    height: int
    time: int
    term: int
    amount: int
    text: str


@dataclass(frozen=True, slots=True)
class Part:
    """What one round gave a voter, exactly and in the units it was counted as; or, without a round, what was left."""

    term: int
    """0 for what was there before the first block of the explanation."""
    round: int
    formula: str
    exact: Fraction
    counted: int


@dataclass(frozen=True, slots=True)
class Settlement:
    """A voter's rewards with one candidate since they were last settled, round by round."""

    height: int
    candidate: str
    settled: bool
    """False for what is not settled at the last block: it has been earned, and will be owed once it is."""
    formula: str
    amount: int
    parts: tuple[Part, ...]

    @property
    def exact(self) -> Fraction:
        """The sum of the parts, exactly."""
        return sum((part.exact for part in self.parts), Fraction(0))

    @property
    def left(self) -> Fraction:
        """What rounding down leaves over for the next time: the exact sum less the amount."""
        return self.exact - self.amount

    def terms(self) -> dict[int, Fraction]:
        """Return how much of the exact sum each term gave."""
        given: dict[int, Fraction] = {}
        for part in self.parts:
            given[part.term] = given.get(part.term, Fraction(0)) + part.exact
        return given


@dataclass(frozen=True, slots=True)
class Check:
    """Whether the holdings before the blocks and all lines of all terms add up to the holdings after them, in units."""

    before: int
    change: int
    after: int

    @property
    def holds(self) -> bool:
        """Whether before + change = after."""
        return self.before + self.change == self.after


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a member's holdings changed in one term, or in all, over some blocks."""

    member: str
    term: int | None
    """The term that lines, settlements and moves are of; None for all."""
    first: int
    last: int
    """The heights of the first and the last block."""
    lines: tuple[Line, ...]
    settlements: tuple[Settlement, ...]
    moves: tuple[Move, ...]
    terms: tuple[tuple[int, int], ...]
    """Each term and the sum of its lines: of all terms, whichever is asked for."""
    check: Check | None
    """None where the states before and after the blocks were not given."""

    @property
    def total(self) -> int:
        """The sum of the lines, in units."""
        return sum(line.amount for line in self.lines)

    def to_value(self) -> dict[str, Any]:
        """Return the explanation as maps, lists, texts and integers; fractions as texts such as `50 2/3`."""
        return {
            "member": self.member,
            "term": self.term,
            "first": self.first,
            "last": self.last,
            "total": self.total,
            "lines": [{name: getattr(line, name) for name in Line.__slots__} for line in self.lines],
            "settlements": [_settlement_value(one) for one in self.settlements],
            "moves": [{name: getattr(move, name) for name in Move.__slots__} for move in self.moves],
            "terms": [{"term": term, "total": total} for term, total in self.terms],
            "check": None
            if self.check is None
            else {
                "before": self.check.before,
                "change": self.check.change,
                "after": self.check.after,
                "holds": self.check.holds,
            },
        }

    def render(self) -> str:
        """Return the explanation as text for a terminal."""
        return "\n".join(_render(self))


def mixed(value: Fraction) -> str:
    """Return a fraction as a whole number and the rest in lowest terms: `50 2/3`."""
    whole, rest = divmod(abs(value.numerator), value.denominator)
    parts = [str(whole)] if whole or not rest else []
    parts += [f"{rest}/{value.denominator}"] if rest else []
    return ("-" if value < 0 else "") + " ".join(parts)


def _settlement_value(one: Settlement) -> dict[str, Any]:
    return {
        "height": one.height,
        "candidate": one.candidate,
        "settled": one.settled,
        "formula": one.formula,
        "amount": one.amount,
        "exact": mixed(one.exact),
        "left": mixed(one.left),
        "terms": [{"term": term, "exact": mixed(exact)} for term, exact in one.terms().items()],
        "parts": [
            {
                "term": part.term,
                "round": part.round,
                "formula": part.formula,
                "exact": mixed(part.exact),
                "counted": part.counted,
            }
            for part in one.parts
        ],
    }


def _render(whole: Explanation) -> Iterator[str]:
    span = "all terms" if whole.term is None else f"term {whole.term}"
    yield f"What {whole.member} won and lost in {span} (blocks {whole.first} to {whole.last}), in units"
    for line in whole.lines:
        round = f", round {line.round}" if line.round else ""
        yield f"\nblock {line.height}, term {line.term}{round}: {line.amount:+} {WHYS[line.why]}"
        if line.formula:
            yield f"    {line.formula}"
        yield f"    {line.text}"
    yield f"\nSum for {span}: {whole.total:+}"
    if whole.term is None and len(whole.terms) > 1:
        yield "    " + ", ".join(f"term {term}: {total:+}" for term, total in whole.terms)
    if whole.settlements:
        yield "\nHow rewards as a voter became owed (they are counted above as they were earned)"
    for one in whole.settlements:
        yield from _render_settlement(one)
    if whole.moves:
        yield "\nMoved, neither won nor lost"
    for move in whole.moves:
        yield f"    block {move.height}: {move.amount} {move.text}"
    yield ""
    yield _render_check(whole)


def _render_settlement(one: Settlement) -> Iterator[str]:
    what = f"{one.amount} became owed" if one.settled else f"{one.amount} earned and not settled yet"
    yield f"\nblock {one.height}, with {one.candidate}: {what}"
    yield f"    {one.formula}"
    for part in one.parts:
        where = f"round {part.round}, " if part.round else ""
        yield f"    {f'{where}term {part.term}' if part.term else 'before the first block'}: {part.formula}"
    terms = ", ".join(
        f"{mixed(exact)} of {f'term {term}' if term else 'before'}" for term, exact in one.terms().items()
    )
    yield f"    in all {mixed(one.exact)} ({terms}): {one.amount} whole, {mixed(one.left)} left over"


def _render_check(whole: Explanation) -> str:
    if whole.check is None:
        return "Not checked against the states before and after."
    check = whole.check
    said = "they agree to the unit" if check.holds else "THEY DO NOT AGREE"
    return (
        f"Check: {check.before} before block {whole.first}, {check.change:+} by the lines of all terms, and "
        f"{check.after} after block {whole.last}: {said}.\n"
        "    (Held: free, owed, bonded at its value, accrued, unbonding, and deposits.)"
    )
