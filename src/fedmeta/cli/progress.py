"""Live progress: a bar on a terminal, a line now and then elsewhere."""

from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from fedmeta.events import Event, PlanMeasured, RoundEnded, RunEnded, RunStarted


class Display:
    """Shows the progress of one run or several; a context manager. `listener(title)` gives one run's listener."""

    def __init__(self, console: Console | None = None):
        self.console = console or Console(stderr=True)
        self.live = self.console.is_terminal
        self._bars = Progress(
            TextColumn("{task.description:<18}"),
            BarColumn(bar_width=12),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            console=self.console,
            disable=not self.live,
        )

    def __enter__(self) -> "Display":
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def listener(self, title: str) -> "Listener":
        """Return the listener of a run."""
        task = self._bars.add_task(title, total=None, figures="")
        return Listener(self, title, task)

    def update(self, task: TaskID, **fields: Any) -> None:
        """Move a bar."""
        self._bars.update(task, **fields)


class Listener:
    """Shows one run."""

    def __init__(self, display: Display, title: str, task: TaskID):
        self._display, self._title, self._task = display, title, task
        self._rounds, self._next, self._validation = 0, 0, ""

    def __call__(self, event: Event) -> None:
        """Show an event."""
        if isinstance(event, RunStarted):
            self._rounds, self._next = event.rounds, event.done
            self._display.update(self._task, total=event.rounds, completed=event.done)
            if event.done == event.rounds:
                self._say(f"all {event.rounds} rounds were done before")
            elif event.done:
                self._say(f"continues after round {event.done}")
        elif isinstance(event, PlanMeasured):
            self._display.update(self._task, figures=f"measured a plan: {1e3 * event.seconds:.1f} ms a round")
        elif isinstance(event, RoundEnded):
            measure = "accuracy" if "accuracy" in event.metrics else "loss"
            if event.validation:
                self._validation = f"  validation {event.validation[measure]:.3f}"
            figures = f"{measure} {event.metrics[measure]:.3f}{self._validation}"
            self._display.update(self._task, completed=event.round, figures=figures)
            if event.round >= self._next or event.round == self._rounds:
                self._next = event.round + max(1, self._rounds // 5)
                self._say(f"round {event.round:>5} of {self._rounds}  {figures}")

        elif isinstance(event, RunEnded) and event.stopped:
            self._display.update(self._task, total=event.rounds)
            self._say(f"stopped after round {event.rounds}: {event.stopped}")

    def _say(self, text: str) -> None:
        if not self._display.live:
            self._display.console.print(f"{self._title:<18} {text}", highlight=False, soft_wrap=True, markup=False)
