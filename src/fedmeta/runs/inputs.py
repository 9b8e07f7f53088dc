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
        low: of each feature, what its public reference range begins with: what is below counts as it. Where there are
            ranges, no statistics of any client are needed; see `by_ranges`.
        high: what it ends with, likewise.
        misses: whether the last class is no answer, as in `fm.data.Info`.
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
    low: tuple[float, ...] | None = None
    high: tuple[float, ...] | None = None
    misses: bool = False

    def __post_init__(self):
        if min(self.shape, default=1) < 1:
            raise UsageError(f"the shape of an input has positive sizes only, not {self.shape}")
        if (self.mean is None) != (self.std is None):
            raise UsageError("a table is standardised by mean and std: give both or neither")
        if (self.low is None) != (self.high is None) or (self.low is not None and self.mean is None):
            raise UsageError(
                "features are clipped from low to high before they are scaled: give both, with mean and std"
            )
        for name in ("mean", "std", "target_scale", "low", "high"):
            values = getattr(self, name)
            if values is not None:
                values = tuple(float(value) for value in values)
                if not np.isfinite(values).all():
                    raise UsageError(f"{name} of the inputs must hold finite numbers, not {values}")
                object.__setattr__(self, name, values)
        if self.low is not None and self.high is not None:
            lengths = {len(values) for values in (self.low, self.high, self.mean or ())}
            if len(lengths) > 1 or not all(low < high for low, high in zip(self.low, self.high, strict=True)):
                raise UsageError(f"low must be below high for each feature, not {self.low} and {self.high}")

    @classmethod
    def of(cls, train: FederatedDataset) -> "Inputs":
        """Describe a data set by its training clients; a table is standardised by them, or by its schema's ranges.

        Raises:
            UsageError: the data set has several inputs, or a table's schema has ranges for some of its numbers only.
        """
        info = train.info
        if not isinstance(train.x, Column):
            raise UsageError(
                f"{train!r} has several inputs, and these networks take one: use fm.train with your own model"
            )
        if info.schema is None:
            shape = tuple(train.x.shape[1:])
            return cls(shape, info.classes, info.features, characters=info.characters, misses=info.misses)
        if any(entry.minimum is not None for entry in info.schema.columns):
            return cls.by_ranges(info.schema)
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

    @classmethod
    def by_ranges(cls, schema: Schema) -> "Inputs":
        """Describe a table by the public reference ranges in its schema alone: nobody's data are looked at.

        A number is clipped to its range. Then it is scaled to [-1, 1]; or to (x - mean) / std, where the schema gives
        these two, which must be public, too. A boolean's range is 0 to 1. Columns that say which category it is, or
        that a value is missing, stay 0 and 1. A gap counts as the middle of the range, or the mean that is given. A
        target is not clipped; in regression it is scaled likewise.

        Raises:
            UsageError: a number among the features, or the target of a regression, has no range; a mean lies outside
                its range; or a feature is a date, which has no range.
        """
        scales = {entry.name: _range_and_scale(entry) for entry in schema.used}
        target = schema.role("target")
        scale = None
        if target is not None and schema.task == "regression":
            scale = _range_and_scale(target)[2:]
        columns = [(0.0, 1.0, 0.0, 1.0)] * len(schema.features)
        first = 0
        for entry in schema.used:
            if entry.kind != "category":
                columns[first] = scales[entry.name]
            first += len(entry.features)
        low, high, mean, std = zip(*columns, strict=True)
        return cls(
            shape=(len(schema.features),),
            classes=schema.classes,
            features=schema.features,
            schema=_scaled(schema, np.array(mean), np.array(std), scale),
            mean=mean,
            std=std,
            target_scale=scale,
            bounded=True,
            low=low,
            high=high,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return what TOML and JSON can hold; None is left out."""
        plain = {name: list(value) if isinstance(value, tuple) else value for name, value in vars(self).items()}
        plain |= {"bounded": self.bounded or None, "misses": self.misses or None}
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
        if self.misses:
            model = models.among_candidates(model)
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
        """Return what puts inputs on their scale; a gap, which is 0, becomes the mean."""
        mean, std = np.asarray(self.mean, np.float32), np.asarray(self.std, np.float32)
        gaps = None if self.schema is None else _gaps(self.schema)
        bound = _bound if self.bounded else lambda x: x
        marked = gaps is not None and bool(gaps.any())
        fill = (gaps * np.asarray(self.mean)[:, None]).T.astype(np.float32) if marked else None
        if self.low is not None and self.high is not None:
            low, high = np.asarray(self.low, np.float32), np.asarray(self.high, np.float32)
            # A gap is filled first, for its 0 may lie outside the range.
            return lambda x: (jnp.clip(x if fill is None else x + x @ fill, low, high) - mean) / std
        if fill is None:
            return lambda x: bound((x - mean) / std)
        return lambda x: bound((x - mean + x @ fill) / std)

    def read(
        self,
        path: str,
        *,
        drop_missing_target: bool = False,
        reading: Mapping[str, Any] | None = None,
        strict: bool = False,
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Read a user's examples with their targets: a table or `.npz` file, or a `.txt` file for a model of text.

        Args:
            path: the file.
            drop_missing_target: leave out rows of a table without a target, in place of refusing them.
            reading: how a table is to be read, where that is told.
            strict: refuse a table's column of whose values none is a category or in the range of the schema.

        Raises:
            UsageError: the kind of file does not fit.
            DataError: the file does not hold what training had.
        """
        if Path(path).suffix.lower() == ".txt":
            return self._read_text(path, need_target=True)
        x, y = read_examples(
            path,
            self.schema,
            classes=self.classes,
            drop_missing_target=drop_missing_target,
            reading=reading,
            strict=strict,
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


def _range_and_scale(entry: Field) -> tuple[float, float, float, float]:
    """Return the range of a column's values, and the mean and the deviation by which they are scaled."""
    if entry.kind == "category":
        return 0.0, 1.0, 0.0, 1.0
    if entry.kind == "date":
        raise UsageError(
            f"the column {entry.name!r} is a date, which has no reference range: make a number of it, such as an age, "
            "or leave it out"
        )
    low, high = (0.0, 1.0) if entry.kind == "boolean" else (entry.minimum, entry.maximum)
    if low is None or high is None:
        raise UsageError(
            f"the column {entry.name!r} has no reference range, and others have: give its minimum and maximum"
        )
    if entry.mean is None or entry.std is None:
        return low, high, low / 2 + high / 2, high / 2 - low / 2
    if not (low <= entry.mean <= high and entry.std > 0):
        raise UsageError(
            f"the column {entry.name!r} has mean {entry.mean} and std {entry.std}: the mean must lie in the range from "
            f"{low} to {high}, and std above 0"
        )
    return low, high, entry.mean, entry.std


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
