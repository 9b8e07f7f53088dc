"""A disk that damages what it keeps: the seat fetches it again, and does its part in the same round."""

import pytest

from fedmeta.govern.state.records import Attestation
from fedmeta.node.simulated.disk import _BLOBS
from fedmeta.node.simulated.world import World
from tests.node.simulated.test_federation import reached


def damaged(world, host, wanted):
    """Change a bit of those of a host's blobs whose file's name has some word in it; return how many there were."""
    found = [name for name in host.disk.device.sizes(_BLOBS) if wanted in name and name.endswith("~data")]
    for name in found:
        host.disk.device.damage(_BLOBS / name, 0)
    return len(found)


@pytest.mark.parametrize("what", ["update", "model"])
def test_a_seat_whose_disk_damages_what_it_holds_opens_a_result_of_the_same_round(what):
    world = World(seed=4)
    host = world.hosts["s0"]
    reached(world, "compute")
    assert damaged(world, host, what)
    assert world.run(lambda: world.round.number > 2 or world.round.settled)
    opened = {one.candidate for one in world.ledger.state.where(Attestation, "round", 2) if one.revealed}
    assert "s0" in opened
