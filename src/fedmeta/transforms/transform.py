"""What every transform is: a client's pseudo-gradient into what is sent, and back."""

import abc
from typing import Any, ClassVar

import jax
import numpy as np

from fedmeta._arrays import is_float
from fedmeta.errors import DataError

Memory = Any
"""What a client keeps from one of its rounds to the next: a pytree of arrays, () where nothing is kept."""

Body = Any
"""What is sent: a pytree of arrays. Its bytes are those of its leaves in order, without a header."""


class Transform(abc.ABC):
    """A way to send a tree. All of them are frozen dataclasses: equal by value.

    `like` is always a tree like the one that is sent, of arrays or of anything with a shape and a dtype: whoever reads
    takes no shape from the sender. Leaves that are not real floats pass as they are.
    """

    name: ClassVar[str]
    """The name in tables, files and on the command line."""

    @abc.abstractmethod
    def init(self, like: Any) -> Memory:
        """Return the memory of a client that has sent nothing yet."""

    @abc.abstractmethod
    def encode(self, tree: Any, memory: Memory, key: Any) -> tuple[Body, Memory]:
        """Return what is sent, and what is kept for the next time. On JAX: traceable, with static shapes.

        Args:
            tree: a pytree of arrays.
            memory: from `init`, or from the client's last `encode`.
            key: a typed JAX key; what is drawn follows from it, part by part and leaf by leaf.
        """

    @abc.abstractmethod
    def decode(self, body: Body, like: Any) -> Any:
        """Return the tree that a body stands for. On JAX and on NumPy, with the same bits.

        It has the shapes of `like`. Floats of half precision may come as float32, so that nothing is rounded twice. On
        a body that `check` refuses it may give anything, or fail.
        """

    @abc.abstractmethod
    def body_like(self, like: Any) -> Any:
        """Return shapes and types of what is sent for a tree like this: a pytree of `jax.ShapeDtypeStruct`."""

    @abc.abstractmethod
    def check_values(self, body: Body, like: Any) -> None:
        """Raise a DataError where a body of the right shapes, with finite floats, holds what is never sent."""

    def check(self, body: Body, like: Any) -> None:
        """Raise unless a body from a stranger can be decoded into finite numbers by this procedure.

        Args:
            body: NumPy arrays.
            like: a tree like the one that was to be sent.

        Raises:
            DataError: another structure, shape or type; a float that is not finite, sent or decoded; or a value that no
                `encode` gives.
        """
        self._check_shapes(body, like)
        # Signalling NaNs and products that overflow are found, not warned of.
        with np.errstate(over="ignore", invalid="ignore"):
            self._check_finite(body, "sent")
            self.check_values(body, like)
            self._check_finite(self.decode(body, like), "decoded")

    def _check_shapes(self, body: Body, like: Any) -> None:
        wanted, structure = jax.tree_util.tree_flatten_with_path(self.body_like(like))
        try:
            leaves, given = jax.tree.flatten(body)
        except (TypeError, ValueError) as error:
            raise DataError(f"not a message of {self}: {error}") from None
        if given != structure:
            raise DataError(f"not a message of {self}: its structure is {given}, not {structure}")
        for (path, want), leaf in zip(wanted, leaves, strict=True):
            if not isinstance(leaf, np.ndarray | np.generic):
                raise DataError(f"not a message of {self}: {_name(path)} is a {type(leaf).__name__}, not a NumPy array")
            if leaf.shape != want.shape or leaf.dtype != want.dtype:
                raise DataError(
                    f"not a message of {self}: {_name(path)} has shape {leaf.shape} and type {leaf.dtype}, "
                    f"not {want.shape} and {want.dtype}"
                )

    def _check_finite(self, tree: Any, state: str) -> None:
        for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
            if is_float(leaf) and not np.isfinite(leaf).all():
                raise DataError(f"not a message of {self}: {_name(path)} is not finite as {state}")


class Stateless(Transform):
    """A transform that keeps nothing."""

    def init(self, like: Any) -> Memory:
        """Return ()."""
        return ()


def shape_of(leaf: Any) -> jax.ShapeDtypeStruct:
    """Return the shape and type of a leaf."""
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)


def key_of(key: Any, place: int) -> Any:
    """Return the key of one part or one leaf."""
    return jax.random.fold_in(key, place)


def over_floats(function: Any, tree: Any, *others: Any) -> Any:
    """Return the tree with `function(place, leaf, ...)` in place of each leaf of floats.

    `others` have the tree's structure down to its leaves, and may have more below. A leaf that is not of floats comes
    from the first of `others`, or from the tree where there are none.
    """
    leaves, structure = jax.tree.flatten(tree)
    below = [structure.flatten_up_to(other) for other in others]
    done = [
        function(place, leaf, *rest) if is_float(leaf) else (rest[0] if rest else leaf)
        for place, (leaf, *rest) in enumerate(zip(leaves, *below, strict=True))
    ]
    return jax.tree.unflatten(structure, done)


def _name(path: Any) -> str:
    return repr(jax.tree_util.keystr(path, simple=True, separator="/") or "the only array")
