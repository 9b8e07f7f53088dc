"""Keys of values: equal for two that were made alike, so that what was compiled for one serves the other."""

from fedmeta._keys.memoise import Memoised, memoise
from fedmeta._keys.walk import value_key

__all__ = ["Memoised", "memoise", "value_key"]
