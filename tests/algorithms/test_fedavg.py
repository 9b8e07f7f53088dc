"""FedAvg is what its paper says, checked against NumPy."""

import jax
import numpy as np
import optax

import fedmeta as fm
from fedmeta.algorithms.inner import InnerLoop
from tests import toys
from tests.oracles import batches, rounds, softmax

MODEL = fm.models.softmax_regression(toys.FEATURES, toys.CLASSES)


def everything(data):
    return np.asarray(data.x[:]), np.asarray(data.y[:])


def test_one_full_batch_step_of_all_clients_is_a_gradient_step_on_the_pooled_data(data):
    algorithm = fm.FedAvg(inner_lr=0.7, inner_steps=1, inner_batch_size=None)
    run = fm.train(algorithm, MODEL, data, rounds=1, cohort_size=data.num_clients, server=optax.sgd(1.0), support=0.3)
    start = {"weight": np.zeros((toys.FEATURES, toys.CLASSES)), "bias": np.zeros(toys.CLASSES)}
    x, y = everything(data)
    expected = softmax.descend(start, x, y, 0.7, [np.arange(len(y))])
    toys.assert_close(run.state.phi, expected)


def test_rounds_of_local_epochs_agree_with_numpy(data):
    seed, support, lr, size = 4, 0.3, 0.2, 3
    algorithm = fm.FedAvg(inner_lr=lr, inner_epochs=2, inner_batch_size=size)
    run = fm.train(
        algorithm,
        MODEL,
        data,
        rounds=2,
        cohort_size=data.num_clients,
        server=optax.sgd(1.0),
        support=support,
        seed=seed,
    )
    params = {"weight": np.zeros((toys.FEATURES, toys.CLASSES)), "bias": np.zeros(toys.CLASSES)}
    for number in (1, 2):
        local, weights = [], []
        for name in data.client_ids:
            task = data.task(name, support, seed, round=number)
            x, y = (np.concatenate([a, b]) for a, b in ((task.support.x, task.query.x), (task.support.y, task.query.y)))
            order = batches.visited(InnerLoop(None, 2, size), len(y), rounds.keys(seed, number, name))
            local.append(softmax.descend(params, x, y, lr, order))
            weights.append(len(y))
        params = {part: np.average([client[part] for client in local], axis=0, weights=weights) for part in params}
    toys.assert_close(run.state.phi, params, rtol=1e-4, atol=1e-6)


def test_the_reported_loss_is_that_of_the_examples_as_they_were_visited(data):
    name = data.client_ids[1]
    task = data.task(name)
    algorithm = fm.FedAvg(inner_lr=0.2, inner_epochs=1, inner_batch_size=5)
    key = jax.random.key(1)
    params = {"weight": np.zeros((toys.FEATURES, toys.CLASSES)), "bias": np.zeros(toys.CLASSES)}
    phi = jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), params)
    update = jax.jit(lambda phi: algorithm.update(MODEL, phi, task, key)[0])(phi)
    pooled = task.pooled()
    x, y = np.asarray(pooled.x), np.asarray(pooled.y)
    total = 0.0
    for rows in batches.visited(InnerLoop(None, 1, 5), len(y), key):
        total += len(rows) * softmax.loss(params, x[rows], y[rows])
        params = softmax.descend(params, x, y, 0.2, [rows])
    np.testing.assert_allclose(update.metrics["loss"], total / len(y), rtol=1e-5)
