"""One set of rules for signatures: the published vectors, and every odd input with its verdict.

The verdicts, ours beside what the two equations in use say of the points that the bytes mean, whatever their form:

| case                                                | times 8 | plain  | ours    | by rule |
|-----------------------------------------------------|---------|--------|---------|---------|
| a common signature                                  | holds   | holds  | valid   |         |
| S + L in the place of S                             | holds   | holds  | refused | 2       |
| A of small order, canonical or not                  | holds   | holds  | refused | 1       |
| A of mixed order, [k]T vanishes                     | holds   | holds  | valid   |         |
| A of mixed order, [k]T is left over                 | holds   | fails  | refused | 3       |
| R of mixed order under a common A                   | holds   | fails  | refused | 3       |
| R of small order but not 0, under a common A        | holds   | fails  | refused | 3       |
| R = 0, canonical, signed by A's owner               | holds   | holds  | valid   |         |
| R = 0 in another encoding, signed by A's owner      | holds   | holds  | refused | 3       |
| A not canonical or no point                         |         |        | refused | 1       |
"""

import json
from hashlib import sha256
from itertools import count
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmeta.govern.errors import BadSignature
from fedmeta.govern.wire import signatures
from fedmeta.govern.wire.signatures import Key, check_public_key, digest, tagged, verify
from tests.oracles import ed25519 as oracle
from tests.oracles.ed25519 import BASE, IDENTITY, L, P

VECTORS = {
    source: [
        {name: text if name == "name" else bytes.fromhex(text) for name, text in vector.items()} for vector in vectors
    ]
    for source, vectors in json.loads(Path(__file__).with_name("ed25519_vectors.json").read_text()).items()
}
RFC_8032 = VECTORS["rfc 8032, section 7.1"]

# Vectors of "Taming the many EdDSAs" (Chalkias, Garillot, Nikolaenko, 2020), section 5, in an earlier, longer list.
# For each: whether the equation times 8 holds, whether the plain one does, what the project published of OpenSSL 3 and
# PyCA, and what our rules say: as these, but that a key of small order is refused.
SPECCHECK = [
    ("A and R small, S = 0", True, False, False, False),
    ("A and R small, S = 0, [k]A = -R", True, True, True, False),
    ("A small, R mixed", True, False, False, False),
    ("A small, R mixed, parts cancel", True, True, True, False),
    ("A mixed, R small", True, False, False, False),
    ("A mixed, R small, parts cancel", True, True, True, True),
    ("A and R mixed, parts cancel", True, True, True, True),
    ("A and R mixed", True, False, False, False),
    ("A and R mixed, holds only if 8k is not reduced", True, False, False, False),
    ("S above L", True, True, False, False),
    ("S far above L", True, True, False, False),
    ("R not canonical, k of R in canonical form", False, False, False, False),
    ("R not canonical, k of R as it came", True, True, False, False),
    ("A not canonical, k of A in canonical form", True, False, False, False),
    ("A not canonical, k of A as it came", True, True, True, False),
]

SEED = bytes(range(32))
SCALAR = oracle.secret(SEED)[0]
TORSION = oracle.torsion()
ODD = TORSION[1]


def number(value):
    return (value % L).to_bytes(32, "little")


def not_canonical_encodings():
    """Every 32 bytes whose y is not reduced, or whose sign is set where x is 0, and that mean a point."""
    for y in range(P, 2**255):
        for sign in (0, 1):
            data = (y + (sign << 255)).to_bytes(32, "little")
            if oracle.decode(data) is not None:
                yield data
    for y in (1, P - 1):
        yield (y + (1 << 255)).to_bytes(32, "little")


def signed(key, point, scalar, wanted):
    """Return a message and a signature with this R, of the scalar behind the key, at the first k that is wanted."""
    nonce, form = point
    for at in count():
        message = b"message %d" % at
        k = oracle.challenge(form, key, message)
        if wanted(k):
            return message, form + number(nonce + k * scalar)
    raise AssertionError


def verdicts(key, message, signature):
    """Return whether the equation times 8 holds, whether the plain one does, and what we say."""
    return (
        oracle.holds(key, message, signature, 8),
        oracle.holds(key, message, signature, 1),
        verify(key, message, signature),
    )


