"""Data spread over clients: made from arrays, tables and files, loaded by name, split, stored and opened."""

from fedmeta.data.arrays import from_arrays
from fedmeta.data.dataset import FederatedDataset, Info
from fedmeta.data.image_table import from_images
from fedmeta.data.leaf import from_leaf
from fedmeta.data.partition import keep_classes
from fedmeta.data.partitioners import (
    Partitioner,
    by_classes,
    by_column,
    by_quantity,
    concept_shift,
    dirichlet,
    partition,
)
from fedmeta.data.resolve import resolve
from fedmeta.data.schema import Field, Schema
from fedmeta.data.sequences import candidates, next_items
from fedmeta.data.sources import Source, load, names, source
from fedmeta.data.splits import AtRandom, ByGroup, InTime, Split
from fedmeta.data.storage import open_dataset as open
from fedmeta.data.storage import save, write
from fedmeta.data.table import from_table, read_examples
from fedmeta.data.wanted import Reading

__all__ = [
    "load",
    "names",
    "from_arrays",
    "from_table",
    "from_leaf",
    "from_images",
    "open",
    "save",
    "write",
    "FederatedDataset",
    "Info",
    "Schema",
    "Field",
    "Reading",
    "keep_classes",
    "Partitioner",
    "partition",
    "by_classes",
    "dirichlet",
    "by_quantity",
    "by_column",
    "concept_shift",
    "next_items",
    "candidates",
    "Split",
    "AtRandom",
    "InTime",
    "ByGroup",
    "Source",
    "source",
    "read_examples",
    "resolve",
]
