"""What CometBFT hashes and signs comes out to the byte, and a commit holds by more than two thirds of its set alone."""

import base64
import json
from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmeta.govern.errors import Malformed, ProofError
from fedmeta.govern.wire import codec
from fedmeta.govern.wire.commit_json import certificate_of, timestamp_of
from fedmeta.govern.wire.commits import (
    ABSENT,
    BLOCK_PROTOCOL,
    COMMIT,
    MAX_POWER,
    MAX_VALIDATORS,
    NEVER,
    NIL,
    NO_VOTE,
    BlockId,
    CometHeader,
    Timestamp,
    Validator,
    check_commit,
    data_hash,
    decode_certificate,
    encode_certificate,
    validator_set,
    validators_hash,
    vote_sign_bytes,
)
from fedmeta.govern.wire.signatures import verify
from tests.examples import cells, examples
from tests.govern.committee import CHAIN, certify, comet_header, committee, hashed
from tests.govern.playing import key
from tests.govern.recorded.record_commits import PATH

FOUR = committee({"ann": 1, "bob": 1, "cat": 1, "dan": 1})
NAMES = ("ann", "bob", "cat", "dan")
ONES = "110100000000000000 190100000000000000"
"""Height and round 1, in their fixed size."""
RECORDED = json.loads(PATH.read_text())["blocks"]
VECTORS = json.loads(PATH.with_name("commit_vectors.json").read_text())
"""What CometBFT's own library gives: `commit_vectors.go` writes it."""


def recorded(block):
    return certificate_of(block["commit"], block["validators"], block["next_validators"])


def sound(signers=NAMES, **options):
    return certify(comet_header(FOUR), FOUR, signers=signers, **options)


# Bytes


@pytest.mark.parametrize(
    ("chain_id", "height", "round", "kind", "length", "before", "after"),
    [
        # The test vectors of CometBFT v0.38, types/vote_test.go, TestVoteSignBytesTestVectors.
        ("", 0, 0, 0, "0d", "", ""),
        ("", 1, 1, 2, "21", f"0802 {ONES}", ""),
        ("", 1, 1, 1, "21", f"0801 {ONES}", ""),
        ("", 1, 1, 0, "1f", ONES, ""),
        ("test_chain_id", 1, 1, 0, "2e", ONES, "320d746573745f636861696e5f6964"),
    ],
)
def test_the_published_sign_bytes_of_votes_come_out(chain_id, height, round, kind, length, before, after):
    due = bytes.fromhex(f"{length} {before} 2a0b088092b8c398feffffff01 {after}")
    assert vote_sign_bytes(chain_id, height, round, None, NEVER, kind) == due


def test_the_published_hash_of_a_header_comes_out():
    # CometBFT v0.38, types/block_test.go, TestHeaderHash.
    header = CometHeader(
        block_version=1,
        app_version=2,
        chain_id="chainId",
        height=3,
        time=timestamp_of("2019-10-13T16:14:44Z"),
        last_block_id=BlockId(bytes(32), 6, bytes(32)),
        last_commit_hash=hashed("last_commit_hash"),
        data_hash=hashed("data_hash"),
        validators_hash=hashed("validators_hash"),
        next_validators_hash=hashed("next_validators_hash"),
        consensus_hash=hashed("consensus_hash"),
        app_hash=hashed("app_hash"),
        last_results_hash=hashed("last_results_hash"),
        evidence_hash=hashed("evidence_hash"),
        proposer_address=hashed("proposer_address")[:20],
    )
    assert header.hash.hex() == "f740121f553b5418c3efbd343c2dbfe9e007bb67b0d020a0741374bab65242a4"


