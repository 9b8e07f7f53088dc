"""The course of the demonstration, played in a simulated federation: the faults come when they can be borne."""

import time
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest

from fedmeta.consortium.processes import course as courses
from fedmeta.consortium.processes import dishonest
from fedmeta.consortium.processes.accounts import rounds_of
from fedmeta.consortium.processes.board import Board
from fedmeta.consortium.processes.course import Course
from fedmeta.govern.errors import NodeError
from fedmeta.govern.state.records import Fault
from fedmeta.node.errors import MemberError
from fedmeta.node.reducer import seat
from tests.consortium.processes.played import TITLES, events, of_four


@dataclass
class Simulated:
    """A world in place of processes, as far as a course deals with them."""

    world: object
    folder: object
    done: list = field(default_factory=list)

    @property
    def hosts(self):
        return {name: SimpleNamespace(folder=self.folder / name) for name in TITLES}

    def client(self):
        raise AssertionError("its events are given one by one")

    def approve(self, name):
        self.done.append(("approve", name))

    def kill(self, name):
        self.done.append(("kill", name))
        self.world.hosts[name].kill()

    def lose_disk(self, name):
        self.done.append(("lose", name))
        self.world.hosts[name].lose()

    def recover(self, name):
        self.done.append(("recover", name))
        return SimpleNamespace(poll=lambda: 0, returncode=0)

    def start(self, name):
        self.done.append(("start", name))
        self.world.hosts[name].recover()


@pytest.fixture
def simulated(tmp_path, monkeypatch):
    """A world with the course's two members, of which the liar opens its result as the dishonest node does."""
    monkeypatch.setattr(courses, "KILLED", "s1")
    monkeypatch.setattr(courses, "LIES", "s3")
    honest = seat._reveal

    def reveal(memory, view, round):
        return (dishonest._reveal if view.me == "s3" else honest)(memory, view, round)

    monkeypatch.setattr(seat, "_reveal", reveal)
    for name in TITLES:
        (tmp_path / name / "trainer").mkdir(parents=True)
    return Simulated(of_four({"s3": ()}), tmp_path)


def play(found, course, most=400):
    """Go through a course, event by event."""
    seen, world = 0, found.world
    for _ in range(most):
        height = world.ledger.height
        assert world.run(lambda height=height: world.ledger.height > height)
        told = events(world)
        for event in told[seen:]:
            course.board.see(event, float(event.height))
            course._approve(event)
            course._play(event)
        seen = len(told)
        course._look_after_recovery()
        lies = world.round is not None and dishonest.lies(found.folder / "s3" / "trainer", world.round.number)
        world.hosts["s3"].bad = frozenset({"lie"}) if lies else frozenset()
        if course._over():
            return
    raise AssertionError(course.board.lines[-5:])


def test_one_is_killed_and_back_before_another_one_lies_and_rounds_go_on_after_that(simulated):
    course = Course(simulated, Board(TITLES), 4, True, time.monotonic())
    play(simulated, course)
    assert [what for what, _ in simulated.done] == ["kill", "lose", "recover", "start"]
    assert {name for _, name in simulated.done} == {"s1"}
    assert 1 < course.killed_in < course.recovered_in < course.lied_in == course.exposed_in
    (fault,) = simulated.world.ledger.state.all(Fault)
    assert (fault.offender, fault.round) == ("s3", course.lied_in)
    finals = {one.number: one for one in rounds_of(course.board) if one.outcome == "final"}
    assert max(finals) > course.exposed_in
    assert set(finals[course.lied_in].seats) == set(TITLES), "four seats bear one that lies, three would not"
    killed, lied = course.faults_played()
    assert (killed.round, killed.member) == (course.killed_in, "s1")
    assert f"it had its part again in round {course.recovered_in}, in full" in killed.outcome
    assert f"round {course.lied_in} became final by the result of 3 of 4 seats" in lied.outcome
    assert f"{sum(cut.amount for cut in fault.cuts):,} units of the stake behind it were slashed" in lied.outcome


def test_without_faults_it_ends_with_the_last_round(simulated):
    course = Course(simulated, Board(TITLES), 3, False, time.monotonic())
    seen = 0
    while not course._over():
        height = simulated.world.ledger.height
        assert simulated.world.run(lambda height=height: simulated.world.ledger.height > height)
        told = events(simulated.world)
        for event in told[seen:]:
            course.board.see(event, 0.0)
        seen = len(told)
    assert len(course.board.finals) == 3
    assert course.faults_played() == ()
    assert not simulated.done


def test_people_approve_once_several_have_a_seat(simulated):
    course = Course(simulated, Board(TITLES), 3, False, time.monotonic())
    started = SimpleNamespace(height=5, kind="term-started", fields={"term": 2, "ends": 10})
    alone = {"candidate": "s0", "organisation": "o", "weight": 1, "power": 1}
    for term, seats in ((2, [alone]), (3, [{**alone, "candidate": name} for name in TITLES])):
        elected = SimpleNamespace(height=1, kind="term-elected", fields={"term": term, "seats": seats, "standbys": []})
        course.board.see(elected, 0.0)
    course.board.see(started, 0.0)
    course._approve(started)
    assert not simulated.done
    started.fields["term"] = 3
    for _ in range(2):
        course.board.see(started, 0.0)
        course._approve(started)
    assert simulated.done == [("approve", name) for name in TITLES], "once each"


class Silent(Simulated):
    """A federation whose ledger tells nothing, or is gone."""

    def __init__(self, error=None):
        super().__init__(None, Path("somewhere"))
        self._error = error

    def client(self):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def events(self, from_height):
        if self._error:
            raise self._error
        return iter(())


def test_what_takes_too_long_ends_and_says_what_is_missing():
    course = Course(Silent(), Board(TITLES), 3, True, time.monotonic(), patience=0.3)
    shown = []
    with pytest.raises(MemberError, match=r"0 of 3 rounds are final after 0\.3 s: no round yet .* logs in somewhere"):
        course.run(shown.append)
    assert shown


def test_a_ledger_that_is_gone_ends_it():
    with pytest.raises(NodeError, match="gone"):
        Course(Silent(NodeError("gone")), Board(TITLES), 3, True, time.monotonic()).run(lambda _: None)


def test_a_recovery_that_fails_ends_it_and_names_its_log(simulated):
    simulated.recover = lambda name: SimpleNamespace(poll=lambda: 4, returncode=4)
    course = Course(simulated, Board(TITLES), 3, True, time.monotonic())
    with pytest.raises(MemberError, match=r"ended with 4: see .*/s1-recover.log"):
        play(simulated, course)
