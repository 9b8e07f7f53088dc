from dataclasses import replace

import pytest

from fedmeta.govern.client.light import LightClient, is_sealed, verify_event, verify_record, verify_transaction
from fedmeta.govern.engines.embedded import EmbeddedEngine
from fedmeta.govern.errors import ProofError, TooFar
from fedmeta.govern.machine.header import Header, SignedHeader, sign_header
from fedmeta.govern.machine.trust import SequencerTrust, ValidatorsTrust
from fedmeta.govern.state.records import Member
from fedmeta.govern.wire import codec, merkle
from fedmeta.govern.wire import transactions as tx
from fedmeta.govern.wire.commits import chain_id_of, encode_certificate
from fedmeta.govern.wire.signatures import digest
from tests.govern.committee import certify, comet_header, committee
from tests.govern.playing import TIME, Play, federation, key

SEQUENCER = key("sequencer")
GENESIS = federation().digest


@pytest.fixture
def engine(tmp_path):
    with EmbeddedEngine.create(tmp_path / "ledger", federation(), SEQUENCER) as made:
        for sequence in range(3):
            for name in ("hal", "ivy", "joy"):
                made.submit(tx.sign(key(name), GENESIS, name, sequence, tx.Delegate("ann", 10 + sequence)))
            made.produce(TIME + sequence)
        yield made


def test_a_light_client_follows_a_chain_from_its_genesis_to_any_record(engine):
    client = LightClient.of(engine.genesis)
    headers = [client.follow(engine.header(height)) for height in (1, 2, 3)]
    record, proof, at = engine.prove("member", "hal")
    signed = engine.header(at)
    assert client.head == headers[-1] == signed.header
    found = verify_record(proof, client.head)
    assert found == record
    assert (type(found), found.name, found.sequence) == (Member, "hal", 3)
    for before in headers[:-1]:
        with pytest.raises(ProofError, match=f"does not lead to the state after block {before.height}"):
            verify_record(proof, before)


def test_a_light_client_needs_but_the_key_of_its_sequencer_and_the_digest_of_its_genesis(engine):
    client = LightClient(SequencerTrust(engine.genesis.digest, SEQUENCER.public))
    assert client.follow(engine.header(1)).height == 1
    for wrong in (
        LightClient(SequencerTrust(engine.genesis.digest, key("hal").public)),
        LightClient(SequencerTrust(b"\0" * 32, SEQUENCER.public)),
        LightClient(SequencerTrust(federation(free=1).digest, SEQUENCER.public)),
    ):
        for accept in (wrong.follow, wrong.jump):
            with pytest.raises(ProofError):
                accept(engine.header(1))
        assert wrong.head is None


def test_following_leaves_no_header_out_and_jumping_goes_forward_only(engine):
    client = LightClient.of(engine.genesis)
    with pytest.raises(ProofError, match="1 is next"):
        client.follow(engine.header(2))
    assert client.jump(engine.header(2)).height == 2
    assert client.jump(engine.header(2)).height == 2
    assert client.follow(engine.header(3)).height == 3
    with pytest.raises(ProofError, match="3 was accepted already"):
        client.jump(engine.header(1))
    assert client.head == engine.header(3).header


def test_a_sequencer_that_signs_two_headers_of_one_height_is_caught(engine):
    client = LightClient.of(engine.genesis)
    client.jump(engine.header(2))
    other = replace(engine.header(2).header, app_hash=b"\0" * 32)
    with pytest.raises(ProofError, match="signed two headers of height 2"):
        client.jump(sign_header(SEQUENCER, other))
    fork = replace(engine.header(3).header, previous=other.hash)
    for accept in (client.jump, client.follow):
        with pytest.raises(ProofError, match="block 2 is"):
            accept(sign_header(SEQUENCER, fork))
    assert client.head == engine.header(2).header


def test_a_header_that_was_changed_or_signed_by_another_is_not_believed(engine):
    client = LightClient.of(engine.genesis)
    signed = engine.header(1)
    for bad in (
        SignedHeader(replace(signed.header, app_hash=b"\0" * 32), signed.certificate),
        sign_header(key("hal"), signed.header),
        SignedHeader(signed.header, bytes(64)),
    ):
        with pytest.raises(ProofError, match="is not by the sequencer"):
            client.follow(bad)


