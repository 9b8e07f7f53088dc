"""Seccomp: a process takes from itself all sockets but those of its own network namespace; Linux, by anyone.

A namespace without a network, and Landlock too, leave sockets that have a path: a process that can reach the file can
ask whatever listens there, such as a container engine, a bus, or the gate of its own node. So no socket of another kind
than IPv4, IPv6 and netlink can be made, neither by itself nor by io_uring; what is open already stays. See
https://docs.kernel.org/userspace-api/seccomp_filter.html.
"""

import ctypes
import errno
import platform
import socket

_SET_SECCOMP, _FILTER = 22, 2
_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_ALLOW, _FAIL = 0x7FFF0000, 0x00050000
_NUMBER, _ARCHITECTURE, _FIRST = 0, 4, 16
"""Where the number of a call, the architecture, and the lower half of the first argument stand."""

_IO_URING, _X32 = 425, 1 << 30

_CALLS = {"x86_64": (0xC000003E, 41, 53), "aarch64": (0xC00000B7, 198, 199)}
"""The architecture's number for audits, and those of the calls socket and socketpair, by the machine's name."""

_libc = ctypes.CDLL(None, use_errno=True)


class _Instruction(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint16), ("yes", ctypes.c_uint8), ("no", ctypes.c_uint8), ("value", ctypes.c_uint32))


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_uint16), ("first", ctypes.POINTER(_Instruction)))


def known() -> bool:
    """Return whether this machine's calls are known here."""
    return platform.machine() in _CALLS


def only_internet() -> None:
    """Let this thread, and what it starts, make sockets of IPv4, IPv6 and netlink only; there is no way back.

    It must have given up new privileges before.

    Raises:
        OSError: the kernel refuses, or the machine's calls are not known here.
    """
    if not known():
        raise OSError(errno.ENOSYS, f"the calls of {platform.machine()} are not known")
    instructions = _program(*_CALLS[platform.machine()])
    program = _Program(len(instructions), (_Instruction * len(instructions))(*instructions))
    if _libc.prctl(_SET_SECCOMP, _FILTER, ctypes.byref(program), 0, 0):
        number = ctypes.get_errno()
        raise OSError(number, "seccomp is refused")


def _program(architecture: int, *makes: int) -> list[_Instruction]:
    fail, allow = (_FAIL | errno.EACCES), _ALLOW
    lines = [
        (_LOAD, _ARCHITECTURE, None, None),
        (_EQUAL, architecture, None, "fail"),
        (_LOAD, _NUMBER, None, None),
        # The same calls by other numbers, which x86-64 has too.
        (_AT_LEAST, _X32, "fail", None),
        (_EQUAL, _IO_URING, "fail", None),
        *((_EQUAL, number, "family", None) for number in makes),
        (_RETURN, allow, None, None),
        (_LOAD, _FIRST, None, None),
        (_EQUAL, int(socket.AF_INET), "allow", None),
        (_EQUAL, int(socket.AF_NETLINK), "allow", None),
        (_EQUAL, int(socket.AF_INET6), "allow", "fail"),
        (_RETURN, fail, None, None),
        (_RETURN, allow, None, None),
    ]
    places = {"family": len(lines) - 6, "fail": len(lines) - 2, "allow": len(lines) - 1}

    def ahead(at: int, label: str | None) -> int:
        return places[label] - at - 1 if label else 0

    return [_Instruction(code, ahead(at, yes), ahead(at, no), value) for at, (code, value, yes, no) in enumerate(lines)]
