"""What holds for every algorithm in the table; a new one is tested by adding a row there."""

import dataclasses
from functools import cache

import jax
import numpy as np
import pytest

import fedmeta as fm
from fedmeta import algorithms
from fedmeta.algorithms import ALGORITHMS
from fedmeta.task import pad
from tests import toys
from tests.examples import cells

KEY = jax.random.key(2)
EVERY = pytest.mark.parametrize("name", ALGORITHMS)
EVERY_WAY = pytest.mark.parametrize(("name", "loop"), cells(toys.EVERY_ALGORITHM[::3], toys.EVERY_ALGORITHM))


def update_of(algorithm, model):
    return toys.update_of(algorithm, model, KEY)


@cache
def downhill(name, model):
    """Where an algorithm starts, a task, its compiled update, and what that gives; two tests look at it."""
    algorithm = toys.algorithm(name, inner_lr=0.05)
    phi, task, update = algorithm.init(model, jax.random.key(0)), toys.task(20, 20), update_of(algorithm, model)
    return phi, task, update, update(phi, task)


@EVERY_WAY
def test_padding_changes_nothing_whatever_it_holds(name, loop, model):
    algorithm = toys.algorithm(name, loop)
    phi = algorithm.init(model, jax.random.key(0))
    task = toys.task(support=5, query=6)
    update = update_of(algorithm, model)
    alone = update(phi, task)
    padded = fm.Task(pad(task.support, 9), pad(task.query, 9))
    toys.assert_close(update(phi, padded), alone)
    garbage = jax.tree.map(np.array, padded)
    for batch in (garbage.support, garbage.query):
        unused = batch.mask == 0
        batch.x[unused], batch.y[unused] = 1e6, 2
    toys.assert_close(update(phi, garbage), alone)
    # Values that pass by multiplication with the mask alone would leave a trace of their size in the last bits.
    assert toys.same_bits(update(phi, garbage), update(phi, padded))


@EVERY
def test_adaptation_ignores_padding(name, model):
    algorithm = toys.algorithm(name, "minibatches" if name == "scaffold" else "epochs")
    phi, memory = algorithm.init(model, jax.random.key(0)), algorithm.memory(model, jax.random.key(0))
    support = toys.task(support=5).support
    adapt = jax.jit(lambda support: algorithm.adapt(model, phi, support, KEY, memory))
    toys.assert_close(adapt(pad(support, 8)), adapt(support))


@EVERY
def test_the_answer_is_a_pytree_like_phi(name, model):
    phi, _, _, update = downhill(name, model)
    assert jax.tree.structure(update.pseudo_gradient) == jax.tree.structure(phi)
    for direction, leaf in zip(jax.tree.leaves(update.pseudo_gradient), jax.tree.leaves(phi), strict=True):
        assert (direction.shape, direction.dtype) == (leaf.shape, leaf.dtype)
    assert set(update.metrics) == {"loss", "accuracy"}


@EVERY
def test_the_weight_is_one_or_the_number_of_examples(name, model):
    task = fm.Task(*(pad(batch, 9) for batch in (toys.task(3, 4).support, toys.task(3, 4).query)))
    for weighting, expected in (("clients", 1), ("examples", 7)):
        if (name, weighting) == ("scaffold", "examples"):
            continue
        assert float(toys.algorithm(name, weighting=weighting).weight(task)) == expected


def test_fedavg_weighs_by_examples_and_meta_learners_by_client():
    assert {name for name, kind in ALGORITHMS.items() if kind().weighting == "examples"} == {
        "fedavg",
        "fedavg-meta",
        "fedprox",
        "fedper",
    }


@EVERY
def test_a_direction_leads_downhill(name, model):
    """A small step along the answer lowers the loss that the algorithm trains on."""
    phi, task, update, first = downhill(name, model)
    stepped = jax.tree.map(lambda p, d: p - 0.01 * d, phi, first.pseudo_gradient)
    assert float(update(stepped, task).metrics["loss"]) < float(first.metrics["loss"])


@EVERY
def test_make_builds_by_name(name):
    made = algorithms.make(name, inner_lr=0.5)
    expected = fm.PerFedAvg(of=fm.MAML(inner_lr=0.5)) if name == "per-fedavg" else ALGORITHMS[name](inner_lr=0.5)
    assert made == expected
    assert dataclasses.replace(made, weighting="clients").name == name


def test_make_names_the_nearest():
    with pytest.raises(fm.errors.UnknownName, match="did you mean 'maml'"):
        algorithms.make("mamml")
    with pytest.raises(fm.errors.UnknownName, match="did you mean 'inner_lr'"):
        algorithms.make("maml", inner_lrr=0.1)


@pytest.mark.parametrize(
    "options", [{"inner_steps": 1.5}, {"inner_steps": 0}, {"inner_epochs": 0}, {"inner_batch_size": True}]
)
def test_training_takes_a_whole_number_of_steps_and_at_least_one(options):
    with pytest.raises((fm.errors.UsageError, TypeError)):
        fm.MAML(**options)


def test_options_of_adaptation_have_no_meaning_without_adaptation():
    with pytest.raises(fm.errors.UsageError, match="does not adapt"):
        fm.FedAvg(adapt_steps=3)
