"""When a node may be shut down: not while it holds a seat of a live round or of a term, or owes an update."""

from fedmeta.node.process.leaving import standing
from fedmeta.node.simulated.world import World


def reached(world, phase):
    assert world.run(lambda: world.round is not None and world.round.phase == phase)
    return world.round.number


def duties(world, name):
    return standing(world.ledger.state, name).duties


def over(world):
    """Let the world go on until the latest round is over: with the same block the next one is scheduled."""
    number = world.round.number
    assert world.run(lambda: world.round.number > number)


def test_a_seat_of_a_live_round_and_of_a_term_begun_or_not_must_go_on():
    world = World(seed=3)
    number = reached(world, "deliver")
    assert duties(world, "s0") == (
        f"it holds a seat of round {number}, which is in its phase deliver",
        f"it has committed to an update in round {number}, which the seats must have",
        "it holds a seat of term 1, which ends at height 10,000",
        "it holds a seat of term 2, which has not begun",
    )


def test_a_contributor_must_go_on_until_its_round_is_over():
    world = World(seed=3)
    number = reached(world, "reveal")
    assert duties(world, "c0") == (f"it has committed to an update in round {number}, which the seats must have",)
    over(world)
    assert duties(world, "c0") == ()


def test_what_is_at_stake_and_owed_is_said():
    world = World(seed=3)
    reached(world, "commit")
    over(world)
    found = standing(world.ledger.state, "s1")
    assert found.height == world.ledger.height
    assert "it stands for election, and may be elected again: `--candidate` ends that" in found.stakes
    assert "10,007 units are staked on s1: `fedmeta ledger stake undelegate` takes them back" in found.stakes
    assert any("are owed to it" in one for one in found.stakes)
    assert not any("staked" in one or "election" in one for one in standing(world.ledger.state, "c0").stakes)
