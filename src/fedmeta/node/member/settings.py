"""Files that a person edits: each key is a row of a table, from which files are read, templates written and pages made.

A section of a file is a frozen dataclass; each of its fields is a key, with what it means beside it.
"""

import json
import math
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

from fedmeta.errors import nearest
from fedmeta.node.errors import ConfigError

_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?B?)\s*", re.IGNORECASE)
_DIGEST = re.compile("[0-9a-fA-F]{64}")


class Wrong(Exception):
    """A value that is not of its kind; the text says what would be right."""


class Kind(NamedTuple):
    """A kind of value: what it is called, how one in TOML is read, and how it is written there again."""

    title: str
    read: Callable[[Any], Any]
    write: Callable[[Any], Any] = lambda value: value


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.isprintable():
        raise Wrong("a text in one line")
    return value


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise Wrong('a list of texts, such as ["one", "two"]')
    return tuple(_text(one) for one in value)


def _whole(value: Any) -> int:
    if type(value) is not int:
        raise Wrong("a whole number")
    return value


def _number(value: Any) -> float:
    if type(value) not in (int, float) or value != value:
        raise Wrong("a number")
    return float(value)


def _switch(value: Any) -> bool:
    if type(value) is not bool:
        raise Wrong("true or false")
    return value


def _digest(value: Any) -> bytes:
    if value == "":
        return b""
    if not isinstance(value, str) or not _DIGEST.fullmatch(value):
        raise Wrong("64 hexadecimal digits")
    return bytes.fromhex(value)


def _size(value: Any) -> int:
    if type(value) is int:
        return value
    found = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if not found:
        raise Wrong('a size, such as "20 GB", or a number of bytes')
    unit = found[2].upper()
    return round(float(found[1]) * _UNITS[unit if unit.endswith("B") or not unit else f"{unit}B"])


def _table(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Wrong("a table")
    return value


def said_size(count: int) -> str:
    """Return a number of bytes in words, such as `20 GB`; exact where the number is round, else to one decimal."""
    for unit in ("TB", "GB", "MB", "KB"):
        if count >= _UNITS[unit]:
            return f"{count / _UNITS[unit]:.1f}".removesuffix(".0") + f" {unit}"
    return f"{count} B"


KINDS: dict[str, Kind] = {
    "text": Kind("text", _text),
    "texts": Kind("list of texts", _texts, list),
    "whole": Kind("whole number", _whole),
    "number": Kind("number", _number),
    "switch": Kind("true or false", _switch),
    "digest": Kind("64 hex digits", _digest, bytes.hex),
    "size": Kind("size", _size, said_size),
    "table": Kind("table", _table),
}
"""The kinds of values by name."""


def key(kind: str, meaning: str, default: Any = MISSING, **more: Any) -> Any:
    """Declare a key of a section: its kind, one of `KINDS`, its meaning and its default; without one it is needed.

    Args:
        kind: one of `KINDS`.
        meaning: what it is, in one sentence without a full stop.
        default: the value where the file does not have it.
        more: `example`, `choices`, `low` and `high`.
    """
    metadata = {"kind": kind, "meaning": meaning, **more}
    if isinstance(default, dict):
        return field(default_factory=lambda: dict(default), metadata=metadata)
    return field(metadata=metadata) if default is MISSING else field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True)
class Setting:
    """A row of the table of keys; `section` is empty for those at the top of the file."""

    section: str
    key: str
    kind: str
    meaning: str
    needed: bool
    default: Any = None
    example: Any = None
    choices: tuple[str, ...] = ()
    low: int | float | None = None
    high: int | float | None = None

    @property
    def name(self) -> str:
        """The key with its section, as `ledger.addresses`."""
        return f"{self.section}.{self.key}" if self.section else self.key

    @property
    def _low(self) -> int | float:
        return -math.inf if self.low is None else self.low

    @property
    def _high(self) -> int | float:
        return math.inf if self.high is None else self.high

    def read(self, value: Any) -> Any:
        """Return the value that one of TOML stands for; raises `Wrong`."""
        found = KINDS[self.kind].read(value)
        if self.choices:
            for one in found if isinstance(found, tuple) else (found,):
                if one not in self.choices:
                    raise Wrong(f"one of {', '.join(map(repr, self.choices))}; {nearest(one, self.choices)}")
        if self.needed and found in ("", b"", ()):
            raise Wrong("something: it is needed")
        if isinstance(found, int | float) and not self._low <= found <= self._high:
            raise Wrong(f"at least {self._low:,}" if self.high is None else f"from {self._low:,} to {self._high:,}")
        return found

    def written(self, value: Any) -> str:
        """Return a value as TOML has it."""
        return toml(KINDS[self.kind].write(value))


