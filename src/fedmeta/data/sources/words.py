"""Shakespeare's plays: a role's next word, among all words or among its own; a client is a role."""

import re
from collections import Counter

import numpy as np

from fedmeta.data.dataset import FederatedDataset, Info
from fedmeta.data.sequences import OTHER, next_items
from fedmeta.data.sequences import candidates as with_candidates
from fedmeta.data.sources import shakespeare
from fedmeta.errors import UsageError

CLIENTS = shakespeare.CLIENTS
WORD = re.compile(r"[a-z]+(?:['-][a-z]+)*")


def load(
    vocabulary: int = 2000,
    history: int = 1,
    candidates: int | None = None,
    support: float = 0.2,
    min_characters: int = shakespeare.MIN_CHARACTERS,
) -> FederatedDataset:
    """Return the words of each role in the order in which it says them, each with the words before it.

    Args:
        vocabulary: how many of the commonest words of all roles are told apart; all others are "another", the last
            class, which no answer can be.
        history: how many words before are inputs.
        candidates: let a role's classes be its own commonest words, at most so many, of its support set; those of
            the vocabulary where it is not given.
        support: the fraction that is support, from which candidates are taken.
        min_characters: roles with fewer are left out.

    Returns:
        x is float32 of shape [words, history * classes]; y is the word. Support comes first in time, the query after
        it.

    Raises:
        DataError: the files are absent or damaged.
        UsageError: a value is out of range.
    """
    if vocabulary < 1:
        raise UsageError(f"vocabulary must be at least 1, not {vocabulary}")
    spoken = {role: WORD.findall(text.lower()) for role, text in shakespeare.read(min_characters).items()}
    counts = Counter(word for words in spoken.values() for word in words)
    # The commonest first, and equally common ones in their alphabetical order.
    known = sorted(counts, key=lambda word: (-counts[word], word))[:vocabulary]
    places = {word: place for place, word in enumerate(known)}
    items = np.array([places.get(word, len(known)) for words in spoken.values() for word in words], np.int32)
    info = Info(
        name="shakespeare-words",
        description=f"the next word of a role of Shakespeare's, after {history}",
        source="Project Gutenberg's texts of 37 plays; public domain",
        classes=(*known, OTHER),
        misses=True,
    )
    sizes = np.array([len(words) for words in spoken.values()])
    data = next_items(items, sizes, list(spoken), info, history=history)
    return data if candidates is None else with_candidates(data, candidates, support)
