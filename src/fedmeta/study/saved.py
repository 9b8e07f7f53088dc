"""What run folders hold, read back; what is written when a run is done; and a client's own model in a file."""

import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax

from fedmeta import pytrees, random
from fedmeta._engine.sharding import is_leader
from fedmeta._files import write_atomically
from fedmeta.errors import CheckpointError, UsageError
from fedmeta.evaluation.evaluator import Report
from fedmeta.model import Model
from fedmeta.runs.inputs import Inputs, tuples
from fedmeta.runs.loop import Run
from fedmeta.runs.procedure import Procedure
from fedmeta.runs.saved import SavedRun, read_procedure
from fedmeta.study.compare import FinishedRun
from fedmeta.study.dataspec import DataSpec
from fedmeta.study.experiment import Experiment, Validation


def read_experiment(folder: Path, rounds: int | None = None, *, all_tested: bool = False) -> Experiment:
    """Return the experiment of a run folder; its data are read again.

    Args:
        folder: the run folder.
        rounds: in all, if there shall be more than at first.
        all_tested: whether all test clients are wanted, also where the run was tested on a sample of them.

    Raises:
        UsageError: the folder holds no run, or one that was started from Python.
        CheckpointError: run.toml is damaged.
        DataError: the data are absent or damaged.
    """
    procedure, data, looks = read_recipe(folder)
    if all_tested:
        data = replace(data, max_evaluated=sys.maxsize)
    return Experiment.of(data, procedure if rounds is None else replace(procedure, rounds=rounds), looks)


def read_recipe(folder: Path) -> tuple[Procedure, DataSpec, Validation]:
    """Return what a run folder says of the procedure, of where the data lie and of when the run was looked at.

    Raises:
        UsageError: the folder holds no run, one that was started from Python, or a model that was pulled.
        CheckpointError: run.toml is damaged.
    """
    procedure, settings = read_procedure(folder)
    recipe = settings["recipe"]
    if "federation" in settings:
        raise UsageError(
            f"{folder} was pulled from a federation, whose members keep their data: fedmeta adapt and fedmeta predict "
            "use it, and fedmeta node pull fetches a newer model"
        )
    try:
        return procedure, DataSpec.from_dict(recipe["data"]), Validation(**recipe["validation"])
    except (KeyError, TypeError, AttributeError, UsageError) as error:
        raise CheckpointError(f"{folder / 'run.toml'} is damaged: {error!r}") from error


def check_data(saved: SavedRun, experiment: Experiment) -> None:
    """Raise a CheckpointError unless the training clients are those that the run was trained on."""
    if experiment.train.fingerprint != saved.data_sha256:
        raise CheckpointError(
            f"{experiment.data.data} is not what the run was trained on: its training clients have changed, "
            "so its test clients may not be unseen"
        )


def finish(experiment: Experiment, run: Run, baselines: Mapping[str, Report] | None = None) -> FinishedRun:
    """Test a run that is done on its test clients, and write the figures to evaluation.json.

    Args:
        experiment: what was run.
        run: the run.
        baselines: what it is set beside.
    """
    report = experiment.report(run.phi, experiment.test, predictions=True, plan=run.plan)
    best = None if run.best is None else int(run.best.round)
    finished = FinishedRun(experiment, run.rows, report, baselines or {}, best)
    if run.directory is not None and is_leader():
        text = json.dumps(finished.summary(), indent=1)
        write_atomically(run.directory / "evaluation.json", text.encode())
    return finished


def save_client_model(path: Path, run: SavedRun, params: Any) -> None:
    """Write a client's own parameters, with all that prediction needs, to a safetensors file.

    Raises:
        UsageError: the path is taken by something that is not a client's model.
    """
    if path.exists():
        try:
            read_client_model(path)
        except CheckpointError:
            raise UsageError(f"{path} exists and is not a client's model; give another name") from None
    network = {"name": run.procedure.model, "options": dict(run.procedure.model_options)}
    inputs = run.procedure.inputs.to_dict()
    pytrees.save(path, params, {"client_model": {"network": network, "inputs": inputs}})


def read_client_model(path: Path) -> tuple[Model, Inputs, Any]:
    """Return the model, its inputs and a client's own parameters, from a file that `save_client_model` wrote.

    Raises:
        CheckpointError: the file is missing, damaged, or not a client's model.
    """
    metadata = pytrees.load_metadata(path)
    content = metadata.get("client_model")
    if not isinstance(content, Mapping):
        raise CheckpointError(
            f"{path} is not a client's model: fedmeta adapt RUN --examples FILE writes one, and the folder of a run "
            "stands for its model"
        )
    try:
        inputs = Inputs.from_dict(content["inputs"])
        model = inputs.model(content["network"]["name"], tuples(content["network"]["options"]))
    except (KeyError, TypeError, AttributeError, UsageError) as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error
    return model, inputs, pytrees.load(path, jax.eval_shape(model.init, random.default_key()))