def toml(value: Any) -> str:
    """Return a text, number, switch, list or table of such as TOML in one line."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        # A string of JSON is one of TOML, but for this one character.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(toml, value))}]"
    if isinstance(value, Mapping):
        return (
            "{ " + ", ".join(f"{toml(str(name))} = {toml(one)}" for name, one in value.items()) + " }"
            if value
            else "{}"
        )
    return str(value)


def rows(sections: Mapping[str, type]) -> tuple[Setting, ...]:
    """Return the table of keys of a file, in the order of its sections and of their fields."""
    return tuple(row for section, cls in sections.items() for row in _rows_of(section, cls))


def _rows_of(section: str, cls: type) -> Iterator[Setting]:
    for one in fields(cls):
        if "kind" not in one.metadata:
            continue
        default = one.default_factory() if one.default_factory is not MISSING else one.default
        needed = default is MISSING
        yield Setting(section, one.name, needed=needed, default=None if needed else default, **one.metadata)


def read_toml(path: Path) -> dict[str, Any]:
    """Return what a TOML file holds; raises `ConfigError`, which names the file."""
    try:
        return tomllib.loads(path.read_bytes().decode("utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"there is no {path}: `fedmeta node init` makes a node's folder") from error
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{path} is not a TOML file: {error}") from error


def parse(content: Mapping[str, Any], sections: Mapping[str, type], file: str) -> dict[str, dict[str, Any]]:
    """Return the values of each section of a file, defaults among them.

    Args:
        content: what the TOML holds.
        sections: the dataclass of each section; "" is the top of the file.
        file: what errors call the file.

    Raises:
        ConfigError: a key or a section that there is not, with the nearest name; a needed one that is missing; or a
            value that is not of its kind.
    """
    found: dict[str, dict[str, Any]] = {}
    for section, cls in sections.items():
        part = content if not section else content.get(section, {})
        if not isinstance(part, Mapping):
            raise ConfigError(f"{file}: {section} is {part!r:.60}: it must be a section, [{section}]")
        known = {row.key: row for row in _rows_of(section, cls)}
        others = set(sections) - {""} if not section else set()
        for name in part:
            if name not in known and name not in others:
                where = f" in [{section}]" if section else ""
                raise ConfigError(f"{file}: unknown key {name!r}{where}: {nearest(name, {*known, *others})}")
        found[section] = {name: _value(row, part, file) for name, row in known.items()}
    return found


def _value(row: Setting, part: Mapping[str, Any], file: str) -> Any:
    if row.key not in part:
        if row.needed:
            example = "" if row.example is None else f", such as {row.key} = {row.written(row.example)}"
            where = f" in [{row.section}]" if row.section else ""
            raise ConfigError(f"{file}: {row.name} is missing: set it{where}{example}")
        return row.default
    try:
        return row.read(part[row.key])
    except Wrong as wrong:
        raise ConfigError(f"{file}: {row.name} is {part[row.key]!r:.80}: it must be {wrong}") from wrong


def template(title: str, sections: Mapping[str, type], values: Mapping[str, Any], about: Mapping[str, str]) -> str:
    """Return a commented file: each key with its meaning, and as a comment where the default holds.

    Args:
        title: the first lines, without comment signs.
        sections: as for `parse`.
        values: what is set, by name with its section, as `ledger.addresses`.
        about: a sentence on each section, by its name.
    """
    lines = [f"# {line}".rstrip() for line in title.splitlines()]
    for section, cls in sections.items():
        lines += ["", *([f"# {about[section]}"] if section in about else []), *([f"[{section}]"] if section else [])]
        for row in _rows_of(section, cls):
            lines.append(f"# {row.meaning}{_limits(row)}.")
            if row.name in values:
                lines.append(f"{row.key} = {row.written(values[row.name])}")
            else:
                shown = row.default if row.example is None else row.example
                lines.append(f"# {row.key} = {row.written(shown)}")
    return "\n".join(lines) + "\n"


def _limits(row: Setting) -> str:
    return f": {', '.join(row.choices)}" if row.choices else ""


def page(sections: Mapping[str, type]) -> str:
    """Return the table of keys in Markdown: key, kind, default and meaning of each."""
    lines = ["| key | kind | default | meaning |", "|---|---|---|---|"]
    for row in rows(sections):
        default = "needed" if row.needed else f"`{row.written(row.default)}`"
        lines.append(f"| `{row.name}` | {KINDS[row.kind].title} | {default} | {row.meaning}{_limits(row)} |")
    return "\n".join(lines) + "\n"


def day(text: str, what: str) -> date:
    """Return a date of the form 2027-12-31; raises `ConfigError`, which says what the text is."""
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise ConfigError(f"{what} is {text!r:.40}: it must be a date, such as 2027-12-31") from error
