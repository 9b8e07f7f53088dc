import shutil
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from fedmeta.govern.client.audit import verify_ledger
from fedmeta.govern.client.light import LightClient, verify_record
from fedmeta.govern.engines import embedded
from fedmeta.govern.engines.embedded import EmbeddedEngine
from fedmeta.govern.engines.engine import Applied
from fedmeta.govern.engines.replay import rebuild
from fedmeta.govern.engines.store import Place, Store
from fedmeta.govern.errors import Damaged, KeyFileError, NodeError, Refused
from fedmeta.govern.machine.application import Application
from fedmeta.govern.state.records import Delegation
from fedmeta.govern.wire import transactions as tx
from fedmeta.govern.wire.signatures import digest
from tests.govern.engines.keeping import short_memory
from tests.govern.playing import TIME, Play, federation, key
from tests.waiting import PATIENCE

SEQUENCER = key("sequencer")
GENESIS = federation().digest


@pytest.fixture(autouse=True, scope="module")
def brief():
    """Blocks can be pruned after a while that tests can wait for."""
    with short_memory():
        yield


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.db"


@pytest.fixture
def engine(path):
    with EmbeddedEngine.create(path, federation(), SEQUENCER) as made:
        yield made


def sign(name, sequence, body=None, genesis=GENESIS):
    return tx.sign(key(name), genesis, name, sequence, body or tx.Delegate("ann", 1))


def grow(engine, blocks, name="hal"):
    """Make blocks of one transaction each."""
    for _ in range(blocks):
        sequence = engine.query("member", {"name": name})["sequence"]
        engine.submit(sign(name, sequence))
        engine.produce(TIME)


# Acknowledgement


def test_a_transaction_is_acknowledged_once_its_block_is_on_the_disk_and_not_before(engine, path):
    raw, seen = sign("hal", 0), []
    receipt = engine.submit(raw)

    def look(future):
        with Store.read(path) as store:
            seen.append((store.tip, store.place(digest(raw))))

    receipt.future.add_done_callback(look)
    assert not receipt.future.done()
    with pytest.raises(NodeError, match="is in no block yet"):
        receipt.wait(timeout=0.01)
    signed = engine.produce(TIME)
    assert receipt.wait(0.0) == Applied(digest(raw), 1, 0)
    assert seen == [(1, Place(1, 0, ""))]
    assert engine.transaction(digest(raw)) == Place(1, 0, "")
    assert engine.header(1) == signed
    assert engine.block(1).transactions == (raw,)


@pytest.fixture
def unchecked(monkeypatch):
    """Let all into the pool, as if what they are refused for had come after they were checked."""
    monkeypatch.setattr(Application, "check_tx", lambda *_: None)


def test_what_the_rules_refuse_is_refused_at_once_and_waits_for_no_block(engine):
    engine.submit(sign("hal", 0))
    for body, code in ((tx.Delegate("ann", 10**9), "insufficient-funds"), (tx.Delegate("nobody", 1), "not-found")):
        with pytest.raises(Refused, match=code):
            engine.submit(sign("hal", 1, body))
    assert engine.pending == 1
    engine.submit(sign("hal", 1))
    assert len(engine.produce(TIME) and engine.block(1).transactions) == 2


def test_what_was_overtaken_while_it_waited_is_answered_and_waits_no_more(path):
    genesis = federation(max_block_bytes=65_536, member_transactions=300)
    with EmbeddedEngine.create(path, genesis, SEQUENCER) as engine:
        new, name = key("new").public, genesis.digest
        rotated = tx.RotateKey(new, key("new").sign(tx.possession(name, "hal", new)))
        engine.submit(sign("hal", 0, rotated, name))
        body = tx.SetProfile("x" * 200, "y" * 200, b"")
        receipts = [engine.submit(sign("hal", at, body, name)) for at in range(1, 300)]
        engine.produce(TIME)
        assert engine.pending == 0
        done = [receipt for receipt in receipts if receipt.future.exception(0) is None]
        assert 0 < len(done) == len(engine.block(1).transactions) - 1 < 299
        codes = [receipt.future.exception(0).code for receipt in receipts[len(done) :]]
        assert codes == ["bad-signature", *["future-sequence"] * (len(codes) - 1)]


