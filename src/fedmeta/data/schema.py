"""A table's schema: what each column is, how its gaps are marked, its categories and its scale.

It is written as TOML in the words of the Table Schema standard (`fields`, `type`, `format`, `missingValues`,
`decimalChar`, `groupChar`, `trueValues`, `falseValues`, `categories`), with `kind`, `role` and what preparation has
learned beside them.
"""

import math
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

import tomli_w

from fedmeta._settings import a_number, not_one_text
from fedmeta.errors import DataError, UnknownName, UsageError

Kind = Literal["number", "category", "boolean", "date", "identifier", "text", "constant"]
"""What a column is. The last three are no features."""
Role = Literal["client", "target", "feature", "none"]
Task = Literal["classification", "regression"]
LEFT_OUT = ("identifier", "text", "constant")

_WORDS = {
    "missing": "missingValues",
    "decimal": "decimalChar",
    "group": "groupChar",
    "true": "trueValues",
    "false": "falseValues",
}
_NAMES = {word: name for name, word in _WORDS.items()}
_NUMBERS = ("mean", "std", "minimum", "maximum")


@dataclass(frozen=True, kw_only=True)
class Field:
    """What a column is.

    Args:
        name: of the column.
        kind: see `Kind`.
        role: what it is for.
        type: the standard's word for the values in the source.
        missing: texts that mark a gap; a blank cell always does.
        decimal: the sign before decimals.
        group: the sign between thousands.
        format: of a date.
        true: the word for true.
        false: the word for false.
        categories: the values that have a column of their own (of a category), or the classes (of a target); in order.
        other: whether values beside the categories share a column.
        gaps: whether a gap has a column of its own, beside the value that is put there.
        parts: of a date, beside its days: "season", "weekday", "time".
        mean: over the training clients, without gaps; the target's, too.
        std: likewise.
        minimum: the least value of a public reference range; what is below counts as it. No data are needed for it.
        maximum: the largest one, likewise.
    """

    name: str
    kind: Kind = "number"
    role: Role = "feature"
    type: str = "string"
    missing: tuple[str, ...] = ()
    decimal: str = "."
    group: str | None = None
    format: str | None = None
    true: str | None = None
    false: str | None = None
    categories: tuple[str, ...] | None = None
    other: bool = False
    gaps: bool = False
    parts: tuple[str, ...] = ()
    mean: float | None = None
    std: float | None = None
    minimum: float | None = None
    maximum: float | None = None

    def __post_init__(self):
        _check_words(vars(self))
        self._check_range()
        for word in ("missing", "categories", "parts"):
            not_one_text(_WORDS.get(word, word), getattr(self, word), "texts")
        if self.kind == "boolean" and self.type == "string" and not (self.true and self.false):
            raise UsageError(f"the column {self.name!r} is a boolean: give trueValues and falseValues")
        if self.kind == "date" and self.type == "string" and not self.format:
            raise UsageError(f"the column {self.name!r} is a date: give its format, such as %d.%m.%Y")
        if self.decimal not in (".", ",") or self.group == self.decimal:
            raise UsageError(
                f"the column {self.name!r} has decimalChar {self.decimal!r} and groupChar {self.group!r}; they are two "
                "signs, the first of which is . or ,"
            )

    def _check_range(self) -> None:
        if self.minimum is None and self.maximum is None:
            return
        said = f"the column {self.name!r} has minimum {self.minimum!r} and maximum {self.maximum!r}"
        if self.minimum is None or self.maximum is None or not math.isfinite(self.minimum + self.maximum):
            raise UsageError(f"{said}; give both, as finite numbers")
        if not self.minimum < self.maximum:
            raise UsageError(f"{said}; the minimum must be below the maximum")
        if self.kind != "number":
            raise UsageError(f"{said}, and only numbers have a range; it is a {self.kind}")
        # One form: 18 and 18.0 are written down alike.
        for name in ("minimum", "maximum"):
            object.__setattr__(self, name, float(getattr(self, name)))

    @property
    def features(self) -> tuple[str, ...]:
        """The names of the columns of x that come from this one."""
        if self.role != "feature" or self.kind in LEFT_OUT:
            return ()
        if self.kind == "category":
            names = [f"{self.name} = {value}" for value in self.categories or ()]
            names += [f"{self.name} = other"] * self.other
            return (*names, *([f"{self.name} is missing"] * self.gaps))
        names = [self.name]
        if self.kind == "date":
            names += [f"{self.name}: {part}" for part in self.parts_of_x]
        return (*names, *([f"{self.name} is missing"] * self.gaps))

    @property
    def parts_of_x(self) -> tuple[str, ...]:
        """The columns of x beside the days of a date."""
        every = {
            "season": ("season (sine)", "season (cosine)"),
            "weekday": ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),
            "time": ("time of day (sine)", "time of day (cosine)"),
        }
        return tuple(name for part in self.parts for name in every[part])

    def to_dict(self) -> dict[str, Any]:
        """Return what TOML can hold, in the standard's words; what is as usual is left out."""
        usual = {entry.name: entry.default for entry in fields(self)}
        content: dict[str, Any] = {}
        for name, value in vars(self).items():
            if name in ("name", "kind", "role") or value != usual[name]:
                if name in ("true", "false"):
                    value = [value]
                content[_WORDS.get(name, name)] = list(value) if isinstance(value, tuple) else value
        return content

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "Field":
        """Return what `to_dict` described.

        Raises:
            UsageError: a word is unknown, or a value out of range.
        """
        known = {_WORDS.get(entry.name, entry.name) for entry in fields(cls)}
        values: dict[str, Any] = {}
        for word, value in content.items():
            if word not in known:
                raise UnknownName("word of a schema", word, known)
            name = _NAMES.get(word, word)
            if name in ("true", "false") and isinstance(value, list):
                if len(value) != 1:
                    raise UsageError(f"{word} of the column {content.get('name')!r} holds one word, not {value}")
                value = value[0]
            if name in _NUMBERS and value is not None:
                # TOML has whole numbers, too.
                value = a_number(f"{word} of the column {content.get('name')!r}", value)
            values[name] = tuple(value) if isinstance(value, list) else value
        if "name" not in values:
            raise UsageError(f"a field of a schema has no name: {dict(content)}")
        _check_words(values)
        try:
            return cls(**values)
        except TypeError as error:
            raise UsageError(f"the field {values['name']!r} of a schema is wrong: {error}") from None


