"""What the demonstration has shown, for the report: its rounds, who was paid what, and what left each hospital."""

import csv
from collections import Counter as Tally
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from fedmeta.consortium.federation import Payment, Phase, Round, Sent
from fedmeta.consortium.processes.board import Board, Seen
from fedmeta.consortium.processes.hosting import Consortium
from fedmeta.consortium.processes.wire import Flow
from fedmeta.node.member import outbox
from fedmeta.node.member.folder import Folder
from fedmeta.node.member.outbox import Outbox

ASKING, ANSWERING = 1_000, 1_300
"""Bytes of TLS's handshake and records that a connection to a gate may take, from who dials and from who answers.

Heads of answers are in the second. Measured: 820 to 850 from who dials, beside what `REQUEST` allows for, and 1,135 to
1,160 from who answers.
"""

REQUEST = 500
"""Bytes that the head of a request to a gate may have, with its signature and TLS's record; measured: 450."""

TO_LEDGER = ("transaction", "commitment")
"""What an outbox calls that which goes to the ledger."""


def rounds_of(board: Board) -> tuple[Round, ...]:
    """Return the rounds that are over, oldest first."""
    return tuple(_round(one, board) for one in board.rounds.values() if one.outcome)


def _round(seen: Seen, board: Board) -> Round:
    ends = [*((began, height) for _, began, height in seen.phases[1:]), seen.ended]
    phases = tuple(
        Phase(name, round(end - began, 2), last - height)
        for (name, began, height), (end, last) in zip(seen.phases, ends, strict=True)
    )
    late = set(seen.cohort).difference(seen.included) if seen.included else set(seen.cohort) - seen.committed
    absent = [one for one in seen.seats if one not in seen.opened]
    return Round(
        number=seen.number,
        outcome=seen.outcome,
        phases=phases,
        included=seen.included,
        late=tuple(one for one in seen.cohort if one in late),
        faulty=tuple(seen.faulty),
        seats=seen.seats,
        attempts=seen.attempts,
        model=seen.result,
        note=f"opened no result: {', '.join(map(board.name, absent))}" if absent else "",
    )


def payments_of(board: Board) -> tuple[Payment, ...]:
    """Return what each member was paid in all rounds, and what it lost."""
    return tuple(Payment(one.name, one.contributing, one.duties, one.lost) for one in board.rows.values())


def to_explain(board: Board) -> tuple[str, int] | None:
    """Return who was paid the most for an update, and in which round; None where nobody was paid."""
    paid = [
        (paid[0], member, one.number) for one in board.finals for member, paid in sorted(one.paid.items()) if paid[0]
    ]
    return max(paid, key=lambda one: one[0])[1:] if paid else None


@dataclass(frozen=True)
class Way:
    """What one hospital sent one way: to the ledger, as questions to a gate, or as its own gate's answers.

    Args:
        sender: whose outbox it is.
        to: "ledger", or the other hospital.
        kind: "ledger", "asked" or "answered".
        entries: in the outbox.
        outbox: bytes in these entries.
        connections: on the wire.
        wire: bytes on the wire, TLS and HTTP in them.
        wrong: in which way the two do not agree; empty if they do.
    """

    sender: str
    to: str
    kind: str
    entries: int
    outbox: int
    connections: int
    wire: int
    wrong: str = ""


def ways_of(
    flows: Mapping[tuple[str, str], Flow],
    ledgers: Mapping[str, str],
    gates: Mapping[str, str],
    cores: Mapping[str, Sequence[outbox.Sent]],
    answers: Mapping[str, Sequence[outbox.Sent]],
) -> list[Way]:
    """Compare what was on the wire with what stands in the outboxes, way by way.

    To the ledger, each body of a request on the wire is one entry, by its SHA-256. To and from gates, where TLS hides
    the bodies: what is on the wire is at least what the outbox has, unless a gate was away meanwhile, and at most
    `ASKING` or `ANSWERING` bytes more for each connection and, from who dials, `REQUEST` for each request.

    Args:
        flows: by hospital and place, as `wire.Counter` has them.
        ledgers: the place of the ledger's server that each hospital asks, HOST:PORT.
        gates: each gate's place, and whose it is.
        cores: each hospital's outbox.
        answers: the outbox of each hospital's gate.

    Returns:
        For each hospital its ways, in the order of `cores`.
    """
    found = []
    for name, entries in cores.items():
        for (hospital, place), flow in sorted(flows.items()):
            other = gates.get(place, "")
            if hospital == name and place == ledgers[name]:
                found.append(_to_ledger(name, flow, [one for one in entries if one.what in TO_LEDGER]))
            elif hospital == name and other:
                asked = [one for one in answers[other] if one.to == name]
                found.append(_asked(name, other, flow, [one for one in entries if one.to == other], len(asked)))
            elif hospital == name:
                found.append(
                    Way(name, place, "asked", 0, 0, flow.connections, flow.sent, f"{place} is nobody's that is known")
                )
            elif other == name:
                found.append(_answered(name, hospital, flow, [one for one in answers[name] if one.to == hospital]))
        found += _unsent(name, entries, answers[name], found)
    return found