def test_the_published_hash_of_the_empty_set_comes_out():
    # CometBFT v0.38, types/validator_set_test.go, TestValidatorSetBasic.
    assert validators_hash(()).hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_votes_headers_sets_and_data_of_many_sizes_are_signed_and_hashed_as_by_cometbft_s_own_library():
    for vote in VECTORS["votes"]:
        block_id, time = block_of(vote["block_id"]), Timestamp(*vote["time"])
        found = vote_sign_bytes(vote["chain_id"], vote["height"], vote["round"], block_id, time)
        assert found.hex() == vote["due"]
    for header in VECTORS["headers"]:
        block, app, chain_id, height, time, last, *hashes = header["fields"]
        found = CometHeader(block, app, chain_id, height, Timestamp(*time), block_of(last), *map(bytes.fromhex, hashes))
        assert found.hash.hex() == header["due"]
    for one in VECTORS["sets"]:
        found = validator_set({bytes.fromhex(public): power for public, power in one["given"]})
        assert [[v.public.hex(), v.power, v.address.hex()] for v in found] == one["ordered"]
        assert validators_hash(found).hex() == one["due"]
    for one in VECTORS["data"]:
        assert data_hash(list(map(bytes.fromhex, one["given"]))).hex() == one["due"]


def block_of(values):
    hash, parts, parts_hash = values
    return BlockId(bytes.fromhex(hash), parts, bytes.fromhex(parts_hash))


def test_the_vectors_have_what_is_left_out_and_what_takes_the_most_bytes():
    votes, headers = VECTORS["votes"], [one["fields"] for one in VECTORS["headers"]]
    heights = [one["height"] for one in votes] + [one[3] for one in headers]
    assert (min(heights), max(heights)) == (1, 2**63 - 1)
    assert any(not one["block_id"][0] for one in votes)
    assert any(not one["round"] for one in votes)
    assert min(one[4][0] for one in headers) < 0
    assert {0, 64} <= {len(one) for header in headers for one in header[6:]}


@pytest.mark.parametrize("block", RECORDED, ids=lambda one: one["commit"]["signed_header"]["header"]["height"])
def test_what_a_real_network_committed_is_hashed_named_and_signed_so(block):
    certificate = recorded(block)
    answered = block["commit"]["signed_header"]
    header = certificate.header
    assert header.hash.hex().upper() == answered["commit"]["block_id"]["hash"]
    assert validators_hash(certificate.validators) == header.validators_hash
    assert validators_hash(certificate.following) == header.next_validators_hash
    assert data_hash([base64.b64decode(raw) for raw in block["transactions"]]) == header.data_hash
    for one, found in zip(block["validators"]["validators"], certificate.validators, strict=True):
        assert found.address.hex().upper() == one["address"]
    flags = [one["block_id_flag"] for one in answered["commit"]["signatures"]]
    signed = {one.public for one, flag in zip(certificate.validators, flags, strict=True) if flag == COMMIT}
    assert check_commit(header.chain_id, certificate) == signed
    assert decode_certificate(encode_certificate(certificate)) == certificate


def test_the_recorded_network_has_votes_of_every_kind_and_a_set_that_changes():
    certificates = list(map(recorded, RECORDED))
    assert {one.flag for found in certificates for one in found.commit.signatures} == {ABSENT, COMMIT, NIL}
    assert [bool(one.next_validators) for one in certificates] == [False, False, False, True, False, False]
    assert any(block["transactions"] for block in RECORDED)


def test_nil_votes_of_a_real_network_are_signed_for_no_block():
    found = 0
    for certificate in map(recorded, RECORDED):
        commit = certificate.commit
        for vote, one in zip(commit.signatures, certificate.validators, strict=True):
            if vote.flag == NIL:
                message = vote_sign_bytes(
                    certificate.header.chain_id, commit.height, commit.round, None, vote.timestamp
                )
                assert verify(one.public, message, vote.signature)
                found += 1
    assert found


# Times


