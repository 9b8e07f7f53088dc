"""Snapshots between nodes, as CometBFT's state sync asks for them: offered, refused, taken, damaged, kept."""

from dataclasses import replace

import pytest

from fedmeta.govern.engines.cometbft import abci
from fedmeta.govern.engines.cometbft.abci import Applied, Offer
from fedmeta.govern.engines.cometbft.bridge import SNAPSHOT_FORMAT
from fedmeta.govern.machine.header import decode_header, encode_header
from fedmeta.govern.state import snapshot as snapshots
from fedmeta.govern.state.snapshot import decode_manifest, encode_manifest
from fedmeta.govern.wire import codec
from fedmeta.govern.wire import transactions as tx
from fedmeta.govern.wire.signatures import digest
from tests.govern.cometbft.consensus import Ledger, check_headers
from tests.govern.cometbft.deciding import consensus_of, step
from tests.govern.playing import federation


@pytest.fixture
def chain(tmp_path, monkeypatch):
    """A chain of which a snapshot of height 4 is kept, in several chunks, and which has gone on."""
    monkeypatch.setattr(snapshots, "CHUNK_BYTES", 1_000)
    chain = consensus, _ = consensus_of(tmp_path, nodes=1, contributors=())
    for height in range(1, 8):
        step(chain, *[("hal", tx.Delegate("bob", height))] * (height in (2, 4, 6)))
        if height == 4:
            consensus.nodes[0].handler.application.snapshot()
    return chain


@pytest.fixture
def here(chain):
    return chain[0].nodes[0].handler


@pytest.fixture
def fresh(tmp_path, chain):
    return Ledger.made(tmp_path / "fresh.db", chain[0].genesis)


def offered(here):
    (found,) = here.list_snapshots()
    return found


def chunks_of(here, snapshot):
    return [here.load_snapshot_chunk(snapshot.height, snapshot.format, at) for at in range(snapshot.chunks)]


def test_a_snapshot_is_shown_with_the_header_of_its_state(here):
    found = offered(here)
    assert (found.height, found.format) == (4, SNAPSHOT_FORMAT)
    assert found.chunks > 3
    assert all(chunks_of(here, found))
    for height, kind, chunk in (
        (4, SNAPSHOT_FORMAT, found.chunks),
        (4, 2, 0),
        (5, SNAPSHOT_FORMAT, 0),
        (4, 1, 1 << 31),
    ):
        assert here.load_snapshot_chunk(height, kind, chunk) == b""


def test_a_snapshot_that_was_taken_where_nothing_had_happened_is_not_shown(chain, here):
    here.application.snapshot()
    assert [one.height for one in here.list_snapshots()] == [4]


def test_a_new_node_takes_a_snapshot_and_goes_on_as_the_others_do(tmp_path, chain, here, fresh):
    consensus, _ = chain
    found = offered(here)
    assert fresh.offer_snapshot(found, consensus.hashes[4]) is Offer.ACCEPT
    for at, chunk in reversed(list(enumerate(chunks_of(here, found)))):
        assert fresh.apply_snapshot_chunk(at, chunk, "peer") == abci.ChunkAnswer(Applied.ACCEPT)
    # CometBFT checks height and hash by Info, and begins with the block after it.
    info = fresh.info(abci.InfoRequest("", 0, 0, ""))
    assert (info.height, info.app_hash) == (4, consensus.hashes[4])
    assert [one.hash for one in fresh.ear.beginnings] == [consensus.hashes[4]]
    # All of it is on the disk already.
    consensus.nodes[0].first = 5
    consensus.nodes.append(type(consensus.nodes[0])(fresh))
    consensus.handshake(1, fresh.copied(tmp_path / "copy.db"))
    joined = consensus.nodes[1].handler
    assert joined.application.app_hash == here.application.app_hash
    step(chain, ("joy", tx.Delegate("ann", 5)))
    assert joined.store.header(4) == here.store.header(4)
    assert joined.store.header(8) == here.store.header(8)
    check_headers(here, consensus)
    # It can give it to others.
    assert joined.list_snapshots() == here.list_snapshots()
    assert chunks_of(joined, found) == chunks_of(here, found)


