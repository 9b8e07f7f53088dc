"""The engine on CometBFT, beside one that is played in this process: receipts, and what becomes of what waits."""

import asyncio
from concurrent.futures import CancelledError
from dataclasses import replace

import pytest

from fedmeta.govern.engines.cometbft import engine as engines
from fedmeta.govern.engines.cometbft.child import ConsensusFailure, Ended, GoesOn, StandsStill, Started
from fedmeta.govern.engines.cometbft.engine import CometEngine
from fedmeta.govern.engines.cometbft.rpc import Broadcast
from fedmeta.govern.engines.embedded import EmbeddedEngine
from fedmeta.govern.engines.engine import Applied
from fedmeta.govern.errors import EngineError, NodeBusy, NodeError, Refused, Unacknowledged
from fedmeta.govern.state.records import Member
from fedmeta.govern.wire import transactions as tx
from fedmeta.govern.wire.signatures import digest
from tests.govern.cometbft.consensus import Consensus
from tests.govern.playing import Play, federation, key

GENESIS = federation(validators=True, contributors=())


class Pool:
    """Takes transactions as CometBFT's RPC does, or fails as it can."""

    def __init__(self):
        self.consensus = None
        self.known = set()
        self.fails = None

    def broadcast_tx_sync(self, raw):
        if isinstance(self.fails, BaseException):
            raise self.fails
        if digest(raw) in self.known:
            return Broadcast(0, b"", "tx already exists in cache", "", known=True)
        code = self.consensus.submit(raw)
        if not code:
            self.known.add(digest(raw))
        return Broadcast(int(bool(code)), b"", f"it is {code}" if code else "", code)

    def close(self):
        pass


@pytest.fixture
def engine(tmp_path):
    path = tmp_path / "ledger.db"
    CometEngine.create(path, GENESIS)
    with CometEngine.open(path, tmp_path / "rpc.sock") as made:
        made._rpc = pool = Pool()
        pool.consensus = Consensus(GENESIS, [made._bridge])
        yield made


@pytest.fixture
def play():
    return Play(GENESIS)


def waits(receipt):
    return not receipt.future.done()


def test_a_transaction_is_acknowledged_once_its_block_is_kept(engine, play):
    raws = [play.sign("hal", tx.Delegate("bob", 7), ahead=at) for at in range(2)]
    receipts = [engine.submit(raw) for raw in raws]
    assert [waits(one) for one in receipts] == [True, True]
    assert engine.pending == 2
    with pytest.raises(NodeError, match=r"is in no block yet, after 0\.0 s"):
        receipts[0].wait(0.0)
    engine._rpc.consensus.step()
    assert [one.wait(0.0) for one in receipts] == [Applied(digest(raw), 1, at) for at, raw in enumerate(raws)]
    assert engine.pending == 0
    assert engine.transaction(digest(raws[1])) == (1, 1, "")
    # It is decided, but nobody has certified it yet.
    assert (engine.decided, engine.height, engine.header(1)) == (1, 0, None)
    assert engine.prove("member", "hal")[2] == 1
    assert engine.query("member", {"name": "hal"})["sequence"] == 2


def test_the_same_bytes_have_one_receipt_and_are_known_once_they_are_in_a_block(engine, play):
    raw = play.sign("hal", tx.Delegate("bob", 7))
    receipt = engine.submit(raw)
    assert engine.submit(raw) is receipt
    engine._rpc.consensus.step()
    again = engine.submit(raw)
    assert again.wait(0.0) == receipt.wait(0.0)
    assert engine.pending == 0


def test_what_waits_already_has_a_receipt_and_what_was_in_a_block_that_is_forgotten_has_none(engine, play):
    consensus = engine._rpc.consensus
    raws = [play.sign("hal", tx.Delegate("bob", 7), ahead=at) for at in range(2)]
    for raw in raws:
        # They came from another node.
        engine._rpc.broadcast_tx_sync(raw)
    receipts = [engine.submit(raw) for raw in raws]
    consensus.step()
    assert [one.wait(0.0).position for one in receipts] == [0, 1]
    with engine._store._writing() as database:
        database.execute("DELETE FROM transactions")
    with pytest.raises(Refused) as caught:
        engine.submit(raws[0])
    assert caught.value.code == "stale-sequence"
    assert engine.pending == 0


def test_what_is_refused_at_once_leaves_no_receipt(engine, play):
    with pytest.raises(Refused, match="it is insufficient-funds") as caught:
        engine.submit(play.sign("hal", tx.Delegate("bob", 10**12)))
    assert caught.value.code == "insufficient-funds"
    assert engine.pending == 0


def test_what_a_rule_refuses_at_its_turn_is_answered(engine, play):
    consensus = engine._rpc.consensus
    most = play.member("hal").free
    raw = play.sign("hal", tx.Delegate("bob", most), ahead=1)
    first = engine.submit(play.sign("hal", tx.Delegate("bob", 1)))
    with pytest.raises(Refused):
        engine.submit(raw)
    # Another node's pool held them in another order: the block refuses what was taken here.
    other = play.sign("hal", tx.Delegate("bob", most))
    consensus.decide(consensus.request((other,)))
    with pytest.raises(Refused) as caught:
        first.wait(0.0)
    assert caught.value.code == "stale-sequence"
    assert engine.pending == 0


