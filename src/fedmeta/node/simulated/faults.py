"""What can befall a federation: each fault is begun for a while, and healed; the run must go on then.

Every entry of `FAULTS` is a function of a world, which begins the fault at once and schedules its end. It counts itself
in `World.happened` where it has really come to pass.
"""

from collections.abc import Callable, Iterable
from random import Random

from fedmeta.node.reducer import Memory, look
from fedmeta.node.reducer.history import ADVICE, forgotten
from fedmeta.node.reducer.promises import Promise
from fedmeta.node.reducer.step import promised
from fedmeta.node.simulated.host import Host
from fedmeta.node.simulated.world import BLOCK, World

Fault = Callable[[World], None]

FAULTS: dict[str, Fault] = {}
"""Name to fault."""

LONG = 15_000
"""Milliseconds that a fault lasts, where it lasts."""


def _fault(function: Fault) -> Fault:
    FAULTS[function.__name__.replace("_", " ")] = function
    return function


def _one(world: World, names: list[str]) -> Host:
    return world.hosts[names[world.draw() % len(names)]]


def _seat(world: World) -> Host:
    return _one(world, [one for one in world.seats if one not in world.dishonest])


def _contributor(world: World) -> Host:
    others = [one for one in world.names if one not in world.seats and one not in world.dishonest]
    return _one(world, others or [one for one in world.seats if one not in world.dishonest])


def _for_a_while(world: World, name: str, begin: Callable[[], None], end: Callable[[], None], long: int = LONG) -> None:
    begin()
    world.happened[name] += 1
    world.after(world.jitter(long), end)


def _cut(world: World, name: str, ways: set[tuple[str, str]]) -> None:
    _for_a_while(world, name, lambda: world.closed.update(ways), lambda: world.closed.difference_update(ways))


@_fault
def seat_killed(world: World) -> None:
    """A super node's process ends, and is started again."""
    host = _seat(world)
    _for_a_while(world, "seat killed", host.kill, host.begin)


@_fault
def contributor_killed(world: World) -> None:
    """A contributor's process ends, and is started again."""
    host = _contributor(world)
    _for_a_while(world, "contributor killed", host.kill, host.begin)


@_fault
def everyone_killed(world: World) -> None:
    """All processes end at once, as when the power fails."""
    for host in world.hosts.values():
        _for_a_while(world, "everyone killed", host.kill, host.begin, 5_000)


@_fault
def killed_again_and_again(world: World) -> None:
    """A process is killed while it recovers, some times in a row."""
    host = _seat(world)
    for turn in range(6):
        world.after(700 * turn, host.kill)
        world.after(700 * turn + 300 + world.draw() % 300, host.begin)
    world.happened["killed again and again"] += 1


@_fault
def partition_one_way(world: World) -> None:
    """What a super node sends reaches nobody; what it is sent arrives."""
    host = _seat(world)
    ways = {(host.name, other) for other in [*world.names, "ledger"] if other != host.name}
    _cut(world, "partition one way", ways)


@_fault
def partition_other_way(world: World) -> None:
    """What a super node is sent does not arrive."""
    host = _seat(world)
    ways = {(other, host.name) for other in [*world.names, "ledger"] if other != host.name}
    _cut(world, "partition other way", ways)


@_fault
def partition_both_ways(world: World) -> None:
    """Half of the members hear nothing of the others, and do not reach the ledger."""
    half = set(world.names[::2])
    ways = {(a, b) for a in [*world.names, "ledger"] for b in [*world.names, "ledger"] if (a in half) != (b in half)}
    _cut(world, "partition both ways", ways)


@_fault
def ledger_restarted(world: World) -> None:
    """The sequencer ends with what waits for a block, and comes back."""

    def back() -> None:
        world.ledger.up = True

    _for_a_while(world, "ledger restarted", world.ledger.stop, back, 10_000)


@_fault
def messages_lost(world: World) -> None:
    """Requests and answers are lost: also of transactions, whose fate is unknown then."""

    def begin() -> None:
        world.loss = 0.3

    def end() -> None:
        world.loss = 0.0

    _for_a_while(world, "messages lost", begin, end)


@_fault
def messages_repeated(world: World) -> None:
    """What is brought comes twice, the second time later than what was sent after it."""

    def begin() -> None:
        world.repeats = 0.7

    def end() -> None:
        world.repeats = 0.0

    _for_a_while(world, "messages repeated", begin, end)


@_fault
def wire_damages(world: World) -> None:
    """Chunks come damaged."""

    def begin() -> None:
        world.corruption = 0.5

    def end() -> None:
        world.corruption = 0.0

    _for_a_while(world, "wire damages", begin, end)


