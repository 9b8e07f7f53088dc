"""Pytrees of arrays: their leaves by path, as bytes, as a digest, in two halves, and in safetensors files.

A path joins the keys from the root with "/", as in "params/0/weight". Within a key "~" is written "~0" and "/" is
written "~1", an empty key is "~", and a leaf named "__metadata__" (which safetensors keeps for itself) is
"~__metadata__". So two leaves of a tree never share a path.
"""

import fnmatch
import hashlib
import json
import math
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
from safetensors import SafetensorError
from safetensors.numpy import save as _serialise

from fedmeta._files import write_atomically
from fedmeta.errors import CheckpointError, DataError, UnknownName, UsageError

_KEYS = "__random_keys__"
"""The entry of a file's metadata that says which arrays are the words of random keys, and of what kind."""

_DTYPES = {
    "BOOL": np.bool_,
    "U8": np.uint8,
    "U16": np.uint16,
    "U32": np.uint32,
    "U64": np.uint64,
    "I8": np.int8,
    "I16": np.int16,
    "I32": np.int32,
    "I64": np.int64,
    "F16": np.float16,
    "BF16": jnp.bfloat16,
    "F32": np.float32,
    "F64": np.float64,
    "C64": np.complex64,
    "F8_E4M3": jnp.float8_e4m3fn,
    "F8_E4M3FNUZ": jnp.float8_e4m3fnuz,
    "F8_E5M2": jnp.float8_e5m2,
    "F8_E5M2FNUZ": jnp.float8_e5m2fnuz,
    "F8_E8M0": jnp.float8_e8m0fnu,
}
"""NumPy's types by safetensors' names for them."""


def names(tree: Any) -> dict[str, Any]:
    """Return the leaves, in order, by their paths in the tree, for example "params/0/weight".

    Raises:
        UsageError: two leaves have one path: a node type of the tree's own gives two of its children one key.
    """
    return _named(tree, _path)


def payload(tree: Any) -> int:
    """Return the bytes of a pytree of arrays as they are sent: every array's own, nothing else.

    Args:
        tree: arrays, or anything with a shape and a dtype. A random key counts with its words.
    """
    return sum(_layout(leaf, "a leaf").size for leaf in jax.tree.leaves(tree))


def to_bytes(tree: Any) -> bytes:
    """Return the leaves' bytes in the tree's order, each little-endian and row by row, without any header.

    Every bit is kept: NaNs, negative zeros, and the words of random keys. Python numbers count as the types that JAX
    gives them.

    Raises:
        UsageError: a leaf is no array.
    """
    return b"".join(_little(_words(leaf, name)) for name, leaf in names(tree).items())


def from_bytes(data: bytes, like: Any) -> Any:
    """Read what `to_bytes` wrote into a pytree like `like`: NumPy arrays, and JAX's random keys.

    Args:
        data: as many bytes as `payload(like)` says.
        like: arrays, or anything with a shape and a dtype. Shapes and types come from here, never from the sender.

    Raises:
        DataError: the length is wrong, or a byte of a boolean is neither 0 nor 1.
    """
    expected = payload(like)
    if len(data) != expected:
        raise DataError(f"these arrays take {expected} bytes, but there are {len(data)}")
    leaves, start = [], 0
    for name, leaf in names(like).items():
        layout = _layout(leaf, name)
        words = _array(data[start : start + layout.size], layout.dtype, layout.shape)
        if words is None:
            raise DataError(f"{name} is boolean, but holds a byte that is neither 0 nor 1")
        leaves.append(words if layout.key is None else jax.random.wrap_key_data(jnp.asarray(words), impl=layout.key))
        start += layout.size
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def digest(tree: Any) -> str:
    """Return the SHA-256 of the leaves' paths, types, shapes and bytes: 64 hexadecimal digits.

    It is the same for NumPy and JAX arrays, in any byte or memory order. Bits count: 0.0 differs from -0.0. The
    containers of the leaves (a list or a tuple) do not count.

    Raises:
        UsageError: a leaf is no array.
    """
    leaves = [(name, _layout(leaf, name), leaf) for name, leaf in names(tree).items()]
    head = [[name, layout.key or layout.dtype.name, list(layout.shape)] for name, layout, _ in leaves]
    digest = hashlib.sha256(json.dumps(head, separators=(",", ":")).encode() + b"\0")
    for name, _, leaf in leaves:
        digest.update(_little(_words(leaf, name)))
    return digest.hexdigest()


