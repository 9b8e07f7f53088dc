"""A data set from LEAF's JSON files (Caldas et al. 2018, arXiv:1812.01097)."""

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fedmeta.data.arrays import from_arrays
from fedmeta.data.dataset import FederatedDataset
from fedmeta.errors import DataError

IMAGE = 28 * 28


def from_leaf(folder: str | os.PathLike[str], classes: int | Sequence[str] | None = None) -> FederatedDataset:
    """Return a data set from a folder of LEAF JSON files; `train/` and `test/` inside it are merged per user.

    Args:
        folder: holds `*.json`, or `train/*.json` and `test/*.json`.
        classes: the number of classes or their names (62 for FEMNIST); up to the largest label by default.
            For text with a character as target the classes are the characters.

    Returns:
        Rows of 784 numbers (FEMNIST) become x of shape [examples, 28, 28, 1], other rows [examples, numbers],
        both float32. Text of equal length (Shakespeare) becomes int32 codes of shape [examples, characters],
        their characters in `info.characters`.

    Raises:
        DataError: there are no files, or one is broken or does not hold what it says; file and user are
            named.
    """
    path = Path(folder)
    files = [file for part in (path, path / "train", path / "test") for file in sorted(part.glob("*.json"))]
    if not files:
        raise DataError(f"{path} holds no LEAF data: no *.json in it, in train/ or in test/")
    users: dict[str, list[tuple[list, list]]] = {}
    for file in files:
        for user, x, y in _users(file):
            users.setdefault(user, []).append((x, y))
    rows = {user: [row for x, _ in parts for row in x] for user, parts in users.items()}
    targets = [target for parts in users.values() for _, y in parts for target in y]
    owners = np.repeat(np.array(list(rows), str), [len(part) for part in rows.values()])
    if not targets:
        raise DataError(f"{path} holds users, but no examples")
    characters = None
    if all(isinstance(row, str) for part in rows.values() for row in part):
        letters = [target for target in targets if isinstance(target, str)]
        characters = "".join(
            sorted({letter for part in rows.values() for row in part for letter in row} | set(letters))
        )
        x, y, classes = _text(path, rows, targets, characters, classes)
    else:
        x, y = _numbers(path, rows), _labels(path, targets)
    if y.dtype.kind == "i" and classes is None:
        classes = int(y.max()) + 1
    data = from_arrays(x, y, owners, classes=classes, name=path.name)
    return replace(data, info=replace(data.info, source="LEAF JSON", characters=characters))


def _users(file: Path) -> list[tuple[str, list, list]]:
    """Return name, inputs and targets of each user of a file."""
    try:
        content = json.loads(file.read_text("utf-8"))
    except (ValueError, OSError) as error:
        raise DataError(f"{file} is no whole JSON file: {error}") from error
    if not isinstance(content, dict) or not {"users", "user_data"} <= set(content):
        raise DataError(f"{file} is no LEAF file: it needs users, num_samples and user_data")
    names, held = content["users"], content["user_data"]
    counts = content.get("num_samples", [None] * len(names))
    if len(counts) != len(names):
        raise DataError(f"{file} lists {len(names)} users, but {len(counts)} in num_samples")
    found = []
    for user, count in zip(names, counts, strict=True):
        where = f"{file}, user {user!r}"
        try:
            x, y = held[user]["x"], held[user]["y"]
        except (KeyError, TypeError):
            raise DataError(f"{where}: user_data has no x and y for this user") from None
        if not isinstance(x, list) or not isinstance(y, list) or len(x) != len(y):
            raise DataError(f"{where}: x and y must be lists of one length")
        if count is not None and count != len(y):
            raise DataError(f"{where}: num_samples says {count}, but there are {len(y)} examples")
        if any(isinstance(row, list) and any(isinstance(value, str) for value in row) for row in x[:1]):
            raise DataError(
                f"{where}: x holds rows of text fields, as Sent140's tweets; "
                "they need word vectors, which are not "
                "supported yet: turn each text into numbers first and use from_arrays"
            )
        found.append((str(user), x, y))
    return found


def _numbers(path: Path, rows: dict[str, list]) -> np.ndarray:
    parts = []
    for user, part in rows.items():
        try:
            array = np.asarray(part, np.float32)
        except (ValueError, TypeError) as error:
            raise DataError(f"{path}, user {user!r}: x is not rows of numbers of one length") from error
        if parts and len(array) and array.shape[1:] != parts[0].shape[1:]:
            raise DataError(
                f"{path}, user {user!r}: x has rows of shape {array.shape[1:]}, "
                f"others have {parts[0].shape[1:]}"
            )
        if len(array):
            parts.append(array)
    x = np.concatenate(parts)
    return x.reshape(-1, 28, 28, 1) if x.shape[1:] == (IMAGE,) else x


def _labels(path: Path, targets: list) -> np.ndarray:
    kinds = {type(target) for target in targets}
    if kinds <= {int}:
        return np.array(targets, np.int64)
    if kinds <= {int, float}:
        return np.array(targets, np.float32)
    if kinds <= {str}:
        return np.array(targets, str)
    said = ", ".join(sorted(kind.__name__ for kind in kinds))
    raise DataError(f"{path}: y holds values of the types {said}; targets are numbers or text")


def _text(
    path: Path, rows: dict[str, list], targets: list, characters: str, classes: Any
) -> tuple[np.ndarray, np.ndarray, Any]:
    length = len(next(part for part in rows.values() if part)[0])
    for user, part in rows.items():
        for row in part:
            if len(row) != length:
                raise DataError(
                    f"{path}, user {user!r}: a text of {len(row)} characters, where others have {length}"
                )
    if length == 0:
        raise DataError(f"{path}: the texts in x are empty")
    alphabet = np.array([ord(letter) for letter in characters])
    texts = [row for part in rows.values() for row in part]
    codes = np.searchsorted(alphabet, _points("".join(texts))).astype(np.int32).reshape(len(texts), length)
    if any(not isinstance(target, str) or len(target) != 1 for target in targets):
        return codes, _labels(path, targets), classes
    y = np.searchsorted(alphabet, _points("".join(targets))).astype(np.int32)
    # Characters are numbered here, so their names go by place even where all of them are digits.
    return codes, y, len(characters) if classes is None else classes


def _points(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le"), np.uint32)
