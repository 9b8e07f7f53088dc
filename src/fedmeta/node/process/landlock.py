"""Landlock: a process takes from itself the files that it does not need; Linux 5.13 or newer, without any privilege.

The calls have no wrapper in the C library: their numbers are the same on every architecture since Linux 5.12. See
https://docs.kernel.org/userspace-api/landlock.html.
"""

import ctypes
import errno
import os
import stat
from collections.abc import Iterable
from pathlib import Path

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION = 1 << 0
_PATH_BENEATH = 1

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_TRUNCATE, _IOCTL_DEV = 1 << 14, 1 << 15
_ALL_OF_VERSION = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1, 5: (1 << 16) - 1}
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV
_READ = _EXECUTE | _READ_FILE | _READ_DIR
_BIND_TCP, _CONNECT_TCP = 1 << 0, 1 << 1
_ABSTRACT_SOCKETS, _SIGNALS = 1 << 0, 1 << 1

_libc = ctypes.CDLL(None, use_errno=True)


class _Ruleset(ctypes.Structure):
    _fields_ = (("files", ctypes.c_uint64), ("network", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32))


def version() -> int:
    """Return the version of Landlock that the kernel has; 0 if it has none, or has it switched off."""
    found = _libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION))
    return max(found, 0)


def restrict(readable: Iterable[str | Path], writable: Iterable[str | Path], *, network: bool) -> None:
    """Leave this thread, and what it starts, nothing but these files; there is no way back.

    Paths that there are not, or that this process cannot reach, are passed over. Where the kernel is new enough (6.7,
    6.12), a process without network can use no TCP either, and no abstract socket, and can signal nothing outside.

    Args:
        readable: files and folders that may be read and executed, with all that is in them.
        writable: files and folders in which everything may be done.
        network: whether TCP may be used.

    Raises:
        OSError: the kernel has no Landlock, or refuses.
    """
    has = version()
    if not has:
        raise OSError(errno.EOPNOTSUPP, "this kernel has no Landlock")
    handled = _ALL_OF_VERSION[min(has, 5)]
    rules = _Ruleset(
        handled,
        _BIND_TCP | _CONNECT_TCP if has >= 4 and not network else 0,
        _ABSTRACT_SOCKETS | _SIGNALS if has >= 6 and not network else 0,
    )
    # An older kernel refuses what is longer than it knows.
    size = 8 if has < 4 else 16 if has < 6 else 24
    ruleset = _call(_CREATE_RULESET, ctypes.byref(rules), ctypes.c_size_t(size), ctypes.c_uint32(0))
    try:
        for paths, allowed in ((readable, _READ), (writable, handled)):
            for path in paths:
                _allow(ruleset, path, allowed & handled)
        _call(_RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint32(0))
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: str | Path, allowed: int) -> None:
    try:
        handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return
    try:
        if not stat.S_ISDIR(os.fstat(handle).st_mode):
            allowed &= _OF_FILES
        rule = _Beneath(allowed, handle)
        _call(_ADD_RULE, ctypes.c_int(ruleset), ctypes.c_int(_PATH_BENEATH), ctypes.byref(rule), ctypes.c_uint32(0))
    finally:
        os.close(handle)


def _call(number: int, *arguments: object) -> int:
    found = _libc.syscall(number, *arguments)
    if found < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"Landlock: {os.strerror(code)}")
    return found