def split(tree: Any, patterns: Sequence[str] | None) -> tuple[Any, Any]:
    """Return (chosen, rest): two trees shaped like `tree`, each with None where the other has the leaf.

    Args:
        tree: any pytree.
        patterns: over the leaves' paths, as in `fnmatch`: "head/*" is all that is under "head", "*/bias" every bias.
            A leaf is chosen if one of them matches its whole path. None chooses all, an empty sequence nothing.

    Raises:
        UnknownName: a pattern matches no leaf; the message gives the nearest paths.
    """
    if isinstance(patterns, str):
        patterns = (patterns,)
    known = list(names(tree))
    for pattern in patterns or ():
        if not any(fnmatch.fnmatchcase(name, pattern) for name in known):
            raise UnknownName("path of a parameter", pattern, known)
    chosen = [patterns is None or any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns) for name in known]
    leaves, structure = jax.tree.flatten(tree)

    def half(wanted: bool) -> Any:
        kept = [leaf if taken is wanted else None for leaf, taken in zip(leaves, chosen, strict=True)]
        return jax.tree.unflatten(structure, kept)

    return half(True), half(False)


def join(a: Any, b: Any) -> Any:
    """Return the tree that `split` divided, from its two halves in either order.

    Raises:
        UsageError: the trees differ in more than their leaves, or both have the same leaf.
    """

    def either(path: Any, x: Any, y: Any) -> Any:
        if x is not None and y is not None:
            raise UsageError(f"{_path(path)} is in both halves; it must be in one")
        return y if x is None else x

    def absent(value: Any) -> bool:
        return value is None

    if jax.tree.structure(a, is_leaf=absent) != jax.tree.structure(b, is_leaf=absent):
        raise UsageError("the two halves are not of one tree: they differ in more than which leaves are None")
    return jax.tree_util.tree_map_with_path(either, a, b, is_leaf=absent)


def pack(tree: Any, metadata: Mapping[str, Any] | None = None) -> bytes:
    """Return a pytree of arrays, and metadata that JSON can hold, as the bytes of a safetensors file.

    Each leaf is stored under its path. A leaf that JAX would round is rounded: without 64 bits, float64 becomes
    float32. (`to_bytes` keeps it.) A random key is stored as its words; the metadata say which kind it is.

    Raises:
        UsageError: a leaf is no array, or of a type or under a path that safetensors cannot hold.
    """
    metadata = dict(metadata or {})
    arrays, keys = {}, {}
    for name, leaf in names(tree).items():
        words = _words(leaf, name)
        arrays[name] = np.ascontiguousarray(words, jax.dtypes.canonicalize_dtype(words.dtype)).reshape(words.shape)
        if (key := _layout(leaf, name).key) is not None:
            keys[name] = key
    if keys:
        metadata[_KEYS] = keys
    try:
        # Without arrays an empty mapping would make a header that no reader accepts.
        return _in_order(_serialise(arrays, {key: json.dumps(value) for key, value in metadata.items()} or None))
    except (SafetensorError, UnicodeError) as error:
        raise UsageError(f"safetensors cannot hold this tree: {error}") from error


def unpack(data: bytes, like: Any = None) -> Any:
    """Return the pytree in the bytes of a safetensors file; see `load`.

    Raises:
        CheckpointError: the bytes are damaged, or hold other arrays than `like`.
    """
    return _unpack(data, like, "the safetensors file")


def save(path: str | os.PathLike[str], tree: Any, metadata: Mapping[str, Any] | None = None) -> None:
    """Write a pytree of arrays to a safetensors file, atomically; see `pack`.

    Raises:
        RunError: the file system refuses.
        UsageError: a leaf is no array, or of a type or under a path that safetensors cannot hold.
    """
    write_atomically(Path(path), pack(tree, metadata))


def load(path: str | os.PathLike[str], like: Any = None) -> Any:
    """Return the pytree in a safetensors file that `save` or another program wrote, as JAX's arrays.

    Args:
        path: the file.
        like: a pytree of arrays, or of anything with a shape and a dtype (`jax.eval_shape` gives one), that the result
            should match. Without it the result is made from the paths: dictionaries, and lists where the keys are
            "0", "1" and so on without a gap. Tuples come back as lists, other nodes as dictionaries, and nodes
            without arrays are lost.

    Raises:
        CheckpointError: the file is missing, damaged, or holds other arrays than `like`.
        UsageError: without `like`, an array that JAX would round (float64 without 64 bits).
    """
    return _unpack(_bytes(path), like, str(path))


