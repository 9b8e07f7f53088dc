import contextlib
import itertools
import os
import random
import resource
import shutil
import sqlite3
import subprocess
import sys

import pytest

from fedmeta.govern.client.audit import export, load, verify_ledger
from fedmeta.govern.engines import store as stores
from fedmeta.govern.engines.embedded import EmbeddedEngine
from fedmeta.govern.engines.replay import rebuild
from fedmeta.govern.engines.store import Store
from fedmeta.govern.errors import Damaged, GovernError, StoreError
from fedmeta.govern.wire import transactions as tx
from tests.govern.engines.crashing import ROOT, Torment, Victim, Violation, Witness, small
from tests.govern.engines.keeping import short_memory
from tests.govern.playing import TIME, federation, key
from tests.waiting import PATIENCE

SEQUENCER = key("sequencer")
PAGE, FRAME, LOG_HEAD = 4096, 24 + 4096, 32


@pytest.fixture(autouse=True, scope="module")
def brief():
    """Blocks can be pruned after a while that tests can wait for."""
    with short_memory():
        yield


def grow(engine, blocks, name="hal"):
    """Make blocks of one transaction each; return their receipts."""
    receipts = []
    for _ in range(blocks):
        sequence = engine.query("member", {"name": name})["sequence"]
        receipts.append(engine.submit(tx.sign(key(name), engine.origin.digest, name, sequence, tx.Delegate("ann", 1))))
        engine.produce(TIME)
    return receipts


def contents(folder):
    """Return every file's bytes but those of the lock and of what is shared between processes, which hold nothing."""
    return {name: (folder / name).read_bytes() for name in os.listdir(folder) if not name.endswith((".lock", "-shm"))}


# Kills


