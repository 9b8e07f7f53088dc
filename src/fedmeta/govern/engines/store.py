"""A ledger's database: every block whole, its events, the state, and snapshots, in one SQLite file.

It is in WAL mode with full synchronous writes: what `append` has returned from survives a crash, and a block is there
with all that belongs to it or not at all. A `.lock` file beside it is held while it is open for writing.
"""

import contextlib
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock

from fedmeta.govern.engines.files import APPLICATION_ID, SCHEMA, check_file, connect, guard, locked, new_file, reading
from fedmeta.govern.errors import Damaged, Malformed
from fedmeta.govern.machine.header import SignedHeader, decode_header, encode_header
from fedmeta.govern.state.snapshot import Manifest, decode_manifest, encode_manifest
from fedmeta.govern.state.state import Change
from fedmeta.govern.wire import codec
from fedmeta.govern.wire.block import Block
from fedmeta.govern.wire.signatures import digest

CHECKPOINT_PAGES = 8192
"""How many pages the log holds before they are brought into the file."""

_TABLES = (
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID",
    "CREATE TABLE blocks (height INTEGER PRIMARY KEY, header BLOB, signature BLOB, transactions BLOB)",
    "CREATE TABLE events (height INTEGER PRIMARY KEY, leaves BLOB)",
    "CREATE TABLE transactions (digest BLOB PRIMARY KEY, height INTEGER, position INTEGER, code TEXT) WITHOUT ROWID",
    "CREATE TABLE state (slot INTEGER PRIMARY KEY, data BLOB)",
    "CREATE TABLE snapshots (height INTEGER PRIMARY KEY, manifest BLOB)",
    "CREATE TABLE chunks (height INTEGER, number INTEGER, data BLOB, PRIMARY KEY (height, number)) WITHOUT ROWID",
)


class Place(NamedTuple):
    """Where a transaction stands, and the code it was refused with, or nothing."""

    height: int
    position: int
    code: str


class Counts(NamedTuple):
    """How many rows of each kind a database holds."""

    headers: int
    blocks: int
    """Headers whose transactions are kept."""
    events: int
    """Blocks whose events are kept, genesis among them."""
    places: int
    """Transactions that can be found by their digest."""
    chunks: int


