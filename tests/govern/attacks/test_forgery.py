"""Forged, replayed, malleated and oversized transactions, each refused; on whole chains, signed."""

import re
from dataclasses import replace

import cbor2
import pytest

from fedmeta.govern.errors import InvalidGenesis, Malformed
from fedmeta.govern.machine.execute import attempt, begin, execute
from fedmeta.govern.machine.genesis import start
from fedmeta.govern.rules import members
from fedmeta.govern.wire import codec
from fedmeta.govern.wire import transactions as tx
from fedmeta.govern.wire.events import TransactionRefused
from fedmeta.govern.wire.round_events import FaultProven
from fedmeta.govern.wire.signatures import digest
from tests.govern.attacks.means import (
    LIE,
    codes,
    rotate,
    rotation,
    signed,
    worth,
)
from tests.govern.playing import SHORT, Play, federation, key
from tests.oracles import ed25519 as oracle

LEDGER = federation().digest

# Replay, and other ledgers


def test_replaying_a_transaction_is_refused_in_its_block_and_for_ever():
    play = Play()
    raw = play.sign("hal", tx.Delegate("bob", 700))
    assert codes(play.run(raw, raw)) == ["stale-sequence"]
    play.wait(70)
    assert play.refusal_of(raw) == "stale-sequence"
    assert worth(play, "hal", "bob") == 700
    assert play.refusal_of(play.sign("hal", tx.Claim(), ahead=1)) == "future-sequence"


def test_replaying_after_leaving_and_coming_back_is_refused():
    play = Play(members=("lou",), **SHORT)
    raws = []
    for body in (tx.Delegate("ann", 10), tx.Undelegate("ann", 10)):
        raws.append(play.sign("lou", body))
        play.run(raws[-1])
    play.wait(play.parameters.unbonding_blocks)
    raws.append(play.sign("lou", tx.Leave()))
    assert not codes(play.run(raws[-1]))
    assert {play.refusal_of(raw) for raw in raws} == {"not-active"}
    play.by_hand(lambda context: members.admit(context, "lou", "org-lou", key("lou").public))
    assert {play.refusal_of(raw) for raw in raws} == {"stale-sequence"}


def test_what_was_signed_ahead_dies_with_the_key():
    play = Play()
    raw = play.sign("hal", tx.Undelegate("ann", 1_000), ahead=1)
    # That its signature was right once, in a block that was never decided, does not count.
    new = rotation("hal", key("hal, later"))
    assert not codes(execute(play.state, play.next_block([play.sign("hal", new), raw])).events)
    rotate(play, "hal", key("hal, later"))
    assert play.refusal_of(raw) == "bad-signature"


def test_a_transaction_for_another_ledger_is_refused_whoever_signs():
    play = Play()
    other = tx.sign(key("hal"), digest(b"another genesis"), "hal", 0, tx.Claim())
    assert play.refusal_of(other) == "wrong-chain"
    content = codec.decode(other)
    assert play.refusal_of(codec.encode([LEDGER, *content[1:]])) == "bad-signature"


@pytest.mark.parametrize("genesis", [b"", bytes(31), bytes(33), "play", 0, None])
def test_a_ledger_is_named_by_32_bytes(genesis):
    content = codec.decode(Play().sign("hal", tx.Claim()))
    assert Play().refusal_of(codec.encode([genesis, *content[1:]])) == "malformed"


@pytest.mark.parametrize("kind", sorted(tx.OF_ROUNDS))
def test_parts_of_rounds_carry_no_sequence_number(kind):
    play = Play()
    bodies = {
        "commit-update": tx.CommitUpdate(1, LIE),
        "seal": tx.Seal(1, LIE),
        "hold": tx.Hold(1, 1, ("ann",)),
        "attest": tx.Attest(1, 1, LIE),
        "reveal": tx.Reveal(1, 1, LIE, (), LIE),
    }
    content = codec.decode(tx.sign(key("ann"), LEDGER, "ann", 9, bodies[kind]))
    assert content[2] == 0
    assert play.refusal_of(signed([*content[:2], 1, *content[3:5]], key("ann"))) == "malformed"
    assert not tx.OF_ROUNDS & {"claim", "vote", "rotate-key", "set-machine-key", "join-recipe", "leave-recipe"}


