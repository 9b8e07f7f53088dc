"""Blobs in chunks of 1 MiB, each of which is checked as it comes, from anyone who has it.

A blob is known by its length and the root of the tree of RFC 6962 over its chunks. Who has checked the leaves' hashes
against the root can check each chunk on its own, in any order.
"""

from hashlib import sha256
from typing import Any, NamedTuple

from fedmeta.govern.wire import merkle
from fedmeta.govern.wire.signatures import tagged
from fedmeta.node.errors import BadChunk

CHUNK = 1 << 20
"""Bytes in every chunk but the last, which has from 1 to as many."""

_HASH = 32
_LONGEST = (1 << 63) - 1


class Blob(NamedTuple):
    """What some bytes are known by: the root over their chunks, 32 bytes, and their exact length, at least 1."""

    root: bytes
    length: int

    @staticmethod
    def of(data: bytes) -> "Blob":
        """Return the blob of some bytes; raises `BadChunk` where there are none."""
        return Blob(_root(leaves(data)), len(data))

    @property
    def id(self) -> bytes:
        """The digest of root and length, 32 bytes: what the ledger has of a blob."""
        return tagged("blob", self.root, self.length.to_bytes(8, "big"))

    @property
    def chunks(self) -> int:
        """The number of chunks."""
        return -(-self.length // CHUNK)

    def size(self, number: int) -> int:
        """Return the bytes of chunk `number`, counted from 0; raises `BadChunk` where there is no such chunk."""
        if not 0 <= number < self.chunks:
            raise BadChunk(f"there is no chunk {number}: {self.length} bytes have chunks 0 to {self.chunks - 1}")
        return min(CHUNK, self.length - number * CHUNK)

    def to_value(self) -> list:
        """Return the blob as a value for the codec: [root, length]."""
        return [self.root, self.length]

    @staticmethod
    def from_value(value: Any) -> "Blob":
        """Return the blob that `to_value` gave; raises `BadChunk` for anything else."""
        if type(value) is not list or [type(item) for item in value] != [bytes, int]:
            raise BadChunk("a blob must be a list of its root and its length")
        root, length = value
        if len(root) != _HASH:
            raise BadChunk(f"the root of a blob must be {_HASH} bytes, not {len(root)}")
        if not 1 <= length <= _LONGEST:
            raise BadChunk(f"the length of a blob must be from 1 to 2^63 - 1, not {length}")
        return Blob(root, length)


def leaves(data: bytes) -> bytes:
    """Return the hashes of the chunks of some bytes, 32 bytes each; raises `BadChunk` where there are none."""
    if not data:
        raise BadChunk("a blob has at least 1 byte")
    view = memoryview(data)
    return b"".join(_leaf(view[at : at + CHUNK]) for at in range(0, len(data), CHUNK))


def check_leaves(blob: Blob, leaves: bytes) -> None:
    """Raise `BadChunk` unless these are the hashes of the blob's chunks, 32 bytes each."""
    if len(leaves) != _HASH * blob.chunks:
        raise BadChunk(
            f"the leaves of {blob.length} bytes must be {blob.chunks} hashes of {_HASH} bytes, not {len(leaves)} bytes"
        )
    if _root(leaves) != blob.root:
        raise BadChunk(f"the leaves are not those of the root {blob.root.hex()}")


def check_chunk(blob: Blob, leaves: bytes, number: int, data: bytes) -> None:
    """Raise `BadChunk` unless the data are chunk `number` of the blob, whose leaves have been checked."""
    size = blob.size(number)
    if len(data) != size:
        raise BadChunk(f"chunk {number} must be {size} bytes, not {len(data)}")
    if _leaf(data) != leaves[number * _HASH : (number + 1) * _HASH]:
        raise BadChunk(f"the data are not chunk {number} of the blob with the root {blob.root.hex()}")


def _leaf(data: bytes | memoryview) -> bytes:
    # As merkle.leaf_hash, without another copy of the chunk.
    state = sha256(b"\x00")
    state.update(data)
    return state.digest()


def _root(leaves: bytes) -> bytes:
    return merkle.Tree(bytearray(leaves)).view().root
