"""The board tells what the ledger has: its rows and rounds are compared with the ledger's own state."""

import io

import pytest
from rich.console import Console

from fedmeta.consortium.processes.board import PLAYED, Board
from fedmeta.consortium.processes.live import View, board_of, picture
from fedmeta.govern.state.records import Attestation, Candidate, Fault, Hold, Round, Update
from fedmeta.govern.views.holdings import holdings
from tests.consortium.processes.played import TITLES, board_after, events, finals, of_four


def test_rounds_are_those_of_the_ledger(lied):
    board = board_after(lied)
    for one in lied.ledger.state.all(Round):
        seen = board.rounds[one.number]
        assert seen.seats == tuple(seat.candidate for seat in one.seats)
        assert set(seen.cohort) == {place.member for place in one.cohort}
        assert seen.included == one.members
        assert seen.result == one.result.hex()
        assert seen.outcome == (one.phase if one.settled else "")
        assert seen.term == one.term
        assert seen.attempts == one.attempt
        assert seen.committed == {it.member for it in lied.ledger.state.where(Update, "round", one.number)}
        opened = {
            it.candidate: it.result.hex()
            for it in lied.ledger.state.where(Attestation, "round", one.number)
            if it.revealed
        }
        assert seen.opened == opened


@pytest.mark.parametrize("phase", ["commit", "deliver", "compute", "reveal"])
def test_in_the_midst_of_a_round_rows_are_those_of_the_ledger(phase):
    world = finals(of_four(), 1)
    assert world.run(lambda: world.round.number >= 2 and world.round.phase == phase)
    # Some blocks later one has done its part, and another one has not.
    world.run(lambda: world.ledger.height % 3 == 0, 10_000)
    board, state = board_after(world), world.ledger.state
    round = world.round
    holds = {one.candidate: set(one.members) for one in state.where(Hold, "round", round.number)}
    attested = {one.candidate: one for one in state.where(Attestation, "round", round.number)}
    power = sum(seat.power for seat in round.seats)
    assert (board.phase, board.attempt) == (round.phase, round.attempt)
    for seat in round.seats:
        row = board.rows[seat.candidate]
        assert row.power == pytest.approx(seat.power / power)
        assert row.committed == (state.get(Update, round.number, row.name) is not None)
        assert row.holds == len(holds.get(row.name, ()))
        assert row.held_by == sum(row.name in held for held in holds.values())
        assert row.included == (row.name in round.members)
        assert row.computed == (row.name in attested)
        assert row.opened == (attested[row.name].result.hex() if row.name in attested else "")


def test_what_is_paid_and_lost_is_what_the_holdings_changed_by(lied):
    """All stake is the candidates' own, so that a seat's pay, its voters' part in it, is its owner's."""
    board, before = board_after(lied), of_four().ledger.state
    for name, row in board.rows.items():
        change = holdings(lied.ledger.state, name).total - holdings(before, name).total
        assert change == pytest.approx(row.contributing + row.duties - row.lost, abs=len(board.rounds))
    assert board.rows["s3"].lost == sum(cut.amount for one in lied.ledger.state.all(Fault) for cut in one.cuts) > 0


def test_a_lie_is_told_and_who_lied_is_barred(lied):
    board = board_after(lied)
    (fault,) = lied.ledger.state.all(Fault)
    assert board.rounds[fault.round].faulty == ["s3"]
    assert board.rows["s3"].jailed == lied.ledger.state.need(Candidate, "s3").jailed
    text = "\n".join(line for _, line in board.lines)
    for part in (
        f"round {fault.round}: two results are opened: ",
        f"Long Beach is exposed by a false result in round {fault.round}",
        "Long Beach is barred from seats until block",
        "the seat of Long Beach stays empty; 3 seats remain",
    ):
        assert part in text
    assert "Cleveland is exposed" not in text


def test_who_commits_and_does_not_deliver_is_told():
    world = finals(of_four(), 1)
    assert world.run(lambda: world.round.phase == "deliver")
    number = world.round.number
    world.hosts["s2"].lose()
    assert world.run(lambda: bool(world.ledger.state.need(Round, number).settled))
    board = board_after(world)
    assert "s2" not in board.rounds[number].included
    text = "\n".join(line for _, line in board.lines)
    assert f"round {number} goes on without the update of Zurich/Basel" in text
    assert "Zurich/Basel committed and did not deliver: out until it joins" in text


def shown(board, width, height):
    console = Console(width=width, height=height, file=io.StringIO(), color_system=None)
    console.print(picture(board, 9, 61.2, width, height))
    return console.file.getvalue().splitlines()


@pytest.mark.parametrize(("width", "height"), [(80, 24), (80, 50), (120, 30), (200, 60)])
def test_nothing_is_cut_off_and_all_fits_in_the_terminal(lied, width, height):
    board = board_after(lied)
    board.played(1.0, "from here on nobody lies " + "again " * 40)
    lines = shown(board, width, height)
    assert len(lines) <= height
    assert all(len(line) <= width for line in lines)
    text = "\n".join(lines)
    assert "…" not in text
    for row in board.rows.values():
        assert row.title in text
        assert f"{row.contributing + row.duties:,}" in text
    for heading in ("seat", "committed", "delivered", "holds", "computed", "opened", "paid"):
        assert heading in text


def test_the_latest_lines_are_those_that_are_shown(lied):
    board = board_after(lied)
    assert board.lines[-1][1] in " ".join(" ".join(shown(board, 80, 24)).split())


def test_where_there_is_no_terminal_each_line_is_written_once_and_whole(lied):
    console = Console(width=80, file=io.StringIO())
    board = Board(TITLES)
    with View(board, 3, console) as view:
        for number, event in enumerate(events(lied)):
            board.see(event, number / 10)
            if number % 7 == 0:
                view.show(number / 10)
        view.show(1e3)
    lines = console.file.getvalue().splitlines()
    assert lines == [f"{seconds:6.1f} s  {text}" for seconds, text in board.lines]


def test_in_a_terminal_all_lines_stand_there_at_the_end(lied):
    console = Console(width=100, file=io.StringIO(), force_terminal=True, color_system=None)
    board = board_after(lied)
    with View(board, 3, console) as view:
        view.show(1.0)
    text = " ".join(console.file.getvalue().split())
    for _, line in board.lines:
        assert " ".join(line.split()) in text or len(line) > 60
    assert text.rindex("hospital") > text.rindex("is final")


def test_of_two_results_the_one_with_less_power_stands_out(lied):
    board = Board(TITLES)
    (fault,) = lied.ledger.state.all(Fault)
    for event in events(lied):
        board.see(event, 0.0)
        if (
            event.kind == "attestation-revealed"
            and event.fields["round"] == fault.round
            and len(board.round.opened) == 4
        ):
            break
    table = board_of(board, 80)
    opened = dict(zip(TITLES, next(one for one in table.columns if one.header == "opened").cells, strict=True))
    assert "red" in opened["s3"].style
    assert all(opened[name].style == "green" for name in ("s0", "s1", "s2"))


def test_what_was_played_is_told_apart_from_what_the_ledger_tells():
    board = Board(TITLES)
    board.played(1.0, "Budapest is killed")
    assert board.lines == [(1.0, f"{PLAYED}Budapest is killed")]
