"""Walls around the processes of a node: another user, no network, only the files that it needs, no way back.

A process sets itself apart before it does anything else, while it has one thread: `confine`, then what it has to
import, then `become`. Each of them fails aloud; `Held` says which walls stand. `describe_walls` says what a machine
can do.
"""

import array
import ctypes
import encodings.idna  # noqa: F401 (sockets look for it late, when Python's files may be out of reach)
import errno
import fcntl
import importlib
import json
import os
import platform
import pwd
import resource
import socket
import struct
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import fedmeta
from fedmeta.node.errors import WallError
from fedmeta.node.process import landlock, seccomp

_NEW_USER, _NEW_NETWORK = 0x10000000, 0x40000000
_SET_DUMPABLE, _SET_NO_NEW_PRIVILEGES = 4, 38
_INTERFACE_FLAGS, _UP = 0x8913, 1
_libc = ctypes.CDLL(None, use_errno=True)

SYSTEM = (
    "/usr",
    "/lib",
    "/lib64",
    "/bin",
    "/etc/ld.so.cache",
    "/etc/passwd",
    "/etc/group",
    "/etc/nsswitch.conf",
    "/etc/localtime",
    "/etc/hosts",
    "/etc/host.conf",
    "/etc/resolv.conf",
    "/etc/gai.conf",
    "/etc/ssl",
    "/etc/pki",
    "/proc",
    "/sys/devices/system",
    "/sys/fs/cgroup",
)
"""Files of the system that a Python program reads; no keys and no data are among them."""

DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random", "/dev/full")
"""Devices that any program may use."""


@dataclass(frozen=True, slots=True)
class Wall:
    """What a process is left with.

    Args:
        name: what errors call the process.
        user: the user, a name or a number, that it becomes where it is started by root; "" is the one it has.
        network: whether it has one.
        readable: files and folders that it may read, besides the system's and Python's.
        writable: files and folders in which it may do everything.
        confined: whether it has no other files, where the kernel has Landlock.
        open_files: how many files it may have open.
    """

    name: str
    user: str = ""
    network: bool = True
    readable: tuple[str, ...] = ()
    writable: tuple[str, ...] = ()
    confined: bool = True
    open_files: int = 4096


@dataclass(frozen=True, slots=True)
class Held:
    """The walls that stand around a process, as it has checked itself."""

    user: str
    """Who it is: name or number."""
    own_user: bool
    """Whether it has become another user than the one that started it."""
    network: str
    """`reachable`; `none`, where it has a network of its own that leads nowhere."""
    files: str
    """`landlock`, by its version; or `permissions`, where the kernel has no Landlock."""
    no_new_privileges: bool


def enter(wall: Wall) -> Held:
    """Set this process apart: `confine`, then `become`.

    Raises:
        WallError: one of the walls that were asked for cannot be had.
    """
    confine(wall)
    return become(wall)


def confine(wall: Wall) -> None:
    """Take from this process the network and the files that it does not need; it may still import what it runs.

    Raises:
        WallError: there are threads already, which would keep what they have, or the system refuses.
    """
    _one_thread(wall)
    _limits(wall)
    if not wall.network:
        _leave_network(wall)
    _prctl(wall, _SET_NO_NEW_PRIVILEGES, 1)
    if wall.confined and landlock.version():
        try:
            readable = (*SYSTEM, *python_folders(), *wall.readable)
            landlock.restrict(readable, (*DEVICES, *wall.writable), network=wall.network)
        except OSError as error:
            raise WallError(f"{wall.name}: its files cannot be set apart: {error.strerror}") from error
    if not wall.network:
        check_no_network(wall.name)
        _leave_sockets(wall)


def become(wall: Wall) -> Held:
    """Become the user of a wall, for good, and return the walls that stand.

    Raises:
        WallError: there is no such user, this is not root, or the system refuses.
    """
    other = bool(wall.user) and user_of(wall.user)[0] != os.getuid()
    if other:
        _change_user(wall)
    # Another process of the same user can then neither trace this one nor read its memory.
    _prctl(wall, _SET_DUMPABLE, 0)
    return Held(
        user=_name_of(os.getuid()),
        own_user=other,
        network="reachable" if wall.network else "none",
        files=f"landlock {landlock.version()}" if wall.confined and landlock.version() else "permissions",
        no_new_privileges=_libc.prctl(39, 0, 0, 0, 0) == 1,
    )


def user_of(user: str) -> tuple[int, int]:
    """Return the numbers of a user, given by name or number, and of its group; raises `WallError`."""
    try:
        found = pwd.getpwuid(int(user)) if user.isdecimal() else pwd.getpwnam(user)
        return found.pw_uid, found.pw_gid
    except KeyError as error:
        if user.isdecimal():
            return int(user), int(user)
        raise WallError(
            f"there is no user {user!r}: make it, such as by `useradd --system {user}`, or correct [users]"
        ) from error


def python_folders() -> tuple[str, ...]:
    """Return the folders from which this Python and fedmeta are imported."""
    own = str(Path(fedmeta.__file__).parent)
    return tuple(dict.fromkeys((sys.prefix, sys.base_prefix, os.path.realpath(sys.base_prefix), own)))


