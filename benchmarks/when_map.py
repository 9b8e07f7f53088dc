"""A map of support size against how much clients differ: which of six ways is best for clients that took no part.

    FEDMETA_DATA=... python benchmarks/when_map.py tune    # chooses rates on validation clients; some minutes
    FEDMETA_DATA=... python benchmarks/when_map.py         # half an hour of one core; goes on where it stopped

Clients hold images of MNIST, 7 x 7. They differ in labels (each holds k of the ten classes) or in concepts (a share of
them permutes its labels). Each cell is one kind and level of difference, one support size and one seed; its rows go to
docs/results/when/map.csv together. docs/when-meta-learning-helps.md says what came out; benchmarks/when_page.py writes
its tables and draws its figures.
"""

import argparse
import csv
import time
import warnings
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

import fedmeta as fm
from fedmeta.data.columns import read
from fedmeta.study.supports import with_support

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "results" / "when"
TABLE, TUNING = FOLDER / "map.csv", FOLDER / "tuning.csv"
NONE, LABELS, CONCEPTS = "none", "labels", "concepts"
"""The kinds of difference; levels of the second are classes a client, of the third the share that permutes."""
METHODS = ("global", "alone", "fedavg-meta", "maml", "meta-sgd-layer", "meta-sgd")
"""From the simplest on; the last but one has a rate for each layer."""
TRAINED = ("fedavg", "maml", "meta-sgd-layer", "meta-sgd")
STEPS, BATCH, HIDDEN = 3, 20, 32
"""A meta-learner's inner steps in training; examples in a local step of FedAvg; the network's hidden units."""
RATES, LONGEST = (0.03, 0.1, 0.3, 1.0), 50
"""The doses that are tried on validation clients: rates, and any number of steps up to so many."""
CANDIDATES: dict[str, list[tuple[float, str, float]]] = {
    "fedavg": [
        *((rate, *server) for rate in (0.03, 0.1, 0.3) for server in (("sgd", 1.0), ("adam", 0.01))),
        (0.3, "adam", 0.03),
        (1.0, "sgd", 1.0),
    ],
    **{
        name: [
            *((rate, "adam", lr) for rate in (0.1, 0.3, 1.0) for lr in (0.003, 0.01)),
            (0.3, "adam", 0.03),
            (1.0, "adam", 0.03),
        ]
        for name in ("maml", "meta-sgd-layer", "meta-sgd")
    },
}
"""For each algorithm as many: the clients' rate, the server's optimiser and its rate."""
TUNED_AT = {LABELS: (3.0, 15), CONCEPTS: (0.5, 15)}
"""Level and support size at which they are compared, for each kind."""
TUNING_SEED, TUNING_ROUNDS = 100, 500


class Grid(NamedTuple):
    """What is computed.

    Args:
        levels: kinds and levels of difference.
        supports: examples of a client's support set.
        seeds: each deals clients, splits them, and trains, anew.
        clients: of these, 3 in 5 train, 3 in 20 validate, and a quarter is tested.
        rounds: of training.
        cohort: clients in a round.
        examples: of a client in a round, support and query together; half as many are its query set in a test.
    """

    levels: tuple[tuple[str, float], ...] = (
        (NONE, 0.0),
        *((LABELS, count) for count in (5.0, 2.0)),
        *((CONCEPTS, share) for share in (0.25, 0.5, 1.0)),
    )
    supports: tuple[int, ...] = (2, 5, 15, 50)
    seeds: int = 3
    clients: int = 400
    rounds: int = 300
    cohort: int = 10
    examples: int = 100


class Row(NamedTuple):
    """What a method gives to the clients that are tested.

    Args:
        kind: of difference.
        level: of it.
        support: examples of a client's support set.
        seed: of deal, split and training.
        method: one of `METHODS`.
        accuracy: the mean over clients, after the dose that was chosen.
        before: before a client adapts.
        rate: of the dose; empty for none, and where rates were learnt.
        steps: of the dose.
        validation: the accuracy for which it was chosen, on validation clients.
        flops: of one client in a round of training.
        spread: the squared error that the clients' common linear model has beside their own ones: t summed over
            directions.
        noise: the squared error that their own ones leave: s.
        border: the support size at which a linear model of a client's own, each direction shrunk as is best for it, has
            the squared error of the common one.
    """

    kind: str
    level: float
    support: int
    seed: int
    method: str
    accuracy: float
    before: float
    rate: float | None
    steps: int
    validation: float
    flops: int
    spread: float
    noise: float
    border: float


