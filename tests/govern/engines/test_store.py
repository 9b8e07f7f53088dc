import os
import random
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest

from fedmeta.govern.engines.embedded import EmbeddedEngine
from fedmeta.govern.engines.files import APPLICATION_ID, SCHEMA
from fedmeta.govern.engines.store import Store
from fedmeta.govern.errors import Damaged, KeyFileError, NewerSchema, StoreError, StoreLocked, WrongChain
from tests.govern.playing import TIME, federation, key

SEQUENCER = key("sequencer")


@pytest.fixture
def path(tmp_path):
    """A ledger of three blocks that was closed."""
    path = tmp_path / "ledger.db"
    with EmbeddedEngine.create(path, federation(), SEQUENCER) as engine:
        for height in range(3):
            engine.produce(TIME + height, empty=True)
    return path


def contents(folder):
    """Return every file's bytes but the lock, which holds nothing."""
    return {name: (folder / name).read_bytes() for name in sorted(os.listdir(folder)) if not name.endswith(".lock")}


def refused(path, kind, match, **options):
    """Expect that opening is refused in one line that names the file, and that nothing has changed."""
    before = contents(path.parent)
    with pytest.raises(kind, match=match) as caught:
        EmbeddedEngine.open(path, options.pop("key", SEQUENCER), **options)
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)
    assert contents(path.parent) == before


def change(path, *statements):
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        for statement in statements:
            database.execute(statement)


def test_a_closed_ledger_is_one_file_and_opens_where_it_was_left(path):
    assert list(contents(path.parent)) == ["ledger.db"]
    with EmbeddedEngine.open(path, SEQUENCER, chain_id="play") as engine:
        assert engine.height == 3
        assert engine.produce(TIME, empty=True).header.height == 4
    assert list(contents(path.parent)) == ["ledger.db"]


def test_a_ledger_is_never_made_over_another_file(path):
    before = contents(path.parent)
    with pytest.raises(StoreError, match=r"ledger\.db exists"):
        EmbeddedEngine.create(path, federation(), SEQUENCER)
    assert contents(path.parent) == before


def test_the_log_of_a_database_that_was_removed_is_not_taken_for_a_new_one_s(tmp_path):
    path = tmp_path / "ledger.db"
    (tmp_path / "ledger.db-wal").write_bytes(b"old")
    with pytest.raises(StoreError, match=r"ledger\.db-wal exists"):
        EmbeddedEngine.create(path, federation(), SEQUENCER)
    assert list(contents(tmp_path)) == ["ledger.db-wal"]


def test_a_ledger_that_cannot_be_made_leaves_no_file(tmp_path):
    with pytest.raises(StoreError, match="there is no folder"):
        EmbeddedEngine.create(tmp_path / "none" / "ledger.db", federation(), SEQUENCER)

    def rows():
        yield 0, b"one"
        raise StoreError("stopped half-way")

    with pytest.raises(StoreError, match="half-way"):
        Store.create(tmp_path / "ledger.db", b"", rows(), [])
    with pytest.raises(KeyFileError, match="is not that of the sequencer"):
        EmbeddedEngine.create(tmp_path / "ledger.db", federation(), key("hal"))
    assert contents(tmp_path) == {}


def test_there_is_no_ledger(tmp_path):
    refused(tmp_path / "ledger.db", StoreError, "there is no ledger at")


@pytest.mark.parametrize("size", [0, 1, 99, 100, 4096, 100_000])
def test_random_bytes_are_no_database(tmp_path, size):
    path = tmp_path / "ledger.db"
    path.write_bytes(random.Random(size).randbytes(size))
    refused(path, StoreError, "ledger.db is not a database")


@pytest.mark.parametrize("size", [100, 4096, 100_000])
def test_random_bytes_under_our_mark_are_damaged(tmp_path, path, size):
    head = path.read_bytes()[:100]
    path.write_bytes(head + random.Random(size).randbytes(size))
    with pytest.raises(StoreError, match=r"ledger\.db"):
        EmbeddedEngine.open(path, SEQUENCER)


def test_another_application_s_database_is_refused(tmp_path):
    path = tmp_path / "ledger.db"
    change(path, "CREATE TABLE blocks (height)")
    refused(path, StoreError, "another application: its id is 0x0, not 0x66656467")


def test_a_newer_schema_is_refused(path):
    change(path, f"PRAGMA user_version = {SCHEMA + 1}")
    refused(path, NewerSchema, f"has schema {SCHEMA + 1}: this version of fedmeta knows {SCHEMA}")


def test_a_newer_schema_that_is_still_in_the_log_is_refused(path):
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute(f"PRAGMA user_version = {SCHEMA + 1}")
        assert int.from_bytes(path.read_bytes()[60:64], "big") == SCHEMA
        with pytest.raises(NewerSchema):
            EmbeddedEngine.open(path, SEQUENCER)


