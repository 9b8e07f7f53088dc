"""The inner loop visits the examples it promises to visit."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fedmeta as fm
from fedmeta.algorithms.inner import InnerLoop, Start
from tests import toys
from tests.oracles.batches import visited

KEY = jax.random.key(3)


@settings(max_examples=8)
@given(st.integers(1, 7), st.integers(1, 4), st.integers(1, 3))
def test_every_pass_visits_every_example_once_and_its_last_batch_takes_what_is_left(examples, size, epochs):
    steps = visited(InnerLoop(None, epochs, size), examples, KEY)
    a_pass = -(-examples // size)
    assert len(steps) == epochs * a_pass
    for first in range(0, len(steps), a_pass):
        one = steps[first : first + a_pass]
        assert sorted(np.concatenate(one)) == list(range(examples))
        assert all(len(rows) == size for rows in one[:-1])


def test_counted_steps_go_on_into_a_new_pass():
    steps = visited(InnerLoop(5, None, 2), 6, KEY)
    assert [len(rows) for rows in steps] == [2] * 5
    assert sorted(np.concatenate(steps[:3])) == list(range(6))
    assert len(set(np.concatenate(steps[3:]))) == 4


def test_passes_are_shuffled_anew_and_clients_draw_apart():
    loop = InnerLoop(None, 2, 1)
    order = np.concatenate(visited(loop, 8, KEY))
    other = np.concatenate(visited(loop, 8, jax.random.key(4)))
    assert order[:8].tolist() != order[8:].tolist()
    assert order.tolist() != other.tolist()


def test_padding_changes_no_batch():
    for loop in (InnerLoop(None, 2, 3), InnerLoop(5, None, 3)):
        alone = visited(loop, 7, KEY)
        padded = visited(loop, 7, KEY, padding=4)
        assert [rows.tolist() for rows in alone] == [rows.tolist() for rows in padded]


def test_without_a_batch_size_each_step_takes_all_examples():
    for loop in (InnerLoop(3), InnerLoop(None, 3)):
        assert [rows.tolist() for rows in visited(loop, 4, KEY)] == [[0, 1, 2, 3]] * 3


def test_no_step_leaves_the_parameters():
    model = toys.network()
    params = model.init(KEY)
    descent = InnerLoop(0).run(
        model, Start(params, fm.optimisers.sgd(0.1)), toys.task().support, KEY, probe=lambda p: p
    )
    assert toys.same_bits(descent.params, params)
    assert all(len(leaf) == 1 for leaf in jax.tree.leaves(descent.probes))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"inner_lr": 0.0}, "inner_lr must be a positive number, not 0.0"),
        ({"inner_lr": float("inf")}, "inner_lr"),
        ({"adapt_lr": -1.0}, "adapt_lr must be a positive number, not -1.0"),
        ({"inner_steps": 1, "inner_epochs": 1}, "either steps or epochs"),
        ({"inner_steps": -1}, "cannot be negative"),
        ({"inner_batch_size": 0}, "at least 1 example, not 0"),
    ],
)
def test_an_option_out_of_range_is_named(options, said):
    with pytest.raises(fm.errors.UsageError, match=said):
        fm.MAML(**options)