def test_what_the_rules_refuse_in_the_block_is_answered_and_in_no_block(engine, unchecked):
    poor, after = sign("hal", 0, tx.Delegate("ann", 10**9)), sign("hal", 1)
    receipts = [engine.submit(raw) for raw in (poor, after, sign("ivy", 0))]
    engine.produce(TIME)
    for receipt, code in zip(receipts, ("insufficient-funds", "future-sequence"), strict=False):
        with pytest.raises(Refused) as caught:
            receipt.wait(0.0)
        assert caught.value.code == code
    assert receipts[2].wait(0.0).height == 1
    assert len(engine.block(1).transactions) == 1
    assert engine.submit(sign("hal", 0))


def test_after_a_refusal_without_a_block_the_same_number_can_be_used(engine, unchecked):
    receipt = engine.submit(sign("hal", 0, tx.Delegate("ann", 10**9)))
    assert engine.produce(TIME) is None
    assert receipt.future.done()
    assert engine.height == engine.pending == 0
    engine.submit(sign("hal", 0))
    assert engine.produce(TIME).header.height == 1


def test_a_transaction_is_taken_once(engine):
    raw = sign("hal", 0)
    engine.submit(raw)
    with pytest.raises(Refused, match="stale-sequence"):
        engine.submit(raw)
    engine.produce(TIME)
    with pytest.raises(Refused, match="stale-sequence"):
        engine.submit(raw)
    assert engine.read(lambda app: app.state.need(Delegation, "hal", "ann").shares) == 1_001 * 10**6


def part_of_a_round():
    """Return a commitment of the first round, which the first block schedules."""
    play = Play()
    play.wait()
    return play.sign(*play.update("hal"))


def test_a_part_of_a_round_has_no_sequence_number_and_is_taken_once_for_all_that(engine):
    raw = part_of_a_round()
    engine.produce(TIME, empty=True)
    receipt = engine.submit(raw)
    for _ in range(3):
        with pytest.raises(Refused, match="already-done"):
            engine.submit(raw)
    assert engine.pending == 1
    engine.produce(TIME)
    assert receipt.wait(0.0) == Applied(digest(raw), 2, 0)
    with pytest.raises(Refused, match="already-done"):
        engine.submit(raw)
    assert engine.pending == engine._pool_bytes == 0


def test_a_part_of_a_round_that_came_too_early_can_come_again(engine):
    raw = part_of_a_round()
    with pytest.raises(Refused, match="not-found"):
        engine.submit(raw)
    engine.produce(TIME, empty=True)
    receipt = engine.submit(raw)
    engine.produce(TIME)
    assert receipt.wait(0.0).height == 2


def test_what_does_not_fit_waits_for_the_next_block(path):
    genesis = federation(max_block_bytes=65_536, member_transactions=300)
    with EmbeddedEngine.create(path, genesis, SEQUENCER) as engine:
        body = tx.SetProfile("x" * 200, "y" * 200, b"")
        raws = [sign("hal", at, body, genesis.digest) for at in range(300)]
        receipts = [engine.submit(raw) for raw in raws]
        heights = []
        while engine.pending:
            heights.append(engine.produce(TIME).header.height)
        assert len(heights) > 1
        assert [receipt.wait(0.0).height for receipt in receipts] == sorted(
            receipt.wait(0.0).height for receipt in receipts
        )
        for height in heights:
            assert sum(map(len, engine.block(height).transactions)) <= 65_536


def test_so_many_transactions_wait_and_no_more(engine, monkeypatch):
    monkeypatch.setattr(embedded, "POOL_COUNT", 3)
    for sequence in range(3):
        engine.submit(sign("hal", sequence))
    with pytest.raises(Refused, match="limit-reached"):
        engine.submit(sign("hal", 3))
    engine.produce(TIME)
    monkeypatch.setattr(embedded, "POOL_BYTES", 2 * len(sign("hal", 3)))
    for sequence in range(3, 5):
        engine.submit(sign("hal", sequence))
    with pytest.raises(Refused, match="limit-reached"):
        engine.submit(sign("hal", 5))


