"""A light client: it holds no state, and believes what is certified by whom it trusts, and what a proof shows."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from fedmeta.govern.errors import Malformed, ProofError, Refused, TooFar
from fedmeta.govern.machine.genesis import Genesis
from fedmeta.govern.machine.header import Header, SignedHeader, check_link, decode_leaf
from fedmeta.govern.machine.trust import Checkpoint, Trust, trust_of
from fedmeta.govern.wire import merkle
from fedmeta.govern.wire.layout import decode_record
from fedmeta.govern.wire.signatures import verify
from fedmeta.govern.wire.transactions import Seal, decode


class LightClient:
    """Checks headers, records, transactions and events of one ledger, given whom to trust for it.

    Where a time `now` is asked for, it is this machine's, in milliseconds since 1970: trust in validators grows old by
    it. Without it, it does not.
    """

    def __init__(self, trust: Trust):
        self.trust = trust
        """What is believed so far."""
        self.head: Header | None = None
        """The latest header that was accepted."""

    @staticmethod
    def of(genesis: Genesis, checkpoint: Checkpoint | None = None) -> "LightClient":
        """Return a light client of the chain that begins so; with a checkpoint, that header must come first."""
        return LightClient(trust_of(genesis, checkpoint=checkpoint))

    def follow(self, signed: SignedHeader, now: int | None = None) -> Header:
        """Accept the header that comes next, and return it; raises `ProofError` for any other."""
        self.trust = self.trust.accept(signed, self.head, now)
        self.head = signed.header
        return signed.header

    def jump(self, signed: SignedHeader, now: int | None = None) -> Header:
        """Accept a later header on the word of who certifies it alone, and return it.

        Raises:
            ProofError: it is not certified, goes back, or contradicts the header that was accepted for its height;
                `TooFar` if headers between may help.
        """
        header, head = signed.header, self.head
        if header == head:
            self.trust.check(signed)
            return header
        after = self.trust.jump(signed, now)
        if header.height == 1:
            check_link(header, None, header.genesis)
        if head is not None:
            if header.height == head.height:
                raise ProofError(
                    f"{self.trust.who} signed two headers of height {head.height}: "
                    f"{head.hash.hex()} and {header.hash.hex()}"
                )
            if header.height == head.height + 1:
                check_link(header, head, header.genesis)
            if header.height < head.height or header.time < head.time:
                raise ProofError(f"header {header.height} goes back: {head.height} was accepted already")
        self.trust, self.head = after, header
        return header

    def reach(self, signed: SignedHeader, ask: Callable[[int], SignedHeader | None], now: int | None = None) -> Header:
        """Accept a later header as `jump` does, over as many headers between as it takes.

        `ask` is to return the first header from a height on.
        """
        try:
            return self.jump(signed, now)
        except TooFar:
            between = self._between(signed.header.height, ask)
            if between is None:
                raise
        self.reach(between, ask, now)
        return self.reach(signed, ask, now)

    def _between(self, high: int, ask: Callable[[int], SignedHeader | None]) -> SignedHeader | None:
        """Return a header between the latest and a height, from the middle if there is one there."""
        low = self.head.height if self.head else 0
        while high - low > 1:
            middle = (low + high) // 2
            found = ask(middle)
            if found is not None and middle <= found.header.height < high:
                return found
            high = middle
        return None


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