def test_no_change_to_a_proof_convinces(engine):
    _, proof, at = engine.prove("member", "hal")
    signed = engine.header(at)
    other = engine.prove("member", "ivy")[1]
    changed = [
        replace(proof, leaf=other.leaf),
        replace(proof, leaf=b""),
        replace(proof, index=other.index),
        replace(proof, index=-1),
        replace(proof, size=proof.index),
        replace(proof, path=proof.path[:-1]),
        replace(proof, path=(*proof.path, proof.path[-1])),
    ]
    changed += [
        replace(proof, path=(*proof.path[:at], bytes(32), *proof.path[at + 1 :])) for at in range(len(proof.path))
    ]
    for bad in changed:
        with pytest.raises(ProofError, match="does not lead to"):
            verify_record(bad, signed.header)


def test_a_leaf_that_is_no_record_and_no_event_convinces_of_nothing():
    leaves = [b"", b"\x01", codec.encode(["ghost"]), codec.encode(["member", 1]), codec.encode({"a": 1, "b": 2})]
    root = merkle.root(leaves)
    header = Header(GENESIS, 1, TIME, bytes(32), root, root, root)
    for at in range(len(leaves)):
        with pytest.raises(ProofError, match="no record"):
            verify_record(merkle.prove(leaves, at), header)
        with pytest.raises(ProofError, match="no event"):
            verify_event(merkle.prove(leaves, at), header)


def test_transactions_and_events_have_proofs_under_their_block_s_header(engine):
    client = LightClient.of(engine.genesis)
    block = engine.block(2)
    client.jump(engine.header(2))
    for raw in block.transactions:
        proof, signed = engine.prove_transaction(digest(raw))
        assert signed.header == client.head
        assert verify_transaction(proof, client.head) == raw
    ((_, events),) = engine.events(2, 2)
    for position, event in enumerate(events):
        proof, signed = engine.prove_event(2, position)
        assert verify_event(proof, signed.header) == event
        with pytest.raises(ProofError, match="the events of block 3"):
            verify_event(proof, engine.header(3).header)
    assert engine.prove_event(2, len(events)) is None
    assert engine.prove_event(9, 0) is None
    assert engine.prove_transaction(bytes(32)) is None


# Validators


def changing(length):
    """Return a light client and headers of a chain with gaps, of whose four validators one changes with each."""
    names = [f"v{at}" for at in range(length + 4)]
    sets = [committee(dict.fromkeys(names[at : at + 4], 1)) for at in range(length + 1)]
    chain, previous = {}, GENESIS
    for at in range(length):
        height = 3 * at + 1
        header = Header(GENESIS, height, TIME + height, previous, bytes(32), bytes(32), bytes(32))
        block = comet_header(sets[at], sets[at + 1], height + 1, TIME + height, header.hash, chain_id_of(GENESIS))
        certificate = certify(block, sets[at], sets[at + 1], names[at : at + 4])
        chain[height] = SignedHeader(header, encode_certificate(certificate))
        previous = header.hash
    return LightClient(ValidatorsTrust(GENESIS, 10**6, 0, TIME, sets[0])), chain


def asking(chain, asked):
    def ask(height):
        asked.append(height)
        return next((one for at, one in chain.items() if at >= height), None)

    return ask


def test_a_light_client_follows_validators_over_the_heights_that_have_a_header():
    client, chain = changing(5)
    for signed in chain.values():
        assert client.follow(signed) == signed.header
    client, chain = changing(5)
    client.follow(chain[1])
    with pytest.raises(ProofError, match="as the one before: block 1 is"):
        client.follow(chain[7])
    assert client.head == chain[1].header


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 9, 40])
def test_a_light_client_reaches_a_late_header_over_those_that_it_takes(length):
    client, chain = changing(length)
    last, asked = list(chain.values())[-1], []
    assert client.reach(last, asking(chain, asked)) == last.header
    assert client.trust.height == last.header.height + 1
    # Two of four validators stay over two headers, so a few are enough.
    assert len(asked) <= 2 * length
    assert (length <= 3) == (not asked)


