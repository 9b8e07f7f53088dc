"""A data set from LEAF's JSON files (Caldas et al. 2018, arXiv:1812.01097)."""

import json
import os
import re
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, SupportsIndex

import numpy as np

from fedmeta.data.arrays import from_arrays
from fedmeta.data.columns import LookedUp
from fedmeta.data.dataset import FederatedDataset
from fedmeta.data.labels import encode, need_two
from fedmeta.data.vectors import WORDS, looked_up
from fedmeta.errors import DataError, UsageError

IMAGE = 28 * 28
TEXT = 4
"""Where a row of Sent140 has its text."""
FILE = re.compile(r"\S*\w\.(jpe?g|png|gif|bmp|tiff?|webp|npy|npz|wav|mp3|flac|mp4|avi|txt|json|csv)", re.IGNORECASE)


def from_leaf(
    folder: str | os.PathLike[str],
    classes: SupportsIndex | Sequence[str] | None = None,
    *,
    vectors: str | os.PathLike[str] | None = None,
    words: int = WORDS,
) -> FederatedDataset:
    """Return a data set from a folder of LEAF JSON files; `train/` and `test/` inside it are merged per user.

    Args:
        folder: holds `*.json`, or `train/*.json` and `test/*.json`.
        classes: the number of classes or their names (62 for FEMNIST), if these labels may not include
            all of them. Without it labels with gaps are numbered in sorted order, and keep their names. For
            text with a character as target the classes are the characters.
        vectors: for Sent140, a file of word vectors in the form of GloVe's, a word and its numbers on each line.
        words: of a text of Sent140, how many count; a shorter one is filled with zeros.

    Returns:
        Rows of 784 numbers (FEMNIST) become x of shape [examples, 28, 28, 1], other rows [examples, numbers],
        both float32. Text of equal length (Shakespeare) becomes int32 codes of shape [examples, characters],
        their characters in `info.characters`. Tweets (Sent140) become float32 of shape [examples, words, numbers], the
        vectors of their words in lower case, zeros for a word that has none; they are looked up when they are read.

    Raises:
        DataError: there are no files, or one is broken or does not hold what it says; file and user are
            named. Also where x holds names of files (CelebA), or text fields (Sent140) and there are no vectors, and
            where all targets are of one class, unless `classes` are given.
        UsageError: classes are given for text whose targets are characters, or `vectors` for what is no text fields.
    """
    path = Path(folder)
    files = [file for part in (path, path / "train", path / "test") for file in sorted(part.glob("*.json"))]
    if not files:
        raise DataError(f"{path} holds no LEAF data: no *.json in it, in train/ or in test/")
    users: dict[str, list[tuple[list, list]]] = {}
    for file in files:
        for user, x, y in _users(file, vectors is not None):
            users.setdefault(user, []).append((x, y))
    rows = {user: [row for x, _ in parts for row in x] for user, parts in users.items()}
    targets = [target for parts in users.values() for _, y in parts for target in y]
    owners = [user for user, part in rows.items() for _ in part]
    if not targets:
        raise DataError(f"{path} holds users, but no examples")
    if idle := [user for user, part in rows.items() if not part]:
        warnings.warn(
            f"{len(idle)} of {len(rows)} users of {path} have no examples and are left out, {idle[0]!r} among them",
            stacklevel=2,
        )
    characters = names = y = table = None
    if vectors is not None:
        x, table = looked_up(_texts(path, rows), vectors, words)
    elif all(isinstance(row, str) for part in rows.values() for row in part):
        letters = {letter for part in rows.values() for row in part for letter in row}
        follows = all(isinstance(target, str) and len(target) == 1 for target in targets)
        characters = "".join(sorted(letters | set(targets) if follows else letters))
        x = _codes(path, rows, characters)
        if follows and classes is not None:
            raise UsageError(f"{path} holds text and the character that follows: the characters are the classes")
        if follows:
            y, names = _places("".join(targets), characters), tuple(characters)
            need_two(names, f"y of {path}")
    else:
        x = _numbers(path, rows)
    if y is None:
        y, names = encode(_labels(path, targets), classes, f"y of {path}")
    data = from_arrays(x, y, owners, classes=None if names is None else len(names), name=path.name)
    x = data.x if table is None else LookedUp(data.x, table)
    return replace(data, x=x, info=replace(data.info, source="LEAF JSON", characters=characters, classes=names))