Setting = tuple[float, str, float]


def small_mnist() -> fm.data.FederatedDataset:
    """Return MNIST's images as means of 4 x 4 pixels, standardised, all of one client."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = fm.data.load("mnist")
    x = read(data.x, data.rows).reshape(-1, 7, 4, 7, 4).mean(axis=(2, 4)).reshape(-1, 49)
    return pooled((x - x.mean(axis=0)) / (x.std(axis=0) + 0.1), read(data.y, data.rows))


def pooled(x: np.ndarray, y: np.ndarray) -> fm.data.FederatedDataset:
    """Return examples of ten classes as those of one client."""
    return fm.data.from_arrays(x.astype(np.float32), y.astype(np.int32), ["all"] * len(y), classes=10)


class Dealt(NamedTuple):
    """Clients in their three groups, and how much they differ.

    Args:
        train: the clients that train.
        validation: those on which doses are chosen.
        test: those on which they are tested.
        linear: by the names of `Row`, what a linear model says of them.
    """

    train: fm.data.FederatedDataset
    validation: fm.data.FederatedDataset
    test: fm.data.FederatedDataset
    linear: dict[str, float]


def deal(pool: fm.data.FederatedDataset, kind: str, level: float, grid: Grid, seed: int) -> Dealt:
    """Return clients that differ so."""
    count = round(level) if kind == LABELS else 10
    plain = fm.data.partition(pool, fm.data.by_classes(clients=grid.clients, count=count, seed=seed))
    share = level if kind == CONCEPTS else 0.0
    data = fm.data.partition(plain, fm.data.concept_shift(share=share, seed=seed))
    own = read(plain.y, plain.rows), read(data.y, data.rows)
    said = linear(read(plain.x, plain.rows), *own, np.repeat(np.arange(len(data)), data.sizes))
    return Dealt(*data.split_clients((0.6, 0.15, 0.25), seed=seed), said)


def linear(x: np.ndarray, classes: np.ndarray, labels: np.ndarray, owner: np.ndarray) -> dict[str, float]:
    """Return how much clients differ in the eyes of linear regression on one-hot labels: spread, noise and border.

    The inputs of a class are taken to be alike in all clients, so each client's own best model follows from its
    classes and what it calls them, without the noise of its few examples. Errors are sums over outputs.

    Args:
        x: inputs, shape [examples, features].
        classes: what an example is, shape [examples].
        labels: what its client calls it, shape [examples].
        owner: the client of each example, shape [examples].
    """
    x = np.concatenate([x, np.ones((len(x), 1))], axis=1)
    size = x.shape[1]
    held = np.zeros((owner.max() + 1, 10, 10))
    np.add.at(held, (owner, classes, labels), 1.0)
    held /= held.sum(axis=(1, 2), keepdims=True)
    square = np.stack([x[classes == one].T @ x[classes == one] / np.sum(classes == one) for one in range(10)])
    mean = np.stack([x[classes == one].mean(axis=0) for one in range(10)])
    inner = np.einsum("kcl,cij->kij", held, square) + 1e-3 * np.eye(size)
    cross = np.einsum("kcl,ci->kil", held, mean)
    common = np.linalg.solve(inner.mean(axis=0), cross.mean(axis=0))

    def error(weights: Any) -> Any:
        fitted = np.einsum("...il,kij,...jl->k", weights, inner, weights)
        return 1.0 - 2 * np.sum(weights * cross, axis=(1, 2)) + fitted

    own = np.linalg.solve(inner, cross)
    left = 1.0 - np.sum(own * cross, axis=(1, 2))
    spread = float(np.mean(error(common) - left))
    values, vectors = np.linalg.eigh(inner)
    signal = values[:, :, None] * np.square(np.einsum("kij,kil->kjl", vectors, own))
    noise = np.maximum(held.sum(axis=1) - np.sum(own * cross, axis=1), 1e-9)
    return {"spread": spread, "noise": float(left.mean()), "border": border(signal, noise[:, None], spread)}


def border(signal: np.ndarray, noise: np.ndarray, common: float) -> float:
    """Return the support size n at which the sum of s S / (n S + s) over directions is the common model's error.

    Args:
        signal: S, what each client's own model predicts, squared, shape [clients, directions, outputs].
        noise: s, what it leaves, shape [clients, 1, outputs].
        common: the error of the common model beside the clients' own.
    """
    low, high = -3.0, 6.0
    for _ in range(40):
        middle = (low + high) / 2
        alone = np.sum(noise * signal / (10**middle * signal + noise)) / len(signal)
        low, high = (middle, high) if alone > common else (low, middle)
    return 10**low


@cache
def network(features: int) -> fm.Model:
    """Return the network, one hidden layer; always the same object, which is tried once."""
    return fm.models.mlp((features, HIDDEN, 10))


def local_steps(features: int, support: int, examples: int) -> int:
    """Return how many of FedAvg's steps are as many multiplications as a meta-learner's update.

    A layer's gradient is three products, and two in the first layer, whose inputs are the data; through an inner step
    it is nine, and four (see `accounting`).
    """
    first, last = features * HIDDEN, HIDDEN * 10
    once = 2 * first + 3 * last
    through = STEPS * support * (4 * first + 9 * last) + (examples - support) * once
    return max(1, round(through / (BATCH * once)))


def train(name: str, setting: Setting, dealt: Dealt, support: int, grid: Grid, seed: int) -> tuple[Any, Any, int]:
    """Return an algorithm, its phi after training, and the operations of one client in a round."""
    rate, server, lr = setting
    model = network(dealt.train.x.shape[1])
    if name == "fedavg":
        steps = local_steps(dealt.train.x.shape[1], support, grid.examples)
        algorithm: Any = fm.FedAvg(inner_lr=rate, inner_steps=steps, inner_batch_size=BATCH)
    elif name == "maml":
        algorithm = fm.MAML(inner_lr=rate, inner_steps=STEPS)
    else:
        rates = "layer" if name == "meta-sgd-layer" else None
        algorithm = fm.MetaSGD(inner_lr=rate, inner_steps=STEPS, rates=rates)
    run = fm.train(
        algorithm,
        model,
        dealt.train,
        rounds=grid.rounds,
        cohort_size=grid.cohort,
        server=fm.optimisers.make(server, learning_rate=lr),
        support=support / grid.examples,
        max_examples=grid.examples,
        seed=seed,
        plan=fm.Plan(chunk=grid.cohort, devices=1),
    )
    return algorithm, run.phi, int(run.history["flops"][0].as_py()) // grid.cohort


def curve(how: Any, phi: Any, data: fm.data.FederatedDataset, support: int, grid: Grid, seed: int) -> np.ndarray:
    """Return the mean accuracy over clients after each step from 0 on; the query set is the same for every support."""
    tested = with_support(data, support, 0.5, seed, grid.examples)
    plan = fm.Plan(chunk=8, devices=1)
    report = fm.evaluate(how, network(data.x.shape[1]), phi, tested, seed=seed, plan=plan)
    return np.array([scores.client_accuracy for scores in report.steps])


def doses(algorithm: Any) -> list[tuple[float | None, Any]]:
    """Return the rates at which clients may adapt, and how they do; where rates were learnt, these alone."""
    if isinstance(algorithm, fm.MetaSGD):
        return [(None, fm.MetaSGD(rates=algorithm.rates, adapt_steps=LONGEST))]
    return [(rate, fm.FedAvgMeta(adapt_lr=rate, adapt_steps=LONGEST, inner_batch_size=None)) for rate in RATES]


def tested(algorithm: Any, phi: Any, dealt: Dealt, support: int, grid: Grid, seed: int) -> dict[str, Any]:
    """Choose a dose on the validation clients, and return it with what it gives to the others."""
    best: tuple[float, int, Any, Any] | None = None
    for rate, how in doses(algorithm):
        found = curve(how, phi, dealt.validation, support, grid, seed)
        if best is None or found.max() > best[0]:
            best = float(found.max()), int(found.argmax()), rate, how
    assert best is not None
    validation, steps, rate, how = best
    given = curve(how, phi, dealt.test, support, grid, seed)
    return {
        "accuracy": float(given[steps]),
        "before": float(given[0]),
        "rate": rate if steps else None,
        "steps": steps,
        "validation": validation,
    }


def cell(dealt: Dealt, support: int, grid: Grid, seed: int, settings: dict[str, Setting]) -> Iterator[tuple[str, dict]]:
    """Yield what each method gives in one cell."""
    where = dealt, support, grid, seed
    untrained = network(dealt.train.x.shape[1]).init(jax.random.key(seed))
    yield "alone", {**tested(fm.FedAvgMeta(), untrained, *where), "flops": 0}
    for name in TRAINED:
        algorithm, phi, flops = train(name, settings[name], *where)
        if name == "fedavg":
            before = float(curve(fm.FedAvg(), phi, dealt.test, support, grid, seed)[0])
            none = {"accuracy": before, "before": before, "rate": None, "steps": 0, "validation": None}
            yield "global", {**none, "flops": flops}
        method = "fedavg-meta" if name == "fedavg" else name
        yield method, {**tested(algorithm, phi, *where), "flops": flops}


def tune(pool: fm.data.FederatedDataset, grid: Grid, table: Path) -> Iterator[dict[str, Any]]:
    """Yield the validation accuracy, after the best dose, of each candidate that is not in the table yet, by kind."""
    names = ("kind", "algorithm", "rate", "server", "server_rate")
    done = {tuple(row[name] for name in names) for row in stored(table)}
    for kind, (level, support) in TUNED_AT.items():
        dealt = deal(pool, kind, level, grid, TUNING_SEED)
        dealt = dealt._replace(test=dealt.validation)
        for name in TRAINED:
            for setting in CANDIDATES[name]:
                rate, server, lr = setting
                if (kind, name, _short(rate), server, _short(lr)) in done:
                    continue
                algorithm, phi, _ = train(name, setting, dealt, support, grid, TUNING_SEED)
                found = tested(algorithm, phi, dealt, support, grid, TUNING_SEED)
                yield {**dict(zip(names, (kind, name, *setting), strict=True)), "validation": found["validation"]}


def chosen(rows: Sequence[dict[str, Any]], kind: str) -> dict[str, Setting]:
    """Return each algorithm's best candidate for a kind of difference; where clients are alike, the concepts' one."""
    kind = CONCEPTS if kind == NONE else kind
    best: dict[str, dict[str, Any]] = {}
    for row in rows:
        name = row["algorithm"]
        if row["kind"] == kind and (name not in best or float(row["validation"]) > float(best[name]["validation"])):
            best[name] = row
    return {name: (float(row["rate"]), row["server"], float(row["server_rate"])) for name, row in best.items()}


def measure(pool: Any, grid: Grid, tuning: Sequence[dict[str, Any]], table: Path) -> Iterator[str]:
    """Append the rows of each cell that is not in the table yet, and yield what was done."""
    done = {(row["kind"], float(row["level"]), int(row["support"]), int(row["seed"])) for row in stored(table)}
    for seed in range(grid.seeds):
        dealt_: dict[tuple[str, float], Dealt] = {}
        for support in grid.supports:
            for kind, level in grid.levels:
                if (kind, level, support, seed) in done:
                    continue
                since = time.time()
                if (kind, level) not in dealt_:
                    dealt_[kind, level] = deal(pool, kind, level, grid, seed)
                dealt = dealt_[kind, level]
                found = dict(cell(dealt, support, grid, seed, chosen(tuning, kind)))
                what = {"kind": kind, "level": level, "support": support, "seed": seed}
                append(table, [Row(**what, method=name, **found[name], **dealt.linear)._asdict() for name in METHODS])
                yield f"{kind} {level:g}, support {support}, seed {seed}: {time.time() - since:.1f} s"


def stored(table: Path) -> list[dict[str, str]]:
    """Return a table's rows; none where there is no file."""
    if not table.exists():
        return []
    with table.open(newline="") as file:
        return list(csv.DictReader(file))


def append(table: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Append rows in one write."""
    table.parent.mkdir(parents=True, exist_ok=True)
    new = not table.exists()
    with table.open("a", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerows({name: _short(value) for name, value in row.items()} for row in rows)


def _short(value: Any) -> Any:
    return f"{value:.5g}" if isinstance(value, float) else value


def main() -> None:
    """Tune, or measure what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=["map", "tune"], default="map")
    parser.add_argument("--seeds", type=int, default=Grid().seeds)
    arguments = parser.parse_args()
    grid, pool = Grid(seeds=arguments.seeds), small_mnist()
    if arguments.what == "tune":
        for row in tune(pool, grid._replace(rounds=TUNING_ROUNDS), TUNING):
            append(TUNING, [row])
            print(row, flush=True)
        return
    for said in measure(pool, grid, stored(TUNING), TABLE):
        print(said, flush=True)


if __name__ == "__main__":
    main()