def test_a_light_client_that_is_shown_no_way_goes_nowhere_wrong():
    client, chain = changing(9)
    last = list(chain.values())[-1]
    for ask in (lambda height: None, lambda height: last, lambda height: chain[1]):
        client, _ = changing(9)
        with pytest.raises(TooFar, match="headers between them may lead there"):
            client.reach(last, ask)
        assert client.head in (None, chain[1].header)
    strangers, foreign = changing(9)
    lying = {at: SignedHeader(one.header, one.certificate[:-1] + b"\0") for at, one in foreign.items()}
    with pytest.raises(ProofError):
        strangers.reach(last, asking(lying, []))
    assert strangers.head is None


def test_validators_that_certify_two_headers_of_one_height_are_caught():
    client, chain = changing(2)
    client.jump(chain[1])
    assert client.jump(chain[1]) == chain[1].header
    names = [f"v{at}" for at in range(1, 5)]
    header = replace(chain[1].header, app_hash=b"\1" * 32)
    block = comet_header(committee(dict.fromkeys(names, 1)), (), 3, TIME + 9, header.hash, chain_id_of(GENESIS))
    certificate = encode_certificate(certify(block, committee(dict.fromkeys(names, 1)), signers=names))
    with pytest.raises(ProofError, match="the validators signed two headers of height 1"):
        client.jump(SignedHeader(header, certificate))


# Seals


@pytest.fixture(scope="module")
def sealing():
    """A round whose commitments are closed, the hash of a header, and who signs for its seats with what power."""
    play = Play()
    play.to_deliver()
    powers = {key(seat.candidate).public: seat.power for seat in play.latest.seats}
    return play, digest(b"a header"), powers


def seals(play, header, names, genesis=None):
    """Return what seats sign of the header with which the commitments of the latest round closed."""
    body = tx.Seal(play.chain.round, header)
    return [tx.sign(key(name), genesis or play.genesis.digest, name, 0, body) for name in names]


def test_a_header_is_sealed_once_seats_with_more_than_two_thirds_of_the_power_have_signed_it(sealing):
    play, header, powers = sealing
    names = play.super_nodes()
    whole = sum(powers.values())
    for count in range(16):
        some = [name for at, name in enumerate(names) if count >> at & 1]
        held = sum(powers[key(name).public] for name in some)
        found = is_sealed(play.genesis.digest, play.chain.round, header, powers, seals(play, header, some))
        assert found == (3 * held > 2 * whole)
    exact = dict.fromkeys(powers, 1) | {key("another").public: 2}
    assert not is_sealed(play.genesis.digest, play.chain.round, header, exact, seals(play, header, names))


def test_what_is_no_seal_of_this_header_by_a_seat_does_not_count(sealing):
    play, header, powers = sealing
    names, number, genesis = play.super_nodes(), play.chain.round, play.genesis.digest
    good = seals(play, header, names[:2])
    assert not is_sealed(genesis, number, header, powers, good)
    others = [
        *seals(play, digest(b"another header"), names),
        *seals(play, header, names, genesis=bytes(32)),
        *seals(play, header, ["hal", "ivy", "joy", "eve"]),
        *(tx.sign(key(name), genesis, name, 0, tx.Seal(number + 1, header)) for name in names),
        *(tx.sign(key(name), genesis, name, 1, tx.Bond(1)) for name in names),
        *(raw[:-1] + bytes([raw[-1] ^ 1]) for raw in seals(play, header, names)),
        *good,
        b"",
        b"junk",
    ]
    assert not is_sealed(genesis, number, header, powers, [*good, *others])
    assert is_sealed(genesis, number, header, powers, [*others, *seals(play, header, names[2:3])])


def test_a_seat_s_power_counts_once_and_by_the_key_that_signs_for_it(sealing):
    play, header, powers = sealing
    number, genesis = play.chain.round, play.genesis.digest
    first = play.super_nodes()[0]
    machine = key("a machine")
    by_machine = {machine.public if public == key(first).public else public: one for public, one in powers.items()}
    own = seals(play, header, play.super_nodes())
    body = tx.Seal(number, header)
    assert not is_sealed(genesis, number, header, powers, own[:1] * 4)
    assert is_sealed(genesis, number, header, powers, own[:3])
    assert not is_sealed(genesis, number, header, by_machine, own[:3])
    assert is_sealed(genesis, number, header, by_machine, [tx.sign(machine, genesis, first, 0, body), *own[1:3]])
