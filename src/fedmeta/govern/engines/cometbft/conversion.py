"""Between the messages of `schema.proto` and the plain values of `abci`: a row for each method of a `Handler`."""

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp

from fedmeta.govern.engines.cometbft import abci
from fedmeta.govern.engines.cometbft import schema_pb2 as pb
from fedmeta.govern.errors import Malformed

SECOND = 1_000_000_000
"""Nanoseconds."""

_CHECKS = frozenset(pb.RequestCheckTx.Type.values())


class Method(NamedTuple):
    """How a method's request is read, into the handler's arguments, and its answer written."""

    read: Callable[[Any], tuple[Any, ...]]
    write: Callable[[Any], Any]


def nanoseconds(time: Timestamp | Duration) -> int:
    """Return a time since 1970, or a duration, as whole nanoseconds.

    Raises:
        Malformed: the nanoseconds beside the seconds are a second or more.
    """
    if abs(time.nanos) >= SECOND:
        raise Malformed(f"a time has {time.nanos} nanoseconds beside its seconds, but a second has {SECOND}")
    return time.seconds * SECOND + time.nanos


def _bytes_of_key(key: pb.PublicKey) -> bytes:
    kind = key.WhichOneof("sum")
    if kind != "ed25519":
        raise Malformed(f"a validator's key is of the kind {kind}, but only ed25519 is used")
    return key.ed25519


def _read_updates(updates: Iterable[pb.ValidatorUpdate]) -> tuple[abci.ValidatorUpdate, ...]:
    return tuple(abci.ValidatorUpdate(_bytes_of_key(one.pub_key), one.power) for one in updates)


def _write_updates(updates: Iterable[abci.ValidatorUpdate]) -> list[pb.ValidatorUpdate]:
    return [pb.ValidatorUpdate(pub_key=pb.PublicKey(ed25519=one.public_key), power=one.power) for one in updates]


def _read_parameters(parameters: pb.ConsensusParams) -> abci.ConsensusParameters:
    block, evidence = parameters.block, parameters.evidence
    has = parameters.HasField
    return abci.ConsensusParameters(
        block=abci.BlockParameters(block.max_bytes, block.max_gas) if has("block") else None,
        evidence=abci.EvidenceParameters(
            evidence.max_age_num_blocks, nanoseconds(evidence.max_age_duration), evidence.max_bytes
        )
        if has("evidence")
        else None,
        key_types=tuple(parameters.validator.pub_key_types) if has("validator") else None,
        app_version=parameters.version.app if has("version") else None,
    )


