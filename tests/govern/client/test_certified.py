"""A chain that validators certify, with heights at which nothing happened, is followed, kept, audited and carried."""

import contextlib
import sqlite3
from dataclasses import replace

import httpx
import pytest

from fedmeta.govern.client import client as client_module
from fedmeta.govern.client import proving
from fedmeta.govern.client.audit import export, load, verify_ledger
from fedmeta.govern.client.client import Client
from fedmeta.govern.client.follower import Follower
from fedmeta.govern.client.light import LightClient
from fedmeta.govern.engines.embedded import EmbeddedEngine
from fedmeta.govern.engines.replay import Replay, rebuild, resume
from fedmeta.govern.engines.store import Store
from fedmeta.govern.errors import Damaged, Malformed, NodeBusy, ProofError, Refused, StoreError
from fedmeta.govern.machine.application import Application
from fedmeta.govern.machine.genesis import encode_genesis, start
from fedmeta.govern.machine.header import SignedHeader, encode_signed, event_leaves
from fedmeta.govern.machine.trust import Checkpoint, trust_of
from fedmeta.govern.state.snapshot import take
from fedmeta.govern.wire import codec
from fedmeta.govern.wire import transactions as tx
from fedmeta.govern.wire.commits import decode_certificate, encode_certificate
from tests.govern.certified import OPTIONS, PERIOD, chain, keep, story
from tests.govern.playing import TIME, Play
from tests.govern.server.nodes import live


@pytest.fixture(scope="module")
def play():
    return story()


@pytest.fixture(scope="module")
def links(play):
    return chain(play)


@pytest.fixture
def path(play, links, tmp_path):
    keep(tmp_path / "ledger.db", play.genesis, links)
    return tmp_path / "ledger.db"


def heights(links):
    return [one.signed.header.height for one in links]


def test_the_story_has_gaps_and_its_validators_change_more_than_once(play, links):
    assert len(links) < len(play.blocks) / 2
    certificates = [decode_certificate(one.signed.certificate) for one in links]
    assert sum(bool(one.next_validators) for one in certificates) >= 2
    first, last = trust_of(play.genesis).validators, certificates[-1].following
    assert len({one.public for one in first} - {one.public for one in last}) >= 2


# Following


def test_a_follower_comes_to_the_state_over_the_headers_that_there_are(play, links):
    follower = Follower(play.genesis)
    for one in links:
        follower.check(one.encoded, one.block.time)
        follower.apply(one.encoded, one.block.time)
        assert follower.height == one.block.height
    assert follower.state.root == play.hashes[-1]
    assert follower.header_hash(links[3].block.height) == links[3].signed.header.hash


def test_a_follower_goes_on_from_what_it_saved_and_whom_it_trusted(play, links):
    follower = Follower(play.genesis)
    for at, one in enumerate(links):
        follower.apply(one.encoded)
        follower = Follower.load(play.genesis, follower.save()) if at % 2 else follower
    assert follower.state.root == play.hashes[-1]


def test_a_block_that_was_hidden_is_no_word_of_the_validators(play, links):
    follower = Follower(play.genesis)
    follower.apply(links[0].encoded)
    for wrong in (links[2], links[0]):
        for judge in (follower.check, follower.apply):
            with pytest.raises(ProofError):
                judge(wrong.encoded)
    assert follower.height == links[0].block.height
    follower.apply(links[1].encoded)


def test_a_block_with_other_transactions_or_an_altered_certificate_is_refused(play, links):
    follower = Follower(play.genesis)
    signed, items = links[0].signed, list(links[0].block.items)
    with pytest.raises(ProofError, match="transactions"):
        follower.check(codec.encode([encode_signed(signed), [*items, b"x"]]))
    certificate = decode_certificate(signed.certificate)
    votes = tuple(replace(one, signature=bytes(64)) for one in certificate.commit.signatures)
    unsigned = encode_certificate(replace(certificate, commit=replace(certificate.commit, signatures=votes)))
    for bad in (unsigned, links[1].signed.certificate, bytes(64)):
        for judge in (follower.check, follower.apply):
            with pytest.raises(ProofError):
                judge(codec.encode([encode_signed(SignedHeader(signed.header, bad)), items]))
    assert follower.height == 0


