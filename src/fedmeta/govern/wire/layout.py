"""How a kind of state record is declared, and its one byte form.

A record is a frozen dataclass under `record`, which names its kind, its key and the fields that can be searched by.
Its bytes are the canonical CBOR of the list of its kind and its fields' values, in the order of declaration. A field
is a str, an int, a bool, bytes, a tuple of such, a `part`, or one of these or None.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, is_dataclass, make_dataclass
from functools import cache
from itertools import compress
from operator import attrgetter
from typing import Any, TypeVar

from fedmeta.errors import UsageError
from fedmeta.govern.errors import Malformed, StateError
from fedmeta.govern.wire import codec
from fedmeta.govern.wire.hints import field_types, taken_apart

C = TypeVar("C", bound=type)
R = TypeVar("R")
P = TypeVar("P")

_SCALARS = (str, int, bool, bytes)
_Convert = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Layout:
    """How the records of one kind are laid out: their class, key, searchable fields and fields, and their form."""

    cls: type
    kind: str
    key: tuple[str, ...]
    key_types: tuple[type, ...]
    """Of each field of the key: str, int or bytes."""
    index: tuple[str, ...]
    names: tuple[str, ...]
    key_of: Callable[[Any], tuple]
    """The key of a record."""
    encode: Callable[[Any], bytes]
    """The canonical bytes of a record."""
    build: Callable[[list], Any]
    """The record of its decoded fields."""


LAYOUTS: dict[str, Layout] = {}
"""Every kind of record that is declared."""

_BY_CLASS: dict[type, Layout] = {}
_PARTS: dict[type, tuple[_Convert, _Convert]] = {}
_FIELDS: dict[type, tuple[type, dict[str, int], Callable[[Any], tuple]]] = {}
"""Of each record and part the twin, the place of each field by its name, and a function that gives all its values."""


def record(kind: str, *, key: tuple[str, ...], index: tuple[str, ...] = ()) -> Callable[[C], C]:
    """Declare a frozen dataclass as the records of `kind`, one for each value of the `key` fields (`()`: a singleton).

    `index` names the fields that `State.where` can search by. Raises `UsageError` for a declaration that cannot hold.
    """

    def declare(cls: C) -> C:
        hints = field_types(cls)
        names = tuple(hints)
        if kind in LAYOUTS:
            raise UsageError(f"two records of kind {kind!r}: {LAYOUTS[kind].cls.__name__} and {cls.__name__}")
        for name in (*key, *index):
            if name not in names:
                raise UsageError(f"record {kind!r} has no field {name!r}: its fields are {', '.join(names)}")
        for name in key:
            if hints[name] not in (str, int, bytes):
                raise UsageError(f"the key field {name!r} of record {kind!r} must be a str, an int or bytes")
        put, take = _fields_form(kind, cls, names, hints)
        shared = tuple(at for at, name in enumerate(names) if hints[name] is str and name in {*key, *index})

        def encode(value: Any) -> bytes:
            return codec.encode([kind, *put(value)])

        def build(values: list) -> Any:
            for at in shared:
                # The same few names fill the keys of many records: one object of each is enough.
                if type(values[at]) is str:
                    values[at] = sys.intern(values[at])
            return take(values)

        layout = Layout(
            cls, kind, key, tuple(hints[name] for name in key), index, names, _tuple_getter(key), encode, build
        )
        LAYOUTS[kind] = _BY_CLASS[cls] = layout
        _FIELDS[cls] = _twin(cls, names), {name: at for at, name in enumerate(names)}, _tuple_getter(names)
        return cls

    return declare


def part(cls: C) -> C:
    """Declare a frozen dataclass as a value inside records; its form is the list of its fields' values."""
    hints = field_types(cls)
    names = tuple(hints)
    put, take = _fields_form(cls.__name__, cls, names, hints)

    def enter(value: Any) -> list:
        if type(value) is not cls:
            raise Malformed(f"a {cls.__name__} is due, not a {type(value).__name__}")
        return list(put(value))

    def leave(value: Any) -> Any:
        if type(value) is not list or len(value) != len(names):
            raise Malformed(f"a {cls.__name__} is a list of {len(names)} values")
        return take(value)

    _PARTS[cls] = (enter, leave)
    _FIELDS[cls] = _twin(cls, names), {name: at for at, name in enumerate(names)}, _tuple_getter(names)
    return cls


def replace(value: R, /, **changes: Any) -> R:
    """Return a record or a part with other values in some fields, as `dataclasses.replace` does, but faster.

    Raises `TypeError` for a field that there is not.
    """
    cls = type(value)
    twin, places, values_of = _FIELDS[cls]
    values = list(values_of(value))
    for name, after in changes.items():
        if name not in places:
            raise TypeError(f"{cls.__name__} has no field {name!r}: its fields are {', '.join(places)}")
        values[places[name]] = after
    made = twin(*values)
    made.__class__ = cls
    return made


def _twin(cls: type, names: tuple[str, ...]) -> type:
    """Return a class of the same fields and the same layout that is not frozen: its instances are made much faster."""
    return make_dataclass(cls.__name__, names, slots="__slots__" in cls.__dict__)


def layout(cls: type) -> Layout:
    """Return how the records of a class are laid out; raises `StateError` for a class that is no record."""
    found = _BY_CLASS.get(cls)
    if found is None:
        raise StateError(f"{cls.__name__} is not declared as a record")
    return found


