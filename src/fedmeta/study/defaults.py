"""The default settings for each data set and algorithm.

Those in `TUNED` were chosen on validation clients by `benchmarks/tune.py`, as docs/results.md says; the others usually
work, but a comparison of tuned settings with them would not be fair.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedmeta import random
from fedmeta.data import FederatedDataset
from fedmeta.model import Model

TABLE: dict[str, Any] = {
    "model": "mlp",
    "model_options": {},
    "rounds": 300,
    "support": 0.5,
    "fractions": (0.8, 0.1, 0.1),
    "select": "best",
}
"""The network and the budget where nothing was tuned: tables, folders and drawn data."""

DATA: dict[str, dict[str, Any]] = {
    "digits": {
        "model": "softmax_regression",
        "model_options": {},
        "rounds": 30,
        "cohort_size": 4,
        "support": 0.2,
        "validate_every": 1,
        "select": "last",
        "fractions": (0.5, 0.25, 0.25),
    },
    "flights": {"support": 0.2},
    "shakespeare-words": {"support": 0.2},
    "mnist": {
        "model": "leaf_cnn",
        "model_options": {"filters": (16, 32), "hidden": 128},
        "rounds": 200,
        "cohort_size": 4,
        "support": 0.2,
        "validate_every": 5,
        "select": "last",
    },
    "shakespeare": {
        "model": "char_lstm",
        "model_options": {"hidden": 128, "layers": 1},
        "rounds": 150,
        "max_examples": 50,
        "cohort_size": 4,
        "support": 0.2,
        "validate_every": 25,
        "select": "last",
    },
}
"""The network and the budget for each named data set; `TABLE` for any other."""

GENERAL: dict[str, dict[str, Any]] = {
    "fedavg": {"server": "sgd", "server_lr": 1.0},
    "fedavg-meta": {"server": "sgd", "server_lr": 1.0},
    "reptile": {"server": "sgd", "server_lr": 1.0},
    "maml": {"inner_steps": 3, "server": "adam", "server_lr": 0.003},
    "fomaml": {"inner_steps": 3, "server": "adam", "server_lr": 0.003},
    "meta-sgd": {"inner_steps": 3, "server": "adam", "server_lr": 0.003},
    "anil": {"inner_steps": 3, "server": "adam", "server_lr": 0.003},
    "per-fedavg": {"inner_steps": 1, "server": "sgd", "server_lr": 1.0},
    "fedprox": {"server": "sgd", "server_lr": 1.0},
    "fedper": {"server": "sgd", "server_lr": 1.0},
    "scaffold": {"inner_steps": 5, "inner_batch_size": 10, "server": "sgd", "server_lr": 1.0},
}
"""For each algorithm, what works where nothing was tuned; the inner rate is its own, or `safe_inner_rate`."""

OTHERWISE: dict[str, Any] = {"server": "adam", "server_lr": 0.001}
"""For an algorithm that `GENERAL` does not have."""

TUNED: dict[str, dict[str, dict[str, Any]]] = {
    "digits": {
        "fedavg": {"inner_lr": 0.1, "inner_epochs": 2, "server": "adam", "server_lr": 0.1},
        "fedavg-meta": {
            "inner_lr": 0.1,
            "inner_epochs": 5,
            "adapt_lr": 0.3,
            "adapt_epochs": 5,
            "server": "sgd",
            "server_lr": 0.5,
        },
        "reptile": {
            "inner_lr": 1.0,
            "inner_epochs": 5,
            "adapt_lr": 1.0,
            "adapt_epochs": 10,
            "server": "sgd",
            "server_lr": 0.5,
        },
        "maml": {"inner_lr": 0.3, "inner_steps": 3, "server": "adam", "server_lr": 0.01},
        "fomaml": {"inner_lr": 0.3, "inner_steps": 5, "adapt_steps": 10, "server": "adam", "server_lr": 0.03},
        "meta-sgd": {"inner_lr": 0.3, "inner_steps": 3, "adapt_steps": 10, "server": "adam", "server_lr": 0.03},
    },
    "mnist": {
        "fedavg": {"inner_lr": 0.1, "inner_epochs": 2, "server": "adam", "server_lr": 0.01},
        "fedavg-meta": {
            "inner_lr": 0.1,
            "inner_epochs": 1,
            "adapt_lr": 0.1,
            "adapt_epochs": 10,
            "server": "adam",
            "server_lr": 0.003,
        },
        "maml": {"inner_lr": 0.1, "inner_steps": 1, "adapt_steps": 10, "server": "adam", "server_lr": 0.003},
        "meta-sgd": {"inner_lr": 0.03, "inner_steps": 1, "adapt_steps": 10, "server": "adam", "server_lr": 0.001},
    },
    "shakespeare": {
        "fedavg": {"inner_lr": 0.3, "inner_epochs": 2, "server": "adam", "server_lr": 0.01},
        "fedavg-meta": {
            "inner_lr": 0.3,
            "inner_epochs": 2,
            "adapt_lr": 0.3,
            "adapt_epochs": 10,
            "server": "adam",
            "server_lr": 0.01,
        },
        "maml": {"inner_lr": 0.1, "inner_steps": 3, "adapt_steps": 10, "server": "adam", "server_lr": 0.01},
        "meta-sgd": {"inner_lr": 0.1, "inner_steps": 3, "adapt_steps": 10, "server": "adam", "server_lr": 0.01},
    },
}
"""For each named data set and algorithm, what did best on its validation clients."""

WITH_A_HEAD = ("anil", "fedper")
"""The algorithms that tell the head of a network from its body, which a linear model does not have."""

_SERVER = ("server", "server_lr")

SAMPLED = 256
"""Examples by which a safe inner rate is found."""


def default_settings(data: str, algorithm: str) -> dict[str, Any]:
    """Return the fields of a recipe for a data set (a name or anything else) and an algorithm."""
    values = TUNED.get(data, {}).get(algorithm) or GENERAL.get(algorithm, OTHERWISE)
    options = {name: value for name, value in values.items() if name not in _SERVER}
    settings = {**TABLE, **DATA.get(data, {})}
    if algorithm in WITH_A_HEAD and settings["model"] == "softmax_regression":
        settings |= {"model": "mlp", "model_options": {}}
    return {
        **settings,
        **{name: values[name] for name in _SERVER},
        "algorithm_options": options,
    }


def safe_inner_rate(model: Model, data: FederatedDataset, scale: float, seed: int) -> float:
    """Return an inner rate at which gradient descent on a scaled squared error does not diverge, at a new model.

    The loss is half the mean of ((f(x) - y) / scale)^2, and its Hessian, as far as f is linear in them, the mean of
    g g^T with g the gradient of f(x) / scale. Its largest eigenvalue is at most its trace, the mean of |g|^2, and
    descent is stable below 2 over that eigenvalue; this is a quarter of what the trace allows. For a linear model
    |g|^2 is 1 + |x|^2.

    Args:
        model: predicts one number for each example.
        data: the training clients.
        scale: what the loss divides errors by.
        seed: of the parameters and of the examples that are looked at.
    """
    draw = random.generator(seed, "safe inner rate")
    chosen = np.sort(draw.choice(data.rows, min(SAMPLED, data.num_examples), replace=False))
    params = model.init(random.as_key(random.key_data(seed, "init")))

    def one(x: Any) -> Any:
        gradient = jax.grad(lambda p: model.apply(p, x[None])[0] / scale)(params)
        return sum(jnp.vdot(leaf, leaf) for leaf in jax.tree.leaves(gradient))

    squares = jax.jit(jax.vmap(one))(jnp.asarray(data.x[chosen]))
    return float(f"{1 / (2 * float(squares.mean())):.2g}")
