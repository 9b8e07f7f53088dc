"""`fedmeta study`: a grid of experiments that a file declares, and its report."""

import contextlib
import math
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from fedmeta.errors import Interrupted, RunError


@click.group(short_help="Run a grid of experiments that a file declares, and report it.")
def study() -> None:
    """Run a grid of experiments that a file declares beforehand, and report what it shows.

    \b
    Examples:
      fedmeta study run studies/smoke.toml --dry-run
      fedmeta study run studies/smoke.toml --out runs/smoke
      fedmeta study report runs/smoke
      fedmeta study tune studies/heart.toml
    """


@study.command(short_help="Compute the cells of a study that are not finished.")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="The folder; by default runs/ and the file's name.")
@click.option("--processes", type=click.IntRange(min=1), help="Cells computed at a time; by default one a core.")
@click.option("--dry-run", is_flag=True, help="Print the cells and their hours, measured in a few rounds of each kind.")
def run(file: Path, out: Path | None, processes: int | None, dry_run: bool) -> None:
    """Compute the cells of a study that are not finished, and write its report.

    After an interruption, the same command continues. Cells that were made by other settings, data or code are refused;
    the message says what has changed.

    \b
    Examples:
      fedmeta study run studies/smoke.toml --dry-run
      fedmeta study run studies/smoke.toml --out runs/smoke
    """
    from fedmeta.study.grid.file import Study

    if dry_run:
        lacking = Study.lacks_tuned(file)
        declared = Study.read(file, tuning=bool(lacking))
        if lacking:
            click.echo(f"fedmeta: warning: there is no {lacking} yet: measured with the settings by default", err=True)
        try:
            with _heeding():
                _estimate(declared, processes)
        except KeyboardInterrupt:
            raise Interrupted("interrupted; what was printed was measured") from None
        return
    declared = Study.read(file)
    from fedmeta.study.grid.run import run as compute

    folder = Path("runs") / file.stem if out is None else out
    with _Display() as display, _heeding():
        try:
            outcome = compute(declared, folder, processes, display.show)
        except KeyboardInterrupt:
            raise Interrupted("interrupted; the same command continues where it stopped") from None
    for each in outcome.exploratory:
        click.echo(f"fedmeta: warning: {each} is declared after cells were finished: it is exploratory", err=True)
    for cell in outcome.diverged:
        click.echo(f"fedmeta: warning: {cell.key} diverged, and is recorded so", err=True)
    if outcome.table.rows is not None:
        _report(folder)
    if outcome.failed:
        name, why = next(iter(outcome.failed.items()))
        more = f" (and {len(outcome.failed) - 1} more)" if len(outcome.failed) > 1 else ""
        raise RunError(f"{name} could not be computed{more}: {why}; the same command tries again")


@study.command(short_help="Choose settings on validation clients, with the same operations for each algorithm.")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="The folder; by default runs/tune- and the file's name.")
@click.option("--processes", type=click.IntRange(min=1), help="Candidates trained at a time; by default one a core.")
def tune(file: Path, out: Path | None, processes: int | None) -> None:
    """Choose settings from the grids that a study declares, on validation clients, and write tuned.toml.

    Test clients are never looked at. All that was tried is in tuning.csv. After an interruption, the same command
    continues.

    \b
    Example:
      fedmeta study tune studies/heart.toml --out runs/tune-heart
    """
    from fedmeta.study.grid.file import Study
    from fedmeta.study.grid.tune import LOG, TUNED, said
    from fedmeta.study.grid.tune import tune as compute

    folder = Path("runs") / f"tune-{file.stem}" if out is None else out
    try:
        with _heeding():
            tuned = compute(Study.read(file, tuning=True), folder, processes, _show_try)
    except KeyboardInterrupt:
        raise Interrupted(f"interrupted; {folder / LOG} has what was tried, the same command continues") from None
    for line in said(tuned):
        click.echo(line)
    click.echo(f"Settings {folder / TUNED}")


