"""What waits for a block: each transaction is executed after those that came before it."""

from collections import Counter

from fedmeta.govern.errors import Refused, WrongProtocol
from fedmeta.govern.machine.execute import attempt, begin, counted
from fedmeta.govern.rules.context import Context
from fedmeta.govern.state.state import State
from fedmeta.govern.wire.block import Block


class Pool:
    """The transactions that passed, in order, and the state after them; one thread at a time.

    They are executed upon the state of the last block; or, from `ahead` on, upon that of a block which is likely to be
    decided next. What was executed upon it need not be executed again once it is.
    """

    def __init__(self, base: State):
        self.restart(base)

    def restart(self, base: State) -> None:
        """Forget all that waits, and go on upon this state."""
        self._base = base
        self._context: Context | None = None
        """The block after the base, with what has passed; None before the first one is checked."""
        self._counts: Counter[str] = Counter()
        """How many of those in the context count as each member's."""
        self._passed: dict[bytes, None] = {}
        self._refused: dict[bytes, Refused] = {}
        """Those among the ones that passed which a rule refuses upon this base."""
        self._expected: frozenset[bytes] = frozenset()
        """The transactions of the block that is likely to be decided."""
        self._due: list[bytes] | None = None
        """Once such a block is decided: what the engine will check again, in this order, unless it has left."""
        self._place = 0
        """Up to where it has."""

    def check(self, raw: bytes) -> Refused | None:
        """Return why a transaction cannot wait, or None, and let it wait."""
        if self._due is not None:
            self._settle()
        if raw in self._expected and raw not in self._passed:
            # It comes late, and has its turn in that block. If another one is decided, it waits as all others do.
            self._passed[raw] = None
            return None
        return self._execute(raw)

    def check_again(self, raw: bytes) -> Refused | None:
        """Return why a transaction that waits cannot wait any longer after the last block, or None."""
        if self._due is None:
            return self.check(raw)
        if self._place < len(self._due) and self._due[self._place] == raw:
            self._place += 1
            return self._refused.get(raw)
        self._settle()
        return self._execute(raw)

    def ahead(self, block: Block, state: State) -> None:
        """Go on upon the state of a block that is likely to be decided, or is."""
        if state is self._base:
            return
        if self._due is not None:
            self._settle()
        self._base, self._expected, self._context = state, frozenset(block.transactions), None

    def committed(self, block: Block, state: State, folded: State) -> None:
        """Go on after a block, whose state was folded; what the engine does not check again then has left."""
        if self._context is None or self._base is not state:
            self.restart(folded)
            return
        self._context.draft.follow(folded)
        self._base, self._expected = folded, frozenset()
        for raw in block.transactions:
            self._passed.pop(raw, None)
        self._due, self._place = list(self._passed), 0

    def _settle(self) -> None:
        """Let go what was refused, and what the engine has not checked again."""
        due, self._due = self._due or [], None
        if self._place < len(due):
            # Some that passed have left the engine's pool: the others are executed without them.
            self._context = None
        self._passed = dict.fromkeys(raw for raw in due[: self._place] if raw not in self._refused)
        self._refused = {}

    def _execute(self, raw: bytes) -> Refused | None:
        try:
            context = self._begun()
        except WrongProtocol as error:
            return Refused("wrong-protocol", str(error))
        refusal = self._attempt(context, raw)
        if refusal is None:
            self._passed[raw] = None
            self._refused.pop(raw, None)
        return refusal

    def _begun(self) -> Context:
        """Return the context; raises `WrongProtocol`."""
        if self._context is None:
            base = self._base
            context = begin(base, Block(base.height + 1, base.time))
            self._counts.clear()
            found = ((raw, self._attempt(context, raw)) for raw in self._passed if raw not in self._expected)
            self._refused = {raw: refusal for raw, refusal in found if refusal is not None}
            self._context = context
        return self._context

    def _attempt(self, context: Context, raw: bytes) -> Refused | None:
        member, most = counted(raw), context.parameters.member_transactions
        if member and self._counts[member] >= most:
            return Refused("limit-reached", f"{most} transactions of {member} wait for a block: no more fit in one")
        refusal = attempt(context, 0, raw)
        if refusal is None and member:
            self._counts[member] += 1
        # Nobody is told what has not happened yet.
        context.events.clear()
        return refusal
