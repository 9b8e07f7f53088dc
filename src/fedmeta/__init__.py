"""Federated meta-learning: clients that may not share data learn a starting point together."""

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