def test_the_sequence_of_an_account_goes_on_whatever_is_done_in_rounds():
    play = Play()
    ahead = play.sign("ann", tx.Bond(1))
    play.round()
    assert play.member("ann").sequence == 0
    assert not codes(play.run(ahead))
    assert play.member("ann").sequence == 1


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (1, "ivy"),
        (3, "undelegate"),
        (4, {"candidate": "ann", "amount": 701}),
        (4, {"candidate": "bob", "amount": 700}),
    ],
)
def test_no_part_of_a_signed_transaction_can_be_exchanged(at, value):
    play = Play()
    content = codec.decode(play.sign("hal", tx.Delegate("ann", 700)))
    assert play.refusal_of(codec.encode([*content[:at], value, *content[at + 1 :]])) == "bad-signature"


def test_the_sequence_number_is_signed():
    play = Play()
    content = codec.decode(play.sign("hal", tx.Delegate("ann", 700)))
    play.must(("hal", tx.SetProfile("Hal", "", b"")))
    assert play.refusal_of(codec.encode([*content[:2], 1, *content[3:]])) == "bad-signature"


def test_a_signature_made_for_something_else_signs_no_transaction():
    play = Play()
    content = codec.decode(play.sign("hal", tx.Claim()))[:5]
    for message in (codec.encode(content), digest(codec.encode(content)), b"fedmeta header\0" + codec.encode(content)):
        assert play.refusal_of(codec.encode([*content, key("hal").sign(message)])) == "bad-signature"


# Malleated encodings


def head(major, number, width):
    """Return a CBOR head whose number takes so many bytes, 0 for those within the first."""
    if not width:
        return bytes([major << 5 | number])
    return bytes([major << 5 | 24 + width.bit_length() - 1]) + number.to_bytes(width, "big")


def text(value, width=0):
    return head(3, len(value), width) + value.encode()


def octets(value, width=1):
    return head(2, len(value), width) + value


AMOUNT, TO = text("amount"), text("candidate")


