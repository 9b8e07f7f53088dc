"""What a run folder holds, read back: the recipe, the inputs, phi; and a client's own model in a file."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax

from fedmeta import algorithms, pytrees
from fedmeta._engine.sharding import is_leader
from fedmeta._files import write_atomically
from fedmeta.algorithms import Algorithm
from fedmeta.errors import CheckpointError, UsageError
from fedmeta.model import Model
from fedmeta.runs.folder import read_settings
from fedmeta.runs.loop import Run
from fedmeta.study.compare import Outcome
from fedmeta.study.inputs import Inputs, tuples
from fedmeta.study.recipe import Experiment, Recipe


def read_recipe(folder: Path) -> Recipe:
    """Return the recipe of a run folder.

    Raises:
        UsageError: the folder holds no run, or one that was started from Python without a recipe.
        CheckpointError: run.toml is damaged.
    """
    settings = read_settings(folder)
    described = _recipe(folder, settings)
    try:
        return Recipe.from_dict({**described, "rounds": settings["run"]["rounds"]})
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{folder / 'run.toml'} is damaged: {error!r}") from error


def _recipe(where: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    if "run" not in settings:
        raise CheckpointError(f"{where / 'run.toml'} is damaged: it has no section [run]")
    if "recipe" not in settings:
        raise UsageError(
            f"{where} was started from Python and has no recipe: go on from Python, with fm.train or fm.evaluate"
        )
    return settings["recipe"]


def finish(prepared: Experiment, run: Run) -> Outcome:
    """Test a run that is done on its test clients, and write the figures to evaluation.json."""
    report = prepared.report(run.state.phi, prepared.test, plan=run.plan)
    if run.directory is not None and is_leader():
        text = json.dumps(report.summary(), indent=1)
        write_atomically(run.directory / "evaluation.json", text.encode())
    return Outcome(prepared, run.rows, report)


@dataclass(frozen=True, eq=False)
class SavedRun:
    """A run that is done, as far as adaptation needs it; the training data are not."""

    recipe: Recipe
    inputs: Inputs
    algorithm: Algorithm
    model: Model
    phi: Any
    data_sha256: str

    def check_data(self, prepared: Experiment) -> None:
        """Raise a CheckpointError unless the training clients are those that the run was trained on."""
        if prepared.train.fingerprint != self.data_sha256:
            raise CheckpointError(
                f"{self.recipe.data} is not what the run was trained on: its training clients have changed, "
                "so its test clients may not be unseen"
            )


def read_run(folder: Path) -> SavedRun:
    """Return a run that is done.

    Raises:
        UsageError: the folder holds no run, or one that is not done yet.
        CheckpointError: a file is damaged.
    """
    settings = read_settings(folder)
    recipe = read_recipe(folder)
    try:
        inputs = Inputs.from_dict(_recipe(folder, settings)["inputs"])
        digest = settings["run"]["data_sha256"]
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{folder / 'run.toml'} is damaged: {error!r}") from error
    algorithm = algorithms.make(recipe.algorithm, **recipe.algorithm_options)
    model = inputs.model(recipe.model, recipe.model_options)
    file = folder / "model.safetensors"
    if not file.exists() or pytrees.load_metadata(file)["settings"]["run"]["rounds"] != recipe.rounds:
        raise UsageError(f"the run in {folder} is not done: fedmeta resume {folder}")
    like = jax.eval_shape(lambda: algorithm.init(model, jax.random.key(0)))
    phi = pytrees.load(file, like)
    return SavedRun(recipe, inputs, algorithm, model, phi, digest)


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
    network = {"name": run.recipe.model, "options": dict(run.recipe.model_options)}
    pytrees.save(path, params, {"client_model": {"network": network, "inputs": run.inputs.to_dict()}})


def read_client_model(path: Path) -> tuple[Model, Inputs, Any]:
    """Return the model, its inputs and a client's own parameters, from a file that `save_client_model` wrote.

    Raises:
        CheckpointError: the file is missing, damaged, or not a client's model.
    """
    metadata = pytrees.load_metadata(path)
    if "client_model" not in metadata:
        raise CheckpointError(f"{path} is not a client's model: fedmeta adapt RUN --examples FILE writes one")
    content = metadata["client_model"]
    inputs = Inputs.from_dict(content["inputs"])
    options = tuples(content["network"]["options"])
    model = inputs.model(content["network"]["name"], options)
    params = pytrees.load(path, jax.eval_shape(model.init, jax.random.key(0)))
    return model, inputs, params