def _write_parameters(parameters: abci.ConsensusParameters | None) -> pb.ConsensusParams | None:
    if parameters is None:
        return None
    block, evidence, key_types, app_version = parameters
    return pb.ConsensusParams(
        block=block and pb.BlockParams(max_bytes=block.max_bytes, max_gas=block.max_gas),
        evidence=evidence
        and pb.EvidenceParams(
            max_age_num_blocks=evidence.max_age_blocks,
            max_age_duration=Duration(seconds=evidence.max_age // SECOND, nanos=evidence.max_age % SECOND),
            max_bytes=evidence.max_bytes,
        ),
        validator=None if key_types is None else pb.ValidatorParams(pub_key_types=key_types),
        version=None if app_version is None else pb.VersionParams(app=app_version),
    )


def _read_validator(validator: pb.Validator) -> abci.Validator:
    return abci.Validator(validator.address, validator.power)


def _read_commit(commit: pb.CommitInfo | pb.ExtendedCommitInfo) -> abci.LastCommit:
    votes = (abci.Vote(_read_validator(one.validator), abci.VoteFlag(one.block_id_flag)) for one in commit.votes)
    return abci.LastCommit(commit.round, tuple(votes))


def _read_misbehaviour(faults: Iterable[pb.Misbehavior]) -> tuple[abci.Misbehaviour, ...]:
    return tuple(
        abci.Misbehaviour(
            kind=abci.Fault(one.type),
            validator=_read_validator(one.validator),
            height=one.height,
            time=nanoseconds(one.time),
            total_power=one.total_voting_power,
        )
        for one in faults
    )


def _read_info(asked: pb.RequestInfo) -> tuple[abci.InfoRequest]:
    return (abci.InfoRequest(asked.version, asked.block_version, asked.p2p_version, asked.abci_version),)


def _write_info(answer: abci.InfoAnswer) -> pb.ResponseInfo:
    return pb.ResponseInfo(
        data=answer.data,
        version=answer.version,
        app_version=answer.app_version,
        last_block_height=answer.height,
        last_block_app_hash=answer.app_hash,
    )


def _read_chain(asked: pb.RequestInitChain) -> tuple[abci.ChainRequest]:
    request = abci.ChainRequest(
        time=nanoseconds(asked.time),
        chain_id=asked.chain_id,
        parameters=_read_parameters(asked.consensus_params),
        validators=_read_updates(asked.validators),
        app_state=asked.app_state_bytes,
        initial_height=asked.initial_height,
    )
    return (request,)


def _write_chain(answer: abci.ChainAnswer) -> pb.ResponseInitChain:
    return pb.ResponseInitChain(
        consensus_params=_write_parameters(answer.parameters),
        validators=_write_updates(answer.validators),
        app_hash=answer.app_hash,
    )


def _read_check(asked: pb.RequestCheckTx) -> tuple[bytes, bool]:
    way = asked.type
    if way not in _CHECKS:
        raise Malformed(f"a transaction is checked in the way {way}, but there are 0 (new) and 1 (recheck)")
    return asked.tx, way == pb.RequestCheckTx.RECHECK


def _write_result(result: abci.TxResult) -> pb.TxResult:
    code, data, log, info, codespace = result
    return pb.TxResult(code=code, data=data, log=log, info=info, codespace=codespace)


# Most results are the same, and messages are copied into the one that they are a part of.
_shared_result = lru_cache(maxsize=64)(_write_result)


@lru_cache(maxsize=64)
def _checked(result: abci.TxResult) -> bytes:
    """Return the encoded answer to a check, which is most of what is asked."""
    return pb.Response(check_tx=_write_result(result)).SerializeToString()


def _read_query(asked: pb.RequestQuery) -> tuple[abci.QueryRequest]:
    return (abci.QueryRequest(path=asked.path, data=asked.data, height=asked.height, prove=asked.prove),)


def _write_query(answer: abci.QueryAnswer) -> pb.ResponseQuery:
    steps = [pb.ProofOp(type=one.kind, key=one.key, data=one.data) for one in answer.proof]
    return pb.ResponseQuery(
        code=answer.code,
        log=answer.log,
        info=answer.info,
        key=answer.key,
        value=answer.value,
        proof_ops=pb.ProofOps(ops=steps) if steps else None,
        height=answer.height,
        codespace=answer.codespace,
    )


def _read_proposal(asked: pb.RequestPrepareProposal) -> tuple[abci.ProposalRequest]:
    request = abci.ProposalRequest(
        max_bytes=asked.max_tx_bytes,
        transactions=tuple(asked.txs),
        last_commit=_read_commit(asked.local_last_commit),
        misbehaviour=_read_misbehaviour(asked.misbehavior),
        height=asked.height,
        time=nanoseconds(asked.time),
        next_validators_hash=asked.next_validators_hash,
        proposer=asked.proposer_address,
    )
    return (request,)


def _read_block(asked: pb.RequestBlock) -> tuple[abci.BlockRequest]:
    request = abci.BlockRequest(
        transactions=tuple(asked.txs),
        last_commit=_read_commit(asked.last_commit),
        misbehaviour=_read_misbehaviour(asked.misbehavior),
        hash=asked.hash,
        height=asked.height,
        time=nanoseconds(asked.time),
        next_validators_hash=asked.next_validators_hash,
        proposer=asked.proposer_address,
    )
    return (request,)


def _write_verdict(accepted: bool) -> pb.ResponseProcessProposal:
    return pb.ResponseProcessProposal(status=pb.VERDICT_ACCEPT if accepted else pb.VERDICT_REJECT)


def _write_block(answer: abci.BlockAnswer) -> pb.ResponseFinalizeBlock:
    return pb.ResponseFinalizeBlock(
        tx_results=map(_shared_result, answer.results),
        validator_updates=_write_updates(answer.validators),
        consensus_param_updates=_write_parameters(answer.parameters),
        app_hash=answer.app_hash,
    )


def _write_snapshots(snapshots: Sequence[abci.Snapshot]) -> pb.ResponseListSnapshots:
    return pb.ResponseListSnapshots(snapshots=[pb.Snapshot(**one._asdict()) for one in snapshots])


def _read_offer(asked: pb.RequestOfferSnapshot) -> tuple[abci.Snapshot, bytes]:
    one = asked.snapshot
    return abci.Snapshot(one.height, one.format, one.chunks, one.hash, one.metadata), asked.app_hash


def _write_chunk_answer(answer: abci.ChunkAnswer) -> pb.ResponseApplySnapshotChunk:
    return pb.ResponseApplySnapshotChunk(
        result=answer.result.name, refetch_chunks=answer.refetch, reject_senders=answer.reject_senders
    )


METHODS = {
    "info": Method(_read_info, _write_info),
    "init_chain": Method(_read_chain, _write_chain),
    "query": Method(_read_query, _write_query),
    "check_tx": Method(_read_check, _write_result),
    "commit": Method(lambda asked: (), lambda retain: pb.ResponseCommit(retain_height=retain)),
    "list_snapshots": Method(lambda asked: (), _write_snapshots),
    "offer_snapshot": Method(_read_offer, lambda offer: pb.ResponseOfferSnapshot(result=offer.name)),
    "load_snapshot_chunk": Method(
        lambda asked: (asked.height, asked.format, asked.chunk), lambda chunk: pb.ResponseLoadSnapshotChunk(chunk=chunk)
    ),
    "apply_snapshot_chunk": Method(lambda asked: (asked.index, asked.chunk, asked.sender), _write_chunk_answer),
    "prepare_proposal": Method(_read_proposal, lambda chosen: pb.ResponsePrepareProposal(txs=chosen)),
    "process_proposal": Method(_read_block, _write_verdict),
    "finalize_block": Method(_read_block, _write_block),
}
"""By a method of `Handler`, which is a kind of request and of answer as well."""

UNASKED = {
    "echo": lambda asked: asked,
    "flush": lambda asked: asked,
    "extend_vote": lambda asked: pb.ResponseExtendVote(),
    "verify_vote_extension": lambda asked: pb.ResponseVerifyVoteExtension(status=pb.VERDICT_ACCEPT),
}
"""What is answered without a handler; votes have no extensions, so that the last two are never asked."""


def read_request(encoded: bytes) -> tuple[str, tuple[Any, ...]]:
    """Return a request's kind, and the arguments of the method of that name; of an unasked kind, its message.

    Raises:
        Malformed: the bytes are not a request of a kind that ABCI 2.0 has.
    """
    request = pb.Request()
    try:
        request.ParseFromString(encoded)
    except DecodeError as error:
        raise Malformed(f"{len(encoded)} bytes are not a request of ABCI: {error}") from error
    kind = request.WhichOneof("value")
    if kind is None:
        raise Malformed(f"a request of {len(encoded)} bytes is of no kind that ABCI 2.0 has")
    body = getattr(request, kind)
    if kind in UNASKED:
        return kind, (body,)
    try:
        return kind, METHODS[kind].read(body)
    except ValueError as error:
        raise Malformed(f"a request {kind}: {error}") from error


def answer(handler: abci.Handler, kind: str, arguments: tuple[Any, ...]) -> bytes:
    """Ask a handler what `read_request` gave, and return its encoded answer; raises what the handler raises."""
    if kind == "check_tx":
        return _checked(handler.check_tx(*arguments))
    body = UNASKED[kind](*arguments) if kind in UNASKED else METHODS[kind].write(getattr(handler, kind)(*arguments))
    return pb.Response(**{kind: body}).SerializeToString()


def exception(error: Exception) -> bytes:
    """Return the answer that ends CometBFT, which logs it."""
    text = f"{type(error).__name__}: {error}".encode("utf-8", "replace").decode("utf-8")
    return pb.Response(exception=pb.ResponseException(error=text)).SerializeToString()
