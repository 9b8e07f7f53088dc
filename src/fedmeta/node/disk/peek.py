"""A blob of a store that another process has open: it is read, and checked, and nothing else is done."""

from pathlib import Path

from fedmeta.govern.errors import Malformed
from fedmeta.govern.wire import codec
from fedmeta.node.disk import names
from fedmeta.node.errors import BadChunk
from fedmeta.node.wire.chunks import CHUNK, Blob, check_chunk, check_leaves


def peek(folder: Path, name: str) -> bytes | None:
    """Return a blob from a `BlobStore`'s folder, without its lock, or None where not all of it can be read.

    What the store's process does at the same time can make it None, and nothing else: every chunk is checked.
    """
    try:
        head = (folder / names.head(name)).read_bytes()
        data = (folder / names.data(name)).read_bytes()
        root, length, leaves = codec.decode(head, limit=len(head))
        blob = Blob.from_value([root, length])
        check_leaves(blob, leaves)
        if len(data) != blob.length:
            return None
        for number in range(blob.chunks):
            check_chunk(blob, leaves, number, data[number * CHUNK : (number + 1) * CHUNK])
    except (OSError, Malformed, BadChunk, ValueError, TypeError):
        return None
    return data
