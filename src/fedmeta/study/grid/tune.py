"""Tunes the procedures of a study on validation clients, on all cores, and writes down what was tried and chosen."""

import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w

from fedmeta._files import write_atomically
from fedmeta.errors import RunError, UsageError
from fedmeta.study.grid import tuning, workers
from fedmeta.study.grid.cells import Cell, Source, sources
from fedmeta.study.grid.file import Study
from fedmeta.study.grid.run import first_words, locked
from fedmeta.study.grid.tries import TRIES
from fedmeta.study.grid.tuning import Chosen, Subject, Tried, Try

LOG, TUNED = "tries.jsonl", "tuned.toml"
"""All that came of tries, by digest; and what was chosen."""

Show = Callable[[Subject, Try, dict[str, Any]], None]


@dataclass(frozen=True, eq=False)
class Tuned:
    """What came of tuning.

    Args:
        chosen: by data set and procedure.
        lost: data sets and procedures of which every candidate diverged.
    """

    chosen: dict[tuple[str, str], Chosen]
    lost: tuple[tuple[str, str], ...]


def tune(study: Study, folder: Path, processes: int | None = None, show: Show = lambda *_: None) -> Tuned:
    """Choose the settings of every procedure that has a grid, and write `tuned.toml` and `tuning.csv`.

    What was tried before with the same settings, data and code is not tried again.

    Args:
        study: what the file declares.
        folder: where runs and results go.
        processes: how many candidates are trained at a time; as many as there are cores where it is not given.
        show: is told of each round and result.

    Raises:
        UsageError: the study tunes nothing, or an entry does not fit its data.
        DataError: data are absent or damaged.
        RunError: a candidate could not be trained, or the folder cannot be used.
    """
    with ExitStack() as stack:
        stack.enter_context(locked(folder, LOG))
        log = _Log(folder / LOG)
        going = _begin(study)
        team = stack.enter_context(workers.Team(first_words(study, folder), processes or workers.cores()))
        found: dict[tuple[str, str], Chosen] = {}
        lost: list[tuple[str, str]] = []
        rows: list[dict[str, Any]] = []
        waiting = [(one, next(one.plan)) for one in going]
        while waiting:
            _compute(team, waiting, log, show)
            waiting, before = [], waiting
            for one, tries in before:
                results = [log.read(one, each) for each in tries]
                rows += [_row(one.subject, each) for each in results]
                try:
                    waiting.append((one, one.plan.send(results)))
                except StopIteration as ended:
                    name = one.subject.entry.name
                    found |= {(name, procedure): chosen for procedure, chosen in ended.value.items()}
                    lost += [(name, procedure) for procedure in one.subject.judged if procedure not in ended.value]
        _write(study, folder, found, rows)
    return Tuned(found, tuple(lost))


@dataclass(frozen=True, eq=False)
class _Going:
    """A subject that is being tuned: its place in the study, its data, and its plan."""

    place: int
    source: Source
    subject: Subject
    plan: Any

    def cell(self, one: Try) -> Cell:
        return self.source.candidate(self.subject.trained, one.settings)


class _Log:
    """What came of tries, a line of JSON each, which is added as soon as it is known."""

    def __init__(self, path: Path):
        self.path = path
        self._known: dict[tuple[str, int], dict[str, Any]] = {}
        self._append("")
        text = path.read_text(errors="replace")
        for line in text.splitlines():
            try:
                kept = json.loads(line)
                self._known[kept["cell"], kept["rounds"]] = kept
            except (ValueError, TypeError, KeyError):
                # A line that was being written when the process ended.
                continue
        if text and not text.endswith("\n"):
            self._append("\n")

    def has(self, digest: str, rounds: int) -> bool:
        return (digest, rounds) in self._known

    def add(self, digest: str, one: Try, came: dict[str, Any]) -> None:
        kept = {"cell": digest, "rounds": one.rounds, "settings": dict(one.settings), **came}
        self._known[digest, one.rounds] = kept
        self._append(json.dumps(kept) + "\n")

    def _append(self, text: str) -> None:
        try:
            with self.path.open("a") as file:
                file.write(text)
        except OSError as error:
            raise RunError(f"cannot write {self.path}: {error.strerror or error}; what is there is kept") from error

    def read(self, going: _Going, one: Try) -> Tried:
        kept = self._known[going.cell(one).digest, one.rounds]
        scores = {name: kept[name] for name in ("before", "after")}
        return Tried(one.settings, one.rounds, scores, kept["dose"], float(kept["flops"]))


