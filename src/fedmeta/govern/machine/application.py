"""The seam between the state machine and whatever orders its blocks, after ABCI 2.0."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from fedmeta.govern.errors import InvalidBlock, Refused, StateError, WrongProtocol
from fedmeta.govern.machine.execute import attempt, begin, counted, end, is_of_round
from fedmeta.govern.machine.pool import Pool
from fedmeta.govern.rules.context import Context
from fedmeta.govern.rules.members import machine_key_at
from fedmeta.govern.rules.pruning import horizon
from fedmeta.govern.state.parameters import Parameters
from fedmeta.govern.state.records import Candidate, Chain, Member, Term
from fedmeta.govern.state.snapshot import Manifest, MemorySnapshotStore, Restore, SnapshotStore, take
from fedmeta.govern.state.state import Change, State
from fedmeta.govern.views import queries
from fedmeta.govern.wire.block import Block
from fedmeta.govern.wire.event import Event
from fedmeta.govern.wire.events import TransactionRefused
from fedmeta.govern.wire.layout import LAYOUTS
from fedmeta.govern.wire.merkle import Proof
from fedmeta.govern.wire.signatures import digest


class Prepared(NamedTuple):
    """The transactions for a block, in order, and what was refused; what is in neither waits for a later block."""

    transactions: tuple[bytes, ...]
    refused: dict[bytes, Refused]
    """The refusal of each transaction, by its digest."""


class SeatUpdate(NamedTuple):
    """The voting power of a super node's key from the next block on; 0 for a key that votes no more."""

    candidate: str
    public: bytes
    power: int


class Finalized(NamedTuple):
    """What a block gives, before it is committed."""

    app_hash: bytes
    events: tuple[Event, ...]
    codes: tuple[str, ...]
    """For each transaction its refusal code, or nothing if it was applied."""
    seat_updates: tuple[SeatUpdate, ...]
    parameters: Parameters
    """As they are from the next block on."""
    eventful: bool
    """Whether anything happened. Otherwise the state is the same but for its height and its time, and whoever leaves
    the block out comes to the same."""


class Commit(NamedTuple):
    """What a block changed, for whoever stores the state."""

    height: int
    app_hash: bytes
    changes: list[Change]
    retain_height: int
    """The oldest block that is still needed, since stake and evidence of its time live."""


class _Executed(NamedTuple):
    block: Block
    state: State
    finalized: Finalized