def restored(handler, here, consensus):
    """Let a node take the snapshot."""
    found = offered(here)
    assert handler.offer_snapshot(found, consensus.hashes[4]) is Offer.ACCEPT
    answers = [handler.apply_snapshot_chunk(at, chunk, "peer") for at, chunk in enumerate(chunks_of(here, found))]
    assert answers == [abci.ChunkAnswer(Applied.ACCEPT)] * found.chunks


@pytest.mark.parametrize("ended", ["the node", "CometBFT alone"])
def test_who_ended_after_the_last_chunk_and_before_cometbft_kept_that_takes_another_snapshot(
    tmp_path, chain, here, fresh, ended
):
    consensus, _ = chain
    restored(fresh, here, consensus)
    again = fresh.copied(tmp_path / "again.db") if ended == "the node" else fresh
    assert again.application.height == 4
    found = offered(here)
    chunks = chunks_of(here, found)
    # Where the second one does not come to an end, the first is still there.
    assert again.offer_snapshot(found, consensus.hashes[4]) is Offer.ACCEPT
    assert again.apply_snapshot_chunk(0, chunks[0], "peer").result is Applied.ACCEPT
    once_more = again.copied(tmp_path / "once more.db")
    restored(once_more, here, consensus)
    assert once_more.ear.beginnings == [once_more.store.header(4).header]
    # The peers may have a later one by now.
    step(chain, ("hal", tx.Delegate("bob", 9)))
    here.application.snapshot()
    later = here.list_snapshots()[-1]
    assert later.height == 8
    assert once_more.offer_snapshot(later, consensus.hashes[8]) is Offer.ACCEPT
    for at, chunk in enumerate(chunks_of(here, later)):
        once_more.apply_snapshot_chunk(at, chunk, "peer")
    assert once_more.application.app_hash == here.application.app_hash
    assert [one.height for one in once_more.store.manifests()] == list(once_more.store.heights(1, 8)) == [8]
    assert once_more.list_snapshots() == [later]
    assert once_more.copied(tmp_path / "last.db").info(abci.InfoRequest("", 0, 0, "")).height == 8


def test_who_has_executed_a_block_since_its_snapshot_takes_no_other_one(chain, here, fresh):
    consensus, _ = chain
    restored(fresh, here, consensus)
    consensus.nodes[0].first = 5
    consensus.nodes.append(type(consensus.nodes[0])(fresh))
    consensus.handshake(1)
    assert fresh.store.tip == 6
    assert fresh.offer_snapshot(offered(here), consensus.hashes[4]) is Offer.ABORT


def parts(snapshot):
    header, manifest = codec.decode(snapshot.metadata)
    return header, decode_manifest(manifest)


def with_parts(snapshot, header, manifest):
    encoded = encode_manifest(manifest)
    return snapshot._replace(
        metadata=codec.encode([header, encoded]), hash=digest(encoded), chunks=len(manifest.chunks)
    )


def wrong_ones(chain, here):
    good = offered(here)
    header, manifest = parts(good)
    signed = here.store.header(6).header
    other = federation(validators=True, treasury=5)
    yield "format", good._replace(format=2), Offer.REJECT_FORMAT
    for name, bad in {
        "junk": good._replace(metadata=b"junk"),
        "nothing": good._replace(metadata=b""),
        "another form": good._replace(metadata=codec.encode({"a": 1})),
        "no header": good._replace(metadata=codec.encode([b"", encode_manifest(manifest)])),
        "no manifest": good._replace(metadata=codec.encode([header, b""])),
        "height": good._replace(height=5),
        "count": good._replace(chunks=good.chunks + 1),
        "hash": good._replace(hash=bytes(32)),
        "another header": with_parts(good, encode_header(signed), manifest),
        "another state": with_parts(good, header, replace(manifest, app_hash=signed.app_hash)),
        "another height": with_parts(good, header, replace(manifest, height=5)),
        "another chain": with_parts(good, header, replace(manifest, chain_id="other")),
        "another genesis": with_parts(
            good, encode_header(replace(decode_header(header), genesis=other.digest)), manifest
        ),
    }.items():
        yield name, bad, Offer.REJECT


