"""What tuning tried, read back from its table: what each procedure spent, and where its grid was left."""

import csv
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from fedmeta.errors import CheckpointError
from fedmeta.study.grid import tuning
from fedmeta.study.grid.file import Study
from fedmeta.study.grid.tuning import Settings, Subject, Tried

TRIES = "tuning.csv"
"""All that was tried, beside `study.toml`, the file that had it tried."""


class Spent(NamedTuple):
    """What tuning spent on a procedure, and what it chose.

    Args:
        procedure: which.
        begun: how many candidates were trained at all.
        finished: how many were trained to the last round.
        flops: operations of training, of all candidates.
        budget: operations that it had.
        settings: that are best; none where all candidates diverged.
        at_edge: the settings in which the best stands at the edge of what was tried.
    """

    procedure: str
    begun: int
    finished: int
    flops: float
    budget: float
    settings: Settings
    at_edge: tuple[str, ...]


def spent(folder: Path) -> dict[str, list[Spent]]:
    """Return by data set what was spent on each procedure; nothing where the folder has no table of tries.

    Raises:
        CheckpointError: the table is damaged, or has other settings than the grids of the study in the folder.
        UsageError: the study in the folder says something wrong.
    """
    path, file = folder / TRIES, folder / "study.toml"
    if not (path.is_file() and file.is_file()):
        return {}
    study = Study.parse(file.read_text(), str(file), folder.name, untuned=True)
    try:
        rows = [_tried(row) for row in csv.DictReader(path.read_text().splitlines())]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise CheckpointError(f"{path} is damaged: {error!r}; it is what fedmeta study tune wrote") from error
    found: dict[str, list[Spent]] = {}
    for entry in study.entries:
        if entry.tuning is None:
            continue
        for subject in tuning.subjects(entry):
            tries = [one for where, one in rows if where == (entry.name, subject.trained)]
            if any(one.settings.keys() != subject.grid.keys() for one in tries):
                raise CheckpointError(
                    f"{path} has other settings of {entry.name}, {subject.trained} than the grid in {file}: it is of "
                    "another study"
                )
            if tries:
                found.setdefault(entry.name, []).extend(_of(subject, tries, 1e12 * entry.tuning.tflops))
    return found


def _of(subject: Subject, tries: Iterable[Tried], budget: float) -> Iterable[Spent]:
    begun: dict[str, Tried] = {}
    for one in tries:
        name = tuning.named(one.settings)
        if name not in begun or begun[name].rounds <= one.rounds:
            begun[name] = one
    last = max(one.rounds for one in begun.values())
    done = {name: one for name, one in begun.items() if one.rounds == last}
    lost = {name for name, one in begun.items() if not one.lives(list(subject.judged.values()))}
    best = tuning.best_of(subject, done)
    flops = sum(one.flops for one in begun.values())
    for procedure in subject.judged:
        settings: Settings = best[procedure].settings if procedure in best else {}
        edges: tuple[str, ...] = ()
        if settings:
            refused = {
                tuning.named(one) for one in tuning.neighbours(settings, subject.grid) if not subject.allows(one)
            }
            edges = tuning.edges(settings, subject.grid, {*done, *lost, *refused})
        yield Spent(procedure, len(begun), len(done), flops, budget, settings, edges)


def _tried(row: Mapping[str, str]) -> tuple[tuple[str, str], Tried]:
    scores = {name: float(row[name]) if row[name] else None for name in ("before", "after")}
    one = Tried(json.loads(row["settings"]), int(row["rounds"]), scores, None, float(row["flops"]))
    return (row["data"], row["procedure"]), one
