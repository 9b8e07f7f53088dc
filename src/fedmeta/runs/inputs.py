"""What a trained model takes and gives, kept beside it so that new files are read in the same way."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from fedmeta import losses, models
from fedmeta.data import FederatedDataset, read_examples
from fedmeta.data.columns import Column
from fedmeta.errors import DataError, UnknownName, UsageError
from fedmeta.model import Model


@dataclass(frozen=True)
class Inputs:
    """What goes in and comes out.

    Args:
        shape: the shape of one input.
        classes: the names of the classes; None for regression.
        features: the names of the input columns, where they have names.
        target: the name of the target column, where it has one.
        characters: the characters in the order of their codes, where inputs are text.
        mean: of each feature over the training clients, where a table is standardised; else None.
        std: the standard deviation likewise.
        target_scale: mean and standard deviation of a table's regression targets; else None.
    """

    shape: tuple[int, ...]
    classes: tuple[str, ...] | None = None
    features: tuple[str, ...] | None = None
    target: str | None = None
    characters: str | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    target_scale: tuple[float, float] | None = None

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
    def of(cls, train: FederatedDataset, target: str | None) -> "Inputs":
        """Describe a data set by its training clients; a table (`target` given) is standardised by them.

        Raises:
            UsageError: the data set has several inputs.
        """
        info = train.info
        if not isinstance(train.x, Column):
            raise UsageError(
                f"{train!r} has several inputs, and these networks take one: use fm.train with your own model"
            )
        plain = cls(tuple(train.x.shape[1:]), info.classes, info.features, target, info.characters)
        if target is None:
            return plain
        rows = np.concatenate([np.arange(a, a + n) for a, n in zip(train.starts, train.sizes, strict=True)])
        x = np.asarray(train.x[rows], np.float64)
        scale = None
        if info.classes is None:
            y = np.asarray(train.y[rows], np.float64)
            scale = (float(y.mean()), float(y.std()) or 1.0)
        std = np.where(x.std(axis=0) > 0, x.std(axis=0), 1.0)
        return cls(
            **{
                **vars(plain),
                "mean": tuple(x.mean(axis=0).tolist()),
                "std": tuple(std.tolist()),
                "target_scale": scale,
            }
        )

    def to_dict(self) -> dict[str, Any]:
        """Return what TOML and JSON can hold; None is left out."""
        values = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}
        return {name: value for name, value in values.items() if value is not None}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "Inputs":
        """Return what `to_dict` described.

        Raises:
            UsageError: a field is unknown or out of range.
        """
        known = [field.name for field in fields(cls)]
        for name in content:
            if name not in known:
                raise UnknownName("part of what a model takes", name, known)
        return cls(**tuples(content))

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
        mean, std = np.asarray(self.mean, np.float32), np.asarray(self.std, np.float32)
        if self.target_scale is None:
            return replace(model, apply=lambda p, x: model.apply(p, (x - mean) / std))
        centre, spread = self.target_scale
        return replace(
            model,
            apply=lambda p, x: model.apply(p, (x - mean) / std)[..., 0] * spread + centre,
            loss=lambda predictions, y: losses.squared_error(predictions, y) / spread**2,
        )

    def read(self, path: str, *, need_target: bool) -> tuple[np.ndarray, np.ndarray | None]:
        """Read a user's examples: a CSV, Parquet or `.npz` file, or a `.txt` file for a model of text.

        Raises:
            UsageError: the kind of file does not fit.
            DataError: the file does not hold what training had.
        """
        if Path(path).suffix.lower() == ".txt":
            return self._read_text(path, need_target=need_target)
        x, y = read_examples(path, self.features, self.target, self.classes, need_target=need_target)
        if x.shape[1:] != self.shape:
            raise DataError(f"{path} has inputs of shape {x.shape[1:]}, and the model takes {self.shape}")
        if self.characters is not None:
            if not np.issubdtype(x.dtype, np.integer):
                raise DataError(f"{path} has inputs of type {x.dtype}, and the model takes codes of characters")
            if x.min() < 0 or x.max() >= len(self.characters):
                raise DataError(f"{path} has codes outside 0 to {len(self.characters) - 1}, the model's characters")
        return x, y

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


def tuples(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the mapping with its lists as tuples, which is what TOML and JSON turned into lists."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in content.items()}