@pytest.mark.parametrize(
    ("text", "seconds", "nanos"),
    [
        ("1970-01-01T00:00:00Z", 0, 0),
        ("0001-01-01T00:00:00Z", -62_135_596_800, 0),
        ("9999-12-31T23:59:59.999999999Z", 253_402_300_799, 999_999_999),
        ("2017-12-25T03:00:01.234Z", 1_514_170_801, 234_000_000),
        ("2024-02-29T12:00:00.000000001Z", 1_709_208_000, 1),
        ("1969-12-31T23:59:59.5Z", -1, 500_000_000),
    ],
)
def test_times_are_read_to_the_nanosecond_without_floats(text, seconds, nanos):
    assert timestamp_of(text) == Timestamp(seconds, nanos)


@pytest.mark.parametrize(
    "text",
    [
        "2024-02-30T12:00:00Z",
        "2024-02-01T24:00:00Z",
        "2024-02-01T12:60:00Z",
        "2024-02-01T12:00:60Z",
        "0000-01-01T00:00:00Z",
        "2024-02-01T12:00:00",
        "2024-02-01T12:00:00+01:00",
        "2024-02-01T12:00:00.Z",
        "2024-02-01T12:00:00.1234567890Z",
        "2024-02-01 12:00:00Z",
        "٢٠٢٤-02-01T12:00:00Z",
        "",
    ],
)
def test_what_is_no_time_is_malformed(text):
    with pytest.raises(Malformed, match="is no time"):
        timestamp_of(text)


@given(st.integers(-62_135_596_800, 253_402_300_799), st.integers(0, 999_999_999))
def test_milliseconds_are_rounded_down(seconds, nanos):
    found = Timestamp(seconds, nanos).milliseconds
    assert 0 <= seconds * 10**9 + nanos - found * 10**6 < 10**6


# More than two thirds


@pytest.mark.parametrize("signers", [(), NAMES[:1], NAMES[:2], NAMES[:3], NAMES])
def test_a_commit_needs_more_than_two_thirds_of_four(signers):
    certificate = sound(signers)
    if len(signers) >= 3:
        assert check_commit(CHAIN, certificate) == {key(name).public for name in signers}
    else:
        with pytest.raises(ProofError, match=f"{len(signers)} of the power of 4 signed"):
            check_commit(CHAIN, certificate)


@given(st.lists(st.integers(1, 12), min_size=1, max_size=5), st.integers(0, 31))
@examples(60)
def test_the_power_that_signed_decides_exactly(powers, chosen):
    names = [f"v{at}" for at in range(len(powers))]
    validators = committee(dict(zip(names, powers, strict=True)))
    signers = [name for at, name in enumerate(names) if chosen >> at & 1]
    held = sum(power for at, power in enumerate(powers) if chosen >> at & 1)
    certificate = certify(comet_header(validators), validators, signers=signers)
    if 3 * held > 2 * sum(powers):
        assert check_commit(CHAIN, certificate) == {key(name).public for name in signers}
    else:
        with pytest.raises(ProofError, match="more than two thirds are needed"):
            check_commit(CHAIN, certificate)


def test_exactly_two_thirds_are_not_enough():
    three = committee({"ann": 1, "bob": 1, "cat": 1})
    with pytest.raises(ProofError, match="2 of the power of 3 signed"):
        check_commit(CHAIN, certify(comet_header(three), three, signers=NAMES[:2]))


def test_votes_for_no_block_and_votes_that_are_absent_have_no_power():
    with pytest.raises(ProofError, match="2 of the power of 4 signed"):
        check_commit(CHAIN, sound(NAMES[:2], nil=NAMES[2:]))
    # Nor when they are passed off as votes for the block.
    certificate = sound(NAMES[:2], nil=NAMES[2:])
    votes = tuple(replace(one, flag=COMMIT) for one in certificate.commit.signatures)
    with pytest.raises(ProofError, match="2 of the power of 4 signed"):
        check_commit(CHAIN, replace(certificate, commit=replace(certificate.commit, signatures=votes)))