def test_what_waits_when_the_ledger_is_closed_is_cancelled_and_in_no_block(path):
    engine = EmbeddedEngine.create(path, federation(), SEQUENCER)
    receipt = engine.submit(sign("hal", 0))
    engine.close()
    engine.close()
    assert receipt.future.cancelled()
    with EmbeddedEngine.open(path) as again:
        assert again.height == 0


def test_many_threads_may_submit_read_and_make_blocks(engine):
    names = ("hal", "ivy", "joy", "ann", "bob")
    done = threading.Event()

    def member(name):
        receipts = [engine.submit(sign(name, sequence, tx.Delegate("cat", 1))) for sequence in range(40)]
        return [receipt.wait(float(PATIENCE)).height for receipt in receipts]

    def reader():
        seen = 0
        client = LightClient.of(engine.genesis)
        while not done.is_set():
            record, proof, at = engine.prove("candidate", "cat")
            if at:
                assert verify_record(proof, client.jump(engine.header(at))) == record
            for height, events in engine.events(seen + 1):
                assert [kind for kind, _ in events].count("block-ending") == (height > 0)
                seen = height
            assert engine.height >= seen
        return seen

    with ThreadPoolExecutor(8) as pool:
        members = [pool.submit(member, name) for name in names]
        readers = [pool.submit(reader) for _ in range(2)]
        try:
            while not all(one.done() for one in members):
                engine.produce(TIME)
        finally:
            done.set()
        heights = [one.result() for one in members]
        assert all(one.result() <= engine.height for one in readers)
    assert all(one == sorted(one) for one in heights)
    assert engine.query("candidate", {"name": "cat"})["tokens"] == 3_000 + 500 + 200
    assert verify_ledger(engine.path).sound


# Blocks


def test_time_never_goes_back(engine):
    assert engine.produce(TIME - 5, empty=True).header.time == TIME
    assert engine.produce(TIME + 5, empty=True).header.time == TIME + 5
    assert engine.produce(TIME, empty=True).header.time == TIME + 5


def test_no_empty_block_is_made_unless_it_is_asked_for(engine):
    assert engine.produce(TIME) is None
    assert engine.height == 0
    assert engine.produce(TIME, empty=True).header.height == engine.height == 1


def test_without_the_sequencer_s_key_a_ledger_can_be_read_only(path):
    EmbeddedEngine.create(path, federation(), SEQUENCER).close()
    with EmbeddedEngine.open(path) as engine:
        assert engine.query("member", {"name": "hal"})["name"] == "hal"
        with pytest.raises(KeyFileError, match="makes no blocks"):
            engine.produce(TIME, empty=True)


def test_a_light_client_follows_every_block(engine):
    grow(engine, 5)
    client = LightClient.of(engine.genesis)
    for height in range(1, 6):
        client.follow(engine.header(height))
    assert engine.header(6) is engine.header(0) is engine.block(6) is None


def test_events_are_told_by_block_from_genesis_on(engine):
    grow(engine, 3)
    told = dict(engine.events())
    assert list(told) == [0, 1, 2, 3]
    assert {kind for kind, _ in told[0]} >= {"member-admitted", "staked", "term-elected"}
    assert [kind for kind, _ in told[2]] == ["transaction-applied", "staked", "block-ending"]
    assert list(engine.events(2, 2)) == [(2, told[2])]
    assert list(engine.events(4)) == list(engine.events(2, 1)) == []


def test_a_ledger_goes_on_where_it_was_closed(path):
    with EmbeddedEngine.create(path, federation(), SEQUENCER) as engine:
        grow(engine, 3)
        left = engine.app_hash, engine.height
    for _ in range(3):
        with EmbeddedEngine.open(path, SEQUENCER) as engine:
            assert (engine.app_hash, engine.height) == left
            grow(engine, 2)
            left = engine.app_hash, engine.height
    assert verify_ledger(path).sound


