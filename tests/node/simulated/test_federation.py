"""A federation in one process: whatever befalls it, it goes on, and nothing wrong becomes final."""

from functools import partial
from random import Random

import pytest

from fedmeta.govern.state.records import Fault, Registration, Round
from fedmeta.govern.wire import transactions as tx
from fedmeta.node.reducer.events import Approval, Approved
from fedmeta.node.reducer.history import ADVICE
from fedmeta.node.reducer.promises import SealPromise
from fedmeta.node.simulated.faults import FAULTS
from fedmeta.node.simulated.ledger import RECIPE
from fedmeta.node.simulated.world import Violation, World
from tests.examples import cells

PHASES = ("commit", "deliver", "compute", "reveal")


def rounds_final(world, more=3):
    """Return a condition: so many more rounds are final than now."""
    due = len(world.finals) + more
    return lambda: len(world.finals) >= due


def reached(world, phase, number=2):
    """Let the world go on until a round is in a phase."""
    assert world.run(lambda: world.round is not None and world.round.number >= number and world.round.phase == phase)


def test_without_faults_every_update_is_in_every_round():
    world = World(seed=1)
    assert world.run(rounds_final(world, 4))
    assert all(one.members == tuple(sorted(world.names)) and one.attempt == 1 for one in world.finals)
    assert world.truth.keys() >= {one.result for one in world.finals}
    assert not any(host.alarms for host in world.hosts.values())


def test_the_same_seed_gives_the_same_run_and_another_one_another():
    def trace(seed):
        world = World(seed=seed)
        FAULTS["messages lost"](world)
        FAULTS["seat killed"](world)
        world.run(rounds_final(world, 3))
        return world.trace

    assert trace(5) == trace(5)
    assert trace(5) != trace(6)


def healed(world, fault):
    """Let a fault begin, and the world go on until it is healed and rounds are final again."""
    FAULTS[fault](world)
    world.run(lambda: False, 25_000)
    assert world.happened[fault], f"{fault} did not come to pass"
    assert world.run(rounds_final(world, 2)), world.round
    assert not world.ledger.state.all(Fault)


EVERY = [(name, phase) for name in sorted(FAULTS) for phase in PHASES]
SOME = [(name, PHASES[at % 4]) for at, name in enumerate(sorted(FAULTS))]


@pytest.mark.parametrize(("name", "phase"), cells(SOME[::2], EVERY))
def test_a_fault_in_each_phase_heals(name, phase):
    world = World(seed=len(name) * 7 + len(phase))
    reached(world, phase)
    healed(world, name)


@pytest.mark.parametrize("seed", cells(range(6), range(2_000)))
def test_some_faults_at_once_heal(seed):
    world = World(seed=seed, seats=7 if seed % 8 == 7 else 4)
    draw = Random(seed)
    for name in draw.sample(sorted(FAULTS), draw.randrange(1, 4)):
        world.after(draw.randrange(20_000), partial(FAULTS[name], world))
    world.run(lambda: False, 40_000)
    assert world.run(rounds_final(world, 2)), world.round
    assert not world.ledger.state.all(Fault)


@pytest.mark.parametrize("phase", PHASES)
def test_a_seat_killed_in_any_phase_changes_no_model(phase):
    plain, world = World(seed=7), World(seed=7)
    assert plain.run(rounds_final(plain, 4))
    reached(world, phase)
    host = world.hosts["s1"]
    host.kill()
    world.after(3_000, host.begin)
    assert world.run(lambda: len(world.finals) >= 4)
    both = zip(plain.finals[:4], world.finals[:4], strict=True)
    same = [one.result == other.result for one, other in both if one.members == other.members]
    assert all(same)
    assert same


@pytest.mark.parametrize("how", ["lie", "withhold", "phantom"])
@pytest.mark.parametrize(("seats", "liars"), cells([(4, 1)], [(4, 1), (7, 2)]))
def test_dishonest_seats_below_a_third_neither_win_nor_stop_it(how, seats, liars):
    bad = {f"s{at}": (how,) for at in range(liars)}
    world = World(seed=11, seats=seats, bad=bad)
    assert world.run(rounds_final(world, 4), 300_000)
    assert {one.offender for one in world.ledger.state.all(Fault)} <= set(bad)
    if how == "lie":
        assert world.ledger.state.all(Fault)


