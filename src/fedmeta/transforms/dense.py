"""Transforms that send every number as it is: as it was, clipped, or with noise."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from fedmeta._arrays import clipped, wide
from fedmeta._options import keep, real
from fedmeta.transforms.transform import Body, Memory, Stateless, key_of, over_floats, shape_of


class _Dense(Stateless):
    """What is sent is a tree of the same shapes and types."""

    def decode(self, body: Body, like: Any) -> Any:
        """Return the body."""
        return body

    def body_like(self, like: Any) -> Any:
        """Return the shapes of `like`."""
        return jax.tree.map(shape_of, like)

    def check_values(self, body: Body, like: Any) -> None:
        """Any finite number may be sent."""


@dataclass(frozen=True)
class identity(_Dense):
    """Sends the tree as it is."""

    name = "identity"

    def encode(self, tree: Any, memory: Memory, key: Any) -> tuple[Body, Memory]:
        """Return the tree."""
        return tree, memory


@dataclass(frozen=True)
class clip_by_norm(_Dense):
    """Scales a tree down to a norm where it is longer (Abadi et al., arXiv 1607.00133, algorithm 1).

    The norm is the Euclidean one over all floats of the tree together, summed in float32 at least, so that a tree in
    half precision may end up longer by its own rounding. It is the client's promise, not the reader's: who does not
    trust the sender uses `norm_clipped_mean`.

    Args:
        norm: the largest norm that is sent.

    Raises:
        UsageError: `norm` is not positive and finite.
    """

    name = "clip_by_norm"

    norm: float = 1.0

    def __post_init__(self):
        keep(self, norm=real("norm", self.norm, "a positive number", above=0.0))

    def encode(self, tree: Any, memory: Memory, key: Any) -> tuple[Body, Memory]:
        """Return min(1, norm / |tree|) * tree."""
        tree = jax.tree.map(jnp.asarray, tree)
        return jax.tree.map(lambda new, old: new.astype(old.dtype), clipped(tree, self.norm), tree), memory


@dataclass(frozen=True)
class gaussian_noise(_Dense):
    """Adds normal noise of standard deviation `std` to every coordinate (Abadi et al., arXiv 1607.00133, algorithm 1).

    Each client adds its own: the noise in a sum of n clients has the deviation std * sqrt(n), in their plain mean
    std / sqrt(n). Alone it guarantees no privacy. After `clip_by_norm(norm)`, std / norm is the noise multiplier of one
    client's message, and std * sqrt(n) / norm that of a sum which nobody sees before it is summed; what these are worth
    over many rounds is for an accountant to say, and there is none here. The noise hides nothing from whoever can make
    the same key.

    Args:
        std: the deviation, in units of the tree.

    Raises:
        UsageError: `std` is not positive and finite.
    """

    name = "gaussian_noise"

    std: float = 0.01

    def __post_init__(self):
        keep(self, std=real("std", self.std, "a positive number", above=0.0))

    def encode(self, tree: Any, memory: Memory, key: Any) -> tuple[Body, Memory]:
        """Return tree + noise, added in float32 at least."""

        def leaf(place: int, array: Any) -> Any:
            numbers = wide(array)
            noise = jax.random.normal(key_of(key, place), array.shape, numbers.dtype)
            return (numbers + self.std * noise).astype(array.dtype)

        return over_floats(leaf, jax.tree.map(jnp.asarray, tree)), memory
