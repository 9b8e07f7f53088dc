"""A follower: it executes every block itself, so that it takes nobody's word for the state."""

from collections.abc import Sequence

from fedmeta.govern.errors import InvalidBlock, Malformed, ProofError, StateError
from fedmeta.govern.machine.application import Application
from fedmeta.govern.machine.genesis import Genesis, start
from fedmeta.govern.machine.header import (
    Header,
    SignedHeader,
    check_link,
    check_roots,
    decode_signed,
    encode_signed,
    event_leaves,
)
from fedmeta.govern.machine.trust import Checkpoint, Trust, trust_of
from fedmeta.govern.state.state import State
from fedmeta.govern.wire import codec, merkle
from fedmeta.govern.wire.block import Block

HEADERS = 4096
"""How many of the latest headers' hashes are kept: more than a round has blocks."""

_LARGEST = 1 << 32


class Follower:
    """The state of a ledger, by its blocks: each is checked against its signed header and executed.

    Args:
        genesis: What the ledger began with; whoever has it trusts those who order its blocks for that, and for nothing
            else.
        checkpoint: A late header, where validators order the blocks: before it no trust grows old, and at its height
            there must be this one.
    """

    def __init__(self, genesis: Genesis, checkpoint: Checkpoint | None = None):
        state = start(genesis).state
        self._trust = trust_of(genesis, state, checkpoint)
        self._checkpoint = checkpoint
        self._application = Application(state)
        self._head: SignedHeader | None = None
        self._hashes: dict[int, bytes] = {}

    @property
    def height(self) -> int:
        """The height of the last block that was executed; 0 after genesis."""
        return self._application.height

    @property
    def gaps(self) -> bool:
        """Whether blocks in which nothing happens leave no header, so that heights and time go on unseen."""
        return self._trust.gaps

    @property
    def state(self) -> State:
        """The state after that block; it can be read until the next one is applied."""
        return self._application.state

    def header_hash(self, height: int) -> bytes:
        """Return the hash of a late block's header; raises `ProofError` if it is not one of the latest `HEADERS`."""
        found = self._hashes.get(height)
        if found is None:
            raise ProofError(f"header {height} is none of the latest {HEADERS} before {self.height}")
        return found

    def apply(self, encoded: bytes, now: int | None = None) -> None:
        """Execute the next block, as a ledger's server gives it: the list of its signed header and its transactions.

        `now` is this machine's time in milliseconds since 1970, by which trust in validators grows old; without it, it
        does not.

        Raises:
            ProofError: it is not the block that follows, or its transactions, events or state are not what the header
                says. Nothing has changed then.
        """
        signed, transactions = _block(encoded)
        after = self._trust.accept(signed, self._before, self._aging(signed.header, now))
        self._execute(signed, transactions, after)

    def check(self, encoded: bytes, now: int | None = None) -> None:
        """Raise `ProofError` for what anyone can make up, or leave out, in the place of the next block.

        After it what `apply` refuses is what those who order the blocks have said, and what cannot be.
        """
        signed, transactions = _block(encoded)
        header = signed.header
        self._trust.jump(signed, self._aging(header, now))
        if self._trust.gaps:
            # Whoever hides a block shows the one after it: that is no word of the validators.
            check_link(header, self._before, header.genesis, gaps=True)
        elif header.height != self.height + 1:
            raise ProofError(f"it is block {header.height}: {self.height + 1} is next")
        if merkle.root(transactions) != header.transactions_root:
            raise ProofError(f"the transactions are not those of block {header.height}")

    @property
    def _before(self) -> Header | None:
        return self._head.header if self._head else None

    def _aging(self, header: Header, now: int | None) -> int | None:
        """Return the time by which trust grows old; none before the checkpoint, which settles all that leads to it."""
        return None if self._checkpoint and header.height < self._checkpoint.height else now

    def _execute(self, signed: SignedHeader, transactions: Sequence[bytes], after: Trust) -> None:
        header = signed.header
        try:
            done = self._application.finalize(Block.of(header.height, header.time, transactions))
        except (InvalidBlock, Malformed) as error:
            raise ProofError(f"block {header.height} does not follow: {error}") from error
        check_roots(header, transactions, event_leaves(done.events))
        if done.app_hash != header.app_hash:
            raise ProofError(
                f"block {header.height} gives the state {done.app_hash.hex()}: its header says {header.app_hash.hex()}"
            )
        self._application.commit()
        self._keep(signed, after)

    def _keep(self, signed: SignedHeader, trust: Trust) -> None:
        self._head, self._trust = signed, trust
        self._hashes[signed.header.height] = signed.header.hash
        self._hashes.pop(signed.header.height - HEADERS, None)

    def save(self) -> bytes:
        """Return what `load` goes on from, so that the blocks so far need not be executed again.

        Raises:
            StateError: no block was executed yet.
        """
        if self._head is None:
            raise StateError("nothing to save: no block was executed yet")
        rows = [list(row) for row in self.state.dump()]
        hashes = [[height, self._hashes[height]] for height in sorted(self._hashes)]
        return b"".join(
            len(part).to_bytes(8, "big") + part
            for part in (
                encode_signed(self._head),
                self._trust.save(),
                _rows(hashes),
                *(_rows([row]) for row in rows),
            )
        )

    @staticmethod
    def load(genesis: Genesis, data: bytes, checkpoint: Checkpoint | None = None) -> "Follower":
        """Return the follower that was saved; raises `ProofError` where the bytes are damaged or of another ledger."""
        follower = Follower(genesis, checkpoint)
        try:
            parts = list(_parts(data))
            signed = decode_signed(parts[0])
            follower._trust.check(signed)
            trust = follower._trust.load(parts[1])
            state = State.load(
                ((row[0], row[1]) for part in parts[3:] for row in codec.decode(part, limit=_LARGEST)),
                signed.header.height,
                signed.header.time,
            )
            if state.root != signed.header.app_hash:
                raise ProofError("the state that was saved is not that of its header")
            follower._application = Application(state)
            follower._hashes = dict(codec.decode(parts[2], limit=_LARGEST, items=1 << 20))
        except (Malformed, StateError, IndexError, TypeError, ValueError) as error:
            raise ProofError(f"what was saved of the ledger is damaged: {error}") from error
        follower._keep(signed, trust)
        return follower


def _block(encoded: bytes) -> tuple[SignedHeader, list[bytes]]:
    try:
        value = codec.decode(encoded, limit=_LARGEST, items=1 << 22)
        if type(value) is not list or [type(one) for one in value] != [bytes, list]:
            raise Malformed("a block is the list of a signed header and its transactions")
        signed = decode_signed(value[0])
        if any(type(raw) is not bytes for raw in value[1]):
            raise Malformed(f"a transaction of block {signed.header.height} is no byte string")
    except Malformed as error:
        raise ProofError(f"not a block: {error}") from error
    return signed, value[1]


def _rows(rows: Sequence[object]) -> bytes:
    return codec.encode(list(rows))


def _parts(data: bytes) -> list[bytes]:
    parts, at = [], 0
    while at < len(data):
        length = int.from_bytes(data[at : at + 8], "big")
        if at + 8 + length > len(data):
            raise ProofError("what was saved of the ledger is cut off")
        parts.append(data[at + 8 : at + 8 + length])
        at += 8 + length
    return parts
