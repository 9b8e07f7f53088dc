"""A card: what a node's core says of itself at its gate, signed by its machine key: to which key blobs are sealed."""

from dataclasses import dataclass, replace

from fedmeta.govern.errors import Malformed
from fedmeta.govern.wire import codec
from fedmeta.govern.wire.schema import is_name
from fedmeta.govern.wire.signatures import Key, tagged, verify
from fedmeta.node.errors import RequestRefused

VERSION = 1
"""The version of what nodes say to one another; one that differs is refused, and said."""


@dataclass(frozen=True, slots=True)
class Card:
    """The X25519 public key of `member`, 32 bytes, on the ledger of this genesis."""

    genesis: bytes
    member: str
    public: bytes
    version: int = VERSION
    signature: bytes = b""

    def digest(self) -> bytes:
        """Return what the signature is over, 32 bytes."""
        return tagged("node-card", codec.encode(self._values()))

    def signed(self, key: Key) -> "Card":
        """Return the card with the key's signature."""
        return replace(self, signature=key.sign(self.digest()))

    def to_bytes(self) -> bytes:
        """Return the canonical bytes."""
        return codec.encode([*self._values(), self.signature])

    def _values(self) -> list[object]:
        return [self.genesis, self.member, self.public, self.version]

    @staticmethod
    def read(data: bytes, genesis: bytes, member: str, key: bytes) -> "Card":
        """Return the card of a member that signs by this key; raises `RequestRefused`, "bad-card", for any other."""
        try:
            value = codec.decode(data)
            if type(value) is not list or [type(one) for one in value] != [bytes, str, bytes, int, bytes]:
                raise Malformed("a card holds genesis, member, public key, version and signature")
            card = Card(*value)
            if not is_name(card.member) or len(card.public) != 32:
                raise Malformed("a card's member must be a name and its public key 32 bytes")
        except Malformed as error:
            raise RequestRefused("bad-card", f"the card of {member!r} is none: {error}") from error
        if (card.genesis, card.member) != (genesis, member):
            raise RequestRefused("bad-card", f"the card of {member!r} is of {card.member!r}, or of another ledger")
        if card.version != VERSION:
            raise RequestRefused(
                "bad-card", f"{member!r} speaks version {card.version}: this node speaks version {VERSION}"
            )
        if not verify(key, card.digest(), card.signature):
            raise RequestRefused("bad-card", f"the card of {member!r} is not signed by its machine's key")
        return card
