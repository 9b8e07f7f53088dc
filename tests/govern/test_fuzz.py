"""Whatever bytes come in, from a member or out of a file, the answer is what the rules say or a typed refusal."""

from dataclasses import replace
from functools import lru_cache

import pytest
from hypothesis import given

from fedmeta.govern.client.audit import export, load, verify_ledger
from fedmeta.govern.engines.embedded import EmbeddedEngine
from fedmeta.govern.errors import (
    REFUSALS,
    InvalidGenesis,
    Malformed,
    Refused,
    StateError,
    StoreError,
    WrongProtocol,
)
from fedmeta.govern.machine.application import Application
from fedmeta.govern.machine.execute import execute
from fedmeta.govern.machine.genesis import decode_genesis, encode_genesis, start
from fedmeta.govern.machine.header import (
    Header,
    decode_header,
    decode_leaf,
    decode_signed,
    encode_header,
    encode_signed,
    event_leaves,
    sign_header,
)
from fedmeta.govern.rules import candidates
from fedmeta.govern.state.records import Chain
from fedmeta.govern.state.snapshot import cut, decode_manifest, encode_manifest, restore, take
from fedmeta.govern.state.state import State
from fedmeta.govern.views.invariants import check_invariants
from fedmeta.govern.wire import codec
from fedmeta.govern.wire import transactions as tx
from fedmeta.govern.wire.block import Block
from fedmeta.govern.wire.events import ProposalExecuted, TransactionApplied, TransactionRefused
from fedmeta.govern.wire.layout import decode_record, encode_record
from fedmeta.govern.wire.merkle import Proof
from fedmeta.govern.wire.signatures import digest
from tests.examples import examples
from tests.govern.attacks.means import LIE, rotation, signed
from tests.govern.engines.keeping import short_memory
from tests.govern.engines.story import story
from tests.govern.mutation import damaged, mutated, odd, rngs
from tests.govern.playing import MODEL, RECIPE, TIME, Play, consensus_key, federation, key

many, some = examples(150), examples(60)

ACTIONS = [
    {"kind": "set-parameter", "name": "quorum", "value": 300_000},
    {"kind": "set-parameters", "values": {"contributor_share": 400_000, "treasury_share": 200_000}},
    {"kind": "admit", "member": "new", "organisation": "org-new", "public": key("new").public, "title": "New"},
    {"kind": "remove", "member": "dan"},
    {"kind": "spend", "member": "hal", "amount": 5},
    {"kind": "annul-slash", "fault": 1},
    {
        "kind": "recipe",
        "digest": digest(b"another recipe"),
        "title": "Another",
        "model": MODEL,
        "active": True,
        "interval": 1,
    },
    {"kind": "upgrade", "protocol": 4, "height": 10**6},
]


def machine_key(name, new, genesis):
    return tx.SetMachineKey(new.public, new.sign(tx.possession(genesis.digest, name, new.public)))


@lru_cache(maxsize=1)
def stages():
    """Return pairs of a state and transactions that it would take, each of them: every kind, in its phase."""
    found = []
    play = Play(members=("lou",))

    def stage(*pairs):
        found.append((play.state, [play.sign(name, body) for name, body in pairs]))

    play.must(("hal", tx.Undelegate("ann", 100)), ("gil", tx.Retire()), ("hal", tx.Propose("Spend", ACTIONS[4])))
    stage(
        ("lou", tx.Leave()),
        ("hal", rotation("hal", key("hal, later"), play.genesis)),
        ("hal", machine_key("hal", key("hal's machine"), play.genesis)),
        ("ivy", tx.SetProfile("Ivy", "https://ivy.example", bytes(32))),
        ("gil", tx.Register(100_000)),
        ("ann", tx.SetCommission(90_000)),
        ("ann", consensus_key("ann", play.genesis)),
        ("bob", tx.Retire()),
        ("ann", tx.Bond(50)),
        ("hal", tx.Delegate("bob", 70)),
        ("hal", tx.Redelegate("ann", "bob", 70)),
        ("hal", tx.Undelegate("ann", 70)),
        ("hal", tx.CancelUnbonding("ann", 1, 70)),
        ("hal", tx.CastVote(1, "yes")),
        ("cat", tx.JoinRecipe(RECIPE)),
        ("hal", tx.LeaveRecipe(RECIPE)),
        *(("ivy", tx.Propose("Act", action)) for action in ACTIONS if action["kind"] != "annul-slash"),
        *(play.update(one.member) for one in play.latest.cohort),
    )
    play.to_deliver()
    stage(
        ("ann", tx.Seal(1, digest(b"a header"))),
        *(play.hold(name) for name in play.super_nodes()),
        *(play.hold(name, play.committed()[at : at + 2]) for at, name in enumerate(play.super_nodes())),
    )
    play.to_compute()
    stage(*(play.attestation(name, play.opening(name)) for name in play.super_nodes()))
    openings = play.to_reveal(results={"dan": LIE})
    stage(*openings.items())
    play.must(*openings.items())
    stage(("hal", tx.Claim()), ("joy", tx.Propose("Undo it", ACTIONS[5])))
    play.by_hand(lambda context: candidates.jail(context, "cat", 0, absent=False))
    stage(("cat", tx.Unjail()))
    return found