def test_who_was_away_for_longer_than_trust_lasts_needs_a_checkpoint(play, links):
    now = TIME + PERIOD + 100
    with pytest.raises(ProofError, match="late checkpoint"):
        Follower(play.genesis).apply(links[0].encoded, now)
    at = next(at for at, one in enumerate(links) if one.block.height >= 20)
    point = Checkpoint(links[at].block.height, decode_certificate(links[at].signed.certificate).header.hash)
    for hash in (point.hash, bytes(32)):
        follower = Follower(play.genesis, replace(point, hash=hash))
        for one in links[:at]:
            follower.apply(one.encoded, now)
        # What leads to the checkpoint is kept, and is still held against it.
        follower = Follower.load(play.genesis, follower.save(), replace(point, hash=hash))
        if hash == point.hash:
            for one in links[at:]:
                follower.apply(one.encoded, now)
            assert follower.state.root == play.hashes[-1]
        else:
            with pytest.raises(ProofError, match="the checkpoint is"):
                follower.apply(links[at].encoded, now)


def test_a_light_client_follows_and_jumps(play, links):
    light = LightClient.of(play.genesis)
    for one in links:
        assert light.follow(one.signed, one.block.time) == one.signed.header
    by_height = {one.block.height: one.signed for one in links}
    late = LightClient.of(play.genesis)

    def ask(height):
        return next((signed for at, signed in by_height.items() if at >= height), None)

    assert late.reach(links[-1].signed, ask, links[-1].block.time) == light.head
    assert late.trust == light.trust


# Kept


def test_a_ledger_with_gaps_is_sound_and_can_be_executed_again(play, links, path):
    seen = []
    audit = verify_ledger(path, lambda height, tip: seen.append(height))
    assert (audit.problem, audit.tip, audit.height) == ("", heights(links)[-1], heights(links)[-1])
    assert audit.app_hash == play.hashes[-1]
    assert audit.transactions == sum(len(one.block.transactions) for one in links)
    assert seen == heights(links)
    assert rebuild(path) == heights(links)[-1]
    with Store.probe(path) as (store, _):
        resumed = resume(store)
        assert resumed.head == links[-1].signed.header
        assert store.first_from(heights(links)[0] + 1) == heights(links)[1]
        assert store.first_from(heights(links)[-1] + 1) is None


def test_after_a_block_that_does_not_hold_the_right_one_can_still_be_executed(play, links):
    replay = Replay(play.genesis, start(play.genesis).state, None)
    for one in links[:3]:
        with pytest.raises(ProofError, match="the root of the transactions"):
            replay.step(one.signed, [*one.block.items, b"x"])
        replay.step(one.signed, one.block.items)
    assert replay.application.app_hash == links[2].signed.header.app_hash


def test_a_ledger_with_gaps_goes_out_and_in(links, path, tmp_path):
    assert export(path, tmp_path / "out") == heights(links)[-1]
    assert load(tmp_path / "out", tmp_path / "again.db") == heights(links)[-1]
    assert verify_ledger(tmp_path / "again.db").sound


@pytest.mark.parametrize("tail", [1, 3])
def test_the_last_headers_need_no_certificate_yet_but_are_not_carried_on(play, links, tmp_path, tail):
    certified = heights(links)[-1 - tail]
    path = tmp_path / "ledger.db"
    keep(path, play.genesis, links, certified)
    assert verify_ledger(path).sound
    with Store.probe(path) as (store, _):
        assert resume(store).head == links[-1].signed.header
        assert store.certified == certified
    assert export(path, tmp_path / "out") == certified
    assert load(tmp_path / "out", tmp_path / "again.db") == certified
    with Store.probe(path) as (_, lock):
        store = Store.open(path, lock)
    for one in links[-tail:]:
        store.certify(one.block.height, one.signed.certificate)
    store.close()
    assert export(path, tmp_path / "more") == heights(links)[-1]


@pytest.fixture
def late(play, links, tmp_path):
    """A ledger that began at the snapshot of its fourth header, as by state sync, and where that is."""
    application, at = Application(start(play.genesis).state), links[3].block.height
    for block in play.blocks[:at]:
        application.finalize(block)
        application.commit()
    manifest, chunks = take(application.state)
    path = tmp_path / "late.db"
    keep(path, play.genesis, [])
    with Store.probe(path) as (_, lock):
        store = Store.open(path, lock)
    store.begin_at([links[3].signed], manifest, chunks, application.state.dump())
    store.close()
    return path, at


