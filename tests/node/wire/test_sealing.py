import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st

from fedmeta.govern.wire.signatures import tagged
from fedmeta.node.errors import SealError
from fedmeta.node.wire.chunks import CHUNK, Blob
from fedmeta.node.wire.sealing import TAG, SealKey, rewrap, seal, unseal

PLAIN = CHUNK - TAG
CONTEXT = tagged("offer", b"genesis", b"12", b"alice")
KEYS = {name: SealKey.from_seed(hashlib.sha256(name.encode()).digest()) for name in ("anna", "ben", "carl")}
PUBLICS = {name: key.public for name, key in KEYS.items()}


def some(length):
    return hashlib.shake_128(length.to_bytes(8, "big")).digest(length)


@pytest.fixture(scope="module")
def long():
    """Three chunks, of which the last has one byte."""
    data = some(2 * PLAIN + 1)
    return data, seal(data, PUBLICS, CONTEXT)


@given(st.sampled_from([0, 1, 1000, PLAIN - 1, PLAIN, PLAIN + 1, 2 * PLAIN, 2 * PLAIN + 7]))
def test_what_was_sealed_opens_by_each_key_and_grows_by_a_tag_for_each_chunk(length):
    data = some(length)
    sealed = seal(data, PUBLICS, CONTEXT)
    chunks = max(1, -(-length // PLAIN))
    assert len(sealed.ciphertext) == length + TAG * chunks
    assert Blob.of(sealed.ciphertext).chunks == chunks
    for name, key in KEYS.items():
        assert unseal(sealed.ciphertext, sealed.wraps[name], key, CONTEXT) == data


def test_another_implementation_of_the_page_opens_it(long):
    data, sealed = long
    wrap, key = sealed.wraps["ben"], X25519PrivateKey.from_private_bytes(KEYS["ben"].seed)
    secret = key.exchange(X25519PublicKey.from_public_bytes(wrap[:32]))
    info = tagged("wrap", wrap[:32], PUBLICS["ben"], CONTEXT)
    wrapping = HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(secret)
    cipher = ChaCha20Poly1305(ChaCha20Poly1305(wrapping).decrypt(bytes(12), wrap[32:], CONTEXT))
    nonces = [bytes(12), bytes(10) + b"\1\0", bytes(10) + b"\2\1"]
    opened = [
        cipher.decrypt(nonce, sealed.ciphertext[at * CHUNK : (at + 1) * CHUNK], CONTEXT)
        for at, nonce in enumerate(nonces)
    ]
    assert b"".join(opened) == data


def test_two_seals_of_the_same_bytes_share_nothing():
    one, two = (seal(some(100), PUBLICS, CONTEXT) for _ in range(2))
    assert one.ciphertext != two.ciphertext
    assert len({wrap[:32] for sealed in (one, two) for wrap in sealed.wraps.values()}) == 6


@given(st.data())
def test_a_changed_bit_anywhere_is_found(long, draw):
    _, sealed = long
    changed = bytearray(sealed.ciphertext)
    changed[draw.draw(st.integers(0, len(changed) - 1))] ^= 1 << draw.draw(st.integers(0, 7))
    with pytest.raises(SealError, match="does not open"):
        unseal(bytes(changed), sealed.wraps["ben"], KEYS["ben"], CONTEXT)


@given(st.data())
def test_a_changed_wrap_is_found(long, draw):
    _, sealed = long
    changed = bytearray(sealed.wraps["ben"])
    at, bit = draw.draw(st.integers(0, len(changed) - 1)), draw.draw(st.integers(0, 7))
    changed[at] ^= 1 << bit
    with pytest.raises(SealError):
        unseal(sealed.ciphertext, bytes(changed), KEYS["ben"], CONTEXT)


@pytest.mark.parametrize(
    "arrange",
    [
        lambda a, b, c: a + b,
        lambda a, b, c: a,
        lambda a, b, c: b"",
        lambda a, b, c: a + b + c[:-1],
        lambda a, b, c: a + b + c + c,
        lambda a, b, c: a + b + c + b"\0",
        lambda a, b, c: b + a + c,
        lambda a, b, c: a + a + c,
        lambda a, b, c: b + c,
        lambda a, b, c: a + c,
        lambda a, b, c: c,
    ],
)
def test_chunks_that_are_missing_moved_or_added_are_found(long, arrange):
    _, sealed = long
    text = sealed.ciphertext
    with pytest.raises(SealError, match="does not open"):
        unseal(
            arrange(text[:CHUNK], text[CHUNK : 2 * CHUNK], text[2 * CHUNK :]),
            sealed.wraps["anna"],
            KEYS["anna"],
            CONTEXT,
        )


def test_a_chunk_of_another_blob_for_the_same_round_is_found(long):
    data, sealed = long
    other = seal(data, PUBLICS, CONTEXT)
    mixed = other.ciphertext[:CHUNK] + sealed.ciphertext[CHUNK:]
    with pytest.raises(SealError, match="chunk 0 of 3"):
        unseal(mixed, sealed.wraps["anna"], KEYS["anna"], CONTEXT)
    with pytest.raises(SealError, match="chunk 0 of 3"):
        unseal(sealed.ciphertext, other.wraps["anna"], KEYS["anna"], CONTEXT)


def test_another_key_or_another_context_opens_nothing():
    sealed = seal(some(10), PUBLICS, CONTEXT)
    with pytest.raises(SealError, match="wrapped key does not open"):
        unseal(sealed.ciphertext, sealed.wraps["anna"], KEYS["ben"], CONTEXT)
    for context in (b"", CONTEXT + b"\0", tagged("offer", b"genesis", b"13", b"alice")):
        with pytest.raises(SealError, match="wrapped key does not open"):
            unseal(sealed.ciphertext, sealed.wraps["anna"], KEYS["anna"], context)


def test_the_chunks_are_bound_to_the_context_and_not_only_the_key():
    # A seat that knows the content key cannot pass the ciphertext off as that of another round.
    sealed = seal(some(10), PUBLICS, CONTEXT)
    again = tagged("offer", b"genesis", b"13", b"alice")
    key = SealKey.generate()
    wrap = sealed.wraps["anna"]
    secret = KEYS["anna"].agree(wrap[:32])
    content = ChaCha20Poly1305(
        HKDF(algorithm=SHA256(), length=32, salt=None, info=tagged("wrap", wrap[:32], PUBLICS["anna"], CONTEXT)).derive(
            secret
        )
    ).decrypt(bytes(12), wrap[32:], CONTEXT)
    once = SealKey.generate()
    info = tagged("wrap", once.public, key.public, again)
    wrapping = HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(once.agree(key.public))
    forged = once.public + ChaCha20Poly1305(wrapping).encrypt(bytes(12), content, again)
    with pytest.raises(SealError, match="chunk 0 of 1"):
        unseal(sealed.ciphertext, forged, key, again)


def test_a_holder_wraps_the_key_for_seats_that_came_later():
    data = some(PLAIN + 5)
    sealed = seal(data, {"anna": PUBLICS["anna"]}, CONTEXT)
    wraps = rewrap(sealed.wraps["anna"], KEYS["anna"], {"ben": PUBLICS["ben"], "carl": PUBLICS["carl"]}, CONTEXT)
    assert set(wraps) == {"ben", "carl"}
    for name, wrap in wraps.items():
        assert unseal(sealed.ciphertext, wrap, KEYS[name], CONTEXT) == data
    with pytest.raises(SealError, match="wrapped key does not open"):
        rewrap(sealed.wraps["anna"], KEYS["ben"], PUBLICS, CONTEXT)


# The points of order 1, 2, 4 and 8 of the curve, of which every one shares zeros with every key.
SMALL = [
    bytes(32),
    b"\1" + bytes(31),
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
    (2**255 - 20).to_bytes(32, "little"),
]


@pytest.mark.parametrize("public", SMALL)
def test_a_public_key_that_shares_no_secret_is_refused(public):
    with pytest.raises(SealError, match="small order"):
        seal(b"data", {"anna": public}, CONTEXT)
    sealed = seal(b"data", PUBLICS, CONTEXT)
    with pytest.raises(SealError, match="small order"):
        unseal(sealed.ciphertext, public + sealed.wraps["anna"][32:], KEYS["anna"], CONTEXT)


def test_keys_and_wraps_of_wrong_lengths_are_refused():
    with pytest.raises(SealError, match="must be 32 bytes, not 31"):
        SealKey.from_seed(bytes(31))
    with pytest.raises(SealError, match="must be 32 bytes, not 33"):
        seal(b"", {"anna": bytes(33)}, CONTEXT)
    for wrap in (b"", bytes(79), bytes(81)):
        with pytest.raises(SealError, match=f"must be 80 bytes, not {len(wrap)}"):
            unseal(bytes(16), wrap, KEYS["anna"], CONTEXT)


def test_a_key_is_its_seed_and_shows_its_public_half_only():
    key = SealKey.generate()
    assert SealKey.from_seed(key.seed).public == key.public
    assert repr(key) == f"SealKey(public={key.public.hex()})"
    assert key.seed.hex() not in repr(key)