def block(state, *raws):
    return execute(state, Block(state.height + 1, state.time, raws))


@lru_cache(maxsize=1)
def untouched():
    """Return what a block without transactions gives, by the state's root."""
    return {state.root: block(state) for state, _ in stages()}


def one(state, raw):
    """Execute a block of one transaction; what is refused must change nothing but the list of events."""
    root = state.root
    done = block(state, raw)
    assert state.root == root
    said = done.events[0]
    if isinstance(said, TransactionRefused):
        assert said.code in REFUSALS
        without = untouched()[root]
        assert (done.app_hash, done.events[1:]) == (without.app_hash, without.events)
    else:
        assert isinstance(said, TransactionApplied)
    # Whatever was said can be hashed and stored.
    event_leaves(done.events)
    return done, said


def samples():
    return [(state, raw) for state, raws in stages() for raw in raws]


def test_every_kind_of_transaction_and_action_is_among_the_samples_and_would_be_taken():
    kinds, actions = [], []
    for state, raw in samples():
        _, said = one(state, raw)
        assert isinstance(said, TransactionApplied), said
        kinds.append(said.transaction)
        content = codec.decode(raw)
        actions += [content[4]["action"]["kind"]] if said.transaction == "propose" else []
    assert set(kinds) == set(tx.TRANSACTIONS)
    assert set(actions) == {action["kind"] for action in ACTIONS}


@many
@given(rngs)
def test_random_bytes_are_refused(rng):
    state, _ = rng.choice(stages())
    raw = rng.randbytes(rng.randrange(300))
    assert isinstance(one(state, raw)[1], TransactionRefused)


@many
@given(rngs)
def test_a_transaction_with_any_damage_is_refused(rng):
    state, raw = rng.choice(samples())
    bad = damaged(rng, raw)
    assert isinstance(one(state, bad)[1], TransactionRefused) or bad == raw


@many
@given(rngs)
def test_a_transaction_with_any_value_exchanged_is_refused(rng):
    state, raw = rng.choice(samples())
    bad = codec.encode(mutated(rng, codec.decode(raw)))
    assert isinstance(one(state, bad)[1], TransactionRefused) or bad == raw


@examples(400)
@given(rngs)
def test_odd_values_under_a_right_signature_are_refused_or_taken_and_the_ledger_goes_on(rng):
    state, raw = rng.choice(samples())
    content = codec.decode(raw)[:5]
    where = rng.choice((4, 4, 4, 4, 3, 2, 1, 0))
    content[where] = mutated(rng, content[where])
    name = content[1] if type(content[1]) is str else ""
    done, said = one(state, signed(content, key(name)))
    if isinstance(said, TransactionApplied):
        check_invariants(done.state)
        after = done.state
        for _ in range(6):
            after = block(after).state
        check_invariants(after)