class Application:
    """The committed state, and what an engine asks of it; one thread at a time.

    | here                  | ABCI 2.0                                 |
    |-----------------------|------------------------------------------|
    | `height`, `app_hash`  | Info                                     |
    | `seats`               | InitChain's validators                   |
    | `check_tx`, `recheck` | CheckTx, new and recheck, by all rules   |
    | `prepare`             | PrepareProposal                          |
    | `process`             | ProcessProposal                          |
    | `finalize`            | FinalizeBlock                            |
    | `commit`              | Commit                                   |
    | `query`, `prove`      | Query, with `prove`                      |
    | `snapshots`, `chunk`  | ListSnapshots, LoadSnapshotChunk         |
    | `offer`, `apply`      | OfferSnapshot, ApplySnapshotChunk        |

    Only `commit` and the last `apply` change the committed state.
    """

    def __init__(self, state: State, shelf: SnapshotStore | None = None):
        self._state = state.fold()
        self._shelf = MemorySnapshotStore() if shelf is None else shelf
        self._pool = Pool(self._state)
        self._executed: _Executed | None = None
        self._restore: Restore | None = None

    @property
    def chain(self) -> Chain:
        """What the ledger has one of, as of the last commit."""
        return self._state.need(Chain)

    @property
    def height(self) -> int:
        """The height of the last block; 0 after genesis."""
        return self._state.height

    @property
    def time(self) -> int:
        """The time of the last block, or of the genesis, in milliseconds since 1970."""
        return self._state.time

    @property
    def app_hash(self) -> bytes:
        """The root of the committed state, 32 bytes."""
        return self._state.root

    @property
    def state(self) -> State:
        """The committed state; it can be read until the next commit."""
        return self._state

    @property
    def retain_height(self) -> int:
        """The oldest block that is still needed, since stake and evidence of its time live."""
        return _retain(self._state)

    @property
    def seats(self) -> tuple[SeatUpdate, ...]:
        """The voting powers that the next block is decided by."""
        return seats_of(self._state)

    def check_tx(self, raw: bytes, again: bool = False) -> Refused | None:
        """Return why a transaction cannot enter the pool, or None, and count it as pending.

        It is executed as in the next block, but at the time of the last one, after those that passed since the last
        commit. So the next one of a member carries the next number, and may need what the one before does; and what a
        rule refuses now is refused, also if a later block might have taken it.

        With `again` it is one that passed before the last commit, and waits still: it is as if it came now.
        """
        return self._pool.check_again(raw) if again else self._pool.check(raw)

    def look_ahead(self) -> None:
        """Check transactions as after the block that was executed last, which is likely to be decided.

        What passes then need not be executed again after its commit. All that waits is checked once more after any
        other one.
        """
        if self._executed is not None:
            self._pool.ahead(self._executed.block, self._executed.state)

    def judge(self, raw: bytes) -> Refused | None:
        """Return why the next block would refuse a transaction that is alone in it, or None; nothing is counted."""
        try:
            return attempt(begin(self._state, Block(self.height + 1, self.time)), 0, raw)
        except WrongProtocol as error:
            return Refused("wrong-protocol", str(error))

    def recheck(self, raws: Iterable[bytes]) -> dict[bytes, Refused]:
        """Count only these as pending, if they still pass, in this order; return the refusals by digest."""
        self._pool.restart(self._state)
        found = ((raw, self.check_tx(raw)) for raw in raws)
        return {digest(raw): refusal for raw, refusal in found if refusal is not None}

    def prepare(
        self,
        empty: Block,
        raws: Sequence[bytes],
        max_bytes: int | None = None,
        size: Callable[[bytes], int] = len,
    ) -> Prepared:
        """Choose the transactions of the next block: those that apply, parts of rounds first, as long as they fit.

        Args:
            empty: The block without its transactions.
            raws: What waits, in the order in which it came.
            max_bytes: What all items of the block may come to by `size`, besides the ledger's own limit.
            size: The bytes that an item takes in the engine's block.

        Raises:
            InvalidBlock: the height is not the next one, or the time goes back.
        """
        context = begin(self._state, empty)
        room = context.parameters.max_block_bytes
        space = (room if max_bytes is None else max_bytes) - sum(map(size, empty.items))
        most, taken = context.parameters.member_transactions, Counter[str]()
        chosen: list[bytes] = []
        refused: dict[bytes, Refused] = {}
        for raw in sorted(raws, key=lambda one: not is_of_round(one)):
            member = counted(raw)
            if member and taken[member] >= most:
                continue
            if len(raw) > room or (max_bytes is not None and size(raw) > space):
                break
            refusal = attempt(context, empty.first + len(chosen), raw)
            if refusal is None:
                chosen.append(raw)
                taken[member] += 1
                room -= len(raw)
                space -= size(raw)
            else:
                context.events.pop()
                refused.setdefault(digest(raw), refusal)
        self._end(replace(empty, transactions=tuple(chosen)), context)
        return Prepared(tuple(chosen), refused)

    def process(self, block: Block) -> bool:
        """Return whether a block that another proposes is one that `prepare` could have made."""
        parameters = self._state.need(Parameters)
        if sum(map(len, block.transactions)) > parameters.max_block_bytes:
            return False
        members = Counter(filter(None, map(counted, block.transactions)))
        if max(members.values(), default=0) > parameters.member_transactions:
            return False
        order = [is_of_round(raw) for raw in block.transactions]
        if order != sorted(order, reverse=True):
            return False
        try:
            return not any(self._execute(block).finalized.codes)
        except InvalidBlock:
            return False

    def finalize(self, block: Block) -> Finalized:
        """Execute a block that was decided; nothing is committed.

        Raises:
            InvalidBlock: the height is not the next one, or the time goes back.
        """
        return self._execute(block).finalized

    def commit(self, save: Callable[[Commit], None] | None = None) -> Commit:
        """Make the block that was executed last the committed one.

        `save` is to make the changes durable. If it raises, nothing is committed, and the block can be committed later.

        Raises:
            InvalidBlock: no block was executed since the last commit.
        """
        if self._executed is None:
            raise InvalidBlock(f"there is no block to commit: finalize block {self.height + 1} first")
        block, state, finalized = self._executed
        commit = Commit(block.height, finalized.app_hash, state.changes, _retain(state))
        if save is not None:
            save(commit)
        self._state, self._executed = state.fold(), None
        self._pool.committed(block, state, self._state)
        return commit

    def query(self, name: str, arguments: Mapping[str, Any]) -> Any:
        """Answer one of `queries.QUERIES` about the committed state; raises `Refused` as they do."""
        return queries.query(self._state, name, **arguments)

    def prove(self, kind: str, *key: Any) -> tuple[Any, Proof, int]:
        """Return a record, its proof under `app_hash`, and the height; raises `StateError` if there is none."""
        found = LAYOUTS.get(kind)
        if found is None:
            raise StateError(f"no record is of kind {kind!r}: there are {', '.join(sorted(LAYOUTS))}")
        return self._state.need(found.cls, *key), self._state.prove(found.cls, *key), self.height

    def snapshot(self) -> Manifest:
        """Take a snapshot of the committed state, and keep it."""
        manifest, chunks = take(self._state)
        self._shelf.keep(manifest, chunks)
        return manifest

    def snapshots(self) -> list[Manifest]:
        """Return the snapshots that can be loaded, by height."""
        return self._shelf.manifests()

    def chunk(self, height: int, number: int) -> bytes | None:
        """Return a chunk of a snapshot, or None if it is not kept."""
        return self._shelf.chunk(height, number)

    def offer(self, manifest: Manifest, app_hash: bytes, time: int) -> bool:
        """Begin to restore a snapshot; False if it is not of a later state of this chain with this trusted app hash.

        `time` is that of the snapshot's block, trusted as the hash is.
        """
        wanted = manifest.chain_id == self.chain.chain_id and manifest.height > self.height
        self._restore = Restore(manifest, time) if wanted and manifest.app_hash == app_hash else None
        return self._restore is not None

    def apply(self, number: int, chunk: bytes) -> bool:
        """Take a chunk of the snapshot that was offered; False if it is damaged, and another copy is needed.

        With the last chunk the snapshot becomes the committed state.

        Raises:
            StateError: nothing was offered, or all chunks are there and do not give the root; nothing has changed then.
        """
        if self._restore is None:
            raise StateError("no snapshot was offered, or it was not accepted")
        if not self._restore.add(number, chunk):
            return False
        if not self._restore.missing:
            restore, self._restore = self._restore, None
            self._state, self._executed = restore.state(), None
            self._pool.restart(self._state)
        return True

    def _execute(self, block: Block) -> _Executed:
        if self._executed is None or self._executed.block != block:
            context = begin(self._state, block)
            for index, raw in enumerate(block.transactions, block.first):
                attempt(context, index, raw)
            return self._end(block, context)
        return self._executed

    def _end(self, block: Block, context: Context) -> _Executed:
        """Finish a block, and remember it: proposing, judging and deciding one take one execution."""
        state, events, app_hash = end(context)
        codes = [""] * len(block.transactions)
        for event in events:
            if isinstance(event, TransactionRefused):
                codes[event.index - block.first] = event.code
        updates = _updates(_powers(self._state), _powers(state))
        eventful = bool(block.items) or len(events) > 1 or app_hash != self._state.root
        self._executed = _Executed(
            block, state, Finalized(app_hash, events, tuple(codes), updates, state.need(Parameters), eventful)
        )
        return self._executed


def seats_of(state: State) -> tuple[SeatUpdate, ...]:
    """Return the voting powers that the block after a state is decided by."""
    return tuple(SeatUpdate(name, public, power) for public, (name, power) in _powers(state).items())


def _retain(state: State) -> int:
    return max(1, horizon(state))


def _powers(state: State) -> dict[bytes, tuple[str, int]]:
    """Return the super nodes and their power by the keys that are in force at the next height."""
    chain, found = state.need(Chain), {}
    for seat in state.need(Term, chain.term).seats:
        if chain.validators:
            public = state.need(Candidate, seat.candidate).consensus
        else:
            public = machine_key_at(state.need(Member, seat.candidate), state.height + 1)
        found[public] = seat.candidate, seat.power
    return found


def _updates(before: Mapping[bytes, tuple[str, int]], after: Mapping[bytes, tuple[str, int]]) -> tuple[SeatUpdate, ...]:
    gone = [SeatUpdate(name, public, 0) for public, (name, _) in before.items() if public not in after]
    come = [
        SeatUpdate(name, public, power)
        for public, (name, power) in after.items()
        if before.get(public) != (name, power)
    ]
    return tuple(sorted(gone + come))
