"""A follower executes every block itself, and believes none that does not give what its header says."""

import pytest

from fedmeta.govern.client.follower import Follower
from fedmeta.govern.engines.embedded import EmbeddedEngine
from fedmeta.govern.errors import ProofError, StateError
from fedmeta.govern.machine.header import encode_signed, sign_header
from fedmeta.govern.wire import codec
from fedmeta.govern.wire import transactions as tx
from tests.govern import playing


def encoded(engine, height):
    block, signed = engine.block(height), engine.header(height)
    return codec.encode([encode_signed(signed), list(block.transactions)])


@pytest.fixture
def engine(tmp_path):
    genesis = playing.federation()
    with EmbeddedEngine.create(tmp_path / "ledger.db", genesis, playing.key("sequencer")) as engine:
        names = [one.name for one in genesis.members]
        for at in range(4):
            engine.submit(
                tx.sign(playing.key(names[0]), genesis.digest, names[0], at, tx.SetProfile(f"M{at}", "", b""))
            )
            engine.produce(genesis.time + 1_000 * (at + 1), empty=True)
        yield engine


def test_it_comes_to_the_state_of_the_ledger(engine):
    follower = Follower(engine.genesis)
    for height in range(1, 5):
        follower.apply(encoded(engine, height))
        assert follower.height == height
        assert follower.header_hash(height) == engine.header(height).header.hash
    assert follower.state.root == engine.app_hash


def test_it_goes_on_from_what_it_saved(engine):
    follower = Follower(engine.genesis)
    with pytest.raises(StateError, match="no block"):
        follower.save()
    for height in (1, 2):
        follower.apply(encoded(engine, height))
    again = Follower.load(engine.genesis, follower.save())
    for height in (3, 4):
        again.apply(encoded(engine, height))
    assert again.state.root == engine.app_hash
    assert again.header_hash(1) == engine.header(1).header.hash


@pytest.mark.parametrize("at", range(0, 2000, 97))
def test_what_was_saved_and_changed_is_refused_or_the_same(engine, at):
    follower = Follower(engine.genesis)
    follower.apply(encoded(engine, 1))
    saved = bytearray(follower.save())
    saved[at % len(saved)] ^= 1
    try:
        again = Follower.load(engine.genesis, bytes(saved))
    except ProofError:
        return
    # Only hashes of headers can be changed unseen: the next link shows them.
    assert again.state.root == follower.state.root


def test_cut_off_bytes_are_refused(engine):
    follower = Follower(engine.genesis)
    follower.apply(encoded(engine, 1))
    with pytest.raises(ProofError):
        Follower.load(engine.genesis, follower.save()[:-1])


def forged(engine, height, **changes):
    signed = engine.header(height)
    return encode_signed(sign_header(playing.key("sequencer"), replace_header(signed.header, changes)))


def replace_header(header, changes):
    values = {name: getattr(header, name) for name in header.__dataclass_fields__} | changes
    return type(header)(**values)


@pytest.mark.parametrize("field", ["app_hash", "events_root", "transactions_root", "previous"])
def test_a_header_that_says_otherwise_is_refused_though_the_sequencer_signed_it(engine, field):
    follower = Follower(engine.genesis)
    raws = list(engine.block(1).transactions)
    with pytest.raises(ProofError):
        follower.apply(codec.encode([forged(engine, 1, **{field: bytes(32)}), raws]))
    assert follower.height == 0
    follower.apply(encoded(engine, 1))


@pytest.mark.parametrize("data", [b"", b"\x80", codec.encode([b"", []]), codec.encode([b"", [1]]), codec.encode(5)])
def test_what_is_no_block_is_refused(engine, data):
    with pytest.raises(ProofError):
        Follower(engine.genesis).apply(data)


def test_a_block_out_of_turn_is_refused(engine):
    follower = Follower(engine.genesis)
    with pytest.raises(ProofError, match="cannot follow"):
        follower.apply(encoded(engine, 2))
    follower.apply(encoded(engine, 1))
    with pytest.raises(ProofError, match="2 is next"):
        follower.apply(encoded(engine, 1))
    with pytest.raises(ProofError, match="none of the latest"):
        follower.header_hash(2)
