"""Runs a study: what is finished stays, what was made otherwise is refused, and the rest is computed on all cores."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from fedmeta._extras import need
from fedmeta._files import write_atomically
from fedmeta.errors import CheckpointError, RunError, RunLocked
from fedmeta.study.grid import workers
from fedmeta.study.grid.cells import Cell, changed, sources
from fedmeta.study.grid.file import Study
from fedmeta.study.grid.table import NAME, Table
from fedmeta.study.grid.work import Seconds, looks

SAID = 4
"""How many differences a refusal speaks of."""


@dataclass(eq=False)
class Progress:
    """How far a study is; a display reads it.

    Args:
        cells: how many there are.
        rounds: of all cells.
        before: cells that were finished before.
        processes: how many compute.
        done: cells that are finished, those of before among them.
        at: by cell that is being computed, its round.
        passed: rounds of finished cells, those of before among them.
        before_rounds: rounds of the cells that were finished before.
    """

    cells: int
    rounds: int
    before: int
    processes: int
    done: int = 0
    at: dict[str, int] = field(default_factory=dict)
    passed: int = 0
    before_rounds: int = 0

    @property
    def round(self) -> int:
        """Rounds that are done, of all cells."""
        return self.passed + sum(self.at.values())


@dataclass(frozen=True, eq=False)
class Outcome:
    """What came of a start of a study.

    Args:
        table: all that was measured.
        diverged: cells that diverged, now.
        failed: by cell that could not be computed, why.
        exploratory: comparisons that the file declares, too late.
    """

    table: Table
    diverged: tuple[Cell, ...]
    failed: dict[str, str]
    exploratory: tuple[str, ...]


def run(
    study: Study,
    folder: Path,
    processes: int | None = None,
    show: Callable[[Progress, Cell, dict[str, Any]], None] = lambda *_: None,
) -> Outcome:
    """Compute all cells that are not finished, and keep each as it finishes.

    Args:
        study: what the file declares.
        folder: of the study; an empty one, a new one, or one where this study was begun.
        processes: how many cells are computed at a time; as many as there are cores where it is not given.
        show: is told of each round, and of what comes of each cell.

    Raises:
        UsageError: an entry does not fit its data.
        DataError: data are absent or damaged.
        RunLocked: another process runs this study.
        CheckpointError: a finished cell was made by other settings, data or code; nothing is changed.
        RunError: the folder holds something else, or cannot be written; what is finished is kept.
    """
    need("pyarrow", "a study")
    with locked(folder, NAME):
        table = _table(study, folder)
        opened = list(sources(study))
        grid = [(place, cell) for place, source in enumerate(opened) for cell in source.cells(study.seeds)]
        # The processes read them for themselves.
        del opened
        finished = table.finished()
        _check_same(table, [cell for _, cell in grid], finished)
        exploratory = _declare(study, table, {key.data for key in finished})
        write_atomically(folder / "study.toml", study.text.encode())
        table.seeds = study.seeds
        table.write(folder)
        jobs = [workers.Job("run", place, cell) for place, cell in grid if cell.key not in finished]
        count = min(processes or workers.cores(), max(len(jobs), 1))
        before = [cell for _, cell in grid if cell.key in finished]
        rounds = sum(cell.rounds for cell in before)
        progress = Progress(len(grid), sum(cell.rounds for _, cell in grid), len(before), count)
        progress.done, progress.passed, progress.before_rounds = len(before), rounds, rounds
        diverged, failed = _compute(first_words(study, folder), jobs, count, table, folder, progress, show)
    return Outcome(table, tuple(diverged), failed, exploratory)


def estimate(study: Study, processes: int | None = None) -> Iterator[tuple[Cell, Seconds | str, float]]:
    """Yield each cell, the seconds of its parts, and its seconds in all, measured here on a cell that is like it.

    Cells come in the grid's order, each as soon as it and those before it are measured. A cell that cannot be measured,
    for it diverges at once, say, has the reason in place of its parts, and NaN.

    Args:
        study: what the file declares.
        processes: how many cells will be computed at a time; as many are measured at a time, for they slow each other.

    Raises:
        UsageError: an entry does not fit its data.
        DataError: data are absent or damaged.
    """
    opened = list(sources(study))
    grid = [(place, cell) for place, source in enumerate(opened) for cell in source.cells(study.seeds)]
    del opened
    kinds: dict[Any, workers.Job] = {}
    for place, cell in grid:
        kinds.setdefault(cell.key[:3], workers.Job("measure", place, cell))
    cells = deque(cell for _, cell in grid)
    found: dict[Any, Seconds | str] = {}
    with closing(workers.answers(first_words(study, Path()), [*kinds.values()], processes or workers.cores())) as said:
        for job, words in said:
            found[job.cell.key[:3]] = Seconds(*words["measured"]) if "measured" in words else words["failed"]
            while cells and cells[0].key[:3] in found:
                cell = cells.popleft()
                parts = found[cell.key[:3]]
                yield cell, parts, float("nan") if isinstance(parts, str) else parts.of(cell.rounds, looks(cell))


def _compute(
    first: dict[str, Any],
    jobs: Sequence[workers.Job],
    count: int,
    table: Table,
    folder: Path,
    progress: Progress,
    show: Callable[[Progress, Cell, dict[str, Any]], None],
) -> tuple[list[Cell], dict[str, str]]:
    diverged, failed = [], {}
    with closing(workers.answers(first, jobs, count)) as said:
        for job, words in said:
            cell = job.cell
            if "round" in words:
                progress.at[cell.digest] = words["round"]
            elif words.get("stop"):
                raise RunError(f"{cell.key}: {words['failed']}; the {progress.done} cells that are finished are kept")
            else:
                progress.at.pop(cell.digest, None)
                progress.passed += cell.rounds
                progress.done += 1
                if "failed" in words:
                    failed[str(cell.key)] = words["failed"]
                else:
                    table.add(cell, words["judged_by"], words["rows"])
                    table.write(folder)
                    diverged += [cell] * any(row["measure"] == "diverged" for row in words["rows"])
            show(progress, cell, words)
    return diverged, failed


@contextmanager
def locked(folder: Path, name: str) -> Iterator[None]:
    """Make the folder, where there is none, and keep other processes out.

    Args:
        folder: the folder.
        name: of the file by which one is known that is not new.

    Raises:
        RunLocked: another process has it.
        RunError: it holds something else, or cannot be used.
    """
    try:
        if folder.exists() and not (folder / name).is_file():
            others = [] if not folder.is_dir() else [entry.name for entry in folder.iterdir() if entry.name != ".lock"]
            if others or not folder.is_dir():
                raise RunError(f"{folder} holds something that is not a study; give an empty or a new folder")
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock")
        lock.acquire(timeout=0)
    except Timeout:
        raise RunLocked(f"{folder} is in use: another process runs the study there") from None
    except OSError as error:
        raise RunError(f"cannot use {folder} as the folder of a study: {error.strerror or error}") from error
    try:
        yield
    finally:
        lock.release()


def _table(study: Study, folder: Path) -> Table:
    if not (folder / NAME).is_file():
        return Table(study.name, {})
    table = Table.read(folder)
    if table.name != study.name:
        raise RunError(f"{folder} holds the study {table.name!r}, and this is {study.name!r}; give another folder")
    return table


def _check_same(table: Table, grid: Sequence[Cell], finished: Any) -> None:
    """Raise a CheckpointError where a finished cell is not what it would be now."""
    others = [cell for cell in grid if finished.get(cell.key, cell.digest) != cell.digest]
    if not others:
        return
    cell = others[0]
    found = changed(table.identities[finished[cell.key]], cell.identity)
    more = f", and {len(found) - SAID} more" if len(found) > SAID else ""
    raise CheckpointError(
        f"{len(others)} of {len(finished)} finished cells are not what they would be now. Of the cell {cell.key} these "
        f"have changed: {'; '.join(found[:SAID])}{more}. Give another folder, or go back to what was; all is kept"
    )


def _declare(study: Study, table: Table, begun: set[str]) -> tuple[str, ...]:
    """Keep what is declared; of data sets of which a cell is finished, what was declared before stands.

    Returns:
        Comparisons that are declared too late, in words.
    """
    kept, late = dict(table.declared), []
    for name, new in study.declared().items():
        if name not in begun:
            kept[name] = new
            continue
        old = kept[name]
        for what in ("targets", "compare_at", "smallest_effect"):
            if old[what] != new[what]:
                raise CheckpointError(
                    f"{what} of {name} was declared as {old[what]} and is {new[what]} now, after cells were finished: "
                    "what is declared stays; give another folder for another study"
                )
        old["procedures"] = list(dict.fromkeys([*new["procedures"], *old["procedures"]]))
        before = [frozenset(pair) for pair in old["comparisons"]]
        late += [f"{name}: {one} against {other}" for one, other in new["comparisons"] if {one, other} not in before]
    table.declared = kept
    return tuple(late)


def first_words(study: Study, folder: Path) -> dict[str, Any]:
    """Return what each process is told first."""
    where = str(folder.absolute())
    return {"text": study.text, "where": "the study", "stem": study.name, "tuned": study.tuned, "folder": where}
