"""The recorded chain and random ones come to the same in memory, on the embedded engine and as CometBFT's application.

On the way every change of the validators is one that CometBFT can carry out, and the set is that of the seats.
"""

import tempfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from hypothesis import strategies as st
from hypothesis.stateful import rule

from fedmeta.govern.engines.cometbft import abci
from fedmeta.govern.engines.embedded import EmbeddedEngine
from fedmeta.govern.errors import Refused
from fedmeta.govern.machine.application import Application, seats_of
from fedmeta.govern.machine.genesis import start
from fedmeta.govern.state.records import Candidate
from tests.examples import TIMES, examples, in_soak
from tests.govern.cometbft.consensus import Consensus, Ledger, check_headers
from tests.govern.engines.story import story
from tests.govern.machine import test_machine as machine
from tests.govern.playing import Play, first_consensus_key, key
from tests.govern.recorded import record


def asked(block):
    """Return a block as CometBFT shows it; all that it says of signers is in its items."""
    no_last = abci.LastCommit(0, ())
    return abci.BlockRequest(
        block.items, no_last, (), bytes(32), block.height, block.time * 10**6 + 999, bytes(32), bytes(20)
    )


def as_cometbft_s(path, genesis, blocks, hashes):
    """Decide the blocks as CometBFT would; the state must have these roots, and the validators be the seats."""
    consensus = Consensus(genesis, [Ledger.made(path, genesis)])
    ledger = consensus.nodes[0].handler
    for block in blocks:
        consensus.decide(asked(block))
        state = ledger.application.state
        assert (state.height, state.time, state.root) == (block.height, block.time, hashes[block.height])
        assert consensus.sets[block.height + 2] == {one.public: one.power for one in seats_of(state)}
    check_headers(ledger, consensus)
    return consensus


def in_memory(genesis, blocks, hashes):
    application = Application(start(genesis).state)
    for block in blocks:
        application.finalize(block)
        assert application.commit().app_hash == hashes[block.height]


def embedded(path, genesis, blocks):
    """Let a sequencer order what the blocks hold; return what it decides, and the roots that this gives."""
    decided, hashes = [], []
    with EmbeddedEngine.create(path, genesis, key("sequencer")) as engine:
        hashes.append(engine.app_hash)
        for block in blocks:
            for raw in block.transactions:
                with suppress(Refused):
                    engine.submit(raw)
            engine.produce(block.time, empty=True)
            decided.append(engine.block(engine.height))
            hashes.append(engine.app_hash)
    return decided, hashes


def on_all_engines(folder, genesis, blocks):
    decided, hashes = embedded(folder / "embedded.db", genesis, blocks)
    in_memory(genesis, decided, hashes)
    as_cometbft_s(folder / "comet.db", genesis, decided, hashes)
    return hashes


def test_the_recorded_chain_is_the_same_everywhere(tmp_path):
    recorded = record.read()
    blocks = recorded.blocks if TIMES else recorded.blocks[: record.BUSY // 2]
    in_memory(recorded.genesis, blocks, recorded.hashes)
    as_cometbft_s(tmp_path / "comet.db", recorded.genesis, blocks, recorded.hashes)
    # A sequencer leaves out what is refused, which changes nothing, and what only several signers can do.
    (tmp_path / "engines").mkdir()
    blocks = blocks[: record.BUSY]
    told = on_all_engines(tmp_path / "engines", recorded.genesis, blocks)
    assert told == recorded.hashes[: len(blocks) + 1]


def with_validators(genesis):
    """Return a play of a genesis in which the super nodes decide the blocks."""
    standing = tuple(replace(one, consensus=first_consensus_key(one.member).public) for one in genesis.candidates)
    parameters = {**genesis.parameters, "unbonding_seconds": 60}
    return Play(replace(genesis, sequencer=b"", parameters=parameters, candidates=standing))


@in_soak
def test_the_recorded_chain_s_script_is_the_same_where_super_nodes_decide(tmp_path):
    made = record.play(with_validators)
    in_memory(made.genesis, made.blocks, made.hashes)
    consensus = as_cometbft_s(tmp_path / "comet.db", made.genesis, made.blocks, made.hashes)
    assert len({tuple(sorted(one.items())) for one in consensus.sets}) > 3


def test_a_story_of_rounds_is_the_same_everywhere(tmp_path):
    play = story()
    assert on_all_engines(tmp_path, play.genesis, play.blocks) == play.hashes


class Sequenced(machine.Ledger):
    """Random histories of a ledger with a sequencer, in which nobody says who signs blocks."""

    sign_twice = None
    """No rule here."""

    def teardown(self):
        play = getattr(self, "play", None)
        if play is not None and play.agrees:
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name)
                on_all_engines(folder, play.genesis, play.blocks)
                as_cometbft_s(folder / "as played.db", play.genesis, play.blocks, play.hashes)
        super().teardown()


class Validated(machine.Ledger):
    """Random histories of a ledger whose super nodes decide the blocks: they change keys, and are slashed or absent."""

    validators = True

    @rule(absent=machine.few, unknown=st.booleans())
    def miss(self, absent, unknown):
        """Let some not sign a block where that is looked at."""
        play = self.play
        while (play.height + 1) % play.parameters.signing_blocks:
            play.wait()
        keys = [play.state.need(Candidate, name).consensus for name in machine.among(machine.CANDIDATES, absent)]
        keys += [key("nobody").public] * unknown
        play.take(replace(play.next_block(), absent=tuple(sorted(keys))))

    def teardown(self):
        play = getattr(self, "play", None)
        if play is not None and play.agrees:
            with tempfile.TemporaryDirectory() as name:
                as_cometbft_s(Path(name) / "comet.db", play.genesis, play.blocks, play.hashes)
        super().teardown()


class TestSequenced(Sequenced.TestCase):
    """Random chains of a sequencer are the same on every engine."""

    settings = examples(5, stateful_step_count=20 if TIMES else 6)


class TestValidated(Validated.TestCase):
    """In no history CometBFT is given a change of its validators that stops it."""

    settings = examples(5, stateful_step_count=30 if TIMES else 15)
