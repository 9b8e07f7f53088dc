"""A simulated member: its disk, its gate, and the process that runs the reducer; it does what the reducer says."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from fedmeta.govern.state.records import Member
from fedmeta.govern.wire import transactions as tx
from fedmeta.govern.wire.signatures import Key, digest
from fedmeta.node.errors import BlobCorrupt, DiskError, JournalDamaged, JournalFailed, MessageRefused, NotKept
from fedmeta.node.reducer import Memory, View, learn, look, promises_of, step
from fedmeta.node.reducer.actions import (
    Action,
    Aggregate,
    Append,
    Cancel,
    Drop,
    DropModels,
    FetchModel,
    Halt,
    Pull,
    Push,
    Submit,
    Take,
    Tell,
    Train,
)
from fedmeta.node.reducer.events import (
    Approval,
    Arrived,
    Broken,
    Done,
    Event,
    Failed,
    Limits,
    Lost,
    Seen,
    Start,
    Tick,
)
from fedmeta.node.reducer.memory import NO_LIMITS
from fedmeta.node.reducer.promises import Silence, Started
from fedmeta.node.simulated.disk import SimulatedDisk
from fedmeta.node.simulated.ledger import RECIPE, key_of
from fedmeta.node.wire.chunks import Blob

JOURNAL = 12
"""Entries after which a journal is made shorter by what no longer binds: seldom in truth, and often here."""

SILENCE = 40
"""Blocks of silence after a machine was lost: longer than a transaction can be under way."""


@dataclass(frozen=True)
class Parcel:
    """An update on its way: its bytes and its salt."""

    content: bytes
    salt: bytes

    def opens(self, view: View, origin: int, member: str, commitment: bytes) -> bool:
        """Return whether it is what the member has committed to."""
        found = tx.update_digest(view.genesis, origin, member, self.salt, Blob.of(self.content).id)
        return found == commitment

    def encode(self) -> bytes:
        """Return the bytes of the file that it lies in."""
        return self.salt + self.content

    @staticmethod
    def decode(data: bytes) -> "Parcel":
        """Return the parcel of a file."""
        return Parcel(data[32:], data[:32])


@dataclass
class Host:
    """One member's machine. `bad` names how it breaks the protocol; the reducer itself is everywhere the same."""

    world: Any
    """The `World` that it is in."""
    name: str
    bad: frozenset[str] = frozenset()
    limits: Limits = NO_LIMITS
    disk: SimulatedDisk = field(default_factory=SimulatedDisk)
    gate: dict[tuple[int, str], Parcel] = field(default_factory=dict)
    """What was brought here: the gate goes on while the core is down."""
    generation: int = 0
    """Of the machine's key; 0 is the account's own."""
    running: bool = False
    gate_up: bool = True
    memory: Memory = field(init=False)
    cancelled: set[int] = field(default_factory=set)
    alarms: list[str] = field(default_factory=list)
    halted: str = ""
    lost: bool = False
    """There is no machine, or none that may be started: it must be recovered."""
    seen: int = 0
    """The height of the last block that it knows."""
    said: dict[tuple, bytes] = field(default_factory=dict)
    """What it has signed, by what there may only be one of."""

    def __post_init__(self) -> None:
        self.memory = Memory(self.name)

    @property
    def key(self) -> Key:
        """The key that signs for the machine now."""
        return key_of(self.name, self.generation)

    # Its life.

    def begin(self) -> None:
        """Start the process."""
        if self.running or self.halted or self.lost:
            return
        try:
            self.disk.open()
        except JournalDamaged as error:
            raise AssertionError(f"{self.name}: a crash has damaged the journal: {error}") from error
        except DiskError as error:
            self.halted = str(error)
            return
        started = max((one.start for one in self.disk.promises() if isinstance(one, Started)), default=0) + 1
        try:
            self.disk.append(Started(started))
        except JournalFailed as error:
            self.halted = str(error)
            return
        self.running, self.seen, self.cancelled = True, 0, set()
        names = self.disk.names()
        models = {bytes.fromhex(name[6:]) for name in names if name.startswith("model/")}
        updates = set()
        for name in names:
            if name.startswith("update/"):
                _, round, member = name.split("/")
                updates.add((int(round), member))
        self.happens(
            Start(
                start=started,
                promises=self.disk.promises(),
                models=frozenset(models),
                updates=frozenset(updates),
                approvals=(Approval(RECIPE, 32, 64),),
                limits=self.limits,
            )
        )
        for round, member in sorted(self.gate):
            self.happens(Arrived(round, member))
        self.learn()

    def kill(self) -> None:
        """End the process without warning: what is not on the disk is gone."""
        if self.running:
            # Half of the times the machine loses its power, too.
            self.disk.end(Random(self.world.draw()) if self.world.chance(0.5) else None)
        self.running = False
        self.memory = Memory(self.name)

    def lose(self) -> None:
        """Lose the machine: the disk is gone, and nothing runs until it is recovered."""
        self.kill()
        self.disk.lose()
        self.gate.clear()
        self.halted, self.lost = "", True

    def recover(self) -> None:
        """Begin anew by the account's key: a new key fences the old one, and what was said is read from the ledger.

        The journal is a new one, and says nothing until no older word can be on its way any more.
        """
        self.kill()
        self.halted, self.lost = "", True
        self.generation += 1
        self._fence()

    def _fence(self) -> None:
        """Tell the ledger the new key, until it has it; then begin."""
        ledger = self.world.ledger
        member = ledger.state.need(Member, self.name)
        if member.machine is not None and member.machine.public == self.key.public:
            try:
                self.disk.begin_anew(Silence(ledger.height + SILENCE))
            except DiskError:
                self.world.after(2_000, self._fence)
                return
            self.lost = False
            self.begin()
            return
        shown = self.key.sign(tx.possession(ledger.name, self.name, self.key.public))
        self.world.by_account(self, tx.SetMachineKey(self.key.public, shown))
        self.world.after(2_000, self._fence)

    def learn(self) -> None:
        """See the ledger as it is now, if it can be reached."""
        ledger = self.world.ledger
        if self.running and ledger.up and ledger.height > self.seen and self.world.open(self.name, "ledger", both=True):
            self.seen = ledger.height
            self.happens(Seen(look(ledger.state, self.name, ledger.header_hash)))

    def happens(self, event: Event) -> None:
        """Let the reducer know, and do what it says."""
        if not self.running:
            return
        if not isinstance(event, Start):
            self.memory = learn(self.memory, Tick(self.world.now))
        self.memory, actions = step(self.memory, event)
        for action in actions:
            self.world.count(action)
            self._do(action)

    def tick(self) -> None:
        """Let time pass."""
        if self.running:
            self.happens(Tick(self.world.now))

    # What it does.

    def _do(self, action: Action) -> None:
        start, duty = action.start, action.duty
        if isinstance(duty, Tell):
            if duty.alarm:
                self.alarms.append(duty.text)
            return
        if isinstance(duty, Halt):
            self.halted, self.running = duty.why, False
            self.disk.end(None)
            return
        if isinstance(duty, Cancel):
            self.cancelled.add(duty.number)
            return

        def answer(result: Any) -> None:
            # What was cancelled, or was begun by an earlier start, answers all the same: the reducer must not mind.
            if isinstance(result, Exception):
                final = isinstance(result, MessageRefused)
                if isinstance(result, JournalFailed):
                    self.happens(Broken(str(result)))
                else:
                    self.happens(Failed(start, action.number, str(result), final))
            else:
                self.happens(Done(start, action.number, result))

        def later(delay: int, work: Callable[[], Any]) -> None:
            """Do something after a time, if the process of today still runs then."""

            def run() -> None:
                if not self.running or self.memory.start != start:
                    return
                try:
                    result = work()
                except (DiskError, MessageRefused) as error:
                    result = error
                answer(result)

            self.world.after(delay, run)

        match duty:
            case Append():
                later(self.disk.delay, lambda: self._append(duty))
            case Submit():
                self._submit(duty, answer)
            case Train():
                later(self.world.jitter(200), lambda: self._train(duty))
            case Take():
                later(self.world.jitter(5), lambda: self._take(duty, self.gate.get((duty.origin, duty.member))))
            case Aggregate():
                later(self.world.jitter(100), lambda: self._aggregate(duty))
            case Push():
                self._push(duty, answer)
            case Pull():
                self._pull(duty, answer)
            case FetchModel():
                self._fetch(duty, answer)
            case Drop() | DropModels():
                later(1, lambda: self._forget(duty))
            case _:
                raise AssertionError(duty)

    def _append(self, duty: Append) -> None:
        if self.disk.entries > JOURNAL:
            self.disk.keep(promises_of(self.memory))
        self.disk.append(duty.promise)

    def _submit(self, duty: Submit, answer: Callable[[Any], None]) -> None:
        body: Any = duty.body
        if "withhold" in self.bad and isinstance(body, tx.Reveal):
            return
        if "phantom" in self.bad and isinstance(body, tx.Hold):
            view = self.memory.view
            assert view is not None
            body = replace(body, members=tuple(sorted(view.updates)))
        if duty.by_account:
            self.world.by_account(self, body, answer)
            return
        self.world.said(self, body)
        raw = tx.sign(self.key, self.world.ledger.name, self.name, 0, body)
        self.world.send_transaction(self, raw, answer)

    def _train(self, duty: Train) -> tuple[bytes, int, bytes]:
        model = self._model(duty.model)
        content = self.world.work.train(self.name, duty.round, model)
        for how in self.bad & set(SPOILT):
            content = SPOILT[how](content)
        salt = digest(f"salt {self.name} {duty.round} {self.world.draw()}".encode())
        self.disk.write(f"update/{duty.round}/{self.name}", Parcel(content, salt).encode())
        return Blob.of(content).id, len(content), salt

    def _take(self, duty: Take | Pull, parcel: Parcel | None) -> None:
        view = self.memory.view
        assert view is not None
        if parcel is None:
            raise MessageRefused("it is not at the gate")
        if not parcel.opens(view, duty.origin, duty.member, duty.digest):
            self.gate.pop((duty.origin, duty.member), None)
            raise MessageRefused(f"what came is not what {duty.member} has committed to")
        self.world.work.check(parcel.content)
        self.disk.write(f"update/{duty.origin}/{duty.member}", parcel.encode())

    def _aggregate(self, duty: Aggregate) -> tuple[bytes, tuple[int, ...], bytes]:
        view = self.memory.view
        assert view is not None
        model = self._model(duty.model)
        origins = [view.updates[one].origin for one in duty.members]
        messages = [self._held(*one).content for one in zip(origins, duty.members, strict=True)]
        after = self.world.work.aggregate(model, messages)
        if "lie" in self.bad:
            after = bytes([after[0] ^ 1]) + after[1:]
        self.disk.write(f"model/{Blob.of(after).id.hex()}", after)
        scores = tuple(0 if own else duty.budget for own in duty.own)
        return Blob.of(after).id, scores, digest(f"salt {self.name} {duty.round} {duty.attempt}".encode())

    def _model(self, model: bytes) -> bytes:
        """Return a model; one that the disk has damaged is fetched again."""
        try:
            return self.disk.read(f"model/{model.hex()}")
        except (BlobCorrupt, NotKept):
            self.happens(Lost(models=frozenset([model])))
            raise

    def _held(self, origin: int, member: str) -> Parcel:
        """Return an update; one that the disk has damaged is taken or fetched again."""
        try:
            return Parcel.decode(self.disk.read(f"update/{origin}/{member}"))
        except (BlobCorrupt, NotKept):
            self.happens(Lost(updates=frozenset([(origin, member)])))
            raise

    def _push(self, duty: Push, answer: Callable[[Any], None]) -> None:
        if "one-seat" in self.bad and duty.seat != self.world.first_seat:
            return
        try:
            parcel = self._held(duty.origin, self.name)
        except DiskError as error:
            failure = error
            self.world.after(1, lambda: answer(failure))
            return
        if duty.seat == self.name:
            self.gate[duty.origin, self.name] = parcel
            self.world.after(1, lambda: answer(None))
            return
        other = self.world.hosts[duty.seat]
        self.world.sent[self.name] += 1
        self.world.transfer(
            self, other, len(parcel.content), lambda: other.receive(duty.origin, self.name, parcel), answer
        )

    def receive(self, round: int, member: str, parcel: Parcel) -> Any:
        """Take an update at the gate; the same one again is nothing new."""
        parcel = self.world.on_wire(parcel)
        if parcel is None:
            return DiskError("a chunk came damaged")
        if self.gate.get((round, member)) != parcel:
            self.gate[round, member] = parcel
            self.happens(Arrived(round, member))
        return None

    def _pull(self, duty: Pull, answer: Callable[[Any], None]) -> None:
        other, found, start = self.world.hosts[duty.source], [], self.memory.start

        def fetch() -> Any:
            parcel = other.gate.get((duty.origin, duty.member))
            self.world.sent[other.name] += parcel is not None
            if parcel is None:
                return DiskError(f"there is no update of {duty.member} at the gate of {other.name}")
            found.append(parcel)
            return None

        def take(result: Any) -> None:
            # What was fetched by a process that has ended nobody keeps.
            if isinstance(result, Exception) or not found or not self.running or self.memory.start != start:
                answer(result if isinstance(result, Exception) else DiskError("nothing came"))
                return
            try:
                self._take(duty, self.world.on_wire(found[0]) or Parcel(b"damaged", bytes(32)))
                self.gate[duty.origin, duty.member] = found[0]
            except MessageRefused as error:
                answer(DiskError(str(error)) if other.name not in self.world.dishonest else error)
            except DiskError as error:
                answer(error)
            else:
                answer(None)

        self.world.transfer(self, other, 32, fetch, take)

    def _fetch(self, duty: FetchModel, answer: Callable[[Any], None]) -> None:
        sources = [one for one in duty.sources if one in self.world.hosts]
        if not sources:
            self.world.after(1, lambda: answer(DiskError("nobody to ask for the model")))
            return
        tries = self.memory.later.get(("model", 0, duty.model))
        other = self.world.hosts[sources[(tries.tries if tries else 0) % len(sources)]]
        found: list[bytes] = []
        start = self.memory.start

        def fetch() -> Any:
            try:
                found.append(other.disk.read(f"model/{duty.model.hex()}"))
            except DiskError as error:
                return error
            return None

        def keep(result: Any) -> None:
            if isinstance(result, Exception) or not found or not self.running or self.memory.start != start:
                answer(result if isinstance(result, Exception) else DiskError("nothing came"))
            elif Blob.of(found[0]).id != duty.model:
                answer(BlobCorrupt("what came is not the model"))
            else:
                try:
                    self.disk.write(f"model/{duty.model.hex()}", found[0])
                except DiskError as error:
                    answer(error)
                else:
                    answer(None)

        self.world.transfer(self, other, 64, fetch, keep)

    def _forget(self, duty: Drop | DropModels) -> None:
        names = self.disk.names()
        if isinstance(duty, DropModels):
            gone = [name for name in names if name.startswith("model/") and bytes.fromhex(name[6:]) not in duty.keep]
        else:
            rounds = [(int(name.split("/")[1]), name) for name in names if name.startswith("update/")]
            gone = [name for round, name in rounds if round < duty.before and round not in duty.keep]
            self.gate = {key: one for key, one in self.gate.items() if key[0] >= duty.before or key[0] in duty.keep}
        for name in gone:
            self.disk.delete(name)


SPOILT: dict[str, Callable[[bytes], bytes]] = {
    "flip": lambda data: bytes(255 - one for one in data),
    "short": lambda data: data[:-1],
    "long": lambda data: data + bytes(1000),
    "nan": lambda data: b"\xff\xff\xff\x7f" * (len(data) // 4),
}
"""What a dishonest contributor sends in place of its update."""