class Store:
    """An open database; one thread at a time. Every method raises `StoreError` where the file cannot be used."""

    def __init__(self, path: Path, database: sqlite3.Connection, lock: FileLock | None):
        self.path = path
        self._database = database
        self._lock = lock

    @staticmethod
    def create(
        path: str | os.PathLike, genesis: bytes, rows: Iterable[tuple[int, bytes]], events: Sequence[bytes]
    ) -> None:
        """Make the database of a new ledger: all of it, or no file.

        Raises:
            StoreError: the file exists, or cannot be made.
        """
        path = Path(path)
        with locked(path), new_file(path) as aside, guard(path), contextlib.closing(connect(aside)) as database:
            database.execute("PRAGMA synchronous = OFF")
            database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            database.execute(f"PRAGMA user_version = {SCHEMA}")
            database.execute("BEGIN")
            for table in _TABLES:
                database.execute(table)
            meta = {"genesis": genesis, "first": 1}
            database.executemany("INSERT INTO meta VALUES (?, ?)", meta.items())
            database.execute("INSERT INTO events VALUES (0, ?)", (codec.encode(list(events)),))
            database.executemany("INSERT INTO state VALUES (?, ?)", rows)
            database.execute("COMMIT")
            database.execute("PRAGMA journal_mode = WAL")

    @staticmethod
    @contextlib.contextmanager
    def read(path: str | os.PathLike) -> Iterator["Store"]:
        """Open a database to read it only, also while another process writes to it; nothing in it changes.

        Raises:
            StoreError: there is none, or it is none of ours; NewerSchema, Damaged.
        """
        path = Path(path)
        check_file(path)
        with reading(path, held=False) as database:
            yield Store(path, database, None)._of_our_tables()

    @staticmethod
    @contextlib.contextmanager
    def probe(path: str | os.PathLike) -> Iterator["tuple[Store, FileLock]"]:
        """Lock a database and open it to read it only: whatever is found, nothing has been changed yet.

        `open` takes the lock over; otherwise it is released at the end.

        Raises:
            StoreError: there is none, or it is none of ours; StoreLocked, NewerSchema, Damaged.
        """
        path = Path(path)
        check_file(path)
        with locked(path) as lock, reading(path, held=True) as database:
            yield Store(path, database, None)._of_our_tables(), lock

    @staticmethod
    def open(path: str | os.PathLike, lock: FileLock, durable: bool | None = True) -> "Store":
        """Open a database for writing, under a lock from `probe`; `close` releases it.

        Without `durable` nothing waits for the disk: for a file that is not in its place yet. With None it is only kept
        in order: what was written last may be lost with the machine's power, and comes again from elsewhere.
        """
        path = Path(path)
        with guard(path):
            database = connect(path)
            waits = {True: "FULL", None: "NORMAL", False: "OFF"}[durable]
            database.execute(f"PRAGMA synchronous = {waits}")
            database.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
            database.execute("PRAGMA cache_size = -65536")
            lock.acquire()
            return Store(path, database, lock)

    def close(self) -> None:
        """Close the database and release the lock; a second time does nothing."""
        with guard(self.path):
            self._database.close()
        if self._lock is not None:
            self._lock.release(force=True)
            self._lock = None

    @property
    def genesis(self) -> bytes:
        """The genesis in its encoding."""
        return self._meta("genesis", bytes)

    @property
    def first(self) -> int:
        """The oldest block whose transactions and events are kept."""
        return self._meta("first", int)

    @property
    def tip(self) -> int:
        """The height of the last block; 0 if there is none."""
        return self._one("SELECT max(height) FROM blocks")[0] or 0

    @property
    def certified(self) -> int:
        """The height of the last header that has a certificate; 0 if there is none."""
        return self._one("SELECT max(height) FROM blocks WHERE length(signature) > 0")[0] or 0

    def rows(self) -> Iterator[tuple[int, bytes]]:
        """Yield every slot of the state and its data, by slot."""
        self.check_pages("state")
        with guard(self.path):
            # Not `yield from`: that would close the cursor, whose database may be closed when this is dropped half-way.
            for slot, data in self._database.execute("SELECT slot, data FROM state ORDER BY slot"):
                with self._sound(f"slot {slot} of the state"):
                    octets = _octets(data)
                yield slot, octets

    def header(self, height: int) -> SignedHeader | None:
        """Return the signed header of a block, or None if there is none."""
        row = self._one("SELECT header, signature FROM blocks WHERE height = ?", height)
        if row is None:
            return None
        with self._sound(f"the header of block {height}"):
            return SignedHeader(decode_header(_octets(row[0])), _octets(row[1]))

    def first_from(self, height: int) -> int | None:
        """Return the first height from this one on that has a header, or None if there is none yet."""
        return self._one("SELECT min(height) FROM blocks WHERE height >= ?", height)[0]

    def last_before(self, height: int) -> int:
        """Return the last height before this one that has a header, or 0 if there is none."""
        return self._one("SELECT max(height) FROM blocks WHERE height < ?", height)[0] or 0

    def heights(self, low: int, high: int) -> list[int]:
        """Return the heights that have a header, in order, both ends included."""
        return [
            one
            for (one,) in self._all("SELECT height FROM blocks WHERE height BETWEEN ? AND ? ORDER BY height", low, high)
        ]

    def transactions(self, height: int) -> list[bytes] | None:
        """Return the items of a block, or None if there is none or it was pruned."""
        row = self._one("SELECT transactions FROM blocks WHERE height = ?", height)
        return None if row is None or row[0] is None else self._list(row[0], f"the transactions of block {height}")

    def events(self, height: int) -> list[bytes] | None:
        """Return the encoded events of a block, 0 being genesis, or None if there is none or it was pruned."""
        row = self._one("SELECT leaves FROM events WHERE height = ?", height)
        return None if row is None else self._list(row[0], f"the events of block {height}")

    def place(self, digest: bytes) -> Place | None:
        """Return where the transaction of this digest stands, or None if there is none or it was pruned."""
        row = self._one("SELECT height, position, code FROM transactions WHERE digest = ?", digest)
        if row is None:
            return None
        if tuple(map(type, row)) != (int, int, str):
            raise Damaged(f"{self.path} is damaged: the place of transaction {digest.hex()} is {row}")
        return Place(*row)

    def counts(self) -> Counts:
        """Return how many rows there are."""
        return Counts(
            *self._one(
                "SELECT (SELECT count(*) FROM blocks), (SELECT count(transactions) FROM blocks),"
                " (SELECT count(*) FROM events), (SELECT count(*) FROM transactions), (SELECT count(*) FROM chunks)"
            )
        )

    def check_pages(self, table: str = "") -> None:
        """Raise `Damaged` unless the pages of the file fit together, those that hold nothing among them.

        Of a `table` only its own are checked: then no page is read twice, and its rows hold no more than the file does.
        """
        said = self._one(f"PRAGMA quick_check({table or 1})")[0]
        if said != "ok":
            raise Damaged(f"{self.path} is damaged: {' '.join(said.split())}")

    def append(
        self,
        signed: SignedHeader,
        block: Block,
        events: Sequence[bytes],
        codes: Sequence[str],
        changes: Iterable[Change],
    ) -> None:
        """Write a block with its events and what it changed; when this returns, it is on the disk."""
        header = signed.header
        places = [
            (digest(raw), header.height, at, code)
            for at, (raw, code) in enumerate(zip(block.transactions, codes, strict=True), block.first)
        ]
        with self._writing() as database:
            database.execute(
                "INSERT INTO blocks VALUES (?, ?, ?, ?)",
                (header.height, encode_header(header), signed.certificate, codec.encode(list(block.items))),
            )
            database.execute("INSERT INTO events VALUES (?, ?)", (header.height, codec.encode(list(events))))
            database.executemany(
                "INSERT INTO transactions VALUES (?, ?, ?, ?) ON CONFLICT (digest) DO UPDATE "
                "SET height = excluded.height, position = excluded.position, code = excluded.code WHERE code != ''",
                places,
            )
            # A vacant slot keeps its row, without data: what is in the file says how many slots there are.
            database.executemany(
                "INSERT OR REPLACE INTO state VALUES (?, ?)", ((one.slot, one.data or b"") for one in changes)
            )

    def certify(self, height: int, certificate: bytes) -> None:
        """Write what certifies a header that was appended without."""
        with self._writing() as database:
            database.execute("UPDATE blocks SET signature = ? WHERE height = ?", (certificate, height))

    def replace_state(self, rows: Iterable[tuple[int, bytes]]) -> None:
        """Write the state anew."""
        with self._writing():
            self._write_state(rows)

    def begin_at(
        self,
        headers: Iterable[SignedHeader],
        manifest: Manifest,
        chunks: Iterable[bytes],
        rows: Iterable[tuple[int, bytes]] | None = None,
    ) -> None:
        """Write the headers up to a snapshot, the snapshot, and the state if given, in the place of all blocks."""
        with self._writing() as database:
            for rows_of in ("blocks", "transactions", "events WHERE height > 0", "snapshots", "chunks"):
                database.execute(f"DELETE FROM {rows_of}")
            database.executemany(
                "INSERT INTO blocks VALUES (?, ?, ?, NULL)",
                ((one.header.height, encode_header(one.header), one.certificate) for one in headers),
            )
            self._keep(manifest, chunks)
            database.execute("UPDATE meta SET value = ? WHERE name = 'first'", (manifest.height + 1,))
            if rows is not None:
                self._write_state(rows)

    def uncertified(self) -> list[int]:
        """Return the heights of the headers without a certificate, in order."""
        found = self._all("SELECT height FROM blocks WHERE length(signature) = 0 ORDER BY height")
        return [height for (height,) in found]

    def prune(self, before: int) -> None:
        """Delete the transactions and events of the blocks before a height, and the snapshots that none leads on from.

        The caller has made sure that there is a snapshot of the height below.
        """
        with self._writing() as database:
            database.execute(
                "UPDATE blocks SET transactions = NULL WHERE height >= ? AND height < ?", (self.first, before)
            )
            database.execute("DELETE FROM events WHERE height > 0 AND height < ?", (before,))
            database.execute("DELETE FROM transactions WHERE height < ?", (before,))
            database.execute("DELETE FROM snapshots WHERE height < ?", (before - 1,))
            database.execute("DELETE FROM chunks WHERE height < ?", (before - 1,))
            database.execute("UPDATE meta SET value = ? WHERE name = 'first'", (before,))

    def keep(self, manifest: Manifest, chunks: Iterable[bytes]) -> None:
        """Keep a snapshot, in the place of an older one of its height."""
        with self._writing():
            self._keep(manifest, chunks)

    def manifests(self) -> list[Manifest]:
        """Return the snapshots that are kept, by height."""
        self.check_pages("snapshots")
        return [self._manifest(*row) for row in self._all("SELECT height, manifest FROM snapshots ORDER BY height")]

    def chunks(self, snapshot: Manifest) -> Iterator[bytes]:
        """Yield a snapshot's chunks; raises `Damaged` if one is missing."""
        self.check_pages("chunks")
        for number in range(len(snapshot.chunks)):
            chunk = self.chunk(snapshot.height, number)
            if chunk is None:
                raise Damaged(f"{self.path} is damaged: chunk {number} of the snapshot of {snapshot.height} is missing")
            yield chunk

    def chunk(self, height: int, number: int) -> bytes | None:
        """Return a chunk of the snapshot of a height, or None."""
        row = self._one("SELECT data FROM chunks WHERE height = ? AND number = ?", height, number)
        if row is None:
            return None
        with self._sound(f"chunk {number} of the snapshot of height {height}"):
            return _octets(row[0])

    def _of_our_tables(self) -> "Store":
        """Return this store; raises `Damaged` unless its tables are as `create` makes them.

        In their place there could be views, which give more rows than the file holds.
        """
        # One more than there should be is enough to see that there are too many.
        found = self._all(f"SELECT sql FROM sqlite_master LIMIT {len(_TABLES) + 1}")
        if sorted(map(str, (sql for (sql,) in found))) != sorted(_TABLES):
            raise Damaged(f"{self.path} is damaged: its tables are not those of a ledger")
        return self

    def _manifest(self, height: int, data: Any) -> Manifest:
        with self._sound(f"the manifest of the snapshot of height {height}"):
            manifest = decode_manifest(_octets(data))
            if manifest.height != height:
                raise Malformed(f"it says height {manifest.height}")
            return manifest

    def _write_state(self, rows: Iterable[tuple[int, bytes]]) -> None:
        self._database.execute("DELETE FROM state")
        self._database.executemany("INSERT INTO state VALUES (?, ?)", rows)

    def _keep(self, manifest: Manifest, chunks: Iterable[bytes]) -> None:
        self._database.execute("DELETE FROM chunks WHERE height = ?", (manifest.height,))
        self._database.execute(
            "INSERT OR REPLACE INTO snapshots VALUES (?, ?)", (manifest.height, encode_manifest(manifest))
        )
        self._database.executemany(
            "INSERT INTO chunks VALUES (?, ?, ?)",
            ((manifest.height, number, chunk) for number, chunk in enumerate(chunks)),
        )

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """Run a write transaction: all of it is on the disk at the end, or nothing has changed."""
        with guard(self.path):
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield self._database
                self._database.execute("COMMIT")
            except BaseException:
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
                raise

    def _one(self, query: str, *values: Any) -> Any:
        with guard(self.path):
            return self._database.execute(query, values).fetchone()

    def _all(self, query: str, *values: Any) -> list[Any]:
        with guard(self.path):
            return self._database.execute(query, values).fetchall()

    def _meta(self, name: str, due: type) -> Any:
        row = self._one("SELECT value FROM meta WHERE name = ?", name)
        if row is None or type(row[0]) is not due:
            raise Damaged(f"{self.path} is damaged: its {name} is missing")
        return row[0]

    def _list(self, data: Any, what: str) -> list[bytes]:
        with self._sound(what):
            found = codec.decode(_octets(data), limit=max(1, len(data)))
            if type(found) is not list or any(type(one) is not bytes for one in found):
                raise Malformed("a list of byte strings is due")
            return found

    @contextlib.contextmanager
    def _sound(self, what: str) -> Iterator[None]:
        try:
            yield
        except Malformed as error:
            raise Damaged(f"{self.path} is damaged: {what} cannot be read: {error}") from error


def _octets(value: Any) -> bytes:
    if type(value) is not bytes:
        raise Malformed(f"bytes are due, not {type(value).__name__}")
    return value
