"""A member's own examples, as the trainer reads them: by the procedure's inputs, so that nothing is guessed."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fedmeta import data as sets
from fedmeta.data.kinds_of_files import is_table
from fedmeta.data.schema import Field
from fedmeta.errors import DataError, UsageError
from fedmeta.node import scoring
from fedmeta.node.member.config import Config
from fedmeta.runs.inputs import Inputs
from fedmeta.runs.procedure import Procedure


def examples(config: Config, inputs: Inputs) -> tuple[np.ndarray, np.ndarray]:
    """Return all of this member's examples, x of shape [examples, ...] and y of shape [examples, ...].

    Args:
        config: says where they lie.
        inputs: what the procedure takes and gives.

    Raises:
        DataError: a file cannot be read, a column is missing or of another kind, or a class is unknown; each problem
            is named.
        UsageError: no data are named, a file is of a kind that is not read, or there is no such client.
    """
    _check_target(config, inputs)
    if not config.data.paths:
        raise UsageError("data.paths is empty: name the files or folders with this member's examples")
    parts = [_read(config, path, inputs) for path in config.data.paths]
    x, y = (np.concatenate([part[at] for part in parts]) for at in (0, 1))
    return x, y


def split(config: Config, procedure: Procedure, seat: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return this member's examples, and which of them are held out to score by: none of one that takes no seat.

    Raises:
        DataError, UsageError: as `examples` does.
    """
    x, y = examples(config, procedure.inputs)
    if not seat:
        return x, y, np.zeros(len(x), bool)
    return x, y, scoring.held_out(y, int(procedure.digest[:16], 16))


def _check_target(config: Config, inputs: Inputs) -> None:
    held = None if inputs.schema is None else inputs.schema.role("target")
    if config.data.target and held is not None and held.name != config.data.target:
        raise UsageError(f"data.target is {config.data.target!r}, and the procedure predicts {held.name!r}")


def _read(config: Config, name: str, inputs: Inputs) -> tuple[np.ndarray, np.ndarray]:
    data = config.data
    path = Path(name) if name in sets.names() else config.path(name)
    several = bool(data.client or data.clients) or (not _is_file(path))
    if not several:
        # Nobody looks at each round's notes: what is coded otherwise must not be learned from as if it were missing.
        x, y = inputs.read(
            str(path), drop_missing_target=data.drop_missing_target, reading=data.reading or None, strict=True
        )
        assert y is not None
        return x, y
    told: dict[str, Any] = {}
    if is_table(str(path)):
        if inputs.schema is None:
            raise UsageError(f"{path} is a table, and the procedure was not made of one")
        told = {"client": data.client or None, "reading": dict(data.reading) or None}
        told |= {"schema": _with_client(inputs, data.client), "drop_missing_target": data.drop_missing_target}
    found = sets.resolve(str(path), **told)
    _check_like(found, inputs, name)
    chosen = data.clients or tuple(found.client_ids)
    batches = [found[client] for client in chosen]
    return np.concatenate([np.asarray(one.x) for one in batches]), np.concatenate(
        [np.asarray(one.y) for one in batches]
    )


def _is_file(path: Path) -> bool:
    return path.suffix.lower() in (".npz", ".txt") or is_table(str(path))


def _with_client(inputs: Inputs, client: str) -> Any:
    schema = inputs.schema
    assert schema is not None
    if not client or schema.role("client") is not None:
        return schema
    return replace(schema, columns=(*schema.columns, Field(name=client, role="client", kind="identifier")))


def _check_like(found: Any, inputs: Inputs, name: str) -> None:
    """Raise `DataError` unless a data set has the inputs and the classes of the procedure."""
    shape = tuple(found.x.shape[1:])
    if shape != tuple(inputs.shape):
        raise DataError(f"{name} has inputs of shape {shape}, and the procedure takes {tuple(inputs.shape)}")
    # Of data that lie in a table the schema has seen to the classes.
    if found.info.schema is None and found.info.classes != inputs.classes:
        raise DataError(f"{name} has the classes {found.info.classes}, and the procedure {inputs.classes}")
