"""Between CometBFT's questions and the ledger's state machine: plain values in, plain values out."""

import abc
import threading
from collections.abc import Sequence
from dataclasses import replace

from fedmeta.govern.engines.cometbft import abci
from fedmeta.govern.engines.cometbft.abci import Applied as ChunkApplied
from fedmeta.govern.engines.store import Store
from fedmeta.govern.errors import InvalidBlock, Malformed, Refused, StateError
from fedmeta.govern.machine.application import Application, Commit, Finalized, SeatUpdate
from fedmeta.govern.machine.execute import PROTOCOL
from fedmeta.govern.machine.genesis import Origin
from fedmeta.govern.machine.header import Header, SignedHeader, decode_header, encode_header, event_leaves
from fedmeta.govern.state.parameters import LARGEST_TRANSACTION, Parameters
from fedmeta.govern.state.records import ConsensusKey
from fedmeta.govern.state.snapshot import Manifest, decode_manifest, encode_manifest
from fedmeta.govern.wire import codec, merkle
from fedmeta.govern.wire.block import Block, DoubleSignature
from fedmeta.govern.wire.commits import chain_id_of
from fedmeta.govern.wire.signatures import digest

SNAPSHOT_FORMAT = 1
"""The chunks of `state.snapshot`, with the header of their block."""

MILLISECOND = 10**6
"""Nanoseconds."""

EVIDENCE_BYTES = 1 << 16
"""Of the evidence of a block."""

BLOCK_OVERHEAD = (1 << 17) + EVIDENCE_BYTES
"""Bytes of a block besides its transactions: header, evidence, and the commit, which has 109 for each validator."""

_TAKEN = abci.TxResult()


class Told(abc.ABC):
    """Who is told what becomes of transactions and blocks; it is called without the lock."""

    @abc.abstractmethod
    def committed(self, block: Block, codes: Sequence[str], header: Header | None) -> None:
        """A block was committed; its header, if it left one, is to be certified by the next block."""

    @abc.abstractmethod
    def begun(self, header: Header) -> None:
        """The ledger has begun with the snapshot of this header, which is to be certified by the next block."""

    @abc.abstractmethod
    def refused(self, name: bytes, refusal: Refused) -> None:
        """A transaction that waited, by its digest, waits no more."""


