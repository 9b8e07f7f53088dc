"""Whoever checks headers believes a sequencer's key, or the validators that the last trusted block has named."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmeta.govern.errors import ProofError, TooFar
from fedmeta.govern.machine.header import Header, SignedHeader, sign_header
from fedmeta.govern.machine.trust import (
    MAX_DRIFT,
    Checkpoint,
    SequencerTrust,
    ValidatorsTrust,
    trust_of,
    trust_period,
)
from fedmeta.govern.wire.commits import MAX_POWER, Validator, chain_id_of, encode_certificate, validator_set
from fedmeta.govern.wire.layout import encode_part
from tests.examples import cells, examples
from tests.govern.committee import certify, comet_header, committee, hashed
from tests.govern.playing import TIME, federation, key

GENESIS = hashed("genesis")
CHAIN = chain_id_of(GENESIS)
NAMES = ("ann", "bob", "cat", "dan")
FOUR = committee(dict.fromkeys(NAMES, 1))
PERIOD = 1_000_000
FIRST = ValidatorsTrust(GENESIS, PERIOD, 0, TIME, FOUR)


def header(height=1, time=TIME + 10, previous=GENESIS, genesis=GENESIS):
    return Header(genesis, height, time, previous, hashed("transactions"), hashed("events"), hashed("state"))


def block(
    one, at=None, time=None, validators=FOUR, following=(), signers=NAMES, chain_id=CHAIN, app_hash=None, **options
):
    """Return a header with the certificate of a block of CometBFT, by default the next one."""
    when = one.time + 5 if time is None else time
    found = comet_header(validators, following, at or one.height + 1, when, app_hash or one.hash, chain_id)
    return SignedHeader(one, encode_certificate(certify(found, validators, following, signers, **options)))


def refuses(trust, signed, match, now=None, error=ProofError):
    for judge in (trust.jump, lambda one, now: trust.accept(one, None, now)):
        with pytest.raises(error, match=match) as caught:
            judge(signed, now)
        assert type(caught.value) is error


# A sequencer


def test_a_sequencer_is_trusted_for_every_header_that_it_has_signed_and_leaves_no_height_out():
    sequencer = key("sequencer")
    genesis = federation()
    trust = trust_of(genesis)
    assert trust == SequencerTrust(genesis.digest, sequencer.public)
    first = header(genesis=genesis.digest, previous=genesis.digest)
    second = replace(first, height=2, previous=first.hash)
    assert trust.accept(sign_header(sequencer, first), None) is trust
    assert trust.accept(sign_header(sequencer, second), first, now=0) is trust
    assert trust.jump(sign_header(sequencer, replace(first, height=7))) is trust
    with pytest.raises(ProofError, match="2 is next"):
        trust.accept(sign_header(sequencer, replace(second, height=3)), first)
    with pytest.raises(ProofError, match="is not by the sequencer"):
        trust.accept(sign_header(key("ann"), first), None)
    assert trust.load(trust.save()) == trust
    with pytest.raises(ProofError, match="no trust in a sequencer"):
        trust.load(b"x")


# Validators, block after block


def test_trust_goes_on_from_block_to_block_over_the_heights_that_have_a_header():
    one = header()
    trust = FIRST.accept(block(one), None)
    assert (trust.height, trust.time, trust.validators) == (2, one.time + 5, FOUR)
    later = header(9, TIME + 100, one.hash)
    trust = trust.accept(block(later), one)
    assert trust.height == 10
    with pytest.raises(ProofError, match="header 9 cannot follow height 9: it must be later"):
        trust.accept(block(later, at=12), later)
    with pytest.raises(ProofError, match="as the one before: block 9 is"):
        trust.accept(block(header(11, TIME + 200, one.hash)), later)
    with pytest.raises(ProofError, match="must not be before"):
        trust.accept(block(header(11, TIME + 99, later.hash), time=TIME + 300), later)
    with pytest.raises(ProofError, match="as the one before: the genesis is"):
        FIRST.accept(block(header(previous=hashed("other"))), None)


def test_each_block_names_the_validators_of_the_next_one():
    others = committee({"eve": 2, "fay": 2, "gus": 1})
    one = header()
    trust = FIRST.accept(block(one, following=others), None)
    assert trust.validators == others
    two = header(2, previous=one.hash)
    refuses(trust, block(two, validators=FOUR), "block 3 has other validators than those that block 2 named")
    # Although all of the old ones stay, and sign.
    more = committee({**dict.fromkeys(NAMES, 1), "eve": 1})
    assert FIRST.accept(block(one, following=more), None).accept(block(two, validators=more, signers=NAMES), one)
    refuses(FIRST.accept(block(one), None), block(two, validators=more), "block 3 has other validators")
    assert trust.accept(block(two, validators=others, signers=["eve", "fay"]), one).height == 3


def test_a_header_is_certified_by_a_later_block_that_carries_its_hash_on_its_own_chain():
    one = header(5)
    for signed, match in (
        (block(one, app_hash=hashed("another")), f"certifies {hashed('another').hex()}: header 5 is {one.hash.hex()}"),
        (block(one, at=5), "header 5 is certified by block 5, which must be later"),
        (block(one, at=4), "which must be later"),
        (block(one, time=one.time - 1), "which must be later"),
        (block(one, chain_id="fedmeta-other"), f"is of chain 'fedmeta-other': it must be '{CHAIN}'"),
        (block(replace(one, genesis=hashed("other"))), "the header is of the ledger of genesis"),
        (block(one, signers=NAMES[:2]), "2 of the power of 4 signed"),
        (block(one, signers=NAMES[:2], nil=NAMES[2:]), "2 of the power of 4 signed"),
        (SignedHeader(one, b""), "the certificate of header 5 is none"),
        (sign_header(key("ann"), one), "the certificate of header 5 is none"),
    ):
        refuses(FIRST, signed, match)
        with pytest.raises(ProofError, match=match):
            FIRST.check(signed)
    FIRST.check(block(one))
    assert FIRST.jump(block(one, time=one.time)).height == 6


def test_an_old_certificate_is_replayed_for_no_newer_header():
    one = header()
    signed = block(one)
    trust = FIRST.accept(signed, None)
    two = header(2, previous=one.hash)
    refuses(trust, SignedHeader(two, signed.certificate), "block 2 of CometBFT certifies")
    refuses(trust, signed, "block 2 is trusted already")
    with pytest.raises(ProofError, match="it goes back, block 9 is trusted already"):
        trust.jump(block(header(8))).jump(block(two))
    # Nor by a later block of the past.
    refuses(replace(trust, time=TIME + 1_000), block(header(5), time=TIME + 999), "must not be before")


def test_exactly_two_thirds_of_the_power_certify_nothing():
    three = committee(dict.fromkeys(NAMES[:3], 5))
    trust = replace(FIRST, validators=three)
    refuses(trust, block(header(), validators=three, signers=NAMES[:2]), "10 of the power of 15 signed")
    assert trust.jump(block(header(), validators=three, signers=NAMES[:3]))


def test_a_set_that_cannot_be_is_never_trusted():
    twice = (*FOUR, Validator(FOUR[0].public, 1))
    over = validator_set({key("ann").public: MAX_POWER, key("bob").public: 1})
    for bad, match in ((twice, "is in a set twice"), (over, f"the power {MAX_POWER + 1}")):
        refuses(FIRST, block(header(), validators=bad, signers=NAMES), match)
        refuses(FIRST, block(header(), following=bad), match)
        saved = encode_part(type_of_saved()(7, TIME, bad))
        with pytest.raises(ProofError, match=match):
            FIRST.load(saved)


def type_of_saved():
    from fedmeta.govern.machine import trust

    return trust._Saved


# Skipping


def test_more_than_a_third_of_the_trusted_power_is_enough_to_skip():
    far = header(50, TIME + 1_000)
    for stay, enough in (((), False), (NAMES[:1], False), (NAMES[:2], True), (NAMES, True)):
        new = committee({**dict.fromkeys(stay, 1), "eve": 20, "fay": 20})
        signed = block(far, validators=new, signers=(*stay, "eve", "fay"))
        if enough:
            assert FIRST.jump(signed).validators == new
        else:
            refuses(FIRST, signed, f"{len(stay)} of the power of 4 that is trusted since block 0", error=TooFar)


def test_exactly_a_third_of_the_trusted_power_is_not_enough():
    three = replace(FIRST, validators=committee(dict.fromkeys(NAMES[:3], 7)))
    new = committee({"ann": 1, "eve": 20})
    refuses(three, block(header(50), validators=new, signers=["ann", "eve"]), "7 of the power of 21", error=TooFar)


def test_power_is_counted_as_the_trusted_set_has_it_and_only_of_who_signed():
    trust = replace(FIRST, validators=committee({"ann": 1, "bob": 9}))
    new = committee({"ann": 90, "bob": 1, "eve": 5})
    refuses(trust, block(header(50), validators=new, signers=["ann", "eve"]), "1 of the power of 10", error=TooFar)
    assert trust.jump(block(header(50), validators=new, signers=["ann", "bob"])).height == 51


@given(
    st.lists(st.integers(0, 9), min_size=4, max_size=4),
    st.lists(st.integers(0, 9), min_size=4, max_size=4),
    st.integers(0, 15),
)
@examples(60)
def test_a_block_is_skipped_to_exactly_by_both_rules(old, new, chosen):
    before = validator_set({key(name).public: power for name, power in zip(NAMES, old, strict=True) if power})
    after = validator_set({key(name).public: power for name, power in zip(NAMES, new, strict=True) if power})
    if not before or not after:
        return
    signers = [name for at, name in enumerate(NAMES) if chosen >> at & 1 and new[at]]
    trusted = sum(old[at] for at, name in enumerate(NAMES) if name in signers)
    signed = sum(new[at] for at, name in enumerate(NAMES) if name in signers)
    trust = replace(FIRST, validators=before)
    offered = block(header(50), validators=after, signers=signers)
    if 3 * signed > 2 * sum(new) and 3 * trusted > sum(old):
        assert trust.jump(offered).validators == after
    else:
        with pytest.raises(ProofError):
            trust.jump(offered)


# Age


def test_trust_that_is_older_than_its_period_is_none_and_says_what_to_do():
    signed = block(header(time=TIME + PERIOD - 5), time=TIME + PERIOD - 5)
    assert FIRST.accept(signed, None, now=TIME + PERIOD - 1).height == 2
    with pytest.raises(
        ProofError, match=r"is 1000 s old: after 1000 s .* ask members whom you trust for a late checkpoint"
    ):
        FIRST.accept(signed, None, now=TIME + PERIOD)
    # Whoever does not ask for the time, as one who executes again what is kept, is not refused.
    assert FIRST.accept(signed, None).height == 2


def test_a_block_that_is_too_old_when_it_comes_or_from_the_future_is_not_trusted():
    trust = replace(FIRST, time=TIME + 10)
    refuses(trust, block(header(time=TIME + 10), time=TIME + 10), "is 1000 s old", now=TIME + 10 + PERIOD)
    soon = block(header(), time=TIME + 100 + MAX_DRIFT)
    assert FIRST.jump(soon, now=TIME + 100).height == 2
    refuses(FIRST, soon, "correct the clock of this machine", now=TIME + 99)


def test_trust_lasts_for_two_thirds_of_the_time_that_stake_takes_to_be_free():
    assert trust_period(1_209_600) == 9 * 86_400_000 + 28_800_000
    assert trust_period(10) == 6_666


# A checkpoint


def test_one_who_was_away_for_longer_begins_from_a_checkpoint():
    strangers = committee({"eve": 1, "fay": 1, "gus": 1})
    late = header(500, TIME + 9 * PERIOD)
    signed = block(late, validators=strangers, signers=["eve", "fay", "gus"])
    hash = comet_header(strangers, (), 501, late.time + 5, late.hash, CHAIN).hash
    now = late.time + 10
    refuses(FIRST, signed, "ask members whom you trust", now=now)
    told = replace(FIRST, checkpoint=Checkpoint(500, hash))
    trust = told.jump(signed, now)
    assert trust == replace(FIRST, height=501, time=late.time + 5, validators=strangers)
    assert trust.jump(block(header(900, now), validators=strangers, signers=["eve", "fay", "gus"]), now).height == 901
    for point, match in (
        (Checkpoint(500, hashed("another")), f"is certified by the block {hash.hex()}: the checkpoint is"),
        (Checkpoint(499, hash), "header 500 is beyond the checkpoint: header 499 must come first"),
        (Checkpoint(501, hash), "ask members whom you trust"),
    ):
        refuses(replace(FIRST, checkpoint=point), signed, match, now=now)
    refuses(told, signed, "is 1000 s old", now=late.time + 5 + PERIOD)
    refuses(told, block(late, validators=strangers, signers=["eve", "fay"]), "2 of the power of 3", now=now)


def test_a_checkpoint_binds_also_one_who_comes_to_it_header_by_header():
    one, two = header(), header(2, previous=header().hash)
    hash = comet_header(FOUR, (), 3, two.time + 5, two.hash, CHAIN).hash
    trust = replace(FIRST, checkpoint=Checkpoint(2, hash))
    trust = trust.accept(block(one), None)
    assert trust.checkpoint is not None
    with pytest.raises(ProofError, match="the checkpoint is"):
        trust.accept(block(two, at=4), one)
    assert trust.accept(block(two), one).checkpoint is None


# Saved


def test_trust_goes_on_from_what_was_saved():
    others = committee({"eve": 2, "fay": 2, "gus": 1})
    trust = FIRST.accept(block(header(), following=others), None)
    assert FIRST.load(trust.save()) == trust
    later, passed = Checkpoint(2, hashed("x")), Checkpoint(1, hashed("x"))
    assert replace(FIRST, checkpoint=later).load(trust.save()) == replace(trust, checkpoint=later)
    assert replace(FIRST, checkpoint=passed).load(trust.save()) == trust


def test_what_was_saved_and_changed_is_refused_or_of_other_validators():
    data = FIRST.jump(block(header())).save()
    for at in cells(range(0, len(data), 5), range(len(data))):
        changed = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        try:
            assert FIRST.load(changed).save() == changed
        except ProofError:
            continue
    for bad in (b"", data[:-1], data + b"\0"):
        with pytest.raises(ProofError, match="no trust in validators"):
            FIRST.load(bad)


def test_a_chain_s_name_in_cometbft_is_bound_to_its_genesis_and_fits():
    assert f"fedmeta-{GENESIS.hex()[:40]}" == CHAIN
    assert len(CHAIN) <= 50