def _check_words(values: Mapping[str, Any]) -> None:
    for what, known in (("kind", get_args(Kind)), ("role", get_args(Role))):
        if values.get(what, known[0]) not in known:
            raise UnknownName(f"{what} of the column {values['name']!r}", values[what], known)


@dataclass(frozen=True)
class Schema:
    """What each column of a table is.

    Args:
        columns: by their order in the table.
        task: what the target is for; None if there is no target.
    """

    columns: tuple[Field, ...]
    task: Task | None = None

    def __post_init__(self):
        names = [entry.name for entry in self.columns]
        if twice := {name for name in names if names.count(name) > 1}:
            raise UsageError(f"the schema has two fields named {min(twice)!r}")
        for role in ("client", "target"):
            if sum(entry.role == role for entry in self.columns) > 1:
                raise UsageError(f"the schema has more than one {role} column")

    def __getitem__(self, name: str) -> Field:
        for entry in self.columns:
            if entry.name == name:
                return entry
        raise UnknownName("column of the schema", name, [entry.name for entry in self.columns])

    def role(self, role: Role) -> Field | None:
        """Return the column with that role, if there is one."""
        return next((entry for entry in self.columns if entry.role == role), None)

    @property
    def used(self) -> tuple[Field, ...]:
        """The columns that are features."""
        return tuple(entry for entry in self.columns if entry.features)

    @property
    def features(self) -> tuple[str, ...]:
        """The names of the columns of x."""
        return tuple(name for entry in self.columns for name in entry.features)

    @property
    def identifiers(self) -> tuple[str, ...]:
        """The names of the columns that say which row it is, and whose."""
        return tuple(
            entry.name
            for entry in self.columns
            if entry.role == "client" or (entry.kind == "identifier" and entry.role != "target")
        )

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The names of the classes; None for regression."""
        target = self.role("target")
        return target.categories if target is not None and self.task == "classification" else None

    def changed(self, name: str, **values: Any) -> "Schema":
        """Return the schema with a column changed."""
        self[name]
        return replace(
            self, columns=tuple(replace(entry, **values) if entry.name == name else entry for entry in self.columns)
        )

    def to_dict(self) -> dict[str, Any]:
        """Return what TOML and JSON can hold."""
        task = {} if self.task is None else {"task": self.task}
        return {**task, "fields": [entry.to_dict() for entry in self.columns]}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "Schema":
        """Return what `to_dict` described.

        Raises:
            UsageError: a word is unknown, or a value out of range.
        """
        for word in content:
            if word not in ("task", "fields"):
                raise UnknownName("word of a schema", word, ("task", "fields"))
        task = content.get("task")
        if task is not None and task not in get_args(Task):
            raise UnknownName("task", task, get_args(Task))
        listed = content.get("fields", ())
        if not isinstance(listed, list | tuple) or not all(isinstance(entry, Mapping) for entry in listed):
            raise UsageError("a schema holds [[fields]], one for each column")
        return cls(tuple(Field.from_dict(entry) for entry in listed), task)

    def to_toml(self) -> str:
        """Return the schema as TOML."""
        return tomli_w.dumps(self.to_dict())

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> "Schema":
        """Return the schema in a TOML file.

        Raises:
            DataError: it is missing or no TOML.
            UsageError: a word is unknown, or a value out of range.
        """
        try:
            content = tomllib.loads(Path(path).read_text("utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise DataError(f"the schema {path} cannot be read: {error}") from error
        return cls.from_dict(content)
