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
        x: inputs, an array of shape [examples, ...], or several of them in dicts and tuples (any pytree). A list is
            the rows of one array.
        y: targets, shape [examples, ...].
        mask: shape [examples]; 1.0 counts, 0.0 is padding. All ones where it is not given.

    Raises:
        UsageError: the leading axes differ, or an array has none.
    """

    x: Any
    y: Any
    mask: Any

    def __init__(self, x: Any, y: Any, mask: Any = None):
        x, y = (jax.tree.map(_array, part, is_leaf=_is_list) for part in (x, y))
        lengths = {f"x{jax.tree_util.keystr(path)}": part for path, part in jax.tree_util.tree_flatten_with_path(x)[0]}
        lengths = {name: _length(name, part) for name, part in {**lengths, "y": y}.items()}
        if len(lengths) == 1:
            raise UsageError(f"x holds no array, but is {x!r}; a batch needs inputs of shape [examples, ...]")
        if mask is None:
            mask = np.ones(lengths["y"], np.float32)
        else:
            lengths["mask"] = _length("mask", mask)
        if len(set(lengths.values())) > 1:
            said = ", ".join(f"{name} has {length}" for name, length in lengths.items())
            raise UsageError(f"a batch needs as many x as y and mask values, but {said}")
        self.x, self.y, self.mask = x, y, mask

    def __len__(self) -> int:
        return len(self.mask)

    def __repr__(self) -> str:
        return f"Batch(x{jax.tree.map(np.shape, self.x)}, y{np.shape(self.y)}, {len(self)} rows)"

    @property
    def num_examples(self) -> jax.Array:
        """The number of examples that count, as a float array of shape []."""
        return jnp.sum(self.mask)

    def take(self, rows: Any, mask: Any) -> "Batch":
        """Return the batch of these rows.

        Args:
            rows: positions of examples, integers of shape [taken]; a position outside means the nearest end.
            mask: which of them count in the new batch, shape [taken].
        """
        x, y = jax.tree.map(lambda part: jnp.take(part, rows, axis=0, mode="clip"), (self.x, self.y))
        return Batch(x, y, mask)

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
        """Return all examples of the client, support first, as one batch; both have inputs of the same structure."""
        return jax.tree.map(lambda a, b: jnp.concatenate([jnp.asarray(a), jnp.asarray(b)]), self.support, self.query)


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

    return jax.tree.map(extend, batch)


def _is_list(node: Any) -> bool:
    return isinstance(node, list)


def _array(part: Any) -> Any:
    # JAX would treat a list as several inputs, one for each element.
    return np.asarray(part) if isinstance(part, list) else part


def _length(name: str, part: Any) -> int:
    shape = np.shape(part)
    if not shape:
        raise UsageError(f"{name} of a batch needs a leading axis of examples, not the single value {part!r}")
    return shape[0]
