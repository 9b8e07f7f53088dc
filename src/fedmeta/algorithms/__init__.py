"""The algorithms, a file each, and the table that names them: a new one is a file and a row."""

from dataclasses import fields
from typing import Any

from fedmeta.algorithms.algorithm import Algorithm, ClientUpdate
from fedmeta.algorithms.anil import ANIL
from fedmeta.algorithms.fedavg import FedAvg
from fedmeta.algorithms.fedavg_meta import FedAvgMeta
from fedmeta.algorithms.fedper import FedPer
from fedmeta.algorithms.fedprox import FedProx
from fedmeta.algorithms.fomaml import FOMAML
from fedmeta.algorithms.maml import MAML
from fedmeta.algorithms.meta_sgd import MetaSGD
from fedmeta.algorithms.perfedavg import PerFedAvg
from fedmeta.algorithms.reptile import Reptile
from fedmeta.algorithms.scaffold import SCAFFOLD
from fedmeta.errors import UnknownName

__all__ = [
    "ALGORITHMS",
    "ANIL",
    "FOMAML",
    "MAML",
    "SCAFFOLD",
    "Algorithm",
    "ClientUpdate",
    "FedAvg",
    "FedAvgMeta",
    "FedPer",
    "FedProx",
    "MetaSGD",
    "PerFedAvg",
    "Reptile",
    "make",
]

ALGORITHMS: dict[str, type[Algorithm]] = {
    algorithm.name: algorithm
    for algorithm in (
        FedAvg,
        FedAvgMeta,
        MAML,
        FOMAML,
        MetaSGD,
        Reptile,
        ANIL,
        PerFedAvg,
        FedProx,
        FedPer,
        SCAFFOLD,
    )
}
"""Every algorithm by name; tests, the command line and the documentation read this table."""


def make(name: str, **options: Any) -> Algorithm:
    """Return the algorithm of that name with these fields.

    Options that are not fields of `PerFedAvg` go to the algorithm whose steps it takes, by default MAML.

    Raises:
        UsageError: no such algorithm, no such field, or a value out of range.
    """
    if name not in ALGORITHMS:
        raise UnknownName("algorithm", name, ALGORITHMS)
    own = {field.name for field in fields(ALGORITHMS[name])}
    if name == PerFedAvg.name and "of" not in options:
        inner = {option: options.pop(option) for option in list(options) if option not in own}
        options["of"] = make(MAML.name, **inner)
    for option in options:
        if option not in own:
            raise UnknownName(f"option of {name}", option, own)
    return ALGORITHMS[name](**options)
