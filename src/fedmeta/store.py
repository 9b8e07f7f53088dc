"""Pytrees in safetensors files: written atomically, read back only into the shape that is expected."""

import contextlib
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_bytes

from fedmeta.errors import CheckpointError, RunError


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file aside, flush it to the disk, and rename it, so that `path` is the old or the new, never half.

    Raises:
        RunError: the file system refuses (full, read-only, over a quota); the old file is as it was.
    """
    aside = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = str(path.with_name(f".{path.name}.{secrets.token_hex(4)}"))
        # As `open` would, so that the user's umask holds: a client's own model may be private.
        handle = os.open(aside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(aside)
        raise RunError(f"cannot write {path}: {error.strerror or error}; what was there before is kept") from error


def names(tree: Any) -> dict[str, Any]:
    """Return the leaves by their paths in the tree, for example "params/0/weight"."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def save(path: Path, tree: Any, metadata: Mapping[str, Any]) -> None:
    """Write a pytree of arrays and JSON metadata to a safetensors file, atomically.

    Raises:
        RunError: the file system refuses.
    """
    arrays = {name: np.asarray(leaf, order="C") for name, leaf in names(tree).items()}
    write_atomically(path, to_bytes(arrays, {key: json.dumps(value) for key, value in metadata.items()}))


def load_metadata(path: Path) -> dict[str, Any]:
    """Return the metadata of a file that `save` wrote.

    Raises:
        CheckpointError: the file is missing, damaged, or not written by fedmeta.
    """
    return _read(path, with_arrays=False)[1]


def load(path: Path, like: Any) -> tuple[Any, dict[str, Any]]:
    """Read a file that `save` wrote, into a pytree like `like`.

    Args:
        path: the file.
        like: a pytree of arrays, or of anything with a shape and a dtype.

    Raises:
        CheckpointError: the file is missing, damaged, or holds other arrays than `like`.
    """
    arrays, metadata = _read(path, with_arrays=True)
    expected = names(like)
    if arrays.keys() != expected.keys():
        extra = sorted(arrays.keys() ^ expected.keys())
        raise CheckpointError(f"{path} belongs to another algorithm or model: it differs in {', '.join(extra[:3])}")
    for name, leaf in expected.items():
        found = (arrays[name].shape, arrays[name].dtype)
        if found != (tuple(leaf.shape), np.dtype(leaf.dtype)):
            raise CheckpointError(
                f"{path} belongs to another algorithm or model: {name} is {found[1]}{list(found[0])}, "
                f"where {np.dtype(leaf.dtype)}{list(leaf.shape)} is expected"
            )
    leaves = [jax.numpy.asarray(arrays[name]) for name in expected]
    return jax.tree.unflatten(jax.tree.structure(like), leaves), metadata


def _read(path: Path, *, with_arrays: bool) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    if not path.is_file():
        raise CheckpointError(f"there is no file {path}")
    try:
        with safe_open(path, "numpy") as file:
            metadata = {key: json.loads(value) for key, value in (file.metadata() or {}).items()}
            arrays = {name: file.get_tensor(name) for name in file.keys()} if with_arrays else {}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged or was not written by fedmeta: {error}") from error
    return arrays, metadata
