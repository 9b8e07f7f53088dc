"""Choose settings on a data set's validation clients, with as many candidates for every algorithm.

    python benchmarks/tune.py digits --candidates 16 --out runs/tune-digits.jsonl

Candidates are drawn at random, with one seed, from the spaces below. A candidate's score is the mean over the
last three looks at the validation clients (accuracy over all data points, after adaptation). With `--folds N` the
training and validation clients are split anew N times, and the score is the mean; test clients are never looked
at. The winners go by hand into `src/fedmeta/study/defaults.py`.
"""

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fedmeta import random
from fedmeta.algorithms import ALGORITHMS
from fedmeta.data import FederatedDataset
from fedmeta.errors import Diverged
from fedmeta.study import spelling
from fedmeta.study.recipe import Recipe

LINEAR = ((0.03, 0.1, 0.3, 1.0), (0.003, 0.01, 0.03, 0.1))
DEEP = ((0.03, 0.1, 0.3), (0.001, 0.003, 0.01))


def space(algorithm: str, model: str) -> dict[str, Any]:
    """Return the values that each setting may take: higher rates for a linear model than for a deep one."""
    rates, adam_rates = LINEAR if model == "softmax_regression" else DEEP
    adam = [("adam", rate) for rate in adam_rates]
    if algorithm in ("maml", "fomaml", "meta-sgd"):
        return {"inner_lr": rates, "inner_steps": (1, 3, 5), "adapt_steps": (None, 10), "server": adam}
    averaging = {"inner_lr": rates, "inner_epochs": (1, 2, 5), "server": [("sgd", 0.5), ("sgd", 1.0), *adam]}
    if algorithm == "fedavg":
        return averaging
    return {**averaging, "adapt_lr": rates, "adapt_epochs": (1, 5, 10)}


def candidates(algorithm: str, model: str, count: int) -> list[dict[str, Any]]:
    """Return different candidates, drawn at random from the algorithm's space."""
    draw = random.generator(0, "tune", algorithm)
    found: list[dict[str, Any]] = []
    while len(found) < count:
        one = {name: values[draw.integers(len(values))] for name, values in space(algorithm, model).items()}
        if one not in found:
            found.append(one)
    return found


def score(
    data: str,
    algorithm: str,
    candidate: dict[str, Any],
    chosen: dict[str, Any],
    folds: int,
    whole: FederatedDataset,
) -> float:
    """Train with the candidate's settings; return its validation accuracy, 0 for a run that diverged."""
    options = {name: value for name, value in candidate.items() if name != "server" and value is not None}
    server, rate = candidate["server"]
    recipe = Recipe.default(data, algorithm, algorithm_options=options, server=server, server_lr=rate, **chosen)
    experiment = recipe.prepare(whole)
    seen = whole.select(np.flatnonzero(~np.isin(whole.ids, experiment.test.ids)))
    share = experiment.train.num_clients / seen.num_clients
    values = []
    for fold in range(folds):
        if folds > 1:
            train, validation = seen.split_clients((share, 1 - share), seed=fold)
            experiment = replace(experiment, train=train, validation=validation)
        try:
            run = experiment.run()
        except Diverged:
            return 0.0
        looks = [row["validation_accuracy"] for row in run.rows if "validation_accuracy" in row]
        values.append(float(np.mean(looks[-3:])))
    return float(np.mean(values))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--algorithms", default=",".join(ALGORITHMS))
    parser.add_argument("--candidates", type=int, default=16)
    parser.add_argument("--folds", type=int, default=1)
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--validate-every", type=int)
    parser.add_argument("--classes-per-client", type=int)
    parser.add_argument("--data-option", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    chosen: dict[str, Any] = {"rounds": arguments.rounds, "validate_every": arguments.validate_every}
    options = dict(spelling.data_option(text) for text in arguments.data_option)
    if arguments.classes_per_client:
        options["classes_per_client"] = arguments.classes_per_client
    if options:
        chosen["data_options"] = options
    recipe = Recipe.default(arguments.data, "maml", **chosen)
    whole = recipe.data.load()
    for algorithm in arguments.algorithms.split(","):
        results = []
        for candidate in candidates(algorithm, recipe.model, arguments.candidates):
            started = time.perf_counter()
            value = score(arguments.data, algorithm, candidate, chosen, arguments.folds, whole)
            results.append({"algorithm": algorithm, "accuracy": value, **candidate})
            with arguments.out.open("a") as file:
                file.write(json.dumps(results[-1] | {"seconds": round(time.perf_counter() - started, 1)}) + "\n")
        best = max(results, key=lambda result: result["accuracy"])
        print(json.dumps(best), flush=True)


if __name__ == "__main__":
    main()
