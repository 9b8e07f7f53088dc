"""What a trained model takes and gives, kept beside it so that new files are read in the same way."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from fedmeta import losses, metrics, models
from fedmeta.data import FederatedDataset, read_examples
from fedmeta.data.columns import Column
from fedmeta.data.schema import Field, Schema
from fedmeta.data.table import read_rows
from fedmeta.errors import DataError, UnknownName, UsageError
from fedmeta.model import Model

INPUT_BOUND, ERROR_BOUND = 3.0, 2.0
"""Standard deviations; see `Inputs.bounded`."""


@dataclass(frozen=True)
class Inputs:
    """What goes in and comes out.

    Args:
        shape: the shape of one input.
        classes: the names of the classes; None for regression.
        features: the names of the input columns, where they have names.
        characters: the characters in the order of their codes, where inputs are text.
        schema: what the columns of a table are; new files are read by it.
        mean: of each feature over the training clients, where a table is standardised; else None.
        std: the standard deviation likewise.
        target_scale: mean and standard deviation of a table's regression targets; else None.
        bounded: whether a single example can do only so much: a standardised input beyond `INPUT_BOUND` grows as a
            logarithm, and an error beyond `ERROR_BOUND` standard deviations of the targets counts linearly. Runs of
            earlier versions are not bounded.
    """

    shape: tuple[int, ...]
    classes: tuple[str, ...] | None = None
    features: tuple[str, ...] | None = None
    characters: str | None = None
    schema: Schema | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    target_scale: tuple[float, float] | None = None
    bounded: bool = False

    def __post_init__(self):
        if min(self.shape, default=1) < 1:
            raise UsageError(f"the shape of an input has positive sizes only, not {self.shape}")
        if (self.mean is None) != (self.std is None):
            raise UsageError("a table is standardised by mean and std: give both or neither")
        for name in ("mean", "std", "target_scale"):
            values = getattr(self, name)
            if values is not None:
                values = tuple(float(value) for value in values)
                if not np.isfinite(values).all():
                    raise UsageError(f"{name} of the inputs must hold finite numbers, not {values}")
                object.__setattr__(self, name, values)

    @classmethod
    def of(cls, train: FederatedDataset) -> "Inputs":
        """Describe a data set by its training clients; a table is standardised by them.

        Raises:
            UsageError: the data set has several inputs.
        """
        info = train.info
        if not isinstance(train.x, Column):
            raise UsageError(
                f"{train!r} has several inputs, and these networks take one: use fm.train with your own model"
            )
        if info.schema is None:
            return cls(tuple(train.x.shape[1:]), info.classes, info.features, characters=info.characters)
        rows = train.rows
        x = np.asarray(train.x[rows], np.float64)
        known = x @ _gaps(info.schema).T == 0
        # A column without a value among the training clients is as it is.
        known |= ~known.any(axis=0)
        mean, spread = x.mean(axis=0, where=known), x.std(axis=0, where=known)
        std = np.where(spread > 0, spread, 1.0)
        scale = None
        if info.classes is None:
            y = np.asarray(train.y[rows], np.float64)
            scale = (float(y.mean()), float(y.std()) or 1.0)
        return cls(
            shape=tuple(train.x.shape[1:]),
            classes=info.classes,
            features=info.features,
            schema=_scaled(info.schema, mean, std, scale),
            mean=tuple(mean.tolist()),
            std=tuple(std.tolist()),
            target_scale=scale,
            bounded=True,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return what TOML and JSON can hold; None is left out."""
        plain = {name: list(value) if isinstance(value, tuple) else value for name, value in vars(self).items()}
        plain["bounded"] = self.bounded or None
        # Last, as TOML has it, whose order is that of a run that is resumed.
        del plain["schema"]
        if self.schema is not None:
            plain["schema"] = self.schema.to_dict()
        return {name: value for name, value in plain.items() if value is not None}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "Inputs":
        """Return what `to_dict` described.

        Raises:
            UsageError: a field is unknown or out of range.
        """
        known = [*(field.name for field in fields(cls)), "target"]
        for name in content:
            if name not in known:
                raise UnknownName("part of what a model takes", name, known)
        values = tuples(content)
        if (target := values.pop("target", None)) is not None:
            values["schema"] = _former_schema(target, values)
        elif "schema" in values:
            values["schema"] = Schema.from_dict(values["schema"])
        return cls(**values)

    def model(self, name: str, options: Mapping[str, Any]) -> Model:
        """Return the network of that name, made to fit, on standardised inputs and targets."""
        shape = models.Shape(
            self.shape,
            None if self.classes is None else len(self.classes),
            None if self.characters is None else len(self.characters),
        )
        model = models.build(name, shape, options)
        if self.mean is None or self.std is None:
            return model
        standardise = self._standardise()
        if self.target_scale is None:
            return replace(model, apply=lambda p, x: model.apply(p, standardise(x)))
        centre, spread = self.target_scale

        def loss(predictions: Any, y: Any) -> Any:
            if self.bounded:
                return losses.huber(predictions / spread, y / spread, ERROR_BOUND)
            return losses.squared_error(predictions, y) / spread**2

        return replace(
            model,
            apply=lambda p, x: model.apply(p, standardise(x))[..., 0] * spread + centre,
            loss=loss,
            metrics={**model.metrics, "squared_error": metrics.squared_error},
        )

    def _standardise(self) -> Callable[[Any], Any]:
        """Return what puts inputs on the scale of the training clients; a gap, which is 0, becomes their mean."""
        mean, std = np.asarray(self.mean, np.float32), np.asarray(self.std, np.float32)
        gaps = None if self.schema is None else _gaps(self.schema)
        bound = _bound if self.bounded else lambda x: x
        if gaps is None or not gaps.any():
            return lambda x: bound((x - mean) / std)
        fill = (gaps * np.asarray(self.mean)[:, None]).T.astype(np.float32)
        return lambda x: bound((x - mean + x @ fill) / std)

    def read(
        self, path: str, *, drop_missing_target: bool = False, reading: Mapping[str, Any] | None = None
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Read a user's examples with their targets: a table or `.npz` file, or a `.txt` file for a model of text.

        Args:
            path: the file.
            drop_missing_target: leave out rows of a table without a target, in place of refusing them.
            reading: how a table is to be read, where that is told.

        Raises:
            UsageError: the kind of file does not fit.
            DataError: the file does not hold what training had.
        """
        if Path(path).suffix.lower() == ".txt":
            return self._read_text(path, need_target=True)
        x, y = read_examples(
            path, self.schema, classes=self.classes, drop_missing_target=drop_missing_target, reading=reading
        )
        return self._checked(path, x), y

    def read_rows(
        self, path: str, *, reading: Mapping[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, list[Any]]]:
        """Read what shall be predicted, as `fedmeta.data.table.read_rows`, from a file as `read` takes it.

        Raises:
            UsageError: the kind of file does not fit.
            DataError: the file does not hold what training had.
        """
        if Path(path).suffix.lower() == ".txt":
            return self._read_text(path, need_target=False)[0], {}
        x, identifiers = read_rows(path, self.schema, reading=reading)
        return self._checked(path, x), identifiers

    def _checked(self, path: str, x: np.ndarray) -> np.ndarray:
        if x.shape[1:] != self.shape:
            raise DataError(f"{path} has inputs of shape {x.shape[1:]}, and the model takes {self.shape}")
        if self.characters is not None:
            if not np.issubdtype(x.dtype, np.integer):
                raise DataError(f"{path} has inputs of type {x.dtype}, and the model takes codes of characters")
            if x.min() < 0 or x.max() >= len(self.characters):
                raise DataError(f"{path} has codes outside 0 to {len(self.characters) - 1}, the model's characters")
        return x

    def _read_text(self, path: str, *, need_target: bool) -> tuple[np.ndarray, np.ndarray | None]:
        if self.characters is None:
            raise UsageError(f"the model does not read text: give {path} as a CSV, Parquet or .npz file")
        try:
            text = Path(path).read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"cannot read {path}: {error}") from error
        # Lines stay lines where training had them; any other run of white space is a blank.
        separator = "\n" if "\n" in self.characters else " "
        text = separator.join(" ".join(line.split()) for line in text.strip().splitlines())
        unknown = sorted(set(text) - set(self.characters))
        if unknown:
            raise DataError(f"{path} holds the character {unknown[0]!r}, which the training data do not have")
        context = self.shape[0]
        if len(text) <= context:
            raise DataError(f"{path} has {len(text)} characters; the model needs more than {context}")
        codes = np.array([self.characters.index(character) for character in text], np.int32)
        windows = np.lib.stride_tricks.sliding_window_view(codes, context).copy()
        # The last window has no successor in the text: it is what a prediction is for.
        return (windows[:-1], codes[context:]) if need_target else (windows, None)


def _bound(x: Any) -> Any:
    """Return x where it is at most `INPUT_BOUND` from zero, and beyond what grows as a logarithm, with equal slope."""
    beyond = jnp.maximum(jnp.abs(x) - INPUT_BOUND, 0)
    return jnp.sign(x) * (jnp.abs(x) - beyond + jnp.log1p(beyond))


def _gaps(schema: Schema) -> np.ndarray:
    """Return which column of x says that another one's value is missing, 0 or 1 of shape [inputs, inputs].

    A row stands for the column whose value may be missing. Categories have no value that could be put there.
    """
    matrix = np.zeros((len(schema.features), len(schema.features)))
    first = 0
    for entry in schema.used:
        last = first + len(entry.features)
        if entry.gaps and entry.kind != "category":
            matrix[first : last - 1, last - 1] = 1
        first = last
    return matrix


def _former_schema(target: str, content: Mapping[str, Any]) -> Schema:
    """Return the schema of a run of an earlier version, whose features were numbers."""
    columns = [
        Field(name=name, type="any", mean=mean) for name, mean in zip(content["features"], content["mean"], strict=True)
    ]
    classes = content.get("classes")
    kind = "number" if classes is None else "category"
    held = Field(name=target, kind=kind, role="target", type="any", categories=classes)
    return Schema((*columns, held), "regression" if classes is None else "classification")


def _scaled(schema: Schema, mean: np.ndarray, std: np.ndarray, target: tuple[float, float] | None) -> Schema:
    """Return the schema with the scale of its numbers, booleans and dates, and of its target."""
    columns, first = [], 0
    for entry in schema.columns:
        if entry.role == "target" and target is not None:
            entry = replace(entry, mean=target[0], std=target[1])
        if entry.features and entry.kind != "category":
            entry = replace(entry, mean=float(mean[first]), std=float(std[first]))
        columns.append(entry)
        first += len(entry.features)
    return replace(schema, columns=tuple(columns))


def tuples(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the mapping with its lists as tuples, which is what TOML and JSON turned into lists."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in content.items()}
