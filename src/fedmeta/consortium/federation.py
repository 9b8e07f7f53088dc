"""What a demonstration with real processes adds to the report: rounds, payments, what left each hospital, faults."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Phase:
    """A phase of a round.

    Args:
        name: "commit", "deliver", "compute" or "reveal".
        seconds: how long it took, by the clock of the machine that watched.
        blocks: how many blocks it took.
    """

    name: str
    seconds: float
    blocks: int = 0


@dataclass(frozen=True)
class Round:
    """A round as the ledger has it.

    Args:
        number: the ledger's number.
        outcome: "final" or "void".
        phases: its phases, in order; those of a repeated attempt follow.
        included: the members whose update is in the next model.
        late: those that committed and are not in, or that were asked and did not commit.
        faulty: those that a fault was recorded of in this round.
        seats: the super nodes of the round.
        attempts: how many attempts it took.
        model: the digest of the next model, in hexadecimal; empty where there is none.
        note: what else is to be said of it.
    """

    number: int
    outcome: str
    phases: tuple[Phase, ...] = ()
    included: tuple[str, ...] = ()
    late: tuple[str, ...] = ()
    faulty: tuple[str, ...] = ()
    seats: tuple[str, ...] = ()
    attempts: int = 1
    model: str = ""
    note: str = ""


@dataclass(frozen=True)
class Payment:
    """What a member was paid over all rounds, in the ledger's units.

    Args:
        member: who.
        contributing: for updates, by their scores.
        duties: for a seat's work.
        lost: stake that was taken for faults.
    """

    member: str
    contributing: int
    duties: int
    lost: int = 0


@dataclass(frozen=True)
class Sent:
    """What left a hospital, by its own outbox, and by a capture of the wire.

    Args:
        member: which hospital.
        messages: how many entries its outbox has.
        outbox: the bytes in them.
        kinds: the bytes by what they were, such as "sealed update" or "transaction"; their sum is `outbox`.
        wire: the bytes that were captured on the wire from this hospital's addresses; None where nothing was captured.
        agrees: whether the capture holds what the outbox says and nothing else; None where that was not looked at.
        note: how the two were compared, or why not.
    """

    member: str
    messages: int
    outbox: int
    kinds: Mapping[str, int]
    wire: int | None = None
    agrees: bool | None = None
    note: str = ""


@dataclass(frozen=True)
class Fault:
    """A fault that the demonstration played.

    Args:
        round: in which round.
        member: who had it, or did it.
        played: what was done, such as "killed, and its disk removed".
        outcome: what came of it, as it was seen.
    """

    round: int
    member: str
    played: str
    outcome: str


@dataclass(frozen=True)
class FederationPart:
    """All that the report says of a federation of real processes.

    Args:
        algorithm: what it trained, the name for people.
        rounds: its rounds, in order.
        payments: one for each member, in the order of the report.
        explained: the lines of `explain` for one of the payments, as they were printed.
        explained_title: whose payment that was, and of which round.
        sent: one for each hospital.
        faults: those that were played.
        seconds: from the first process to the last payment.
        note: what else is to be said, such as whether processes had users of their own.
    """

    algorithm: str
    rounds: tuple[Round, ...]
    payments: tuple[Payment, ...]
    explained: str = ""
    explained_title: str = ""
    sent: tuple[Sent, ...] = ()
    faults: tuple[Fault, ...] = ()
    seconds: float = 0.0
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "FederationPart":
        """Return what `to_dict` gave, also after a way through JSON."""
        values = dict(content)
        values["rounds"] = tuple(
            Round(**{**_tupled(one), "phases": tuple(Phase(**phase) for phase in one["phases"])})
            for one in content["rounds"]
        )
        for name, kind in (("payments", Payment), ("sent", Sent), ("faults", Fault)):
            values[name] = tuple(kind(**one) for one in content.get(name, ()))
        return cls(**values)


def _tupled(content: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in content.items()}
