"""The report of a consortium as one HTML file that needs no other, from what was compared and what a federation did."""

from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from fedmeta._extras import need
from fedmeta._files import write_atomically
from fedmeta.consortium import flamby, pictures, said
from fedmeta.consortium.federation import FederationPart, Round
from fedmeta.consortium.methods import HEADLINE
from fedmeta.consortium.results import Comparison, Figures, Planted, Row, Table
from fedmeta.consortium.scores import DASH, Interval

AUROC = ("auroc", "AUROC")
ACCURACY = ("accuracy", "Accuracy in %")
MORE = (
    ("balanced_accuracy", "Balanced accuracy in %"),
    ("brier", "Brier score (less is better)"),
    ("calibration_error", "Calibration error in % (less is better)"),
)


class Line(NamedTuple):
    """A row of a table: a title with what it is about, cells of a value and something small below, and a kind."""

    title: str
    about: str
    cells: Sequence[tuple[str, str]]
    kind: str = ""


class Shown(NamedTuple):
    """A table of the page: its caption, headings, rows, a note below, and whether its cells are words."""

    caption: str
    heads: Sequence[str]
    rows: Sequence[Line]
    note: str = ""
    words: bool = False


def write_report(
    path: Path, found: Comparison, federation: FederationPart | None = None, command: str | None = None
) -> None:
    """Write the report.

    Args:
        path: the file.
        found: what was compared.
        federation: what a federation of real processes did, if there was one.
        command: the command that repeats it.

    Raises:
        MissingPackage: the extra `reports` is not installed; nothing is written.
    """
    write_atomically(path, html(found, federation, command).encode(errors="replace"))