@_fault
def slow_link(world: World) -> None:
    """A member's link takes seconds."""
    host = _one(world, world.names)

    def begin() -> None:
        world.slow[host.name] = 4_000

    def end() -> None:
        world.slow.pop(host.name, None)

    _for_a_while(world, "slow link", begin, end)


@_fault
def slow_disk(world: World) -> None:
    """A flush takes seconds."""
    host = _seat(world)

    def begin() -> None:
        host.disk.delay = 3_000

    def end() -> None:
        host.disk.delay = 2

    _for_a_while(world, "slow disk", begin, end)


@_fault
def full_disk(world: World) -> None:
    """Nothing more fits on a disk, but for the journal, whose place was taken before."""
    host = _seat(world)

    def begin() -> None:
        host.disk.full = True

    def end() -> None:
        host.disk.full = False

    _for_a_while(world, "full disk", begin, end)


@_fault
def failed_flush(world: World) -> None:
    """A flush of the journal fails: the node halts, and a person starts it again once the disk is well."""
    host = _seat(world)

    def begin() -> None:
        host.disk.flush_fails = True

    def end() -> None:
        host.disk.flush_fails = False
        host.kill()
        host.halted = ""
        host.begin()

    _for_a_while(world, "failed flush", begin, end)


@_fault
def torn_journal(world: World) -> None:
    """A process is killed between two of its promises, and the last one is not whole on the disk."""
    host = _seat(world)

    def tear() -> None:
        # A promise that was not flushed has not been acted on: the disk holds back what is on its way.
        host.kill()

    host.disk.delay = 1_500
    world.after(800, tear)

    def end() -> None:
        host.disk.delay = 2
        host.begin()

    world.happened["torn journal"] += 1
    world.after(world.jitter(5_000), end)


@_fault
def another_version(world: World) -> None:
    """A member runs another version for a while: what nodes say to one another passes neither way, the ledger does."""
    host = _seat(world)
    others = [one for one in world.names if one != host.name]
    ways = {(host.name, other) for other in others} | {(other, host.name) for other in others}
    _cut(world, "another version", ways)


@_fault
def blob_damaged(world: World) -> None:
    """What lies on a disk is not what was written."""
    host = _seat(world)
    world.happened["blob damaged"] += host.disk.damage(Random(world.draw()))


@_fault
def disk_lost(world: World) -> None:
    """A machine is gone with its disk: a new one comes, with the account's key and a new machine key."""
    host = _seat(world)
    host.lose()
    world.happened["disk lost"] += 1
    world.after(world.jitter(10_000), host.recover)


@_fault
def old_snapshot(world: World) -> None:
    """A machine is put back to an older state of its disk: it finds its own words on the ledger, and is recovered."""
    host = _seat(world)
    kept, promises = host.disk.device.snapshot(), host.disk.promises()

    def roll_back() -> None:
        if host.running and _is_beyond(world, host, promises):
            host.kill()
            host.disk.restore(kept)
            host.begin()
            world.happened["old snapshot"] += 1
            heal()
        elif not host.lost:
            world.after(100, roll_back)

    def heal() -> None:
        if ADVICE in host.halted:
            world.after(world.jitter(5_000), host.recover)
        elif not host.lost:
            world.after(500, heal)

    roll_back()


def _is_beyond(world: World, host: Host, promises: Iterable[Promise]) -> bool:
    """Return whether the ledger has a word of the latest round that is not among some promises of a member."""
    ledger, before = world.ledger, Memory(host.name)
    for promise in promises:
        before = promised(before, promise)
    return bool(forgotten(before, look(ledger.state, host.name, ledger.header_hash)))


@_fault
def clock_jumps(world: World) -> None:
    """The sequencer's clock jumps a day forward, and back; members' nodes go by no clock that can jump."""

    def begin() -> None:
        world.ledger.skew = 86_400_000

    def end() -> None:
        world.ledger.skew = 0

    _for_a_while(world, "clock jumps", begin, end)


@_fault
def contributor_vanishes(world: World) -> None:
    """A contributor ends as soon as it has committed to an update, and comes back much later."""
    host = _contributor(world)

    def look() -> None:
        round = world.round
        if round is not None and ("commit", round.number, host.generation) in host.said and not round.settled:
            host.kill()
            world.happened["contributor vanishes"] += 1
            world.after(world.jitter(60 * BLOCK), host.begin)
        else:
            world.after(100, look)

    look()
