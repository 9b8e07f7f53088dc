"""Merkle trees and their inclusion proofs as in RFC 6962, section 2.1, with SHA-256.

The tree is kept as levels: the leaves' hashes, then the hashes of their pairs, and so on; an odd last node goes up
as it is. This gives the RFC's root, whose left subtree is the largest full one.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from fedmeta.govern.errors import Malformed

EMPTY_ROOT = sha256(b"").digest()
"""The root of a tree without leaves."""

_WIDTH = 32


def leaf_hash(data: bytes) -> bytes:
    """Return the hash of a leaf, 32 bytes."""
    return sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of a node of its two children's, 32 bytes."""
    return sha256(b"\x01" + left + right).digest()


@dataclass(frozen=True, slots=True)
class Proof:
    """That `leaf` (the data, not the hash) is number `index` of `size` leaves: the `path` of siblings, from below."""

    leaf: bytes
    index: int
    size: int
    path: tuple[bytes, ...]

    def to_value(self) -> list:
        """Return the proof as a value for the codec."""
        return [self.leaf, self.index, self.size, list(self.path)]

    @staticmethod
    def from_value(value: Any) -> "Proof":
        """Return the proof that `to_value` gave; raises `Malformed` for anything else."""
        if type(value) is not list or [type(item) for item in value] != [bytes, int, int, list]:
            raise Malformed("a proof is a list of the leaf, its index, the size of the tree, and the path")
        leaf, index, size, path = value
        if not 0 <= index < size:
            raise Malformed(f"a proof's index must be from 0 to the size less 1: {index} of {size}")
        if any(type(node) is not bytes or len(node) != _WIDTH for node in path):
            raise Malformed(f"every node of a proof's path must be {_WIDTH} bytes")
        return Proof(leaf, index, size, tuple(path))


def verify(proof: Proof, root: bytes) -> bool:
    """Return whether the proof shows that its leaf is in the tree of this root; the path has no node too many or few.

    This is the check of RFC 9162, section 2.1.3.2. It needs nothing but the proof and a root that one trusts.
    """
    if not 0 <= proof.index < proof.size:
        return False
    at, last = proof.index, proof.size - 1
    node = leaf_hash(proof.leaf)
    for sibling in proof.path:
        if not last:
            return False
        if at & 1:
            node = node_hash(sibling, node)
        elif at < last:
            node = node_hash(node, sibling)
        else:
            while not at & 1:
                at, last = at >> 1, last >> 1
            node = node_hash(sibling, node)
        at, last = at >> 1, last >> 1
    return not last and node == root


def root(leaves: Sequence[bytes]) -> bytes:
    """Return the root of the tree of these leaves' data, 32 bytes."""
    return _tree(leaves).view().root


def prove(leaves: Sequence[bytes], index: int) -> Proof:
    """Return the proof that leaf number `index` is in the tree of these leaves' data."""
    if not 0 <= index < len(leaves):
        raise IndexError(f"no leaf {index} among {len(leaves)}")
    return Proof(leaves[index], index, len(leaves), _tree(leaves).view().path(index))


def _tree(leaves: Sequence[bytes]) -> "Tree":
    return Tree(bytearray(b"".join(map(leaf_hash, leaves))))


class Tree:
    """A tree that views share: 64 bytes a leaf. It changes only where `merge` is called."""

    __slots__ = ("_levels",)

    def __init__(self, hashes: bytearray | None = None):
        """Build the tree of the leaves' hashes, one after the other; it takes the bytearray as its own."""
        self._levels = [bytearray() if hashes is None else hashes]
        while len(below := self._levels[-1]) > _WIDTH:
            self._levels.append(bytearray(b"".join(_parents(below))))

    @property
    def size(self) -> int:
        """The number of leaves."""
        return len(self._levels[0]) // _WIDTH

    def view(self) -> "View":
        """Return the tree as it is, to read and to change on top of it."""
        return View(self, self.size, ())

    def node(self, level: int, index: int) -> bytes:
        """Return the hash of a node, level 0 being the leaves."""
        return bytes(self._levels[level][index * _WIDTH : (index + 1) * _WIDTH])

    def merge(self, view: "View") -> None:
        """Write a view's changes into the tree; every view of it but this one loses its meaning."""
        for level, nodes in enumerate(view.changed):
            if level == len(self._levels):
                self._levels.append(bytearray())
            row = self._levels[level]
            missing = max(nodes, default=-1) + 1 - len(row) // _WIDTH
            if missing > 0:
                row.extend(bytes(missing * _WIDTH))
            for index, value in nodes.items():
                row[index * _WIDTH : (index + 1) * _WIDTH] = value


@dataclass(frozen=True, slots=True)
class View:
    """A tree of `size` leaves: a shared tree with the nodes of each level that have changed on top."""

    tree: Tree
    size: int
    changed: tuple[dict[int, bytes], ...]

    @property
    def root(self) -> bytes:
        """The root, 32 bytes."""
        return self._node((self.size - 1).bit_length(), 0) if self.size else EMPTY_ROOT

    def path(self, index: int) -> tuple[bytes, ...]:
        """Return the siblings on the way from a leaf to the root."""
        nodes = []
        width, level = self.size, 0
        while width > 1:
            if index ^ 1 < width:
                nodes.append(self._node(level, index ^ 1))
            width, index, level = (width + 1) >> 1, index >> 1, level + 1
        return tuple(nodes)

    def replace(self, leaves: Mapping[int, bytes], size: int) -> "View":
        """Return the tree with other hashes of some leaves, and grown to `size`; all new leaves must be given."""
        changed = [dict(nodes) for nodes in self.changed]
        dirty, width, level = dict(leaves), size, 0
        while True:
            if level == len(changed):
                changed.append({})
            changed[level].update(dirty)
            if width <= 1:
                return View(self.tree, size, tuple(changed))
            nodes, above = changed[level], {}
            for parent in dict.fromkeys(index >> 1 for index in dirty):
                left, right = 2 * parent, 2 * parent + 1
                first = nodes.get(left) or self.tree.node(level, left)
                if right < width:
                    first = node_hash(first, nodes.get(right) or self.tree.node(level, right))
                above[parent] = first
            dirty, width, level = above, (width + 1) >> 1, level + 1

    def _node(self, level: int, index: int) -> bytes:
        found = self.changed[level].get(index) if level < len(self.changed) else None
        return found or self.tree.node(level, index)


def _parents(below: bytearray) -> Iterator[bytes]:
    whole = len(below) - len(below) % (2 * _WIDTH)
    for at in range(0, whole, 2 * _WIDTH):
        yield sha256(b"\x01" + below[at : at + 2 * _WIDTH]).digest()
    if whole < len(below):
        yield bytes(below[whole:])
