"""How long it takes until all seats hold all updates, and what each link carries: a simulation of the exchange.

    .venv/bin/python benchmarks/exchange.py [--bytes 26400000] [--notice 5]

Nothing is sent. Links are fluid: the transfers under way share each host's up and down link by max-min fairness, and
nothing else limits them. Contributors and seats are hosts of their own. A contributor pushes to two seats at a time; a
seat pulls four updates at a time and serves four others; it serves what it holds whole, once others know of it, which
takes `--notice` seconds (it is said on the ledger).

    direct      each contributor sends to all seats at the same time
    exchange    contributors push to more than a third of the power, and seats pull the rest from one another
    topped up   the same, and a contributor whose pushes have ended goes on with seats that are not pulling its update
    withheld    as "exchange", and as many seats as may be dishonest say that they hold nothing, and serve nobody

The floor is one seat's down link: every seat needs every update, so no exchange is faster, and none moves fewer bytes
in all. What changes is whose up links carry them. The table is printed, and all of it is in build/bench/exchange.json.
"""

import argparse
import heapq
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from fedmeta.node.wire.exchange import pulls, pushes, sources, top_up

BENCH = Path(__file__).resolve().parents[1] / "build" / "bench"
ROUND = 1
PUSHES, PULLS, SERVES = 2, 4, 4
WAYS = ("direct", "exchange", "topped up", "withheld")
MEGABIT = 1e6 / 8


@dataclass(frozen=True)
class Case:
    """So many contributors and as many seats, and the speeds of their links, both ways, in Mbit/s."""

    count: int
    contributor: float
    seat: float
    way: str
    """One of `WAYS`."""


@dataclass(frozen=True)
class Result:
    """Seconds, and bytes of links."""

    in_set: float
    """Until each update is held by more than two thirds of the seats: it is in."""
    all_hold: float
    floor: float
    total: int
    contributor_up: int
    """Of the contributor that sends most."""
    seat_up: int
    """Of the seat that sends most."""
    seat_down: int


class Network:
    """Transfers that share links: each link has so many bytes a second, and each transfer passes two of them."""

    def __init__(self, capacities: list[float]):
        self.capacities = np.array(capacities)
        self.carried = np.zeros(len(capacities))
        self.now = 0.0
        self.flows: dict[tuple, list] = {}
        """By what is sent: [up link, down link, bytes left]."""

    def start(self, what: tuple, up: int, down: int, size: float) -> None:
        self.flows[what] = [up, down, size]
        self.carried[[up, down]] += size

    def rates(self) -> np.ndarray:
        """Return each transfer's bytes a second: those of the fullest link first, and so on."""
        links = np.array([flow[:2] for flow in self.flows.values()])
        rates = np.zeros(len(links))
        open_, left = np.ones(len(links), bool), self.capacities.copy()
        while open_.any():
            users = np.bincount(links[open_].ravel(), minlength=len(left))
            shares = np.full(len(left), np.inf)
            np.divide(left, users, out=shares, where=users > 0)
            share = shares.min()
            fixed = open_ & (shares[links] <= share * (1 + 1e-9)).any(axis=1)
            rates[fixed] = share
            left -= share * np.bincount(links[fixed].ravel(), minlength=len(left))
            left = np.maximum(left, 0)
            open_ &= ~fixed
        return rates

    def advance(self, until: float) -> list[tuple]:
        """Go on to `until`, or until the next transfers end, and return which did."""
        if not self.flows:
            self.now = until
            return []
        rates = self.rates()
        left = np.array([flow[2] for flow in self.flows.values()])
        step = min((left / rates).min(), until - self.now)
        self.now += step
        for flow, now_left in zip(self.flows.values(), left - rates * step, strict=True):
            flow[2] = now_left
        ended = [what for what, flow in self.flows.items() if flow[2] <= 1e-3]
        for what in ended:
            del self.flows[what]
        return ended