def grow(path, links):
    with Store.probe(path) as (_, lock):
        store = Store.open(path, lock)
    for one in links:
        store.append(one.signed, one.block, one.leaves, one.codes, one.changes)
    store.close()


@pytest.mark.parametrize("count", [0, 1, 5])
def test_a_ledger_that_began_at_a_snapshot_goes_on_and_is_sound_but_convinces_nobody_else(links, late, tmp_path, count):
    path, at = late
    grow(path, links[4 : 4 + count])
    last = links[3 + count].signed.header
    with Store.probe(path) as (store, _):
        resumed = resume(store)
        assert (resumed.head, resumed.state.root) == (last, last.app_hash)
    audit = verify_ledger(path)
    assert (audit.problem, audit.start, audit.tip, audit.app_hash) == ("", at, last.height, last.app_hash)
    assert rebuild(path) == last.height
    with pytest.raises(StoreError, match=f"began at the snapshot of block {at}"):
        export(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_late_beginning_is_certified_by_validators_of_its_own_and_its_blocks_still_follow(links, late):
    path, at = late
    grow(path, links[4:7])
    sound = path.read_bytes()
    for statement, match in (
        (f"UPDATE blocks SET signature = zeroblob(400) WHERE height = {at}", f"block {at}: "),
        (f"UPDATE blocks SET signature = x'' WHERE height = {at}", f"block {links[4].block.height}: header"),
        (f"DELETE FROM blocks WHERE height = {links[4].block.height}", f"block {links[5].block.height}: header"),
    ):
        path.write_bytes(sound)
        change(path, statement)
        assert verify_ledger(path).problem.startswith(match)


def test_nobody_is_made_to_import_what_begins_at_a_snapshot(play, links, late):
    path, at = late
    with Store.read(path) as store:
        (manifest,) = store.manifests()
        chunks = list(store.chunks(manifest))
    replay = Replay(play.genesis, start(play.genesis).state, None)
    with pytest.raises(ProofError, match="the genesis is"):
        replay.skip([links[3].signed], manifest, chunks)
    replay.skip([one.signed for one in links[:4]], manifest, chunks)
    assert replay.application.height == at


def change(path, statement, *values):
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        assert database.execute(statement, values).rowcount > 0


def test_what_is_missing_or_not_certified_is_found_at_its_height(links, path):
    sound, (third, fourth) = path.read_bytes(), heights(links)[2:4]
    for statement, match in (
        (f"UPDATE blocks SET signature = x'' WHERE height = {third}", f"block {fourth}: header {fourth} is certified"),
        (f"DELETE FROM blocks WHERE height = {third}", f"block {fourth}: header {fourth} names"),
        (f"UPDATE blocks SET signature = zeroblob(400) WHERE height = {third}", f"block {third}: the certificate"),
        (
            f"UPDATE blocks SET signature = (SELECT signature FROM blocks WHERE height = {fourth}) "
            f"WHERE height = {third}",
            f"block {third}: block {fourth + 1} of CometBFT certifies",
        ),
    ):
        path.write_bytes(sound)
        change(path, statement)
        assert verify_ledger(path).problem.startswith(match)
        with pytest.raises(Damaged):
            rebuild(path)


# Over HTTP


class Server(httpx.BaseTransport):
    """Answers as a ledger's node does, of a chain's blocks, headers and last state."""

    def __init__(self, play, links):
        self.play, self.links = play, {one.block.height: one for one in links}
        self.state = Application(start(play.genesis).state)
        for block in play.blocks:
            self.state.finalize(block)
            self.state.commit()
        self.busy = 0
        """How often a proof cannot be given yet."""

    def handle_request(self, request):
        _, kind, *rest = request.url.path.split("/")
        if kind == "genesis":
            return httpx.Response(200, content=encode_genesis(self.play.genesis))
        if kind == "proof" and self.busy:
            self.busy -= 1
            body = {"code": "busy", "message": "not certified yet"}
            return httpx.Response(503, headers={"retry-after": "1"}, json=body)
        if kind == "proof":
            _, proof, _ = self.state.prove(rest[0], *request.url.params.get_list("key"))
            last = self.links[max(self.links)].signed
            return httpx.Response(200, content=codec.encode([encode_signed(last), proof.to_value()]))
        height, first = int(rest[0]), request.url.params.get("first") == "true"
        found = next((one for at, one in self.links.items() if at == height or (first and at > height)), None)
        if found is None:
            return httpx.Response(404, json={"code": "not-found", "message": "there is none"})
        return httpx.Response(200, content=found.encoded if kind == "blocks" else encode_signed(found.signed))


@pytest.fixture
def ask(play, links, monkeypatch):
    """Give a function that makes a client of a node, at a time after the chain's last block."""

    def made(links=links, later=1_000, **options):
        monkeypatch.setattr(proving, "_now", lambda: play.blocks[-1].time + later)
        return Client("http://ledger.test", transport=Server(play, links), genesis=play.genesis, **options)

    return made


def test_a_client_believes_a_proof_under_what_validators_certify(ask, play):
    with ask() as client:
        assert client.proof("member", "hal") == play.member("hal")
        assert client.checkpoint().height == play_tip(play)
        assert client.proof("chain") == play.chain


def test_a_client_waits_for_a_header_that_is_to_be_certified_but_not_for_ever(ask, play, monkeypatch):
    slept = []
    monkeypatch.setattr(client_module.time, "sleep", slept.append)
    with ask() as client:
        server = client._http._transport
        for busy, waits in ((0, 0), (3, 3), (10**6, 9)):
            server.busy, slept[:] = busy, []
            if busy < 10:
                assert client.proof("member", "hal") == play.member("hal")
            else:
                with pytest.raises(NodeBusy, match="not certified yet"):
                    client.proof("member", "hal")
            assert slept == [1] * waits


def play_tip(play):
    return max(height for height, events in enumerate(play.log) if len(events) > 1)


def test_a_client_is_given_headers_and_blocks_of_the_heights_that_there_are(ask, links):
    with ask() as client:
        for one in (links[0], links[-1], links[2]):
            assert client.checked_header(one.block.height) == one.signed.header
        with pytest.raises(Refused, match="not-found"):
            client.checked_header(links[0].block.height - 1)
        assert client.encoded_block(1) == links[0].encoded
        assert client.encoded_block(links[0].block.height + 1) == links[1].encoded
        assert client.encoded_block(links[-1].block.height + 1) is None


def test_a_client_for_which_genesis_is_too_long_ago_begins_from_a_checkpoint(ask, play, links):
    later = PERIOD
    with ask(later=later) as client, pytest.raises(ProofError, match="late checkpoint"):
        client.proof("member", "hal")
    with ask(later=later) as client, pytest.raises(ProofError, match="late checkpoint"):
        client.checked_header(links[-1].block.height)
    point = Checkpoint.of(links[-2].signed)
    # The checkpoint itself must be young enough.
    with ask(later=later, checkpoint=point) as client, pytest.raises(ProofError, match="late checkpoint"):
        client.proof("member", "hal")
    later = PERIOD - (play.blocks[-1].time - links[-2].block.time)
    with ask(later=later) as client, pytest.raises(ProofError, match="late checkpoint"):
        client.proof("member", "hal")
    with ask(later=later, checkpoint=point) as client:
        assert client.proof("member", "hal") == play.member("hal")
        assert client.checked_header(links[-1].block.height) == links[-1].signed.header
        with pytest.raises(ProofError, match="goes back"):
            client.checked_header(links[0].block.height)
    with (
        ask(later=later, checkpoint=replace(point, hash=bytes(32))) as client,
        pytest.raises(ProofError, match="the checkpoint is"),
    ):
        client.proof("member", "hal")


def test_the_checkpoint_s_certificate_convinces_of_its_own_header_only(ask, play, links):
    point = Checkpoint.of(links[-2].signed)
    with ask(checkpoint=point) as client:
        assert client.signed_header(point.height) == links[-2].signed
        forged = replace(links[-2].signed.header, app_hash=bytes(32))
        client._http._transport.links[point.height] = links[-2]._replace(
            signed=SignedHeader(forged, links[-2].signed.certificate)
        )
        for header in (client.checked_header, client.signed_header):
            with pytest.raises(ProofError, match="of CometBFT certifies"):
                header(point.height)


def test_a_client_is_not_convinced_by_the_chain_of_another_ledger(ask, play):
    foreign = Play(**{**OPTIONS, "unbonding_seconds": 3_001})
    foreign.must(("hal", tx.Delegate("eve", 5)))
    with ask(links=chain(foreign)) as client, pytest.raises(ProofError, match="of the ledger of genesis"):
        client.proof("member", "hal")


def test_a_node_serves_a_chain_with_gaps_and_counts_every_height(play, links, path, monkeypatch):
    monkeypatch.setattr(proving, "_now", lambda: play.blocks[-1].time)
    last = links[-1].block.height
    with live(path, engine=EmbeddedEngine.open(path)) as node:
        transport = httpx.HTTPTransport(verify=False)
        with Client(node.url, transport=transport, genesis=play.genesis) as client:
            told = list(client.events(0, last))
            assert [one.height for one in told] == [at for at, events in enumerate(play.log) for _ in due(at, events)]
            gap = next(at for at in range(1, last) if at not in heights(links))
            assert list(client.events(gap, gap)) == []
            follower = Follower(play.genesis)
            while (block := client.encoded_block(follower.height + 1)) is not None:
                follower.apply(block, play.blocks[-1].time)
            assert follower.state.root == play.hashes[-1]
            assert client.proof("member", "hal") == play.member("hal")
            assert client.header(last)["certificate"] == links[-1].signed.certificate.hex()
            for ask in (client.header, client.block):
                with pytest.raises(Refused, match=f"not-found: nothing happened in block {gap}: it has no header"):
                    ask(gap)
                with pytest.raises(Refused, match=f"not-found: there is no block {last + 1} yet"):
                    ask(last + 1)


def due(height, events):
    """Return the events of a height that has any besides its end, or none."""
    return events if len(events) > 1 or not height else ()


@pytest.mark.parametrize("text", ["", "5", "5:", "0:" + 64 * "a", "5:" + 63 * "a", "-5:" + 64 * "a", "5 :" + 64 * "a"])
def test_a_checkpoint_is_spelled_by_its_height_and_its_hash(text):
    point = Checkpoint(500, bytes(range(32)))
    assert Checkpoint.read(str(point)) == point
    with pytest.raises(Malformed, match="a checkpoint is a height, a colon and 64 hexadecimal digits"):
        Checkpoint.read(text)


# A node that began by a snapshot


def begun(path, play, links, at, certified=True):
    """Make a database as state sync does, at a header, and go on from it."""
    application = Application(start(play.genesis).state)
    beginning = start(play.genesis)
    Store.create(path, encode_genesis(play.genesis), beginning.state.dump(), event_leaves(beginning.events))
    for block in play.blocks[: links[at].signed.header.height]:
        application.finalize(block)
        application.commit()
    manifest, chunks = take(application.state)
    first = links[at].signed if certified else SignedHeader(links[at].signed.header, b"")
    with Store.probe(path) as (_, lock):
        store = Store.open(path, lock, durable=None)
    store.begin_at([first], manifest, chunks, application.state.dump())
    for one in links[at + 1 :] if certified else ():
        store.append(one.signed, one.block, one.leaves, one.codes, one.changes)
    store.close()
    return path


@pytest.mark.parametrize("at", [1, -1])
def test_a_ledger_that_began_by_a_snapshot_opens_is_sound_and_is_executed_again(play, links, tmp_path, at):
    at %= len(links)
    path = begun(tmp_path / "ledger.db", play, links, at)
    with Store.read(path) as store:
        found = resume(store)
    assert found.state.root == play.state.root
    assert found.head == links[-1].signed.header
    audit = verify_ledger(path)
    assert (audit.problem, audit.start, audit.tip) == ("", links[at].signed.header.height, heights(links)[-1])
    assert rebuild(path) == heights(links)[-1]
    assert verify_ledger(path).problem == ""


def test_it_opens_before_its_first_header_was_certified(play, links, tmp_path):
    path = begun(tmp_path / "ledger.db", play, links, 2, certified=False)
    with Store.read(path) as store:
        found = resume(store)
    assert found.head == links[2].signed.header
    assert verify_ledger(path).problem == ""


def test_a_header_after_the_beginning_must_follow_it(play, links, tmp_path):
    path = begun(tmp_path / "ledger.db", play, links, 1)
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.execute("DELETE FROM blocks WHERE height = ?", (heights(links)[2],))
    assert "names" in verify_ledger(path).problem