def html(found: Comparison, federation: FederationPart | None = None, command: str | None = None) -> str:
    """Return the report as a page; see `write_report`."""
    jinja2 = need("jinja2", "a report")
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("fedmeta.consortium", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("consortium.html.jinja").render(_content(found, federation, command))


def _content(found: Comparison, federation: FederationPart | None, command: str | None) -> dict[str, Any]:
    titles = said.titles(found)
    return {
        "title": "What four hospitals gain by learning one diagnosis model together",
        "warning": found.warning,
        "lead": said.lead(found),
        "advice": said.ADVICE,
        "hospitals": _hospitals(found),
        "goals": found.goals,
        "kinds": [(pictures.swatch(pictures.KINDS[kind]), words) for kind, words in said.KINDS.items()],
        "members": _members(found, titles),
        "newcomer": _newcomer(found, titles),
        "federation": None if federation is None else _federation(federation, titles),
        "planted": None if found.planted is None else _planted(found.planted, titles),
        "flamby": None if found.flamby is None else _flamby(found.flamby, titles),
        "limits": said.limits(found),
        "repeat": said.repeat(found),
        "command": command,
        "version": version("fedmeta"),
        "source": found.source,
    }


def _hospitals(found: Comparison) -> Shown:
    rows = [
        Line(
            one.title,
            f"no value: {said.gaps(one)}",
            [
                (str(one.patients), ""),
                (str(one.ill), ""),
                (str(one.patients - one.ill), ""),
                (f"{100 * one.ill / one.patients:.0f} %", ""),
            ],
        )
        for one in found.hospitals
    ]
    return Shown("The hospitals and their patients", ("", "patients", "ill", "healthy", "share ill"), rows)


def cell(metric: str, figure: Interval) -> tuple[str, str]:
    """Return a figure and its interval as text: shares in per cent, AUROC and Brier score as they are."""
    shown = (lambda one: f"{one:.3f}") if metric in ("auroc", "brier") else (lambda one: f"{100 * one:.1f}")
    return _with_interval(shown, figure)


def _with_interval(shown: Callable[[float], str], figure: Interval) -> tuple[str, str]:
    if figure.value != figure.value:
        return DASH, ""
    known = figure.low == figure.low and figure.high == figure.high
    return shown(figure.value), f"{shown(figure.low)} to {shown(figure.high)}" if known else ""


def _row(row: Row, metric: str, places: Sequence[Figures]) -> Line:
    kind = "headline" if row.name == HEADLINE else ""
    return Line(row.title, row.about, [cell(metric, one[metric]) for one in places], kind)


def _by_hospital(table: Table, titles: Mapping[str, str], metric: str, caption: str, note: str = "") -> Shown:
    rows = [_row(row, metric, [*(row.hospitals[name] for name in titles), row.mean]) for row in table.rows]
    return Shown(caption, ("", *titles.values(), "mean of the four"), rows, note)


def _members(found: Comparison, titles: Mapping[str, str]) -> dict[str, Any]:
    table = found.members
    drawn = [
        (
            f"{title}: accuracy in %",
            pictures.dots(table, name, "accuracy", said.picture(table, name, title, "accuracy")),
        )
        for name, title in titles.items()
    ]
    for metric, words in (("accuracy", "accuracy in %"), ("auroc", "AUROC in %")):
        title = said.picture(table, None, "Mean of the four", metric)
        drawn.append((f"Mean of the four: {words}", pictures.dots(table, None, metric, title)))
    tables = [_by_hospital(table, titles, metric, f"{words} of the members") for metric, words in (ACCURACY, AUROC)]
    return {
        "text": said.members(found),
        "pictures": drawn,
        "tables": [_with_shares(tables[0], found), tables[1]],
        "more": [_by_hospital(table, titles, metric, words) for metric, words in MORE],
    }


def _with_shares(table: Shown, found: Comparison) -> Shown:
    """Return a table of accuracies with the share that is ill as its first row."""
    shares = [one.ill / one.patients for one in found.hospitals]
    cells = [(f"{100 * share:.1f}", "") for share in (*shares, sum(shares) / len(shares))]
    first = Line("Share that is ill", "what an answer of “ill” to all would give", cells, "beside")
    return table._replace(rows=[first, *table.rows])


def _newcomer(found: Comparison, titles: Mapping[str, str]) -> dict[str, Any]:
    tables = found.newcomer
    reference = tables[10].reference
    lines = {
        reference: pictures.KINDS["alone"],
        "others": pictures.KINDS["pooled"],
        "fedavg-meta": pictures.SECOND,
        HEADLINE: pictures.KINDS["federated"],
    }

    def points(metric: str, hospital: str | None) -> dict[str, dict[int, Interval]]:
        def figures(row: Row) -> Figures:
            return row.mean if hospital is None else row.hospitals[hospital]

        return {name: {size: figures(table[name])[metric] for size, table in tables.items()} for name in lines}

    drawn = []
    for hospital, title in ((None, "Mean of the four"), *titles.items()):
        for metric, words in (("accuracy", "accuracy in %"), ("auroc", "AUROC")):
            some = points(metric, hospital)
            spoken = said.curves(title, words, {tables[10][name].title: one for name, one in some.items()})
            drawn.append((f"{title}: {words}", pictures.curves(some, lines, spoken, metric == "accuracy")))
    sizes = list(tables)

    def by_size(metric: str, caption: str) -> Shown:
        rows = [_row(row, metric, [tables[size][row.name].mean for size in sizes]) for row in tables[sizes[0]].rows]
        return Shown(caption, ("", *(f"{size} patients" for size in sizes)), rows)

    return {
        "text": said.newcomer(found),
        "legend": [(pictures.swatch(line), tables[10][name].title) for name, line in lines.items()],
        "pictures": drawn,
        "tables": [
            by_size("accuracy", "Accuracy of the newcomer in %, mean of the four"),
            by_size("auroc", "AUROC of the newcomer, mean of the four"),
            _with_shares(
                _by_hospital(
                    tables[10], titles, "accuracy", "Accuracy in %, each hospital as a newcomer with 10 patients"
                ),
                found,
            ),
            _by_hospital(tables[10], titles, "auroc", "AUROC, each hospital as a newcomer with 10 patients"),
        ],
        "more": [by_size(metric, f"{words}, mean of the four") for metric, words in MORE],
    }


def _planted(found: Planted, titles: Mapping[str, str]) -> dict[str, Any]:
    rows = []
    for one in found.cases:
        cells = [cell("share", figure) for figure in (one.paid, one.left_out, one.shapley)]
        least = cell("share", one.hospitals[one.least])
        rows.append(
            Line(
                one.title,
                one.kind,
                [*cells, (f"{100 * one.beside:.1f}", ""), (f"{least[0]} ({titles[one.least]})", least[1])],
                "beside" if one.kind == "honest" else "",
            )
        )
    heads = (
        "it sends",
        "it is paid",
        "by leave-one-out",
        "by Shapley of whole updates",
        "a hospital",
        "the least paid",
    )
    shown = Shown("Shares of the contributors' pool in %", heads, rows)
    return {"text": said.planted(found), "earned": said.earned(found), "table": shown}


def _flamby(table: Table, titles: Mapping[str, str]) -> dict[str, Any]:
    own = [_row(row, "accuracy", [*(row.hospitals[name] for name in titles), row.mean]) for row in table.rows]
    theirs = [
        Line(name, "", [(f"{some[place]:.1f}", "") for place in (*titles, "mean")], "beside")
        for name, some in flamby.PUBLISHED.items()
    ]
    shown = Shown("Accuracy in %", ("", *titles.values(), "mean of the four"), [*own, *theirs], flamby.SOURCE + ".")
    return {"text": flamby.PROTOCOL, "table": shown}


def _federation(part: FederationPart, titles: Mapping[str, str]) -> dict[str, Any]:
    def named(members: Sequence[str]) -> str:
        return ", ".join(titles.get(one, one) for one in members) or DASH

    rounds = [
        Line(
            f"Round {one.number}",
            one.note,
            [
                (one.outcome, f"{one.attempts} attempts" if one.attempts > 1 else ""),
                _seconds(one),
                (named(one.included), ""),
                (named(one.late), ""),
                (named(one.faulty), ""),
                (f"{one.model[:8]}…" if one.model else DASH, ""),
            ],
        )
        for one in part.rounds
    ]
    payments = [
        Line(
            titles.get(one.member, one.member),
            "",
            [(f"{number:,}", "") for number in (one.contributing, one.duties, one.contributing + one.duties, one.lost)],
        )
        for one in part.payments
    ]
    sent = [
        Line(
            titles.get(one.member, one.member),
            one.note,
            [
                (f"{one.messages:,}", ""),
                (f"{one.outbox:,}", ", ".join(f"{name} {count:,}" for name, count in one.kinds.items())),
                ("not captured" if one.wire is None else f"{one.wire:,}", ""),
                ({True: "yes", False: "NO", None: "not looked at"}[one.agrees], ""),
            ],
        )
        for one in part.sent
    ]
    faults = [
        Line(f"Round {one.round}", "", [(titles.get(one.member, one.member), ""), (one.played, ""), (one.outcome, "")])
        for one in part.faults
    ]
    heads = ("", "outcome", "seconds", "in", "late or not in", "faulty", "next model")
    return {
        "text": said.federation(part),
        "rounds": Shown("Rounds", heads, rounds, words=True),
        "faults": Shown("Faults that were played", ("", "who", "what", "what came of it"), faults, words=True)
        if faults
        else None,
        "payments": Shown(
            "What each was paid, in the ledger's units",
            ("", "for contributing", "for duties", "in all", "stake lost"),
            payments,
            said.PAYMENTS,
        ),
        "explained": part.explained,
        "explained_title": part.explained_title,
        "sent": Shown(
            "What left each hospital, in bytes",
            ("", "messages", "by its outbox", "on the wire", "they agree"),
            sent,
            said.SENT,
            words=True,
        ),
    }


def _seconds(one: Round) -> tuple[str, str]:
    """Return how long a round took, and each of its phases."""
    if not one.phases:
        return DASH, ""
    whole = sum(phase.seconds for phase in one.phases)
    return f"{whole:.1f}", ", ".join(f"{phase.name} {phase.seconds:.1f}" for phase in one.phases)
