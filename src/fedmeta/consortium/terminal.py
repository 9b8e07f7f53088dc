"""The report of a consortium in a terminal: the same figures and words as the page, at 60 columns and more."""

from collections.abc import Mapping, Sequence

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table as Grid

from fedmeta.consortium import flamby, said
from fedmeta.consortium.federation import FederationPart
from fedmeta.consortium.methods import HEADLINE
from fedmeta.consortium.results import Comparison, Figures, Planted, Row, Table
from fedmeta.consortium.scores import DASH, Interval


def show(console: Console, found: Comparison, federation: FederationPart | None = None) -> None:
    """Print the report.

    Args:
        console: where.
        found: what was compared.
        federation: what a federation of real processes did, if there was one.
    """
    titles = said.titles(found)
    if found.warning:
        console.print(Panel(escape(found.warning), style="bold black on bright_yellow", box=box.HEAVY))
    _say(console, said.lead(found))
    _say(console, f"This is not medical advice. {said.ADVICE}", "bold")
    _hospitals(console, found)
    _goals(console, found)
    _say(console, said.members(found))
    _by_hospital(console, found.members, titles, "accuracy", "Members: accuracy in %", found)
    _by_hospital(console, found.members, titles, "auroc", "Members: AUROC in %")
    _say(console, said.newcomer(found))
    for metric, title in (
        ("accuracy", "accuracy in %"),
        ("auroc", "AUROC in %"),
        ("brier", "100 times the Brier score (less is better)"),
    ):
        _by_size(console, found.newcomer, metric, f"Newcomer: {title}, mean of the four")
    _by_hospital(console, found.newcomer[10], titles, "accuracy", "Newcomer with 10 patients: accuracy in %", found)
    if federation is not None:
        _federation(console, federation, titles)
    if found.planted is not None:
        _planted(console, found.planted, titles)
    if found.flamby is not None:
        _say(console, flamby.PROTOCOL)
        _by_hospital(console, found.flamby, titles, "accuracy", "Beside FLamby's figures: accuracy in %", beside=True)
        _say(console, flamby.SOURCE + ".", "dim")
    console.print("\nWhat cannot be shown", style="bold")
    for line in said.limits(found):
        _say(console, f"- {line}")
    _say(console, said.repeat(found), "dim")


def _say(console: Console, text: str, style: str = "") -> None:
    console.print("\n" + text if not text.startswith("-") else text, style=style, highlight=False, markup=False)


def _grid(title: str) -> Grid:
    return Grid(
        title=escape(title),
        box=box.SIMPLE_HEAD,
        title_justify="left",
        title_style="bold",
        padding=(0, 1),
        pad_edge=False,
        collapse_padding=True,
    )


def _hospitals(console: Console, found: Comparison) -> None:
    grid = _grid("The hospitals")
    grid.add_column("", no_wrap=True)
    for head in ("patients", "ill", "healthy", "share\nill"):
        grid.add_column(head, justify="right", no_wrap=True)
    grid.add_column("no value", overflow="fold")
    for one in found.hospitals:
        share = f"{100 * one.ill / one.patients:.0f} %"
        cells = (str(one.patients), str(one.ill), str(one.patients - one.ill), share)
        grid.add_row(escape(one.title), *cells, escape(said.gaps(one)))
    console.print(grid)


def _goals(console: Console, found: Comparison) -> None:
    console.print("\nGoals", style="bold")
    for goal in found.goals:
        word = "met   " if goal.met else "MISSED"
        console.print(f"{word}  {goal.text}.", style="bold", highlight=False, markup=False)
        console.print(goal.found, style="dim", highlight=False, markup=False)


def _cell(figure: Interval, interval: bool) -> str:
    if figure.value != figure.value:
        return DASH
    text = f"{100 * figure.value:.1f}"
    if not interval or figure.low != figure.low:
        return text
    return f"{text} ({100 * figure.low:.0f}\N{EN DASH}{100 * figure.high:.0f})"


def _print(console: Console, variants: Sequence[Grid]) -> None:
    """Print the first table that fits, or the last one."""
    options = console.options.update(width=10_000)
    fitting = (grid for grid in variants if console.measure(grid, options=options).maximum <= console.width)
    console.print(next(fitting, variants[-1]))


