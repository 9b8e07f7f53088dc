"""The algorithms, a file each, and the table that names them: adding one is adding a file and a row."""

from dataclasses import fields
from typing import Any

from fedmeta.algorithms.algorithm import Algorithm, ClientUpdate
from fedmeta.algorithms.fedavg import FedAvg
from fedmeta.algorithms.fedavg_meta import FedAvgMeta
from fedmeta.algorithms.fomaml import FOMAML
from fedmeta.algorithms.maml import MAML
from fedmeta.algorithms.meta_sgd import MetaSGD
from fedmeta.algorithms.reptile import Reptile
from fedmeta.errors import UnknownName

__all__ = [
    "ALGORITHMS",
    "FOMAML",
    "MAML",
    "Algorithm",
    "ClientUpdate",
    "FedAvg",
    "FedAvgMeta",
    "MetaSGD",
    "Reptile",
    "make",
]

ALGORITHMS: dict[str, type[Algorithm]] = {
    algorithm.name: algorithm for algorithm in (FedAvg, FedAvgMeta, MAML, FOMAML, MetaSGD, Reptile)
}
"""Every algorithm by name; tests, the command line and the documentation read this table."""


def make(name: str, **options: Any) -> Algorithm:
    """Return the algorithm of that name with these fields.

    Raises:
        UsageError: no such algorithm, no such field, or a value out of range.
    """
    if name not in ALGORITHMS:
        raise UnknownName("algorithm", name, ALGORITHMS)
    known = [field.name for field in fields(ALGORITHMS[name])]
    for option in options:
        if option not in known:
            raise UnknownName(f"option of {name}", option, known)
    return ALGORITHMS[name](**options)