def test_another_chain_is_refused(path):
    refused(path, WrongChain, "holds chain 'play': 'other' is asked for", chain_id="other")


def test_another_key_is_refused(path):
    refused(path, KeyFileError, "is not that of the sequencer of play", key=key("hal"))


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE state SET data = (SELECT data FROM state WHERE slot = 3) WHERE slot = 2",
        "UPDATE state SET data = x'00' WHERE slot = 2",
        "UPDATE state SET data = 'text' WHERE slot = 2",
        "UPDATE state SET slot = 500 WHERE slot = 2",
        "DELETE FROM state WHERE slot = 2",
        "DELETE FROM state",
        "DELETE FROM blocks WHERE height = 2",
        "DELETE FROM blocks",
        "DELETE FROM events WHERE height = 3",
        "UPDATE blocks SET transactions = NULL WHERE height = 3",
        "UPDATE blocks SET transactions = x'8101' WHERE height = 3",
        "UPDATE blocks SET header = x'00' WHERE height = 3",
        "UPDATE blocks SET header = NULL WHERE height = 3",
        "UPDATE blocks SET header = (SELECT header FROM blocks WHERE height = 1) WHERE height = 2",
        "UPDATE blocks SET header = (SELECT header FROM blocks WHERE height = 2) WHERE height = 3",
        "UPDATE blocks SET signature = zeroblob(64) WHERE height = 3",
        "UPDATE meta SET value = x'00' WHERE name = 'genesis'",
        "UPDATE state SET data = x'' WHERE slot = 2",
        "INSERT INTO state VALUES (500, x'')",
        "INSERT INTO state VALUES (-1, x'')",
        "INSERT INTO state SELECT max(slot) + 1, x'' FROM state",
        "DROP TABLE state",
        "DROP TABLE blocks",
    ],
)
def test_a_ledger_that_does_not_fit_together_is_damaged(path, statement):
    change(path, statement)
    refused(path, Damaged, "ledger.db is damaged")


def test_a_ledger_without_blocks_must_hold_its_genesis_state(tmp_path):
    path = tmp_path / "ledger.db"
    EmbeddedEngine.create(path, federation(), SEQUENCER).close()
    EmbeddedEngine.open(path, SEQUENCER).close()
    change(path, "UPDATE state SET data = (SELECT data FROM state WHERE slot = 3) WHERE slot = 2")
    refused(path, Damaged, "damaged")


def test_two_engines_cannot_use_one_ledger(path):
    with EmbeddedEngine.open(path, SEQUENCER) as engine:
        with pytest.raises(StoreLocked, match="in use by another process"):
            EmbeddedEngine.open(path, SEQUENCER)
        with pytest.raises(StoreLocked):
            EmbeddedEngine.create(path, federation(), SEQUENCER)
        assert engine.produce(TIME, empty=True).header.height == 4
    EmbeddedEngine.open(path, SEQUENCER).close()


HOLDER = """
import sys
from fedmeta.govern.engines.embedded import EmbeddedEngine
with EmbeddedEngine.open(sys.argv[1]):
    print("open", flush=True)
    sys.stdin.read()
"""


def test_two_processes_cannot_use_one_ledger_and_a_killed_one_lets_go(path):
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        try:
            assert process.stdout.readline() == b"open\n"
            with pytest.raises(StoreLocked, match=r"ledger\.db is in use by another process"):
                EmbeddedEngine.open(path, SEQUENCER)
            with Store.read(path) as store:
                assert store.tip == 3
        finally:
            process.kill()
    EmbeddedEngine.open(path, SEQUENCER).close()


def test_a_ledger_can_be_read_while_blocks_are_made(path):
    with EmbeddedEngine.open(path, SEQUENCER) as engine, Store.read(path) as store:
        assert store.tip == 3
        engine.produce(TIME, empty=True)
        with Store.read(path) as later:
            assert later.tip == 4
        assert store.tip == 3


def test_a_ledger_in_a_folder_that_cannot_be_written_can_be_read(path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)
    before = contents(path.parent)
    with Store.read(path) as store:
        assert store.tip == 3
    assert contents(path.parent) == before


def test_the_marks_are_in_the_file_s_head(path):
    head = path.read_bytes()[:100]
    assert head[68:72] == b"fedg" == APPLICATION_ID.to_bytes(4, "big")
    assert int.from_bytes(head[60:64], "big") == SCHEMA


def test_a_copy_without_its_log_is_an_earlier_ledger_not_a_wrong_one(path, tmp_path):
    copy = tmp_path / "copy.db"
    with EmbeddedEngine.open(path, SEQUENCER) as engine:
        for height in range(5):
            engine.produce(TIME + height, empty=True)
        shutil.copy(path, copy)
        hashes = [engine.header(height).header.app_hash for height in range(1, 9)]
    with EmbeddedEngine.open(copy, SEQUENCER) as old:
        assert old.app_hash == hashes[old.height - 1]
        assert old.height == 3
