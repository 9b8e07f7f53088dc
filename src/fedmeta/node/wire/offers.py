"""An offer: what a contributor says of its sealed update, signed, so that anyone can pass it on."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from fedmeta.govern.errors import Malformed
from fedmeta.govern.wire import codec
from fedmeta.govern.wire.schema import MAX_COUNT, is_name
from fedmeta.govern.wire.signatures import Key, tagged, verify
from fedmeta.node.errors import BadChunk, RequestRefused
from fedmeta.node.wire.chunks import Blob, check_leaves

MAX_OFFER = 1 << 19
"""The most bytes of an offer."""

MAX_WRAP = 1 << 10
"""The most bytes of the wrap for one seat."""


@dataclass(frozen=True, slots=True)
class Offer:
    """The sealed update of `member` for `round`: the ciphertext's blob and leaves, and a wrap for each seat.

    `leaves` are the hashes of the ciphertext's chunks, 32 bytes each; `wraps` are by the seat's name, what `seal` gave.
    The signature is by the member's machine key.
    """

    genesis: bytes
    round: int
    member: str
    blob: Blob
    leaves: bytes
    wraps: Mapping[str, bytes]
    signature: bytes = b""

    def digest(self) -> bytes:
        """Return what the signature is over, 32 bytes."""
        return tagged("node-offer", codec.encode(self._value()))

    def signed(self, key: Key) -> "Offer":
        """Return the offer with the key's signature."""
        return replace(self, signature=key.sign(self.digest()))

    def to_bytes(self) -> bytes:
        """Return the canonical bytes, as they are sent and kept."""
        return codec.encode([*self._value(), self.signature])

    def check(self, public: bytes) -> None:
        """Raise `RequestRefused`, "bad-offer", unless this machine key signed it."""
        if not verify(public, self.digest(), self.signature):
            raise RequestRefused("bad-offer", f"{self.member!r} did not sign this offer for round {self.round}")

    @staticmethod
    def from_bytes(data: bytes) -> "Offer":
        """Return the offer of these bytes, its signature unchecked.

        Raises:
            RequestRefused: "bad-offer" where they are none, or where the leaves are not the blob's.
        """
        try:
            offer = _offer(codec.decode(data, limit=MAX_OFFER))
            check_leaves(offer.blob, offer.leaves)
        except (Malformed, BadChunk) as error:
            raise RequestRefused("bad-offer", f"{len(data)} bytes are no offer: {error}") from error
        return offer

    def _value(self) -> list[Any]:
        return [self.genesis, self.round, self.member, self.blob.to_value(), self.leaves, dict(self.wraps)]


def _offer(value: Any) -> Offer:
    if type(value) is not list or [type(item) for item in value] != [bytes, int, str, list, bytes, dict, bytes]:
        raise Malformed("an offer holds genesis, round, member, blob, leaves, wraps and signature")
    genesis, number, member, blob, leaves, wraps, signature = value
    if len(genesis) != 32 or not 0 <= number <= MAX_COUNT or not is_name(member) or len(signature) != 64:
        raise Malformed("the genesis must be 32 bytes, the round a count, the member a name, the signature 64 bytes")
    check_wraps(wraps)
    return Offer(genesis, number, member, Blob.from_value(blob), leaves, wraps, signature)


def check_wraps(wraps: Any) -> None:
    """Raise `Malformed` unless these are wraps by the names of seats."""
    if type(wraps) is not dict or not all(
        is_name(seat) and type(wrap) is bytes and len(wrap) <= MAX_WRAP for seat, wrap in wraps.items()
    ):
        raise Malformed(f"wraps must be bytes, at most {MAX_WRAP}, by the names of seats")
