import contextlib
import random
import re
import sqlite3

import pytest

from fedmeta.govern.client.audit import export, load, verify_ledger
from fedmeta.govern.engines.embedded import EmbeddedEngine
from fedmeta.govern.engines.store import Store
from fedmeta.govern.errors import Damaged, NewerSchema, StoreError
from fedmeta.govern.machine.genesis import Genesis
from fedmeta.govern.wire import codec
from fedmeta.govern.wire import transactions as tx
from tests.govern.engines.keeping import short_memory
from tests.govern.playing import CHAIN, TIME, federation, key

SEQUENCER = key("sequencer")
TIP, FIRST = 45, 7
"""The last block of the ledgers here, and the first one that is whole in the pruned one."""


@pytest.fixture(autouse=True, scope="module")
def brief():
    """Blocks can be pruned after a while that tests can wait for."""
    with short_memory():
        yield


def grow(engine: EmbeddedEngine, blocks: int) -> None:
    """Make blocks of one transaction each."""
    for _ in range(blocks):
        sequence = engine.query("member", {"name": "hal"})["sequence"]
        engine.submit(tx.sign(key("hal"), engine.origin.digest, "hal", sequence, tx.Delegate("ann", 1)))
        engine.produce(TIME)


def genesis() -> Genesis:
    return federation()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A ledger of 45 blocks with snapshots of 6 and 12, and the same one pruned."""
    folder = tmp_path_factory.mktemp("made")
    paths = {}
    for name in ("whole", "pruned"):
        paths[name] = folder / f"{name}.db"
        with EmbeddedEngine.create(paths[name], genesis(), SEQUENCER) as engine:
            for _ in range(2):
                grow(engine, 6)
                engine.snapshot()
            grow(engine, TIP - 12)
            if name == "pruned":
                assert engine.prune() == FIRST
    return paths


@pytest.fixture(params=["whole", "pruned"])
def path(request, made, tmp_path):
    """A copy of either ledger."""
    copy = tmp_path / f"{request.param}.db"
    copy.write_bytes(made[request.param].read_bytes())
    return copy


def change(path, statement, *values):
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        assert database.execute(statement, values).rowcount > 0


def flipped(data: bytes, draw: random.Random) -> bytes:
    """Return the bytes with one bit changed."""
    at = draw.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << draw.randrange(8)]) + data[at + 1 :]


def flip(path, table: str, column: str, where: str, draw: random.Random) -> None:
    """Change one bit of a value in the database."""
    with contextlib.closing(sqlite3.connect(path)) as database:
        (value,) = database.execute(f"SELECT {column} FROM {table} WHERE {where}").fetchone()
    change(path, f"UPDATE {table} SET {column} = ? WHERE {where}", flipped(value, draw))


# Verifying


def test_a_sound_ledger_is_found_to_be(path):
    seen = []
    audit = verify_ledger(path, lambda height, tip: seen.append((height, tip)))
    begin = FIRST - 1 if path.name == "pruned.db" else 0
    assert audit.sound
    assert (audit.chain_id, audit.genesis) == (CHAIN, genesis().digest)
    assert (audit.start, audit.height, audit.tip, audit.transactions, audit.refused) == (
        begin,
        TIP,
        TIP,
        TIP - begin,
        0,
    )
    assert seen == [(height, TIP) for height in range(begin + 1, TIP + 1)]
    with EmbeddedEngine.open(path) as engine:
        assert audit.app_hash == engine.app_hash


def test_a_ledger_without_blocks_is_sound(tmp_path):
    EmbeddedEngine.create(tmp_path / "ledger.db", genesis(), SEQUENCER).close()
    audit = verify_ledger(tmp_path / "ledger.db")
    assert (audit.problem, audit.tip, audit.height) == ("", 0, 0)


def test_a_changed_bit_in_a_header_a_signature_a_transaction_or_an_event_is_found_at_its_height(path):
    draw = random.Random(0)
    sound = path.read_bytes()
    first = FIRST if path.name == "pruned.db" else 1
    places = [
        (table, column, height)
        for table, column, begin in (
            ("blocks", "header", 1),
            ("blocks", "signature", 1),
            ("blocks", "transactions", first),
            ("events", "leaves", first),
        )
        for height in (begin, 13)
    ]
    for table, column, height in places:
        path.write_bytes(sound)
        flip(path, table, column, f"height = {height}", draw)
        audit = verify_ledger(path)
        assert audit.problem.startswith(f"block {height}: "), (table, column, height)
        assert "\n" not in audit.problem
        assert audit.height in (height - 1, 0)


def test_a_changed_bit_in_a_record_of_the_state_is_found(path):
    draw = random.Random(1)
    sound = path.read_bytes()
    with Store.read(path) as store:
        slots = [slot for slot, data in store.rows() if data]
    for slot in draw.sample(slots, 3):
        path.write_bytes(sound)
        flip(path, "state", "data", f"slot = {slot}", draw)
        assert verify_ledger(path).problem == (
            f"after block 45: slot {slot} of the state that is stored is not what the blocks give"
        )


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        (
            "UPDATE transactions SET height = 9 WHERE height = 8",
            "block 8: .*has it at position 0 of block 9",
        ),
        (
            "UPDATE transactions SET position = 1 WHERE height = 8",
            "block 8: .*has it at position 1 of block 8",
        ),
        (
            "UPDATE transactions SET code = 'stale-sequence' WHERE height = 8",
            "block 8: .*has it .*code 'stale-sequence'",
        ),
        ("UPDATE transactions SET code = CAST(x'ff' AS TEXT) WHERE height = 8", "block 8: transaction"),
        ("UPDATE transactions SET code = NULL WHERE height = 8", "block 8: .*the place of transaction"),
        ("UPDATE transactions SET height = 'x' WHERE height = 8", "block 8: .*the place of transaction"),
        ("DELETE FROM transactions WHERE height = 8", "block 8: .*has it at no place"),
        (
            "INSERT INTO transactions VALUES (zeroblob(32), 8, 0, '')",
            "has 40 places: what was checked are 39",
        ),
        ("DELETE FROM blocks WHERE height = 8", "block 8: .*the header of block 8 is missing"),
        (
            "UPDATE blocks SET transactions = NULL WHERE height = 8",
            "block 8: .*the transactions of block 8 are missing",
        ),
        ("UPDATE blocks SET transactions = 'text' WHERE height = 8", "block 8: .*cannot be read: bytes are due"),
        (
            "UPDATE blocks SET header = (SELECT header FROM blocks WHERE height = 7) WHERE height = 8",
            "block 8: .*says 7",
        ),
        ("INSERT INTO blocks SELECT 46, header, signature, transactions FROM blocks WHERE height = 45", "block 46: "),
        (
            "INSERT INTO blocks SELECT -3, header, signature, NULL FROM blocks WHERE height = 45",
            "has 46 headers: what was checked are 45",
        ),
        ("UPDATE blocks SET height = height - 1", "block 1: "),
        ("DELETE FROM events WHERE height = 8", "block 8: the events that are stored"),
        ("UPDATE events SET leaves = x'80' WHERE height = 0", "genesis: the events that are stored"),
        ("DELETE FROM events WHERE height = 0", "genesis: the events that are stored"),
        (
            "INSERT INTO events VALUES (-1, x'80')",
            "has 41 events: what was checked are 40",
        ),
        (
            "INSERT INTO events VALUES (60, x'80')",
            "has 41 events: what was checked are 40",
        ),
        ("UPDATE state SET data = NULL WHERE slot = 2", "after block 45: .*slot 2 of the state cannot be read"),
        ("UPDATE state SET slot = 5000 WHERE slot = 2", "after block 45: slot 2 of the state"),
        ("DELETE FROM state WHERE slot = 2", "after block 45: slot 2 of the state"),
        ("INSERT INTO state SELECT 5000, data FROM state WHERE slot = 2", "after block 45: slot 5000 of the state"),
        ("INSERT INTO state SELECT max(slot) + 1, x'' FROM state", r"after block 45: slot \d+ of the state"),
        ("UPDATE meta SET value = value + 1 WHERE name = 'first'", "genesis: .*no snapshot of height"),
        ("UPDATE meta SET value = 0 WHERE name = 'first'", "genesis: .*no snapshot of height -1"),
        ("UPDATE chunks SET data = x'00' WHERE height = 12", "after block 45: chunk 0 of the snapshot of height 12"),
        ("UPDATE chunks SET data = 'text' WHERE height = 12", "after block 45: .*chunk 0 of the snapshot"),
        ("DELETE FROM chunks WHERE height = 12", "after block 45: .*chunk 0 of the snapshot of 12 is missing"),
        (
            "INSERT INTO chunks VALUES (12, 1, x'00')",
            "has 3 chunks: what was checked are 2",
        ),
        ("UPDATE snapshots SET manifest = x'00' WHERE height = 12", "the manifest of the snapshot of height 12"),
        ("UPDATE snapshots SET height = 13 WHERE height = 12", "the manifest of the snapshot of height 13"),
        (
            "DELETE FROM snapshots WHERE height = 12",
            "has 2 chunks: what was checked are 1",
        ),
    ],
)
def test_whatever_is_changed_is_found_and_told_where(made, tmp_path, statement, problem):
    path = tmp_path / "ledger.db"
    path.write_bytes(made["pruned"].read_bytes())
    change(path, statement)
    found = verify_ledger(path).problem
    assert re.search(problem, found), found
    assert "\n" not in found


def test_a_changed_genesis_is_found(path):
    sound, draw = path.read_bytes(), random.Random(2)
    for _ in range(5):
        path.write_bytes(sound)
        flip(path, "meta", "value", "name = 'genesis'", draw)
        with contextlib.suppress(Damaged):
            assert verify_ledger(path).problem.startswith(("block 1: ", "genesis: "))


def test_a_snapshot_of_genesis_must_be_of_the_genesis_state(tmp_path):
    paths = [tmp_path / "one.db", tmp_path / "two.db"]
    for path, treasury in zip(paths, (1_000, 2_000), strict=True):
        with EmbeddedEngine.create(path, federation(treasury=treasury), SEQUENCER) as engine:
            engine.snapshot()
    assert verify_ledger(paths[0]).sound
    with contextlib.closing(sqlite3.connect(paths[0])) as database, database:
        database.execute("ATTACH ? AS other", (str(paths[1]),))
        for table in ("snapshots", "chunks"):
            database.execute(f"DELETE FROM {table}")
            database.execute(f"INSERT INTO {table} SELECT * FROM other.{table}")
    assert "the snapshot of height 0 is not of the state" in verify_ledger(paths[0]).problem


def test_a_ledger_is_verified_while_it_is_in_use_and_nothing_in_it_changes(path):
    with EmbeddedEngine.open(path, SEQUENCER) as engine:
        grow(engine, 2)
        before = path.read_bytes()
        audit = verify_ledger(path, lambda height, tip: engine.produce(TIME, empty=True) and None)
        assert (audit.problem, audit.tip) == ("", TIP + 2)
        assert path.read_bytes() == before
        assert engine.height > TIP + 2
    assert verify_ledger(path).sound


# Carrying a ledger elsewhere


def test_what_is_exported_and_imported_is_the_same_ledger_and_goes_on(path, tmp_path):
    out, new = tmp_path / "out", tmp_path / "new.db"
    assert export(path, out) == TIP
    assert load(out, new) == TIP
    assert export(new, tmp_path / "again") == TIP
    assert (tmp_path / "again").read_bytes() == out.read_bytes()
    first, second = verify_ledger(path), verify_ledger(new)
    assert first == second
    with EmbeddedEngine.open(path, SEQUENCER) as old, EmbeddedEngine.open(new, SEQUENCER) as engine:
        assert engine.first == old.first
        for height in range(TIP + 1):
            assert engine.header(height) == old.header(height)
            assert engine.block(height) == old.block(height)
        assert list(engine.events()) == list(old.events())
        for one in (old, engine):
            grow(one, 3)
            one.snapshot()
            one.prune()
        assert engine.app_hash == old.app_hash
    assert verify_ledger(new).sound


def test_a_ledger_that_is_in_use_is_exported_as_it_was_when_that_began(path, tmp_path, monkeypatch):
    with EmbeddedEngine.open(path, SEQUENCER) as engine:
        grow(engine, 1)
        due = engine.app_hash
        plain = Store.header

        def meanwhile(store, height):
            if height == 10 and engine.height == TIP + 1:
                grow(engine, 3)
                engine.snapshot()
                engine.prune()
            return plain(store, height)

        monkeypatch.setattr(Store, "header", meanwhile)
        assert export(path, tmp_path / "out") == TIP + 1
        assert (engine.height, engine.first) == (TIP + 4, 13)
    assert load(tmp_path / "out", tmp_path / "new.db") == TIP + 1
    with EmbeddedEngine.open(tmp_path / "new.db") as engine:
        assert engine.app_hash == due


def refused(out, kind, match=None):
    """Expect that a file is refused in one line that names it, and that nothing is left behind."""
    with pytest.raises(kind, match=match) as caught:
        load(out, out.parent / "new.db")
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)
    assert str(out) in str(caught.value)
    assert [one.name for one in out.parent.iterdir()] == [out.name]


@pytest.fixture
def out(made, tmp_path):
    """A folder with nothing in it but an export of the pruned ledger, which has frames of every kind."""
    folder = tmp_path / "carried"
    folder.mkdir()
    export(made["pruned"], folder / "out")
    return folder / "out"


def frames(data: bytes) -> list[bytes]:
    """Cut an export into its frames."""
    found = []
    while data:
        end = 4 + int.from_bytes(data[:4], "big")
        found.append(data[:end])
        data = data[end:]
    return found


def frame(*values) -> bytes:
    data = codec.encode(list(values))
    return len(data).to_bytes(4, "big") + data


def test_an_export_that_is_cut_off_is_refused(out):
    whole = out.read_bytes()
    parts = frames(whole)
    ends = [sum(map(len, parts[:count])) for count in range(len(parts))]
    draw = random.Random(0)
    for end in [*ends[:3], *ends[-4:], 2, 10, len(whole) - 1, *(draw.randrange(len(whole)) for _ in range(4))]:
        out.write_bytes(whole[:end])
        refused(out, Damaged, "does not hold")


def test_an_export_with_a_changed_bit_is_refused(out):
    whole = out.read_bytes()
    draw = random.Random(1)
    for _ in range(10):
        out.write_bytes(flipped(whole, draw))
        with pytest.raises((Damaged, StoreError)):
            load(out, out.parent / "new.db")
        assert [one.name for one in out.parent.iterdir()] == ["out"]


def test_frames_that_are_missing_twice_or_in_another_order_are_refused(out):
    parts = frames(out.read_bytes())
    for changed in (
        parts[1:],
        [parts[0], *parts],
        [parts[0], *parts[2:]],
        [*parts[:-2], parts[-1]],
        [*parts[:-2], parts[-1], parts[-2]],
        [*parts, parts[-1]],
        [*parts, *parts],
        [*parts[:-1], frame("end", TIP - 1)],
        [*parts[:-1], frame("end", "45")],
        [*parts[:-1], frame("more"), parts[-1]],
        [parts[0], parts[-1]],
        [*parts[:-1], frame("block", b"", [])],
    ):
        out.write_bytes(b"".join(changed))
        refused(out, Damaged if changed[0] == parts[0] else StoreError)


def test_a_newer_export_is_refused(out):
    parts = frames(out.read_bytes())
    for newer in (frame("fedmeta ledger", 2, b"genesis"), frame("fedmeta ledger", 3, {}, [])):
        out.write_bytes(b"".join([newer, *parts[1:]]))
        refused(out, NewerSchema, "has format [23]: this version of fedmeta knows 1")


def test_a_foreign_file_is_refused(out, made):
    for foreign in (b"PK\x03\x04" * 100, made["whole"].read_bytes(), random.Random(0).randbytes(9), b"\0" * 1_000):
        out.write_bytes(foreign)
        refused(out, StoreError, "is not the export of a ledger")
    out.unlink()
    with pytest.raises(StoreError, match=f"cannot read {out}"):
        load(out, out.parent / "new.db")
    with pytest.raises(StoreError, match=f"cannot read {out.parent}"):
        load(out.parent, out.parent / "new.db")
    assert list(out.parent.iterdir()) == []


def test_nothing_is_written_over_another_file(out, path):
    before = out.read_bytes()
    with pytest.raises(StoreError, match=r"out exists"):
        export(path, out)
    with pytest.raises(StoreError, match=rf"{path.name} exists"):
        load(out, path)
    assert out.read_bytes() == before
    assert [one.name for one in out.parent.iterdir()] == ["out"]


def test_what_cannot_be_exported_leaves_no_file(path, tmp_path):
    folder = tmp_path / "carried"
    folder.mkdir()
    change(path, "UPDATE blocks SET transactions = NULL WHERE height = 15")
    with pytest.raises(Damaged, match="the transactions of block 15 are missing"):
        export(path, folder / "out")
    with pytest.raises(StoreError, match=r"cannot use .*none/out"):
        export(path, folder / "none" / "out")
    assert list(folder.iterdir()) == []
