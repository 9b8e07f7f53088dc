"""What is to be seen of a federation while it runs: all of it told by the ledger's events, one after the other."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

PLAYED = "* "
"""What a line begins with that tells what was played, and not what the ledger tells."""

PHASES = ("commit", "deliver", "compute", "reveal")


@dataclass
class Row:
    """A member's part in the present round, and what it has had so far."""

    name: str
    title: str
    seat: bool = False
    """Whether it has a seat in the round."""
    power: float = 0.0
    """Of all the round's power, its share."""
    invited: bool = False
    """Whether the round has a place for its update."""
    committed: bool = False
    held_by: int = 0
    """Seats that hold its update."""
    included: bool = False
    holds: int = 0
    """Updates that it holds, as a seat."""
    computed: bool = False
    opened: str = ""
    """The digest of the result that it has opened, in hex."""
    paid: int = 0
    """In the last round that was final, in units."""
    contributing: int = 0
    """In all rounds, for updates."""
    duties: int = 0
    """In all rounds, for its seat; its voters' part is in it."""
    lost: int = 0
    """Stake that was slashed."""
    jailed: bool = False


@dataclass
class Seen:
    """A round, from the block that scheduled it on."""

    number: int
    seats: tuple[str, ...]
    cohort: tuple[str, ...]
    began: float
    term: int = 0
    outcome: str = ""
    reason: str = ""
    attempts: int = 1
    phases: list[list[Any]] = field(default_factory=list)
    """Of each phase: its name, and the time and the height at which it began."""
    ended: tuple[float, int] = (0.0, 0)
    committed: set[str] = field(default_factory=set)
    included: tuple[str, ...] = ()
    opened: dict[str, str] = field(default_factory=dict)
    faulty: list[str] = field(default_factory=list)
    result: str = ""
    paid: dict[str, tuple[int, int]] = field(default_factory=dict)
    """By member: for its update, for its seat."""


