"""What a field of a transaction may hold: each check has a name, a range, and a refusal."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from fedmeta.govern.errors import Refused
from fedmeta.govern.wire.hints import field_types, taken_apart

MAX_AMOUNT = 10**15
"""The largest amount, in units, and the largest supply."""

MAX_COUNT = 2**53 - 1
"""The largest height, number or count: what every language holds exactly."""

_STEERING = re.compile(
    "[\x00-\x1f\x7f-\x9f\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb]"
)
"""Controls, marks of direction, surrogates: fixed here, since what can be printed depends on the Unicode version."""

NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class Check:
    """A named rule for one value: `test` says whether the value keeps it, `rule` says it in words."""

    rule: str
    test: Callable[[Any], bool]
    code: str = "bad-value"


def _integer(low: int, high: int) -> Callable[[Any], bool]:
    return lambda value: type(value) is int and low <= value <= high


def _octets(low: int, high: int) -> Callable[[Any], bool]:
    return lambda value: type(value) is bytes and low <= len(value) <= high


def _text(high: int) -> Callable[[Any], bool]:
    return lambda value: type(value) is str and _size(value) <= high and not _STEERING.search(value)


def _size(text: str) -> int:
    return len(text.encode(errors="surrogatepass"))


def is_name(value: object) -> bool:
    """Return whether a value may name a member or an organisation."""
    return type(value) is str and NAME.fullmatch(value) is not None


Name = Annotated[str, Check("1 to 32 of a-z, 0-9 and -, with a letter or digit at both ends", is_name)]
Amount = Annotated[int, Check(f"a whole number of units from 1 to {MAX_AMOUNT}", _integer(1, MAX_AMOUNT), "bad-amount")]
Count = Annotated[int, Check(f"a whole number from 0 to {MAX_COUNT}", _integer(0, MAX_COUNT))]
Share = Annotated[int, Check("parts per million, from 0 to 1000000", _integer(0, 1_000_000))]
Hash = Annotated[bytes, Check("32 bytes", _octets(32, 32))]
PublicKey = Annotated[bytes, Check("the 32 bytes of an Ed25519 public key", _octets(32, 32))]
SignatureBytes = Annotated[bytes, Check("the 64 bytes of an Ed25519 signature", _octets(64, 64))]
Fingerprint = Annotated[
    bytes, Check("the 32 bytes of a SHA-256 digest, or nothing", lambda v: v == b"" or _octets(32, 32)(v))
]
Text = Annotated[str, Check("at most 200 bytes of text without control characters", _text(200))]
Proof = Annotated[
    bytes, Check("the 64 bytes of an Ed25519 signature, or nothing", lambda v: v == b"" or _octets(64, 64)(v))
]
Choice = Annotated[str, Check("yes, no, abstain or veto", lambda v: v in ("yes", "no", "abstain", "veto"))]


def checker(cls: type) -> Callable[[dict[str, Any]], Any]:
    """Return a function that makes a `cls` of a map of its fields, or raises `Refused`.

    The fields must be exactly those of the class. Lists become tuples; all in a list keep the rule of its type.
    """
    hints = field_types(cls, rules=True)
    names = list(hints)
    converters = [(name, _converter(name, hint)) for name, hint in hints.items()]
    wanted = frozenset(names)

    def check(values: dict[str, Any]) -> Any:
        if values.keys() != wanted:
            unknown, missing = sorted(values.keys() - wanted), sorted(wanted - values.keys())
            problem = f"unknown field {unknown[0]!r:.80}" if unknown else f"field {missing[0]!r} is missing"
            raise Refused("malformed", f"{problem}: the fields are {', '.join(names) or 'none'}")
        return cls(*[convert(values[name]) for name, convert in converters])

    return check


def _converter(name: str, hint: Any) -> Callable[[Any], Any]:
    layer, inner = taken_apart(hint)
    if layer == "rule":
        base, check, *_ = inner
        if isinstance(check, Check):
            return _checked(name, check)
        return _converter(name, base)
    if layer == "each":
        each = _converter(f"each of {name}", inner[0])
        return lambda value: tuple(map(each, _sequence(name, value)))
    if layer == "row":
        parts = [_converter(name, one) for one in inner]
        return lambda value: tuple(
            convert(one) for convert, one in zip(parts, _sequence(name, value, len(parts)), strict=True)
        )
    if hint is bool:
        return _checked(name, Check("true or false", lambda value: type(value) is bool))
    if hint == dict[str, Any]:
        return _checked(name, Check("a map", lambda value: type(value) is dict))
    raise TypeError(f"field {name!r} has no rule: {hint!r}")


def _checked(name: str, check: Check) -> Callable[[Any], Any]:
    test, rule, code = check.test, check.rule, check.code

    def convert(value: Any) -> Any:
        if not test(value):
            shown = value.hex() if isinstance(value, bytes) else repr(value)
            raise Refused(code, f"{name} is {shown[:80]}: it must be {rule}")
        return value

    return convert


def _sequence(name: str, value: Any, length: int | None = None) -> list[Any]:
    if type(value) is not list or (length is not None and len(value) != length):
        raise Refused("bad-value", f"{name} must be a list{'' if length is None else f' of {length}'}")
    return value
