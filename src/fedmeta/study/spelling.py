"""Values as a user writes them: `quantise:bits=4`, `clip_by_norm:norm=1+error_feedback(top_k:fraction=0.1)`."""

import re
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from fedmeta import aggregators, optimisers, transforms
from fedmeta.aggregators import AGGREGATORS, Aggregator
from fedmeta.data import partitioners
from fedmeta.errors import UsageError
from fedmeta.optimisers import OPTIMISERS
from fedmeta.runs.describing import described
from fedmeta.transforms import TRANSFORMS, Transform

_FORM = "NAME or NAME:OPTION=VALUE,..."
_COMPOSED = {"chain": "top_k+quantise:bits=8", "error_feedback": "error_feedback(top_k+quantise:bits=8)"}
_OPTIMISERS = ("inner", "local")
_PATTERNS = ("adaptable", "personal")
_WORDS = {"true": True, "false": False, "none": None}


def aggregator(text: str) -> Aggregator:
    """Return the aggregator that `trimmed_mean:fraction=0.2` says.

    Raises:
        UsageError: no such aggregator, no such option, or a value out of range.
    """
    return _made("--aggregator", text, AGGREGATORS, aggregators.make)


def transform(text: str) -> Transform:
    """Return the transform that `clip_by_norm:norm=1+quantise:bits=8` says, a chain of the parts between plus signs.

    `error_feedback(...)` stands around a transform or a chain of several.

    Raises:
        UsageError: no such transform, no such option, or a value out of range.
    """
    parts = [_part(part) for part in _split(text)]
    return parts[0] if len(parts) == 1 else transforms.chain(*parts)


def server(text: str) -> tuple[str, dict[str, Any]]:
    """Return the name of a server's optimiser and its settings, but for the learning rate, as `adam:b1=0.5` says.

    Raises:
        UsageError: no such form.
    """
    name, options = _read("--server", text)
    if "learning_rate" in options:
        raise UsageError("give the server's learning rate as --server-lr")
    return name, options


def partition(text: str) -> list[dict[str, Any]]:
    """Return the name and the fields of each step of `dirichlet:clients=50,alpha=0.3+concept_shift:share=0.2`.

    Raises:
        UsageError: no such partitioner, no such field, or a value out of range.
    """
    steps = [_read("--partition", part) for part in _split(text)]
    for name, options in steps:
        partitioners.make(name, **options)
    return [{"name": name, **options} for name, options in steps]


def data_option(text: str) -> tuple[str, Any]:
    """Return the name and the value that `candidates=40` says.

    Raises:
        UsageError: no such form.
    """
    name, equals, value = (piece.strip() for piece in text.partition("="))
    if not (name and equals and value):
        raise UsageError(f"--data-option takes NAME=VALUE, such as candidates=40, not {text!r}")
    return name, _value(value)


def option(text: str) -> tuple[str, Any]:
    """Return the name and the value that `mu=0.1` or `inner=adam:learning_rate=0.05,eps_root=1e-8` says.

    Raises:
        UsageError: no such form.
    """
    name, equals, value = (piece.strip() for piece in text.partition("="))
    if not (name and equals and value):
        raise UsageError(f"--algorithm-option takes NAME=VALUE, such as mu=0.1, not {text!r}")
    if name in _OPTIMISERS:
        return name, _made(f"--algorithm-option {name}", value, OPTIMISERS, optimisers.make)
    parts = [_value(part) for part in value.split(",")]
    return name, tuple(parts) if len(parts) > 1 or name in _PATTERNS else parts[0]


def spelled(value: Any) -> str:
    """Return a named value as the functions above read it; "unnamed" for one without a name."""
    content = described(value)
    return _spelled(content) if isinstance(content, Mapping) else str(content)


def _spelled(content: Mapping[str, Any]) -> str:
    if content["name"] == "chain":
        return "+".join(_spelled(part) for part in content["parts"])
    if content["name"] == "error_feedback":
        return f"error_feedback({_spelled(content['of'])})"
    options = ",".join(f"{name}={_text(part)}" for name, part in content.items() if name != "name")
    return content["name"] + (f":{options}" if options else "")


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _part(text: str) -> Transform:
    within = re.fullmatch(r"\s*error_feedback\s*\((.*)\)\s*", text)
    if within:
        return transforms.error_feedback(transform(within[1]))
    name = text.partition(":")[0].strip()
    if name in _COMPOSED:
        raise UsageError(f"--transform {name} is made of others, and is written as {_COMPOSED[name]}")
    return _made("--transform", text, TRANSFORMS, transforms.make)


def _split(text: str) -> list[str]:
    """Return the parts between plus signs, but for those in brackets and in numbers such as 1e+3."""
    parts, depth, first = [], 0, 0
    for place, sign in enumerate(text):
        depth += (sign == "(") - (sign == ")")
        if sign == "+" and depth == 0 and not re.match(r"\d", text[place + 1 :]):
            parts.append(text[first:place])
            first = place + 1
    if depth:
        raise UsageError(f"--transform has a bracket without its other half: {text!r}")
    return [*parts, text[first:]]


def _made(where: str, text: str, table: Mapping[str, Any], make: Callable[..., Any]) -> Any:
    name, options = _read(where, text)
    for field in fields(table[name]) if name in table else ():
        # A whole number may stand where any number may.
        if isinstance(field.default, float) and type(options.get(field.name)) is int:
            options[field.name] = float(options[field.name])
    return make(name, **options)


def _read(where: str, text: str) -> tuple[str, dict[str, Any]]:
    name, colon, rest = (piece.strip() for piece in text.partition(":"))
    options: dict[str, Any] = {}
    pairs = rest.split(",") if colon else []
    for pair in pairs:
        key, equals, value = (piece.strip() for piece in pair.partition("="))
        if not (key and equals and value):
            raise UsageError(f"{where} takes {_FORM}, such as trimmed_mean:fraction=0.2, not {text!r}")
        options[key] = _value(value)
    if not name:
        raise UsageError(f"{where} takes {_FORM}, not {text!r}")
    return name, options


def _value(text: str) -> Any:
    text = text.strip()
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