@dataclass
class Board:
    """What the ledger has told so far.

    Args:
        titles: Of each member, what it is called, in the order in which they are shown.
    """

    titles: Mapping[str, str]
    height: int = 0
    term: int = 1
    phase: str = ""
    attempt: int = 1
    ends: int = 0
    """The height at which the window of the phase closes at the latest, by blocks."""
    rows: dict[str, Row] = field(default_factory=dict)
    rounds: dict[int, Seen] = field(default_factory=dict)
    elected: dict[int, dict[str, float]] = field(default_factory=dict)
    """Of each term, the power of each seat as a share of all."""
    lines: list[tuple[float, str]] = field(default_factory=list)
    """What has happened: seconds and a sentence."""
    _held: dict[str, set[str]] = field(default_factory=dict)
    _was_in: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.rows = {name: Row(name, title) for name, title in self.titles.items()}

    @property
    def round(self) -> Seen | None:
        """The latest round."""
        return self.rounds[max(self.rounds)] if self.rounds else None

    @property
    def finals(self) -> list[Seen]:
        """The rounds that are final."""
        return [one for one in self.rounds.values() if one.outcome == "final"]

    def say(self, seconds: float, text: str) -> None:
        """Add a line of what the ledger tells."""
        self.lines.append((seconds, text))

    def played(self, seconds: float, text: str) -> None:
        """Add a line of what was played."""
        self.say(seconds, PLAYED + text)

    def see(self, event: Any, seconds: float) -> None:
        """Take one of the ledger's events, as a client gives it, with the seconds since the beginning."""
        self.height = max(self.height, event.height)
        if told := _TOLD.get(event.kind):
            told(self, event.fields, seconds)

    def name(self, member: str) -> str:
        """Return what a member is called."""
        return self.titles.get(member, member)

    def _names(self, members: Any) -> str:
        names = [self.name(one) for one in members]
        return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else "".join(names)

    # What the events mean.

    def _term_elected(self, told: dict[str, Any], seconds: float) -> None:
        shares = self.elected[told["term"]] = _shares(told["seats"])
        before = self.elected.get(told["term"] - 1, {})
        if told["term"] == self.term:
            self._seat()
        if shares and before.keys() != shares.keys():
            power = ", ".join(f"{self.name(one)} {share * 100:.0f} %" for one, share in shares.items())
            self.say(seconds, f"elected as super nodes for term {told['term']}, by stake: {power}")

    def _seat(self) -> None:
        """Show who has a seat in the present term, as long as there is no round."""
        for name, row in self.rows.items():
            row.power = self.elected.get(self.term, {}).get(name, 0.0)
            row.seat = row.power > 0

    def _term_started(self, told: dict[str, Any], seconds: float) -> None:
        self.term = told["term"]
        if not self.rounds:
            self._seat()

    def _staked(self, told: dict[str, Any], seconds: float) -> None:
        if self.height and told["member"] != told["candidate"]:
            self.say(
                seconds,
                f"{self.name(told['member'])} votes for {self.name(told['candidate'])} with {told['amount']:,} units",
            )

    def _scheduled(self, told: dict[str, Any], seconds: float) -> None:
        number = told["round"]
        seats = {one["candidate"]: one["power"] for one in told["seats"]}
        cohort = [one["member"] for one in told["cohort"]]
        self.rounds[number] = Seen(number, tuple(seats), tuple(cohort), seconds, told["term"])
        self._held = {}
        for name, row in self.rows.items():
            row.seat, row.power = name in seats, seats.get(name, 0) / sum(seats.values())
            row.invited, row.committed, row.included, row.computed = name in cohort, False, False, False
            row.held_by, row.holds, row.opened = 0, 0, ""
        away = [name for name in self.rows if name not in cohort]
        self.say(seconds, f"round {number} begins" + (f", without {self._names(away)}" if away else ""))

    def _phase(self, told: dict[str, Any], seconds: float) -> None:
        self.phase, self.attempt, self.ends = told["phase"], told["attempt"], self.height + told["blocks"]
        if round := self.rounds.get(told["round"]):
            round.attempts = told["attempt"]
            round.phases.append([told["phase"], seconds, self.height])
        if told["phase"] == "deliver":
            # Of an attempt that begins anew, nothing that was held or computed counts.
            self._held = {}
            for row in self.rows.values():
                row.held_by, row.holds, row.computed, row.opened, row.included = 0, 0, False, "", False

    def _committed(self, told: dict[str, Any], seconds: float) -> None:
        if (row := self.rows.get(told["member"])) is not None:
            row.committed = True
        if round := self.rounds.get(told["round"]):
            round.committed.add(told["member"])

    def _holding(self, told: dict[str, Any], seconds: float) -> None:
        self._held.setdefault(told["candidate"], set()).update(told["members"])
        for name, row in self.rows.items():
            row.holds = len(self._held.get(name, ()))
            row.held_by = sum(name in held for held in self._held.values())

    def _included(self, told: dict[str, Any], seconds: float) -> None:
        members = tuple(told["members"])
        for name, row in self.rows.items():
            row.included = name in members
        round = self.rounds.get(told["round"])
        if round is not None:
            round.included = members
            if missing := sorted(round.committed.difference(members)):
                self.say(seconds, f"round {round.number} goes on without the update of {self._names(missing)}")

    def _attested(self, told: dict[str, Any], seconds: float) -> None:
        if (row := self.rows.get(told["candidate"])) is not None:
            row.computed = True

    def _opened(self, told: dict[str, Any], seconds: float) -> None:
        if (row := self.rows.get(told["candidate"])) is not None:
            row.opened = told["result"]
        round = self.rounds.get(told["round"])
        if round is None:
            return
        round.opened[told["candidate"]] = told["result"]
        if len(set(round.opened.values())) == 2 and list(round.opened.values()).count(told["result"]) == 1:
            said = ", ".join(f"{self.name(one)} {result[:8]}" for one, result in round.opened.items())
            self.say(seconds, f"round {round.number}: two results are opened: {said}")

    def _failed(self, told: dict[str, Any], seconds: float) -> None:
        why = told["reason"].replace("-", " ")
        self.say(seconds, f"round {told['round']}: attempt {told['attempt']} gives no result: {why}")

    def _final(self, told: dict[str, Any], seconds: float) -> None:
        if round := self.rounds.get(told["round"]):
            round.result = told["result"]
            share = f"{told['power'] / told['total'] * 100:.0f} %"
            same = self._names([one for one, result in round.opened.items() if result == told["result"]])
            self.say(
                seconds,
                f"round {round.number} is final: {same} with {share} of the power opened {told['result'][:8]}",
            )

    def _settled(self, told: dict[str, Any], seconds: float) -> None:
        self.phase, self.ends = told["outcome"], 0
        if round := self.rounds.get(told["round"]):
            round.outcome, round.reason, round.ended = told["outcome"], told["reason"], (seconds, self.height)
            if told["outcome"] != "final":
                self.say(seconds, f"round {round.number} is void: {told['reason'].replace('-', ' ')}")

    def _pool(self, told: dict[str, Any], seconds: float) -> None:
        for row in self.rows.values():
            row.paid = 0

    def _paid_contributor(self, told: dict[str, Any], seconds: float) -> None:
        self._paid(told["round"], told["member"], told["amount"], 0)

    def _paid_seat(self, told: dict[str, Any], seconds: float) -> None:
        self._paid(told["round"], told["candidate"], 0, told["amount"])

    def _paid(self, number: int, member: str, update: int, seat: int) -> None:
        if (row := self.rows.get(member)) is not None:
            row.paid += update + seat
            row.contributing += update
            row.duties += seat
        if (round := self.rounds.get(number)) is not None:
            before = round.paid.get(member, (0, 0))
            round.paid[member] = before[0] + update, before[1] + seat

    def _shared(self, told: dict[str, Any], seconds: float) -> None:
        round = self.rounds.get(told["round"])
        if round is None:
            return
        parts = [f"{self.name(one)} {sum(paid):,}" for one, paid in round.paid.items() if sum(paid)]
        paid = ", ".join(parts) or "nobody anything"
        self.say(seconds, f"round {round.number} pays {paid} units; {told['amount']:,} stay in the treasury")

    def _fault(self, told: dict[str, Any], seconds: float) -> None:
        name, what = told["offender"], told["fault_kind"].replace("-", " ")
        if (row := self.rows.get(name)) is not None:
            row.lost += told["amount"]
        if round := self.rounds.get(told["round"]):
            round.faulty.append(name)
        self.say(
            seconds,
            f"{self.name(name)} is exposed by a {what} in round {told['round']}; {told['amount']:,} units, "
            f"{told['fraction'] / 10_000:g} % of the stake behind it, are slashed",
        )

    def _jailed(self, told: dict[str, Any], seconds: float) -> None:
        if (row := self.rows.get(told["candidate"])) is not None:
            row.jailed = True
        why = "it was away too often" if told["absent"] else "for its fault"
        self.say(seconds, f"{self.name(told['candidate'])} is barred from seats until block {told['until']:,}: {why}")

    def _unjailed(self, told: dict[str, Any], seconds: float) -> None:
        if (row := self.rows.get(told["candidate"])) is not None:
            row.jailed = False

    def _replaced(self, told: dict[str, Any], seconds: float) -> None:
        self.elected[told["term"]] = _shares(told["seats"])
        if told["term"] == self.term:
            by = f"goes to {self.name(told['by'])}" if told["by"] else "stays empty"
            self.say(seconds, f"the seat of {self.name(told['candidate'])} {by}; {len(told['seats'])} seats remain")

    def _left(self, told: dict[str, Any], seconds: float) -> None:
        why = {"no-commit": "did not commit in time", "not-in": "committed and did not deliver", "left": "leaves"}
        self.say(seconds, f"{self.name(told['member'])} {why.get(told['reason'], told['reason'])}: out until it joins")

    def _joined(self, told: dict[str, Any], seconds: float) -> None:
        again = " again" if told["member"] in self._was_in else ""
        self._was_in.add(told["member"])
        self.say(seconds, f"{self.name(told['member'])} joins{again}: it has a place in the rounds to come")

    def _rekeyed(self, told: dict[str, Any], seconds: float) -> None:
        if self.rounds and told["public"]:
            self.say(
                seconds,
                f"{self.name(told['member'])} has a new machine key: nothing that the old one signs counts any more",
            )


def _shares(seats: Any) -> dict[str, float]:
    total = sum(one["power"] for one in seats)
    return {one["candidate"]: one["power"] / total for one in seats}


_TOLD = {
    "term-elected": Board._term_elected,
    "term-started": Board._term_started,
    "staked": Board._staked,
    "round-scheduled": Board._scheduled,
    "phase-began": Board._phase,
    "update-committed": Board._committed,
    "update-carried": Board._committed,
    "updates-held": Board._holding,
    "updates-included": Board._included,
    "attestation-committed": Board._attested,
    "attestation-revealed": Board._opened,
    "attempt-failed": Board._failed,
    "round-final": Board._final,
    "round-settled": Board._settled,
    "pool-shared": Board._pool,
    "contributor-paid": Board._paid_contributor,
    "super-node-paid": Board._paid_seat,
    "pool-returned": Board._shared,
    "fault-proven": Board._fault,
    "candidate-jailed": Board._jailed,
    "candidate-unjailed": Board._unjailed,
    "seat-replaced": Board._replaced,
    "recipe-left": Board._left,
    "recipe-joined": Board._joined,
    "machine-key-set": Board._rekeyed,
}
"""What is done on each kind of event; the others are of no concern here."""