def _begin(study: Study) -> list[_Going]:
    found = []
    for place, source in enumerate(sources(study)):
        entry = source.entry
        if entry.tuning is None:
            continue
        for subject in tuning.subjects(entry):
            found.append(_Going(place, source, subject, tuning.tune(subject, 1e12 * entry.tuning.tflops)))
    if not found:
        raise UsageError(
            "the study tunes nothing: give tuning = { tflops = NUMBER } to a data set, and grid = { inner_lr = [...] } "
            "to a procedure"
        )
    return found


def _compute(team: workers.Team, waiting: Sequence[tuple[_Going, list[Try]]], log: _Log, show: Show) -> None:
    """Compute all tries that are not in the log."""
    jobs, of = [], {}
    for one, tries in waiting:
        for each in tries:
            cell = one.cell(each)
            if not log.has(cell.digest, each.rounds) and (cell.digest, each.rounds) not in of:
                jobs.append(workers.Job("try", one.place, cell, each.settings, each.rounds))
                of[cell.digest, each.rounds] = (one.subject, each)
    for job, words in team.ask(jobs):
        subject, each = of[job.cell.digest, job.rounds]
        if "failed" in words:
            raise RunError(f"{job.cell.key}, {dict(each.settings)}: {words['failed']}; the same command goes on")
        if "tried" in words:
            _check_counted(job.cell, words["tried"])
            log.add(job.cell.digest, each, words["tried"])
        show(subject, each, words)


def _check_counted(cell: Cell, came: dict[str, Any]) -> None:
    if came["after"] is not None and not came["flops"]:
        raise RunError(
            f"{cell.key.data}, {cell.key.procedure}: its floating-point operations cannot be counted, so it cannot be "
            "tuned with as many as others; leave its grid out"
        )


def _row(subject: Subject, tried: Tried) -> dict[str, Any]:
    dose = tried.dose or {}
    return {
        "data": subject.entry.name,
        "procedure": subject.trained,
        "settings": json.dumps(dict(tried.settings)),
        "rounds": tried.rounds,
        "before": tried.scores["before"],
        "after": tried.scores["after"],
        **{f"dose_{name}": dose.get(name) for name in ("rate", "steps", "part")},
        "flops": f"{tried.flops:.4g}",
    }


def _write(study: Study, folder: Path, found: dict[tuple[str, str], Chosen], rows: Sequence[dict[str, Any]]) -> None:
    content: dict[str, dict[str, Any]] = {}
    for entry in study.entries:
        for procedure, spec in entry.procedures.items():
            if (entry.name, procedure) in found:
                tables = content.setdefault(entry.name, {})
                tables[procedure] = tuning.tuned(spec, found[entry.name, procedure])
    write_atomically(folder / TUNED, tomli_w.dumps(content).encode())
    buffer = io.StringIO()
    if rows:
        table = csv.DictWriter(buffer, list(rows[0]), lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
    write_atomically(folder / TRIES, buffer.getvalue().encode())


def said(tuned: Tuned) -> Iterator[str]:
    """Yield what was chosen, a line for each procedure of each data set."""
    for (data, procedure), chosen in tuned.chosen.items():
        settings = ", ".join(f"{name} {value}" for name, value in chosen.best.settings.items())
        edge = f"; at the edge in {', '.join(chosen.at_edge)}" if chosen.at_edge else ""
        yield f"{data}, {procedure}: {settings}{edge}"
    for data, procedure in tuned.lost:
        yield f"{data}, {procedure}: every candidate diverged"
