"""What `cometbft.py` found, as tables for docs/performance.md: `page.py` writes them."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

IN_PROCESS, SOCKET, LEDGER = "kvstore in process", "kvstore behind a socket", "ledger"
ROUNDS = 1_440
"""A day, at one a minute."""
DAY, PAUSE, EMPTY = 86_400, 1, 5
"""Seconds: of a day, between blocks where something waits, and where nothing waits, as they are by default."""
MISSING = "not measured"
Row = Mapping[str, Any]


def read(path: Path) -> dict[str, list[Row]]:
    """Return the lines of each part."""
    found: dict[str, list[Row]] = {}
    for line in path.read_text().splitlines():
        row = json.loads(line)
        found.setdefault(row["part"], []).append(row)
    return found


class Found:
    """The figures, part by part; a `KeyError` where one was not measured."""

    def __init__(self, parts: Mapping[str, Sequence[Row]]):
        self.parts = parts

    def rows(self, part: str, **like: Any) -> list[Row]:
        """Return the lines of a part that have these values."""
        found = [one for one in self.parts[part] if all(one.get(name) == value for name, value in like.items())]
        if not found:
            raise KeyError(f"{part} has no line with {like}")
        return found

    def speed(self, system: str, validators: int, name: str = "rate") -> list[float]:
        """Return a figure of each turn."""
        return [one[name] for one in self.rows("speed", system=system, validators=validators)]

    def embedded(self) -> list[float]:
        """Return the embedded engine's seconds a transaction, of each turn."""
        return [1 / one["rate"] for one in self.rows("speed", system="embedded")]

    @property
    def cores(self) -> int:
        """Of the machine where speed was measured."""
        return self.rows("speed", what="setting")[0]["cores"]

    def bounds(self, validators: int) -> list[float]:
        """Return 1 / (1/k + n c / cores) of each turn."""
        pairs = zip(self.speed(SOCKET, validators), self.embedded(), strict=True)
        return [1 / (1 / k + validators * c / self.cores) for k, c in pairs]

    def reached(self, validators: int) -> list[float]:
        """Return which part of the bound the ledger reached, of each turn."""
        pairs = zip(self.speed(LEDGER, validators), self.bounds(validators), strict=True)
        return [rate / bound for rate, bound in pairs]

    def processor(self, validators: int) -> list[float]:
        """Return the application's seconds of a core a transaction and node, over c, of each turn."""
        pairs = zip(self.speed(LEDGER, validators, "application"), self.embedded(), strict=True)
        return [seconds / c for seconds, c in pairs]

    def latency(self, name: str) -> list[float]:
        """Return the ledger's latency over `kvstore`'s, of each turn."""
        pairs = zip(self.rows("latency", system=LEDGER), self.rows("latency", system=SOCKET), strict=True)
        return [ours[name] / theirs[name] for ours, theirs in pairs]

    def day(self) -> dict[str, float]:
        """Return the bytes of a day at one round a minute, by part of the disk, from what was measured."""
        quiet, rounds = self.rows("disk", what="quiet")[0], self.rows("disk", what="rounds")[0]
        count, full = rounds["rounds"], rounds["full"] / rounds["rounds"]
        # After a round's last block there is one more at once, since the app hash has changed.
        blocks = (DAY - ROUNDS * (full + 1) * PAUSE) / EMPTY + ROUNDS
        found = {}
        for name, grown in rounds["grown"].items():
            each = quiet["grown"].get(name, 0) / quiet["height"]
            of_round = (grown - each * (rounds["height"] - rounds["full"])) / count
            found[name] = max(ROUNDS * of_round + blocks * each, 0)
        return found


def spread(values: Sequence[float], form: str) -> str:
    """Return the median, and the lowest and the highest where there are several."""
    middle, low, high = (form.format(one) for one in (median(values), min(values), max(values)))
    return middle if len(values) == 1 else f"{middle} ({low} to {high})"


def missed(text: str, good: bool) -> str:
    """Return a goal, marked where it was missed."""
    return text if good else f"**missed:** {text}"


def _rate(found: Found, system: str, count: int) -> list[str]:
    return [f"{system}, {_nodes(count)}", f"{spread(found.speed(system, count), '{:,.0f}')} transactions a second", ""]


def _nodes(count: int) -> str:
    return f"{count} validator{'s' * (count > 1)}"


def _bound(found: Found, count: int) -> list[str]:
    reached = found.reached(count)
    percent = spread([100 * one for one in reached], "{:.0f}")
    of = spread(found.bounds(count), "{:,.0f}")
    return [
        f"part of the bound, {_nodes(count)}",
        f"{percent} % of {of} a second",
        missed("at least 85 %", median(reached) >= 0.85),
    ]


def _processor(found: Found, count: int) -> list[str]:
    ratios = found.processor(count)
    seconds = spread([1e6 * one for one in found.speed(LEDGER, count, "application")], "{:.0f}")
    return [
        f"the application's processor time a transaction, {_nodes(count)}",
        f"{seconds} µs: {spread(ratios, '{:.2f}')} c",
        missed("at most 1.3 c", median(ratios) <= 1.3),
    ]


