import jax
import numpy as np
import pytest

import fedmeta as fm
from fedmeta.model import masked_mean
from tests import toys


def test_all_examples_count_where_no_mask_is_given():
    batch = fm.Batch(np.zeros((3, 2)), np.zeros(3))
    assert batch.mask.tolist() == [1, 1, 1]
    assert len(batch) == 3


def test_lengths_that_differ_are_named():
    with pytest.raises(fm.errors.UsageError, match=r"x has 3, y has 2$"):
        fm.Batch(np.zeros((3, 2)), np.zeros(2))
    with pytest.raises(fm.errors.UsageError, match="x has 3, y has 3, mask has 4"):
        fm.Batch(np.zeros((3, 2)), np.zeros(3), np.ones(4))


def test_pooled_holds_support_then_query():
    task = toys.task(2, 3)
    pooled = task.pooled()
    np.testing.assert_array_equal(pooled.x, np.concatenate([task.support.x, task.query.x]))
    np.testing.assert_array_equal(pooled.y, np.concatenate([task.support.y, task.query.y]))
    assert len(pooled) == 5


def test_tasks_are_pytrees_with_named_parts():
    task = toys.task()
    paths = [
        jax.tree_util.keystr(path, simple=True, separator="/")
        for path, _ in jax.tree_util.tree_flatten_with_path(task)[0]
    ]
    assert paths == [f"{side}/{part}" for side in ("support", "query") for part in ("x", "y", "mask")]
    assert toys.same_bits(jax.tree.map(lambda leaf: leaf, task), task)


def test_the_masked_mean_counts_what_the_mask_counts():
    values = jax.numpy.array([1.0, 5.0, 9.0])
    assert float(masked_mean(values, np.array([1.0, 0.0, 1.0]))) == 5.0
    assert float(masked_mean(values, np.zeros(3))) == 0.0