def forms(sequence, signature):
    """Yield the one encoding of "delegate 700 units to ann" first, then others of these or nearly these values."""
    parts = [octets(LEDGER), text("hal"), head(0, sequence, 0), text("delegate")]
    fields = AMOUNT + head(0, 700, 2) + TO + text("ann")
    tail = octets(signature)
    plain = head(4, 6, 0) + b"".join(parts) + head(5, 2, 0) + fields + tail
    yield "canonical", plain
    for width in (1, 2, 4, 8):
        longer = [*parts[:2], head(0, sequence, width), parts[3]]
        yield f"sequence in {width}", head(4, 6, 0) + b"".join(longer) + head(5, 2, 0) + fields + tail
        longer = [parts[0], text("hal", width), *parts[2:]]
        yield f"text length in {width}", head(4, 6, 0) + b"".join(longer) + head(5, 2, 0) + fields + tail
        yield f"list length in {width}", head(4, 6, width) + plain[1:]
        yield f"map length in {width}", head(4, 6, 0) + b"".join(parts) + head(5, 2, width) + fields + tail
    for width in (4, 8):
        other = AMOUNT + head(0, 700, width) + TO + text("ann")
        yield f"amount in {width}", head(4, 6, 0) + b"".join(parts) + head(5, 2, 0) + other + tail
    for width in (2, 4, 8):
        yield f"signature length in {width}", plain[: -len(tail)] + octets(signature, width)
    begin = head(4, 6, 0) + b"".join(parts)
    swapped = TO + text("ann") + AMOUNT + head(0, 700, 2)
    yield "keys in another order", begin + head(5, 2, 0) + swapped + tail
    yield "a key twice", begin + head(5, 3, 0) + AMOUNT + head(0, 700, 2) + fields + tail
    yield "a key twice with two values", begin + head(5, 3, 0) + AMOUNT + head(0, 1, 0) + fields + tail
    yield "a key as bytes", begin + head(5, 2, 0) + octets(b"amount", 0) + fields[len(AMOUNT) :] + tail
    yield "a list without end", b"\x9f" + plain[1:] + b"\xff"
    yield "a map without end", begin + b"\xbf" + fields + b"\xff" + tail
    rest = b"".join(parts[2:]) + head(5, 2, 0) + fields + tail
    yield "text in pieces", head(4, 6, 0) + parts[0] + b"\x7f" + text("h") + text("al") + b"\xff" + rest
    yield "bytes in pieces", plain[: -len(tail)] + b"\x5f" + octets(signature[:32]) + octets(signature[32:]) + b"\xff"
    yield "a small bignum", begin + head(5, 2, 0) + AMOUNT + b"\xc2\x42\x02\xbc" + TO + text("ann") + tail
    yield "a padded bignum", begin + head(5, 2, 0) + AMOUNT + b"\xc2\x43\x00\x02\xbc" + TO + text("ann") + tail
    yield "a float", begin + head(5, 2, 0) + AMOUNT + cbor2.dumps(700.0) + TO + text("ann") + tail
    yield "a half float", begin + head(5, 2, 0) + AMOUNT + b"\xf9\x61\x78" + TO + text("ann") + tail
    yield "a tagged whole", b"\xd9\xd9\xf7" + plain
    yield "a tagged text", head(4, 6, 0) + parts[0] + b"\xd8\x20" + parts[1] + rest
    yield "a byte more", plain + b"\x00"
    yield "itself twice", plain + plain
    yield "a byte less", plain[:-1]
    yield "a field more", head(4, 7, 0) + plain[1:] + b"\xf6"
    yield "a field less", head(4, 5, 0) + plain[1 : -len(tail)]
    yield "an unknown field", begin + head(5, 3, 0) + text("a") + head(0, 1, 0) + fields + tail
    yield "a missing field", begin + head(5, 1, 0) + AMOUNT + head(0, 700, 2) + tail


def test_every_other_encoding_of_a_transaction_is_refused():
    play = Play()
    raw = play.sign("hal", tx.Delegate("ann", 700))
    (_, plain), *others = forms(0, codec.decode(raw)[-1])
    assert plain == raw
    same = 0
    for why, other in others:
        assert other != raw, why
        assert play.refusal_of(other) == "malformed", why
        try:
            same += cbor2.loads(other) == cbor2.loads(raw)
        except cbor2.CBORError:
            continue
    # Most of them would be the same transaction to a decoder that is not strict.
    assert same > 20
    assert not codes(play.run(raw))


def test_a_signature_has_no_second_form():
    play = Play()
    content = codec.decode(play.sign("hal", tx.Claim()))
    r, s = content[5][:32], int.from_bytes(content[5][32:], "little")
    for times in range(1, 15):
        other = r + (s + times * oracle.L).to_bytes(32, "little")
        assert play.refusal_of(codec.encode([*content[:5], other])) == "bad-signature"
    negated = r + (oracle.L - s).to_bytes(32, "little")
    mirrored = bytes([*r[:31], r[31] ^ 0x80]) + content[5][32:]
    for other in (negated, mirrored, bytes(64), content[5][:63], content[5] + b"\x00"):
        code = "bad-signature" if len(other) == 64 else "malformed"
        assert play.refusal_of(codec.encode([*content[:5], other])) == code