def _latency(found: Found, name: str) -> list[str]:
    ratios = found.latency(name)
    ours, theirs = (
        spread([1e3 * one[name] for one in found.rows("latency", system=system)], "{:,.0f}")
        for system in (LEDGER, SOCKET)
    )
    return [
        f"latency at ten a second, blocks of 1 s, {name}, 4 validators",
        f"{ours} ms, kvstore {theirs}: {spread(ratios, '{:.2f}')} times",
        missed("at most 1.15 times", median(ratios) <= 1.15),
    ]


def _recovery(found: Found) -> list[str]:
    kills = [one for one in found.rows("recovery") if "kill" in one]
    whole, gap = (spread([one[name] for one in kills], "{:.1f}") for name in ("whole", "gap"))
    text = f"all blocks {whole} s after its start; the others' longest pause {gap} s"
    return ["one of 4 killed, and started 5 s later", text, ""]


def _disk(found: Found) -> list[str]:
    day = found.day()
    log = day.get("cs.wal", 0)
    rest = sum(day.values()) - day["ledger"] - log
    round_ = found.rows("disk", what="round")[0]
    return [
        f"a day at one round a minute ({round_['transactions']} transactions), one of 4 validators",
        f"ledger {day['ledger'] / 1e6:,.0f} MB, CometBFT's blocks and states {rest / 1e6:,.0f} MB (extrapolated); its "
        f"log of messages {log / 1e6:,.0f} MB, of which it keeps 1 GB",
        "",
    ]


def _statesync(found: Found) -> list[str]:
    one = next(row for row in found.rows("statesync") if "members" in row)
    return [
        f"state sync, {one['members']:,} members and {one['delegations']:,} delegations",
        f"{one['seconds']:.0f} s from its start to the last block: {one['opened']:.0f} s open the ledger, "
        f"{one['looked']:.0f} s look for snapshots, {one['restored']:.0f} s restore {one['bytes'] / 1e6:,.0f} MB",
        "",
    ]


def _consortium(found: Found) -> list[str]:
    hours = {
        engine: spread([3600 / one for one in found.rows("consortium", engine=engine)[-1]["seconds"]], "{:,.0f}")
        for engine in ("embedded", "cometbft")
    }
    return [
        "rounds of four hospitals on this machine",
        f"{hours['embedded']} an hour with a sequencer, {hours['cometbft']} with CometBFT",
        "",
    ]


def table_rows(parts: Mapping[str, Sequence[Row]]) -> list[list[str]]:
    """Return the rows of the table: work, what was measured, goal."""
    found = Found(parts)

    def embedded() -> list[str]:
        return ["embedded engine (c)", f"{spread([1e6 * one for one in found.embedded()], '{:.0f}')} µs each", ""]

    works: list[tuple[str, Callable[[], list[str]]]] = [("c", embedded)]
    for count in (1, 4):
        for system in (IN_PROCESS, SOCKET, LEDGER):
            works.append((f"{system}, {_nodes(count)}", lambda system=system, count=count: _rate(found, system, count)))
        works.append((f"part of the bound, {_nodes(count)}", lambda count=count: _bound(found, count)))
        works.append((f"processor time, {_nodes(count)}", lambda count=count: _processor(found, count)))
    works += [(f"latency, {name}", lambda name=name: _latency(found, name)) for name in ("p50", "p99")]
    works += [
        ("one of 4 killed", lambda: _recovery(found)),
        ("disk", lambda: _disk(found)),
        ("state sync", lambda: _statesync(found)),
        ("rounds of four hospitals", lambda: _consortium(found)),
    ]
    return [_or_missing(name, give) for name, give in works]


def _or_missing(name: str, give: Callable[[], list[str]]) -> list[str]:
    try:
        return give()
    except (KeyError, StopIteration):
        return [name, MISSING, ""]


def setting(parts: Mapping[str, Sequence[Row]]) -> str:
    """Return the machine, the versions, and what was missed of the goals."""
    settings = [row for rows in parts.values() for row in rows if row.get("what") == "setting"]
    # Parts may have been measured at different times.
    machines = _each(
        f"{one['cores']} cores ({one['machine']}, {one['system']}), Python {one['python']}; "
        f"CometBFT {one['cometbft']}, {', '.join(one['versions'])}"
        for one in settings
    )
    turns = len(Found(parts).embedded()) if "speed" in parts else 0
    lost = [work for work, _, goal in table_rows(parts) if goal.startswith("**missed")]
    load = max(one["load_before"] for one in settings)
    return (
        f"{'; '.join(machines)}. Medians of {turns} turns for speed; in parentheses the lowest and the highest. Before "
        f"a part began the load average was {load:.1f} at most. Missed: {'; '.join(lost) or 'nothing'}."
    )


def _each(texts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(texts))
