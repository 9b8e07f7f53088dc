"""A federation in one process: a clock that jumps from event to event, a network, disks and machines that fail by seed.

The same seed gives the same run, event for event. After every event some things are checked which must always hold;
they are in `World.check`.
"""

import hashlib
import heapq
import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from fedmeta.govern.state.records import Fault, Member, Recipe, Round, Update
from fedmeta.govern.views.invariants import check_invariants
from fedmeta.govern.wire import transactions as tx
from fedmeta.node.errors import DiskError, MessageRefused
from fedmeta.node.reducer.actions import Action
from fedmeta.node.reducer.promises import ResultPromise, SealPromise, UpdatePromise
from fedmeta.node.simulated.host import Host, Parcel
from fedmeta.node.simulated.ledger import RECIPE, SimulatedLedger, genesis_of, key_of
from fedmeta.node.simulated.work import Numbers, Work
from fedmeta.node.wire.chunks import Blob

BLOCK = 1_000
"""Milliseconds from one block to the next."""

TICK = 500
"""Milliseconds from one look at the clock to the next."""


class Violation(AssertionError):
    """What must never be, has been."""


class World:
    """Members, the ledger between them, and what lies between all of these.

    Args:
        seed: Decides everything that is drawn.
        seats: How many super nodes there are; their powers differ a little.
        others: How many contributors hold no seat.
        bad: How members break the protocol, by name: see `Host`.
        work: What is computed.
    """

    def __init__(
        self,
        seed: int,
        seats: int = 4,
        others: int = 2,
        bad: dict[str, Sequence[str]] | None = None,
        work: Work | None = None,
        **parameters: int,
    ):
        self._random = random.Random(seed)
        self.work = work or Numbers()
        self.seats = [f"s{at}" for at in range(seats)]
        self.names = [*self.seats, *(f"c{at}" for at in range(others))]
        first = self.work.initial()
        self.truth: dict[bytes, bytes] = {Blob.of(first).id: first}
        """The models that honest work gives, by digest."""
        self.ledger = SimulatedLedger(genesis_of(self.seats, self.names, Blob.of(first).id, **parameters))
        self.now = 0
        self._queue: list[tuple[int, int, Callable[[], None]]] = []
        self._order = 0
        self.closed: set[tuple[str, str]] = set()
        """Directions in which nothing passes: from, to."""
        self.loss = self.corruption = self.repeats = 0.0
        self.latency = 20
        self.slow: dict[str, int] = {}
        """Milliseconds that all that goes to or from a member takes longer."""
        bad = bad or {}
        self.dishonest = frozenset(bad)
        self.hosts = {name: Host(self, name, frozenset(bad.get(name, ()))) for name in self.names}
        self.sent: Counter[str] = Counter()
        """How many updates each member has sent: pushed, or given to one that pulls."""
        self.happened: Counter[str] = Counter()
        """How often each kind of fault was there."""
        self._settled = 0
        self._digest = hashlib.sha256()
        for host in self.hosts.values():
            host.disk.open()
            host.disk.write(f"model/{Blob.of(first).id.hex()}", first)
            host.disk.end(None)
            self.after(self.jitter(50), host.begin)
        self.after(BLOCK, self._block)
        self.after(TICK, self._tick)

    # Time.

    def after(self, delay: int, what: Callable[[], None]) -> None:
        """Do something after so many milliseconds."""
        self._order += 1
        heapq.heappush(self._queue, (self.now + max(0, delay), self._order, what))

    def run(self, until: Callable[[], bool], most: int = 300_000) -> bool:
        """Let events happen until something holds, or until so many milliseconds have passed; return whether it did."""
        end = self.now + most
        while not until():
            if self.now > end or not self._queue:
                return False
            self.now, _, what = heapq.heappop(self._queue)
            what()
        return True

    def _block(self) -> None:
        if self.ledger.produce(self.now):
            self.check()
            for host in self.hosts.values():
                self.after(self.jitter(self.latency) + self.slow.get(host.name, 0), host.learn)
        self.after(BLOCK, self._block)

    def _tick(self) -> None:
        for host in self.hosts.values():
            host.tick()
            host.learn()
        self.after(TICK, self._tick)

    # Chance.

    def draw(self) -> int:
        """Return 64 bits of chance."""
        return self._random.getrandbits(64)

    def jitter(self, middle: int) -> int:
        """Return about so many milliseconds: from half to twice."""
        return int(middle * 2 ** self._random.uniform(-1, 1))

    def chance(self, probability: float) -> bool:
        """Return whether something of this probability comes to pass; draws nothing where it cannot."""
        return probability > 0 and self._random.random() < probability

    def count(self, action: Action) -> None:
        """Note an action in the trace."""
        self._digest.update(f"{self.now} {action}".encode())

    @property
    def trace(self) -> str:
        """A digest of all actions so far."""
        return self._digest.hexdigest()

    # The network.

    def open(self, source: str, target: str, both: bool = False) -> bool:
        """Return whether bytes pass from one to another, and back if that matters."""
        there = (source, target) not in self.closed
        return there and (not both or (target, source) not in self.closed)

    def transfer(
        self, sender: Host, target: Host, size: int, deliver: Callable[[], Any], answer: Callable[[Any], None]
    ) -> None:
        """Bring bytes to another's gate; the answer may be lost although they came, and they may come twice."""
        delay = self.jitter(self.latency) + self.slow.get(sender.name, 0) + self.slow.get(target.name, 0) + size // 1000
        begun = sender.memory.start

        def arrive() -> None:
            if not self.open(sender.name, target.name) or self.chance(self.loss):
                self.after(2_000, lambda: back(DiskError(f"{target.name} does not answer")))
                return
            if not target.running and not target.gate_up:
                back(DiskError(f"{target.name} is down"))
                return
            result = deliver()
            if self.chance(self.repeats):
                self.happened["repeated"] += 1
                self.after(self.jitter(500), deliver)
            if not self.open(target.name, sender.name) or self.chance(self.loss):
                self.happened["answer lost"] += 1
                self.after(2_000, lambda: back(DiskError(f"the answer of {target.name} is lost")))
                return
            self.after(delay, lambda: back(result))

        def back(result: Any) -> None:
            if sender.running and sender.memory.start == begun:
                answer(result)
            elif sender.running:
                # To an earlier start: it must be ignored.
                self.happened["answer to an earlier start"] += 1
                answer(result)

        self.after(delay, arrive)

    def on_wire(self, parcel: Parcel) -> Parcel | None:
        """Return what a parcel has become on its way; a damaged chunk is noticed by its hash, and is None."""
        if self.chance(self.corruption):
            self.happened["damaged on the wire"] += 1
            return None
        return parcel

    def send_transaction(self, sender: Host, raw: bytes, answer: Callable[[Any], None] | None) -> None:
        """Send a transaction to the ledger; it may be taken although no answer comes."""
        answer = answer or (lambda result: None)
        delay = self.jitter(self.latency) + self.slow.get(sender.name, 0)

        def arrive() -> None:
            if not self.ledger.up or not self.open(sender.name, "ledger") or self.chance(self.loss):
                self.after(2_000, lambda: answer(DiskError("the ledger does not answer")))
                return
            refusal = self.ledger.submit(raw)
            if not self.open("ledger", sender.name) or self.chance(self.loss):
                self.happened["unknown fate"] += 1
                self.after(2_000, lambda: answer(DiskError("the answer of the ledger is lost")))
                return
            self.after(delay, lambda: answer(DiskError(str(refusal)) if refusal else None))

        self.after(delay, arrive)

    def by_account(self, sender: Host, body: object, answer: Callable[[Any], None] | None = None) -> None:
        """Send a transaction that the member's account signs, with the number that is due."""
        member = self.ledger.state.get(Member, sender.name)
        assert member is not None
        key = key_of(sender.name)
        raw = tx.sign(key, self.ledger.name, sender.name, member.sequence, body)
        self.send_transaction(sender, raw, answer)

    @property
    def first_seat(self) -> str:
        """The seat that a contributor brings its update to which brings it to one alone."""
        return self.seats[0]

    # What must always hold.

    def said(self, host: Host, body: object) -> None:
        """Note what a member signs: of what there may be one, there is one, and it was promised on the disk before."""
        promises = host.disk.promises()
        found: Any = body
        if isinstance(body, tx.CommitUpdate):
            key, word = ("commit", found.round, host.generation), found.digest
            kept = any(isinstance(one, UpdatePromise) and one.round == found.round for one in promises)
        elif isinstance(body, tx.Seal):
            key, word = ("seal", found.round, host.generation), found.header
            kept = SealPromise(found.round, found.header) in promises
        elif isinstance(body, tx.Attest):
            key, word = ("attest", found.round, found.attempt, host.generation), found.commitment
            at = found.round, found.attempt
            kept = any(isinstance(one, ResultPromise) and (one.round, one.attempt) == at for one in promises)
        else:
            return
        if not kept:
            raise Violation(f"{host.name} says {body} and has not promised it on its disk")
        if host.said.setdefault(key, word) != word:
            raise Violation(f"{host.name} says {body}, and has said {host.said[key].hex()} before")

    def check(self) -> None:
        """Check the ledger after a block: final models are what honest work gives, and no honest stake is lost."""
        state = self.ledger.state
        if self.ledger.height % 16 == 0:
            check_invariants(state)
        for fault in state.all(Fault):
            if fault.offender not in self.dishonest:
                raise Violation(f"{fault.offender}, who is honest, is slashed: {fault}")
        for round in state.all(Round):
            if round.number <= self._settled or not round.settled:
                continue
            self._settled = round.number
            if round.phase == "final":
                self._check_final(round)

    def _check_final(self, round: Round) -> None:
        messages = []
        for member in round.members:
            content = self._content(round, member)
            messages.append(content)
        expected = self.work.aggregate(self.truth[round.model], messages)
        if Blob.of(expected).id != round.result:
            raise Violation(f"round {round.number} is final with a model that honest work does not give")
        self.truth[round.result] = expected

    def _content(self, round: Round, member: str) -> bytes:
        """Return the update of a member that is in, as any machine has it."""
        for host in self.hosts.values():
            for origin in range(round.number, 0, -1):
                try:
                    data = host.disk.peek(f"update/{origin}/{member}")
                except DiskError:
                    continue
                parcel = Parcel.decode(data)
                update = self._commitment(round, member)
                due = tx.update_digest(self.ledger.name, update.origin, member, parcel.salt, Blob.of(parcel.content).id)
                if due == update.digest:
                    try:
                        self.work.check(parcel.content)
                    except MessageRefused as error:
                        raise Violation(f"the update of {member} is in, and is not well formed: {error}") from error
                    return parcel.content
        raise Violation(f"the update of {member} is in, and nobody has it")

    def _commitment(self, round: Round, member: str) -> Update:
        return self.ledger.state.need(Update, round.number, member)

    # What is asked of it.

    @property
    def model(self) -> bytes:
        """The latest model's digest."""
        return self.ledger.state.need(Recipe, RECIPE).model

    @property
    def finals(self) -> list[Round]:
        """The rounds that are final and not forgotten."""
        return [one for one in self.ledger.state.all(Round) if one.phase == "final"]

    @property
    def round(self) -> Round | None:
        """The latest round."""
        rounds = self.ledger.state.all(Round)
        return rounds[-1] if rounds else None
