"""A federation's board in a terminal while it runs; plain lines where the output is none."""

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from fedmeta.consortium.processes.board import PHASES, PLAYED, Board, Row

WIDE = 100
"""Columns from which on the last round's pay stands beside that of all rounds."""

DONE, OPEN = "yes", "·"


class View:
    """Shows a board; a context, at whose end all that has happened stands in the terminal.

    Args:
        board: What is shown.
        wanted: Final rounds that are waited for.
        console: Where; the standard output by default.
    """

    def __init__(self, board: Board, wanted: int, console: Console | None = None):
        self.board, self.wanted = board, wanted
        self.console = console or Console()
        self._live = (
            Live(console=self.console, auto_refresh=False, transient=True) if self.console.is_terminal else None
        )
        self._printed = 0

    def __enter__(self) -> "View":
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()
            self._print()
            self.console.print(board_of(self.board, self.console.width))

    def show(self, seconds: float) -> None:
        """Show the board as it is now."""
        if self._live is None:
            self._print()
            return
        self._live.update(picture(self.board, self.wanted, seconds, *self.console.size), refresh=True)

    def _print(self) -> None:
        lines = self.board.lines[self._printed :]
        self._printed = len(self.board.lines)
        for seconds, text in lines:
            if self.console.is_terminal:
                self.console.print(said(seconds, text))
            else:
                self.console.print(f"{seconds:6.1f} s  {text}", soft_wrap=True, markup=False, highlight=False)


def picture(board: Board, wanted: int, seconds: float, width: int, height: int) -> Group:
    """Return all that is shown at once in a terminal of this size: the round, the members, and the latest lines."""
    parts = [heading(board, wanted, seconds), board_of(board, width)]
    console = Console(width=width, height=height)
    left = height - 1 - sum(len(console.render_lines(one)) for one in parts)
    lines: list[Table] = []
    for one in reversed(board.lines):
        line = said(*one)
        needs = len(console.render_lines(line))
        if needs > left:
            break
        left -= needs
        lines.insert(0, line)
    return Group(*parts, *lines)


def heading(board: Board, wanted: int, seconds: float) -> Text:
    """Return where the round stands."""
    round = board.round
    if round is None:
        text = Text(f"Term {board.term}: no round yet", style="bold")
    else:
        text = Text(f"Round {round.number}  ", style="bold")
        for phase in PHASES:
            text.append(f" {phase} ", style="reverse bold" if phase == board.phase else "dim")
        if board.attempt > 1:
            text.append(f"  attempt {board.attempt}")
    text.append(
        f"\n{len(board.finals)} of {wanted} rounds final; block {board.height:,}, term {board.term}; {seconds:.0f} s",
        style="not bold",
    )
    if board.ends:
        text.append(f"; {board.phase} until block {board.ends:,}", style="not bold")
    return text


def board_of(board: Board, width: int) -> Table:
    """Return the members' table, for a terminal of so many columns."""
    round = board.round
    committed = len(round.committed) if round else 0
    seats = len(round.seats) if round else 0
    wide = width >= WIDE
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 2 if wide else 1, 0, 0), show_edge=False)
    table.add_column("hospital", no_wrap=True)
    names = ("seat", "committed", "delivered", "holds", "computed", "opened", *(("last pay",) if wide else ()), "paid")
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    for row in board.rows.values():
        cells = _cells(row, committed, seats, board)
        table.add_row(row.title, *(cells if wide else (*cells[:-2], cells[-1])))
    return table


def _cells(row: Row, committed: int, seats: int, board: Board) -> tuple[str | Text, ...]:
    seat: str | Text = f"{row.power * 100:.0f} %" if row.seat else OPEN
    has_duty = row.seat and board.round is not None
    if row.jailed:
        seat = Text("barred", style="red")
    delivered = "in" if row.included else f"{row.held_by}/{seats}" if row.held_by else _flag(False, row.committed)
    return (
        seat,
        _flag(row.committed, row.invited),
        delivered,
        f"{row.holds}/{committed}" if row.holds else _flag(False, has_duty),
        _flag(row.computed, has_duty),
        _opened(row, board),
        f"{row.paid:,}",
        f"{row.contributing + row.duties:,}",
    )


def _flag(done: bool, due: bool) -> str:
    return DONE if done else OPEN if due else ""


def _opened(row: Row, board: Board) -> str | Text:
    if not row.opened:
        return _flag(False, row.seat and board.round is not None)
    power: dict[str, float] = {}
    for one in board.rows.values():
        if one.opened:
            power[one.opened] = power.get(one.opened, 0) + one.power
    most = max(power, key=lambda one: power[one])
    # Of two alone nobody can tell which one is right.
    return Text(row.opened[:8], style="red bold" if row.opened != most and len(power) > 1 else "green")


def said(seconds: float, text: str) -> Table:
    """Return a line of what has happened; where it is too long, it goes on under its first word."""
    line = Table.grid(padding=(0, 2, 0, 0))
    line.add_column(style="dim", no_wrap=True)
    line.add_column()
    line.add_row(f"{seconds:6.1f} s", Text(text, style="bold" if text.startswith(PLAYED) else ""))
    return line
