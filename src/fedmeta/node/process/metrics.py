"""What a node counts, and how a monitoring system reads it: Prometheus' text format, on loopback only."""

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from fedmeta.node.reducer.actions import Aggregate, Append, Drop, DropModels, Duty, FetchModel, Submit
from fedmeta.node.reducer.view import View

FRESH = 120.0
"""Seconds after which a ledger of which nothing was seen is no longer followed."""


class Figures:
    """Counts of what was done, and the last duty that was done in full: a node is ready by that, not by being alive."""

    def __init__(self) -> None:
        self.duties: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        self.said: deque[dict[str, Any]] = deque(maxlen=20)
        """The latest of what was said to the member's people."""
        self.last_duty: dict[str, Any] = {}
        self.rounds: Counter[str] = Counter()
        """Rounds in which the member had a part: `done` or `missed`."""
        self.last_round: dict[str, Any] = {}
        """The last final round in which the member had a part, and whether it was done."""
        self.alarms = 0
        self._judged = 0
        self._seen_at = 0.0

    def done(self, duty: Duty) -> None:
        """Count a duty."""
        name = type(duty.body).__name__ if isinstance(duty, Submit) else type(duty).__name__
        self.duties[name] += 1
        if not isinstance(duty, (Append, Drop, DropModels, FetchModel)):
            round = duty.body.round if isinstance(duty, Submit) and hasattr(duty.body, "round") else None  # type: ignore[attr-defined]
            round = duty.round if isinstance(duty, Aggregate) else round
            self.last_duty = {"what": name, "round": round, "at": _now()}

    def failed(self, duty: Duty, why: str) -> None:
        """Count a duty that came to nothing."""
        self.failures[type(duty).__name__] += 1

    def tell(self, text: str, alarm: bool) -> None:
        """Keep what was said."""
        self.alarms += alarm
        self.said.append({"at": _now(), "text": text, "alarm": alarm})

    def seen(self, view: View) -> None:
        """Judge each round that is over: was this member's part in it done?"""
        self._seen_at = time.monotonic()
        settled = view.round is not None and bool(view.round.settled)
        round = view.round if settled else view.previous
        if round is None or round.number <= self._judged:
            return
        self._judged = round.number
        contributes = any(place.member == view.me for place in round.cohort)
        seat = any(one.candidate == view.me for one in round.seats)
        if (not contributes and not seat) or round.phase != "final":
            return
        opened = {name for name, one in view.attestations.items() if one.revealed} if settled else view.opened_before
        fine = (not contributes or view.me in round.members) and (not seat or view.me in opened)
        self.rounds["done" if fine else "missed"] += 1
        self.last_round = {"round": round.number, "done": fine}

    @property
    def ready(self) -> bool:
        """Whether the ledger is followed and the member's part in the last final round was done."""
        fresh = self._seen_at and time.monotonic() - self._seen_at < FRESH
        return bool(fresh) and self.last_round.get("done", True)

    def status(self) -> dict[str, Any]:
        """Return the figures as a map."""
        return {
            "ready": self.ready,
            "last_duty": self.last_duty,
            "last_round": self.last_round,
            "rounds": dict(self.rounds),
            "duties": dict(self.duties),
            "failures": dict(self.failures),
            "alarms": self.alarms,
            "said": list(self.said),
        }


def exposition(status: dict[str, Any]) -> str:
    """Return a status in Prometheus' text format, version 0.0.4."""
    lines = []

    def one(name: str, kind: str, meaning: str, rows: dict[str, int]) -> None:
        lines.append(f"# HELP fedmeta_node_{name} {meaning}")
        lines.append(f"# TYPE fedmeta_node_{name} {kind}")
        lines.extend(f"fedmeta_node_{name}{label} {value}" for label, value in rows.items())

    one("ready", "gauge", "Whether the last duty that was due is done.", {"": int(status["ready"])})
    one("height", "gauge", "The ledger's last block that was executed.", {"": status["height"]})
    one("round", "gauge", "The latest round.", {"": status["round"]})
    one("halted", "gauge", "Whether the node must not go on by itself.", {"": int(bool(status["halted"]))})
    one("alarms_total", "counter", "What people were told to look at.", {"": status["alarms"]})
    for name, meaning in (
        ("rounds", "Final rounds with a part of this member's, by whether it was done."),
        ("duties", "Duties that were done, by kind."),
        ("failures", "Duties that came to nothing at least once, by kind."),
    ):
        one(f"{name}_total", "counter", meaning, {f'{{kind="{key}"}}': n for key, n in sorted(status[name].items())})
    return "\n".join(lines) + "\n"


async def serve_metrics(
    port: int, figures: Figures, status: Callable[[], dict[str, Any]], ports: list[int] | None = None
) -> None:
    """Answer on loopback: `/metrics`, and `/ready` with 200 or 503. The port goes into `ports` once it listens."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            line = await asyncio.wait_for(reader.readline(), 5.0)
            path = line.split(b" ")[1:2]
            while (await asyncio.wait_for(reader.readline(), 5.0)).strip():
                continue
            if path == [b"/metrics"]:
                code, body = "200 OK", exposition(status())
            elif path == [b"/ready"]:
                code, body = ("200 OK", "ready\n") if figures.ready else ("503 Service Unavailable", "not ready\n")
            else:
                code, body = "404 Not Found", "there are /metrics and /ready\n"
            head = f"HTTP/1.1 {code}\r\ncontent-type: text/plain; version=0.0.4; charset=utf-8\r\n"
            writer.write(f"{head}content-length: {len(body.encode())}\r\nconnection: close\r\n\r\n{body}".encode())
            await writer.drain()
        except (TimeoutError, ConnectionError, ValueError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", port)
    if ports is not None:
        ports.append(server.sockets[0].getsockname()[1])
    async with server:
        await server.serve_forever()


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
