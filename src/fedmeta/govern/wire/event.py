"""What an event is: a frozen dataclass with a kind; an engine stores those of each block."""

from functools import cache
from typing import Any

from fedmeta.govern.wire.layout import field_names, plain

EVENTS: dict[str, type] = {}
"""Kind to class, in the order of the documentation."""


class Event:
    """The base of all events; `kind` is the class's name in lower case with hyphens."""

    __slots__ = ()
    kind: str = ""

    def __init_subclass__(cls) -> None:
        cls.kind = "".join(f"-{one.lower()}" if one.isupper() else one for one in cls.__name__).removeprefix("-")
        EVENTS[cls.kind] = cls

    def fields(self) -> dict[str, Any]:
        """Return the event's fields, nested parts as maps: what is encoded and shown."""
        return {name: plain(getattr(self, name)) for name in field_names(type(self))}


def encode_event(event: Event) -> list[Any]:
    """Return an event in the form that is hashed and stored: its kind and its fields."""
    return [event.kind, {name: plain(getattr(event, name)) for name in _names(type(event))}]


@cache
def _names(cls: type) -> tuple[str, ...]:
    """Return the names of an event's fields in the order of their encodings: the codec need not sort them then."""
    return tuple(sorted(field_names(cls), key=lambda name: (len(name), name)))