@some
@given(rngs)
def test_an_odd_action_that_passes_is_carried_out_or_fails_and_the_ledger_goes_on(rng):
    play = Play.__new__(Play)
    play.__dict__.update(_voters().__dict__, blocks=[], log=[], hashes=[])
    action = mutated(rng, rng.choice(ACTIONS))
    if type(action) is not dict:
        return
    content = [play.genesis.digest, "hal", play.member("hal").sequence, "propose", {"title": "Odd", "action": action}]
    if not any(type(said) is TransactionApplied for said in play.run(signed(content, key("hal")))):
        return
    number = play.chain.proposals
    play.must(*((name, tx.CastVote(number, "yes")) for name in ("ann", "bob", "cat", "eve", "fay")))
    while not play.events(ProposalExecuted):
        play.wait()
    try:
        _go_on(play)
    except WrongProtocol:
        assert action["kind"] == "upgrade"
        assert play.height + 1 >= action["height"]


def _go_on(play):
    """Play what can be of a round, whatever has become of its members, and some blocks more."""
    seats = play.super_nodes()
    play.block(*(play.update(one.member) for one in play.latest.cohort))
    play.block(*(play.hold(name) for name in seats if play.committed()))
    openings = {name: play.opening(name) for name in seats}
    play.block(*(play.attestation(*one) for one in openings.items()))
    play.block(*openings.items())
    play.wait(25)


@lru_cache(maxsize=1)
def _voters():
    play = Play(delay_blocks=1, voting_blocks=2)
    play.round(withhold=["dan"])
    return play


@some
@given(rngs)
def test_the_pool_and_a_proposed_block_say_the_same_as_the_rules(rng):
    state, raw = rng.choice(samples())
    content = codec.decode(raw)[:5]
    other = [*content[:4], mutated(rng, content[4])]
    bad = rng.choice((raw, damaged(rng, raw), signed(other, key(content[1])), signed(other, key(content[1]))))
    application = Application(State.load(state.dump(), state.height, state.time))
    refused = isinstance(one(state, bad)[1], TransactionRefused)
    assert (application.check_tx(bad) is not None) is refused
    assert application.process(Block(state.height + 1, state.time, (bad,))) is not refused
    chosen, why = application.prepare(Block(state.height + 1, state.time), [bad])
    assert (chosen, set(why)) == (((), {digest(bad)}) if refused else ((bad,), set()))
    assert application.app_hash == state.root


# What is read out of files and off the wire. What is taken encodes to the bytes that came: it has one form.


@lru_cache(maxsize=1)
def record_bytes():
    return [data for _, data in story().state.dump() if data]


@lru_cache(maxsize=1)
def event_bytes():
    return [leaf for events in story().log for leaf in event_leaves(events)]


def header():
    return sign_header(key("sequencer"), Header(federation().digest, 7, TIME, *(digest(b"%d" % at) for at in range(4))))


def proof_bytes():
    state = story().state
    return codec.encode(state.prove(Chain).to_value())


READERS = {
    "genesis": (decode_genesis, encode_genesis, InvalidGenesis, lambda: [encode_genesis(federation())]),
    "header": (decode_header, encode_header, Malformed, lambda: [encode_header(header().header)]),
    "signed header": (decode_signed, encode_signed, Malformed, lambda: [encode_signed(header())]),
    "manifest": (decode_manifest, encode_manifest, Malformed, lambda: [encode_manifest(take(story().state)[0])]),
    "record": (decode_record, encode_record, Malformed, record_bytes),
    "event": (decode_leaf, lambda value: codec.encode(list(value)), Malformed, event_bytes),
    "proof": (
        lambda data: Proof.from_value(codec.decode(data)),
        lambda proof: codec.encode(proof.to_value()),
        Malformed,
        lambda: [proof_bytes()],
    ),
    "transaction": (
        lambda data: tx.decode(data) and data,
        lambda data: data,
        Refused,
        lambda: [raw for _, raw in samples()],
    ),
}


@pytest.mark.parametrize("what", READERS)
@many
@given(rng=rngs)
def test_what_is_read_has_one_form_or_is_refused(what, rng):
    read, write, refusal, valid = READERS[what]
    raw = rng.choice(valid())
    assert write(read(raw)) == raw
    match rng.randrange(5):
        case 0:
            bad = rng.randbytes(rng.randrange(100))
        case 1:
            bad = codec.encode(odd(rng))
        case 2:
            bad = damaged(rng, raw)
        case _:
            bad = codec.encode(mutated(rng, codec.decode(raw, limit=len(raw))))
    try:
        found = read(bad)
    except refusal:
        return
    assert write(found) == bad