class Bridge(abci.Handler):
    """The ledger as CometBFT's application.

    The app hash that CometBFT sees is the hash of the header of the last block in which something happened; before the
    first one it is the digest of the genesis. So it stands still where nothing happens, and certifies all that a header
    of the ledger names: its transactions, its events, the state, and the headers before it.
    """

    def __init__(
        self,
        origin: Origin,
        application: Application,
        store: Store,
        head: Header | None,
        lock: threading.RLock,  # type: ignore[valid-type]
        told: Told,
    ):
        self._origin = origin
        self._application = application
        self._store = store
        self._head = head
        self._lock = lock
        self._told = told
        self._decided: tuple[Block, Finalized, Header | None, list[bytes]] | None = None
        """With the events as the header's root has them."""
        self._doomed: dict[bytes, Refused] = {}
        """What a proposal of this validator left out since a rule refused it: it must leave the pool."""
        self._offered: tuple[Manifest, Header] | None = None
        self._chunks: dict[int, bytes] = {}

    @property
    def _hash(self) -> bytes:
        return self._origin.digest if self._head is None else self._head.hash

    def info(self, request: abci.InfoRequest) -> abci.InfoAnswer:
        """Say which block was committed last; CometBFT replays those after it.

        After a crash that is the last one that was kept. An application that lives has had the quiet ones since, too.
        """
        with self._lock:
            height = self._application.height
            return abci.InfoAnswer(height, self._hash if height else b"", PROTOCOL, data=self._origin.chain_id)

    def init_chain(self, request: abci.ChainRequest) -> abci.ChainAnswer:
        """Begin with the seats; raises `StateError` if CometBFT's genesis was not made of the ledger's."""
        with self._lock:
            due = chain_id_of(self._origin.digest), self._origin.time, 1
            found = request.chain_id, request.time // MILLISECOND, request.initial_height
            if found != due:
                raise StateError(
                    f"CometBFT begins with chain, time and height {found}: the ledger's genesis with {due}"
                )
            if self._application.height:
                raise StateError(f"CometBFT begins a chain that is here at height {self._application.height}")
            return abci.ChainAnswer(
                self._hash, _updates(self._application.seats), consensus_parameters(self._parameters)
            )

    def check_tx(self, raw: bytes, recheck: bool) -> abci.TxResult:
        """Check a transaction by all rules, after those that wait already."""
        with self._lock:
            doomed = self._doomed.pop(digest(raw), None) if self._doomed else None
            refusal = doomed if recheck and doomed is not None else self._application.check_tx(raw, recheck)
        if refusal is None:
            return _TAKEN
        if recheck:
            self._told.refused(digest(raw), refusal)
        return abci.TxResult(1, log=refusal.message, codespace=refusal.code)

    def prepare_proposal(self, request: abci.ProposalRequest) -> Sequence[bytes]:
        """Choose what applies, parts of rounds first; what a rule refuses now is to leave the pool."""
        with self._lock:
            empty = self._empty(request.height, request.time, request.last_commit, request.misbehaviour)
            prepared = self._application.prepare(empty, request.transactions, request.max_bytes, abci.proposed_size)
            for name, refusal in prepared.refused.items():
                # One that comes too early may have its turn in the next block.
                if refusal.code != "future-sequence":
                    self._doomed[name] = refusal
            return replace(empty, transactions=prepared.transactions).items

    def process_proposal(self, request: abci.BlockRequest) -> bool:
        """Vote for what `prepare_proposal` could have made, and for nothing else."""
        with self._lock:
            due = self._empty(request.height, request.time, request.last_commit, request.misbehaviour)
            try:
                block = Block.of(due.height, due.time, request.transactions)
                if (block.double_signatures, block.absent) != (due.double_signatures, due.absent):
                    return False
                if not self._application.process(block):
                    return False
            except (InvalidBlock, Malformed):
                return False
            self._application.look_ahead()
            return True

    def finalize_block(self, request: abci.BlockRequest) -> abci.BlockAnswer:
        """Execute a decided block."""
        with self._lock:
            before = self._parameters
            block = Block.of(request.height, request.time // MILLISECOND, request.transactions)
            done = self._application.finalize(block)
            self._application.look_ahead()
            header, leaves = None, []
            if done.eventful:
                leaves = event_leaves(done.events)
                header = Header(
                    genesis=self._origin.digest,
                    height=block.height,
                    time=block.time,
                    previous=self._hash,
                    transactions_root=merkle.root(block.items),
                    events_root=merkle.root(leaves),
                    app_hash=done.app_hash,
                )
            self._decided = block, done, header, leaves
            found, after = consensus_parameters(before), consensus_parameters(done.parameters)
            return abci.BlockAnswer(
                self._hash if header is None else header.hash,
                (_TAKEN,) * block.first
                + tuple(abci.TxResult(1, codespace=code) if code else _TAKEN for code in done.codes),
                _updates(done.seat_updates),
                None if after == found else after,
            )

    def commit(self) -> int:
        """Keep the block, if anything happened in it, and return the first one that CometBFT must keep."""
        with self._lock:
            if self._decided is None:
                raise StateError("CometBFT commits a block that it has not had executed")
            (block, done, header, leaves), self._decided = self._decided, None

            def save(commit: Commit) -> None:
                if header is not None:
                    self._store.append(SignedHeader(header, b""), block, leaves, done.codes, commit.changes)

            commit = self._application.commit(save)
            if header is not None:
                self._head = header
            if self._doomed:
                for raw in block.transactions:
                    self._doomed.pop(digest(raw), None)
            # What was not kept is executed again after a crash: those blocks must be there.
            retain = min(commit.retain_height, self._store.tip + 1)
        self._told.committed(block, done.codes, header)
        return retain if retain > 1 else 0

    def query(self, request: abci.QueryRequest) -> abci.QueryAnswer:
        """Answer `record/KIND`, with its key in the ledger's CBOR as `data`, by the record and its proof.

        The proof is one operation, `fedmeta:record`: the CBOR of leaf, index, size and path. It leads to the root that
        the header of `height` names.
        """
        with self._lock:
            place, _, kind = request.path.partition("/")
            if place != "record" or request.height not in (0, self._application.height):
                return abci.QueryAnswer(
                    1, log="ask for record/KIND at the last height; all else over the ledger's HTTP"
                )
            try:
                found = codec.decode(request.data)
                key = found if type(found) is list else [found]
                if not all(type(one) in (str, int, bytes) for one in key):
                    raise Malformed("a record's key is of texts, whole numbers and bytes")
                _, proof, _ = self._application.prove(kind, *key)
            except (Malformed, StateError) as error:
                return abci.QueryAnswer(1, log=str(error))
            shown = codec.encode([proof.leaf, proof.index, proof.size, list(proof.path)])
            operations = (abci.ProofOperation("fedmeta:record", request.data, shown),) if request.prove else ()
            return abci.QueryAnswer(0, key=request.data, value=proof.leaf, proof=operations, height=self._store.tip)

    def list_snapshots(self) -> Sequence[abci.Snapshot]:
        """Say which snapshots are kept, each with the header that names its state."""
        with self._lock:
            found = []
            for manifest in self._application.snapshots():
                signed = self._store.header(manifest.height)
                if signed is not None:
                    encoded = encode_manifest(manifest)
                    metadata = codec.encode([encode_header(signed.header), encoded])
                    count = len(manifest.chunks)
                    found.append(abci.Snapshot(manifest.height, SNAPSHOT_FORMAT, count, digest(encoded), metadata))
            return found

    def load_snapshot_chunk(self, height: int, format: int, chunk: int) -> bytes:
        """Return a chunk, or nothing if it is not kept."""
        with self._lock:
            return (self._application.chunk(height, chunk) or b"") if format == SNAPSHOT_FORMAT else b""

    def offer_snapshot(self, snapshot: abci.Snapshot, app_hash: bytes) -> abci.Offer:
        """Begin to take a snapshot whose header is the one that the validators certified, and no other."""
        if snapshot.format != SNAPSHOT_FORMAT:
            return abci.Offer.REJECT_FORMAT
        with self._lock:
            if self._store.tip:
                return abci.Offer.ABORT
            try:
                header, manifest = _parts(snapshot.metadata)
            except Malformed:
                return abci.Offer.REJECT
            named = (header.genesis, header.hash, header.height, header.height, header.app_hash)
            if named != (self._origin.digest, app_hash, snapshot.height, manifest.height, manifest.app_hash):
                return abci.Offer.REJECT
            if len(manifest.chunks) != snapshot.chunks or digest(encode_manifest(manifest)) != snapshot.hash:
                return abci.Offer.REJECT
            if not self._application.offer(manifest, header.app_hash, header.time):
                return abci.Offer.REJECT
            self._offered, self._chunks = (manifest, header), {}
            return abci.Offer.ACCEPT

    def apply_snapshot_chunk(self, index: int, chunk: bytes, sender: str) -> abci.ChunkAnswer:
        """Take a chunk; with the last one the state is that of the snapshot, and on the disk."""
        with self._lock:
            if self._offered is None:
                return abci.ChunkAnswer(ChunkApplied.ABORT)
            try:
                if not self._application.apply(index, chunk):
                    return abci.ChunkAnswer(ChunkApplied.RETRY, (index,), (sender,))
            except StateError:
                self._offered, self._chunks = None, {}
                return abci.ChunkAnswer(ChunkApplied.REJECT_SNAPSHOT)
            self._chunks[index] = chunk
            manifest, header = self._offered
            if self._application.height != manifest.height:
                return abci.ChunkAnswer(ChunkApplied.ACCEPT)
            chunks = [self._chunks[at] for at in range(len(manifest.chunks))]
            self._store.begin_at([SignedHeader(header, b"")], manifest, chunks, self._application.state.dump())
            self._offered, self._chunks, self._head = None, {}, header
        self._told.begun(header)
        return abci.ChunkAnswer(ChunkApplied.ACCEPT)

    @property
    def _parameters(self) -> Parameters:
        return self._application.state.need(Parameters)

    def _empty(self, height: int, time: int, last: abci.LastCommit, shown: Sequence[abci.Misbehaviour]) -> Block:
        """Return a block without transactions: what every validator sees of signers, in the one form of it."""
        state = self._application.state

        def key(validator: abci.Validator) -> bytes:
            found = state.get(ConsensusKey, validator.address)
            return b"" if found is None else found.public

        # An attack on light clients is one, too: who takes part signs a header beside the one that was decided.
        twice = {DoubleSignature(public, one.height) for one in shown if (public := key(one.validator))}
        absent: set[bytes] = set()
        if height % self._parameters.signing_blocks == 0:
            serving = {one.public for one in self._application.seats}
            missing = (key(one.validator) for one in last.votes if one.flag == abci.VoteFlag.ABSENT)
            absent = {public for public in missing if public in serving}
        ordered = tuple(sorted(twice, key=lambda one: (one.height, one.public)))
        return Block(height, time // MILLISECOND, (), ordered, tuple(sorted(absent)))


def consensus_parameters(parameters: Parameters) -> abci.ConsensusParameters:
    """Return what CometBFT is told of the ledger's parameters: sizes, and how long evidence counts.

    Evidence counts as long as stake that is on its way out answers: by either of its limits, as CometBFT has it.
    """
    size = parameters.max_block_bytes
    return abci.ConsensusParameters(
        # Each transaction takes up to 4 bytes more in CometBFT's block than in the ledger's count.
        abci.BlockParameters(size + size // 16 + LARGEST_TRANSACTION + BLOCK_OVERHEAD),
        abci.EvidenceParameters(parameters.unbonding_blocks, parameters.unbonding_seconds * 10**9, EVIDENCE_BYTES),
        ("ed25519",),
        PROTOCOL,
    )


def _updates(seats: Sequence[SeatUpdate]) -> tuple[abci.ValidatorUpdate, ...]:
    return tuple(abci.ValidatorUpdate(one.public, one.power) for one in seats)


def _parts(metadata: bytes) -> tuple[Header, Manifest]:
    value = codec.decode(metadata, limit=1 << 24)
    if type(value) is not list or [type(one) for one in value] != [bytes, bytes]:
        raise Malformed("what belongs to a snapshot is a list of a header and a manifest")
    return decode_header(value[0]), decode_manifest(value[1])
