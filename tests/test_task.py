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

    with pytest.raises(fm.errors.UsageError, match=r"x\['age'\] has 2, x\['pair'\]\[0\] has 3, y has 3$"):
        fm.Batch({"pair": (np.zeros((3, 1)),), "age": np.zeros(2)}, np.zeros(3))


@pytest.mark.parametrize("x", [{}, None, (), np.float32(1), {"a": 2.0}])
def test_inputs_without_examples_are_refused(x):
    with pytest.raises(fm.errors.UsageError, match=r"no array|leading axis"):
        fm.Batch(x, np.zeros(1))


def test_a_list_is_the_rows_of_one_array():
    batch = fm.Batch([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], [0, 1, 0])
    assert (batch.x.shape, batch.y.shape, len(batch)) == ((3, 2), (3,), 3)


SEVERAL = {
    "image": np.arange(12.0).reshape(3, 2, 2),
    "rest": (np.array([5, 6, 7]), {"age": np.array([[1.0], [2], [3]])}),
}


def test_rows_are_taken_of_every_input_and_of_the_targets():
    taken = fm.Batch(SEVERAL, np.array([0, 1, 2])).take(np.array([2, 0, 0, 2]), np.array([1.0, 1, 0, 0]))
    assert jax.tree.structure(taken.x) == jax.tree.structure(SEVERAL)
    for part, whole in zip(jax.tree.leaves(taken.x), jax.tree.leaves(SEVERAL), strict=True):
        np.testing.assert_array_equal(part, whole[[2, 0, 0, 2]])
    assert taken.y.tolist() == [2, 0, 0, 2]
    assert taken.mask.tolist() == [1, 1, 0, 0]


def test_several_inputs_are_pooled_each_for_itself():
    batch = fm.Batch(SEVERAL, np.array([0, 1, 2]))
    pooled = fm.Task(batch, batch.take(np.array([1]), np.array([0.0]))).pooled()
    for part, whole in zip(jax.tree.leaves(pooled.x), jax.tree.leaves(SEVERAL), strict=True):
        np.testing.assert_array_equal(part, whole[[0, 1, 2, 1]])
    assert pooled.mask.tolist() == [1, 1, 1, 0]


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
