"""Federated meta-learning: clients that may not share data learn a starting point together."""

import importlib
import importlib.util
import sys
import types
import typing

if typing.TYPE_CHECKING:
    from fedmeta import data, errors, events, losses, metrics, models
    from fedmeta.algorithms import FOMAML, MAML, FedAvg, FedAvgMeta, MetaSGD, Reptile
    from fedmeta.engine.plan import Plan
    from fedmeta.evaluate import Report, evaluate
    from fedmeta.model import Model
    from fedmeta.task import Batch, Task
    from fedmeta.train import Run, explain_plan, train

__version__ = "0.1.0"

__all__ = [
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
    "train",
    "Run",
    "Plan",
    "explain_plan",
    "evaluate",
    "Report",
    "events",
    "errors",
]

_HOMES = {
    "Batch": "fedmeta.task",
    "Task": "fedmeta.task",
    "Model": "fedmeta.model",
    "FedAvg": "fedmeta.algorithms",
    "FedAvgMeta": "fedmeta.algorithms",
    "MAML": "fedmeta.algorithms",
    "FOMAML": "fedmeta.algorithms",
    "MetaSGD": "fedmeta.algorithms",
    "Reptile": "fedmeta.algorithms",
    "train": "fedmeta.train",
    "Run": "fedmeta.train",
    "Plan": "fedmeta.engine.plan",
    "explain_plan": "fedmeta.train",
    "evaluate": "fedmeta.evaluate",
    "Report": "fedmeta.evaluate",
}


def __getattr__(name: str) -> typing.Any:
    """Import what is asked for: whoever needs the ledger only does not wait for JAX."""
    if name in _HOMES:
        value = getattr(importlib.import_module(_HOMES[name]), name)
    elif not name.startswith("_") and importlib.util.find_spec(f"fedmeta.{name}"):
        value = importlib.import_module(f"fedmeta.{name}")
    else:
        raise AttributeError(f"module 'fedmeta' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


class _Face(types.ModuleType):
    def __setattr__(self, name: str, value: object) -> None:
        # An import of fedmeta.train would put the module where the function of the same name belongs.
        if isinstance(value, types.ModuleType) and _HOMES.get(name) == value.__name__:
            value = getattr(value, name)
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Face
