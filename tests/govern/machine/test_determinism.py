"""The same blocks give the same states: in any process, engine and order, from a copy, and as they once were recorded.

`tests/govern/recorded/record.py` says how the recorded chain is made, and when it may be made anew.
"""

import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from fedmeta.govern.client.audit import export, load, verify_ledger
from fedmeta.govern.engines.embedded import EmbeddedEngine
from fedmeta.govern.engines.memory import MemoryEngine
from fedmeta.govern.errors import Refused
from fedmeta.govern.machine.execute import execute
from fedmeta.govern.machine.genesis import start
from fedmeta.govern.rules.faults import KINDS
from fedmeta.govern.rules.proposal_actions import ACTIONS
from fedmeta.govern.state.snapshot import restore, take
from fedmeta.govern.wire import transactions as tx
from fedmeta.govern.wire.block import Block
from fedmeta.govern.wire.events import EVENTS, ProposalExecuted, ProposalOpened, TransactionApplied, TransactionRefused
from fedmeta.govern.wire.round_events import AttemptFailed, FaultProven
from tests.govern.engines.keeping import short_memory
from tests.govern.playing import key
from tests.govern.recorded import record
from tests.govern.recorded.record import BUSY
from tests.waiting import PATIENCE

SEQUENCER = key("sequencer")
ROOT = Path(__file__).parents[3]

SHUFFLED = """
import json, random, sys
from dataclasses import replace
from fedmeta.govern.machine.execute import execute
from fedmeta.govern.machine.genesis import Genesis, start
from tests.govern.recorded import record

recorded, order = record.read(), random.Random(sys.argv[1])
lists = ("members", "candidates", "delegations", "recipes", "registrations")
shuffled = {name: order.sample(getattr(recorded.genesis, name), len(getattr(recorded.genesis, name))) for name in lists}
parameters = dict(order.sample(list(recorded.genesis.parameters.items()), len(recorded.genesis.parameters)))
genesis = replace(recorded.genesis, parameters=parameters, **{name: tuple(one) for name, one in shuffled.items()})
# The lists in another order are another genesis, with another name: only that may make a difference.
name = recorded.genesis.digest
assert order.random() and genesis.digest != name
Genesis.digest = property(lambda self: name)
done = start(genesis)
hashes = [done.app_hash.hex()]
for block in recorded.blocks:
    done = execute(done.state, block)
    hashes.append(done.app_hash.hex())
json.dump([hashes, hash("a string")], sys.stdout)
"""


@pytest.fixture(scope="module")
def recorded():
    return record.read()


@pytest.fixture(scope="module")
def replayed(recorded):
    """What each height gives: genesis, then every block."""
    done = [start(recorded.genesis)]
    for block in recorded.blocks:
        done.append(execute(done[-1].state, block))
    return done


def test_other_hash_seeds_and_orders_of_the_genesis_give_the_same_app_hashes(recorded):
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", SHUFFLED, seed],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
        )
        for seed in ("1", "22")
    ]
    answers = [json.loads(process.communicate(timeout=PATIENCE)[0]) for process in processes]
    assert answers[0][1] != answers[1][1]
    for hashes, _ in answers:
        assert hashes == [one.hex() for one in recorded.hashes]


def test_a_recorded_chain_gives_the_app_hashes_that_it_gave_then(recorded, replayed):
    assert [done.app_hash for done in replayed] == recorded.hashes
    assert [done.state.root for done in replayed] == recorded.hashes


def test_the_recorded_chain_touches_all_that_the_rules_know(replayed):
    events = [event for done in replayed for event in done.events]

    def said(kind):
        return [event for event in events if isinstance(event, kind)]

    assert {event.kind for event in events} == set(EVENTS)
    assert {one.transaction for one in said(TransactionApplied)} == set(tx.TRANSACTIONS)
    assert {one.reason for one in said(AttemptFailed)} == {"too-few-in", "too-few-commitments", "no-agreement"}
    assert {one.fault_kind for one in said(FaultProven)} == set(KINDS)
    assert {cut.place for one in said(FaultProven) for cut in one.cuts} == {"pool", "unbonding", "redelegation"}
    carried_out = {one.proposal for one in said(ProposalExecuted) if one.status == "executed"}
    assert {one.action["kind"] for one in said(ProposalOpened) if one.proposal in carried_out} == set(ACTIONS)
    assert len({one.code for one in said(TransactionRefused)}) > 3


def test_execution_leaves_its_state_alone_and_gives_the_same_twice(recorded):
    state = start(recorded.genesis).state
    for block in recorded.blocks[:BUSY]:
        before, root = list(state.dump()), state.root
        first = execute(state, block)
        execute(state, Block(block.height, block.time + 1, block.transactions[::2]))
        second = execute(state, block)
        assert (list(state.dump()), state.root) == (before, root)
        assert first[1:] == second[1:]
        assert list(first.state.dump()) == list(second.state.dump())
        state = first.state


def drive(engine, blocks, hashes):
    """Submit what the blocks hold, block by block; an engine leaves out what is refused, which changes nothing."""
    for block in blocks:
        for raw in block.transactions:
            with suppress(Refused):
                engine.submit(raw)
        engine.produce(block.time, empty=True)
        assert engine.height == block.height
        assert engine.app_hash == hashes[block.height]


@pytest.mark.parametrize(("height", "pruned"), [(60, False), (110, True)])
def test_a_ledger_that_was_exported_and_imported_elsewhere_goes_on_as_the_first_does(
    tmp_path, recorded, height, pruned
):
    paths = tmp_path / "here", tmp_path / "there"
    with short_memory(), EmbeddedEngine.create(paths[0], recorded.genesis, SEQUENCER) as here:
        drive(here, recorded.blocks[:5], recorded.hashes)
        if pruned:
            here.snapshot()
        drive(here, recorded.blocks[5:height], recorded.hashes)
        assert here.prune() == (6 if pruned else 1)
        assert export(paths[0], tmp_path / "file") == load(tmp_path / "file", paths[1]) == height
        with EmbeddedEngine.open(paths[1], SEQUENCER) as there:
            assert there.app_hash == here.app_hash == recorded.hashes[height]
            for engine in (here, there):
                drive(engine, recorded.blocks[height:130], recorded.hashes)
            for at in range(1, 131):
                assert here.header(at) == there.header(at)
                assert here.block(at) == there.block(at)
    assert verify_ledger(paths[1]).sound


def test_the_engine_in_memory_goes_on_from_a_snapshot_as_without_one(recorded):
    half = BUSY // 2
    engine = MemoryEngine(recorded.genesis)
    drive(engine, recorded.blocks[: half - 5], recorded.hashes)
    engine.nodes[0].snapshot()
    drive(engine, recorded.blocks[half - 5 : half], recorded.hashes)
    joined = engine.join()
    drive(engine, recorded.blocks[half:BUSY], recorded.hashes)
    assert joined.app_hash == recorded.hashes[BUSY]


def restored(state):
    """Return the state that a snapshot of this one gives."""
    manifest, chunks = take(state)
    return restore(manifest, state.time, chunks)


@pytest.mark.parametrize(("first", "last"), [(0, BUSY), (BUSY // 3, BUSY), (2 * BUSY // 3, BUSY), (1_400, record.LAST)])
def test_a_state_from_a_snapshot_goes_on_as_the_one_that_it_was_taken_of(recorded, replayed, first, last):
    state = restored(replayed[first].state)
    for block, due in zip(recorded.blocks[first:last], recorded.hashes[first + 1 : last + 1], strict=True):
        state, _, found = execute(state, block)
        assert found == due