class Exchange:
    """One case, played until all seats hold all updates."""

    def __init__(self, case: Case, size: int, notice: float):
        self.case, self.size, self.notice = case, size, notice
        count = case.count
        self.contributors = [f"member-{number:02d}" for number in range(count)]
        self.seats = [f"seat-{number:02d}" for number in range(count)]
        # Up links of contributors, up links of seats, down links of seats.
        speeds = [case.contributor] * count + [case.seat] * 2 * count
        self.network = Network([speed * MEGABIT for speed in speeds])
        self.silent = set(self.seats[: (count - 1) // 3 if case.way == "withheld" else 0])
        powers = dict.fromkeys(self.seats, 1)
        self.queues = {
            name: self.seats[:] if case.way == "direct" else list(pushes(name, ROUND, self.contributors, powers))
            for name in self.contributors
        }
        self.expected = {(name, seat) for name, queue in self.queues.items() for seat in queue}
        self.tops = {name: top_up(name, ROUND, self.contributors, powers, ()) for name in self.contributors}
        self.order = {seat: pulls(seat, ROUND, self.contributors) for seat in self.seats}
        self.ask = {
            (name, seat): sources(seat, name, ROUND, self.seats) for name in self.contributors for seat in self.seats
        }
        self.held: dict[str, dict[str, float]] = {name: {} for name in self.contributors}
        self.known: dict[str, set[str]] = {name: set() for name in self.contributors}
        self.pulling = dict.fromkeys(self.seats, 0)
        self.serving = dict.fromkeys(self.seats, 0)
        self.pushing = dict.fromkeys(self.contributors, 0)

    def run(self) -> Result:
        news: list[tuple[float, str, str]] = []
        lacking = self.case.count**2
        while lacking:
            self._start()
            for sender, name, seat in self.network.advance(news[0][0] if news else np.inf):
                self._end(sender, name, seat)
                lacking -= 1
                heapq.heappush(news, (self.network.now + self.notice, name, seat))
            while news and news[0][0] <= self.network.now + 1e-9:
                _, name, seat = heapq.heappop(news)
                if seat not in self.silent:
                    self.known[name].add(seat)
        return self._result()

    def _start(self) -> None:
        limit = self.case.count if self.case.way == "direct" else PUSHES
        for name, queue in self.queues.items():
            while queue and self.pushing[name] < limit:
                self.pushing[name] += 1
                self._send(name, name, queue.pop(0))
        for seat in self.seats:
            for name in self.order[seat]:
                if self.pulling[seat] >= PULLS:
                    break
                if (name, seat) not in self.expected and self.known[name]:
                    self._pull(name, seat)
        if self.case.way == "topped up":
            for name in self.contributors:
                self._top_up(name)

    def _top_up(self, name: str) -> None:
        for seat in self.tops[name]:
            if self.queues[name] or self.pushing[name] >= PUSHES:
                return
            if (name, seat) not in self.expected:
                self.expected.add((name, seat))
                self.pushing[name] += 1
                self._send(name, name, seat)

    def _pull(self, name: str, seat: str) -> None:
        for holder in self.ask[name, seat]:
            if holder in self.known[name] and self.serving[holder] < SERVES:
                self.expected.add((name, seat))
                self.pulling[seat] += 1
                self.serving[holder] += 1
                self._send(holder, name, seat)
                return

    def _send(self, sender: str, name: str, seat: str) -> None:
        count = self.case.count
        up = self.contributors.index(name) if sender == name else count + self.seats.index(sender)
        self.network.start((sender, name, seat), up, 2 * count + self.seats.index(seat), self.size)

    def _end(self, sender: str, name: str, seat: str) -> None:
        self.held[name][seat] = self.network.now
        if sender == name:
            self.pushing[name] -= 1
        else:
            self.pulling[seat] -= 1
            self.serving[sender] -= 1

    def _result(self) -> Result:
        count = self.case.count
        times = {name: sorted(held.values()) for name, held in self.held.items()}
        enough = 2 * count // 3  # The index of the first seat with which it is more than two thirds.
        carried = self.network.carried
        return Result(
            in_set=max(held[enough] for held in times.values()),
            all_hold=max(held[-1] for held in times.values()),
            floor=count * self.size / (self.case.seat * MEGABIT),
            total=int(carried[: 2 * count].sum()),
            contributor_up=int(carried[:count].max()),
            seat_up=int(carried[count : 2 * count].max()),
            seat_down=int(carried[2 * count :].max()),
        )


def table(rows: Iterable[tuple[Case, Result]]) -> str:
    head = ("seats", "contributor / seat", "way", "in", "all hold", "floor", "total")
    head += ("contributor up", "seat up", "seat down")
    body = [
        (
            f"{case.count}",
            f"{case.contributor:g} / {case.seat:g} Mbit/s",
            case.way,
            *(f"{seconds:.1f} s" for seconds in (result.in_set, result.all_hold, result.floor)),
            f"{result.total / 1e9:.2f} GB",
            *(f"{size / 1e6:.0f} MB" for size in (result.contributor_up, result.seat_up, result.seat_down)),
        )
        for case, result in rows
    ]
    widths = [max(map(len, column)) for column in zip(head, *body, strict=True)]
    lines = [[cell.rjust(width) for cell, width in zip(row, widths, strict=True)] for row in (head, *body)]
    return "\n".join("  ".join(line) for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bytes", type=int, default=26_400_000, help="of an update: 6.6 million parameters of 4 bytes")
    parser.add_argument("--notice", type=float, default=5.0, help="seconds until others know what a seat holds")
    parser.add_argument("--counts", default="7,64", help="of contributors, and of seats")
    options = parser.parse_args()
    rows = []
    for count in map(int, options.counts.split(",")):
        for contributor, seat in ((20, 20), (100, 100), (20, 100)):
            for way in WAYS:
                case = Case(count, contributor, seat, way)
                rows.append((case, Exchange(case, options.bytes, options.notice).run()))
    print(table(rows))
    BENCH.mkdir(parents=True, exist_ok=True)
    report = {
        "bytes": options.bytes,
        "notice": options.notice,
        "at once": {"pushes": PUSHES, "pulls": PULLS, "serves": SERVES},
        "rows": [{**asdict(case), **asdict(result)} for case, result in rows],
    }
    (BENCH / "exchange.json").write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
