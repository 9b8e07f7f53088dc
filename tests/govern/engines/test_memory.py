import pytest

from fedmeta.govern.engines.embedded import EmbeddedEngine
from fedmeta.govern.engines.memory import MemoryEngine
from fedmeta.govern.errors import InvalidBlock, Refused
from fedmeta.govern.machine.application import Application
from fedmeta.govern.machine.genesis import start
from fedmeta.govern.wire import transactions as tx
from fedmeta.govern.wire.block import Block
from fedmeta.govern.wire.signatures import digest
from tests.govern.engines.story import story
from tests.govern.playing import TIME, Play, federation, key

GENESIS = federation().digest


def sign(name, sequence, body=None):
    return tx.sign(key(name), GENESIS, name, sequence, body or tx.Delegate("ann", 1))


def test_both_engines_give_the_app_hashes_of_the_pure_function_for_the_same_transactions(tmp_path):
    play = story()
    memory = MemoryEngine(play.genesis, nodes=3)
    with EmbeddedEngine.create(tmp_path / "ledger", play.genesis, key("sequencer")) as embedded:
        assert memory.app_hash == embedded.app_hash == play.hashes[0]
        for block, due in zip(play.blocks, play.hashes[1:], strict=True):
            for raw in block.transactions:
                memory.submit(raw)
                embedded.submit(raw)
            assert memory.produce(block.time, empty=True) == block
            signed = embedded.produce(block.time, empty=True)
            assert memory.app_hash == embedded.app_hash == signed.header.app_hash == due
            assert embedded.block(block.height) == block
        assert memory.height == embedded.height == len(play.blocks)
    assert memory.powers == {seat.public: seat.power for node in memory.nodes for seat in node.seats}


def test_what_one_node_proposes_the_others_judge_and_each_proposes_in_turn():
    engine = MemoryEngine(federation(), nodes=3)
    for height in range(1, 7):
        engine.submit(sign("hal", height - 1))
        assert engine.produce(TIME).height == height
        assert len({node.app_hash for node in engine.nodes}) == 1


def test_a_block_that_a_node_does_not_accept_is_committed_nowhere():
    engine = MemoryEngine(federation())
    before = engine.app_hash
    for block in (Block(1, TIME, (b"junk",)), Block(1, TIME - 1), Block(2, TIME), Block(1, TIME, (sign("hal", 1),))):
        with pytest.raises(InvalidBlock, match=f"node 1 does not accept block {block.height}"):
            engine.decide(block, engine.nodes[0])
    assert {node.app_hash for node in engine.nodes} == {before}
    assert engine.height == 0


def test_a_node_that_comes_to_another_state_is_found_out():
    engine = MemoryEngine(federation())
    engine.nodes[1] = Application(start(federation(treasury=1_000_001)).state)
    with pytest.raises(InvalidBlock, match="node 1 gives block 1 the app hash"):
        engine.produce(TIME, empty=True)
    assert engine.height == 0


def test_what_is_refused_is_said_and_what_does_not_fit_waits(monkeypatch):
    engine = MemoryEngine(federation())
    with pytest.raises(Refused, match="future-sequence"):
        engine.submit(sign("hal", 1))
    poor = sign("hal", 0, tx.Delegate("ann", 10**9))
    with pytest.raises(Refused, match="insufficient-funds"):
        engine.submit(poor)
    with monkeypatch.context() as patch:
        patch.setattr(Application, "check_tx", lambda *_: None)
        assert engine.submit(poor) == digest(poor)
    engine.submit(sign("ivy", 0))
    block = engine.produce(TIME)
    assert block.transactions == (sign("ivy", 0),)
    assert engine.refused[digest(poor)].code == "insufficient-funds"
    assert engine.produce(TIME) is None
    engine.submit(sign("hal", 0))
    assert engine.produce(TIME).height == 2


def test_a_part_of_a_round_waits_once():
    play = Play()
    play.wait()
    raw = play.sign(*play.update("hal"))
    engine = MemoryEngine(federation())
    engine.produce(TIME, empty=True)
    engine.submit(raw)
    with pytest.raises(Refused, match="already-done"):
        engine.submit(raw)
    assert engine.produce(TIME).transactions == (raw,)
    assert not engine.refused


def test_a_new_node_joins_from_a_snapshot_and_the_blocks_since():
    engine = MemoryEngine(federation(), nodes=1)
    for sequence in range(4):
        engine.submit(sign("hal", sequence))
        engine.produce(TIME + sequence)
        if sequence == 1:
            engine.nodes[0].snapshot()
    joined = engine.join()
    assert (joined.height, joined.app_hash) == (4, engine.app_hash)
    engine.submit(sign("hal", 4))
    engine.produce(TIME + 9)
    assert joined.app_hash == engine.app_hash
