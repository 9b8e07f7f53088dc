"""One process of a study: it is told of cells on its standard input, line by line, and answers on its standard output.

Lines are JSON. The first has the file of the study; each other one names a cell, and what to do with it.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from fedmeta.errors import FedmetaError, RunError, RunLocked
from fedmeta.events import Event, RoundEnded
from fedmeta.runs.folder import read_history
from fedmeta.study.grid import work
from fedmeta.study.grid.cells import Cell, Source
from fedmeta.study.grid.file import Study

QUIET = 0.2
"""Seconds between two words on how far a cell is."""

PATIENCE = 60.0
"""Seconds to wait for a run folder, which the worker of a study that was killed leaves after its round."""


class Desk:
    """Computes what it is asked for.

    Args:
        study: the study.
        folder: its folder.
        tell: is given each answer.
    """

    def __init__(self, study: Study, folder: Path, tell: Callable[[dict[str, Any]], object]):
        self.study, self.folder, self.tell = study, folder, tell
        self._source: Source | None = None
        self._cells: dict[str, Cell] = {}

    def answer(self, asked: Mapping[str, Any]) -> None:
        """Do what a line asks for, and say what came of it."""
        try:
            source = self._source_of(asked["entry"])
            if asked["do"] == "try":
                cell = source.candidate(asked["procedure"], asked["settings"])
                self._check(source, cell.digest == asked["cell"])
                attempt = partial(work.attempt, source, cell, asked["rounds"])
                self.say(tried=self._waiting(cell, attempt, self._begun(cell, asked["rounds"])))
                return
            self._check(source, asked["cell"] in self._cells)
            cell = self._cells[asked["cell"]]
            if asked["do"] == "measure":
                self.say(measured=list(work.measure(source, cell)))
            else:
                judged, rows = self._waiting(cell, partial(work.compute, source, cell), cell.folder)
                self.say(judged_by=judged, rows=rows)
        except FedmetaError as error:
            # What cannot be written here cannot be written for any other cell.
            self.say(failed=str(error), stop=type(error) is RunError)

    def say(self, **words: Any) -> None:
        """Answer."""
        self.tell(words)

    def _source_of(self, entry: int) -> Source:
        """Return the data of an entry, which are read where those of another one were in use."""
        wanted = self.study.entries[entry]
        if self._source is None or self._source.entry is not wanted:
            self._source = None
            source = Source(wanted)
            self._cells = {cell.digest: cell for cell in source.cells(self.study.seeds)}
            self._source = source
        return self._source

    def _check(self, source: Source, same: bool) -> None:
        if not same:
            raise RunError(f"the data or the code of {source.entry.name} have changed since the study was started")

    def _begun(self, cell: Cell, rounds: int) -> str:
        """Return the name of a candidate's run folder; another one where the first has more rounds than are asked for.

        That is so where tuning was begun with another floor.
        """
        history = read_history(self.folder / "cells" / cell.folder)
        return f"{cell.folder}-{rounds}" if history and history[-1]["round"] > rounds else cell.folder

    def _waiting(self, cell: Cell, compute: Callable[[Path, Callable[[Event], object]], Any], name: str) -> Any:
        """Compute in the run folder of that name, once it is free."""
        until, told = time.monotonic() + PATIENCE, 0.0

        def hear(event: Event) -> None:
            nonlocal told
            if isinstance(event, RoundEnded) and (
                time.monotonic() - told > QUIET or event.validation or event.round == cell.rounds
            ):
                told = time.monotonic()
                self.say(round=event.round, seconds=event.seconds)

        while True:
            try:
                return compute(self.folder / "cells" / name, hear)
            except RunLocked:
                if time.monotonic() > until:
                    raise
                time.sleep(0.2)


def main() -> None:
    """Answer until the standard input ends."""
    # What a library prints must not be taken for an answer.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def tell(words: dict[str, Any]) -> None:
        answers.write(json.dumps(words) + "\n")
        answers.flush()

    try:
        first = json.loads(sys.stdin.readline())
        study = Study.parse(first["text"], first["where"], first["stem"], first["tuned"], untuned=True)
        desk = Desk(study, Path(first["folder"]), tell)
        for line in sys.stdin:
            desk.answer(json.loads(line))
    except (KeyboardInterrupt, BrokenPipeError):
        # The study was stopped, or whoever started this process has ended.
        os._exit(1)


if __name__ == "__main__":
    main()