def _users(file: Path, embeds: bool = False) -> list[tuple[str, list, list]]:
    """Return name, inputs and targets of each user of a file."""
    try:
        content = json.loads(file.read_text("utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        raise DataError(f"{file} is no whole JSON file: {error}") from error
    if not isinstance(content, dict) or not {"users", "user_data"} <= set(content):
        raise DataError(f"{file} is no LEAF file: it needs users, num_samples and user_data")
    names, held = content["users"], content["user_data"]
    if not isinstance(names, list) or not isinstance(held, dict):
        raise DataError(f"{file} is no LEAF file: users must be a list and user_data an object")
    counts = content.get("num_samples", [None] * len(names))
    if not isinstance(counts, list):
        raise DataError(f"{file} is no LEAF file: num_samples must be a list, not {counts!r:.40}")
    twice = [user for user, times in Counter(map(str, names)).items() if times > 1]
    if twice:
        raise DataError(f"{file} lists the user {twice[0]!r} twice")
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
        if wrong := {type(target).__name__ for target in y} - {"int", "float", "str"}:
            raise DataError(f"{where}: y holds values of the type {min(wrong)}; targets are numbers or text")
        large = [target for target in y if isinstance(target, int) and not -(2**63) <= target < 2**63]
        if large:
            raise DataError(
                f"{where}: y holds the label {str(large[0])[:30]}, beyond 64 bits; write such labels as text"
            )
        if count is not None and count != len(y):
            raise DataError(f"{where}: num_samples says {count}, but there are {len(y)} examples")
        firsts = [_first(row) for row in x]
        if firsts and all(isinstance(text, str) and FILE.fullmatch(text) for text in firsts):
            raise DataError(
                f"{where}: x holds names of files, such as {firsts[0]!r}, as for CelebA's images; "
                "read the files, turn each into numbers and use from_arrays"
            )
        fields = firsts and all(
            isinstance(text, str) and isinstance(row, list) for text, row in zip(firsts, x, strict=True)
        )
        if fields and not embeds:
            raise DataError(
                f"{where}: x holds rows of text fields, as Sent140's tweets; they need word vectors: give a file of "
                "GloVe's as vectors=..."
            )
        found.append((str(user), x, y))
    return found


def _first(row: Any) -> Any:
    """Return the first value in a row of nested lists."""
    while isinstance(row, list) and row:
        row = row[0]
    return row


def _texts(path: Path, rows: dict[str, list]) -> list[str]:
    """Return the text of each row of Sent140: number, date, query, author, text, and more."""
    texts = []
    for user, part in rows.items():
        for row in part:
            if not isinstance(row, list) or len(row) <= TEXT or not isinstance(row[TEXT], str):
                raise UsageError(
                    f"{path}, user {user!r}: word vectors are for tweets, rows of fields with a text in the fifth, "
                    f"not for {str(row)[:40]!r}"
                )
            texts.append(row[TEXT])
    return texts


def _numbers(path: Path, rows: dict[str, list]) -> np.ndarray:
    parts = []
    for user, part in rows.items():
        try:
            array = np.asarray(part)
        except (ValueError, OverflowError) as error:
            raise DataError(f"{path}, user {user!r}: x is not rows of numbers of one length") from error
        if array.dtype.kind not in "iufb":
            raise DataError(f"{path}, user {user!r}: x is not rows of numbers only")
        with np.errstate(over="ignore"):
            array = array.astype(np.float32)
        if parts and len(array) and array.shape[1:] != parts[0].shape[1:]:
            raise DataError(
                f"{path}, user {user!r}: x has rows of shape {array.shape[1:]}, others have {parts[0].shape[1:]}"
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


def _codes(path: Path, rows: dict[str, list], characters: str) -> np.ndarray:
    """Return the texts as positions in `characters`, shape [texts, length]."""
    texts = [text for part in rows.values() for text in part]
    for user, part in rows.items():
        for text in part:
            if len(text) != len(texts[0]):
                raise DataError(
                    f"{path}, user {user!r}: a text of {len(text)} characters, where others have {len(texts[0])}"
                )
    if not texts[0]:
        raise DataError(f"{path}: the texts in x are empty")
    return _places("".join(texts), characters).reshape(len(texts), len(texts[0]))


def _places(text: str, characters: str) -> np.ndarray:
    """Return the position of each character of a text in the sorted `characters`, int32."""
    alphabet, points = (
        np.frombuffer(part.encode("utf-32-le", "surrogatepass"), np.uint32) for part in (characters, text)
    )
    return np.searchsorted(alphabet, points).astype(np.int32)
