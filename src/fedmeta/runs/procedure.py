"""A procedure: everything that is learned and how, without a path and without a machine."""

import hashlib
import inspect
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any

from fedmeta import models
from fedmeta._engine.plan import Precision, check_precision
from fedmeta._settings import a_number, whole_number
from fedmeta.aggregators import Aggregator, weighted_mean
from fedmeta.algorithms import Algorithm
from fedmeta.data.splits import check_support
from fedmeta.errors import UnknownName, UsageError
from fedmeta.federation import Federation
from fedmeta.model import Model
from fedmeta.optimisers import NamedOptimiser
from fedmeta.runs.describing import build, described
from fedmeta.runs.inputs import Inputs, tuples
from fedmeta.transforms import Transform, identity

_VALUES = ("algorithm", "server", "transform", "aggregator")
_COUNTS = ("rounds", "cohort_size", "max_examples")


@dataclass(frozen=True, kw_only=True, eq=False)
class Procedure:
    """What a federation learns, and how: whoever has it and the data can repeat a run.

    Two procedures are equal where their bytes are, and so are their digests, on every machine. Where the data lie, how
    often a run is looked at, and how a machine computes it belong elsewhere.

    Args:
        algorithm: what phi is, and what a client answers to it.
        server: the server's optimiser, one of `fm.optimisers`.
        transform: what a client sends in place of its pseudo-gradient.
        aggregator: how the clients' parts become one.
        model: the network's name.
        model_options: its options, each a whole number or several; those that are not given have their defaults.
        inputs: what the network takes and gives.
        rounds: how many rounds.
        cohort_size: clients in a round.
        support: the fraction of a client's examples that it adapts on, in (0, 1).
        seed: of every draw.
        max_examples: at most so many of a client's examples are drawn in a round; all where it is not given.
        precision: "float32", or "bfloat16" for the factors of matrix products.

    Raises:
        UsageError: a value is out of range, or has no name by which it can be written down.
    """

    algorithm: Algorithm
    server: Any
    transform: Transform = identity()  # noqa: RUF009 (a value)
    aggregator: Aggregator = weighted_mean()  # noqa: RUF009
    model: str
    model_options: Mapping[str, Any] = field(default_factory=dict)
    inputs: Inputs
    rounds: int
    cohort_size: int
    support: float = 0.2
    seed: int = 0
    max_examples: int | None = None
    precision: Precision = "float32"

    def __post_init__(self):
        for name in (*_COUNTS, "seed"):
            object.__setattr__(self, name, whole_number(name, getattr(self, name)))
        for name in _COUNTS:
            value = getattr(self, name)
            if value is None and name != "max_examples":
                raise UsageError(f"a procedure needs {name}")
            if value is not None and value < 1:
                raise UsageError(f"{name} must be at least 1, not {value}")
        object.__setattr__(self, "support", a_number("support", self.support))
        check_support(self.support)
        check_precision(self.precision)
        if self.model not in models.MODELS:
            raise UnknownName("model", self.model, models.MODELS)
        object.__setattr__(self, "model_options", _all_options(self.model, self.model_options))
        _ = self.to_bytes()
        if not isinstance(self.server, NamedOptimiser):
            raise UsageError(
                f"server must be one of fm.optimisers such as fm.optimisers.adam(1e-3), not {self.server!r:.80}"
            )
        # The other parts are checked where they come together.
        Federation(self.algorithm, models.mlp((1, 1)), self.server, self.transform, self.aggregator)
        self.algorithm.check_server(self.server)

    @cached_property
    def network(self) -> Model:
        """The model, made to fit the inputs.

        Raises:
            UsageError: the network has no such option, or does not fit.
        """
        return self.inputs.model(self.model, self.model_options)

    @cached_property
    def federation(self) -> Federation:
        """What a round computes."""
        return Federation(self.algorithm, self.network, self.server, self.transform, self.aggregator)

    def to_dict(self) -> dict[str, Any]:
        """Return what TOML and JSON can hold: numbers, texts, lists, and mappings of such; None is left out.

        Raises:
            UsageError: a part has no name.
        """
        content = {name: described(getattr(self, name), where=name) for name in _VALUES}
        content |= {
            entry.name: described(getattr(self, entry.name), where=entry.name)
            for entry in fields(self)
            if entry.name not in (*_VALUES, "inputs")
        }
        content["inputs"] = self.inputs.to_dict()
        return {name: value for name, value in content.items() if value is not None}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "Procedure":
        """Return the procedure that `to_dict` described.

        Raises:
            UsageError: a field is missing, unknown or out of range.
        """
        known = [entry.name for entry in fields(cls)]
        for name in content:
            if name not in known:
                raise UnknownName("part of a procedure", name, known)
        try:
            values = {name: build(content[name]) for name in _VALUES if name in content}
            inputs = {"inputs": Inputs.from_dict(content["inputs"])} if "inputs" in content else {}
            rest = {name: value for name, value in content.items() if name not in (*_VALUES, "inputs")}
            if "model_options" in rest:
                rest["model_options"] = tuples(rest["model_options"])
            return cls(**values, **inputs, **rest)
        except (TypeError, AttributeError) as error:
            raise UsageError(f"not a procedure: {str(error).splitlines()[0]}") from error

    def to_bytes(self) -> bytes:
        """Return the canonical bytes: JSON in ASCII, keys sorted, no white space, each float in its shortest form.

        Raises:
            UsageError: a part has no name, or a number is not finite.
        """
        try:
            text = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"), allow_nan=False)
        except ValueError as error:
            raise UsageError(f"a procedure cannot be written down: {error}") from error
        return text.encode("ascii")

    @classmethod
    def from_bytes(cls, content: bytes) -> "Procedure":
        """Return the procedure of these bytes.

        Raises:
            UsageError: they are not what `to_bytes` gives.
        """
        try:
            read = json.loads(content)
            if not isinstance(read, dict):
                raise UsageError(f"it holds {read!r:.40}")
            procedure = cls.from_dict(read)
        except ValueError as error:
            raise UsageError(f"not the bytes of a procedure: {error}") from error
        if procedure.to_bytes() != content:
            raise UsageError("not the bytes of a procedure: it can be read, and is written in another way")
        return procedure

    @cached_property
    def digest(self) -> str:
        """The SHA-256 of the canonical bytes, as 64 hexadecimal digits."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Procedure) and self.to_bytes() == other.to_bytes()

    def __hash__(self) -> int:
        return hash(self.digest)


def _all_options(model: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return all options of a network, the defaults among them, so that the same network is written in one way."""
    options = {
        name: entry.default for name, entry in list(inspect.signature(models.MODELS[model]).parameters.items())[1:]
    }
    for name, value in given.items():
        if name not in options:
            raise UnknownName(f"option of model {model}", name, options or ["(none)"])
        several = tuple(value) if isinstance(value, tuple | list) else (value,)
        numbers = tuple(whole_number(name, number) for number in several)
        if not numbers:
            raise UsageError(f"{name} must hold at least one number")
        options[name] = numbers[0] if len(numbers) == 1 else numbers
    return options
