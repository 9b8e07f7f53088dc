"""The public face is a contract: exactly these names, with these meanings."""

import inspect
import types

import jax
import numpy as np
import optax
import pytest

import fedmeta as fm
from tests import toys

NAMES = {
    "Batch",
    "Task",
    "Model",
    "losses",
    "metrics",
    "models",
    "data",
    "FedAvg",
    "FedAvgMeta",
    "MAML",
    "FOMAML",
    "MetaSGD",
    "Reptile",
    "ANIL",
    "PerFedAvg",
    "FedProx",
    "FedPer",
    "SCAFFOLD",
    "optimisers",
    "transforms",
    "aggregators",
    "Federation",
    "Simulator",
    "train",
    "Run",
    "Plan",
    "explain_plan",
    "evaluate",
    "Report",
    "save",
    "load",
    "load_run",
    "digest",
    "events",
    "errors",
}


def test_the_face_is_exactly_what_is_promised():
    assert set(fm.__all__) == NAMES
    assert len(fm.__all__) == len(NAMES)
    for name in NAMES:
        assert getattr(fm, name) is not None


def test_nothing_else_is_public():
    """Submodules are reachable, as in any package; any other public name must be in the contract."""
    loose = {
        name for name, value in vars(fm).items() if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }
    assert loose <= NAMES


@pytest.mark.parametrize(
    ("function", "names"),
    [
        (fm.Batch, ["x", "y", "mask"]),
        (fm.Task, ["support", "query"]),
        (fm.Model, ["init", "apply", "loss", "metrics", "needs", "head"]),
        (fm.MAML.update, ["self", "model", "phi", "task", "key", "memory"]),
        (fm.MAML.adapt, ["self", "model", "phi", "support", "key", "memory"]),
        (fm.MAML.init, ["self", "model", "key"]),
        (fm.train, ["algorithm", "model", "data"]),
        (fm.evaluate, ["algorithm", "model", "phi", "data", "support", "seed"]),
        (fm.models.softmax_regression, ["num_features", "num_classes"]),
        (fm.models.mlp, ["sizes"]),
        (fm.models.leaf_cnn, ["num_classes"]),
        (fm.models.char_lstm, ["vocabulary_size", "num_classes"]),
        (fm.data.from_arrays, ["x", "y", "clients"]),
        (fm.data.FederatedDataset.split_clients, ["self", "fractions", "seed"]),
        (fm.data.FederatedDataset.task, ["self", "client_id", "support", "seed"]),
    ],
    ids=lambda value: getattr(value, "__qualname__", ""),
)
def test_positional_arguments_are_as_in_the_contract(function, names):
    parameters = inspect.signature(function).parameters.values()
    assert [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD] == names


def test_defaults_are_as_in_the_contract():
    train = {name: p.default for name, p in inspect.signature(fm.train).parameters.items()}
    assert train["rounds"] is inspect.Parameter.empty
    assert (train["cohort_size"], train["support"], train["seed"], train["directory"]) == (4, 0.2, 0, None)
    evaluate = {name: p.default for name, p in inspect.signature(fm.evaluate).parameters.items()}
    assert (evaluate["support"], evaluate["seed"]) == (0.2, 0)
    task = inspect.signature(fm.data.FederatedDataset.task).parameters
    assert (task["support"].default, task["seed"].default) == (0.2, 0)
    assert inspect.signature(fm.models.leaf_cnn).parameters["num_classes"].default == 62


def test_data_have_the_promised_readers():
    for name in ("load", "names", "from_arrays", "from_table", "from_leaf"):
        assert callable(getattr(fm.data, name))


def test_the_contracts_example_runs():
    """The example of the design, on small data."""
    data = toys.classification((10,) * 10)
    assert (data.num_clients, data.num_examples, len(data.client_ids)) == (10, 100, 10)
    assert isinstance(data[data.client_ids[0]], fm.Batch)
    train, val, test = data.split_clients((0.8, 0.1, 0.1), seed=0)
    assert (train.num_clients, val.num_clients, test.num_clients) == (8, 1, 1)
    client_id = train.client_ids[0]
    task = train.task(client_id, support=0.2, seed=0)
    assert toys.same_bits(task, train.task(client_id, support=0.2, seed=0))

    model = fm.models.softmax_regression(toys.FEATURES, toys.CLASSES)
    algorithm = fm.MAML(inner_lr=0.1, inner_steps=1)
    key = jax.random.key(0)
    phi = algorithm.init(model, key)
    update, _ = algorithm.update(model, phi, task, key)
    assert jax.tree.structure(update.pseudo_gradient) == jax.tree.structure(phi)
    assert float(update.weight) == 1
    assert float(update.metrics["loss"]) == pytest.approx(np.log(toys.CLASSES), abs=0.5)
    assert jax.tree.structure(algorithm.adapt(model, phi, task.support, key)) == jax.tree.structure(phi)

    run = fm.train(
        algorithm,
        model,
        train,
        rounds=2,
        cohort_size=4,
        server=optax.adam(1e-3),
        support=0.2,
        seed=0,
        directory=None,
    )
    assert run.history.num_rows == 2
    report = fm.evaluate(algorithm, model, run.state.phi, test, support=0.2, seed=0)
    assert 0 <= report.accuracy <= 1
    for name in ("client_accuracy", "deciles", "std", "bottom_10_percent", "before", "after", "per_client"):
        assert getattr(report, name) is not None
