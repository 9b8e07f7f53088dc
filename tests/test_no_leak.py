"""What must not be seen is not seen: changing it changes no bit of what must not depend on it."""

import jax
import numpy as np
import pytest

import fedmeta as fm
from fedmeta.algorithms import ALGORITHMS
from tests import toys
from tests.examples import cells

KEY = jax.random.key(1)
MODEL = toys.fingerprint_model()
DATA = toys.regression()
ADAPTING = [name for name, kind in ALGORITHMS.items() if kind.adapts]
SUPPORT, SEED = 0.4, 5


def rows_of(data, client, side):
    """Return the rows of one client that are its support or its query examples, found by their values."""
    task = data.task(client, SUPPORT, SEED)
    chosen = np.asarray(getattr(task, side).x)
    rows = toys.client_rows(data, data.position(client))
    return [row for row in rows if (np.asarray(data.x[row]) == chosen).all(axis=1).any()]


def evaluated(algorithm, phi, data):
    return fm.evaluate(algorithm, MODEL, phi, data, support=SUPPORT, seed=SEED)


@pytest.mark.parametrize("name", cells(ADAPTING[::2], ADAPTING))
def test_query_examples_never_influence_adaptation(name):
    algorithm = toys.algorithm(name, "epochs", inner_lr=0.1)
    phi = algorithm.init(MODEL, KEY)
    client = DATA.client_ids[1]
    query, support = rows_of(DATA, client, "query"), rows_of(DATA, client, "support")
    assert sorted([*query, *support]) == toys.client_rows(DATA, 1).tolist()
    plain = evaluated(algorithm, phi, DATA)
    changed = evaluated(algorithm, phi, toys.perturbed(DATA, query))
    for before, after in zip(plain.steps, changed.steps, strict=True):
        # The metric "fingerprint" is a linear form of the adapted parameters.
        np.testing.assert_array_equal(before.values["fingerprint"], after.values["fingerprint"])
    assert plain.after.values["loss"][1] != changed.after.values["loss"][1]
    # The check sees an influence where there is one.
    moved = evaluated(algorithm, phi, toys.perturbed(DATA, support))
    assert plain.after.values["fingerprint"][1] != moved.after.values["fingerprint"][1]


@pytest.mark.parametrize("name", ["maml", "fomaml", "meta-sgd"])
def test_query_examples_never_influence_adaptation_in_training(name):
    algorithm = toys.algorithm(name, "minibatches", inner_lr=0.1)
    phi = algorithm.init(MODEL, KEY)
    update = jax.jit(lambda task: algorithm.update(MODEL, phi, task, KEY, algorithm.memory(MODEL, KEY))[0])
    task = DATA.task("c1", SUPPORT, SEED)
    plain = update(task)
    changed = update(fm.Task(task.support, fm.Batch(task.query.x + 1, task.query.y - 1)))
    moved = update(fm.Task(fm.Batch(task.support.x + 1, task.support.y), task.query))
    assert float(plain.metrics["fingerprint"]) == float(changed.metrics["fingerprint"])
    assert float(plain.metrics["fingerprint"]) != float(moved.metrics["fingerprint"])
    assert not toys.same_bits(plain.pseudo_gradient, changed.pseudo_gradient)


@pytest.mark.parametrize("name", ["maml", "fedavg-meta"])
def test_test_clients_never_influence_training(name):
    algorithm = toys.algorithm(name, inner_lr=0.1)

    def trained(data):
        train, test = data.split_clients((0.5, 0.5), seed=2)
        run = fm.train(algorithm, MODEL, train, rounds=3, cohort_size=3, support=SUPPORT)
        return run.state.phi, train, test

    phi, train, test = trained(DATA)
    unseen = np.concatenate([toys.client_rows(DATA, DATA.position(c)) for c in test.client_ids])
    seen = toys.client_rows(DATA, DATA.position(train.client_ids[0]))
    assert toys.same_bits(phi, trained(toys.perturbed(DATA, unseen))[0])
    assert not toys.same_bits(phi, trained(toys.perturbed(DATA, seen))[0])


@pytest.mark.parametrize("name", ["maml", "meta-sgd"])
def test_no_client_influences_the_evaluation_of_another(name):
    algorithm = toys.algorithm(name, "epochs", inner_lr=0.1)
    phi = algorithm.init(MODEL, KEY)
    plain = evaluated(algorithm, phi, DATA)
    changed = evaluated(algorithm, phi, toys.perturbed(DATA, toys.client_rows(DATA, 2)))
    others = np.arange(DATA.num_clients) != 2
    for point in ("before", "after"):
        for metric in ("loss", "fingerprint"):
            old, new = getattr(plain, point).values[metric], getattr(changed, point).values[metric]
            np.testing.assert_array_equal(old[others], new[others])
        assert getattr(plain, point).values["loss"][2] != getattr(changed, point).values["loss"][2]


def test_training_clients_that_are_not_sampled_have_no_influence():
    algorithm = toys.algorithm("maml", inner_lr=0.1)
    run = fm.train(algorithm, MODEL, DATA, rounds=2, cohort_size=2, support=SUPPORT)
    sampled = {name for cohort in run.history["clients"].to_pylist() for name in cohort}
    rest = [name for name in DATA.client_ids if name not in sampled]
    rows = np.concatenate([toys.client_rows(DATA, DATA.position(name)) for name in rest])
    again = fm.train(algorithm, MODEL, toys.perturbed(DATA, rows), rounds=2, cohort_size=2, support=SUPPORT)
    assert toys.same_bits(run.state, again.state)
