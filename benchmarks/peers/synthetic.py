"""Synthetic clients from one seeded generator, written once and read by every system.

    python benchmarks/peers/synthetic.py

writes a file for each shape of data that the works need: `x` of shape [clients, examples, ...] and `y` of shape
[clients, examples].
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from works import BENCH, CHARACTERS, CLASSES, FEATURES, GROUPS, VOCABULARY, WORKS, Work

SEED = 20240607


def path(work: Work) -> Path:
    """Return the file that holds a work's clients."""
    kind = {"lstm": "text", "tiny": "features"}.get(work.network, "images")
    return BENCH / f"{kind}-{work.clients}x{work.examples}.npz"


def write(works: Iterable[Work] = WORKS.values()) -> None:
    """Write the files that are not there."""
    BENCH.mkdir(parents=True, exist_ok=True)
    for work in works:
        file = path(work)
        if work.folder is None and not file.exists():
            make = {"lstm": _text, "tiny": _features}.get(work.network, _images)
            x, y = make(np.random.default_rng([SEED, work.clients, work.examples]), work.clients, work.examples)
            unfinished = file.with_suffix(".part.npz")
            np.savez(unfinished, x=x, y=y)
            unfinished.replace(file)


def load(work: Work) -> tuple[np.ndarray, np.ndarray]:
    """Return x and int64 y [clients, examples].

    x is float32 [clients, examples, 28, 28, 1] or [clients, examples, features], or int32 codes [clients, examples,
    characters].
    """
    with np.load(path(work)) as arrays:
        return arrays["x"], arrays["y"]


def _labels(draw: np.random.Generator, clients: int, examples: int, classes: int) -> np.ndarray:
    """Return labels of which each client prefers a few, so that there is something to adapt to."""
    shares = draw.dirichlet(np.full(classes, 0.2), size=clients)
    return np.stack([draw.choice(classes, examples, p=share) for share in shares])


def _images(draw: np.random.Generator, clients: int, examples: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a blurred prototype of the class in noise; a tenth of the labels is wrong, so no loss goes to zero."""
    y = _labels(draw, clients, examples, CLASSES)
    prototypes = np.kron(draw.random((CLASSES, 7, 7), np.float32), np.ones((4, 4), np.float32))
    x = 0.5 * prototypes[y] + 0.5 * draw.random((clients, examples, 28, 28), np.float32)
    wrong = draw.random(y.shape) < 0.1
    return x[..., None], np.where(wrong, draw.integers(CLASSES, size=y.shape), y)


def _text(draw: np.random.Generator, clients: int, examples: int) -> tuple[np.ndarray, np.ndarray]:
    """Return codes, the next of which follows from the last by a rule of the client, or by chance."""
    x = draw.integers(VOCABULARY, size=(clients, examples, CHARACTERS), dtype=np.int32)
    rule = np.stack([draw.permutation(VOCABULARY) for _ in range(clients)])
    y = np.take_along_axis(rule, x[:, :, -1].astype(np.int64), axis=1)
    by_chance = draw.random(y.shape) < 0.2
    return x, np.where(by_chance, draw.integers(VOCABULARY, size=y.shape), y)


def _features(draw: np.random.Generator, clients: int, examples: int) -> tuple[np.ndarray, np.ndarray]:
    """Return Gaussian inputs, labelled by a linear model of each client's own."""
    x = draw.standard_normal((clients, examples, FEATURES), np.float32)
    return x, np.argmax(x @ draw.standard_normal((clients, FEATURES, GROUPS), np.float32), axis=-1)


if __name__ == "__main__":
    write()
