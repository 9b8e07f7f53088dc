"""How the ledger's answers are written: tables for people, JSON for programs."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.table import Table

    from fedmeta.govern.client import Outcome, Said

SHORT = 12
"""Digits of a hash that are shown."""

_DIGITS = frozenset("0123456789abcdef")


def write_json(value: Any) -> None:
    """Write a value as JSON."""
    click.echo(json.dumps(value, indent=1, ensure_ascii=False))


def short(value: Any) -> str:
    """Return a value in a few characters: hashes are cut, numbers grouped."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, str):
        if len(value) >= 64 and _DIGITS.issuperset(value):
            return f"{value[:SHORT]}…"
        # Members choose the text: none of it may steer the terminal.
        return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in value) or "-"
    if isinstance(value, Mapping):
        return " ".join(f"{name}={short(one)}" for name, one in value.items())
    if isinstance(value, Sequence):
        return ", ".join(f"({short(one)})" if isinstance(one, Mapping) else short(one) for one in value) or "-"
    return "-" if value is None else str(value)


def table(title: str, headings: Sequence[str], rows: Iterable[Sequence[Any]]) -> "Table":
    """Return a table; columns of numbers only are set to the right."""
    from rich import box
    from rich.table import Table

    made = Table(
        title=title or None,
        box=box.SIMPLE_HEAD,
        title_justify="left",
        title_style="bold",
        padding=(0, 1),
        pad_edge=False,
    )
    lines = [list(row) for row in rows]
    for at, heading in enumerate(headings):
        numbers = bool(lines) and all(isinstance(line[at], int) and not isinstance(line[at], bool) for line in lines)
        made.add_column(heading, justify="right" if numbers else "left", overflow="fold")
    for line in lines:
        made.add_row(*[_escaped(short(one)) for one in line])
    return made


def facts(title: str, values: Mapping[str, Any]) -> "Table":
    """Return a table of names and values."""
    from rich.table import Table

    made = Table.grid(padding=(0, 2))
    if title:
        made.title, made.title_justify, made.title_style = title, "left", "bold"
    made.add_column(no_wrap=True, style="dim")
    made.add_column(overflow="fold")
    for name, value in values.items():
        made.add_row(name.replace("_", " "), _escaped(short(value)))
    return made


def write(*parts: Any) -> None:
    """Write tables and lines to standard output."""
    from rich.console import Console

    console = Console(highlight=False)
    for part in parts:
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
    click.echo(f"done in block {outcome.height:,}, transaction {short(outcome.digest.hex())}")
    for said in outcome.events:
        if said.kind != "transaction-applied":
            click.echo(f"  {event_line(said)}")


def event_line(said: "Said") -> str:
    """Return an event in a line."""
    told = ", ".join(f"{name.replace('_', ' ')} {short(value)}" for name, value in said.fields.items())
    return f"{said.kind}: {told}" if told else said.kind


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(text)