@pytest.mark.parametrize("point", oracle.torsion(), ids=lambda point: oracle.encode(point).hex()[:8])
def test_a_key_that_anyone_could_sign_by_is_never_taken(point):
    public = oracle.encode(point)
    play = Play()
    anyones = oracle.encode(oracle.IDENTITY) + bytes(32)
    assert play.refusal("hal", tx.RotateKey(public, anyones)) == "bad-value"
    action = {"kind": "admit", "member": "mal", "organisation": "mal", "public": public, "title": ""}
    assert play.refusal("hal", tx.Propose("Admit mal", action)) == "bad-value"
    genesis = federation()
    with pytest.raises(InvalidGenesis):
        start(replace(genesis, members=(replace(genesis.members[0], public=public), *genesis.members[1:])))


# Amounts


@pytest.mark.parametrize(
    "amount",
    [0, -1, -700, -(2**63), 10**15 + 1, 2**63 - 1, 2**63, 2**64 - 1, 2**64, 2**256, True, False, None, "700", b"\x07"],
    ids=str,
)
def test_an_amount_that_is_none_is_refused_wherever_amounts_are(amount):
    play = Play()
    play.must(("ivy", tx.Undelegate("bob", 100)))
    for name, kind, values in [
        ("ann", "bond", {}),
        ("ivy", "delegate", {"candidate": "ann"}),
        ("ivy", "undelegate", {"candidate": "bob"}),
        ("ivy", "redelegate", {"source": "bob", "destination": "ann"}),
        ("ivy", "cancel-unbonding", {"candidate": "bob", "created": play.height}),
    ]:
        content = [LEDGER, name, play.member(name).sequence, kind, {**values, "amount": amount}]
        assert play.refusal_of(signed(content, key(name))) == "bad-amount", kind
    action = {"kind": "spend", "member": "ivy", "amount": amount}
    assert play.refusal("ivy", tx.Propose("Spend", action)) == "bad-amount"


def test_a_float_has_no_encoding_at_all():
    with pytest.raises(Malformed):
        codec.encode({"amount": 700.0})
    play = Play()
    content = [LEDGER, "ivy", 0, "delegate", {"amount": 700.5, "candidate": "ann"}]
    message = b"fedmeta transaction\0" + cbor2.dumps(content, canonical=True)
    assert play.refusal_of(cbor2.dumps([*content, key("ivy").sign(message)], canonical=True)) == "malformed"


def test_no_more_than_there_is_can_be_staked_taken_back_moved_or_cancelled():
    play = Play()
    free = play.member("ivy").free
    play.must(("ivy", tx.Undelegate("bob", 100)))
    for body in (
        tx.Delegate("ann", free + 1),
        tx.Delegate("ann", 10**15),
        tx.Undelegate("bob", 401),
        tx.Redelegate("bob", "ann", 401),
        tx.CancelUnbonding("bob", play.height, 101),
    ):
        assert play.refusal("ivy", body) == "insufficient-funds"
    assert codes(play.block(("ivy", tx.Delegate("ann", free)), ("ivy", tx.Delegate("bob", 1)))) == [
        "insufficient-funds"
    ]


# Oversized and malformed input


def test_what_is_too_large_is_refused_before_it_is_read():
    play = Play(max_transaction_bytes=50_000)
    assert play.refusal_of(bytes(50_001)) == "too-large"
    assert play.refusal_of(bytes(50_000)) == "malformed"
    assert play.refusal_of(b"") == "malformed"
    assert Play().refusal_of(b"\x81" * 65_536) == "malformed"
    assert Play().refusal_of(b"\x9a\xff\xff\xff\xff") == "malformed"
    assert Play().refusal_of(b"\x5b" + b"\x7f" + b"\xff" * 7) == "malformed"


NAMES = [f"n{at:05}" for at in range(7_000)]
LONG = "x" * 60_000
REVEAL = {"round": 1, "attempt": 1, "result": LIE, "scores": [], "salt": LIE}


def answer(play, raw):
    """Return what is said to who sent a transaction that is refused."""
    return attempt(begin(play.state, play.next_block(time=0)), 0, raw)


