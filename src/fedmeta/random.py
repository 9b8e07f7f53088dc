"""Randomness: one seed, and every draw folded by its purpose and its place (round, client).

A draw depends on nothing else: not on what was drawn before, on the machine, or on how clients were padded.
"""

import hashlib
from json.encoder import encode_basestring_ascii as quoted
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.random.bit_generator import ISeedSequence


def _digest(seed: int, purpose: str, place: tuple[int | str, ...]) -> bytes:
    # A JSON array, written here: JSON's own encoder takes longer than all the rest, and a round has many digests.
    parts = ", ".join([quoted(part) if isinstance(part, str) else str(int(part)) for part in (seed, purpose, *place)])
    return hashlib.sha256(f"[{parts}]".encode()).digest()


class _Words(ISeedSequence):
    """The first bytes of a digest as the words that NumPy asks for.

    Philox uses them as its key. With the same words as `key=` it would ask the machine for entropy first, which takes
    longer than all the rest.
    """

    def __init__(self, digest: bytes):
        self.digest = digest

    def generate_state(self, n_words: int, dtype: Any = np.uint32) -> np.ndarray:
        return np.frombuffer(self.digest, dtype, n_words)


def generator(seed: int, purpose: str, *place: int | str) -> np.random.Generator:
    """Return a NumPy generator for one purpose at one place, for example `(seed, "cohort", round)`."""
    key: Any = _Words(_digest(seed, purpose, place))
    return np.random.Generator(np.random.Philox(key))


def key_data(seed: int, purpose: str, *place: int | str) -> np.ndarray:
    """Return the two uint32 words of a JAX threefry key for one purpose at one place; shape [2]."""
    return np.frombuffer(_digest(seed, purpose, place)[:8], np.uint32).copy()


def as_key(words: Any) -> jax.Array:
    """Return the JAX key of two uint32 words (or the keys of [..., 2] of them), threefry whatever JAX's default is."""
    return jax.random.wrap_key_data(jnp.asarray(words), impl="threefry2x32")


def default_key() -> jax.Array:
    """Return a key for uses where only shapes matter."""
    return as_key(np.zeros(2, np.uint32))