def load_metadata(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the metadata that were given to `save`.

    Raises:
        CheckpointError: the file is missing, damaged, or not written by fedmeta.
    """
    metadata = _parse(_bytes(path), str(path))[1]
    return {key: _json(value, str(path)) for key, value in metadata.items() if key != _KEYS}


class _Layout(NamedTuple):
    """How the array of a leaf is stored; for a random key of kind `key`, the array of its words."""

    shape: tuple[int, ...]
    dtype: np.dtype
    key: str | None

    @property
    def size(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def _path(entries: tuple[Any, ...]) -> str:
    path = "/".join(_escape(jax.tree_util.keystr((entry,), simple=True)) for entry in entries)
    return f"~{path}" if path == "__metadata__" else path


def _escape(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1") or "~"


def _unescape(key: str) -> str:
    if key == "~":
        return ""
    return key.removeprefix("~" if key == "~__metadata__" else "").replace("~1", "/").replace("~0", "~")


def _plain_path(entries: tuple[Any, ...]) -> str:
    """Return a leaf's path as it was written before keys were escaped."""
    return jax.tree_util.keystr(entries, simple=True, separator="/")


def _named(tree: Any, path: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for entries, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        name = path(entries)
        if name in found:
            raise UsageError(f"two leaves of the tree have the path {name!r}: each needs one of its own")
        found[name] = leaf
    return found


def _is_key(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _layout(leaf: Any, name: str) -> _Layout:
    if _is_key(leaf):
        words = jax.eval_shape(jax.random.key_data, jax.ShapeDtypeStruct(leaf.shape, leaf.dtype))
        return _Layout(words.shape, np.dtype(words.dtype), _kind(leaf, name))
    if not hasattr(leaf, "dtype"):
        leaf = _array_of_number(leaf, name)
    dtype = np.dtype(leaf.dtype)
    if dtype.hasobject or dtype.kind in "SUMm" or dtype.names:
        raise UsageError(f"{name or 'the tree'} is an array of {dtype}, not of numbers")
    return _Layout(tuple(leaf.shape), dtype.newbyteorder("=") if dtype.byteorder in "<>" else dtype, None)


def _kind(leaf: Any, name: str) -> str:
    """Return the name by which JAX makes keys of this kind; a shape and a dtype do not say it."""
    for kind in ("threefry2x32", "rbg", "unsafe_rbg"):
        if jax.eval_shape(lambda kind=kind: jax.random.key(0, impl=kind)).dtype == leaf.dtype:
            return kind
    raise UsageError(f"{name or 'the tree'} is a random key of a kind of its own ({leaf.dtype}): only JAX's are kept")


def _array_of_number(leaf: Any, name: str) -> np.ndarray:
    if not isinstance(leaf, (bool, int, float, complex)):
        raise UsageError(f"{name or 'the tree'} is no array but {type(leaf).__name__}: {leaf!r:.80}")
    return np.asarray(jnp.asarray(leaf))


def _words(leaf: Any, name: str) -> np.ndarray:
    """Return a leaf's array, and the words of a random key."""
    _layout(leaf, name)
    if _is_key(leaf):
        return np.asarray(jax.random.key_data(leaf))
    array = np.asarray(leaf) if hasattr(leaf, "dtype") else _array_of_number(leaf, name)
    return array.astype(array.dtype.newbyteorder("=")) if array.dtype.byteorder in "<>" else array


def _little(array: np.ndarray) -> bytes:
    return (array.byteswap() if sys.byteorder == "big" else array).tobytes()


def _array(data: bytes | bytearray, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray | None:
    """Return the array in little-endian bytes; None where a boolean is neither 0 nor 1, which NumPy does not expect."""
    if dtype == np.bool_ and np.any(np.frombuffer(data, np.uint8) > 1):
        return None
    array = np.frombuffer(data, dtype).reshape(shape)
    return array.byteswap() if sys.byteorder == "big" else array.copy()


def _bytes(path: str | os.PathLike[str]) -> bytes:
    if not Path(path).is_file():
        raise CheckpointError(f"there is no file {path}")
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from error


def _parse(data: bytes, source: str) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Return the arrays by their names, and the metadata as the file has them."""
    try:
        arrays = {}
        for name, content in safetensors.deserialize(data):
            array = _array(content["data"], np.dtype(_DTYPES[content["dtype"]]), tuple(content["shape"]))
            if array is None:
                raise ValueError(f"a byte of the booleans {name} is neither 0 nor 1")
            arrays[name] = array
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    except (SafetensorError, ValueError, KeyError) as error:
        raise CheckpointError(f"{source} is damaged or was not written by fedmeta: {error}") from error
    return arrays, header.get("__metadata__", {})


def _json(text: str, source: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise CheckpointError(f"{source} is damaged or was not written by fedmeta: {error}") from error


def _unpack(data: bytes, like: Any, source: str) -> Any:
    arrays, metadata = _parse(data, source)
    kinds = _json(metadata.get(_KEYS, "{}"), source)
    if like is None:
        return _nested({name: _restored(array, kinds.get(name), name, source) for name, array in arrays.items()})
    expected = names(like)
    if arrays.keys() != expected.keys() and arrays.keys() == _plain_names(like):
        expected = _named(like, _plain_path)
    if arrays.keys() != expected.keys():
        differing = ", ".join(sorted(arrays.keys() ^ expected.keys())[:3])
        raise CheckpointError(f"{source} belongs to another algorithm or model: it differs in {differing}")
    leaves = []
    for name, leaf in expected.items():
        layout, array = _layout(leaf, name), arrays[name]
        dtype = jax.dtypes.canonicalize_dtype(layout.dtype)
        kind = kinds.get(name, layout.key)
        there = _described(array.shape, array.dtype, kind)
        wanted = _described(layout.shape, dtype, layout.key)
        if there != wanted:
            raise CheckpointError(
                f"{source} belongs to another algorithm or model: {name} is {there}, where {wanted} is expected"
            )
        leaves.append(_restored(array, kind, name, source))
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def _in_order(data: bytes) -> bytes:
    """Return a safetensors file with its metadata sorted; the package writes them in arbitrary order."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    if "__metadata__" in header:
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[8 + length :]


def _plain_names(tree: Any) -> set[str]:
    """Return the paths of a file that was written before keys were escaped; none where leaves shared one."""
    paths = [_plain_path(entries) for entries, _ in jax.tree_util.tree_flatten_with_path(tree)[0]]
    return set(paths) if len(set(paths)) == len(paths) else set()


def _described(shape: tuple[int, ...], dtype: np.dtype, kind: str | None) -> str:
    return f"{np.dtype(dtype)}{list(shape)}" + ("" if kind is None else f", a random key of {kind}")


def _restored(array: np.ndarray, kind: str | None, name: str, source: str) -> Any:
    if kind is not None:
        try:
            return jax.random.wrap_key_data(jnp.asarray(array), impl=kind)
        except (ValueError, TypeError) as error:
            raise CheckpointError(f"{source} is damaged: {name} is no random key of {kind!r}: {error}") from error
    if jax.dtypes.canonicalize_dtype(array.dtype) != array.dtype:
        raise UsageError(
            f"{name} in {source} is {array.dtype}, which JAX would round: "
            "call jax.config.update('jax_enable_x64', True) first"
        )
    return jnp.asarray(array)


def _nested(leaves: Mapping[str, Any]) -> Any:
    """Return dictionaries and lists made from paths."""
    if set(leaves) == {""}:
        return leaves[""]
    root: dict[str, Any] = {}
    for path, leaf in leaves.items():
        *above, last = [_unescape(key) for key in path.split("/")]
        node = root
        for key in above:
            node = node.setdefault(key, {})
            if not isinstance(node, dict):
                raise CheckpointError(f"{path!r} lies below another array; give `like` to load it")
        if last in node:
            raise CheckpointError(f"{path!r} lies above another array; give `like` to load it")
        node[last] = leaf
    return _with_lists(root)


def _with_lists(node: Any) -> Any:
    if not isinstance(node, dict):
        return node
    children = {key: _with_lists(child) for key, child in node.items()}
    numbers = [str(number) for number in range(len(children))]
    return [children[number] for number in numbers] if children and children.keys() == set(numbers) else children
