"""The demonstration from its first process to its last payment, and what it has shown."""

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from fedmeta.consortium import methods
from fedmeta.consortium.federation import FederationPart
from fedmeta.consortium.hospitals import TITLES, Hospitals
from fedmeta.consortium.processes import accounts
from fedmeta.consortium.processes.accounts import Way
from fedmeta.consortium.processes.board import Board
from fedmeta.consortium.processes.course import LIES, Course
from fedmeta.consortium.processes.hosting import PARAMETERS, Consortium, Readable, own_users, try_walls
from fedmeta.consortium.processes.live import View
from fedmeta.consortium.processes.wire import Counter
from fedmeta.node.aggregation import Exact

INTERVALS = {"embedded": 0.25, "cometbft": 0.4}
"""Seconds from block to block: four validators on one machine agree in a little more than half of that."""

VALIDATORS = (
    " The four super nodes decided the ledger's blocks themselves, by more than two thirds of their power, each with a "
    "CometBFT of its own. What these exchange is the ledger, which is the same for all, and was not counted."
)

ROUNDS = 1_000
"""The most rounds that a node agrees to by its approval."""


@dataclass(frozen=True)
class Shown:
    """What the demonstration has shown.

    Args:
        part: for the report.
        ways: what was on the wire, way by way.
        readable: who could open which table.
    """

    part: FederationPart
    ways: tuple[Way, ...]
    readable: Readable


def run(
    patients: Hospitals,
    rounds: int,
    faults: bool,
    console: Console,
    kept: Path | None,
    say: Callable[[str], None],
    engine: str = "embedded",
) -> Shown:
    """Run the federation until so many rounds are final and all faults were played.

    Args:
        patients: of the hospitals.
        rounds: final rounds.
        faults: whether a super node is killed, and another one lies.
        console: where the live view is.
        kept: a folder for logs and outboxes; None for none.
        say: is given what people should read.
        engine: who orders the ledger's blocks, as `LocalFederation` has it.

    Raises:
        MemberError: it takes too long; what the folder then has of logs is kept.
    """
    begun = time.monotonic()
    users, why = own_users(patients.names)
    made = methods.procedure(rounds=ROUNDS, members=len(patients))
    exact = Exact(made)
    state = exact.initial()
    titles = {name: TITLES.get(name, name) for name in patients.names}
    with _place(kept) as place, Counter() as counter:
        found = Consortium(
            place,
            made,
            state,
            {name: {} for name in patients.names},
            patients.names,
            parameters=PARAMETERS,
            approved=False,
            patients=patients,
            counter=counter,
            users=users,
            dishonest=LIES if faults else "",
            engine=engine,
            interval=INTERVALS[engine],
        )
        with found:
            found.make(exact.result(state))
            found.start_ledger()
            # Before a hospital's keys are its own users' alone.
            found.introduce()
            found.elect()
            readable = try_walls(found)
            say(walls_said(readable, why, titles))
            for name in found.hosts:
                found.start(name)
            board = Board(titles)
            course = Course(found, board, rounds, faults, begun)
            with View(board, rounds, console) as view:
                course.run(view.show)
            explained, title = _explained(found, board)
            seconds = time.monotonic() - begun
        sent, ways = accounts.sent_of(found)
        if kept is not None:
            _keep(found, kept)
            accounts.write_ways(kept / "wire.csv", ways)
    part = FederationPart(
        algorithm=made.algorithm.title,
        rounds=accounts.rounds_of(board),
        payments=accounts.payments_of(board),
        explained=explained,
        explained_title=title,
        sent=sent,
        faults=course.faults_played(),
        seconds=round(seconds, 1),
        note=f"{walls_said(readable, why, titles)}{VALIDATORS if found.validators else ''}",
    )
    return Shown(part, tuple(ways), readable)


@contextmanager
def _place(kept: Path | None) -> Iterator[Path]:
    """Give a new folder with a short path, as the sockets of a node need; it is gone afterwards, but not its logs."""
    above = Path(tempfile.mkdtemp(prefix="fedmeta-consortium-"))
    above.chmod(0o711)
    try:
        yield above / "f"
    except BaseException:
        if kept is not None:
            for log in (above / "f").glob("*.log"):
                shutil.copy(log, _folder(kept / "logs"))
        raise
    finally:
        shutil.rmtree(above, ignore_errors=True)


def _keep(found: Consortium, kept: Path) -> None:
    """Keep the logs, and the outboxes of cores and gates."""
    for log in found.folder.glob("*.log"):
        shutil.copy(log, _folder(kept / "logs"))
    for name, one in found.hosts.items():
        for file, to in ((one.folder / "outbox.jsonl", "core"), (one.folder / "gate" / "outbox.jsonl", "gate")):
            if file.exists():
                shutil.copy(file, _folder(kept / "outboxes") / f"{name}-{to}.jsonl")


def _folder(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    return path


def _explained(found: Consortium, board: Board) -> tuple[str, str]:
    """Return the ledger's own explanation of the term with the largest payment for an update, and what it is of."""
    chosen = accounts.to_explain(board)
    if chosen is None:
        return "", ""
    member, number = chosen
    term = board.rounds[number].term
    with found.client() as client:
        text = client.explain_text(member, term)
    return (
        text.rstrip(),
        f"{board.name(member)}, term {term} with round {number}: fedmeta ledger explain {member} --term {term}",
    )


def walls_said(readable: Readable, why: str, titles: dict[str, Any]) -> str:
    """Return in words who can read which table, as it was tried, and by what walls."""
    if readable.why:
        return f"Whether each hospital's table is its trainer's alone could not be tried: {readable.why}."
    users = "each process under a user of its own" if not why else f"all processes under one user: {why}"
    if readable.holds:
        return f"Tried: each hospital's trainer can open its own patients and nobody else's; {users}."
    others = [
        f"{titles[name]}'s trainer can open {', '.join(titles[one] for one in opened) or 'nothing'}"
        for name, opened in readable.opened.items()
        if opened != (name,)
    ]
    others += [f"{titles[name]}'s core or gate can open a table" for name in readable.elsewhere]
    others += [f"{titles[name]}'s trainer can open its keys" for name in readable.keys]
    return f"Walls are missing on this machine: {'; '.join(others)}; {users}."
