"""Rounds on the real ledger's rules, played by a simulated federation, as events that a client gives."""

from fedmeta.consortium.processes.board import Board
from fedmeta.govern.client.client import LedgerEvent
from fedmeta.govern.machine.genesis import start
from fedmeta.node.simulated.world import World

TITLES = {"s0": "Cleveland", "s1": "Budapest", "s2": "Zurich/Basel", "s3": "Long Beach"}


def plain(value):
    """Return a value as JSON has it: bytes in hex."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {name: plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return value


def events(world):
    """Return all events of a world's ledger so far, genesis first."""
    engine = world.ledger.engine
    blocks = [(0, start(engine.genesis).events)]
    blocks += [(block.height, one.events) for block, one in zip(engine.blocks, engine.results, strict=True)]
    return [LedgerEvent(height, one.kind, plain(one.fields())) for height, found in blocks for one in found]


def finals(world, count, most=300_000):
    """Let a world go on until so many rounds are final."""
    assert world.run(lambda: len(world.finals) >= count, most), world.round
    return world


def of_four(bad=None, seed=3, **parameters):
    """Return a world of four members, each with a seat."""
    return World(seed=seed, seats=4, others=0, bad=bad, **parameters)


def board_after(world):
    """Return a board that has seen all events of a world's ledger, a tenth of a second apart."""
    board = Board(TITLES)
    for number, event in enumerate(events(world)):
        board.see(event, number / 10)
    return board
