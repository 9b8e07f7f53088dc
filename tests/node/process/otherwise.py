"""Nodes that do otherwise than they should, as what starts them: `python -m tests.node.process.otherwise KIND ...`.

Each is the real node with a part of its core replaced; what replaces it is named as the kind. `recording` is honest,
and writes down what it computes from.
"""

import sys
from dataclasses import replace
from pathlib import Path

import tests
from fedmeta.govern.wire import codec
from fedmeta.govern.wire import transactions as tx
from fedmeta.govern.wire.signatures import tagged
from fedmeta.node.process import apart, core, duties, supervisor
from fedmeta.node.process.moves import own_name
from fedmeta.node.reducer import contributor, seat
from fedmeta.node.reducer.actions import Aggregate, Submit

_aggregate = duties.Duties.aggregate


def recording(arguments):
    """Keep the updates, with their salts, from which each result is computed."""

    async def aggregate(self, duty):
        found = await _aggregate(self, duty)
        view = self._desk.view
        plains = [self._store.read(own_name(view.updates[one].origin, one)) for one in duty.members]
        (self._desk.folder.core / f"record-{duty.round}-{duty.attempt}").write_bytes(codec.encode(plains))
        return found

    duties.DONE_BY[Aggregate] = aggregate
    return core.serve(arguments)


async def _false_result(self, duty):
    result, scores, salt = await _aggregate(self, duty)
    return tagged("another", result), scores, salt


def lying(arguments):
    """Commit to another result than what comes out, and open it whatever the others say."""

    def reveal(memory, view, round):
        promise = memory.results.get((round.number, round.attempt))
        mine = view.attestations.get(view.me)
        if promise is not None and mine is not None and not mine.revealed:
            body = tx.Reveal(round.number, round.attempt, promise.result, promise.scores, promise.salt)
            yield ("reveal", round.number, round.attempt), Submit(body)

    duties.DONE_BY[Aggregate] = _false_result
    seat._reveal = reveal
    return core.serve(arguments)


def withholding(arguments):
    """Commit to another result than what comes out, and never open it."""
    duties.DONE_BY[Aggregate] = _false_result
    seat._reveal = lambda memory, view, round: iter(())
    return core.serve(arguments)


def pretending(arguments):
    """Say at once that all updates are held, and hold none."""

    def hold(memory, view, round):
        if view.me not in view.holds:
            yield ("hold", round.number), Submit(tx.Hold(round.number, round.attempt, tuple(sorted(view.updates))))

    seat._hold = hold
    return core.serve(arguments)


def silent(arguments):
    """Commit to an update, and bring it to nobody."""
    contributor._deliver = lambda memory, view, round: iter(())
    return core.serve(arguments)


def late(arguments):
    """Bring the update only when three quarters of the window for it are over."""
    deliver = contributor._deliver

    def later(memory, view, round):
        if 4 * (view.height - round.opened) >= 3 * (view.closes - round.opened):
            yield from deliver(memory, view, round)

    contributor._deliver = later
    return core.serve(arguments)


def main():
    kind = sys.argv.pop(1)
    supervisor.CORE = f"tests.node.process.otherwise:{kind}"
    wall = apart.core_wall

    def wider(config):
        found = wall(config)
        return replace(found, readable=(*found.readable, str(Path(tests.__file__).parent)))

    apart.core_wall = wider
    from fedmeta.cli import main as command

    command()


if __name__ == "__main__":
    main()
