"""What a gate knows of the federation: nothing but what its core tells it, as a whole each time."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, get_args

from fedmeta.govern.errors import Malformed
from fedmeta.govern.wire.schema import MAX_COUNT, is_name
from fedmeta.node.wire.requests import Receiver

Role = Literal["seat", "member"]

WINDOW = 120
"""Heights around its own at which a gate takes requests."""

MAX_CARD = 1 << 16
"""The most bytes of a card."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A member as the ledger has it: the machine's public key, and the fingerprints of its TLS key, current and next.

    One without fingerprints shows no certificate: it sits behind a proxy that inspects TLS, and only its signature says
    who it is.
    """

    public: bytes
    fingerprints: tuple[bytes, ...] = ()
    role: Role = "member"

    def to_value(self) -> list[Any]:
        """Return the peer as a value for the codec."""
        return [self.public, list(self.fingerprints), self.role]

    @staticmethod
    def from_value(value: Any) -> "Peer":
        """Return the peer that `to_value` gave; raises `Malformed` for anything else."""
        if type(value) is not list or [type(item) for item in value] != [bytes, list, str]:
            raise Malformed("a peer must be a list of public key, fingerprints and role")
        public, fingerprints, role = value
        if len(public) != 32 or not all(type(one) is bytes and len(one) == 32 for one in fingerprints):
            raise Malformed("a public key and each fingerprint must be 32 bytes")
        if role not in get_args(Role):
            raise Malformed(f"the role of a peer must be one of {', '.join(get_args(Role))}, not {role!r}")
        return Peer(public, tuple(fingerprints), role)


@dataclass(frozen=True)
class Standing:
    """What a core tells its gate.

    `window` is how many heights a request's may lie before or after `height`. `expected` has the most bytes of each
    sealed update that may come, by round and member. `card` is what the core says of itself, signed by it.
    """

    genesis: bytes
    name: str
    height: int
    window: int
    peers: Mapping[str, Peer]
    expected: Mapping[tuple[int, str], int] = field(default_factory=dict)
    card: bytes = b""

    @cached_property
    def keys(self) -> Mapping[str, bytes]:
        """The machine's public key of each peer."""
        return {name: peer.public for name, peer in self.peers.items()}

    @cached_property
    def owners(self) -> Mapping[bytes, str]:
        """The peer of each fingerprint."""
        return {one: name for name, peer in self.peers.items() for one in peer.fingerprints}

    @property
    def receiver(self) -> Receiver:
        """What a request is held against."""
        return Receiver(self.genesis, self.name, self.height - self.window, self.height + self.window)

    def to_value(self) -> dict[str, Any]:
        """Return the standing as a value for the codec."""
        return {
            "genesis": self.genesis,
            "name": self.name,
            "height": self.height,
            "window": self.window,
            "peers": {name: peer.to_value() for name, peer in self.peers.items()},
            "expected": [[number, member, largest] for (number, member), largest in sorted(self.expected.items())],
            "card": self.card,
        }

    @staticmethod
    def from_value(value: Any) -> "Standing":
        """Return the standing that `to_value` gave; raises `Malformed` for anything else."""
        kinds = {"genesis": bytes, "name": str, "height": int, "window": int, "peers": dict, "expected": list}
        kinds["card"] = bytes
        if type(value) is not dict or {key: type(item) for key, item in value.items()} != kinds:
            raise Malformed(f"a standing must have {', '.join(kinds)}, each of its type")
        if len(value["genesis"]) != 32 or not is_name(value["name"]) or len(value["card"]) > MAX_CARD:
            raise Malformed(f"the genesis must be 32 bytes, the name a name, the card at most {MAX_CARD} bytes")
        if not 0 <= value["height"] <= MAX_COUNT or not 0 <= value["window"] <= MAX_COUNT:
            raise Malformed("height and window must be whole numbers from 0")
        if not all(map(is_name, value["peers"])):
            raise Malformed("peers must be known by names")
        peers = {name: Peer.from_value(peer) for name, peer in value["peers"].items()}
        return Standing(**{**value, "peers": peers, "expected": dict(map(_expected, value["expected"]))})


def _expected(value: Any) -> tuple[tuple[int, str], int]:
    if type(value) is not list or [type(item) for item in value] != [int, str, int]:
        raise Malformed("what is expected must be a list of round, member and the most bytes")
    number, member, largest = value
    if not 0 <= number <= MAX_COUNT or not is_name(member) or largest < 1:
        raise Malformed("what is expected must be a round from 0, a member's name, and at least 1 byte")
    return (number, member), largest
