"""Batches of examples with a mask, and tasks made of a support and a query batch."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedmeta.errors import UsageError


@jax.tree_util.register_pytree_with_keys_class
class Batch:
    """Examples of one client.

    Args:
        x: inputs, shape [examples, ...].
        y: targets, shape [examples, ...].
        mask: shape [examples]; 1.0 counts, 0.0 is padding. All ones where it is not given.

    Raises:
        UsageError: the leading axes differ.
    """

    x: Any
    y: Any
    mask: Any

    def __init__(self, x: Any, y: Any, mask: Any = None):
        lengths = {"x": len(x), "y": len(y)}
        if mask is None:
            mask = np.ones(len(x), np.float32)
        else:
            lengths["mask"] = len(mask)
        if len(set(lengths.values())) > 1:
            said = ", ".join(f"{name} has {length}" for name, length in lengths.items())
            raise UsageError(f"a batch needs as many x as y and mask values, but {said}")
        self.x, self.y, self.mask = x, y, mask

    def __len__(self) -> int:
        return len(self.mask)

    def __repr__(self) -> str:
        return f"Batch(x{np.shape(self.x)}, y{np.shape(self.y)}, {len(self)} rows)"

    @property
    def num_examples(self) -> jax.Array:
        """The number of examples that count, as a float array of shape []."""
        return jnp.sum(self.mask)

    def tree_flatten_with_keys(self) -> tuple[tuple[tuple[Any, Any], ...], None]:
        """Return the three arrays with their names, for JAX."""
        names = ("x", "y", "mask")
        return tuple((jax.tree_util.GetAttrKey(name), getattr(self, name)) for name in names), None

    @classmethod
    def tree_unflatten(cls, _: None, children: Any) -> "Batch":
        """Build a batch from its arrays without checks, for JAX."""
        batch = object.__new__(cls)
        batch.x, batch.y, batch.mask = children
        return batch


@jax.tree_util.register_pytree_with_keys_class
class Task:
    """A client as meta-learning sees it: it adapts on `support` and is judged on `query`."""

    support: Batch
    query: Batch

    def __init__(self, support: Batch, query: Batch):
        self.support, self.query = support, query

    def __repr__(self) -> str:
        return f"Task(support={self.support!r}, query={self.query!r})"

    def tree_flatten_with_keys(self) -> tuple[tuple[tuple[Any, Any], ...], None]:
        """Return the two batches with their names, for JAX."""
        key = jax.tree_util.GetAttrKey
        return ((key("support"), self.support), (key("query"), self.query)), None

    @classmethod
    def tree_unflatten(cls, _: None, children: Any) -> "Task":
        """Build a task from its batches, for JAX."""
        return cls(*children)

    def pooled(self) -> Batch:
        """Return all examples of the client, support first, as one batch."""
        parts = zip(jax.tree.leaves(self.support), jax.tree.leaves(self.query), strict=True)
        return Batch(*(jnp.concatenate([jnp.asarray(a), jnp.asarray(b)]) for a, b in parts))


def pad(batch: Batch, length: int) -> Batch:
    """Return the batch with zeros appended up to `length` examples, their mask 0.0.

    Raises:
        UsageError: the batch is longer than that.
    """
    missing = length - len(batch)
    if missing < 0:
        raise UsageError(f"cannot pad {len(batch)} examples to {length}")

    def extend(array: Any) -> np.ndarray:
        array = np.asarray(array)
        return np.concatenate([array, np.zeros((missing, *array.shape[1:]), array.dtype)])

    return Batch(extend(batch.x), extend(batch.y), extend(batch.mask))