@contextlib.contextmanager
def _heeding() -> Iterator[None]:
    """Let the signal with which a machine ends processes be what Ctrl-C is, so that checkpoints are kept."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _show_try(subject: Any, one: Any, words: dict[str, Any]) -> None:
    if "tried" in words:
        came, settings = words["tried"], ", ".join(f"{name} {value}" for name, value in one.settings.items())
        scores = "diverged" if came["after"] is None else f"{came['before']:.4g} before, {came['after']:.4g} after"
        click.echo(f"{subject.entry.name}, {subject.trained}: {settings}, {one.rounds} rounds: {scores}", err=True)


@study.command(short_help="Make the report of a study again, from its table alone.")
@click.argument("folder", type=click.Path(path_type=Path))
def report(folder: Path) -> None:
    """Make report.md and the pictures again, from study.parquet alone.

    A comparison that was not declared before the first cell of its data was finished is reported as exploratory.

    \b
    Example:
      fedmeta study report runs/smoke
    """
    _report(folder)


def _report(folder: Path) -> None:
    from fedmeta.study.grid.report import write
    from fedmeta.study.grid.table import NAME

    page, lacking = write(folder)
    if lacking:
        click.echo(f"fedmeta: warning: {lacking}", err=True)
    click.echo(f"Table  {folder / NAME}\nReport {page}")


def _estimate(declared: Any, processes: int | None) -> None:
    from fedmeta.study.formatting import duration
    from fedmeta.study.grid.run import estimate
    from fedmeta.study.grid.workers import cores

    count, total, unknown = processes or cores(), 0.0, 0
    click.echo(f"{'cell':<44} {'rounds':>6} {'a round':>9} {'in all':>14}")
    for cell, parts, seconds in estimate(declared, processes):
        if isinstance(parts, str):
            unknown += 1
            click.echo(f"{cell.key!s:<44} {cell.rounds:>6} not measured: {parts}")
            continue
        total += seconds
        click.echo(f"{cell.key!s:<44} {cell.rounds:>6} {duration(parts.round):>9} {duration(seconds):>14}")
    said = f", and {unknown} that could not be measured" if unknown else ""
    click.echo(f"{total / 3600:.3g} hours of one core{said}; {total / count / 3600:.3g} with {count} at a time.")


class _Display:
    """Progress over the whole grid, with the time that is left: a bar on a terminal, a line for each cell elsewhere."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        self._console = Console(stderr=True)
        self._live = self._console.is_terminal
        columns = [TextColumn("{task.description}"), BarColumn(bar_width=20), TextColumn("{task.fields[left]}")]
        self._bar = Progress(*columns, console=self._console, disable=not self._live)
        self._task: Any = None
        self._begun, self._first = time.monotonic(), 0

    def __enter__(self) -> "_Display":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def show(self, progress: Any, cell: Any, words: dict[str, Any]) -> None:
        """Show how far the study is."""
        if self._task is None:
            self._first = progress.before_rounds
            self._task = self._bar.add_task("", total=progress.rounds, left="")
        left = self._left(progress)
        said = f"{progress.done} of {progress.cells} cells, {progress.round:,} of {progress.rounds:,} rounds"
        self._bar.update(self._task, completed=progress.round, description=said, left=f"{left}  {cell.key}")
        if not self._live and "round" not in words:
            came = "failed" if "failed" in words else _came(words["rows"])
            self._console.print(f"{said}, {left}: {cell.key}: {came}", highlight=False, soft_wrap=True, markup=False)

    def _left(self, progress: Any) -> str:
        from fedmeta.study.formatting import duration

        passed = progress.round - self._first
        if passed < 1:
            return ""
        seconds = (time.monotonic() - self._begun) * (progress.rounds - progress.round) / passed
        return f"{duration(seconds)} left" if math.isfinite(seconds) else ""


def _came(rows: list[dict[str, Any]]) -> str:
    # Of several supports, and what stands beside a model, the model at the first support comes first.
    own = [row for row in rows if row["client"] is None and row["round"] is None and "procedure" not in row]
    found = {row["measure"]: row["value"] for row in reversed(own)}
    if "diverged" in found:
        return f"diverged in round {found['diverged']:.0f}"
    return f"{found['points_before']:.3f} before, {found['points_after']:.3f} after"