# Snapshots, pruning, rebuilding


@pytest.fixture(scope="module")
def grown(tmp_path_factory):
    """A ledger that needs its last 35 blocks, after 55 blocks with snapshots at 5, 15 and 25."""
    path = tmp_path_factory.mktemp("grown") / "ledger.db"
    with EmbeddedEngine.create(path, federation(), SEQUENCER) as engine:
        for _ in range(3):
            grow(engine, 5)
            engine.snapshot()
            grow(engine, 5)
        grow(engine, 25)
    return path


@pytest.fixture
def short(grown, path):
    """A copy of that ledger."""
    shutil.copy(grown, path)
    with EmbeddedEngine.open(path, SEQUENCER) as engine:
        yield engine


def test_pruning_keeps_all_that_is_needed_and_a_snapshot_to_begin_from(short):
    last = short.block(55)
    assert short.first == 1
    assert short.prune() == short.first == 16
    assert [one.height for one in short.snapshots()] == [15, 25]
    assert short.block(15) is short.transaction(digest(sign("hal", 14))) is None
    assert [height for height, _ in short.events()] == [0, *range(16, 56)]
    for height in range(16, 56):
        (raw,) = short.block(height).transactions
        proof, signed = short.prove_transaction(digest(raw))
        assert signed.header.height == height
        assert proof.leaf == raw
    assert short.block(55) == last
    client = LightClient.of(short.genesis)
    for height in range(1, 56):
        client.follow(short.header(height))
    assert verify_record(short.prove("member", "hal")[1], client.head).name == "hal"


def test_a_proof_that_was_handed_out_before_pruning_still_leads_to_a_header_that_is_kept(path):
    with EmbeddedEngine.create(path, federation(), SEQUENCER) as engine:
        grow(engine, 5)
        record, proof, _ = engine.prove("member", "hal")
        engine.snapshot()
        grow(engine, 40)
        assert engine.prune() == 6
        assert verify_record(proof, engine.header(5).header) == record


def test_pruning_without_a_snapshot_to_begin_from_deletes_nothing(path):
    with EmbeddedEngine.create(path, federation(), SEQUENCER) as engine:
        grow(engine, 50)
        assert engine.prune() == 1
        engine.snapshot()
        assert engine.prune() == 1
        assert engine.block(1) is not None


def test_nothing_that_is_still_needed_is_pruned_even_if_asked_for(short):
    assert short.prune(retain=54) == 16
    assert short.prune(retain=3) == 16


def test_a_pruned_ledger_opens_is_audited_and_goes_on(short, path):
    short.prune()
    short.close()
    audit = verify_ledger(path)
    assert (audit.problem, audit.start, audit.height, audit.transactions) == ("", 15, 55, 40)
    with EmbeddedEngine.open(path, SEQUENCER) as engine:
        grow(engine, 2)
        assert engine.prune() == 16


@pytest.mark.parametrize("pruned", [False, True])
@pytest.mark.parametrize("snapshot", [None, 15, 25])
def test_a_state_that_was_lost_is_rebuilt_from_genesis_or_a_snapshot(short, path, snapshot, pruned):
    due = short.app_hash
    if pruned:
        short.prune()
    short._store.replace_state([(0, b"\x00")])
    short.close()
    with pytest.raises(Damaged):
        EmbeddedEngine.open(path, SEQUENCER)
    seen = []
    assert rebuild(path, snapshot, lambda height, tip: seen.append((height, tip))) == 55
    begin = snapshot or (15 if pruned else 0)
    assert seen == [(height, 55) for height in range(begin + 1, 56)]
    with EmbeddedEngine.open(path, SEQUENCER) as engine:
        assert engine.app_hash == due
        grow(engine, 1)
    assert verify_ledger(path).sound


def test_there_is_no_rebuilding_from_a_snapshot_that_is_not_kept(short, path):
    short.prune()
    short.close()
    with pytest.raises(Damaged, match="no snapshot of height 5: there is 15, 25"):
        rebuild(path, 5)