@pytest.mark.parametrize(
    ("name", "kind", "values", "code"),
    [
        ("ann", "hold", {"members": NAMES, "round": 1, "attempt": 1}, "malformed"),
        ("ann", "hold", {"members": NAMES[:1_000], "round": 1, "attempt": 1}, "not-found"),
        ("ann", "hold", {"members": [LONG], "round": 1, "attempt": 1}, "bad-value"),
        ("ann", "attest", {"commitment": b"short", "round": 1, "attempt": 1}, "bad-value"),
        ("ann", "seal", {"header": bytes(33), "round": 1}, "bad-value"),
        ("ann", "reveal", {**REVEAL, "scores": [1] * 60_000}, "malformed"),
        ("ann", "reveal", {**REVEAL, "scores": [1] * 1_000}, "wrong-phase"),
        ("ann", "reveal", {**REVEAL, "scores": [1_000_001]}, "bad-value"),
        ("ann", "reveal", {**REVEAL, "salt": b""}, "bad-value"),
        ("hal", "commit-update", {"round": 1, "digest": bytes(31)}, "bad-value"),
        ("hal", "join-recipe", {"recipe": bytes(31)}, "bad-value"),
        ("hal", "set-machine-key", {"public": bytes(31), "proof": bytes(64)}, "bad-value"),
        ("hal", "set-machine-key", {"public": bytes(32), "proof": bytes(63)}, "bad-value"),
        ("hal", "set-profile", {"title": LONG, "address": "", "tls": b"", "next_tls": b""}, "bad-value"),
        ("hal", "set-profile", {"title": "a\nb", "address": "", "tls": b"", "next_tls": b""}, "bad-value"),
        ("hal", "set-profile", {"title": "", "address": "", "tls": b"", "next_tls": b"x"}, "bad-value"),
        ("hal", "propose", {"title": "x", "action": {"kind": LONG}}, "malformed"),
        ("hal", "propose", {"title": "x", "action": {"kind": "set-parameters", "values": {LONG: 1}}}, "bad-value"),
        (
            "hal",
            "propose",
            {"title": "x", "action": {"kind": "set-parameters", "values": {"veto": LONG}}},
            "bad-value",
        ),
        ("hal", "propose", {"title": "x", "action": {"kind": "spend", LONG: 1}}, "malformed"),
        ("hal", "propose", {"title": "x", "action": {}}, "malformed"),
        ("hal", "vote", {"proposal": 1, "choice": LONG}, "bad-value"),
        ("hal", "claim", {LONG: 1}, "malformed"),
        ("hal", LONG, {}, "malformed"),
        (LONG, "claim", {}, "unknown-member"),
        ("", "claim", {}, "unknown-member"),
    ],
    ids=lambda value: value if type(value) is str and len(value) < 20 else "",
)
def test_oversized_and_odd_fields_are_refused_in_few_words(name, kind, values, code):
    play = Play()
    play.to_deliver()
    sequence = play.member(name).sequence if name in ("ann", "hal") else 0
    raw = signed([LEDGER, name, sequence, kind, values], key(name))
    assert len(raw) <= 65_536
    assert play.refusal_of(raw) == code
    said = answer(play, raw)
    assert said.code == code
    assert len(said.message) < 2_000
    assert not re.search(r"[\x00-\x1f]", said.message)


def test_not_even_what_cannot_be_decoded_is_repeated_at_length():
    twice = head(3, 30_000, 2) + b"x" * 30_000 + b"\x00"
    said = answer(Play(), b"\xa2" + twice + twice)
    assert said.code == "malformed"
    assert len(said.message) < 2_000


def test_nothing_refused_leaves_a_trace_but_its_event():
    play = Play()
    before = play.member("hal")
    bad = [b"", b"\xff", play.sign("hal", tx.Claim(), ahead=5), play.sign("hal", tx.CastVote(1, "yes"))]
    events = play.run(*bad)
    assert [type(one) for one in events[: len(bad)]] == [TransactionRefused] * len(bad)
    assert play.member("hal") == before
    assert not play.events(FaultProven)
