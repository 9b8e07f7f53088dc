"""What a file or a message makes the ledger hold grows with the bytes that were read, whatever numbers are in them."""

import contextlib
import sqlite3
import subprocess
import sys
import tracemalloc
from dataclasses import replace
from pathlib import Path

import pytest

from fedmeta.govern.client.audit import load, verify_ledger
from fedmeta.govern.engines.embedded import EmbeddedEngine
from fedmeta.govern.engines.replay import rebuild
from fedmeta.govern.engines.store import Store
from fedmeta.govern.errors import Damaged, GovernError, Malformed, StateError
from fedmeta.govern.machine.application import Application
from fedmeta.govern.machine.genesis import encode_genesis, start
from fedmeta.govern.machine.header import Header, encode_signed, sign_header
from fedmeta.govern.state import snapshot
from fedmeta.govern.state.records import Member
from fedmeta.govern.state.snapshot import Manifest, encode_manifest
from fedmeta.govern.state.state import State
from fedmeta.govern.wire import codec
from fedmeta.govern.wire.layout import encode_record
from fedmeta.govern.wire.signatures import digest
from tests.govern.client.test_audit import frame
from tests.govern.playing import CHAIN, TIME, federation, key
from tests.waiting import PATIENCE

ROOM = 128 << 20
"""Bytes of address space that a child gets beyond what it has when it begins."""

MANY = (2**26 - 1, 2**32, 2**63 - 1, 2**64 - 1)
"""Slots that would take gigabytes, or more than there are."""

SEQUENCER = key("sequencer")


def stream(slot: int, length: int, data: bytes = b"") -> bytes:
    """Return what a snapshot says of one slot, whether it is so or not."""
    return slot.to_bytes(8, "big") + length.to_bytes(4, "big") + data


def lies() -> list[bytes]:
    """Return short chunks that claim much."""
    return [
        *(stream(slot, 0) for slot in MANY),
        *(stream(0, 0) + stream(slot, 0) for slot in MANY),
        stream(0, 2**32 - 1),
    ]


def manifest(chunk: bytes) -> Manifest:
    return Manifest(CHAIN, 1, b"\x01" * 32, (digest(chunk),))


def exported(chunk: bytes) -> bytes:
    """Return an export of a chain of one's own, of one header and a snapshot of one chunk."""
    genesis = federation()
    header = Header(genesis.digest, 1, TIME, genesis.digest, bytes(32), bytes(32), b"\x01" * 32)
    return b"".join(
        (
            frame("fedmeta ledger", 1, encode_genesis(genesis)),
            frame("header", encode_signed(sign_header(SEQUENCER, header))),
            frame("snapshot", encode_manifest(manifest(chunk))),
            frame("chunk", chunk),
            frame("end", 1),
        )
    )


def apply(folder: Path) -> None:
    for chunk in lies():
        application = Application(start(federation()).state)
        assert application.offer(manifest(chunk), b"\x01" * 32, 0)
        with pytest.raises(StateError):
            application.apply(0, chunk)


def bring_in(folder: Path) -> None:
    for chunk in lies():
        (folder / "out").write_bytes(exported(chunk))
        assert (folder / "out").stat().st_size < 3_500
        with pytest.raises(Damaged):
            load(folder / "out", folder / "new.db")


STORES = {
    "a slot that is far away": ("INSERT INTO state VALUES (67108863, x'')",),
    "a view without end in the place of the state": (
        "DROP TABLE state",
        "CREATE VIEW state AS WITH RECURSIVE all_of_them (slot) AS "
        "(SELECT 0 UNION ALL SELECT slot + 1 FROM all_of_them) SELECT slot, x'' AS data FROM all_of_them",
    ),
    "a state whose data are made when they are read": (
        "DROP TABLE state",
        "CREATE TABLE state (slot INTEGER PRIMARY KEY, data BLOB AS (zeroblob(900000000)))",
        "INSERT INTO state (slot) VALUES (0)",
    ),
    "snapshots without end": (
        "DROP TABLE snapshots",
        "CREATE VIEW snapshots AS WITH RECURSIVE all_of_them (height) AS "
        "(SELECT 1 UNION ALL SELECT height + 1 FROM all_of_them) "
        f"SELECT height, x'{encode_manifest(manifest(b'')).hex()}' AS manifest FROM all_of_them",
    ),
}


