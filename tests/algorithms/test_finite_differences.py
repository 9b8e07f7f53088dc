"""On networks, the meta-gradient is the slope of the adapted model's query loss.

The loss itself is the only thing taken from the library here; its slope comes from central differences in double
precision.
ReLU and max-pooling have kinks, so the step is small (1e-6, against gaps between activations of about 1e-2)
and the seed fixed: no activation changes sign between the two points, while a wrong gradient would be wrong at
any step.
"""

import jax
import numpy as np
import pytest

import fedmeta as fm
from tests.examples import cells

STEP = 1e-6


def images():
    draw = np.random.default_rng(1)

    def batch(examples):
        return fm.Batch(draw.normal(size=(examples, 28, 28, 1)), draw.integers(3, size=examples))

    return fm.models.leaf_cnn(3, filters=(2, 3), hidden=4), fm.Task(batch(5), batch(3))


def text():
    draw = np.random.default_rng(2)

    def batch(examples):
        return fm.Batch(draw.integers(6, size=(examples, 7)), draw.integers(6, size=examples))

    return fm.models.char_lstm(6, embedding=3, hidden=4), fm.Task(batch(5), batch(3))


ONE_STEP = fm.MAML(inner_lr=0.3)
MINIBATCHES = fm.MAML(inner_lr=0.3, inner_steps=3, inner_batch_size=2)
RATES = fm.MetaSGD(inner_lr=0.3, inner_steps=2)
BY_FILTER, BY_LAYER = (fm.MetaSGD(inner_lr=0.3, inner_steps=2, rates=rates) for rates in ("filter", "layer"))


CASES = {
    "cnn, maml": (images, ONE_STEP),
    "cnn, minibatches": (images, MINIBATCHES),
    "cnn, meta-sgd": (images, RATES),
    "cnn, meta-sgd by filter": (images, BY_FILTER),
    "lstm, meta-sgd by layer": (text, BY_LAYER),
    "lstm, minibatches": (text, MINIBATCHES),
    "lstm, meta-sgd": (text, RATES),
}


@pytest.mark.parametrize("case", cells(["lstm, meta-sgd"], CASES))
def test_the_direction_is_the_slope_of_the_adapted_query_loss(case, x64):
    problem, algorithm = CASES[case]
    model, task = problem()
    phi = algorithm.init(model, jax.random.key(3))
    update = jax.jit(lambda phi: algorithm.update(model, phi, task, jax.random.key(4))[0])
    answer = update(phi).pseudo_gradient
    draw = np.random.default_rng(5)
    # Meta-SGD's two parts of phi are tried alone as well, so that neither hides behind the other.
    parts = [{"params", "inner_lr"}, {"params"}, {"inner_lr"}]
    if not isinstance(algorithm, fm.MetaSGD):
        parts = [None, None, None]
    for part in parts:
        along = jax.tree.map(lambda leaf: draw.normal(size=leaf.shape), phi)
        if part is not None:
            along = {
                name: jax.tree.map(lambda leaf, kept=name in part: leaf * kept, tree) for name, tree in along.items()
            }
        ends = [
            update(jax.tree.map(lambda p, v, s=sign: p + s * STEP * v, phi, along)).metrics["loss"] for sign in (1, -1)
        ]
        slope = (float(ends[0]) - float(ends[1])) / (2 * STEP)
        predicted = sum(
            float(np.vdot(a, v)) for a, v in zip(jax.tree.leaves(answer), jax.tree.leaves(along), strict=True)
        )
        np.testing.assert_allclose(predicted, slope, rtol=1e-5, atol=1e-8)
