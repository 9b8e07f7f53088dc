"""Transforms made of others: one after another, and with a memory of what was lost."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from fedmeta._arrays import is_float, wide, wide_type
from fedmeta._settings import said
from fedmeta.errors import UsageError
from fedmeta.transforms.transform import Body, Memory, Transform, key_of, over_floats


@dataclass(frozen=True, init=False)
class chain(Transform):
    """One transform after another, each on what the one before it sends: `chain(a, b)`, or `chain((a, b))`.

    So `chain(clip_by_norm(1.0), gaussian_noise(0.01), fixed_point())`; and after `top_k`, `quantise` makes levels of
    the values that are left. Its memory is the tuple of its parts' memories. A chain within a chain stays one.

    Args:
        parts: transforms, at least one.

    Raises:
        UsageError: no part, or one that is no transform.
    """

    name = "chain"

    parts: tuple[Transform, ...]

    def __init__(self, *each: Any, parts: Sequence[Transform] = ()):
        given = tuple(part for some in (*each, parts) for part in (some if isinstance(some, tuple | list) else (some,)))
        for part in given:
            if not isinstance(part, Transform):
                raise UsageError(f"a part of a chain must be a transform such as quantise(8), not {said(part)}")
        if not given:
            raise UsageError("a chain needs at least one part; identity() sends a tree as it is")
        object.__setattr__(self, "parts", given)

    def init(self, like: Any) -> Memory:
        """Return the memories of the parts."""
        return tuple(part.init(own) for part, own in zip(self.parts, self._likes(like), strict=True))

    def encode(self, tree: Any, memory: Memory, key: Any) -> tuple[Body, Memory]:
        """Return what the last part sends. Each part draws from a key of its own."""
        memories = []
        for place, (part, own) in enumerate(zip(self.parts, memory, strict=True)):
            tree, own = part.encode(tree, own, key_of(key, place))
            memories.append(own)
        return tree, tuple(memories)

    def decode(self, body: Body, like: Any) -> Any:
        """Return the tree, decoded from the last part to the first."""
        for part, own in zip(reversed(self.parts), reversed(self._likes(like)), strict=True):
            body = part.decode(body, own)
        return body

    def body_like(self, like: Any) -> Any:
        """Return the shapes of what the last part sends."""
        return self.parts[-1].body_like(self._likes(like)[-1])

    def check_values(self, body: Body, like: Any) -> None:
        """Check what each part is given, from the last to the first."""
        for part, own in zip(reversed(self.parts), reversed(self._likes(like)), strict=True):
            part.check_values(body, own)
            body = part.decode(body, own)
            self._check_finite(body, "decoded")

    def _likes(self, like: Any) -> list[Any]:
        """Return shapes and types of what each part takes."""
        likes = [like]
        for part in self.parts[:-1]:
            likes.append(part.body_like(likes[-1]))
        return likes


@dataclass(frozen=True)
class error_feedback(Transform):
    """Adds what was lost before to what is sent now (Seide et al., Interspeech 2014; Karimireddy et al., 1901.09847).

    Its memory is (what was lost so far, the memory of `of`): a tree like phi, in float32 at least. What has been
    decoded over all rounds, plus the memory, is what was wanted over all rounds, up to the rounding of floats. It
    belongs around the whole of what loses, as in `error_feedback(chain(top_k(0.1), quantise(4)))`; what must not be
    made good again, clipping and noise, comes before it.

    Args:
        of: any transform.

    Raises:
        UsageError: `of` is no transform.
    """

    name = "error_feedback"

    of: Transform

    def __post_init__(self):
        if not isinstance(self.of, Transform):
            raise UsageError(f"of must be a transform such as top_k(0.1), not {said(self.of)}")

    def init(self, like: Any) -> Memory:
        """Return zeros like the tree, and the memory of `of`."""
        return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, _kept_type(leaf)), like), self.of.init(like)

    def encode(self, tree: Any, memory: Memory, key: Any) -> tuple[Body, Memory]:
        """Return what `of` sends of tree + memory, and what that loses."""
        tree, (lost, inner) = jax.tree.map(jnp.asarray, tree), memory
        wanted = over_floats(lambda _, leaf, __, before: wide(leaf) + before, tree, tree, lost)
        # Sent in the tree's own types, for a message of half precision has its length.
        rounded = jax.tree.map(lambda new, old: new.astype(old.dtype), wanted, tree)
        body, inner = self.of.encode(rounded, inner, key)
        decoded = self.of.decode(body, tree)
        lost = over_floats(lambda _, leaf, __, want, got: want - wide(got), tree, lost, wanted, decoded)
        return body, (lost, inner)

    def decode(self, body: Body, like: Any) -> Any:
        """Return what `of` makes of it."""
        return self.of.decode(body, like)

    def body_like(self, like: Any) -> Any:
        """Return the shapes of what `of` sends."""
        return self.of.body_like(like)

    def check_values(self, body: Body, like: Any) -> None:
        """Check what `of` would."""
        self.of.check_values(body, like)


def _kept_type(leaf: Any) -> Any:
    return wide_type(leaf) if is_float(leaf) else leaf.dtype