def _to_ledger(name: str, flow: Flow, entries: Sequence[outbox.Sent]) -> Way:
    wire, kept = Tally(digest for digest, _ in flow.bodies), Tally(one.digest for one in entries)
    wrong = flow.unclear
    # What was sent twice, as after a broken connection, is the same bytes.
    if unknown := set(wire) - set(kept):
        wrong = f"{len(unknown)} bodies on the wire are not in the outbox"
    elif never := set(kept) - set(wire):
        wrong = f"{len(never)} entries of the outbox were not on the wire" if not flow.refused else ""
    size = sum(one.size for one in entries)
    return Way(name, "ledger", "ledger", len(entries), size, flow.connections, flow.sent, wrong)


def _asked(name: str, other: str, flow: Flow, entries: Sequence[outbox.Sent], asked: int) -> Way:
    size = sum(one.size for one in entries)
    more = ASKING * flow.connections + REQUEST * max(asked, flow.connections)
    return Way(
        name, other, "asked", len(entries), size, flow.connections, flow.sent, _beyond(flow.sent, size, more, flow)
    )


def _answered(name: str, other: str, flow: Flow, entries: Sequence[outbox.Sent]) -> Way:
    size = sum(one.size for one in entries)
    wrong = _beyond(flow.received, size, ANSWERING * flow.connections, flow)
    return Way(name, other, "answered", len(entries), size, flow.connections, flow.received, wrong)


def _beyond(wire: int, size: int, more: int, flow: Flow) -> str:
    if wire > size + more:
        beyond = wire - size - more
        return f"{beyond:,} bytes more on the wire than the outbox and the cost of {flow.connections} connections"
    if wire < size and not flow.refused:
        return f"{size - wire:,} bytes of the outbox were not on the wire"
    return ""


def _unsent(
    name: str, entries: Sequence[outbox.Sent], answers: Sequence[outbox.Sent], ways: Iterable[Way]
) -> list[Way]:
    """Return ways that the outbox has and the wire has not; what goes to the own gate does not leave by that."""
    seen = {(way.to, way.kind == "answered") for way in ways if way.sender == name}
    lost = []
    for kind, of in (("asked", entries), ("answered", answers)):
        there = {one.to for one in of if one.what not in TO_LEDGER and not _stays(one)}
        for to in sorted(one for one in there if (one, kind == "answered") not in seen):
            size = sum(one.size for one in of if one.to == to)
            lost.append(Way(name, to, kind, 1, size, 0, 0, f"nothing to {to} was on the wire"))
    return lost


def write_ways(path: Path, ways: Iterable[Way]) -> None:
    """Write a table of ways as CSV, a line for each."""
    names = [one.name for one in fields(Way)]
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(names)
        writer.writerows([getattr(way, name) for name in names] for way in ways)


def _stays(one: outbox.Sent) -> bool:
    """Return whether an entry is of what a core gives its own gate: it leaves when others come for it."""
    return one.to == "gate" or one.to.startswith("seats that come to ")


def sent_by(name: str, ways: Iterable[Way], entries: Iterable[outbox.Sent]) -> Sent:
    """Return what left one hospital, for the report.

    Args:
        name: the hospital.
        ways: of all hospitals.
        entries: of its core's outbox and of its gate's.
    """
    own = [way for way in ways if way.sender == name]
    left = [one for one in entries if not _stays(one)]
    kinds = {what: size for what, (_, size) in outbox.totals(left).items() if size}
    wrong = [f"{way.to}: {way.wrong}" for way in own if way.wrong]
    ledger = [way for way in own if way.kind == "ledger"]
    gates = [way for way in own if way.kind != "ledger"]
    size, wire, connections = (sum(getattr(way, field) for way in gates) for field in ("outbox", "wire", "connections"))
    note = "; ".join(wrong) or (
        f"to the ledger {sum(way.wire for way in ledger):,} bytes of HTTP: the {sum(way.entries for way in ledger):,} "
        "bodies in them are those of the outbox, each by its SHA-256, and the rest are heads and questions for blocks; "
        f"to others' gates and from its own {wire:,} bytes of TLS: {size:,} of the outbox, and "
        f"{(wire - size) / max(1, connections):,.0f} for each of {connections:,} connections; to no other place"
    )
    return Sent(
        member=name,
        messages=len(left),
        outbox=sum(kinds.values()),
        kinds=kinds,
        wire=sum(way.wire for way in own),
        agrees=not wrong,
        note=note,
    )


def sent_of(found: Consortium) -> tuple[tuple[Sent, ...], list[Way]]:
    """Return what left each hospital, once its node has ended, and the ways on which it did."""
    gates = {f"{found.host}:{one.port}": one.name for one in found.hosts.values()}
    folders = {name: Folder(one.folder) for name, one in found.hosts.items()}
    cores = {name: Outbox(one.outbox).read() for name, one in folders.items()}
    answers = {name: Outbox(one.gate / one.outbox.name).read() for name, one in folders.items()}
    ledgers = {name: found.ledgers.address(name) for name in folders}
    ways = ways_of(found.counter.flows, ledgers, gates, cores, answers)
    return tuple(sent_by(name, ways, [*cores[name], *answers[name]]) for name in folders), ways