def check_no_network(name: str) -> None:
    """Check that no interface is up and that nothing can be connected to; raises `WallError` if anything can."""
    up = [interface for interface in interfaces() if interface[1]]
    if up:
        raise WallError(f"{name}: the interface {up[0][0]} is up, but it must have no network")
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"), (socket.AF_INET, "192.0.2.1")):
        try:
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                probe.settimeout(0.2)
                probe.connect((address, 9))
        except OSError as error:
            # A refusal comes from somewhere that was reached.
            if error.errno in (errno.ENETUNREACH, errno.EACCES, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                continue
            raise WallError(f"{name}: {address} answers ({error}), but it must have no network") from error
        raise WallError(f"{name}: {address} can be connected to, but it must have no network")


def interfaces() -> list[tuple[str, bool]]:
    """Return the names of the network's interfaces, and whether each is up."""
    found = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            asked = array.array("B", struct.pack("16sh14x", name.encode(), 0))
            fcntl.ioctl(probe, _INTERFACE_FLAGS, asked)
            found.append((name, bool(struct.unpack_from("h", asked, 16)[0] & _UP)))
    return found


def _one_thread(wall: Wall) -> None:
    threads = len(os.listdir("/proc/self/task"))
    if threads != 1:
        raise WallError(f"{wall.name}: it has {threads} threads, and walls would stand around one: enter them first")


def _limits(wall: Wall) -> None:
    os.umask(0o077)
    # The memory of a process that fails must not get to the disk.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = wall.open_files if most == resource.RLIM_INFINITY else min(wall.open_files, most)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))


def _leave_network(wall: Wall) -> None:
    if os.geteuid() == 0 and _libc.unshare(_NEW_NETWORK) == 0:
        return
    uid, gid = os.geteuid(), os.getegid()
    if _libc.unshare(_NEW_USER | _NEW_NETWORK):
        why = os.strerror(ctypes.get_errno())
        raise WallError(
            f"{wall.name}: its network cannot be taken away ({why}): start the node as root, or allow user namespaces"
        )
    try:
        for file, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
            Path(f"/proc/self/{file}").write_text(text)
    except OSError as error:
        raise WallError(f"{wall.name}: its user namespace cannot be set up: {error}") from error


def _leave_sockets(wall: Wall) -> None:
    """Take the sockets that lead out of a network that leads nowhere: those with a path."""
    if not seccomp.known():
        return
    try:
        seccomp.only_internet()
    except OSError as error:
        raise WallError(f"{wall.name}: sockets with a path cannot be taken away: {error.strerror}") from error


def _change_user(wall: Wall) -> None:
    uid, gid = user_of(wall.user)
    if os.geteuid() != 0:
        raise WallError(f"{wall.name}: only root can become {wall.user}: start the node as root, or leave [users] out")
    try:
        os.setgroups([])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    except OSError as error:
        raise WallError(f"{wall.name}: it cannot become {wall.user}: {error.strerror}") from error
    if uid != 0:
        try:
            os.setuid(0)
        except PermissionError:
            pass
        else:
            raise WallError(f"{wall.name}: it became {wall.user} and could become root again")
    if os.getresuid() != (uid,) * 3 or os.getresgid() != (gid,) * 3 or set(os.getgroups()) - {gid}:
        raise WallError(f"{wall.name}: it did not become {wall.user}: {os.getresuid()}, groups {os.getgroups()}")


def _prctl(wall: Wall, option: int, value: int) -> None:
    if _libc.prctl(option, value, 0, 0, 0):
        raise WallError(f"{wall.name}: prctl {option} is refused: {os.strerror(ctypes.get_errno())}")


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def start(wall: Wall, function: str, arguments: Any = None, **options: Any) -> subprocess.Popen:
    """Start a function in a process of its own behind a wall.

    The new process confines itself, imports the function's module, becomes the wall's user, and calls the function with
    the arguments, which are JSON. It exits with what the function returns; with 70 where a wall cannot be had, and then
    says why in one line on standard error.

    Args:
        wall: what the process is left with.
        function: `module:name`.
        arguments: what JSON can hold.
        options: for `subprocess.Popen`.
    """
    order = json.dumps({"wall": asdict(wall), "function": function, "arguments": arguments})
    program = "from fedmeta.node.process.walls import _run; _run()"
    return subprocess.Popen([sys.executable, "-P", "-c", program, order], **options)


NO_WALL = 70
"""The exit code of a process whose walls cannot be had."""


def _run() -> None:
    order = json.loads(sys.argv[1])
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in order["wall"].items()
    }
    module, _, name = order["function"].partition(":")
    try:
        wall = Wall(**values)
        confine(wall)
        function = getattr(importlib.import_module(module), name)
        become(wall)
    except WallError as error:
        print(f"fedmeta: {error}", file=sys.stderr)
        sys.exit(NO_WALL)
    sys.exit(function(order["arguments"]))


@dataclass(frozen=True, slots=True)
class Mechanism:
    """What walls can be made of here."""

    name: str
    holds: bool
    said: str


def describe_walls() -> list[Mechanism]:
    """Return what walls this machine can give to the processes that this user starts."""
    root, version, spaces, calls = os.geteuid() == 0, landlock.version(), _can_unshare(), seccomp.known()
    left = f"seccomp is not known for {platform.machine()}: files that are sockets stay open to the trainer"
    return [
        Mechanism("own users", root, "this is root" if root else "only root can start processes under other users"),
        Mechanism("no network", spaces, "network namespaces" if spaces else "no namespaces: allow user namespaces"),
        Mechanism("no other sockets", calls, "seccomp" if calls else left),
        Mechanism("own files", version > 0, f"Landlock {version}" if version else "no Landlock: permissions only"),
    ]


def _can_unshare() -> bool:
    flags = _NEW_NETWORK if os.geteuid() == 0 else _NEW_USER | _NEW_NETWORK
    program = f"import ctypes, sys; sys.exit(ctypes.CDLL(None).unshare({flags}) != 0)"
    return subprocess.run([sys.executable, "-S", "-c", program], check=False, capture_output=True).returncode == 0
