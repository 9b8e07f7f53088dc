"""The plan: in which of the equivalent ways the engine computes a cohort."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

import jax
import numpy as np

from fedmeta._engine import sharding
from fedmeta._engine.rewrite.convolution import Form
from fedmeta._settings import said, whole_number
from fedmeta.errors import UnknownName, UsageError

Precision = Literal["float32", "bfloat16"]

SMALL = 10**8
"""With fewer floating-point operations a client's update costs less than starting it: many are computed at once."""

LARGEST = 8
"""The most devices of a default plan: each holds a copy of the server's state, and a sum."""


_FORMER = {
    "streams": "devices",
    "factored": "low_rank",
    "checkpoint": "remat",
    "library": "xla",
    "patches": "im2col",
}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How a cohort is computed. Every plan gives the same result, except for the order of floating-point sums.

    Args:
        chunk: clients computed side by side, as one batch; the chunks follow one another.
        devices: devices of each process that share the cohort.
        rewrite: compute a client's traced update by faster operations, with the same result. Without it the plain
            program runs, and the next two fields have no effect.
        low_rank: leave low-rank products, such as a dense layer's gradient on few examples, in their factors.
        convolution: "xla" for the platform's own convolution, "im2col" for patches times a matrix.
        remat: compute activations again where they are needed, instead of keeping them: less memory.

    Raises:
        UsageError: a value is out of range; the message names it.
    """

    chunk: int = 1
    devices: int = 1
    rewrite: bool = True
    low_rank: bool = True
    convolution: Form = "xla"
    remat: bool = False

    def __post_init__(self):
        for name in ("chunk", "devices"):
            value = getattr(self, name)
            count = whole_number(f"a plan's {name}", value)
            if count < 1:
                raise UsageError(f"a plan's {name} must be a whole number from 1, not {value!r}")
            object.__setattr__(self, name, count)
        for name in ("rewrite", "low_rank", "remat"):
            if not isinstance(getattr(self, name), bool):
                raise UsageError(f"a plan's {name} must be true or false, not {getattr(self, name)!r}")
        if self.convolution not in get_args(Form):
            raise UsageError(f"a plan's convolution must be 'xla' or 'im2col', not {self.convolution!r}")

    def to_dict(self) -> dict[str, Any]:
        """Return the fields by name."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "Plan":
        """Return the plan that `to_dict` described.

        Raises:
            UsageError: no such field, or a value out of range.
        """
        known = [field.name for field in fields(cls)]
        described = {}
        for name, value in content.items():
            # Runs of earlier versions use other names.
            name = _FORMER.get(name, name)
            if name not in known:
                raise UnknownName("part of a plan", name, known)
            described[name] = _FORMER.get(value, value) if isinstance(value, str) else value
        return cls(**described)

    @classmethod
    def shared(cls, plan: "Plan") -> "Plan":
        """Return process 0's plan in every process."""
        forms = get_args(Form)
        own = [plan.chunk, plan.devices, plan.rewrite, plan.low_rank, forms.index(plan.convolution), plan.remat]
        chunk, count, rewrite, low_rank, form, remat = sharding.broadcast(np.array(own, np.int32)).tolist()
        return cls(
            chunk=chunk,
            devices=count,
            rewrite=bool(rewrite),
            low_rank=bool(low_rank),
            convolution=forms[form],
            remat=bool(remat),
        )

    @classmethod
    def parse(cls, text: str) -> "Plan":
        """Return the plan of a text such as `chunk=4,convolution=im2col`; other fields have their defaults.

        Raises:
            UsageError: no such field, or a value out of range.
        """
        content: dict[str, Any] = {}
        for part in text.split(","):
            name, equals, value = (piece.strip() for piece in part.partition("="))
            if not equals or not value:
                raise UsageError(f"a plan is given as NAME=VALUE,..., such as chunk=4,convolution=im2col, not {text!r}")
            words = {"true": True, "yes": True, "false": False, "no": False}
            content[name] = int(value) if value.isdecimal() else words.get(value.lower(), value)
        return cls.from_dict(content)

    def __str__(self) -> str:
        side = "one client after another" if self.chunk == 1 else f"{self.chunk} clients side by side"
        parts = [side]
        if self.rewrite:
            parts.append(f"convolution by {self.convolution}")
            parts.append("low-rank products in their factors" if self.low_rank else "all products formed")
        else:
            parts.append("the program as JAX gives it")
        if self.devices > 1:
            parts.append(f"{self.devices} devices")
        if self.remat:
            parts.append("activations computed again")
        return ", ".join(parts)


def default_plan(cohort_size: int, flops: int | None) -> Plan:
    """Return the plan that fits most models on this kind of device, for use where no plan was measured.

    Args:
        cohort_size: clients in a round.
        flops: floating-point operations of one client's update; None where they cannot be counted.
    """
    if jax.default_backend() != "cpu":
        # Where nobody has measured a gain, the program stays as it is.
        return Plan(chunk=cohort_size, devices=most_devices(cohort_size), rewrite=False)
    # A processor's cache holds many clients of a small model, but one client of a large model, which keeps a core busy.
    if flops is None or flops < SMALL:
        return Plan(chunk=min(cohort_size, 64))
    return Plan(devices=most_devices(cohort_size))


def most_devices(cohort_size: int) -> int:
    """Return over how many of this process's devices to spread a cohort: no more than reduce the work of each."""
    each = -(-cohort_size // min(jax.local_device_count(), LARGEST, cohort_size))
    return -(-cohort_size // each)


def check_plan(plan: Any) -> None:
    """Raise a UsageError unless it is a plan, or None."""
    if plan is not None and not isinstance(plan, Plan):
        raise UsageError(f"plan must be such as fm.Plan(chunk=4), not {said(plan)}")


def check_precision(precision: str) -> None:
    """Raise a UsageError unless the precision is a known one."""
    if precision not in get_args(Precision):
        raise UsageError(f"precision must be 'float32' or 'bfloat16', not {precision!r}")