def test_a_signature_that_fails_counts_as_absent():
    certificate = sound()
    votes = list(certificate.commit.signatures)
    for broken in range(3):
        votes[broken] = replace(votes[broken], signature=bytes(64))
        found = replace(certificate, commit=replace(certificate.commit, signatures=tuple(votes)))
        if broken:
            with pytest.raises(ProofError, match=f"{3 - broken} of the power of 4 signed"):
                check_commit(CHAIN, found)
        else:
            assert check_commit(CHAIN, found) == {one.public for one in FOUR[1:]}


def test_a_key_by_which_anyone_could_sign_has_no_power():
    small = (Validator(bytes([1]) + bytes(31), 10), *FOUR)
    certificate = certify(comet_header(small), small, signers=NAMES)
    first = replace(NO_VOTE, flag=COMMIT, address=small[0].address, signature=bytes([1]) + bytes(63))
    votes = (first, *certificate.commit.signatures[1:])
    with pytest.raises(ProofError, match="4 of the power of 14 signed"):
        check_commit(CHAIN, replace(certificate, commit=replace(certificate.commit, signatures=votes)))


# What does not belong together


def test_a_validator_that_is_in_a_set_twice_is_refused():
    twice = (*FOUR, FOUR[0])
    for certificate in (
        certify(comet_header(twice), twice, signers=NAMES),
        certify(comet_header(FOUR, twice), FOUR, twice, signers=NAMES),
    ):
        with pytest.raises(ProofError, match="is in a set twice"):
            check_commit(CHAIN, certificate)


def test_a_vote_that_is_repeated_in_another_s_place_is_refused():
    certificate = sound(NAMES[:2])
    first = next(one for one in certificate.commit.signatures if one.flag == COMMIT)
    for flag in (COMMIT, NIL):
        votes = tuple(replace(first, flag=flag) for _ in FOUR)
        with pytest.raises(ProofError, match="of the commit is by"):
            check_commit(CHAIN, replace(certificate, commit=replace(certificate.commit, signatures=votes)))


def test_a_set_that_hashes_to_another_is_refused():
    certificate = sound()
    other = committee(dict.fromkeys(NAMES, 2))
    for changed, match in (
        (replace(certificate, validators=other), "the validators hash to"),
        (replace(certificate, validators=FOUR[::-1]), "the validators hash to"),
        (replace(certificate, validators=FOUR[:3]), "the validators hash to"),
        (replace(certificate, next_validators=other), "the next validators hash to"),
        (replace(certificate, next_validators=FOUR[:3]), "the next validators hash to"),
    ):
        with pytest.raises(ProofError, match=match):
            check_commit(CHAIN, changed)


def test_a_certificate_of_another_chain_is_refused():
    with pytest.raises(ProofError, match="is of chain 'fedmeta-0123': it must be 'fedmeta-4567'"):
        check_commit("fedmeta-4567", sound())
    # Nor do signatures for one chain serve another whose header is the same otherwise.
    certificate = sound()
    other = replace(certificate.header, chain_id="fedmeta-4567")
    commit = replace(certificate.commit, block_id=replace(certificate.commit.block_id, hash=other.hash))
    with pytest.raises(ProofError, match="0 of the power of 4 signed"):
        check_commit("fedmeta-4567", replace(certificate, header=other, commit=commit))


def test_a_commit_is_of_its_header_and_of_nothing_else():
    certificate = sound()
    commit = certificate.commit
    for changed in (
        replace(commit, height=6),
        replace(commit, block_id=replace(commit.block_id, hash=bytes(32))),
    ):
        with pytest.raises(ProofError, match="the commit is of block"):
            check_commit(CHAIN, replace(certificate, commit=changed))
    for changed in (
        replace(commit, round=1),
        replace(commit, block_id=replace(commit.block_id, parts=2)),
        replace(commit, block_id=replace(commit.block_id, parts_hash=bytes(32))),
    ):
        with pytest.raises(ProofError, match="0 of the power of 4 signed"):
            check_commit(CHAIN, replace(certificate, commit=changed))
    with pytest.raises(ProofError, match="the commit has 3 votes: there are 4 validators"):
        check_commit(CHAIN, replace(certificate, commit=replace(commit, signatures=commit.signatures[:3])))