def test_one_naive_liar_and_one_that_withholds():
    world = World(seed=3, seats=7, bad={"s0": ("lie",), "s1": ("withhold", "phantom")})
    assert world.run(rounds_final(world, 4), 300_000)
    assert {one.offender for one in world.ledger.state.all(Fault)} == {"s0"}


@pytest.mark.parametrize("how", ["short", "long", "nan"])
def test_a_malformed_update_is_in_no_round_and_its_sender_is_told(how):
    world = World(seed=5, bad={"c0": (how,)})
    assert world.run(rounds_final(world, 3), 300_000)
    assert all("c0" not in one.members for one in world.finals)
    assert any("left out" in one for one in world.hosts["c0"].alarms)


def test_a_flipped_update_is_well_formed_and_counts():
    world = World(seed=5, bad={"c0": ("flip",)})
    world.run(rounds_final(world, 2))
    assert any("c0" in one.members for one in world.finals)


def test_who_delivers_to_one_seat_only_is_in_since_seats_pass_it_on():
    world = World(seed=5, bad={"c0": ("one-seat",)})
    assert world.run(rounds_final(world, 3))
    assert all("c0" in one.members for one in world.finals)


def test_who_was_left_out_registers_again_by_itself():
    world = World(seed=9)
    reached(world, "commit")
    world.hosts["c0"].kill()
    number = world.round.number
    assert world.run(lambda: world.round.number > number and world.ledger.state.need(Round, number).settled, 300_000)
    assert not world.ledger.state.need(Registration, world.ledger.state.need(Round, number).recipe, "org-c0").active
    world.hosts["c0"].begin()
    assert world.run(lambda: "c0" in (world.finals[-1].members if world.finals[-1].number > number else ()), 300_000)


def test_a_lost_machine_comes_back_under_a_new_key_and_promises_nothing_twice():
    world = World(seed=13)
    reached(world, "compute")
    host = world.hosts["s2"]
    host.lose()
    world.after(5_000, host.recover)
    assert world.run(rounds_final(world, 6), 300_000)
    assert host.generation == 1
    assert host.running
    assert world.run(lambda: "s2" in world.finals[-1].members, 300_000)


def test_a_second_word_is_found_out():
    world = World(seed=1)
    reached(world, "deliver", 1)
    assert world.run(lambda: ("seal", 1, 0) in world.hosts["s0"].said)
    host = world.hosts["s0"]
    host.disk.append(SealPromise(1, b"1" * 32))
    with pytest.raises(Violation, match="has said"):
        world.said(host, tx.Seal(1, b"1" * 32))


def test_a_word_without_a_promise_is_found_out():
    world = World(seed=1)
    with pytest.raises(Violation, match="not promised"):
        world.said(world.hosts["s0"], tx.Seal(1, bytes(32)))


@pytest.mark.parametrize("seed", range(6))
def test_a_machine_that_is_put_back_to_an_older_state_halts_and_recovers(seed):
    world = World(seed=seed)
    FAULTS["old snapshot"](world)
    assert world.run(lambda: world.happened["old snapshot"] == 1)
    assert world.run(lambda: any(one.halted for one in world.hosts.values()), 10_000)
    (host,) = [one for one in world.hosts.values() if one.halted]
    assert ADVICE in host.halted
    said = len(host.said)
    assert world.run(lambda: host.generation == 1, 60_000)
    assert len(host.said) == said, "it has said something between the halt and its recovery"
    assert world.run(lambda: host.running, 60_000)
    silent = host.memory.silent_until
    assert silent > world.ledger.height
    assert world.run(lambda: world.ledger.height >= silent, 300_000)
    assert not [one for one in host.said if one[-1] == 1]
    assert world.run(lambda: host.name in world.finals[-1].members and any(one[-1] == 1 for one in host.said), 300_000)
    assert not host.halted


def test_who_leaves_after_it_has_committed_is_still_in_that_round_and_in_none_later():
    world = World(seed=21)
    host = world.hosts["c0"]
    assert world.run(lambda: world.round is not None and ("commit", world.round.number, 0) in host.said)
    reached(world, "deliver", world.round.number)
    number = world.round.number
    host.happens(Approved(Approval(RECIPE, 32, 64, contributes=False)))
    world.by_account(host, tx.LeaveRecipe(RECIPE))
    assert world.run(rounds_final(world, 4))
    assert {one.number for one in world.finals if "c0" in one.members} == set(range(1, number + 1))
    assert not host.alarms
