"""The roles of Shakespeare, split in time and at random: how much windows that overlap flatter adaptation.

    .venv/bin/python benchmarks/random_windows.py runs/shakespeare docs/results/shakespeare/random.csv

Reads the finished runs of `fedmeta study run studies/shakespeare.toml`, and tests each on its test clients once more,
split in time and at random, adapting as in training. Split at random, a window of the support can share all but one of
its characters with one of the query, and its answer can be among them. There is a line for each run; lines that are in
the file stay.
"""

import argparse
import csv
import io
from dataclasses import replace
from pathlib import Path

from fedmeta._files import write_atomically
from fedmeta.data.splits import AtRandom
from fedmeta.runs.saved import load_run
from fedmeta.study.saved import check_data, read_experiment

COLUMNS = [
    "procedure",
    "seed",
    "clients",
    *(f"{split}_{when}" for split in ("time", "random") for when in ("before", "after")),
]


def measure(folder: Path) -> dict[str, str]:
    """Return the line of a run: its accuracy over all query windows, by split, before and after its clients adapt."""
    saved, experiment = load_run(folder), read_experiment(folder)
    check_data(saved, experiment)
    found = {"procedure": experiment.procedure.algorithm.name, "seed": str(experiment.procedure.seed)}
    found["clients"] = str(experiment.test.num_clients)
    for split, clients in (("time", experiment.test), ("random", replace(experiment.test, split=AtRandom()))):
        report = experiment.report(saved.phi, clients, curve=False)
        for when, scores in (("before", report.before), ("after", report.after)):
            found[f"{split}_{when}"] = f"{scores.pooled['accuracy']:.5f}"
    return found


def main() -> None:
    """Measure what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path, help="the folder of the study")
    parser.add_argument("out", type=Path, help="the table, a CSV file")
    given = parser.parse_args()
    rows = list(csv.DictReader(io.StringIO(given.out.read_text()))) if given.out.exists() else []
    known = {(row["procedure"], row["seed"]) for row in rows}
    for model in sorted((given.study / "cells").glob("*/model.safetensors")):
        procedure = load_run(model.parent).procedure
        if (procedure.algorithm.name, str(procedure.seed)) in known:
            continue
        line = measure(model.parent)
        rows.append(line)
        rows.sort(key=lambda row: (row["procedure"], row["seed"]))
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_atomically(given.out, text.getvalue().encode())
        print(*line.values(), flush=True)


if __name__ == "__main__":
    main()
