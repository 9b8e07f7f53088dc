"""What a procedure does, in numbers that a policy bounds and in words that a person decides by."""

from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import jax

from fedmeta.data.schema import Schema
from fedmeta.errors import UsageError
from fedmeta.node.errors import ConfigError
from fedmeta.runs.procedure import Procedure
from fedmeta.transforms import Transform

LARGEST = 1 << 24
"""Bytes that are read of a file with a procedure."""


@dataclass(frozen=True, slots=True)
class Described:
    """What a procedure does; sizes in bytes."""

    digest: bytes
    algorithm: str
    title: str
    """The algorithm's name in words."""
    model: str
    parameters: int
    """Numbers in phi: what is learned, and is sent to all."""
    message: int
    """Bytes of an update, without its weight."""
    rounds: int
    cohort: int
    most_examples: int | None
    transforms: tuple[str, ...]
    """The names of the transforms, in their order."""
    treatment: tuple[str, ...]
    """The transforms with their options, in words."""
    aggregator: str
    server: str
    predicts: str
    inputs: tuple[str, ...]
    """The columns that are read; empty where they have no names."""
    target: str
    _procedure: Procedure

    def steps(self, examples: int | None = None) -> int | None:
        """Return the gradient steps of one update; None where they depend on the examples and those are not known."""
        if self.most_examples is not None:
            examples = self.most_examples if examples is None else min(examples, self.most_examples)
        return _steps(self._procedure.algorithm, examples)


def describe(procedure: Procedure) -> Described:
    """Return what a procedure does; nothing is computed but shapes."""
    like = procedure.federation.phi_like
    body = procedure.transform.body_like(like)
    parts = getattr(procedure.transform, "parts", (procedure.transform,))
    treatment = [part for part in parts if part.name != "identity"]
    schema = procedure.inputs.schema
    held = None if schema is None else schema.role("target")
    classes = procedure.inputs.classes
    return Described(
        digest=bytes.fromhex(procedure.digest),
        algorithm=procedure.algorithm.name,
        title=procedure.algorithm.title,
        model=procedure.model,
        parameters=sum(prod(leaf.shape) for leaf in jax.tree.leaves(like)),
        message=sum(prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(body)),
        rounds=procedure.rounds,
        cohort=procedure.cohort_size,
        most_examples=procedure.max_examples,
        transforms=tuple(_names(treatment)),
        treatment=tuple(_said(part) for part in treatment),
        aggregator=procedure.aggregator.name,
        server=procedure.server.name,
        predicts="a number" if classes is None else f"one of {len(classes)} classes",
        inputs=() if schema is None else _columns(schema),
        target="" if held is None else held.name,
        _procedure=procedure,
    )


def _names(parts: list[Any]) -> list[str]:
    """Return the names of transforms and of those that they are made of; a chain is none of its own."""
    found = []
    for part in parts:
        values = [one for value in vars(part).values() for one in (value if isinstance(value, tuple) else (value,))]
        found += [] if part.name == "chain" else [part.name]
        found += _names([value for value in values if isinstance(value, Transform)])
    return found


def _said(part: Any) -> str:
    values = ", ".join(f"{name}={value}" for name, value in vars(part).items() if value is not None)
    return f"{part.name}({values})"


def _columns(schema: Schema) -> tuple[str, ...]:
    return tuple(entry.name for entry in schema.used)


def _steps(algorithm: Any, examples: int | None) -> int | None:
    if hasattr(algorithm, "of"):
        inner = _steps(algorithm.of, examples)
        return None if inner is None else algorithm.local_steps * (inner + 1)
    loop = algorithm.training_loop
    if loop.steps is None and loop.batch_size is not None and examples is None:
        return None
    return loop.most_steps(examples or 1)


def words(found: Described) -> list[str]:
    """Return in sentences what a member agrees to that approves this procedure."""
    steps = found.steps()
    work = f"{steps:,} gradient steps" if steps is not None else "gradient steps by the number of its examples"
    columns = (
        f"It reads the columns {', '.join(found.inputs)}" if found.inputs else "It reads what the model takes as inputs"
    )
    aim = f" and predicts {found.target}, {found.predicts}" if found.target else f" and predicts {found.predicts}"
    treated = (
        f"Before an update leaves it goes through {', then '.join(found.treatment)}"
        if found.treatment
        else ("An update leaves as it is: neither clipped nor rounded")
    )
    limit = (
        "all of this member's examples" if found.most_examples is None else f"at most {found.most_examples:,} examples"
    )
    return [
        f"{found.title} trains the network {found.model}, {found.parameters:,} numbers, over {found.rounds:,} rounds.",
        f"{columns}{aim}.",
        f"In a round each of up to {found.cohort} members takes {work} on {limit}.",
        f"{treated}: {found.message:,} bytes, sealed to the elected super nodes, which can read it.",
        f"They combine the updates by {found.aggregator} and step by {found.server}; all members get the result.",
        "No example leaves. What an update says of the examples behind it is bounded by the lines above only.",
    ]


def read_procedure(path: Path) -> Procedure:
    """Return the procedure whose bytes a file holds; raises `ConfigError`, which names the file."""
    try:
        if path.stat().st_size > LARGEST:
            raise ConfigError(f"{path} has {path.stat().st_size:,} bytes: a procedure has at most {LARGEST:,}")
        return Procedure.from_bytes(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror or error}") from error
    except UsageError as error:
        raise ConfigError(f"{path} is no procedure: {error}") from error
