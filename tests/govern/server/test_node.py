import asyncio
from contextlib import contextmanager

import pytest

from fedmeta.govern.engines.embedded import EmbeddedEngine
from fedmeta.govern.server.limits import Limits
from fedmeta.govern.server.making import Sequencing
from fedmeta.govern.server.node import Node
from tests.govern.playing import TIME, federation, key

SECOND = 10**9
YEAR = 365 * 24 * 3_600 * SECOND


class Clocks:
    """What a node's clocks say: the wall clock can be set, the other only goes on."""

    def __init__(self):
        self.wall = TIME * 10**6
        self.monotonic = 12_345

    def sleep(self, seconds):
        self.wall += seconds * SECOND
        self.monotonic += seconds * SECOND


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "ledger.db"
    EmbeddedEngine.create(path, federation(), key("sequencer")).close()
    return path


@contextmanager
def running(path, clocks):
    """Open a ledger for a node of these clocks."""
    with EmbeddedEngine.open(path, key("sequencer")) as engine:
        maker = Sequencing(engine, wall=lambda: clocks.wall, monotonic=lambda: clocks.monotonic)
        node = Node(engine, Limits(), maker)
        try:
            yield node
        finally:
            node.close()


def times(path, clocks, jumps):
    """Let a node make a block after each second and jump; return their times, from the genesis on."""
    with running(path, clocks) as node:
        found = []
        for jump in jumps:
            clocks.sleep(1)
            clocks.wall += jump
            assert asyncio.run(node.maker.produce(node, True))
            found.append(node.engine.time - TIME)
        return found


def test_a_wall_clock_that_jumps_a_year_ahead_makes_blocks_a_tenth_faster_until_a_restart_believes_it(path):
    clocks = Clocks()
    assert times(path, clocks, [0, 0, YEAR, 0, 0]) == [1_000, 2_000, 3_100, 4_200, 5_300]
    ahead = YEAR // 10**6
    assert times(path, clocks, [0, 0, -YEAR]) == [ahead + 6_000, ahead + 7_000, ahead + 7_900]


def test_a_wall_clock_that_jumps_a_year_back_makes_blocks_a_tenth_slower_also_after_a_restart(path):
    clocks = Clocks()
    assert times(path, clocks, [0, 0, -YEAR, 0, 0]) == [1_000, 2_000, 2_900, 3_800, 4_700]
    clocks.monotonic = 0
    assert times(path, clocks, [0, 0, YEAR, 0]) == [4_700, 5_600, 6_700, 7_800]


def test_the_time_until_a_block_is_made_counts_whole(path):
    clocks = Clocks()
    with running(path, clocks) as node:
        assert asyncio.run(node.maker.produce(node, True))
        clocks.wall += YEAR
        for _ in range(10):
            clocks.sleep(1)
            assert node.maker._make(False) is None
        assert asyncio.run(node.maker.produce(node, True))
        assert node.engine.time - TIME == 11_000
