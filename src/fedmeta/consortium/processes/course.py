"""The course of the demonstration: what befalls a federation in which round, by what the ledger shows."""

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from fedmeta.consortium.federation import Fault
from fedmeta.consortium.processes import dishonest
from fedmeta.consortium.processes.board import Board
from fedmeta.govern.errors import GovernError
from fedmeta.node.errors import MemberError
from fedmeta.node.member.folder import Folder

LOOK = 0.25
"""Seconds from one look to the next where nothing happens."""

KILLED, LIES = "budapest", "long-beach"
"""Whose super node is killed, and whose lies."""


@runtime_checkable
class Federation(Protocol):
    """What a course deals with; see `hosting.Consortium`."""

    folder: Path
    hosts: Any
    """Of each member, something with a `folder`."""

    def client(self) -> Any: ...  # noqa: D102
    def approve(self, name: str) -> None: ...  # noqa: D102
    def kill(self, name: str) -> None: ...  # noqa: D102
    def lose_disk(self, name: str) -> None: ...  # noqa: D102
    def recover(self, name: str) -> Any: ...  # noqa: D102
    def start(self, name: str) -> None: ...  # noqa: D102


@dataclass
class Course:
    """Goes through the demonstration.

    Args:
        found: The federation, its ledger running.
        board: What the ledger tells is written there.
        rounds: Final rounds that are waited for.
        faults: Whether a super node is killed and another one lies.
        begun: The moment from which seconds are counted, of `time.monotonic`.
        patience: Seconds after which it gives up.
    """

    found: Federation
    board: Board
    rounds: int
    faults: bool
    begun: float
    patience: float = 600.0
    approved: bool = False
    killed_in: int = 0
    recovered_in: int = 0
    lied_in: int = 0
    exposed_in: int = 0
    _recovery: Any = None
    """The process of a recovery under way."""
    _events: queue.SimpleQueue = field(default_factory=queue.SimpleQueue)

    @property
    def seconds(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self.begun

    def run(self, show: Callable[[float], None]) -> None:
        """Go through it to its end; `show` is called often.

        Raises:
            MemberError: it takes too long, or what has to come about does not.
        """
        # Processes are started by this thread only: they end with the thread that started them.
        threading.Thread(target=self._listen, name="events", daemon=True).start()
        while not self._over():
            try:
                event = self._events.get(timeout=LOOK)
            except queue.Empty:
                event = None
            if isinstance(event, Exception):
                raise event
            if event is not None:
                self.board.see(event, self.seconds)
                self._approve(event)
                if self.faults:
                    self._play(event)
            self._look_after_recovery()
            if self._events.empty():
                show(self.seconds)
            if self.seconds > self.patience:
                raise MemberError(
                    f"{len(self.board.finals)} of {self.rounds} rounds are final after {self.patience:g} s: "
                    f"{self._missing()}; see the logs in {self.found.folder}"
                )
        show(self.seconds)

    def _listen(self) -> None:
        try:
            with self.found.client() as client:
                for event in client.events(from_height=0):
                    self._events.put(event)
        except (GovernError, OSError) as error:
            self._events.put(error)

    def _over(self) -> bool:
        finals = self.board.finals
        if len(finals) < self.rounds:
            return False
        return not self.faults or bool(self.exposed_in and finals[-1].number > self.exposed_in)

    def _missing(self) -> str:
        if not self.faults or self.exposed_in:
            return "too few rounds"
        return "the lie is not exposed" if self.lied_in else "no round yet in which one could lie"

    def _approve(self, event: Any) -> None:
        """Let people approve the procedure once all have a seat: before that, no round begins."""
        if event.kind == "term-started" and not self.approved and len(self.board.elected[self.board.term]) > 1:
            self.approved = True
            for name in self.found.hosts:
                self.found.approve(name)
            self.board.played(self.seconds, "at each hospital a person approves the procedure: now it may contribute")

    def _play(self, event: Any) -> None:
        round = self.board.round
        if round is None:
            return
        rows, name = self.board.rows, self.board.name
        if event.kind == "phase-began" and not self.killed_in:
            if self.board.phase == "compute" and len(self.board.finals) >= 1 and rows[KILLED].seat:
                self.killed_in = round.number
                self._kill()
        elif event.kind == "round-settled" and self.killed_in and not self.recovered_in:
            settled = self.board.rounds[event.fields["round"]]
            if settled.outcome == "final" and settled.number > self.killed_in and KILLED in settled.opened:
                self.recovered_in = settled.number
                self.board.say(self.seconds, f"{name(KILLED)} has its part in round {settled.number} again, in full")
        elif event.kind == "round-scheduled" and self.recovered_in and not self.lied_in:
            # Four seats bear one that lies: all of them must be there.
            if len(round.seats) == len(rows) and LIES in round.seats:
                self.lied_in = round.number
                dishonest.order(Folder(self.found.hosts[LIES].folder).trainer, (round.number,))
                self.board.played(
                    self.seconds, f"from here on {name(LIES)} lies about the result of round {round.number}"
                )
        elif event.kind == "fault-proven" and event.fields["offender"] == LIES:
            self.exposed_in = event.fields["round"]

    def _kill(self) -> None:
        name = self.board.name(KILLED)
        self.found.kill(KILLED)
        self.found.lose_disk(KILLED)
        self.board.played(self.seconds, f"{name}'s super node is killed by SIGKILL, and its core's disk is gone")
        self._recovery = self.found.recover(KILLED)

    def _look_after_recovery(self) -> None:
        if self._recovery is None or self._recovery.poll() is None:
            return
        code, self._recovery = self._recovery.returncode, None
        if code:
            raise MemberError(f"`fedmeta node recover` ended with {code}: see {self.found.folder}/{KILLED}-recover.log")
        self.found.start(KILLED)
        self.board.played(
            self.seconds,
            f"{self.board.name(KILLED)}'s node starts anew, by `fedmeta node recover` and its account's key; it is "
            "silent at first, so that nothing is said twice",
        )

    def faults_played(self) -> tuple[Fault, ...]:
        """Return what was played, and what came of it, by the ledger."""
        found = []
        if self.killed_in:
            round = self.board.rounds[self.killed_in]
            found.append(
                Fault(
                    self.killed_in,
                    KILLED,
                    "killed by SIGKILL while results were computed, and its core's disk taken away",
                    f"round {self.killed_in} became {round.outcome} by the other seats"
                    + (", with its update in it" if KILLED in round.included else "")
                    + (f"; under a new machine key it had its part again in round {self.recovered_in}, in full"
                       if self.recovered_in else "; it had no full part in any later round"),
                )
            )  # fmt: skip
        if self.lied_in:
            round, row = self.board.rounds[self.lied_in], self.board.rows[LIES]
            right = [one for one, result in round.opened.items() if result == round.result]
            outcome = f"round {self.lied_in} became {round.outcome}"
            if round.outcome == "final":
                outcome += f" by the result of {len(right)} of {len(round.seats)} seats"
            if self.exposed_in:
                outcome += (
                    f"; its false result was proven: {row.lost:,} units of the stake behind it were slashed, it was "
                    "not paid for its seat, and it is barred from seats"
                )
            found.append(
                Fault(
                    self.lied_in,
                    LIES,
                    "made to lie: it gave the result of its own update alone for that of the round",
                    outcome,
                )
            )
        return tuple(found)
