"""Randomness: one seed, and every draw folded by its purpose and its place (round, client).

A draw depends on nothing else: not on what was drawn before, on the machine, or on how clients were packed.
"""

import hashlib
import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def _digest(seed: int, purpose: str, place: tuple[int | str, ...]) -> bytes:
    return hashlib.sha256(json.dumps([int(seed), purpose, *place]).encode()).digest()


def generator(seed: int, purpose: str, *place: int | str) -> np.random.Generator:
    """Return a NumPy generator for one purpose at one place, for example `(seed, "cohort", round)`."""
    return np.random.Generator(np.random.Philox(key=np.frombuffer(_digest(seed, purpose, place)[:16], np.uint64)))


def key_data(seed: int, purpose: str, *place: int | str) -> np.ndarray:
    """Return the two uint32 words of a JAX threefry key for one purpose at one place; shape [2]."""
    return np.frombuffer(_digest(seed, purpose, place)[:8], np.uint32).copy()


def as_key(words: Any) -> jax.Array:
    """Return the JAX key of two uint32 words (or the keys of [..., 2] of them)."""
    return jax.random.wrap_key_data(jnp.asarray(words))
