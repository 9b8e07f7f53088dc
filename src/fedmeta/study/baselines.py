"""What a model is set beside: a constant, a client's own support mean, each client alone, and all data pooled.

The first two cost nothing: a model that is worse than one of them has learned nothing that is of use. Each is tested
on the query examples on which the model is.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from fedmeta import optimisers, random
from fedmeta.algorithms import FedAvg, FedAvgMeta
from fedmeta.algorithms.inner import noise
from fedmeta.data import FederatedDataset, columns
from fedmeta.evaluation.scores import Predictions, Report, Scores
from fedmeta.study.experiment import Experiment
from fedmeta.task import Batch

FREE = ("constant", "support")
"""The baselines that cost nothing."""

TITLES = {"constant": "constant", "support": "own support", "alone": "alone", "pooled": "pooled"}
"""The baselines' names for people."""

_MEANING = {
    "constant": "the {} of the training clients",
    "support": "the {} of a client's own support",
    "alone": "the same network, trained on a client's support only",
    "pooled": "the same network, trained on all training clients' data in one place",
}


def meaning(name: str, *, numbers: bool) -> str:
    """Return in words what a baseline is, of numbers or of classes."""
    return _MEANING[name].format("mean target" if numbers else "most frequent class")


ALONE_STEPS, ALONE_RATE = 100, 0.01
"""A client alone takes at most so many steps of Adam at this rate, on its whole support set."""

POOLED_LOOKS, POOLED_STEPS, POOLED_BATCH, POOLED_RATE = 20, 100, 64, 0.003
"""Pooled training takes so many steps of Adam between two looks at the validation clients."""

ANSWERED = 4096
"""Answers that are measured at once."""

Constant = Callable[[np.ndarray], np.ndarray]
"""From targets [examples, ...] to what is answered to every example: logits [classes], or a target [...]."""


def baselines(experiment: Experiment, names: tuple[str, ...] = tuple(TITLES)) -> dict[str, Report]:
    """Return the baselines' reports on the test clients of an experiment, by name.

    Args:
        experiment: its clients, its network, and how a client's examples are split. A network that is trained alone
            or on pooled data starts from a new one.
        names: which, of `TITLES`.
    """
    made = {"constant": constant, "support": own_support, "alone": alone, "pooled": pooled}
    return {name: made[name](experiment) for name in names}


def constant(experiment: Experiment) -> Report:
    """Return the report of one answer to all: the training clients' mean target, or the shares of their classes."""
    answer = _constant(experiment.train)(columns.read(experiment.train.y, experiment.train.rows))
    return _answered(experiment, lambda support: answer)


def own_support(experiment: Experiment) -> Report:
    """Return the report of one answer to each client: its support's mean, or the shares of its support's classes.

    The shares count the training clients' as one more example, which decides where classes come equally often.
    """
    train = experiment.train
    if train.num_classes is None:
        return _answered(experiment, _constant(train))
    prior = np.exp(_constant(train)(columns.read(train.y, train.rows)))

    def shares(support: np.ndarray) -> np.ndarray:
        counts = np.bincount(support.ravel(), minlength=len(prior)) + prior
        return np.log(counts / counts.sum())

    return _answered(experiment, shares)


def alone(experiment: Experiment) -> Report:
    """Return the report of the same network, trained by each client on its own support set only.

    From one new network, with Adam; after how many steps to stop is what was best for the validation clients.
    """
    adam = optimisers.adam(ALONE_RATE)
    algorithm = FedAvgMeta(inner=adam, inner_steps=1, inner_batch_size=None, adapt_steps=ALONE_STEPS)
    phi = _new(experiment)
    steps = experiment.report(phi, experiment.validation, algorithm=algorithm).steps
    best = _best(list(steps[1:])) + 1
    return experiment.report(
        phi, experiment.test, algorithm=replace(algorithm, adapt_steps=best), curve=False, predictions=True
    )


