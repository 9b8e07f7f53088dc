"""Blobs sealed to seats: a proxy on the way, and a gate that keeps them, learn their length and change nothing.

The bytes are encrypted once, under a random content key, and that key is wrapped for each seat:

- **Chunks.** ChaCha20-Poly1305 (RFC 8439) over plain chunks of 1 MiB - 16, so that a sealed chunk with its tag is a
  chunk of a `Blob`. The nonce is the chunk's number in 11 bytes, most significant first, and 1 for the last chunk or 0:
  the STREAM construction of Hoang, Reyhanitabar, Rogaway and Vizár (CRYPTO 2015, section 7), by which chunks that are
  missing, moved or added are found. A content key is used once, so nonces do not repeat.
- **Wraps.** The content key, encrypted under HKDF-SHA256 (RFC 5869) of the secret that a new X25519 key (RFC 7748)
  shares with the seat's, with both public keys and the context in `info`. A wrap is the new public key, then the
  ciphertext with its tag: 80 bytes.

The context (genesis, round, member) is the associated data of both, so that what was sealed for one round opens in no
other. Sealing does not say who sealed: an offer's signature does. Nor does it commit to a key: a blob can be made that
opens differently under two content keys, so what opens must still be compared with the commitment on the ledger.
"""

import os
from collections.abc import Mapping
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from fedmeta.govern.wire.signatures import tagged
from fedmeta.node.errors import SealError
from fedmeta.node.wire.chunks import CHUNK

TAG = 16
"""Bytes that every chunk grows by."""

WRAP = 80
"""Bytes of a wrapped content key."""

_KEY = 32
_PLAIN = CHUNK - TAG
_ONLY = bytes(12)


class Sealed(NamedTuple):
    """A blob's ciphertext, and its content key wrapped for each seat, by the seat's name."""

    ciphertext: bytes
    wraps: dict[str, bytes]


class SealKey:
    """A private key that opens what was sealed to it. Its representation shows the public key only."""

    __slots__ = ("_private", "public")

    def __init__(self, private: X25519PrivateKey):
        self._private = private
        self.public = private.public_key().public_bytes_raw()
        """The public key, 32 bytes."""

    @staticmethod
    def generate() -> "SealKey":
        """Return a new key from the system's randomness."""
        return SealKey(X25519PrivateKey.generate())

    @staticmethod
    def from_seed(seed: bytes) -> "SealKey":
        """Return the key of a seed of 32 bytes; raises `SealError` for another length."""
        if len(seed) != _KEY:
            raise SealError(f"the seed of a sealing key must be {_KEY} bytes, not {len(seed)}")
        return SealKey(X25519PrivateKey.from_private_bytes(seed))

    @property
    def seed(self) -> bytes:
        """The secret, 32 bytes."""
        return self._private.private_bytes_raw()

    def agree(self, public: bytes) -> bytes:
        """Return the secret shared with a public key, 32 bytes; raises `SealError` for a key that shares none."""
        return _agree(self._private, public)

    def __repr__(self) -> str:
        return f"SealKey(public={self.public.hex()})"


def seal(data: bytes, publics: Mapping[str, bytes], context: bytes) -> Sealed:
    """Return the data sealed to these public keys, 32 bytes each, by name.

    Args:
        data: Any number of bytes.
        publics: Who can open it.
        context: What it is for, without which it does not open: a digest by `tagged`.

    Raises:
        SealError: a public key is not 32 bytes, or is of small order.
    """
    content = os.urandom(_KEY)
    cipher = ChaCha20Poly1305(content)
    view = memoryview(data)
    last = _last(len(data), _PLAIN)
    sealed = (
        cipher.encrypt(_nonce(number, last), view[number * _PLAIN : (number + 1) * _PLAIN], context)
        for number in range(last + 1)
    )
    return Sealed(b"".join(sealed), _wraps(content, publics, context))


def unseal(ciphertext: bytes, wrap: bytes, key: SealKey, context: bytes) -> bytes:
    """Return the data; raises `SealError` unless key, context and every byte are as they were when it was sealed."""
    cipher = ChaCha20Poly1305(_unwrap(wrap, key, context))
    view = memoryview(ciphertext)
    last = _last(len(ciphertext), CHUNK)
    data = bytearray()
    for number in range(last + 1):
        try:
            data += cipher.decrypt(_nonce(number, last), view[number * CHUNK : (number + 1) * CHUNK], context)
        except InvalidTag as error:
            raise SealError(
                f"chunk {number} of {last + 1} does not open: it was changed, moved or sealed for another context, "
                "or chunks are missing"
            ) from error
    return bytes(data)


def rewrap(wrap: bytes, key: SealKey, publics: Mapping[str, bytes], context: bytes) -> dict[str, bytes]:
    """Return the key in a wrap for `key` wrapped for other seats, by name; raises as `seal` and `unseal`."""
    return _wraps(_unwrap(wrap, key, context), publics, context)


def _last(length: int, chunk: int) -> int:
    return max(0, -(-length // chunk) - 1)


def _nonce(number: int, last: int) -> bytes:
    return number.to_bytes(11, "big") + bytes([number == last])


def _wraps(content: bytes, publics: Mapping[str, bytes], context: bytes) -> dict[str, bytes]:
    return {name: _wrap(content, public, context) for name, public in publics.items()}


def _wrap(content: bytes, public: bytes, context: bytes) -> bytes:
    once = SealKey.generate()
    cipher = _wrapping(once.agree(public), once.public, public, context)
    return once.public + cipher.encrypt(_ONLY, content, context)


def _unwrap(wrap: bytes, key: SealKey, context: bytes) -> bytes:
    if len(wrap) != WRAP:
        raise SealError(f"a wrapped key must be {WRAP} bytes, not {len(wrap)}")
    once, sealed = wrap[:_KEY], wrap[_KEY:]
    try:
        return _wrapping(key.agree(once), once, key.public, context).decrypt(_ONLY, sealed, context)
    except InvalidTag as error:
        raise SealError(
            f"the wrapped key does not open by the key {key.public.hex()}: it is for another one or another context, "
            "or was changed"
        ) from error


def _wrapping(secret: bytes, once: bytes, public: bytes, context: bytes) -> ChaCha20Poly1305:
    info = tagged("wrap", once, public, context)
    # The key is used for one message only, so its nonce may be fixed.
    return ChaCha20Poly1305(HKDF(algorithm=SHA256(), length=_KEY, salt=None, info=info).derive(secret))


def _agree(private: X25519PrivateKey, public: bytes) -> bytes:
    if len(public) != _KEY:
        raise SealError(f"a public sealing key must be {_KEY} bytes, not {len(public)}")
    try:
        return private.exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError as error:
        raise SealError(f"the public sealing key {public.hex()} is of small order: anyone could open by it") from error
