"""A run that is done, read back from its folder: phi and the procedure; the training data are not needed."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import jax

from fedmeta import pytrees, random
from fedmeta.algorithms import Algorithm
from fedmeta.errors import CheckpointError, UsageError
from fedmeta.model import Model
from fedmeta.runs import saying
from fedmeta.runs.folder import read_history, read_settings
from fedmeta.runs.former import upgraded
from fedmeta.runs.procedure import Procedure


@dataclass(frozen=True, eq=False, repr=False)
class SavedRun:
    """What a run gave.

    Args:
        procedure: what was learned, and how.
        phi: the result, arrays of NumPy.
        data_sha256: the digest of the training clients' data.
        folder: the run folder.
        rounds: how many rounds are done.
        stopped: why there are no more, or "" if those were all that were asked for.
        best: the round that phi is of, where the best one by the validation clients was selected; else None.
    """

    procedure: Procedure
    phi: Any
    data_sha256: str
    folder: Path
    rounds: int
    stopped: str = ""
    best: int | None = None

    def __str__(self) -> str:
        classes = self.procedure.inputs.classes
        predicts = "a number" if classes is None else f"{len(classes)} classes"
        lines = [
            f"{self.algorithm.title}, {saying.counted(self.rounds)}",
            f"network: {self.procedure.model}, which predicts {predicts}",
            *saying.lines_of(self.rows),
        ]
        if self.best is not None:
            lines.append(f"the result is that of round {self.best}, the best by the validation clients")
        if self.stopped:
            lines.append(f"stopped: {self.stopped}")
        return "\n".join([*lines, f"folder: {self.folder}"])

    __repr__ = __str__

    @cached_property
    def rows(self) -> tuple[Mapping[str, Any], ...]:
        """One mapping of figures for each round, as the folder has them; none where it has no history.

        Raises:
            CheckpointError: the history is damaged.
        """
        return tuple(read_history(self.folder))

    @property
    def algorithm(self) -> Algorithm:
        """How a client adapts, and what it answers."""
        return self.procedure.algorithm

    @property
    def model(self) -> Model:
        """The network, its loss and its metrics."""
        return self.procedure.network

    @property
    def memory(self) -> Any:
        """What a client keeps that has taken no part, or has left what it kept with the run."""
        return self.algorithm.memory(self.model, random.as_key(random.key_data(self.procedure.seed, "init")))

    @property
    def params(self) -> Any:
        """The parameters of a client before it adapts; the model of all of them where the algorithm does not adapt."""
        return self.algorithm.start(self.phi, self.memory, adapting=True).params


def load_run(folder: str | Path) -> SavedRun:
    """Return what a run gave that was started from the command line and is done.

    Args:
        folder: the run folder; earlier versions' are read, too.

    Raises:
        UsageError: the folder holds no run, one that is not done yet, or one that was started from Python with a model
            of its own.
        CheckpointError: a file is damaged.
    """
    folder = Path(folder)
    procedure, settings = read_procedure(folder)
    file = folder / "model.safetensors"
    try:
        digest = str(settings["run"]["data_sha256"])
        # More rounds may be asked for than the result was written for.
        result = pytrees.load_metadata(file) if file.exists() else {}
        asked = result["settings"]["run"]["rounds"] if result else 0
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{folder} is damaged: {error!r}") from error
    if asked != procedure.rounds:
        raise UsageError(f"the run in {folder} is not done: fedmeta resume {folder}")
    like = jax.eval_shape(lambda: procedure.algorithm.init(procedure.network, random.default_key()))
    rounds, stopped = int(result.get("rounds", asked)), str(result.get("stopped", ""))
    phi = pytrees.load(file, like)
    return SavedRun(procedure, phi, digest, folder.absolute(), rounds, stopped, result.get("best"))


def read_procedure(folder: Path) -> tuple[Procedure, dict[str, Any]]:
    """Return the procedure of a run folder, and all that its run.toml says, in today's form.

    Raises:
        UsageError: the folder holds no run, or one that was started from Python with a model of its own.
        CheckpointError: run.toml is damaged.
    """
    settings = read_settings(folder)
    file = folder / "run.toml"
    if not isinstance(settings.get("run"), Mapping):
        raise CheckpointError(f"{file} is damaged: it has no section [run]")
    if "recipe" not in settings:
        raise UsageError(
            f"the run in {folder} was started from Python, and only your program has its model: read the result with "
            f"fm.load('{folder / 'model.safetensors'}', like=algorithm.init(model, jax.random.key(0))), and go on with "
            "fm.train"
        )
    try:
        settings = upgraded(settings)
        content = {**settings["recipe"]["procedure"], "rounds": settings["run"]["rounds"]}
        return Procedure.from_dict(content), settings
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise CheckpointError(f"{file} is damaged: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, UsageError) else repr(error).splitlines()[0]
