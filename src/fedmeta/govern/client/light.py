"""A light client: it holds no state, and believes what the sequencer has signed and what a proof shows."""

from collections.abc import Iterable, Mapping
from typing import Any

from fedmeta.govern.errors import Malformed, ProofError, Refused
from fedmeta.govern.machine.genesis import Genesis
from fedmeta.govern.machine.header import Header, SignedHeader, check_link, decode_leaf
from fedmeta.govern.wire import merkle
from fedmeta.govern.wire.layout import decode_record
from fedmeta.govern.wire.signatures import verify
from fedmeta.govern.wire.transactions import Seal, decode


class LightClient:
    """Checks headers, records, transactions and events of one ledger, given its sequencer and its genesis."""

    def __init__(self, sequencer: bytes, genesis: bytes):
        self.sequencer = sequencer
        self.genesis = genesis
        """The digest of the genesis."""
        self.head: Header | None = None
        """The latest header that was accepted."""

    @staticmethod
    def of(genesis: Genesis) -> "LightClient":
        """Return a light client of the chain that begins so."""
        return LightClient(genesis.sequencer, genesis.digest)

    def follow(self, signed: SignedHeader) -> Header:
        """Accept the header that comes next, and return it; raises `ProofError` for any other."""
        signed.check(self.genesis, self.sequencer)
        check_link(signed.header, self.head, self.genesis)
        self.head = signed.header
        return signed.header

    def jump(self, signed: SignedHeader) -> Header:
        """Accept a later header on the word of the sequencer alone, and return it.

        Raises:
            ProofError: it is not signed, goes back, or contradicts the header that was accepted for its height.
        """
        signed.check(self.genesis, self.sequencer)
        header, head = signed.header, self.head
        if header.height == 1:
            check_link(header, None, self.genesis)
        if head is not None:
            if header.height == head.height and header.hash != head.hash:
                raise ProofError(
                    f"the sequencer signed two headers of height {head.height}: "
                    f"{head.hash.hex()} and {header.hash.hex()}"
                )
            if header.height == head.height + 1:
                check_link(header, head, self.genesis)
            if header.height < head.height or header.time < head.time:
                raise ProofError(f"header {header.height} goes back: {head.height} was accepted already")
        self.head = header
        return header


def verify_record(proof: merkle.Proof, header: Header) -> Any:
    """Return the record that a proof shows to be in the state after the header's block; raises `ProofError` if none."""
    _verify(proof, header.app_hash, f"the state after block {header.height}")
    try:
        return decode_record(proof.leaf)
    except Malformed as error:
        raise ProofError(f"what the proof shows is no record: {error}") from error


def verify_transaction(proof: merkle.Proof, header: Header) -> bytes:
    """Return the transaction that a proof shows to be in the header's block; raises `ProofError` if none."""
    _verify(proof, header.transactions_root, f"the transactions of block {header.height}")
    return proof.leaf


def verify_event(proof: merkle.Proof, header: Header) -> tuple[str, dict[str, Any]]:
    """Return kind and fields of the event that a proof shows to be of the block; raises `ProofError` if none."""
    _verify(proof, header.events_root, f"the events of block {header.height}")
    try:
        return decode_leaf(proof.leaf)
    except Malformed as error:
        raise ProofError(f"what the proof shows is no event: {error}") from error


def is_sealed(genesis: bytes, round: int, header: bytes, seats: Mapping[bytes, int], seals: Iterable[bytes]) -> bool:
    """Return whether seats with more than 2/3 of the power have signed one header as that which closed the commitments.

    A contributor lets its update go only then: a sequencer that shows it another history cannot have that many. The
    arguments are those of `sealed_by`.
    """
    signed = sealed_by(genesis, round, header, seats, seals)
    return sum(seats[key] for key in signed) * 3 > sum(seats.values()) * 2


def sealed_by(
    genesis: bytes, round: int, header: bytes, seats: Mapping[bytes, int], seals: Iterable[bytes]
) -> frozenset[bytes]:
    """Return the keys of the seats that have signed a header as that which closed the commitments.

    Args:
        genesis: The digest of the genesis.
        round: The round's number.
        header: The hash of the header that the contributor knows of.
        seats: The power of each of the round's seats, by the key that signs for it.
        seals: Transactions; what is no right `Seal` of this does not count.
    """
    found: set[bytes] = set()
    for raw in seals:
        try:
            signed = decode(raw)
        except Refused:
            continue
        if signed.genesis == genesis and signed.body == Seal(round, header):
            found.update(key for key in seats if verify(key, signed.message, signed.signature))
    return frozenset(found)


def _verify(proof: merkle.Proof, root: bytes, what: str) -> None:
    if not merkle.verify(proof, root):
        raise ProofError(f"the proof of leaf {proof.index} of {proof.size} does not lead to {what}, {root.hex()}")