def test_a_snapshot_that_is_not_the_one_which_validators_certified_is_refused(chain, here, fresh):
    consensus, _ = chain
    for name, bad, answer in wrong_ones(chain, here):
        assert fresh.offer_snapshot(bad, consensus.hashes[4]) is answer, name
        assert fresh.apply_snapshot_chunk(0, b"", "peer").result is Applied.ABORT, name
    good = offered(here)
    assert fresh.offer_snapshot(good, consensus.hashes[6]) is Offer.REJECT
    assert fresh.info(abci.InfoRequest("", 0, 0, "")).height == 0
    assert fresh.offer_snapshot(good, consensus.hashes[4]) is Offer.ACCEPT


def test_who_has_blocks_takes_no_snapshot(tmp_path, chain, here):
    assert here.offer_snapshot(offered(here), chain[0].hashes[4]) is Offer.ABORT


def test_a_damaged_chunk_is_fetched_again_from_somebody_else(chain, here, fresh):
    found = offered(here)
    chunks = chunks_of(here, found)
    assert fresh.offer_snapshot(found, chain[0].hashes[4]) is Offer.ACCEPT
    for bad in (b"", chunks[0][:-1], chunks[0] + b"\0", chunks[1]):
        assert fresh.apply_snapshot_chunk(0, bad, "liar") == abci.ChunkAnswer(Applied.RETRY, (0,), ("liar",))
    assert fresh.apply_snapshot_chunk(found.chunks, chunks[0], "liar").result is Applied.RETRY
    for at, chunk in enumerate(chunks):
        assert fresh.apply_snapshot_chunk(at, chunk, "peer").result is Applied.ACCEPT
    assert fresh.application.app_hash == decode_header(parts(found)[0]).app_hash
    assert fresh.apply_snapshot_chunk(0, chunks[0], "peer").result is Applied.ABORT


def test_chunks_that_are_as_their_manifest_says_and_not_of_the_state_give_nothing(chain, here, fresh):
    """Who makes false chunks makes their hashes as well: the state's root is what is certified."""
    found = offered(here)
    header, manifest = parts(found)
    chunks = chunks_of(here, found)
    false = list(chunks)
    false[1] = bytes([false[1][0] ^ 1]) + false[1][1:]
    lying = with_parts(found, header, replace(manifest, chunks=tuple(map(digest, false))))
    assert fresh.offer_snapshot(lying, chain[0].hashes[4]) is Offer.ACCEPT
    answers = [fresh.apply_snapshot_chunk(at, chunk, "liar").result for at, chunk in enumerate(false)]
    assert answers == [Applied.ACCEPT] * (len(false) - 1) + [Applied.REJECT_SNAPSHOT]
    assert fresh.info(abci.InfoRequest("", 0, 0, "")).height == 0
    # The next offer may be an honest one.
    assert fresh.offer_snapshot(found, chain[0].hashes[4]) is Offer.ACCEPT
    for at, chunk in enumerate(chunks):
        assert fresh.apply_snapshot_chunk(at, chunk, "peer").result is Applied.ACCEPT
    assert fresh.info(abci.InfoRequest("", 0, 0, "")).height == 4


def test_a_second_offer_takes_the_place_of_the_first(chain, here, fresh):
    found = offered(here)
    chunks = chunks_of(here, found)
    assert fresh.offer_snapshot(found, chain[0].hashes[4]) is Offer.ACCEPT
    for at, chunk in enumerate(chunks[:-1]):
        fresh.apply_snapshot_chunk(at, chunk, "peer")
    assert fresh.offer_snapshot(found, chain[0].hashes[4]) is Offer.ACCEPT
    assert fresh.apply_snapshot_chunk(len(chunks) - 1, chunks[-1], "peer").result is Applied.ACCEPT
    assert fresh.info(abci.InfoRequest("", 0, 0, "")).height == 0
    for at, chunk in enumerate(chunks[:-1]):
        fresh.apply_snapshot_chunk(at, chunk, "peer")
    assert fresh.info(abci.InfoRequest("", 0, 0, "")).height == 4