def key_of(value: Any) -> tuple:
    """Return the key of a record, a tuple."""
    return layout(type(value)).key_of(value)


def encode_record(value: Any) -> bytes:
    """Return the canonical bytes of a record; raises `Malformed` if a field is not of its declared type."""
    return layout(type(value)).encode(value)


def decode_record(data: bytes) -> Any:
    """Return the record whose canonical bytes are `data`; raises `Malformed` if there is none."""
    value = codec.decode(data, limit=max(len(data), 1))
    if type(value) is not list or not value or type(value[0]) is not str:
        raise Malformed("a record is a list that begins with its kind")
    found = LAYOUTS.get(value[0])
    if found is None:
        raise Malformed(f"no record is of kind {value[0]!r}")
    if len(value) != len(found.names) + 1:
        raise Malformed(f"a record of kind {found.kind!r} has {len(found.names)} fields, not {len(value) - 1}")
    del value[0]
    return found.build(value)


def encode_part(value: Any) -> bytes:
    """Return the canonical bytes of a part that stands alone; raises `Malformed` if a field is not of its type."""
    return codec.encode(_PARTS[type(value)][0](value))


def decode_part(cls: type[P], data: bytes, *, limit: int, items: int) -> P:
    """Return the part of a class whose canonical bytes are `data`; raises `Malformed` for anything else.

    There may be `limit` bytes at most, and so many items in all lists together.
    """
    return _PARTS[cls][1](codec.decode(data, limit=limit, items=items))


def plain(value: Any) -> Any:
    """Return a record, a part or an event as a map of its fields, and what it holds likewise; tuples become lists."""
    if type(value) in _SCALARS:
        return value
    if isinstance(value, (tuple, list)):
        return [plain(one) for one in value]
    if is_dataclass(value):
        return {name: plain(getattr(value, name)) for name in field_names(type(value))}
    return value


@cache
def field_names(cls: type) -> tuple[str, ...]:
    """Return the names of the fields of a dataclass, in their order."""
    return tuple(field.name for field in fields(cls))


def _fields_form(what: str, cls: type, names: tuple[str, ...], hints: dict[str, Any]) -> tuple[_Convert, _Convert]:
    """Return how the fields of a class are taken out for the codec, and how an instance is made of a list of them."""
    get = _tuple_getter(names)
    due = tuple(hints[name] for name in names)
    is_scalar = [hint in _SCALARS for hint in due]
    plain = all(is_scalar)
    scalars = tuple(compress(due, is_scalar))
    fields = [(at, name, _form(hints[name])) for at, name in enumerate(names)]
    others = [field for field, simple in zip(fields, is_scalar, strict=True) if not simple]

    def convert(values: Sequence[Any], side: int) -> list:
        result = list(values)
        # Most fields are scalars: it is enough to look at the types of all of them at once.
        right = tuple(map(type, compress(values, is_scalar))) == scalars
        for at, name, form in others if right else fields:
            try:
                result[at] = form[side](values[at])
            except Malformed as error:
                raise Malformed(f"{what}.{name}: {error}") from error
        return result

    def put(value: Any) -> Sequence[Any]:
        values = get(value)
        return values if plain and tuple(map(type, values)) == due else convert(values, 0)

    def take(values: list) -> Any:
        return cls(*(values if plain and tuple(map(type, values)) == due else convert(values, 1)))

    return put, take


def _tuple_getter(names: tuple[str, ...]) -> Callable[[Any], tuple]:
    if not names:
        return lambda value: ()
    get = attrgetter(*names)
    return get if len(names) > 1 else lambda value: (get(value),)


def _form(hint: Any) -> tuple[_Convert, _Convert]:
    """Return how a value of a type goes into the codec, and how it comes back."""
    if hint in _SCALARS:
        return _exact(hint), _exact(hint)
    if hint in _PARTS:
        return _PARTS[hint]
    layer, inner = taken_apart(hint)
    if layer == "optional":
        enter, leave = _form(inner[0])
        return (lambda value: None if value is None else enter(value)), (
            lambda value: None if value is None else leave(value)
        )
    if layer == "each":
        enter, leave = _form(inner[0])
        return _each(tuple, list, enter), _each(list, tuple, leave)
    if layer == "row" and inner:
        forms = [_form(one) for one in inner]
        return _zip(tuple, list, [form[0] for form in forms]), _zip(list, tuple, [form[1] for form in forms])
    raise UsageError(f"a record cannot hold a field of type {hint}")


def _exact(due: type) -> _Convert:
    def check(value: Any) -> Any:
        if type(value) is not due:
            raise Malformed(f"a value of type {due.__name__} is due, not {type(value).__name__}")
        return value

    return check


def _each(come: type, go: type, convert: _Convert) -> _Convert:
    check = _exact(come)
    return lambda values: go(map(convert, check(values)))


def _zip(come: type, go: type, converts: list[_Convert]) -> _Convert:
    check = _exact(come)

    def convert(values: Any) -> Any:
        if len(check(values)) != len(converts):
            raise Malformed(f"{len(converts)} values are due, not {len(values)}")
        return go(convert(value) for convert, value in zip(converts, values, strict=True))

    return convert