def open_store(folder: Path) -> None:
    for number, statements in enumerate(STORES.values()):
        path = folder / f"{number}.db"
        EmbeddedEngine.create(path, federation(), SEQUENCER).close()
        with contextlib.closing(sqlite3.connect(path)) as database, database:
            for statement in statements:
                database.execute(statement)
        for use in (lambda path: EmbeddedEngine.open(path, SEQUENCER), lambda path: rebuild(path, 7), verify):
            with pytest.raises(GovernError):
                use(path)


def verify(path: Path) -> None:
    if problem := verify_ledger(path).problem:
        raise Damaged(problem)


def decode(folder: Path) -> None:
    """Decode heads of lists, maps, strings and bignums that claim more than there is."""
    for length in (2**24, 2**31 - 1, 2**32, 2**40, 2**63 - 1, 2**64 - 1):
        for major in (0x5B, 0x7B, 0x9B, 0xBB):
            head = bytes([major]) + length.to_bytes(8, "big")
            for claim in (head, b"\xc2" + head, b"\x81" * 15 + head, head + b"\x60" + head):
                with pytest.raises(Malformed):
                    codec.decode(claim)


CHILD = """
import resource, sys
from pathlib import Path
from tests.govern import test_allocation
for line in open("/proc/self/status"):
    if line.startswith("VmSize"):
        room = int(line.split()[1]) * 1024 + test_allocation.ROOM
resource.setrlimit(resource.RLIMIT_AS, (room, room))
getattr(test_allocation, sys.argv[1])(Path(sys.argv[2]))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the address space is limited as Linux does it")
@pytest.mark.parametrize("what", [apply, bring_in, open_store, decode], ids=lambda what: what.__name__)
def test_a_small_file_that_claims_much_is_refused_in_little_memory(tmp_path, what):
    in_a_child(CHILD, what.__name__, tmp_path)


def in_a_child(program: str, *arguments) -> None:
    """Run a program in a process of its own, where no other test's threads and garbage are counted as its memory."""
    command = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr


def peak(rows) -> tuple[int, int]:
    """Return how many bytes the chunks of these rows have, and how many a state of them takes at most."""
    chunks = list(snapshot.cut(rows))
    tracemalloc.start()
    try:
        State.load(snapshot.rows(chunks))
        return sum(map(len, chunks)), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def load_with_vacant_slots(vacant: int) -> None:
    """Load a state in which each record is followed by so many slots without one."""
    one = Member("", "org", True, 0, (), None, 0, 0, 0, "", "", b"")
    rows = ((at, b"" if at % (vacant + 1) else encode_record(replace(one, name=f"m{at}"))) for at in range(20_000))
    read, held = peak(rows)
    assert held < 32 * read, (held, read)


LOADING = "import sys; from tests.govern import test_allocation as a; a.load_with_vacant_slots(int(sys.argv[1]))"


@pytest.mark.parametrize("vacant", [0, 9, 99])
def test_a_state_takes_a_small_multiple_of_its_chunks_however_few_records_are_left(vacant):
    in_a_child(LOADING, str(vacant))


def turn_to_one_page(path: Path, table: str) -> None:
    """Let every branch of a table's tree lead to the same page: its rows come again and again."""
    with contextlib.closing(sqlite3.connect(path)) as database:
        (page,) = database.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)).fetchone()
        (size,) = database.execute("PRAGMA page_size").fetchone()
    data = bytearray(path.read_bytes())
    root = (page - 1) * size
    assert data[root] in (2, 5), "a branch, not a leaf"
    cells = int.from_bytes(data[root + 3 : root + 5], "big")
    places = [root + int.from_bytes(data[at : at + 2], "big") for at in range(root + 12, root + 12 + 2 * cells, 2)]
    for at in (*places[1:], root + 8):
        data[at : at + 4] = data[places[0] : places[0] + 4]
    path.write_bytes(data)


@pytest.mark.parametrize("table", ["state", "snapshots", "chunks"])
def test_pages_that_a_table_leads_to_more_than_once_are_damage(tmp_path, table):
    path, texts = tmp_path / "ledger.db", [b"%d" % at * 300 for at in range(90)]
    Store.create(path, b"", enumerate(texts), [])
    with Store.probe(path) as (_, lock):
        store = Store.open(path, lock)
    kept = [replace(manifest(b""), height=height, chunks=(b"a" * 32,) * len(texts)) for height in range(9)]
    for one in kept:
        store.keep(one, texts if one == kept[-1] else [])
    store.close()

    def read() -> None:
        with Store.read(path) as store:
            assert [data for _, data in store.rows()] == list(store.chunks(kept[-1])) == texts
            assert store.manifests() == kept

    read()
    turn_to_one_page(path, table)
    with pytest.raises(Damaged, match="reference to page"):
        read()
