"""Transforms: what a client sends in place of its pseudo-gradient, and how that is read.

A transform is a value. `encode` runs on JAX, at the client; `decode` on JAX or on NumPy, with the same bits; `check` on
NumPy, before a message from a stranger is decoded. `chain` makes one of several.
"""

from typing import Any

from fedmeta._options import make as _make
from fedmeta.transforms.composed import chain, error_feedback
from fedmeta.transforms.dense import clip_by_norm, gaussian_noise, identity
from fedmeta.transforms.grid import fixed_point
from fedmeta.transforms.levels import Levels, quantise
from fedmeta.transforms.sparse import Sparse, top_k
from fedmeta.transforms.transform import Body, Memory, Transform

__all__ = [
    "TRANSFORMS",
    "Body",
    "Levels",
    "Memory",
    "Sparse",
    "Transform",
    "chain",
    "clip_by_norm",
    "error_feedback",
    "fixed_point",
    "gaussian_noise",
    "identity",
    "make",
    "quantise",
    "top_k",
]

TRANSFORMS: dict[str, type[Transform]] = {
    transform.name: transform
    for transform in (
        identity,
        clip_by_norm,
        gaussian_noise,
        quantise,
        top_k,
        fixed_point,
        chain,
        error_feedback,
    )
}
"""Every transform by name: tests read this table, and whatever takes a name."""


def make(name: str, **options: Any) -> Transform:
    """Return the transform of that name with these fields.

    Raises:
        UsageError: no such transform, no such field, a field that is missing, or a value out of range.
    """
    return _make("transform", TRANSFORMS, name, options)
