"""Early stopping: the best state so far by a validation figure, and when to stop."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp

from fedmeta.errors import UsageError
from fedmeta.federation import ServerState

Select = Literal["last", "best"]
SELECT = get_args(Select)

_LESS = ("loss", "error", "rmse", "mae")


class Best:
    """The best state by a validation figure; a run that selects its last state keeps none.

    Args:
        select: which state is the result, the best one or the last; None is the best one with `patience`, else the
            last.
        patience: looks without a better figure after which a run stops; None for never.
        monitor: the figure; by default accuracy, or the loss if there is no accuracy.

    Raises:
        UsageError: `select` is neither, or is the last state in spite of `patience`.
    """

    def __init__(self, select: str | None, patience: int | None, monitor: str | None):
        if select not in (None, *SELECT):
            raise UsageError(f"select must be {' or '.join(map(repr, SELECT))}, not {select!r}")
        if select == "last" and patience is not None:
            raise UsageError("select='last' has no meaning beside patience, which keeps the best state")
        self.keeps = select == "best" or patience is not None
        self.patience, self.monitor = patience, monitor
        self.state: ServerState | None = None
        self.round, self.value, self._without = 0, float("nan"), 0

    @property
    def stopped(self) -> str:
        """Why the run should stop, or "" if it should not."""
        if self.patience is None or self._without < self.patience:
            return ""
        return f"no better validation {self.monitor} than that of round {self.round} in {self.patience} looks"

    def seen(self, state: ServerState, validation: Mapping[str, float]) -> str:
        """Take note of a look at the validation clients; return `stopped`."""
        if not (self.keeps and validation):
            return ""
        if self._note(int(state.round), validation):
            # A copy: the state's memory is used again.
            self.state = jax.tree.map(jnp.copy, state)
        return self.stopped

    def restore(self, state: ServerState | None, rows: Sequence[Mapping[str, Any]]) -> None:
        """Continue from the rows of a run and its best state.

        Where the state of the best look was not kept, for patience was given later or is about another figure now,
        the looks so far do not count.
        """
        if not self.keeps:
            return
        prefix = "validation_"
        for row in rows:
            validation = {name.removeprefix(prefix): row[name] for name in row if name.startswith(prefix)}
            if validation:
                self._note(row["round"], validation)
        if self.round != (0 if state is None else int(state.round)):
            self.round, self.value, self._without, state = 0, float("nan"), 0, None
        self.state = state

    def _note(self, round: int, validation: Mapping[str, float]) -> bool:
        """Return whether a look is the best so far."""
        if self.monitor is None:
            self.monitor = "accuracy" if "accuracy" in validation else "loss"
        if self.monitor not in validation:
            raise UsageError(f"validate gives no {self.monitor!r} to stop by; it gives {', '.join(validation)}")
        value = float(validation[self.monitor])
        less = any(word in self.monitor for word in _LESS)
        if value != value or (self.value == self.value and (value >= self.value if less else value <= self.value)):
            self._without += 1
            return False
        self.round, self.value, self._without = round, value, 0
        return True


def figures_of(found: Any) -> dict[str, float]:
    """Return what a `validate` function gave as plain numbers.

    Raises:
        UsageError: it is not a mapping of names to single numbers.
    """
    if not isinstance(found, Mapping):
        raise UsageError(f"validate must return figures by name, such as {{'accuracy': 0.5}}, not {found!r:.80}")
    figures = {}
    for name, value in found.items():
        try:
            figures[str(name)] = float(value)
        except (TypeError, ValueError):
            raise UsageError(f"validate must return single numbers, and {name!r} is {value!r:.80}") from None
    return figures
