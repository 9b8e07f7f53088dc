"""A federation of real processes, of which some are killed, vanish or lie: it goes on, and what is final is right."""

import pytest

from fedmeta.govern.state.records import Candidate, Fault, Registration
from fedmeta.node.wire.chunks import CHUNK
from tests.examples import in_soak
from tests.node.process.federations import federation, kill_ledger, procedure

PHASES = ("commit", "deliver", "compute", "reveal")


@in_soak
def test_with_a_seat_killed_and_started_again_rounds_go_on():
    """Four members, each with a seat."""
    with federation(seats=4, others=0, kinds={"b": "recording"}) as found:
        found.begin()
        found.more_finals(1)
        found.kill("a")
        found.start("a")
        found.more_finals(1, includes="a")
        found.check()


@pytest.fixture(scope="module")
def whole():
    """Four seats and two contributors; `b` writes down what it computes from."""
    with federation(seats=4, others=2, kinds={"b": "recording"}) as found:
        found.begin()
        found.more_finals(1)
        yield found


@pytest.fixture
def running(whole):
    """The same with every member at work as it should be, whatever became of the test before."""
    wrong = [name for name, one in whole.hosts.items() if one.process is None or name in set(whole.kinds) - {"b"}]
    for name in wrong:
        restarted(whole, name, "")
    for name in wrong:
        whole.more_finals(1, includes=name)
    return whole


@in_soak
@pytest.mark.parametrize("phase", PHASES)
def test_a_seat_killed_in_any_phase_comes_back_and_breaks_no_promise(running, phase):
    killed = running.kill_in("a", phase)
    running.start("a")
    running.more_finals(2, includes="a")
    assert running.settled[killed.number].round.phase in ("final", "void")
    running.check()


@in_soak
@pytest.mark.parametrize("phase", PHASES)
def test_without_a_killed_seat_the_others_finish_the_round(running, phase):
    killed = running.kill_in("a", phase)
    # Each phase now waits for a until its window is over.
    running.more_finals(2, 300)
    assert killed.number in running.settled
    running.check()


@in_soak
def test_the_ledger_killed_and_started_again_goes_on_with_the_same_nodes(running):
    for phase in PHASES:
        running.until(lambda view, phase=phase: view.live and view.live.phase == phase, f"a round is in {phase}")
        pids = {name: one.process.pid for name, one in running.hosts.items()}
        height = running.follower.height
        kill_ledger(running)
        running.start_ledger()
        running.more_finals(1)
        assert running.follower.height > height
        assert pids == {name: one.process.pid for name, one in running.hosts.items()}
        assert all(one.process.poll() is None for one in running.hosts.values())
    running.check()


def restarted(found, name, kind):
    """Start a member's node again, as another kind."""
    found.kill(name)
    if kind:
        found.kinds[name] = kind
    else:
        found.kinds.pop(name, None)
    found.start(name)


@in_soak
def test_a_contributor_that_vanishes_after_its_commit_is_left_out_and_registers_again(running):
    restarted(running, "e", "silent")
    view = running.until(lambda view: "e" in view.updates and view.live, "e has committed")
    running.kill("e")
    number = view.round.number
    running.until(lambda _: number in running.settled, f"round {number} is over")
    one = running.settled[number]
    assert (one.round.phase, "e" in one.updates, "e" in one.round.members) == ("final", True, False)
    assert len(one.round.members) >= 3

    def registered():
        return [one.active for one in running.follower.state.all(Registration) if one.member == "e"]

    assert registered() == [False]
    restarted(running, "e", "")
    running.until(lambda _: registered() == [True], "e has registered again by itself")
    running.more_finals(2, includes="e")
    running.check()


@in_soak
def test_what_is_brought_late_is_in_as_long_as_the_window_is_open(running):
    restarted(running, "e", "late")
    found = running.more_finals(1, includes="e")
    number = found[-1].round.number
    heights = [height for height, at in running.phases.items() if at == (number, "deliver")]
    assert len(heights) > 20, "the others waited for it"
    restarted(running, "e", "")
    running.more_finals(1, includes="e")
    running.check()


@in_soak
@pytest.mark.parametrize("kind", ["withholding", "pretending", "lying"])
def test_one_of_four_seats_cannot_make_a_wrong_result_final(running, kind):
    """In this order: who opens a wrong result is jailed."""
    before = _bonded(running)
    restarted(running, "d", kind)
    running.until(
        lambda view: "d" in (view.attestations if kind != "pretending" else view.holds), "d has done what it does"
    )
    if kind == "lying":
        running.until(lambda _: running.follower.state.all(Fault), "the wrong result is found")
    running.more_finals(2, 300)
    running.check(dishonest={"d"} if kind == "lying" else ())
    after = _bonded(running)
    assert {name for name in before if after[name] < before[name]} == ({"d"} if kind == "lying" else set())


@in_soak
def test_updates_of_many_chunks_are_in_and_a_seat_that_was_killed_catches_up():
    """1.1 million parameters: five chunks an update, thirteen a model."""
    large = procedure(model="mlp", model_options={"hidden": (1_000, 1_000)})
    windows = {f"{phase}_blocks": 400 for phase in PHASES[1:]}
    with federation(seats=4, others=1, procedure=large, parameters=windows, kinds={"b": "recording"}) as found:
        assert len(found.state) > 12 * CHUNK
        found.begin()
        found.more_finals(1, 400)
        found.kill_in("a", "deliver")
        found.start("a")
        found.more_finals(1, 600, includes="a")
        found.check()


def _bonded(found):
    """Return what is bonded to each candidate."""
    return {one.member: one.tokens for one in found.follower.state.all(Candidate)}