def test_what_a_decided_block_refuses_is_answered_with_its_code(engine, play):
    consensus = engine._rpc.consensus
    most = play.member("hal").free
    second = play.sign("hal", tx.Delegate("bob", most), ahead=1)
    engine.submit(play.sign("hal", tx.Delegate("bob", most)))
    receipt = engines.Receipt(digest(second))
    engine._receipts[digest(second)] = second, receipt
    consensus.decide(consensus.request((*consensus.nodes[0].pool, second)))
    with pytest.raises(Refused, match="refused it in block 1") as caught:
        receipt.wait(0.0)
    assert caught.value.code == "insufficient-funds"


def test_so_many_wait_and_no_more(engine, play, monkeypatch):
    monkeypatch.setattr(engines, "RECEIPTS", 2)
    for at in range(2):
        engine.submit(play.sign("hal", tx.Delegate("bob", 1), ahead=at))
    with pytest.raises(Refused, match="2 transactions wait") as caught:
        engine.submit(play.sign("joy", tx.Delegate("bob", 1)))
    assert caught.value.code == "limit-reached"


def test_while_cometbft_is_away_nothing_is_taken_but_what_it_may_have_is_kept(engine, play):
    raw = play.sign("hal", tx.Delegate("bob", 1))
    for fails in (EngineError("it does not listen"), NodeBusy("mempool is full", 5)):
        engine._rpc.fails = fails
        with pytest.raises(NodeError):
            engine.submit(raw)
        assert engine.pending == 0
    engine._rpc.fails = Unacknowledged("it may have it", digest(raw), raw)
    receipt = engine.submit(raw)
    assert waits(receipt)
    assert engine.pending == 1


def test_what_waited_in_the_pool_of_a_cometbft_that_ended_is_sent_again_and_taken(engine, play):
    consensus = engine._rpc.consensus
    raws = [play.sign("hal", tx.Delegate("bob", 7), ahead=at) for at in range(2)]
    receipts = [engine.submit(raw) for raw in raws]
    engine._hear(Ended(-9, 3.0, 1.0))
    assert engine.fault.startswith("CometBFT ended with -9")
    engine._rpc.known.clear()
    engine._hear(Started(1))
    consensus.handshake(0)
    # It is as the engine does it, once the socket answers.
    asyncio.run(engine._send_again())
    assert [waits(one) for one in receipts] == [True, True]
    assert consensus.nodes[0].pool == raws
    consensus.step()
    assert [one.wait(0.0).height for one in receipts] == [1, 1]


def test_what_is_wrong_is_said_until_there_are_blocks_again(engine):
    told = []
    engine._announce = lambda: told.append(engine.fault)
    for news in (StandsStill(7, 30.0), GoesOn(8), ConsensusFailure("wrong app hash")):
        engine._hear(news)
    assert told == ["block 7 is the last one, for 30 s", "", "CometBFT takes part no more: wrong app hash"]


def test_a_cometbft_that_ended_and_takes_part_again_is_no_fault_any_more(engine, play):
    told = []
    engine._announce = lambda: told.append(engine.fault)
    engine._hear(Ended(1, 0.0, 1.0))
    engine._hear(Started(1))
    assert engine.fault.startswith("CometBFT ended with 1")
    engine.submit(play.sign("hal", tx.Delegate("bob", 7)))
    engine._rpc.consensus.step()
    assert engine.fault == told[-1] == ""


def test_a_ledger_that_is_closed_cancels_what_waits_and_is_opened_where_it_was(tmp_path, engine, play):
    consensus = engine._rpc.consensus
    engine.submit(play.sign("hal", tx.Delegate("bob", 7)))
    consensus.step()
    consensus.step()
    receipt = engine.submit(play.sign("joy", tx.Delegate("bob", 7)))
    engine.close()
    with pytest.raises(CancelledError):
        receipt.wait(0.0)
    with CometEngine.open(engine.path, tmp_path / "rpc.sock") as again:
        consensus.handshake(0, again._bridge)
        assert (again.decided, again.height) == (2, 0)
        assert again.read(lambda application: application.state.need(Member, "hal").sequence) == 1


def test_a_ledger_that_begins_with_a_snapshot_again_waits_for_its_header_alone(engine, play):
    engine.submit(play.sign("hal", tx.Delegate("bob", 7)))
    engine._rpc.consensus.step()
    first = engine._store.header(1).header
    # As if it were the snapshot's, and certified.
    engine._head = first
    for height in (20, 40):
        engine.begun(replace(first, height=height))
    assert (engine._due, engine.height) == ([40], 0)


def test_a_sequencer_s_ledger_is_not_cometbft_s(tmp_path):
    with pytest.raises(EngineError, match="names a sequencer"):
        CometEngine.create(tmp_path / "one", federation())
    EmbeddedEngine.create(tmp_path / "two", federation(), key("sequencer")).close()
    with pytest.raises(EngineError, match="a sequencer orders the blocks of play"):
        CometEngine.open(tmp_path / "two", tmp_path / "rpc.sock")
