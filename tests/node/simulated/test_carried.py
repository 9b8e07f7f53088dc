"""Commitments that a void round leaves over: who has made them keeps what opens them for as long as they may stand."""

from fedmeta.govern.state.records import Update
from fedmeta.node.simulated.world import World
from tests.node.simulated.test_federation import reached, rounds_final


def over(world, number):
    """Let the world go on until a round is void."""
    assert world.run(lambda: world.round.number > number or bool(world.round.settled), 2_000_000)
    found = next(one for one in world.ledger.state.all(type(world.round)) if one.number == number)
    assert found.phase == "void"


def carried(world):
    """Return whether a commitment of the first round stands in the present one."""
    found = world.ledger.state.get(Update, world.round.number, "c0")
    return found is not None and found.origin == 1 < world.round.number


def test_a_commitment_of_a_round_that_nobody_saw_can_stand_again_two_rounds_later():
    world = World(seed=6)
    seats, late = [world.hosts[one] for one in world.seats], world.hosts["c0"]
    reached(world, "deliver", 1)
    for host in (*seats, late):
        host.kill()
    over(world, 1)
    for host in seats:
        host.begin()
    # The second round goes on without the one, and is void after updates were seen.
    reached(world, "compute", 2)
    assert world.ledger.state.get(Update, 2, "c0") is None
    late.begin()
    for host in seats[:2]:
        host.kill()
    over(world, 2)
    for host in seats[:2]:
        host.begin()
    assert world.run(lambda: carried(world), 2_000_000)
    assert world.run(rounds_final(world, 1), 2_000_000)
    assert not late.halted
    assert "c0" in world.finals[-1].members


def test_what_a_void_round_left_over_reaches_a_seat_that_has_lost_its_disk():
    """A seat withholds, a contributor is gone for good, and the round's three attempts before came to nothing."""
    world = World(seed=6, bad={"s2": ("withhold",)})
    reached(world, "compute", 1)
    for attempt in (1, 2, 3):
        due = 1, attempt, "compute"
        assert world.run(lambda due=due: (world.round.number, world.round.attempt, world.round.phase) == due, 3_000_000)
        for name in ("s0", "s1"):
            world.hosts[name].kill()
        assert world.run(lambda due=due: (world.round.number, world.round.attempt) > due[:2], 3_000_000)
        for name in ("s0", "s1"):
            world.hosts[name].begin()
    world.hosts["c0"].kill()
    world.hosts["c0"].halted = "gone for good"
    world.hosts["s3"].lose()
    world.hosts["s3"].recover()
    assert world.run(lambda: any("c0" in one.members for one in world.finals), 1_000_000)
