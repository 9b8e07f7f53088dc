"""Federated meta-learning: clients that may not share data learn a starting point together."""

import importlib
import importlib.util
import typing

if typing.TYPE_CHECKING:
    from fedmeta import aggregators, data, errors, events, losses, metrics, models, optimisers, transforms
    from fedmeta._engine.plan import Plan
    from fedmeta.algorithms import (
        ANIL,
        FOMAML,
        MAML,
        SCAFFOLD,
        FedAvg,
        FedAvgMeta,
        FedPer,
        FedProx,
        MetaSGD,
        PerFedAvg,
        Reptile,
    )
    from fedmeta.evaluation.evaluator import evaluate
    from fedmeta.evaluation.scores import Report
    from fedmeta.federation import Federation
    from fedmeta.model import Model
    from fedmeta.pytrees import digest, load, save
    from fedmeta.runs.loop import Run, explain_plan, train
    from fedmeta.runs.saved import load_run
    from fedmeta.simulation.simulator import Simulator
    from fedmeta.task import Batch, Task

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
    "ANIL": "fedmeta.algorithms",
    "PerFedAvg": "fedmeta.algorithms",
    "FedProx": "fedmeta.algorithms",
    "FedPer": "fedmeta.algorithms",
    "SCAFFOLD": "fedmeta.algorithms",
    "Federation": "fedmeta.federation",
    "Simulator": "fedmeta.simulation.simulator",
    "train": "fedmeta.runs.loop",
    "Run": "fedmeta.runs.loop",
    "Plan": "fedmeta._engine.plan",
    "explain_plan": "fedmeta.runs.loop",
    "save": "fedmeta.pytrees",
    "load": "fedmeta.pytrees",
    "digest": "fedmeta.pytrees",
    "load_run": "fedmeta.runs.saved",
    "evaluate": "fedmeta.evaluation.evaluator",
    "Report": "fedmeta.evaluation.scores",
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