def plain_point(nonce):
    return nonce, oracle.encode(oracle.times(nonce, BASE))


KEY = oracle.public(SEED)
MIXED = oracle.encode(oracle.add(oracle.times(SCALAR, BASE), ODD))


@pytest.mark.parametrize("vector", RFC_8032, ids=lambda vector: vector["name"])
def test_the_vectors_of_rfc_8032_come_out(vector):
    key = Key.from_seed(vector["seed"])
    assert key.public == vector["public"]
    assert key.sign(vector["message"]) == vector["signature"]
    check_public_key(vector["public"])
    assert verify(vector["public"], vector["message"], vector["signature"])
    assert not verify(vector["public"], vector["message"] + b"\0", vector["signature"])
    for at in range(0, 64, 7):
        damaged = bytearray(vector["signature"])
        damaged[at] ^= 1
        assert not verify(vector["public"], vector["message"], bytes(damaged))


@pytest.mark.parametrize(("vector", "row"), list(zip(VECTORS["ed25519-speccheck"], SPECCHECK, strict=True)))
def test_the_vectors_of_taming_the_many_eddsas_have_their_stated_verdicts(vector, row):
    _, times_8, plain, published, ours = row
    key, message, signature = vector["public"], vector["message"], vector["signature"]
    assert verdicts(key, message, signature) == (times_8, plain, ours)
    small = oracle.decode(key) in TORSION
    assert ours == (published and not small)


@given(st.binary(min_size=32, max_size=32), st.binary(max_size=50))
@settings(max_examples=10)
def test_keys_and_signatures_are_those_of_an_independent_implementation(seed, message):
    key = Key.from_seed(seed)
    assert key.seed == seed
    assert key.public == oracle.public(seed)
    assert key.sign(message) == oracle.sign(seed, message)
    assert verdicts(key.public, message, key.sign(message)) == (True, True, True)


@pytest.mark.parametrize("multiple", [1, 2, 15])
def test_s_has_one_form(multiple):
    message = b"pay 3"
    signature = Key.from_seed(SEED).sign(message)
    s = int.from_bytes(signature[32:], "little") + multiple * L
    shifted = signature[:32] + s.to_bytes(32, "little")
    assert verdicts(KEY, message, signature) == (True, True, True)
    assert verdicts(KEY, message, shifted) == (True, True, False)


@pytest.mark.parametrize("point", TORSION, ids=lambda point: f"y={point[1] % 1000}")
def test_a_key_of_small_order_signs_nothing(point):
    key = oracle.encode(point)
    message, signature = signed(key, plain_point(7), 0, lambda k: oracle.times(k, point) == IDENTITY)
    assert verdicts(key, message, signature) == (True, True, False)
    with pytest.raises(BadSignature, match="small order"):
        check_public_key(key)


@pytest.mark.parametrize("key", list(not_canonical_encodings()), ids=lambda key: key.hex()[:4] + key.hex()[-2:])
def test_a_key_that_is_not_canonical_is_refused(key):
    point = oracle.decode(key)
    assert oracle.encode(point) != key
    with pytest.raises(BadSignature, match=r"not canonical|small order"):
        check_public_key(key)
    if point in TORSION:
        message, signature = signed(key, plain_point(7), 0, lambda k: oracle.times(k, point) == IDENTITY)
        assert verdicts(key, message, signature) == (True, True, False)


def test_a_key_that_is_no_point_is_refused():
    none = [y for y in range(2, 60) if oracle.recover_x(y, 0) is None]
    assert len(none) > 10
    for y in none:
        key = y.to_bytes(32, "little")
        with pytest.raises(BadSignature, match="not a point of the curve"):
            check_public_key(key)
        assert not verify(key, b"", bytes(64))


@given(st.binary(min_size=32, max_size=32))
@settings(max_examples=100)
def test_a_key_passes_exactly_if_it_is_the_canonical_form_of_a_point_that_is_not_small(data):
    point = oracle.decode(data)
    good = point is not None and oracle.encode(point) == data and point not in TORSION
    try:
        check_public_key(data)
    except BadSignature:
        assert not good
    else:
        assert good