@some
@given(rngs)
def test_a_genesis_that_is_read_starts_or_is_refused(rng):
    bad = codec.encode(mutated(rng, codec.decode(encode_genesis(federation()))))
    try:
        done = start(decode_genesis(bad))
    except InvalidGenesis:
        return
    check_invariants(done.state)
    check_invariants(block(done.state).state)


@some
@given(rngs)
def test_a_snapshot_of_mutated_records_gives_no_state(rng):
    state = story().state
    rows = list(state.dump())
    at = rng.choice([slot for slot, data in rows if data])
    slot, raw = rows[at]
    rows[at] = rng.choice(
        (
            (slot, damaged(rng, raw)),
            (slot, codec.encode(mutated(rng, codec.decode(raw)))),
            (rng.choice((slot + 1, len(rows), 2**26, 2**64 - 1)), raw),
            rng.choice(rows),
        )
    )
    if rows == list(state.dump()):
        return
    chunks = list(cut(rows))
    # The hashes of the chunks are right: whoever made this snapshot made its manifest as well.
    manifest = replace(take(state)[0], chunks=tuple(map(digest, chunks)))
    with pytest.raises(StateError):
        restore(manifest, 0, chunks)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Return a folder with two exported ledgers: one from genesis on, and one that was pruned."""
    folder = tmp_path_factory.mktemp("exported")
    (folder / "loading").mkdir()
    made = EmbeddedEngine.create(folder / "ledger", federation(), key("sequencer"))
    with short_memory(), made as engine:
        for number in range(45):
            engine.submit(tx.sign(key("hal"), engine.origin.digest, "hal", number, tx.Delegate("ann", 1)))
            engine.produce(TIME + number)
            if number == 8:
                engine.snapshot()
                export(folder / "ledger", folder / "whole.out")
        assert engine.prune() > 1
        export(folder / "ledger", folder / "pruned.out")
    return folder


def frames(data):
    found = []
    while data:
        size = int.from_bytes(data[:4], "big")
        found.append(data[4 : 4 + size])
        data = data[4 + size :]
    return found


def framed(parts):
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def deranged(rng, parts):
    """Return the bytes of an export in which something is another, or in another place."""
    at = rng.randrange(len(parts))
    before, here, after = parts[:at], parts[at], parts[at + 1 :]
    match rng.randrange(9):
        case 0:
            return framed([*before, *after])
        case 1:
            return framed([*before, here, here, *after])
        case 2:
            return framed([*before, rng.choice(parts), *after])
        case 3:
            return framed(parts)[: rng.randrange(len(framed(parts)))]
        case 4:
            return framed(before) + rng.choice((0, 1, 2**31, 2**32 - 1)).to_bytes(4, "big") + here + framed(after)
        case 5:
            return damaged(rng, framed(parts))
        case 6:
            return framed([*before, codec.encode(mutated(rng, codec.decode(here))), *after])
    kind, *values = codec.decode(here)
    for place, value in enumerate(values):
        if type(value) is bytes and value and kind != "chunk":
            values[place] = codec.encode(mutated(rng, codec.decode(value)))
    return framed([*before, codec.encode([kind, *values]), *after])


@examples(40)
@given(rng=rngs)
def test_an_export_with_any_change_is_refused_and_leaves_no_ledger(exported, rng):
    parts = frames((exported / rng.choice(("whole.out", "pruned.out"))).read_bytes())
    folder = exported / "loading"
    bad = deranged(rng, parts)
    (folder / "in").write_bytes(bad)
    try:
        tip = load(folder / "in", folder / "ledger")
    except StoreError:
        tip = None
    if tip is None:
        assert [found.name for found in folder.iterdir()] == ["in"]
    else:
        assert bad == framed(parts)
        audit = verify_ledger(folder / "ledger")
        assert (audit.problem, audit.tip) == ("", tip)
        for left in folder.glob("ledger*"):
            left.unlink()
