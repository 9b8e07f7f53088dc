"""Write what `fedmeta consortium report` found into docs/consortium.md, between its markers.

    FEDMETA_DATA=... fedmeta consortium report --json build/bench/consortium.json
    FEDMETA_DATA=... python benchmarks/contribution.py
    python benchmarks/consortium_page.py

So no figure in a table there is typed by hand. How settings were chosen is in build/bench/consortium-settings.json, by
`benchmarks/consortium.py`.
"""

import argparse
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import fmean

from page import BLOCK

from fedmeta.consortium import flamby, methods, said
from fedmeta.consortium.results import Comparison, Figures, Row, Table
from fedmeta.consortium.scores import DASH, Interval

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "consortium.md"
WORDS = {
    "accuracy": "accuracy in %",
    "balanced_accuracy": "balanced accuracy in %",
    "auroc": "AUROC",
    "brier": "Brier score",
    "calibration_error": "calibration error in %",
}


def cell(metric: str, figure: Interval, interval: bool = True) -> str:
    """Return a figure with its interval."""
    if figure.value != figure.value:
        return DASH
    scale, places = (1, 3) if metric in ("auroc", "brier") else (100, 1)
    value, low, high = (f"{scale * one:.{places}f}" for one in figure)
    return f"{value} ({low} to {high})" if interval else value


def rows(heads: list[str], lines: list[list[str]]) -> str:
    """Return a table in Markdown."""
    return "\n".join(
        [f"| {' | '.join(heads)} |", f"|---|{'---:|' * (len(heads) - 1)}", *(f"| {' | '.join(one)} |" for one in lines)]
    )


def by_hospital(found: Comparison, table: Table, metric: str, share: bool) -> str:
    """Return one figure of all methods at each hospital, with the interval of the mean."""
    titles = said.titles(found)

    def line(row: Row) -> list[str]:
        each = [cell(metric, row.hospitals[name][metric], interval=False) for name in titles]
        return [row.title, *each, cell(metric, row.mean[metric])]

    shares = [one.ill / one.patients for one in found.hospitals]
    first = [["*share that is ill*", *(f"*{100 * one:.1f}*" for one in (*shares, sum(shares) / len(shares)))]]
    return rows(["", *titles.values(), "mean of the four"], [*(first if share else []), *map(line, table.rows)])


def by_size(found: Comparison, metric: str) -> str:
    """Return one figure of all methods, in the mean of the four, by the newcomer's number of patients."""
    first = next(iter(found.newcomer.values()))
    lines = []
    for row in first.rows:
        means: list[Figures] = [table[row.name].mean for table in found.newcomer.values()]
        lines.append([row.title, *(cell(metric, one[metric]) for one in means)])
    return rows(["patients", *map(str, found.newcomer)], lines)


def goals(found: Comparison) -> str:
    """Return the goals and their figures."""
    lines = [["met" if goal.met else "**missed**", f"{goal.text}.", goal.found] for goal in found.goals]
    return rows(["", "goal", "figures"], lines).replace("---:", "---")


def beside(found: Comparison) -> str:
    """Return FLamby's figures below those on its patients."""
    assert found.flamby is not None
    own = by_hospital(found, found.flamby, "accuracy", share=False)
    names = [*said.titles(found), "mean"]
    theirs = [
        f"| *{title}* | {' | '.join(f'{some[name]:.1f}' for name in names)} |"
        for title, some in flamby.PUBLISHED.items()
    ]
    return "\n".join([own, *theirs])


def calibration(found: Comparison) -> str:
    """Return balanced accuracy and calibration in the mean of the four: of members, and of newcomers with ten."""
    metrics = ("balanced_accuracy", "brier", "calibration_error")
    lines = []
    for title, table in (("member", found.members), ("newcomer, 10 patients", found.newcomer[10])):
        lines += [[f"{title}: {row.title}", *(cell(one, row.mean[one]) for one in metrics)] for row in table.rows]
    return rows(["", *(WORDS[one] for one in metrics)], lines)


RULES = {
    "leave-one-out": "leave-one-out",
    "exact Shapley": "exact Shapley",
    "node": "what a node does",
}
"""Of `benchmarks/contribution.py`, those of which the page tells, and their names there."""


def contribution(file: Path) -> str:
    """Return what a fifth contributor is paid in each planted case, in per cent of the pool: mean (most) over seeds."""
    found = json.loads(file.read_text())["results"]
    tables = []
    for algorithm, rules in found.items():
        shown = {rule: rules[rule] for rule in RULES}
        lines = []
        for case in next(iter(shown.values()))["cases"]:
            cells = [one["cases"][case] for one in shown.values()]
            lines.append([cells[0]["title"], *(f"{one['planted']:.1f} ({one['planted_most']:.1f})" for one in cells)])
        spread = [list(one["cases"].values()) for one in shown.values()]
        lines += [
            ["*a hospital beside them*", *(f"{fmean(one['honest'] for one in some):.1f}" for some in spread)],
            ["*the least that one got*", *(f"{min(one['honest_least'] for one in some):.1f}" for some in spread)],
            ["*rounds in which nobody is paid*", *(f"{one['rounds_unpaid']:.1f}" for one in shown.values())],
            ["*a seat's mean distance from the median*", *(f"{one['distance']:.1f}" for one in shown.values())],
        ]
        tables.append(rows([methods.TITLES[algorithm], *RULES.values()], lines))
    return "\n\n".join(tables)


def planted(found: Comparison) -> str:
    """Return what the report says of planted contributors: a table, and its sentences."""
    assert found.planted is not None
    titles = said.titles(found)
    lines = [
        [
            one.title,
            *(cell("share", share) for share in (one.paid, one.left_out, one.shapley)),
            f"{100 * one.beside:.1f}",
            f"{cell('share', one.hospitals[one.least], interval=False)} ({titles[one.least]})",
        ]
        for one in found.planted.cases
    ]
    heads = ["it sends", "it is paid", "leave-one-out", "Shapley of whole updates", "a hospital", "the least paid one"]
    return "\n".join([rows(heads, lines), "", *(f"- {one}" for one in said.earned(found.planted))])


PARTS: Mapping[str, Callable[[Comparison], str]] = {
    "setting": lambda found: f"{said.settings(found)}.",
    "goals": goals,
    "members": lambda found: by_hospital(found, found.members, "accuracy", share=True),
    "membersauroc": lambda found: by_hospital(found, found.members, "auroc", share=False),
    "newcomer": lambda found: by_size(found, "accuracy"),
    "newcomerauroc": lambda found: by_size(found, "auroc"),
    "ten": lambda found: by_hospital(found, found.newcomer[10], "accuracy", share=True),
    "calibration": calibration,
    "flamby": beside,
    "planted": planted,
    "limits": lambda found: "\n".join(f"- {one}" for one in said.limits(found)),
}


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--figures", type=Path, default=ROOT / "build" / "bench" / "consortium.json")
    parser.add_argument(
        "--contribution", type=Path, default=ROOT / "build" / "bench" / "contribution.json", help="what is paid"
    )
    parser.add_argument("--page", type=Path, default=PAGE)
    arguments = parser.parse_args()
    found = Comparison.from_dict(json.loads(arguments.figures.read_text()))
    if found.warning:
        raise SystemExit(found.warning)

    def fill(match: re.Match[str]) -> str:
        if match[2] == "contribution":
            return f"{match[1]}\n{contribution(arguments.contribution)}\n\n{match[3]}"
        return f"{match[1]}\n{PARTS[match[2]](found)}\n\n{match[3]}"

    arguments.page.write_text(BLOCK.sub(fill, arguments.page.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    main()
