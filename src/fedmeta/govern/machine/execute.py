"""The state machine: `execute(state, block)` gives the next state, what happened, and the hash of the next state."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

from fedmeta.govern.errors import InvalidBlock, Refused
from fedmeta.govern.machine.signature_cache import SignatureCache
from fedmeta.govern.rules import candidates, challenges, election, evidence, members, proposals, rounds, stake
from fedmeta.govern.rules.context import Context
from fedmeta.govern.state.records import Chain
from fedmeta.govern.state.state import State
from fedmeta.govern.wire import transactions as tx
from fedmeta.govern.wire.block import Block
from fedmeta.govern.wire.events import BlockEnding, Event, TransactionApplied, TransactionRefused
from fedmeta.govern.wire.signatures import digest, verify

RULES: dict[type, Callable[[Context, str, Any], None]] = {
    tx.RotateKey: members.rotate_key,
    tx.SetProfile: members.set_profile,
    tx.Leave: members.leave,
    tx.Register: candidates.register,
    tx.SetCommission: candidates.set_commission,
    tx.Retire: candidates.retire,
    tx.Unjail: candidates.unjail,
    tx.Bond: stake.bond,
    tx.Delegate: stake.delegate,
    tx.Redelegate: stake.redelegate,
    tx.Undelegate: stake.undelegate,
    tx.CancelUnbonding: stake.cancel_unbonding,
    tx.Claim: stake.claim,
    tx.OpenRound: rounds.open_round,
    tx.CommitUpdate: rounds.commit_update,
    tx.PostManifest: rounds.post_manifest,
    tx.Attest: rounds.attest,
    tx.Reveal: rounds.reveal,
    tx.ReportManifests: evidence.report_manifests,
    tx.ReportLeftOut: evidence.report_left_out,
    tx.OpenChallenge: challenges.open_challenge,
    tx.Judge: challenges.judge,
    tx.Propose: proposals.propose,
    tx.CastVote: proposals.cast_vote,
}
"""What each transaction does, given the context, the signer's name and the body; a refusal undoes what it wrote."""

ENDINGS: tuple[Callable[[Context], None], ...] = (
    rounds.end_block,
    challenges.end_block,
    stake.end_block,
    proposals.end_block,
    election.end_block,
)
"""What each block does after its transactions, in this order.

Slashes come before stake that has been on its way out is paid, and before the election's snapshot.
"""


class Execution(NamedTuple):
    """What a block gave."""

    state: State
    events: tuple[Event, ...]
    app_hash: bytes


def execute(state: State, block: Block) -> Execution:
    """Return the state after a block, its events and its hash; `state` itself stays as it was.

    A transaction that is refused changes nothing, its sequence number included, and leaves an event with its code.

    Raises:
        InvalidBlock: the height is not the next one, or the time goes back.
    """
    context = begin(state, block.height, block.time)
    for index, raw in enumerate(block.transactions):
        attempt(context, index, raw)
    return end(context)


def begin(state: State, height: int, time: int) -> Context:
    """Return the context of the next block, before its first transaction; raises `InvalidBlock` as `execute` does."""
    chain = state.need(Chain)
    if height != chain.height + 1:
        raise InvalidBlock(f"the block's height is {height}: it must be {chain.height + 1}")
    if time < chain.time:
        raise InvalidBlock(f"the block's time is {time}: it must not be before {chain.time}, the last block's")
    context = Context(state, height, time)
    context.change_chain(height=height, time=time)
    return context


def end(context: Context) -> Execution:
    """Do what each block does after its transactions, and return what the block gave."""
    context.emit(BlockEnding(context.height))
    for ending in ENDINGS:
        ending(context)
    after = context.draft.finish()
    return Execution(after, tuple(context.events), after.root)


def attempt(context: Context, index: int, raw: bytes) -> Refused | None:
    """Apply one transaction to the context; a refusal leaves only its event, and is returned."""
    mark, said = context.draft.mark(), len(context.events)
    try:
        signed = authenticate(context, raw)
        context.emit(TransactionApplied(index, signed.digest, signed.member, signed.kind))
        RULES[type(signed.body)](context, signed.member, signed.body)
    except Refused as refusal:
        context.draft.undo(mark)
        del context.events[said:]
        context.emit(TransactionRefused(index, digest(raw), refusal.code))
        return refusal
    return None


def authenticate(context: Context, raw: bytes) -> tx.Signed:
    """Return the transaction if it is well formed, for this chain, next in its member's order and signed; count it."""
    largest = context.parameters.max_transaction_bytes
    if len(raw) > largest:
        raise Refused("too-large", f"the transaction has {len(raw)} bytes: at most {largest} are allowed")
    signed, right = _seen.get(raw) or (tx.decode(raw), b"")
    chain_id = context.chain.chain_id
    if signed.chain_id != chain_id:
        raise Refused("wrong-chain", f"the transaction is for chain {signed.chain_id[:64]!r}: this is {chain_id!r}")
    member = context.active_member(signed.member)
    check_sequence(signed, member.sequence)
    public = members.key_at(member, context.height)
    if public != right:
        if not verify(public, signed.message, signed.signature):
            raise Refused("bad-signature", f"the signature is not by the present key of {member.name}")
        _seen.put(raw, signed, public)
    context.draft.put(replace(member, sequence=member.sequence + 1))
    return signed


def check_sequence(signed: tx.Signed, expected: int) -> None:
    """Refuse a sequence number that is not the next one."""
    if signed.sequence < expected:
        raise Refused(
            "stale-sequence", f"sequence {signed.sequence} of {signed.member} was used: the next is {expected}"
        )
    if signed.sequence > expected:
        raise Refused(
            "future-sequence", f"sequence {signed.sequence} of {signed.member} is ahead: the next is {expected}"
        )


_seen = SignatureCache()
