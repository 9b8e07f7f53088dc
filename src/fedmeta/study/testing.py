"""The clients on which a run that is done is tested: its own test clients, or those of other data."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fedmeta import data as sets
from fedmeta.data import FederatedDataset
from fedmeta.data.columns import Column
from fedmeta.data.kinds_of_files import is_table
from fedmeta.errors import DataError, UsageError
from fedmeta.runs.inputs import Inputs
from fedmeta.study.dataspec import DataSpec
from fedmeta.study.experiment import Experiment
from fedmeta.study.naming import named_clients, only
from fedmeta.study.saved import read_recipe


def on_own_clients(experiment: Experiment, names: Sequence[str]) -> Experiment:
    """Return the experiment with these of its test clients alone.

    Raises:
        UsageError: a client is unknown, or not a test client; the message says what to do.
    """
    groups = {"training": experiment.train, "validation": experiment.validation, "test": experiment.test}
    known = [name for group in groups.values() for name in group.client_ids]
    chosen = named_clients(
        names, known, f"--clients, of those of {experiment.test.info.name} with two examples or more"
    )
    for kind in ("training", "validation"):
        if others := set(chosen) & set(groups[kind].client_ids):
            raise UsageError(
                f"--clients names {min(others)!r}, a {kind} client of this run, whose figures are not those of an "
                "unseen client: name some of its test clients, or give new examples of this client with --data FILE"
            )
    return replace(experiment, test=only(experiment.test, chosen))


def on_other_data(folder: Path, data: str, table: Mapping[str, Any], names: Sequence[str]) -> Experiment:
    """Return an experiment whose test clients are those of other data; the data of the run need not be there.

    Args:
        folder: the run folder.
        data: a table with the columns of the training, which is read by the run's schema; or a data set's name or a
            folder, of the same kind as those of the training.
        table: what is told of a table, by the names of `fm.data.from_table`.
        names: of the clients that are tested; all where there are none.

    Raises:
        UsageError: the data are of another kind, or a client is unknown.
        DataError: the data are absent or damaged, or do not fit the run.
        CheckpointError: run.toml is damaged.
    """
    procedure, trained, looks = read_recipe(folder)
    inputs = procedure.inputs
    tabular = data not in sets.names() and is_table(data)
    if tabular != (inputs.schema is not None):
        wanted = "a data set without columns" if tabular else "a table with the columns of its training"
        raise UsageError(f"the run in {folder} takes {wanted}, and {data} is none")
    if table and not tabular:
        raise UsageError(f"{data} is no table, whose reading could be told")
    told = {"client": trained.client, "target": trained.target, "table": table} if tabular else {}
    spec = DataSpec.at(data, **told)
    whole = spec.load(inputs.schema)
    _check_alike(inputs, whole, data)
    if names:
        whole = only(whole, named_clients(names, whole.client_ids, f"--clients of {whole.info.name}"))
    nobody = whole.select(np.zeros(0, int))
    return Experiment(data=spec, procedure=procedure, looks=looks, train=nobody, validation=nobody, test=whole)


def seen(clients: FederatedDataset, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the clients whose names are in the history of a run: they took part in its training."""
    drawn = {name for row in rows for name in row.get("clients", ())}
    return [name for name in clients.client_ids if name in drawn]


def _check_alike(inputs: Inputs, whole: FederatedDataset, data: str) -> None:
    """Raise a DataError unless inputs and classes are those of the training; those of a table are, by its schema."""
    shape = tuple(whole.x.shape[1:]) if isinstance(whole.x, Column) else None
    for what, here, there in (
        ("inputs of the shape", shape, inputs.shape),
        ("the classes", whole.info.classes, inputs.classes),
        ("the characters", whole.info.characters, inputs.characters),
    ):
        if here != there:
            raise DataError(f"{data} has {what} {here!r:.200}, and the run was trained on {there!r:.200}")
