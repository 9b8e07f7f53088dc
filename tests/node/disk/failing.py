"""What the tests of journal and store share: a disk that stops or fails at a chosen operation."""

import errno
import os
from pathlib import Path

from fedmeta.node.disk.memory import Crash, MemoryDisk

FOLDER = Path("/node")
CHANGING = ("create", "rename", "unlink", "make_folder", "flush_folder", "write", "reserve", "flush")
"""The operations between which a crash makes a difference."""


class Fault:
    """Fails once, at the operation with that number among those of `kinds`; `seen` counts them, `hit` says it did."""

    def __init__(self, number=-1, kinds=CHANGING, error=None):
        self.number = number
        self.kinds = kinds
        self.error = error
        self.seen = 0
        self.hit = ""

    def __call__(self, operation, path, size):
        if operation in self.kinds:
            if self.seen == self.number:
                self.hit = operation
                self.seen += 1
                raise OSError(self.error, os.strerror(self.error), str(path)) if self.error else Crash
            self.seen += 1


def new_disk(capacity=1 << 40):
    disk = MemoryDisk(capacity)
    disk.make_folder(FOLDER)
    return disk


def broken(kinds, number=0, error=errno.EIO):
    return Fault(number, kinds if isinstance(kinds, tuple) else (kinds,), error)
