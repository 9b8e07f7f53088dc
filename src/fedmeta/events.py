"""What training tells its listeners. A listener is any function of one event; it may return `STOP`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedmeta._extras import need


@dataclass(frozen=True)
class RunStarted:
    """A run starts or continues.

    Args:
        rounds: how many rounds the run has in all.
        done: how many of them were done before, from a checkpoint.
        clients: clients that can take part.
        left_out: clients too small to have both a support and a query example.
        parameters: how many numbers phi holds.
        directory: the run folder, if there is one.
    """

    rounds: int
    done: int
    clients: int
    left_out: int
    parameters: int
    directory: Path | None


@dataclass(frozen=True)
class PlanMeasured:
    """A plan for the run was tried, before its first round.

    Args:
        plan: the plan, in words.
        seconds: the median of a few rounds.
        first: seconds of compilation and of the first round.
    """

    plan: str
    seconds: float
    first: float


@dataclass(frozen=True)
class RoundEnded:
    """A round is done; its figures are a row of the history.

    Args:
        round: from 1.
        clients: the names of the cohort.
        metrics: the weighted means of the clients' training metrics.
        bytes_down: bytes sent to the clients in this round.
        bytes_up: bytes that they sent back.
        flops: floating-point operations of the round's program, padding included; None where they cannot be counted.
        seconds: wall time, compilation included.
        validation: what the `validate` function returned, if it was called.
    """

    round: int
    clients: tuple[str, ...]
    metrics: Mapping[str, float]
    bytes_down: int
    bytes_up: int
    flops: int | None
    seconds: float
    validation: Mapping[str, float] = field(default_factory=dict)

    def row(self) -> dict[str, Any]:
        """Return the round as one flat row."""
        validation = {f"validation_{name}": value for name, value in self.validation.items()}
        return {
            "round": self.round,
            **self.metrics,
            **validation,
            "bytes_down": self.bytes_down,
            "bytes_up": self.bytes_up,
            "flops": self.flops,
            "seconds": self.seconds,
            "clients": list(self.clients),
        }


@dataclass(frozen=True)
class RunEnded:
    """A run has ended.

    Args:
        rounds: how many rounds are done.
        stopped: why the run stopped early, or "" if all rounds are done.
    """

    rounds: int
    stopped: str = ""


Event = RunStarted | PlanMeasured | RoundEnded | RunEnded


class _Stop:
    def __repr__(self) -> str:
        return "fm.events.STOP"


STOP = _Stop()
"""What a listener returns after a round to end the run there."""

Listener = Callable[[Event], object]


class TensorBoard:
    """A listener that writes every round's figures where TensorBoard reads them; needs the extra `tensorboard`.

    Args:
        directory: the folder for the event files.

    Raises:
        MissingPackage: the extra is not installed.
    """

    def __init__(self, directory: str | Path):
        board = need("tensorboardX", "TensorBoard")
        self._open = lambda: board.SummaryWriter(str(directory))
        self._writer: Any = None

    def __call__(self, event: Event) -> None:
        """Write the figures of a round. The files are made when the first round is done."""
        if isinstance(event, RoundEnded):
            self._writer = self._writer or self._open()
            for name, value in event.row().items():
                if isinstance(value, int | float) and name != "round":
                    self._writer.add_scalar(name, value, event.round)
        elif isinstance(event, RunEnded):
            self.close()

    def close(self) -> None:
        """Write what has not been written yet."""
        if self._writer is not None:
            self._writer.close()
