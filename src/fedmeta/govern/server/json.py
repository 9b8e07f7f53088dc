"""How the ledger's values look in JSON: records and events as maps, lists in order, bytes in hex."""

import json
from collections.abc import Iterable
from dataclasses import fields, is_dataclass
from typing import Any

from fedmeta.govern.wire.event import Event


def json_form(value: Any) -> Any:
    """Return a value of the ledger as JSON has it; whole numbers stay exact, however large."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Event):
        return {"kind": value.kind, "fields": json_form(value.fields())}
    if is_dataclass(value) and not isinstance(value, type):
        return {one.name: json_form(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, dict):
        return {str(name): json_form(one) for name, one in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return {name: json_form(one) for name, one in zip(value._fields, value, strict=True)}  # type: ignore[attr-defined]
    if isinstance(value, (list, tuple)):
        return [json_form(one) for one in value]
    return value


def to_json(value: Any) -> bytes:
    """Return the JSON of a value, UTF-8 without spaces."""
    return json.dumps(json_form(value), ensure_ascii=False, separators=(",", ":")).encode()


def message(kind: str, value: Any, id: int | None = None) -> bytes:
    """Return a server-sent event; the id, where there is one, is what a reader resumes after."""
    head = b"" if id is None else b"id: %d\n" % id
    return head + b"event: %s\ndata: %s\n\n" % (kind.encode(), to_json(value))


def block_messages(height: int, events: Iterable[tuple[str, dict[str, Any]]], summary: dict[str, Any]) -> bytes:
    """Return a block's events, and at their end the block itself: only this one carries the id.

    So a reader that loses the connection within a block gets the whole block again.
    """
    said = [
        message(kind, {"height": height, "number": number, "fields": values})
        for number, (kind, values) in enumerate(events)
    ]
    return b"".join([*said, message("block", summary, id=height)])
