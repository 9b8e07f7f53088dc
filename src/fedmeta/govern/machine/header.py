"""What an engine signs: the header of a block, chained to the one before and in the end to the genesis."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fedmeta.govern.errors import Malformed, ProofError
from fedmeta.govern.wire import codec, merkle
from fedmeta.govern.wire.commits import MAX_CERTIFICATE, SMALLEST_CERTIFICATE
from fedmeta.govern.wire.event import Event, encode_event
from fedmeta.govern.wire.schema import MAX_COUNT
from fedmeta.govern.wire.signatures import Key, digest, verify

SIGNATURE = 64
"""The bytes of a sequencer's signature."""

_DOMAIN = b"fedmeta header\0"
_SHAPE = (bytes, int, int, bytes, bytes, bytes, bytes)


@dataclass(frozen=True, slots=True)
class Header:
    """A block in a few hashes; `time` is in milliseconds since 1970, the hashes have 32 bytes."""

    genesis: bytes
    """The digest of the genesis."""
    height: int
    time: int
    previous: bytes
    """The hash of the header before; at height 1 the digest of the genesis."""
    transactions_root: bytes
    """The RFC 6962 root over the block's transactions."""
    events_root: bytes
    """The RFC 6962 root over `event_leaves`."""
    app_hash: bytes
    """The root of the state after the block."""

    @property
    def hash(self) -> bytes:
        """SHA-256 of the encoding: what the next header names."""
        return digest(encode_header(self))


@dataclass(frozen=True, slots=True)
class SignedHeader:
    """A header, and what certifies it."""

    header: Header
    certificate: bytes
    """64 bytes of a sequencer's signature, or a certificate of CometBFT's validators; nothing where it is to come."""

    def check(self, genesis: bytes, sequencer: bytes) -> None:
        """Raise `ProofError` unless the header is of the ledger of this genesis and signed by this public key."""
        if self.header.genesis != genesis:
            raise ProofError(
                f"the header is of the ledger of genesis {self.header.genesis.hex()}: it must be {genesis.hex()}"
            )
        if not verify(sequencer, _message(self.header), self.certificate):
            raise ProofError(
                f"the signature on the header of block {self.header.height} is not by the sequencer {sequencer.hex()}"
            )


def sign_header(key: Key, header: Header) -> SignedHeader:
    """Return the header with a key's signature."""
    return SignedHeader(header, key.sign(_message(header)))


def event_leaves(events: Sequence[Event]) -> list[bytes]:
    """Return the canonical bytes of each event: the leaves of the events' root."""
    return [codec.encode(encode_event(event)) for event in events]


def decode_leaf(leaf: bytes) -> tuple[str, dict[str, Any]]:
    """Return kind and fields of the event that the bytes encode; raises `Malformed` for anything else."""
    value = codec.decode(leaf, limit=max(1, len(leaf)))
    if type(value) is not list or tuple(map(type, value)) != (str, dict):
        raise Malformed("an event is a list of its kind and a map of its fields")
    return value[0], value[1]


def check_link(header: Header, before: Header | None, genesis: bytes, *, gaps: bool = False) -> None:
    """Raise `ProofError` unless the header follows the one before, or the genesis of this digest if there is none.

    With `gaps` it may be of any later height: blocks in which nothing happened have no header then.
    """
    height, time, previous = (before.height, before.time, before.hash) if before else (0, 0, genesis)
    if header.height <= height and gaps:
        raise ProofError(f"header {header.height} cannot follow height {height}: it must be later")
    if header.height != height + 1 and not gaps:
        raise ProofError(f"header {header.height} cannot follow height {height}: {height + 1} is next")
    if header.previous != previous:
        named = f"block {height}" if before else "the genesis"
        raise ProofError(
            f"header {header.height} names {header.previous.hex()} as the one before: {named} is {previous.hex()}"
        )
    if header.time < time:
        raise ProofError(
            f"header {header.height} has time {header.time}: it must not be before {time}, block {height}'s"
        )


def check_roots(header: Header, transactions: Sequence[bytes], events: Sequence[bytes]) -> None:
    """Raise `ProofError` unless these are the header's transactions and the leaves of its events."""
    for what, leaves, due in (
        ("transactions", transactions, header.transactions_root),
        ("events", events, header.events_root),
    ):
        if (found := merkle.root(leaves)) != due:
            raise ProofError(
                f"the root of the {what} of block {header.height} is {found.hex()}: its header says {due.hex()}"
            )


def encode_header(header: Header) -> bytes:
    """Return the header in its one encoding."""
    return codec.encode(_values(header))


def decode_header(data: bytes) -> Header:
    """Return the header that the bytes encode; raises `Malformed` for anything else."""
    return _header(codec.decode(data))


def encode_signed(signed: SignedHeader) -> bytes:
    """Return the signed header in its one encoding."""
    return codec.encode([_values(signed.header), signed.certificate])


def decode_signed(data: bytes) -> SignedHeader:
    """Return the signed header that the bytes encode; raises `Malformed` for anything else."""
    value = codec.decode(data)
    if type(value) is not list or len(value) != 2 or type(value[1]) is not bytes or not _certifies(len(value[1])):
        raise Malformed(
            f"a signed header is a list of the header and a signature of {SIGNATURE} bytes, or a certificate of "
            f"{SMALLEST_CERTIFICATE} to {MAX_CERTIFICATE} bytes"
        )
    return SignedHeader(_header(value[0]), value[1])


def _certifies(length: int) -> bool:
    return length == SIGNATURE or SMALLEST_CERTIFICATE <= length <= MAX_CERTIFICATE


def _header(value: Any) -> Header:
    if type(value) is not list or tuple(map(type, value)) != _SHAPE:
        raise Malformed("a header is a list of the genesis's digest, height, time and four hashes")
    genesis, height, time, *hashes = value
    if not 1 <= height <= MAX_COUNT or not 0 <= time <= MAX_COUNT:
        raise Malformed(f"a header's height must be from 1 and its time from 0 to {MAX_COUNT}: {height}, {time}")
    if any(len(one) != 32 for one in (genesis, *hashes)):
        raise Malformed("a header's hashes must have 32 bytes")
    return Header(*value)


def _values(header: Header) -> list[Any]:
    return [
        header.genesis,
        header.height,
        header.time,
        header.previous,
        header.transactions_root,
        header.events_root,
        header.app_hash,
    ]


def _message(header: Header) -> bytes:
    return _DOMAIN + encode_header(header)
