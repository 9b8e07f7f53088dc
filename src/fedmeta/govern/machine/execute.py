"""The state machine: `execute(state, block)` gives the next state, what happened, and the hash of the next state."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

from fedmeta.govern.errors import InvalidBlock, Refused, WrongProtocol
from fedmeta.govern.machine.signature_cache import SignatureCache
from fedmeta.govern.rules import candidates, election, faults, members, proposals, registrations, rounds, stake
from fedmeta.govern.rules.context import Context
from fedmeta.govern.state.records import Chain
from fedmeta.govern.state.state import State
from fedmeta.govern.wire import transactions as tx
from fedmeta.govern.wire.block import Block
from fedmeta.govern.wire.event import Event
from fedmeta.govern.wire.events import BlockEnding, ProtocolChanged, TransactionApplied, TransactionRefused
from fedmeta.govern.wire.layout import replace
from fedmeta.govern.wire.signatures import digest, verify

PROTOCOL = 3
"""The version of the rules that this version of fedmeta executes.

1 had a leader in each round; in 2 the root covered the height and the time, and changed where nothing happened.
"""

RULES: dict[type, Callable[[Context, str, Any], None]] = {
    tx.RotateKey: members.rotate_key,
    tx.SetMachineKey: members.set_machine_key,
    tx.SetConsensusKey: candidates.set_consensus_key,
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
    tx.JoinRecipe: registrations.join,
    tx.LeaveRecipe: registrations.leave,
    tx.CommitUpdate: rounds.commit_update,
    tx.Seal: rounds.seal,
    tx.Hold: rounds.hold,
    tx.Attest: rounds.attest,
    tx.Reveal: rounds.reveal,
    tx.Propose: proposals.propose,
    tx.CastVote: proposals.cast_vote,
}
"""What each transaction does, given the context, the signer's name and the body; a refusal undoes what it wrote."""

ENDINGS: tuple[Callable[[Context], None], ...] = (
    rounds.end_block,
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
        InvalidBlock: the height is not the next one, or the time goes back; `WrongProtocol` if the block is executed by
            the rules of another version.
    """
    context = begin(state, block)
    for index, raw in enumerate(block.transactions, block.first):
        attempt(context, index, raw)
    return end(context)


def begin(state: State, block: Block) -> Context:
    """Return the context of a block before its first transaction; raises `InvalidBlock` as `execute` does."""
    chain, height, time = state.need(Chain), block.height, block.time
    due = state.height + 1
    # Validators leave no header of a block in which nothing happened: whoever goes by headers leaves it out as well.
    if height < due or (height > due and not chain.validators):
        raise InvalidBlock(f"the block's height is {height}: it must be {due}")
    if time < state.time:
        raise InvalidBlock(f"the block's time is {time}: it must not be before {state.time}, the last block's")
    if chain.protocol != PROTOCOL:
        raise WrongProtocol(
            f"from height {height} on the ledger is executed by protocol {chain.protocol}: this version of fedmeta "
            f"executes protocol {PROTOCOL}; install one that executes {chain.protocol}, and go on"
        )
    context = Context(state, height, time)
    for found in (*block.double_signatures, *block.attacks):
        faults.misconduct(context, found)
    faults.absences(context, block.absent)
    return context


def end(context: Context) -> Execution:
    """Do what each block does after its transactions, and return what the block gave."""
    context.emit(BlockEnding(context.height))
    for ending in ENDINGS:
        ending(context)
    _upgrade(context)
    after = context.draft.finish()
    return Execution(after, tuple(context.events), after.root)


def _upgrade(context: Context) -> None:
    chain = context.chain
    if chain.upgrade_to and context.height + 1 >= chain.upgrade_at:
        context.change_chain(protocol=chain.upgrade_to, upgrade_to=0, upgrade_at=0)
        context.emit(ProtocolChanged(chain.upgrade_to))


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
    signed, right = _read(raw)
    genesis = context.chain.genesis
    if signed.genesis != genesis:
        raise Refused(
            "wrong-chain",
            f"the transaction is for genesis {signed.genesis.hex()}: this ledger's is {genesis.hex()}",
        )
    member = context.active_member(signed.member)
    of_round = signed.kind in tx.OF_ROUNDS
    if of_round:
        keys = {members.machine_key_at(member, context.height)}
    else:
        check_sequence(signed, member.sequence)
        keys = {members.key_at(member, context.height)}
        if signed.kind in tx.BY_MACHINE:
            keys.add(members.machine_key_at(member, context.height))
    if right not in keys:
        public = next((one for one in keys if verify(one, signed.message, signed.signature)), None)
        if public is None:
            raise Refused("bad-signature", f"the signature is not by the present key of {member.name}")
        _seen.put(raw, signed, public)
    if not of_round:
        context.draft.put(replace(member, sequence=member.sequence + 1))
    return signed


def is_of_round(raw: bytes) -> bool:
    """Return whether the bytes are a part of a round: these go first in a block."""
    try:
        return _read(raw)[0].kind in tx.OF_ROUNDS
    except Refused:
        return False


def counted(raw: bytes) -> str:
    """Return the member among whose transactions of a block these bytes count; nobody's if they are part of a round."""
    try:
        signed, _ = _read(raw)
    except Refused:
        return ""
    return "" if signed.kind in tx.OF_ROUNDS else signed.member


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


def _read(raw: bytes) -> tuple[tx.Signed, bytes]:
    """Return the transaction, and the key that is known to have signed it, if any; raises `Refused`."""
    return _seen.get(raw) or (_decoded(raw), b"")


_seen = SignatureCache()
# What is looked at before its signature is checked is decoded once: it is checked next.
_decoded = lru_cache(maxsize=1)(tx.decode)
