"""How the ledger's answers are written: tables for people, JSON for programs."""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from fedmeta.govern.client.client import LedgerEvent, Outcome

SHORT = 12
"""Digits of a hash that are shown."""

WIDTH = 120
"""Columns of what is written to a file or a pipe."""

_DIGITS = frozenset("0123456789abcdef")


def write_json(value: Any) -> None:
    """Write a value as JSON."""
    click.echo(json.dumps(value, indent=1, ensure_ascii=False, default=_hex))


def _hex(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    raise TypeError(f"{value!r} has no form in JSON")


def percent(parts: int) -> str:
    """Return parts per million in percent: `33.3333 %`, `5 %`."""
    whole, rest = divmod(parts, 10_000)
    return f"{whole:,}.{rest:04}".rstrip("0").rstrip(".") + " %"


def moment(time: int) -> str:
    """Return a time in milliseconds since 1970, in UTC."""
    try:
        return f"{datetime.fromtimestamp(time // 1000, UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (OverflowError, ValueError, OSError):
        # A genesis may begin at any time, also one that the calendar does not know.
        return f"{time} ms after 1970"


def short(value: Any) -> str:
    """Return a value in a few characters: hashes are cut, numbers grouped."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, bytes):
        return short(value.hex())
    if isinstance(value, str):
        if len(value) >= 64 and _DIGITS.issuperset(value):
            return f"{value[:SHORT]}…"
        # Members choose the text: none of it may steer the terminal.
        return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in value) or "-"
    if isinstance(value, Mapping) and {"candidate", "power"} <= value.keys():
        return f"{value['candidate']} {short(value['power'])}"
    if isinstance(value, Mapping) and value.keys() == {"organisation", "member"}:
        return f"{value['member']} of {value['organisation']}"
    if isinstance(value, Mapping) and value.keys() == {"blocks", "milliseconds"}:
        return f"{short(value['blocks'])} blocks and {short(value['milliseconds'] // 1000)} s"
    if isinstance(value, Mapping) and {"place", "amount"} <= value.keys():
        return f"{short(value['amount'])} of {_place(value)}"
    if isinstance(value, Mapping):
        return " ".join(f"{name}={short(one)}" for name, one in value.items())
    if isinstance(value, Sequence):
        return f"[{', '.join(map(short, value))}]" if any(isinstance(one, int) for one in value) else listed(value)
    return "-" if value is None else str(value)


def listed(values: Sequence[Any]) -> str:
    """Return values one after the other."""
    return ", ".join(map(short, values)) or "-"


def _place(cut: Mapping[str, Any]) -> str:
    """Return where a part of a slash was taken from."""
    if cut["place"] == "pool":
        return f"{'' if not cut['member'] else cut['member'] + ' in '}the pool of {cut['candidate']}"
    if cut["place"] == "unbonding":
        return f"what {cut['member']} took back from {cut['candidate']}"
    return f"what {cut['member']} moved to {cut['candidate']}"


class Whole(str):
    """A text that is shown as it is, such as a hash to be copied."""

    __slots__ = ()


def table(title: str, headings: Sequence[str], rows: Iterable[Sequence[Any]]) -> "Table":
    """Return a table; columns of numbers only are set to the right."""
    from rich import box
    from rich.table import Table

    made = Table(
        title=title or None,
        box=box.SIMPLE_HEAD,
        title_justify="left",
        title_style="bold",
        padding=(0, 1, 0, 0),
        show_edge=False,
    )
    lines = [list(row) for row in rows]
    for at, heading in enumerate(headings):
        numbers = bool(lines) and all(isinstance(line[at], int) and not isinstance(line[at], bool) for line in lines)
        made.add_column(heading, justify="right" if numbers else "left", overflow="fold")
    for line in lines:
        made.add_row(*[_escaped(short(one)) for one in line])
    return made


def facts(title: str, values: Mapping[str, Any]) -> "RenderableType":
    """Return a table of names and values."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    made = Table.grid(padding=(0, 2))
    made.add_column(no_wrap=True, style="dim")
    made.add_column(overflow="fold")
    for name, value in values.items():
        made.add_row(name.replace("_", " "), _escaped(value if isinstance(value, Whole) else short(value)))
    # The title of a table would be folded to its width.
    return Group(Text(short(title), style="bold"), made) if title else made


def write(*parts: Any) -> None:
    """Write tables and lines to standard output, with a blank line around each table."""
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        # Whatever reads this is no terminal that lines must fit.
        console.width = max(console.width, WIDTH)
    for at, part in enumerate(parts):
        if at and not (isinstance(part, str) and isinstance(parts[at - 1], str)):
            click.echo()
        if isinstance(part, str):
            click.echo(part)
        else:
            console.print(part)


def write_outcome(outcome: "Outcome", as_json: bool) -> None:
    """Write what a transaction did."""
    if as_json:
        events = [{"kind": one.kind, "fields": one.fields} for one in outcome.events]
        write_json({"height": outcome.height, "digest": outcome.digest.hex(), "events": events})
        return
    click.echo(f"done in block {outcome.height:,}, transaction {outcome.digest.hex()}")
    for said in outcome.events:
        if said.kind != "transaction-applied":
            click.echo(f"  {event_line(said)}")


def event_line(said: "LedgerEvent") -> str:
    """Return an event in a line."""
    return told(said.kind, said.fields)


def told(kind: str, fields: Mapping[str, Any]) -> str:
    """Return what happened in a line."""
    from dataclasses import fields as fields_of

    from fedmeta.govern.wire.events import EVENTS

    # On the way their order was lost: the encoding has one of its own.
    known = [one.name for one in fields_of(EVENTS[kind])] if kind in EVENTS else []
    ordered = {name: fields[name] for name in known if name in fields} | dict(fields)
    parts = ", ".join(f"{name.replace('_', ' ')} {_field(name, value)}" for name, value in ordered.items())
    return f"{kind}: {parts}" if parts else kind


def _field(name: str, value: Any) -> str:
    return moment(value) if name.endswith("_time") and value else short(value)


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(text)
