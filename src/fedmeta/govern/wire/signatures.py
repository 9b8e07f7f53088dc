"""Hashes and signatures: SHA-256, and Ed25519 (RFC 8032) by one library under one set of rules.

A signature (R, S) by a key A over a message M, with k = SHA-512(R, A, M) of the bytes as they came, is valid where

1. A is canonical (y below 2^255 - 19, and no sign bit where x is 0), is a point, and is not of small order (1 to 8);
2. S is below L, the prime order of the base point B;
3. R is the canonical encoding of the point [S]B - [k]A: the equation without the cofactor, compared as bytes.

So a signature has one form only, a key belongs to someone, and every node decides alike:

| case                                                    | verdict                                               |
|---------------------------------------------------------|-------------------------------------------------------|
| S + L in the place of S                                 | refused, by 2                                         |
| A of small order, canonical or not                      | refused, by 1                                         |
| A not canonical, or no point of the curve               | refused, by 1                                         |
| A of mixed order (with a part of small order)           | valid if the equation without the cofactor holds      |
| an equation that holds only when multiplied by 8        | refused, by 3                                         |
| R not canonical                                         | refused, by 3                                         |
| R of small order, canonical                             | valid if the equation holds: only A's owner can do so |
"""

from functools import lru_cache
from hashlib import sha256

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from fedmeta.govern.errors import BadSignature

_P = 2**255 - 19
_L = 2**252 + 27742317777372353535851937790883648493
_D = -121665 * pow(121666, -1, _P) % _P

# The y of the points of order 8: d*y^4 + 2*y^2 = 1, which is where x^2 = -y^2 on the curve, so that twice it has y = 0.
_Y8 = 2707385501144840649318225287225658788936804267575313519463743609750303402022
_SMALL_ORDER_Y = frozenset({0, 1, _P - 1, _Y8, _P - _Y8})


class Key:
    """A private key: it signs. Its representation shows the public key only."""

    __slots__ = ("_private", "public")

    def __init__(self, private: Ed25519PrivateKey):
        self._private = private
        self.public = private.public_key().public_bytes_raw()
        """The public key, 32 bytes."""

    @staticmethod
    def generate() -> "Key":
        """Return a new key from the system's randomness."""
        return Key(Ed25519PrivateKey.generate())

    @staticmethod
    def from_seed(seed: bytes) -> "Key":
        """Return the key of a seed of 32 bytes; raises `BadSignature` for another length."""
        if len(seed) != 32:
            raise BadSignature(f"the seed of a key must be 32 bytes, not {len(seed)}")
        return Key(Ed25519PrivateKey.from_private_bytes(seed))

    @property
    def seed(self) -> bytes:
        """The secret, 32 bytes."""
        return self._private.private_bytes_raw()

    def sign(self, message: bytes) -> bytes:
        """Return the signature over a message, 64 bytes."""
        return self._private.sign(message)

    def __repr__(self) -> str:
        return f"Key(public={self.public.hex()})"


def check_public_key(public: bytes) -> None:
    """Raise `BadSignature` unless the bytes are a public key that rule 1 allows."""
    fault = _load(bytes(public))[0]
    if fault:
        raise BadSignature(fault)


def verify(public: bytes, message: bytes, signature: bytes) -> bool:
    """Return whether the signature over the message is valid under the rules above; bad bytes are never an error."""
    if len(signature) != 64 or int.from_bytes(signature[32:], "little") >= _L:
        return False
    if int.from_bytes(signature[:32], "little") & (2**255 - 1) >= _P:
        return False
    key = _load(public)[1]
    if key is None:
        return False
    try:
        key.verify(signature, message)
    except InvalidSignature:
        return False
    return True


def digest(data: bytes) -> bytes:
    """Return the SHA-256 of the data, 32 bytes."""
    return sha256(data).digest()


def tagged(domain: str, *parts: bytes) -> bytes:
    """Return a digest of the parts, 32 bytes, that no other domain and no other parts share.

    It is the SHA-256 of the domain's UTF-8 and the parts, each after its length in 8 bytes, most significant first.
    """
    state = sha256()
    for piece in (domain.encode(), *parts):
        state.update(len(piece).to_bytes(8, "big"))
        state.update(piece)
    return state.digest()


@lru_cache(maxsize=1 << 16)
def _load(public: bytes) -> tuple[str, Ed25519PublicKey | None]:
    """Return why a public key is refused, or the empty string and the library's key."""
    fault = _fault(public)
    return fault, None if fault else Ed25519PublicKey.from_public_bytes(public)


def _fault(public: bytes) -> str:
    if len(public) != 32:
        return f"a public key must be 32 bytes, not {len(public)}"
    y = int.from_bytes(public, "little") & (2**255 - 1)
    if y >= _P:
        return f"the public key {public.hex()} is not canonical: y is not below 2^255 - 19"
    if y in _SMALL_ORDER_Y:
        return f"the public key {public.hex()} is of small order: anyone could sign by it"
    # x^2 = u/v; u*v is a square exactly where u/v is, by Euler's criterion (y = 1 and y = -1 are gone, so u is not 0).
    u, v = y * y - 1, _D * y * y + 1
    if pow(u * v, (_P - 1) // 2, _P) != 1:
        return f"the public key {public.hex()} is not a point of the curve"
    return ""
