"""What the tests of the store share: some blobs, and what a store should have of them after some acts."""

import hashlib

from hypothesis import strategies as st

from fedmeta.node.disk.store import BlobStore
from fedmeta.node.wire.chunks import CHUNK, Blob, leaves
from tests.node.disk.failing import FOLDER

PLACE = FOLDER / "blobs"
QUOTA = 8 * CHUNK
NAMES = ("update/1/alice", "update/1/ben", "model/00ff")
LENGTHS = (5, CHUNK, 2 * CHUNK + 3)


def some(length, seed=0):
    return hashlib.shake_128(seed.to_bytes(8, "big")).digest(length)


DATA = {name: some(length, at) for at, (name, length) in enumerate(zip(NAMES, LENGTHS, strict=True))}


def piece(name, number):
    return DATA[name][number * CHUNK : (number + 1) * CHUNK]


def begin(store, name):
    store.begin(name, Blob.of(DATA[name]), leaves(DATA[name]))


def opened(disk, quota=QUOTA):
    return BlobStore(PLACE, quota, disk)


class Model:
    """What a store should have: by name the chunks that were acknowledged, and what is attached."""

    def __init__(self):
        self.chunks = {}
        self.attached = {}
        self.unsure = None
        """The name of which the last act was not acknowledged."""
        self.kind = None
        """What that act was."""

    def play(self, store, act):
        kind, name, number = act
        self.unsure, self.kind = name, kind
        number %= Blob.of(DATA[name]).chunks
        if kind == "begin":
            begin(store, name)
            self.chunks.setdefault(name, set())
        elif kind == "write":
            store.write(name, DATA[name])
            self.chunks[name] = set(range(Blob.of(DATA[name]).chunks))
        elif kind == "delete":
            store.delete(name)
            self.chunks.pop(name, None)
            self.attached.pop(name, None)
        elif kind == "put" and name in self.chunks:
            store.put(name, number, piece(name, number))
            self.chunks[name].add(number)
        elif kind == "attach" and name in self.chunks:
            store.attach(name, "wraps", bytes([number]) * 300)
            self.attached[name] = bytes([number]) * 300
        self.unsure = None

    def check(self, store):
        """All that was acknowledged is there, exactly, but for the blob of the act that a fault cut off."""
        for name in {*NAMES} - {self.unsure}:
            assert (store.blob(name) is not None) == (name in self.chunks)
        for name in {*self.chunks} - {self.unsure}:
            assert store.blob(name) == Blob.of(DATA[name])
            assert store.leaves(name) == leaves(DATA[name])
            assert store.missing(name) == sorted({*range(Blob.of(DATA[name]).chunks)} - self.chunks[name])
            assert store.attachment(name, "wraps") == self.attached.get(name)
        if self.unsure in self.chunks and self.unsure in store.names():
            assert not {*store.missing(self.unsure)} & self.chunks[self.unsure]
            if self.kind != "attach":
                # Also where it was not deleted: then it is as it was.
                assert store.attachment(self.unsure, "wraps") == self.attached.get(self.unsure)
        for name in store.names():
            # Whatever is visible is whole, and right.
            for number in range(Blob.of(DATA[name]).chunks):
                if number not in store.missing(name):
                    assert store.chunk(name, number) == piece(name, number)
            assert store.attachment(name, "wraps") in (None, *(bytes([value]) * 300 for value in range(3)))


acts = st.lists(
    st.tuples(
        st.sampled_from(("begin", "write", "put", "put", "attach", "delete")), st.sampled_from(NAMES), st.integers(0, 2)
    ),
    min_size=1,
    max_size=12,
)