def test_every_field_of_a_header_is_under_its_hash():
    header = comet_header(FOUR)
    seen = {header.hash}
    for field in fields(header):
        value = getattr(header, field.name)
        if isinstance(value, int):
            others = [value + 1]
        elif isinstance(value, str):
            others = [value + "x"]
        elif isinstance(value, bytes):
            others = [bytes([value[0] ^ 1]) + value[1:]]
        elif isinstance(value, Timestamp):
            others = [replace(value, seconds=value.seconds + 1), replace(value, nanos=value.nanos + 1)]
        else:
            others = [
                replace(value, hash=bytes(32)),
                replace(value, parts=value.parts + 1),
                replace(value, parts_hash=bytes(32)),
            ]
        seen |= {replace(header, **{field.name: other}).hash for other in others}
    assert len(seen) == 1 + 15 + 1 + 2


def test_a_header_of_another_version_of_blocks_is_refused():
    header = replace(comet_header(FOUR), block_version=BLOCK_PROTOCOL + 1)
    with pytest.raises(ProofError, match="is of version 12: it must be 11"):
        check_commit(CHAIN, certify(header, FOUR, signers=NAMES))


# Powers and sizes


def test_powers_whose_sum_is_beyond_cometbft_s_limit_are_refused():
    with pytest.raises(Malformed, match="a validator's power must be from 1"):
        Validator(FOUR[0].public, MAX_POWER + 1)
    with pytest.raises(Malformed, match="a validator's power must be from 1"):
        Validator(FOUR[0].public, 0)
    over = committee({"ann": MAX_POWER, "bob": 1})
    most = committee({"ann": MAX_POWER - 1, "bob": 1})
    assert check_commit(CHAIN, certify(comet_header(most), most, signers=["ann"])) == {key("ann").public}
    for validators, following in ((over, ()), (most, over)):
        header = comet_header(validators, following)
        with pytest.raises(ProofError, match=f"the power {MAX_POWER + 1}: at most {MAX_POWER}"):
            check_commit(CHAIN, certify(header, validators, following, signers=["ann", "bob"]))


