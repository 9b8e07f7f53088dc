"""What a ledger's database says, checked: the state as it was left, or executed again from the blocks."""

import os
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from fedmeta.govern.engines.store import Store
from fedmeta.govern.errors import (
    Damaged,
    InvalidBlock,
    InvalidGenesis,
    Malformed,
    OlderProtocol,
    ProofError,
    StateError,
    WrongChain,
)
from fedmeta.govern.machine.application import Application, Commit, Finalized
from fedmeta.govern.machine.execute import Execution
from fedmeta.govern.machine.genesis import Genesis, Origin, decode_genesis, origin_of, start
from fedmeta.govern.machine.header import Header, SignedHeader, check_link, check_roots, event_leaves
from fedmeta.govern.machine.trust import checker_of, trust_of
from fedmeta.govern.state.snapshot import Manifest, restore
from fedmeta.govern.state.state import State
from fedmeta.govern.wire.block import Block

Progress = Callable[[int, int], None]
"""Is called with the height that was done, and the last one."""


class Resumed(NamedTuple):
    """Where a ledger was left."""

    origin: Origin
    state: State
    head: Header | None
    """The last block's header; None after genesis."""


def resume(store: Store, chain_id: str | None = None) -> Resumed:
    """Return where a ledger was left, once the state, the last block and its header agree.

    Raises:
        WrongChain: it is not the chain that is asked for.
        Damaged: what it holds does not fit together.
    """
    # A genesis may be large: it is not kept.
    origin, tip = origin_of(read_genesis(store, chain_id)), store.tip
    try:
        if not tip:
            state = State.load(store.rows(), 0, origin.time)
            _agree(store, "state", state.root, "genesis", begun(store, read_genesis(store)).app_hash)
            return Resumed(origin, state, None)
        head = _check_tip(store, origin, tip)
        state = State.load(store.rows(), tip, head.time)
        _agree(store, "state", state.root, f"header of block {tip}", head.app_hash)
    except (Malformed, StateError, ProofError) as error:
        raise Damaged(f"{store.path} is damaged: {error}") from error
    return Resumed(origin, state, head)


def read_genesis(store: Store, chain_id: str | None = None) -> Genesis:
    """Return a ledger's genesis.

    Raises:
        WrongChain: it is not the chain that is asked for.
        OlderProtocol: this version of fedmeta no longer executes its rules.
        Damaged: it breaks a rule.
    """
    try:
        genesis = decode_genesis(store.genesis)
    except OlderProtocol as error:
        raise OlderProtocol(f"{store.path}: {error}") from error
    except InvalidGenesis as error:
        raise Damaged(f"{store.path} is damaged: {error}") from error
    if chain_id is not None and genesis.chain_id != chain_id:
        raise WrongChain(f"{store.path} holds chain {genesis.chain_id!r}: {chain_id!r} is asked for")
    return genesis


def begun(store: Store, genesis: Genesis) -> Execution:
    """Return what the genesis of a ledger gives; raises `Damaged` if it breaks a rule."""
    try:
        return start(genesis)
    except InvalidGenesis as error:
        raise Damaged(f"{store.path} is damaged: {error}") from error


class Replay:
    """Executes the blocks of a chain once more, and checks that their headers say what that gives."""

    def __init__(self, genesis: Genesis, state: State, head: Header | None):
        self.genesis = genesis
        self._trust = trust_of(genesis, state)
        self.application = Application(state)
        self.head = head
        self.certified = True
        """Whether all headers so far are certified."""

    @property
    def gaps(self) -> bool:
        """Whether heights may have no header: where validators decide blocks, and nothing happened in one."""
        return self._trust.gaps

    def heights(self, store: Store, low: int, high: int) -> Sequence[int]:
        """Return the heights from `low` to `high` at which a header is to be."""
        return heights(store, self.gaps, low, high)

    def skip(
        self, headers: Iterable[SignedHeader], snapshot: Manifest, chunks: Iterable[bytes], *, own: bool = False
    ) -> None:
        """Go on to a snapshot by the headers alone, the last of which is of its height.

        In a database of one's `own` the first may be that of the snapshot, for a node of several begins so: it was
        checked when it came, and is taken on the word of the validators that it names.

        Raises:
            ProofError: a header does not hold, or does not name the snapshot's state.
            StateError: the snapshot does not give its root.
        """
        for signed in headers:
            if own and self._is_late(signed.header, snapshot):
                self._begin_at(signed)
            else:
                self.check_header(signed)
        before = self.application
        named, time = (
            ((self.head.height, self.head.app_hash), self.head.time)
            if self.head
            else ((0, before.app_hash), before.time)
        )
        if self.gaps and named[0] <= snapshot.height:
            # Nothing happened from that header on.
            named = snapshot.height, named[1]
        if named != (snapshot.height, snapshot.app_hash):
            raise ProofError(f"the snapshot of height {snapshot.height} is not of the state that its header names")
        self.application = Application(restore(snapshot, time, chunks))

    def _is_late(self, header: Header, snapshot: Manifest) -> bool:
        linked = header.previous == self.genesis.digest
        return self.gaps and self.head is None and header.height == snapshot.height and not linked

    def _begin_at(self, signed: SignedHeader) -> None:
        """Accept a late header with none before it."""
        if signed.certificate:
            self._trust = self._trust.resting(signed)
        self.certified = bool(signed.certificate)
        self.head = signed.header

    def check_header(self, signed: SignedHeader) -> None:
        """Accept the next header; raises `ProofError` unless it is certified and follows the one before.

        It may be old: what is kept is looked through, and nobody is believed anew. Validators certify a header some
        blocks later: the last ones need no certificate yet, but nothing that is certified comes after such a one.
        """
        if self.gaps and not signed.certificate:
            check_link(signed.header, self.head, signed.header.genesis, gaps=True)
            self.certified = False
        elif self.certified:
            self._trust = self._trust.accept(signed, self.head)
        else:
            raise ProofError(f"header {signed.header.height} is certified, and one before it is not")
        self.head = signed.header

    def step(
        self,
        signed: SignedHeader,
        transactions: Sequence[bytes],
        save: Callable[[Commit, Finalized, list[bytes]], None] | None = None,
    ) -> tuple[Finalized, list[bytes]]:
        """Execute the next block; return what it gave, and its encoded events.

        Raises:
            ProofError: the header is not signed, does not follow, or does not say what the execution gives.
            InvalidBlock: the block does not follow the state.
        """
        header, before = signed.header, (self.head, self.certified, self._trust)
        self.check_header(signed)
        try:
            found = self.application.finalize(Block.of(header.height, header.time, transactions))
            leaves = event_leaves(found.events)
            check_roots(header, transactions, leaves)
            if found.app_hash != header.app_hash:
                raise ProofError(
                    f"block {header.height} gives the app hash {found.app_hash.hex()}: "
                    f"its header says {header.app_hash.hex()}"
                )
            self.application.commit(None if save is None else lambda commit: save(commit, found, leaves))
        except BaseException:
            self.head, self.certified, self._trust = before
            raise
        return found, leaves


