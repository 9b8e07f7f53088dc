"""A client's split into support and query, written step after step as it is defined, one class at a time."""

import hashlib
import json

import numpy as np


def generator(seed, *place):
    """A Philox generator whose key is the SHA-256 of the seed and the place as JSON."""
    digest = hashlib.sha256(json.dumps([seed, *place]).encode()).digest()
    return np.random.Generator(np.random.Philox(key=np.frombuffer(digest[:16], np.uint64)))


def split(y, client, support, seed, max_examples=None, round=0):
    """Return which of a client's examples are support, and which are query, as two lists of places in `y`."""
    y = np.asarray(y)
    draw = generator(seed, "support and query", round, client)
    rows = np.arange(len(y))
    if max_examples is not None and max_examples < len(y):
        rows = np.sort(draw.choice(rows, max(2, max_examples), replace=False))
    y = y[rows]
    chosen = _support(y, support, draw)
    return [row for row, is_in in zip(rows.tolist(), chosen, strict=True) if is_in], [
        row for row, is_in in zip(rows.tolist(), chosen, strict=True) if not is_in
    ]


def _support(y, support, draw):
    count = int(np.clip(round(support * len(y)), 1, len(y) - 1))
    order = draw.permutation(len(y))
    chosen = np.zeros(len(y), bool)
    classes, sizes = np.unique(y, return_counts=True) if y.dtype.kind in "iu" and y.ndim == 1 else ([], np.zeros(1))
    if sizes.min() < 2 or count < len(classes) or len(y) - count < len(classes):
        chosen[order[:count]] = True
        return chosen
    for label, share in zip(classes, shares(sizes, count), strict=True):
        members = [place for place in order if y[place] == label]
        chosen[members[:share]] = True
    return chosen


def shares(sizes, count):
    """How many of `count` go to each class: in proportion, at least one on each side, the largest gap first."""
    sizes = np.asarray(sizes)
    quota = np.clip(sizes * count / sizes.sum(), 1, sizes - 1)
    shares = np.floor(quota).astype(int)
    while shares.sum() != count:
        step = 1 if shares.sum() < count else -1
        room = (shares < sizes - 1) if step > 0 else (shares > 1)
        shares[np.argmax(np.where(room, step * (quota - shares), -np.inf))] += step
    return shares