def test_a_key_of_mixed_order_follows_the_plain_equation():
    check_public_key(MIXED)
    message, signature = signed(MIXED, plain_point(11), SCALAR, lambda k: k % 8 == 0)
    assert verdicts(MIXED, message, signature) == (True, True, True)
    for rest in range(1, 8):
        message, signature = signed(MIXED, plain_point(11), SCALAR, lambda k, rest=rest: k % 8 == rest)
        assert verdicts(MIXED, message, signature) == (True, False, False)


@pytest.mark.parametrize("part", range(1, 8))
def test_an_r_with_a_small_part_is_refused_under_a_common_key(part):
    small = TORSION[part]
    mixed = (11, oracle.encode(oracle.add(oracle.times(11, BASE), small)))
    assert verdicts(KEY, *signed(KEY, mixed, SCALAR, lambda k: True)) == (True, False, False)
    assert verdicts(KEY, *signed(KEY, (0, oracle.encode(small)), SCALAR, lambda k: True)) == (True, False, False)


def test_an_r_of_zero_is_the_owners_own_affair():
    assert verdicts(KEY, *signed(KEY, (0, oracle.encode(IDENTITY)), SCALAR, lambda k: True)) == (True, True, True)


@pytest.mark.parametrize("form", [data for data in not_canonical_encodings() if oracle.decode(data) == IDENTITY])
def test_an_r_that_is_not_canonical_is_refused(form):
    assert verdicts(KEY, *signed(KEY, (0, form), SCALAR, lambda k: True)) == (True, True, False)


@pytest.mark.parametrize("length", [0, 1, 31, 33, 64])
def test_a_key_of_another_length_is_refused(length):
    with pytest.raises(BadSignature, match=f"must be 32 bytes, not {length}"):
        check_public_key(bytes(length))
    assert not verify(bytes(length), b"", bytes(64))
    if length != 32:
        with pytest.raises(BadSignature, match=f"must be 32 bytes, not {length}"):
            Key.from_seed(bytes(length))


@given(st.binary(max_size=70), st.binary(max_size=5), st.binary(max_size=130))
def test_bad_bytes_are_never_an_error(key, message, signature):
    assert not verify(key, message, signature)
    assert not verify(KEY, message, signature)


@given(st.binary(min_size=64, max_size=64))
def test_random_signatures_are_refused(signature):
    assert not verify(KEY, b"message", signature)


def test_a_key_does_not_show_its_secret():
    key = Key.from_seed(SEED)
    shown = f"{key!r} {key} {key:}"
    assert SEED.hex() not in shown
    assert repr(SEED)[2:20] not in shown
    assert key.public.hex() in shown
    assert not hasattr(key, "__dict__")


def test_new_keys_differ():
    first, second = Key.generate(), Key.generate()
    assert first.seed != second.seed
    assert verify(first.public, b"a", first.sign(b"a"))
    assert not verify(second.public, b"a", first.sign(b"a"))


def test_the_constants_are_those_of_the_curve():
    assert frozenset(y for _, y in TORSION) == signatures._SMALL_ORDER_Y
    assert len({oracle.encode(point) for point in TORSION}) == 8
    assert (signatures._P, signatures._L, signatures._D) == (P, L, oracle.D)
    assert oracle.times(L, BASE) == IDENTITY


def test_a_tagged_digest_is_of_lengths_and_parts():
    whole = b"".join(len(piece).to_bytes(8, "big") + piece for piece in (b"vote", b"ab", b"", b"c"))
    assert tagged("vote", b"ab", b"", b"c") == sha256(whole).digest()
    assert digest(b"abc") == sha256(b"abc").digest()


def test_tagged_digests_are_shared_by_no_other_domain_or_split():
    inputs = [
        ("a",),
        ("a", b""),
        ("a", b"", b""),
        ("a", b"bc"),
        ("a", b"b", b"c"),
        ("ab", b"c"),
        ("abc",),
        ("", b"abc"),
    ]
    assert len({tagged(*pieces) for pieces in inputs}) == len(inputs)