def rebuild(path: str | os.PathLike, snapshot: int | None = None, progress: Progress | None = None) -> int:
    """Execute the blocks again, from genesis or from the snapshot of a height, and write the state anew.

    A ledger that was pruned begins from its oldest snapshot. Returns the height.

    Raises:
        StoreError: there is no such snapshot, or the file cannot be used; Damaged if the blocks do not hold, or the
            state cannot even be written over. Nothing has been changed then.
    """
    with Store.probe(path) as (found, lock):
        genesis, tip = read_genesis(found), found.tip
        try:
            replay, begin = Replay(genesis, begun(found, genesis).state, None), choose(found, snapshot)
            if begin is not None:
                headers = (needed(found, height) for height in replay.heights(found, 1, begin.height))
                replay.skip(headers, begin, found.chunks(begin), own=True)
            for height in replay.heights(found, replay.application.height + 1, tip):
                replay.step(needed(found, height), whole(found, height))
                if progress is not None:
                    progress(height, tip)
        except (InvalidBlock, Malformed, ProofError, StateError) as error:
            raise Damaged(f"{path} is damaged: {error}") from error
        store = Store.open(path, lock)
    try:
        state = replay.application.state
        store.replace_state(state.dump())
    except Damaged as error:
        raise Damaged(f"{error}: the blocks are whole, so export it, and import that into a new file") from error
    finally:
        store.close()
    return tip


def choose(store: Store, height: int | None = None) -> Manifest | None:
    """Return the snapshot of a height, or the oldest one that is needed since blocks were pruned, or None.

    Raises:
        Damaged: there is none.
    """
    if height is None and store.first == 1:
        return None
    wanted = store.first - 1 if height is None else height
    for one in store.manifests():
        if one.height == wanted:
            return one
    kept = ", ".join(str(one.height) for one in store.manifests()) or "none"
    raise Damaged(f"{store.path} has no snapshot of height {wanted}: there is {kept}")


def heights(store: Store, gaps: bool, low: int, high: int) -> Sequence[int]:
    """Return the heights from `low` to `high` at which a header is to be: with `gaps` those that have one, or all."""
    return store.heights(low, high) if gaps else range(low, high + 1)


def needed(store: Store, height: int) -> SignedHeader:
    """Return a header; raises `Damaged` if it is missing."""
    found = store.header(height)
    if found is None:
        raise Damaged(f"{store.path} is damaged: the header of block {height} is missing")
    if found.header.height != height:
        raise Damaged(f"{store.path} is damaged: the header of block {height} says {found.header.height}")
    return found


def whole(store: Store, height: int) -> list[bytes]:
    """Return a block's transactions; raises `Damaged` if they are missing."""
    found = store.transactions(height)
    if found is None:
        raise Damaged(f"{store.path} is damaged: the transactions of block {height} are missing")
    return found


def _check_tip(store: Store, origin: Origin, tip: int) -> Header:
    signed, trust = needed(store, tip), checker_of(origin)
    if signed.certificate or not trust.gaps:
        trust.check(signed)
    last = store.last_before(tip) if trust.gaps else tip - 1
    if last or tip >= store.first or not trust.gaps:
        # A node of several may have begun at a snapshot, with its header and none before.
        check_link(signed.header, needed(store, last).header if last else None, origin.digest, gaps=trust.gaps)
    if tip >= store.first:
        check_roots(signed.header, whole(store, tip), store.events(tip) or [])
    return signed.header


def _agree(store: Store, what: str, found: object, other: str, due: object) -> None:
    if found != due:
        shown = [one.hex() if isinstance(one, bytes) else str(one) for one in (found, due)]
        raise Damaged(f"{store.path} is damaged: its {what} is {shown[0]}, but the {other} says {shown[1]}")
