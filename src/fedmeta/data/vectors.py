"""Words as frozen vectors, from a file in the form of GloVe's (Pennington et al. 2014, doi 10.3115/v1/D14-1162)."""

import gzip
import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fedmeta.errors import DataError, UsageError

WORDS = 25
"""Words of a text that count where nothing is said, as in LEAF and in arXiv:1802.07876."""

WORD = re.compile(r"[\w']+|[.,!?;]")
"""What LEAF takes for a word of a tweet."""


def looked_up(texts: Sequence[str], path: str | os.PathLike[str], words: int = WORDS) -> tuple[np.ndarray, np.ndarray]:
    """Return the places of the texts' words in a table of vectors, and that table.

    Only vectors of words that occur are kept. Words are compared in lower case.

    Args:
        texts: any texts.
        path: a file with a word and its numbers on each line, between blanks; it may be packed, its name ending in .gz.
        words: how many words of a text count, the first ones.

    Returns:
        int32 of shape [texts, words], 0 for a word without a vector and beyond the end of a text; and float32 of shape
        [vectors, numbers], whose first row is zeros.

    Raises:
        DataError: the file is absent or of another form, or has none of the words.
        UsageError: `words` is below 1.
    """
    if words < 1:
        raise UsageError(f"words must be at least 1, not {words}")
    spoken = [WORD.findall(text.lower())[:words] for text in texts]
    found, table = _vectors(Path(path), {word for text in spoken for word in text})
    codes = np.zeros((len(spoken), words), np.int32)
    for row, text in enumerate(spoken):
        codes[row, : len(text)] = [found.get(word, 0) for word in text]
    return codes, table


def _vectors(path: Path, wanted: set[str]) -> tuple[dict[str, int], np.ndarray]:
    """Return the place of each word that has a vector, and the vectors."""
    found: dict[str, int] = {}
    rows: list[np.ndarray] = []
    numbers = 0
    try:
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
            for line, text in enumerate(file, 1):
                word, _, rest = text.rstrip().partition(" ")
                if numbers and word not in wanted:
                    continue
                row = np.array(rest.split(), np.float32)
                numbers = numbers or len(row)
                if len(row) != numbers or not numbers or not np.isfinite(row).all():
                    raise DataError(f"{path}, line {line}: {len(row)} numbers after {word[:30]!r}, not {numbers or 1}")
                if word in wanted and word not in found:
                    found[word] = len(rows) + 1
                    rows.append(row)
    except (OSError, EOFError, ValueError) as error:
        raise DataError(f"{path} is no file of word vectors ({error})") from error
    if not found:
        raise DataError(f"{path} has a vector for none of the {len(wanted):,} words")
    return found, np.concatenate([np.zeros((1, numbers), np.float32), np.stack(rows)])
