"""A ledger's files: the mark by which they are known, who may use them, and how a new one comes into its place."""

import contextlib
import os
import secrets
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from fedmeta.govern.engines.disk import flush, open_file
from fedmeta.govern.errors import Damaged, NewerSchema, StoreError, StoreLocked

APPLICATION_ID = 0x66656467
"""In the file's header, so that a ledger is told from other databases: "fedg" in ASCII."""

SCHEMA = 1
"""The version of the tables, in the file's header."""

_MAGIC = b"SQLite format 3\0"
# The statements are always the same: one that cannot be prepared, or breaks a constraint, does not find what it should.
_DAMAGES = (
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_ERROR,
    sqlite3.SQLITE_CONSTRAINT,
    sqlite3.SQLITE_MISMATCH,
)


def check_file(path: Path) -> None:
    """Raise `StoreError` unless the file begins as a ledger's database of a schema that is known; it is only read."""
    try:
        with open_file(path) as file:
            head = file.read(100)
    except FileNotFoundError as error:
        raise StoreError(f"there is no ledger at {path}") from error
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror}") from error
    if len(head) < 100 or not head.startswith(_MAGIC):
        raise StoreError(f"{path} is not a database")
    _check_marks(path, int.from_bytes(head[68:72], "big"), int.from_bytes(head[60:64], "big"))


@contextlib.contextmanager
def locked(path: Path) -> Iterator[FileLock]:
    """Hold the lock beside a database; within, it can be acquired once more to keep it for longer.

    Raises:
        StoreLocked: another process holds it. StoreError: there is no such folder, or the file system refuses.
    """
    if not path.parent.is_dir():
        raise StoreError(f"there is no folder {path.parent} for {path.name}")
    # Not bound to a thread: a server may close the ledger in another thread than the one that opened it.
    lock = FileLock(f"{path}.lock", timeout=0, thread_local=False)
    try:
        lock.acquire()
    except Timeout as error:
        raise StoreLocked(f"{path} is in use by another process: close that one first") from error
    except OSError as error:
        raise StoreError(f"cannot lock {path}: {error.strerror}") from error
    try:
        yield lock
    finally:
        lock.release()


@contextlib.contextmanager
def guard(path: Path) -> Iterator[None]:
    """Turn what SQLite and the file system raise into the ledger's errors, with the file's name."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_MISUSE) & 0xFF
        if code in _DAMAGES:
            raise Damaged(f"{path} is damaged: {error}") from error
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise StoreLocked(f"{path} is in use by another process: {error}") from error
        raise StoreError(f"cannot use {path}: {error}") from error
    except OSError as error:
        raise StoreError(f"cannot use {path}: {error.strerror or error}") from error


def connect(path: Path, options: str = "mode=rwc") -> sqlite3.Connection:
    """Return a connection in autocommit mode; whoever holds the caller's lock may use it, in any thread."""
    database = sqlite3.connect(
        f"{path.absolute().as_uri()}?{options}", uri=True, isolation_level=None, check_same_thread=False
    )
    # Text that is damaged is still text: it is only compared.
    database.text_factory = lambda data: data.decode(errors="replace")
    return database


@contextlib.contextmanager
def reading(path: Path, held: bool) -> Iterator[sqlite3.Connection]:
    """Open a database to read it, all of one height; `held` says that the caller holds its lock.

    Where nobody can be writing, and no log is left beside it, no file is made there.
    """
    log = _log(path)
    with guard(path):
        still = (held or not os.access(path.parent, os.W_OK)) and not (log.exists() and log.stat().st_size)
        with contextlib.closing(connect(path, "mode=ro&immutable=1" if still else "mode=ro")) as database:
            # One transaction, so that all that is read is of one height.
            database.execute("BEGIN")
            marks = [database.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")]
            _check_marks(path, *marks)
            yield database


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Yield the name of a file to write aside, and put it in its place once it is whole and on the disk.

    Raises:
        StoreError: there is a file already, or the file system refuses.
    """
    for taken in (path, _log(path)):
        if taken.exists():
            raise StoreError(f"{taken} exists: nothing is written over another file")
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with guard(path):
            yield aside
            if _log(aside).exists():
                raise StoreError(f"cannot use {path}: a part of it is still in its log, for which there was no room")
            flush(aside)
            os.rename(aside, path)
            flush(path.parent)
    finally:
        for end in ("", "-journal", "-wal", "-shm", ".lock"):
            Path(f"{aside}{end}").unlink(missing_ok=True)


def _check_marks(path: Path, application: int, schema: int) -> None:
    if application != APPLICATION_ID:
        raise StoreError(
            f"{path} is the database of another application: its id is {application:#x}, not {APPLICATION_ID:#x}"
        )
    if schema > SCHEMA:
        raise NewerSchema(f"{path} has schema {schema}: this version of fedmeta knows {SCHEMA}; a newer one wrote it")
    if schema < 1:
        raise Damaged(f"{path} is damaged: its schema is {schema}")


def _log(path: Path) -> Path:
    return Path(f"{path}-wal")
