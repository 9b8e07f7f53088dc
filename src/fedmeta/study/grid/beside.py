"""What a study tests beside trained models: what needs no federated training, and what a model becomes without more."""

from collections.abc import Callable
from typing import Any

from fedmeta.evaluation.scores import Report
from fedmeta.study import baselines, on_top, untrained
from fedmeta.study.answers import Sides
from fedmeta.study.experiment import Experiment
from fedmeta.study.mixed_model import mixed_model

MIXES, SCALES, PRIORS = (0.1, 0.3, 0.5, 0.7, 0.9), (0.1, 1.0, 10.0), (0.1, 1.0, 10.0)
"""Of kNN-Per and of the prior from the support set, what validation clients choose from."""


def sides(experiment: Experiment) -> Sides:
    """Return how the clients of an experiment are split."""
    procedure = experiment.procedure
    return Sides(support=procedure.support, seed=procedure.seed, max_examples=procedure.max_examples)


def _most_recent(experiment: Experiment) -> Report:
    return untrained.most_recent(experiment.test, sides(experiment))


def _most_frequent(experiment: Experiment) -> Report:
    return untrained.most_frequent(experiment.test, experiment.train, sides(experiment))


def _chain(experiment: Experiment) -> Report:
    train, how = experiment.train, sides(experiment)
    best = untrained.best_of(
        untrained.GRID, lambda value: untrained.markov_chain(experiment.validation, train, how, backoff=value)
    )
    return untrained.markov_chain(experiment.test, train, how, backoff=best)


def _naive_bayes(experiment: Experiment) -> Report:
    train, how = experiment.train, sides(experiment)
    best = untrained.best_of(
        untrained.GRID, lambda value: untrained.naive_bayes(experiment.validation, train, how, prior=value)
    )
    return untrained.naive_bayes(experiment.test, train, how, prior=best)


def _mixed_model(experiment: Experiment) -> Report:
    return mixed_model(experiment.test, experiment.train, sides(experiment))


UNTRAINED: dict[str, Callable[[Experiment], Report]] = {
    "majority": baselines.constant,
    "own-support": baselines.own_support,
    "alone": baselines.alone,
    "pooled": baselines.pooled,
    "most-recent": _most_recent,
    "most-frequent": _most_frequent,
    "chain": _chain,
    "naive-bayes": _naive_bayes,
    "mixed-model": _mixed_model,
}
"""What answers without federated training, by name; settings are chosen on validation clients."""


def _masked(experiment: Experiment, params: Any) -> Report:
    return on_top.masked(experiment.procedure.network, params, experiment.test, sides(experiment))


def _prior(experiment: Experiment, params: Any) -> Report:
    network, train, how = experiment.procedure.network, experiment.train, sides(experiment)
    best = untrained.best_of(
        PRIORS, lambda value: on_top.with_prior(network, params, experiment.validation, train, how, prior=value)
    )
    return on_top.with_prior(network, params, experiment.test, train, how, prior=best)


def _knn_per(experiment: Experiment, params: Any) -> Report:
    network, how = experiment.procedure.network, sides(experiment)
    tried = {
        (mix, scale): on_top.knn_per(network, params, experiment.validation, how, mix=mix, scale=scale).accuracy
        for mix in MIXES
        for scale in SCALES
    }
    mix, scale = max(tried, key=lambda one: tried[one])
    return on_top.knn_per(network, params, experiment.test, how, mix=mix, scale=scale)


ALSO: dict[str, Callable[[Experiment, Any], Report]] = {"masked": _masked, "prior": _prior, "knn-per": _knn_per}
"""What a trained model becomes without more training, by name; settings are chosen on validation clients."""
