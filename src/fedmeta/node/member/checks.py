"""What is checked before a node starts: each with what was found, and what to do where it does not hold."""

import os
import platform
import shutil
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from fedmeta.node.errors import MemberError
from fedmeta.node.member import config as configs
from fedmeta.node.member.config import Config
from fedmeta.node.member.folder import SECRET, Folder
from fedmeta.node.member.settings import said_size

State = Literal["ok", "warning", "fails"]

PACKAGES = ("jax", "numpy", "optax", "cryptography", "cbor2", "httpx", "h11")
"""Packages whose versions are told."""

SLOW_FLUSH = 0.1
"""Seconds for a flush to the disk above which a warning says so."""


@dataclass(frozen=True, slots=True)
class Check:
    """One row: what was looked at, whether it holds, what was found, and what to do if it does not hold."""

    name: str
    state: State
    found: str
    advice: str = ""


def ok(name: str, found: str) -> Check:
    """Return a row that holds."""
    return Check(name, "ok", found)


def warning(name: str, found: str, advice: str) -> Check:
    """Return a row that a node can work with."""
    return Check(name, "warning", found, advice)


def fails(name: str, found: str, advice: str) -> Check:
    """Return a row with which a node cannot start."""
    return Check(name, "fails", found, advice)


Checker = Callable[[Config], Iterable[Check]]
"""Looks at one thing; what it cannot use it says in rows, and it raises nothing of fedmeta's."""


def run(folder: Path, checkers: Iterable[Checker]) -> list[Check]:
    """Return the rows of a node's folder: of the machine, the folder, the keys, the disk, and of the checkers given."""
    rows = list(check_packages())
    try:
        config = configs.read(folder)
    except MemberError as error:
        return [
            *rows,
            fails("configuration", str(error), "correct the file, or make a folder with `fedmeta node init`"),
        ]
    rows.append(ok("configuration", f"{config.member}, {'a super node' if config.listens else 'a contributor'}"))
    for checker in (check_folder, check_keys, check_disk, *checkers):
        rows += checker(config)
    return rows


def check_packages() -> Iterator[Check]:
    """Check the versions of Python and of what the node is made of."""
    yield ok("python", platform.python_version())
    found, missing = [], []
    for name in PACKAGES:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            missing.append(name)
    if missing:
        yield fails("packages", f"missing: {', '.join(missing)}", "pip install 'fedmeta[ledger]'")
    else:
        yield ok("packages", ", ".join(found))


def check_folder(config: Config) -> Iterator[Check]:
    """Check that nobody else can look into the node's folder."""
    users = any((config.users.gate, config.users.core, config.users.trainer))
    found = config.folder.stat()
    mode = found.st_mode & 0o777
    # Gate and trainer pass through it to their own folders, and cannot list it.
    allowed = 0o711 if users else 0o700
    if mode & ~allowed:
        yield fails("folder", f"others can use {config.folder} (mode {mode:04o})", f"chmod {allowed:o} {config.folder}")
    elif not os.access(config.folder, os.W_OK):
        yield fails("folder", f"{config.folder} cannot be written", "run this as the user whom the folder belongs to")
    else:
        yield ok("folder", f"{config.folder}, mode {mode:04o}")


def check_keys(config: Config) -> Iterator[Check]:
    """Check that the keys are there, are keys, and are their owner's only."""
    folder = Folder(config.folder)
    files = {
        "machine key": config.path(config.keys.machine),
        "secret": config.path(config.keys.secret),
        "TLS key": folder.tls,
    }
    if config.keys.account:
        files["account key"] = config.path(config.keys.account)
    for name, path in files.items():
        yield _private(name, path, _whole_secret if name == "secret" else _nothing if name == "TLS key" else _signs)


def _private(name: str, path: Path, wrong: Callable[[bytes], str]) -> Check:
    try:
        found, content = path.stat(), path.read_bytes()
    except FileNotFoundError:
        return fails(
            name, f"there is no {path}", "put it there; a lost machine key is replaced by `fedmeta node recover`"
        )
    except OSError as error:
        return fails(name, f"{path}: {error.strerror}", "run this as the user whom it belongs to")
    if found.st_mode & 0o077:
        return fails(name, f"others can use {path} (mode {found.st_mode & 0o777:04o})", f"chmod 600 {path}")
    problem = wrong(content)
    if problem:
        return fails(name, f"{path} {problem}", "put the right file there")
    return ok(name, f"{path}, mode {found.st_mode & 0o777:04o}")


def _nothing(_: bytes) -> str:
    return ""


def _whole_secret(content: bytes) -> str:
    return "" if len(content) == SECRET else f"has {len(content)} bytes: it must have {SECRET}"


def _signs(content: bytes) -> str:
    if b"ENCRYPTED" in content:
        return ""
    return "" if public_of(content) else "is no Ed25519 key in PEM"


def public_of(pem: bytes) -> bytes:
    """Return the public half of an Ed25519 key in PEM; empty where it is none, or is encrypted."""
    try:
        private = load_pem_private_key(pem, None)
    except (ValueError, TypeError):
        return b""
    return private.public_key().public_bytes_raw() if isinstance(private, Ed25519PrivateKey) else b""


def check_disk(config: Config) -> Iterator[Check]:
    """Check that there is room for the quota, and how long a flush takes."""
    free = shutil.disk_usage(config.folder).free
    used = sum(
        file.stat().st_size for part in ("gate", "core") for file in config.path(part).rglob("*") if file.is_file()
    )
    quota = config.storage.quota
    said = f"{said_size(free)} free, {said_size(used)} used, storage.quota {said_size(quota)}"
    if free + used < quota:
        yield warning("disk space", said, "make room, or lower storage.quota: duties beyond it are not taken")
    else:
        yield ok("disk space", said)
    yield judge_flush(flush_times(config.folder))


def flush_times(folder: Path, count: int = 5) -> list[float] | str:
    """Return the seconds that each of some flushes to the disk took, or what the file system says."""
    file = folder / f".flush-{os.getpid()}"
    times = []
    try:
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            for _ in range(count):
                begun = time.monotonic()
                os.write(handle, bytes(4096))
                os.fsync(handle)
                times.append(time.monotonic() - begun)
        finally:
            os.close(handle)
            file.unlink()
    except OSError as error:
        return str(error.strerror)
    return times


def judge_flush(times: list[float] | str) -> Check:
    """Return the row for the times of flushes, in seconds."""
    if isinstance(times, str):
        return fails("disk speed", f"nothing can be flushed: {times}", "mount the disk so that it can be written")
    middle = statistics.median(times)
    said = f"{middle * 1000:.1f} ms for a flush"
    if middle > SLOW_FLUSH:
        return warning("disk speed", said, "put the folder on a faster or a local disk: each promise waits for a flush")
    return ok("disk speed", said)


def worst(rows: Iterable[Check]) -> State:
    """Return the worst state of some rows."""
    found = {row.state for row in rows}
    return "fails" if "fails" in found else "warning" if "warning" in found else "ok"