def test_after_every_kill_nothing_acknowledged_is_lost_and_nothing_is_applied_twice():
    command = [sys.executable, "-m", "tests.govern.soak", "--kills", "12", "--seed", "7"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "12 of 12 kills" in done.stdout


def test_a_witness_says_what_is_lost_or_changed(tmp_path):
    first = "(SELECT min(height) FROM transactions)"
    changes = {
        "SELECT 1": None,
        f"DELETE FROM transactions WHERE height = {first}": "the index does not say",
        "DELETE FROM blocks WHERE height = (SELECT max(height) FROM blocks)": r"acknowledged|state after|\d+ events",
        f"UPDATE blocks SET transactions = x'80' WHERE height = {first}": "another app hash|sequences",
        "UPDATE state SET data = (SELECT data FROM state WHERE slot = 1) WHERE slot = 0": "comes twice|state after",
        "UPDATE events SET leaves = x'80' WHERE height = 2": "block 2: the events that are stored",
    }
    with Torment(tmp_path / "ledger.db", seed=3) as torment:
        said = []
        while sum(words[0] == "acknowledged" for words in said) < 20:
            victim, torment._next = torment._next, Victim(torment.path)
            said += victim.live(torment.draw, oldest=1)
    for number, (change, complaint) in enumerate(changes.items()):
        path = tmp_path / f"{number}.db"
        for file in tmp_path.glob("ledger.db*"):
            shutil.copy(file, str(file).replace("ledger.db", path.name))
        with contextlib.closing(sqlite3.connect(path)) as database, database:
            database.execute(change)
        witness = Witness(small())
        witness.hear(said)
        with pytest.raises((Violation, GovernError), match=complaint) if complaint else contextlib.nullcontext():
            witness.check(path)


# Logs that are torn: what a kill leaves, and then some of it is lost


class Left:
    """The files of a ledger that was not closed, and how large its log was when each block had been written."""

    def __init__(self, folder):
        self.folder = folder
        path = folder / "ledger.db"
        with EmbeddedEngine.create(path, federation(), SEQUENCER) as engine:
            grow(engine, 3)
        with EmbeddedEngine.open(path, SEQUENCER) as engine:
            log = folder / "ledger.db-wal"
            self.ends = {3: 0}
            for _ in range(8):
                grow(engine, 1)
                self.ends[engine.height] = log.stat().st_size
                if engine.height == 6:
                    engine.snapshot()
            self.hashes = {height: engine.header(height).header.app_hash for height in range(1, 12)}
            self.database, self.log = path.read_bytes(), log.read_bytes()

    def last(self, intact):
        """The last block whose part of the log lies within its first `intact` bytes."""
        return max(height for height, end in self.ends.items() if end <= intact)

    def restore(self, folder, log, database=None):
        path = folder / "ledger.db"
        path.write_bytes(self.database if database is None else database)
        (folder / "ledger.db-wal").write_bytes(log)
        return path


@pytest.fixture(scope="module")
def left(tmp_path_factory):
    return Left(tmp_path_factory.mktemp("left"))


def holds(left, path, height):
    """Expect a ledger of just these blocks, which is sound, and goes on."""
    assert verify_ledger(path).problem == ""
    with EmbeddedEngine.open(path, SEQUENCER) as engine:
        assert engine.height == height
        assert engine.app_hash == left.hashes[height]
        (receipt,) = grow(engine, 1)
        assert receipt.wait(0.0).height == height + 1


def test_a_whole_log_gives_all_blocks(left, tmp_path):
    holds(left, left.restore(tmp_path, left.log), 11)


def spots(size):
    """Places in a log: in its head, at the edges of frames, in their heads, and anywhere."""
    draw = random.Random(size)
    edges = [LOG_HEAD + FRAME * draw.randrange((size - LOG_HEAD) // FRAME) for _ in range(3)]
    return [17, edges[0], edges[1] + draw.randrange(24), edges[2] + 24, *(draw.randrange(size) for _ in range(3))]


def test_a_log_that_is_cut_off_anywhere_gives_the_blocks_that_are_whole_in_it(left, tmp_path):
    for at in spots(len(left.log)):
        holds(left, left.restore(tmp_path, left.log[:at]), left.last(at))


def test_a_log_that_is_lost_gives_the_blocks_that_are_in_the_file(left, tmp_path):
    path = left.restore(tmp_path, b"")
    (tmp_path / "ledger.db-wal").unlink()
    holds(left, path, 3)


def test_a_log_that_is_garbled_anywhere_gives_the_blocks_before_that(left, tmp_path):
    # Every frame has a checksum over all before it, so what comes after a damage is as if it had not been written.
    draw = random.Random(0)
    for at, length in zip(spots(len(left.log)), itertools.cycle((1, PAGE)), strict=False):
        log = bytearray(left.log)
        log[at] ^= 1 << draw.randrange(8)
        log[at + 1 : at + length] = draw.randbytes(len(log[at + 1 : at + length]))
        holds(left, left.restore(tmp_path, bytes(log)), left.last(at))


def test_what_a_killed_process_had_begun_to_write_is_no_block(left, tmp_path):
    frame = left.log[LOG_HEAD : LOG_HEAD + FRAME]
    for more in (random.Random(0).randbytes(3 * FRAME), frame, left.log[LOG_HEAD:]):
        holds(left, left.restore(tmp_path, left.log + more), 11)


def test_pages_that_were_torn_while_the_log_was_brought_into_the_file_are_in_the_log_still(left, tmp_path):
    draw = random.Random(0)
    pages = {int.from_bytes(left.log[at : at + 4], "big") for at in range(LOG_HEAD, len(left.log), FRAME)}
    for _ in range(2):
        database = bytearray(left.database)
        database += bytes(max(0, max(pages) * PAGE - len(database)))
        for page in pages:
            # A sector is written or is not: so the first one, with the file's mark, is as before or after.
            at = (page - 1) * PAGE + 512 * draw.randrange(1, 8)
            database[at : page * PAGE] = draw.randbytes(page * PAGE - at)
        holds(left, left.restore(tmp_path, left.log, bytes(database)), 11)


def test_the_log_of_one_chain_beside_the_file_of_another_is_never_taken_for_a_ledger_of_both(left, tmp_path):
    other = tmp_path / "other.db"
    with EmbeddedEngine.create(other, federation(treasury=5), SEQUENCER) as engine:
        grow(engine, 20)
    path = left.restore(tmp_path, left.log, other.read_bytes())
    before = contents(tmp_path)
    assert "block 1: " in verify_ledger(path).problem
    # The log may happen to hold all of the state.
    with contextlib.suppress(Damaged), EmbeddedEngine.open(path) as engine:
        assert (engine.height, engine.app_hash) == (11, left.hashes[11])
        return
    assert contents(tmp_path) == before


# Pages of the file itself


@pytest.fixture(scope="module")
def closed(tmp_path_factory):
    """A closed ledger with all there can be in one: snapshots, blocks that were pruned and blocks that were not."""
    path = tmp_path_factory.mktemp("closed") / "ledger.db"
    with EmbeddedEngine.create(path, federation(), SEQUENCER) as engine:
        for _ in range(2):
            grow(engine, 6)
            engine.snapshot()
        grow(engine, 33)
        assert engine.prune() == 7
        return path, engine.height, engine.app_hash


def everything(path):
    with Store.read(path) as store:
        tables = ("meta", "blocks", "events", "transactions", "state", "snapshots", "chunks")
        return [store._all(f"SELECT * FROM {table}") for table in tables]


def judged(closed, path):
    """Expect that a damage is found unless it fell on nothing, and never gives a wrong state; return what was found."""
    source, height, app_hash = closed
    before, opens = path.read_bytes(), True
    try:
        problem = verify_ledger(path).problem
    except Damaged as error:
        problem = str(error)
    assert problem or everything(path) == everything(source)
    try:
        with EmbeddedEngine.open(path) as engine:
            assert (engine.height, engine.app_hash) == (height, app_hash)
    except Damaged:
        assert path.read_bytes() == before
        opens = False
    return problem, opens


def test_a_garbled_page_is_found_and_never_gives_a_wrong_state(closed, tmp_path):
    data, draw, path = closed[0].read_bytes(), random.Random(0), tmp_path / "ledger.db"
    found = []
    for page in range(0, len(data), PAGE):
        garbled = bytearray(data)
        begin = page + (draw.choice((0, 0, 2_000)) or 100 * (page == 0))
        end = min(begin + draw.choice((8, 2_000, PAGE)), page + PAGE)
        garbled[begin:end] = draw.randbytes(end - begin)
        path.write_bytes(garbled)
        found.append(judged(closed, path))
    assert sum(bool(problem) for problem, _ in found) > sum(not opens for _, opens in found) > 4


def test_a_file_that_is_cut_off_is_found_and_never_gives_a_wrong_state(closed, tmp_path):
    data, path = closed[0].read_bytes(), tmp_path / "ledger.db"
    for missing in (1, 1_000, PAGE, 3 * PAGE, len(data) - PAGE, len(data) - 100):
        path.write_bytes(data[:-missing])
        problem, opens = judged(closed, path)
        assert missing < PAGE or (problem and not opens)


def garble_state(source, path, page):
    """Copy a ledger, with damage to the records of its state, or to the page that holds them."""
    data = source.read_bytes()
    with Store.read(source) as store:
        places = [data.rindex(row) for _, row in store.rows() if data.count(row) == 1]
    garbled = bytearray(data)
    for at in places[:3]:
        begin, length = (at // PAGE * PAGE, PAGE) if page else (at, 8)
        garbled[begin : begin + length] = random.Random(0).randbytes(length)
    path.write_bytes(garbled)


def test_a_state_whose_records_are_garbled_is_rebuilt_from_the_blocks(closed, tmp_path):
    source, height, app_hash = closed
    path = tmp_path / "ledger.db"
    garble_state(source, path, page=False)
    with pytest.raises(Damaged):
        EmbeddedEngine.open(path, SEQUENCER)
    assert rebuild(path) == height
    with EmbeddedEngine.open(path, SEQUENCER) as engine:
        assert engine.app_hash == app_hash
    assert verify_ledger(path).sound


def test_a_state_whose_pages_are_garbled_is_carried_into_a_new_file_by_the_blocks(closed, tmp_path):
    source, height, app_hash = closed
    path = tmp_path / "ledger.db"
    garble_state(source, path, page=True)
    before = path.read_bytes()
    with pytest.raises(Damaged, match="export it, and import that into a new file"):
        rebuild(path)
    assert path.read_bytes() == before
    assert export(path, tmp_path / "out") == load(tmp_path / "out", tmp_path / "new.db") == height
    with EmbeddedEngine.open(tmp_path / "new.db", SEQUENCER) as engine:
        assert engine.app_hash == app_hash


# A full disk


@contextlib.contextmanager
def room(size):
    """Let no file grow beyond a size: a write is cut off there, as on a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_without_room_nothing_is_acknowledged_and_with_room_it_goes_on(tmp_path):
    path, log, copies = tmp_path / "ledger.db", tmp_path / "ledger.db-wal", tmp_path / "copies"
    copies.mkdir()
    with EmbeddedEngine.create(path, federation(), SEQUENCER) as engine:
        grow(engine, 3)
        before = log.stat().st_size
        grow(engine, 1)
        block = log.stat().st_size - before
        for height, more in enumerate((0, 10, FRAME, block // 2, block - 1), 4):
            due = engine.app_hash
            (sequence,) = {engine.query("member", {"name": "ivy"})["sequence"]}
            ledger, body = engine.origin.digest, tx.Delegate("ann", 1)
            raws = [tx.sign(key("ivy"), ledger, "ivy", sequence + at, body) for at in range(2)]
            receipts = [engine.submit(raw) for raw in raws]
            with room(log.stat().st_size + more):
                for _ in range(2):
                    with pytest.raises(StoreError, match=r"cannot use .*ledger\.db: ") as caught:
                        engine.produce(TIME)
                    assert type(caught.value) is StoreError
                with pytest.raises(StoreError):
                    engine.snapshot()
                assert engine.snapshots() == []
            for file in (path, log):
                shutil.copy(file, copies)
            assert (engine.height, engine.app_hash, engine.pending) == (height, due, 2)
            assert not any(one.future.done() for one in receipts)
            with EmbeddedEngine.open(copies / "ledger.db", SEQUENCER) as killed:
                assert (killed.height, killed.app_hash) == (height, due)
            engine.produce(TIME)
            assert [one.wait(0.0).height for one in receipts] == [height + 1] * 2
    assert verify_ledger(path).problem == ""
    with EmbeddedEngine.open(path, SEQUENCER) as engine:
        assert (engine.height, engine.query("member", {"name": "ivy"})["sequence"]) == (9, 10)


def test_a_ledger_for_which_there_is_no_room_is_not_made(tmp_path, monkeypatch):
    # Each block is brought into the file at once, and the last one is large: the log has room for it, the file not.
    monkeypatch.setattr(stores, "CHECKPOINT_PAGES", 1)
    source, out, path = tmp_path / "source" / "ledger.db", tmp_path / "out", tmp_path / "new.db"
    source.parent.mkdir()
    with EmbeddedEngine.create(source, federation(), SEQUENCER) as engine:
        grow(engine, 5)
        for sequence in range(5, 45):
            engine.submit(tx.sign(key("hal"), engine.origin.digest, "hal", sequence, tx.Delegate("ann", 1)))
        engine.produce(TIME)
    height = export(source, out)
    load(out, path)
    size = path.stat().st_size
    path.unlink()
    for limit in (100, 5_000, size // 2, *range(size - 3 * PAGE, size, PAGE)):
        with room(limit), pytest.raises(StoreError, match=r"new\.db"):
            load(out, path)
        assert set(os.listdir(tmp_path)) == {"source", "out"}
    with room(size):
        load(out, path)
    audit = verify_ledger(path)
    assert (audit.problem, audit.tip) == ("", height)
    for left_over in tmp_path.glob("new.db*"):
        left_over.unlink()
    with room(5_000), pytest.raises(StoreError, match=r"new\.db"):
        EmbeddedEngine.create(path, federation(), SEQUENCER)
    # So that nothing is made beside the ledger that is read, for which there would be no room either.
    monkeypatch.setattr(os, "access", lambda *_: False)
    with room(5_000), pytest.raises(StoreError, match="other"):
        export(source, tmp_path / "other")
    assert set(os.listdir(tmp_path)) == {"source", "out", "new.db.lock"}


FULL = """
import contextlib, os, sys
from fedmeta.govern.wire import transactions as tx
from fedmeta.govern.client.audit import verify_ledger
from fedmeta.govern.engines.embedded import EmbeddedEngine
from fedmeta.govern.errors import StoreError
from tests.govern.playing import TIME, federation, key

path, filler = sys.argv[1] + "/ledger.db", sys.argv[1] + "/filler"
done = full = 0
with EmbeddedEngine.create(path, federation(), key("sequencer")) as engine:
    while full < 3:
        receipt = engine.submit(tx.sign(key("hal"), engine.origin.digest, "hal", done, tx.Delegate("ann", 1)))
        if done % 5 == 4:
            with open(filler, "wb", buffering=0) as file, contextlib.suppress(OSError):
                while file.write(bytes(4096)):
                    pass
        try:
            engine.produce(TIME)
        except StoreError as error:
            assert not receipt.future.done()
            print(error)
            full += 1
            os.remove(filler)
            engine.produce(TIME)
        assert receipt.wait(0.0).height == engine.height
        done += 1
audit = verify_ledger(path)
assert audit.sound and audit.transactions == done == audit.tip, audit
"""


def test_a_disk_that_is_really_full_costs_nothing_that_was_acknowledged(tmp_path):
    mounted = 'mount -t tmpfs -o size=1m ledger "$0" && exec "$@"'
    space = ["unshare", "--map-root-user", "--mount", "sh", "-c", mounted, tmp_path]
    if shutil.which(space[0]) is None or subprocess.run([*space, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody mount a small disk")
    command = [*space, sys.executable, "-c", FULL, tmp_path]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("database or disk is full") == 3
    assert list(tmp_path.iterdir()) == []


# Two at once

RACER = """
import sys
from fedmeta.govern.engines.embedded import EmbeddedEngine
from fedmeta.govern.errors import StoreLocked
from tests.govern.playing import TIME, key
sys.stdin.readline()
made = 0
while made < 5:
    try:
        with EmbeddedEngine.open(sys.argv[1], key("sequencer")) as engine:
            made += engine.produce(TIME, empty=True) is not None
    except StoreLocked:
        pass
"""


def test_processes_that_race_for_a_ledger_have_it_one_at_a_time(tmp_path):
    path = tmp_path / "ledger.db"
    EmbeddedEngine.create(path, federation(), SEQUENCER).close()
    command = [sys.executable, "-c", RACER, path]
    racers = [subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(3)]
    try:
        for one in racers:
            one.stdin.write(b"\n")
            one.stdin.flush()
        assert [one.communicate(timeout=PATIENCE)[1] for one in racers] == [b""] * 3
    finally:
        for one in racers:
            one.kill()
            one.wait()
    audit = verify_ledger(path)
    assert (audit.problem, audit.tip) == ("", 15)