def test_sets_have_at_most_200_validators_and_a_certificate_of_such_has_room():
    def many(count, last):
        return tuple(
            sorted(
                (Validator(hashed(f"{at}"), MAX_POWER // 200 - at % last) for at in range(count)),
                key=lambda v: -v.power,
            )
        )

    validators, following = many(MAX_VALIDATORS, 7), many(MAX_VALIDATORS, 5)
    certificate = certify(comet_header(validators, following), validators, following)
    votes = tuple(
        replace(NO_VOTE, flag=NIL, address=one.address, signature=bytes(64), timestamp=Timestamp(2**33, 2**29))
        for one in validators
    )
    certificate = replace(certificate, commit=replace(certificate.commit, signatures=votes))
    assert decode_certificate(encode_certificate(certificate)) == certificate
    with pytest.raises(Malformed, match="the validators are 201: at most 200"):
        replace(certificate, validators=many(MAX_VALIDATORS + 1, 7))
    with pytest.raises(Malformed, match="the votes of a commit are 201"):
        replace(certificate.commit, signatures=(*votes, NO_VOTE))


# One encoding


def verdict(data):
    """Return what a certificate's bytes convince of, or None."""
    try:
        found = decode_certificate(data)
        check_commit(CHAIN, found)
    except (Malformed, ProofError):
        return None
    return found.header, found.following


def test_no_change_of_a_byte_makes_a_certificate_say_anything_else():
    other = committee(dict.fromkeys(NAMES, 3))
    certificate = certify(comet_header(FOUR, other), FOUR, other, signers=NAMES[:3], nil=NAMES[3:])
    data = encode_certificate(certificate)
    due = verdict(data)
    assert due is not None
    accepted = 0
    for at in cells(range(0, len(data), 3), range(len(data))):
        for flip in cells((1, 0x80), (1, 2, 4, 8, 16, 32, 64, 128, 255)):
            found = verdict(data[:at] + bytes([data[at] ^ flip]) + data[at + 1 :])
            assert found in (None, due)
            accepted += found is not None
    # Only what counts for nothing can be changed: when the vote for none was given, and how it is signed.
    assert 0 < accepted < len(data)


@given(st.binary(max_size=200))
def test_bytes_that_are_no_certificate_are_malformed_and_nothing_else(data):
    with pytest.raises(Malformed):
        decode_certificate(data)


def test_a_certificate_is_cut_at_no_place_and_has_nothing_after_it():
    data = encode_certificate(sound())
    for end in range(len(data)):
        with pytest.raises(Malformed):
            decode_certificate(data[:end])
    with pytest.raises(Malformed):
        decode_certificate(data + b"\0")


def test_next_validators_that_are_the_same_are_left_out():
    values = codec.decode(encode_certificate(sound()))
    assert values[3] == []
    values[3] = values[2]
    with pytest.raises(Malformed, match="left out"):
        decode_certificate(codec.encode(values))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ((0, 3), 0),
        ((0, 3), 2**63),
        ((0, 3), "5"),
        ((0, 2), "x" * 51),
        ((0, 2), "é"),
        ((0, 4, 1), 10**9),
        ((0, 4, 1), -1),
        ((0, 4, 0), 253_402_300_800),
        ((0, 6), bytes(31)),
        ((0, 11), bytes(33)),
        ((0, 14), bytes(21)),
        ((1, 1), -1),
        ((1, 1), 2**31),
        ((1, 2, 1), 2**32),
        ((1, 3, 0, 0), 4),
        ((1, 3, 0, 0), 0),
        ((1, 3, 0, 0), ABSENT),
        ((1, 3, 0, 1), bytes(19)),
        ((1, 3, 0, 3), bytes(65)),
        ((1, 3, 0), [ABSENT, b"", [0, 0], b""]),
        ((2, 0, 0), bytes(33)),
        ((2, 0, 1), 0),
        ((2, 0, 1), True),
        ((2,), {}),
        ((3,), None),
    ],
)
def test_a_part_of_another_form_is_malformed(path, value):
    values = codec.decode(encode_certificate(sound()))
    inner = values
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    with pytest.raises(Malformed):
        decode_certificate(codec.encode(values))


# Answers


def paths(value, path=()):
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from paths(inner, (*path, name))
    elif isinstance(value, list):
        for at, inner in enumerate(value):
            yield from paths(inner, (*path, at))
    else:
        yield path


IGNORED = {"canonical", "proposer_priority", "address", "block_height", "count"}


@pytest.mark.parametrize("wrong", [None, "", "-", 7, 1.5, True, [], {}, "é", "1" * 30])
def test_answers_of_another_form_are_malformed(wrong):
    block = RECORDED[-1]
    text = json.dumps([block["commit"], block["validators"], block["next_validators"]])
    due = certificate_of(*json.loads(text))
    for path in paths(json.loads(text)):
        answers = inner = json.loads(text)
        for step in path[:-1]:
            inner = inner[step]
        inner[path[-1]] = wrong
        try:
            found = certificate_of(*answers)
        except Malformed:
            continue
        absent = path[-3:-1] == ("signatures", 2)
        assert found == due if path[-1] in IGNORED or absent else found != due


@pytest.mark.parametrize("wrong", [None, "", 7, [], {}, {"signed_header": None}, {"validators": [], "total": "1"}])
def test_what_is_no_answer_at_all_is_malformed(wrong):
    block = RECORDED[0]
    good = [block["commit"], block["validators"], block["next_validators"]]
    for at in range(3):
        with pytest.raises(Malformed):
            certificate_of(*good[:at], wrong, *good[at + 1 :])
