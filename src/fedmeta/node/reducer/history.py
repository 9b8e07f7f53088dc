"""What the ledger has of a node's own acts, held against its journal: an old journal must not be gone on from.

A machine that is put back to an older state of its disk does not know what it has said since. Its next word may
contradict that, and cost its stake. But the ledger knows: where it shows a word of the latest round, and the journal
lacks the promise of it, the journal is an older one, or another machine signs by the same key.

What was said in earlier rounds is not looked for, and need not be: nothing is said in them any more. Nor are rounds
that were scheduled before a silence ended: `fedmeta node recover` began the journal then, and what the ledger has of
those rounds the machine before has said.
"""

from fedmeta.govern.wire import transactions as tx
from fedmeta.node.reducer.memory import Memory
from fedmeta.node.reducer.view import View

ADVICE = (
    "this is an older state of the disk, or another machine signs by this one's key: stop that one, and run `fedmeta "
    "node recover` with the account's key"
)
"""What people are to do where the journal lacks what the node has said."""


def forgotten(memory: Memory, view: View) -> str:
    """Return what the ledger shows of the node's own acts that its journal lacks, in words; empty if nothing."""
    round = view.round
    if round is None or round.scheduled < memory.silent_until:
        return ""
    what = _update(memory, view) or _seal(memory, view) or _result(memory, view)
    return f"the ledger has {what} of round {round.number} that is not in this node's journal: {ADVICE}" if what else ""


def _update(memory: Memory, view: View) -> str:
    said = view.updates.get(view.me)
    if said is None or (said.origin != said.round and memory.silent_until):
        # What a void round has left over may be the word of the machine before.
        return ""
    promise = memory.own.get(said.origin)
    if promise is not None and said.digest == tx.update_digest(
        view.genesis, said.origin, view.me, promise.salt, promise.content
    ):
        return ""
    return "an update"


def _seal(memory: Memory, view: View) -> str:
    said = view.seals.get(view.me)
    return "" if said is None or memory.seals.get(said.round) == said.header else "a seal"


def _result(memory: Memory, view: View) -> str:
    said, round = view.attestations.get(view.me), view.round
    if said is None or round is None:
        return ""
    promise = memory.results.get((round.number, round.attempt))
    if promise is not None and said.commitment == tx.commitment(
        view.genesis, round.number, round.attempt, view.me, promise.result, promise.scores, promise.salt
    ):
        return ""
    return "a result"