def pooled(experiment: Experiment) -> Report:
    """Return the report of the same network, trained on all training clients' examples as if they were one client's.

    With Adam on shuffled batches, its rate falling to zero by a cosine; of `POOLED_LOOKS` looks at the validation
    clients the best one counts. It does not adapt.
    """
    model, train = experiment.procedure.network, experiment.train
    draw = random.generator(experiment.procedure.seed, "pooled")
    key = random.as_key(random.key_data(experiment.procedure.seed, "pooled"))
    optimiser = optax.adam(optax.cosine_decay_schedule(POOLED_RATE, POOLED_LOOKS * POOLED_STEPS))
    params = _new(experiment)
    state = optimiser.init(params)
    size = min(POOLED_BATCH, train.num_examples)
    shuffled = _batches(train.rows, size, draw)

    @jax.jit
    def steps(params: Any, state: Any, number: Any, x: Any, y: Any) -> tuple[Any, Any, Any]:
        def step(carry: Any, part: Any) -> tuple[Any, None]:
            params, state, number = carry
            batch = Batch(*part)
            gradient = jax.grad(model.mean_loss)(params, batch, noise(model, key, number))
            updates, state = optimiser.update(gradient, state, params)
            return (optax.apply_updates(params, updates), state, number + 1), None

        return jax.lax.scan(step, (params, state, number), (x, y))[0]

    looks, number = [], jnp.zeros((), jnp.int32)
    for _ in range(POOLED_LOOKS):
        rows = np.stack([next(shuffled) for _ in range(POOLED_STEPS)])
        x, y = jax.tree.map(
            lambda part: part.reshape(POOLED_STEPS, size, *part.shape[1:]),
            columns.read((train.x, train.y), rows.ravel()),
        )
        params, state, number = steps(params, state, number, x, y)
        looks.append((params, experiment.report(params, experiment.validation, algorithm=FedAvg(), curve=False).after))
    best = looks[_best([scores for _, scores in looks])][0]
    return experiment.report(best, experiment.test, algorithm=FedAvg(), curve=False, predictions=True)


def _batches(rows: np.ndarray, size: int, draw: np.random.Generator) -> Any:
    """Yield batches of rows without end; each pass shuffles them anew, and drops what fills no batch."""
    while True:
        order = draw.permutation(rows)
        yield from order[: len(order) // size * size].reshape(-1, size)


def _constant(train: FederatedDataset) -> Constant:
    """Return what makes one answer of targets: their mean, or the logarithms of the classes' shares.

    A class that none has counts as one example of all classes together would.
    """
    classes = train.num_classes
    if classes is None:
        return lambda y: y.mean(axis=0, dtype=np.float64)

    def shares(y: np.ndarray) -> np.ndarray:
        counts = np.bincount(y.ravel(), minlength=classes) + 1 / classes
        return np.log(counts / counts.sum())

    return shares


def _answered(experiment: Experiment, answer: Constant) -> Report:
    """Return the report of an answer that depends on the targets of the client's support set alone."""
    procedure, test = experiment.procedure, experiment.test
    model = procedure.network
    targets, answers, supports, ones = [], [], [], []
    usable = np.flatnonzero(test.drawable >= 2)
    for place in usable:
        support, query = test.split_at(
            int(place), procedure.support, procedure.seed, max_examples=procedure.max_examples
        )
        y = columns.read(test.y, query)
        given = np.asarray(answer(columns.read(test.y, support)), np.float32)
        given = np.broadcast_to(given, (*y.shape[: y.ndim - given.ndim + (test.num_classes is not None)], *given.shape))
        targets.append(y)
        answers.append(given)
        ones.append(given[0])
        supports.append(len(support))
    sizes = np.array([len(y) for y in targets])
    each = _measured({"loss": model.loss, **model.metrics}, np.stack(ones), np.concatenate(targets), sizes)
    scores = Scores(each, sizes)
    kept = Predictions(tuple(targets), tuple(answers), tuple(answers))
    names = tuple(str(name) for name in test.ids[usable])
    return Report(scores, scores, names, np.array(supports), (), test.num_clients - len(usable), kept)


def _measured(functions: dict[str, Any], ones: np.ndarray, y: np.ndarray, sizes: np.ndarray) -> dict[str, np.ndarray]:
    """Return each client's mean of each function, with one answer of each client to all its targets, end to end.

    Rows are computed so many at a time, whoever's they are: each new number of rows would be compiled anew.
    """
    owner = np.repeat(np.arange(len(sizes)), sizes)
    sums = {name: np.zeros(len(sizes)) for name in functions}
    for first in range(0, len(y), ANSWERED):
        rows = np.arange(first, first + min(ANSWERED, len(y)))
        kept = len(rows[rows < len(y)])
        rows = np.minimum(rows, len(y) - 1)
        for name, function in functions.items():
            values = np.asarray(function(ones[owner[rows]], y[rows]), np.float64)[:kept]
            sums[name] += np.bincount(owner[rows[:kept]], values, len(sizes))
    return {name: total / sizes for name, total in sums.items()}


def _new(experiment: Experiment) -> Any:
    procedure = experiment.procedure
    return procedure.network.init(random.as_key(random.key_data(procedure.seed, "init")))


def _best(looks: list[Scores]) -> int:
    """Return the place of the best scores over data points, the first of several; one that is not finite is worst."""
    name = looks[0].judged_by
    sign = 1 if name == "accuracy" else -1
    return int(np.argmax(np.nan_to_num([sign * scores.pooled[name] for scores in looks], nan=-np.inf)))