def _by_hospital(
    console: Console,
    table: Table,
    titles: Mapping[str, str],
    metric: str,
    title: str,
    shares: Comparison | None = None,
    beside: bool = False,
) -> None:
    def grid(every: bool, mean: bool, wrapped: bool) -> Grid:
        made = _grid(title)
        made.add_column("", no_wrap=not wrapped)
        for head in (*titles.values(), "mean"):
            short = head if every else head.partition("/")[0]
            text = short.replace(" ", "\n") if wrapped else short
            made.add_column(escape(text), justify="right", no_wrap=True)
        if shares is not None:
            ill = [100 * one.ill / one.patients for one in shares.hospitals]
            made.add_row("Share that is ill", *(f"{one:.1f}" for one in (*ill, sum(ill) / len(ill))), style="dim")
        for row in table.rows:
            cells = [_cell(row.hospitals[name][metric], every) for name in titles]
            made.add_row(escape(row.title), *cells, _cell(row.mean[metric], mean), style=_style(row))
        for name, some in flamby.PUBLISHED.items() if beside else ():
            made.add_row(escape(name), *(f"{some[place]:.1f}" for place in (*titles, "mean")), style="dim")
        return made

    variants = ((True, True, False), (False, True, False), (False, False, False), (False, False, True))
    _print(console, [grid(*variant) for variant in variants])


def _by_size(console: Console, tables: Mapping[int, Table], metric: str, title: str) -> None:
    def grid(interval: bool) -> Grid:
        made = _grid(title)
        made.add_column("patients", no_wrap=True)
        for size in tables:
            made.add_column(str(size), justify="right", no_wrap=True)
        for row in next(iter(tables.values())).rows:
            figures: Sequence[Figures] = [table[row.name].mean for table in tables.values()]
            made.add_row(escape(row.title), *(_cell(one[metric], interval) for one in figures), style=_style(row))
        return made

    _print(console, [grid(interval) for interval in (True, False)])


def _planted(console: Console, found: Planted, titles: Mapping[str, str]) -> None:
    _say(console, said.planted(found))

    def grid(interval: bool, named: bool, shapley: bool) -> Grid:
        made = _grid("A fifth contributor's share of the pool, in %")
        made.add_column("it sends")
        for head in ("paid", "leave-\none-out", *(("Shapley",) if shapley else ()), "a\nhospital", "the\nleast"):
            made.add_column(head, justify="right", no_wrap=True)
        for one in found.cases:
            rules = (one.paid, one.left_out, *((one.shapley,) if shapley else ()))
            least = _cell(one.hospitals[one.least], False) + (f" {titles[one.least]}" if named else "")
            cells = (*(_cell(share, interval) for share in rules), f"{100 * one.beside:.1f}", escape(least))
            made.add_row(escape(one.title), *cells, style="dim" if one.kind == "honest" else "")
        return made

    _print(console, [grid(*variant) for variant in ((True, True, True), (False, False, True), (False, False, False))])
    for line in said.earned(found):
        _say(console, f"- {line}")


def _style(row: Row) -> str:
    return "bold" if row.name == HEADLINE else ""


def _federation(console: Console, part: FederationPart, titles: Mapping[str, str]) -> None:
    def named(members: Sequence[str]) -> str:
        return ", ".join(titles.get(one, one) for one in members) or DASH

    _say(console, said.federation(part))
    grid = _grid("Rounds")
    for head in ("round", "outcome", "seconds", "in", "late or not in", "faulty"):
        grid.add_column(head, overflow="fold")
    for one in part.rounds:
        seconds = f"{sum(phase.seconds for phase in one.phases):.1f}"
        names = (named(one.included), named(one.late), named(one.faulty))
        grid.add_row(str(one.number), escape(one.outcome), seconds, *map(escape, names))
    console.print(grid)
    for fault in part.faults:
        who = titles.get(fault.member, fault.member)
        _say(console, f"- Round {fault.round}: {who} was {fault.played}; {fault.outcome}")
    grid = _grid("Paid, in the ledger's units")
    grid.add_column("", no_wrap=True)
    for head in ("for contributing", "for duties", "in all", "stake lost"):
        grid.add_column(head, justify="right")
    for one in part.payments:
        numbers = (one.contributing, one.duties, one.contributing + one.duties, one.lost)
        grid.add_row(escape(titles.get(one.member, one.member)), *(f"{number:,}" for number in numbers))
    console.print(grid)
    _say(console, said.PAYMENTS, "dim")
    if part.explained:
        console.print(f"\nOne payment, explained: {part.explained_title}", style="bold", highlight=False, markup=False)
        console.print(part.explained, highlight=False, markup=False)
    if part.sent:
        grid = _grid("What left each hospital, in bytes")
        grid.add_column("", no_wrap=True)
        for head in ("messages", "by its outbox", "on the wire", "they agree"):
            grid.add_column(head, justify="right")
        for sent in part.sent:
            wire = "not captured" if sent.wire is None else f"{sent.wire:,}"
            agree = {True: "yes", False: "NO", None: "not looked at"}[sent.agrees]
            who = escape(titles.get(sent.member, sent.member))
            grid.add_row(who, f"{sent.messages:,}", f"{sent.outbox:,}", wire, agree)
        console.print(grid)
        _say(console, said.SENT, "dim")
