"""Quadratic losses: what closed forms say of adaptation and meta-learning, and what the library's algorithms measure.

    .venv/bin/python benchmarks/when_quadratics.py     # two minutes; writes docs/results/when/quadratics.csv

Clients are drawn, FedAvg, MAML and Meta-SGD are trained on some of them by `fm.train`, and others adapt in
`fm.evaluate`. A row has what the closed form predicts of them and what was measured, with its standard error over the
clients that adapt. docs/when-meta-learning-helps.md derives the forms; benchmarks/when_page.py writes the table and
draws the figure.
"""

import argparse
import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

import fedmeta as fm
from fedmeta.data import InTime

ROOT = Path(__file__).resolve().parents[1]
TABLE = ROOT / "docs" / "results" / "when" / "quadratics.csv"
CLIENTS, SIZE, QUERY = 500, 20, 8
"""Clients that train, and as many that adapt; directions; examples of a training client's query set."""
SPREAD, NOISE, CENTRE = 1.0, 4.0, 0.5
"""The variance between clients t and of an example s, in each direction; the clients' mean w, likewise."""
STEPS, RATE = 3, 0.2
"""How long a client is fine-tuned where the dose is fixed."""
SUPPORTS = (1, 2, 4, 8, 16, 32)
HARD_RATE, FAR, NEAR = 0.5, 2.0, 0.5
"""A client's rate where curvatures differ; the distance between easy and hard clients, and the deviation within."""
CURVATURES = (1.0, 0.5, 0.2, 0.1, 0.05)
RATIOS = (1.0, 4.0, 16.0, 64.0)


class Row(NamedTuple):
    """A prediction and its measurement.

    Args:
        experiment: "means", "regression", "hardness" or "directions".
        setting: the support size, the hard clients' curvature, or the ratio of the directions' variances.
        method: what starts and adapts.
        predicted: the error that the closed form gives, in one direction.
        measured: the mean over clients that adapt.
        error: its standard error.
    """

    experiment: str
    setting: float
    method: str
    predicted: float
    measured: float
    error: float


def lifted(rate: float, steps: int) -> float:
    """Return lambda: the share of the way to the support's mean that so many steps go."""
    return 1 - (1 - rate) ** steps


def of_means(dose: float, spread: Any, count: int) -> Any:
    """Return the error where a client goes the share `dose` of the way from w to the mean of its examples."""
    return (1 - dose) ** 2 * spread + dose**2 * NOISE / count


def best_dose(spread: Any, count: int) -> Any:
    """Return the dose of the least error: shrinkage."""
    return count * spread / (count * spread + NOISE)


def of_regression(rate: float, count: int, size: int) -> float:
    """Return the error in one direction after one step on so many examples with normal inputs."""
    kept = 1 - 2 * rate + rate**2 * (1 + (size + 1) / count)
    return kept * SPREAD + rate**2 * NOISE / count


def best_regression_rate(count: int, size: int) -> float:
    """Return the rate at which that is least."""
    return count * SPREAD / ((count + size + 1) * SPREAD + NOISE)


def quadratic_model(size: int, parts: int = 1) -> fm.Model:
    """Return a model whose parameters are a point; an example is a point and a curvature, its loss half the square."""

    def init(key: Any) -> Any:
        return [jnp.zeros(size // parts) for _ in range(parts)]

    def apply(params: Any, x: Any) -> Any:
        x = jnp.asarray(x)
        return 0.5 * x[:, -1] * jnp.sum((jnp.concatenate(params) - x[:, :-1]) ** 2, axis=1)

    return fm.Model(init, apply, loss=lambda predictions, y: predictions, metrics={})


def linear_model(size: int) -> fm.Model:
    """Return linear regression without a constant, whose loss is half the squared error."""

    def apply(params: Any, x: Any) -> Any:
        return jnp.asarray(x) @ params["w"]

    return fm.Model(
        lambda key: {"w": jnp.zeros(size)}, apply, loss=lambda p, y: 0.5 * (p - jnp.asarray(y)) ** 2, metrics={}
    )


def dataset(x: np.ndarray, y: np.ndarray, support: int) -> fm.data.FederatedDataset:
    """Return clients from arrays [clients, examples, ...], of which the first `support` examples are support."""
    clients, examples = x.shape[:2]
    names = np.repeat([f"{place:05}" for place in range(clients)], examples)
    data = fm.data.from_arrays(x.reshape(-1, x.shape[2]), y.reshape(-1), names)
    return fm.data.FederatedDataset(data.x, data.y, data.starts, data.sizes, data.ids, data.info, InTime(count=support))


def points(
    draw: np.random.Generator,
    spread: Any,
    support: int,
    curvature: Any = 1.0,
    centre: Any = CENTRE,
    noise: float = NOISE,
) -> tuple[Any, Any]:
    """Return clients that train, and clients that adapt, whose query is the client's own mean without noise."""
    made = []
    for query in (QUERY, 1):
        truth = centre + np.sqrt(spread) * draw.normal(size=(CLIENTS, 1, SIZE))
        examples = truth + np.sqrt(noise) * draw.normal(size=(CLIENTS, support + query, SIZE))
        if query == 1:
            examples[:, -1] = truth[:, 0]
        bent = np.broadcast_to(curvature, (CLIENTS,))[:, None, None] * np.ones((1, support + query, 1))
        x = np.concatenate([examples, bent], axis=2)
        made.append(dataset(x, np.zeros(x.shape[:2]), support))
    return made[0], made[1]


def lines(draw: np.random.Generator, support: int, size: int) -> tuple[Any, Any]:
    """Return the same of linear regressions; a query that tells the error: one input along each direction."""
    made = []
    for query in (QUERY, size):
        truth = CENTRE + np.sqrt(SPREAD) * draw.normal(size=(CLIENTS, size, 1))
        x = draw.normal(size=(CLIENTS, support + query, size))
        noise = np.sqrt(NOISE) * draw.normal(size=x.shape[:2])
        if made:
            x[:, support:], noise[:, support:] = np.sqrt(size) * np.eye(size), 0.0
        made.append(dataset(x, (x @ truth)[..., 0] + noise, support))
    return made[0], made[1]


def trained(algorithm: Any, model: fm.Model, data: Any, rate: float = 1.0, rounds: int = 3, server: Any = None) -> Any:
    """Return phi after rounds in which all clients take part."""
    server = fm.optimisers.sgd(rate) if server is None else server
    plan = fm.Plan(chunk=min(50, len(data)), devices=1)
    return fm.train(
        algorithm, model, data, rounds=rounds, cohort_size=len(data), server=server, support=0.5, plan=plan
    ).phi


def measured(algorithm: Any, model: fm.Model, phi: Any, data: Any, size: int) -> tuple[float, float]:
    """Return the mean squared error in a direction after adaptation, and its standard error over clients."""
    report = fm.evaluate(algorithm, model, phi, data, curve=False, plan=fm.Plan(chunk=50, devices=1))
    losses = 2 * report.after.values["loss"] / size
    return float(losses.mean()), float(losses.std(ddof=1) / np.sqrt(len(losses)))


def tuned(rate: float, steps: int = 1) -> Any:
    """Return how a client is fine-tuned."""
    return fm.FedAvgMeta(inner_lr=rate, inner_steps=steps, inner_batch_size=None)


def means(draw: np.random.Generator) -> Iterator[Row]:
    """Yield rows of clients whose examples are points around a mean of their own."""
    model, dose = quadratic_model(SIZE), lifted(RATE, STEPS)
    for count in SUPPORTS:
        train, test = points(draw, SPREAD, count)
        average = trained(fm.FedAvg(inner_lr=1.0, inner_steps=1, inner_batch_size=None), model, train)
        meta = fm.MAML(inner_lr=RATE, inner_steps=STEPS)
        start = trained(meta, model, train, 1 / (1 - dose) ** 2)
        shrunk = best_dose(SPREAD, count)
        for method, phi, how, predicted in (
            ("global", average, fm.FedAvg(), SPREAD),
            ("alone", average, tuned(1.0), NOISE / count),
            ("FedAvg, fine-tuned", average, tuned(RATE, STEPS), of_means(dose, SPREAD, count)),
            ("MAML, the same steps", start, meta, of_means(dose, SPREAD, count)),
            ("FedAvg, best dose", average, tuned(shrunk), SPREAD * NOISE / (count * SPREAD + NOISE)),
        ):
            yield Row("means", count, method, predicted, *measured(how, model, phi, test, SIZE))


def regression(draw: np.random.Generator) -> Iterator[Row]:
    """Yield rows of linear regressions with normal inputs, after one step."""
    size = SIZE // 2
    model = linear_model(size)
    for count in (2, 8, 32, 128):
        train, test = lines(draw, count, size)
        average = trained(fm.FedAvg(inner_lr=0.2, inner_steps=1, inner_batch_size=None), model, train, rounds=40)
        meta = fm.MAML(inner_lr=RATE)
        start = trained(meta, model, train, 0.5, rounds=40)
        best = best_regression_rate(count, size)
        for method, phi, how, predicted in (
            ("global", average, fm.FedAvg(), SPREAD),
            ("FedAvg, one step", average, tuned(RATE), of_regression(RATE, count, size)),
            ("MAML, one step", start, meta, of_regression(RATE, count, size)),
            ("FedAvg, best rate", average, tuned(best), of_regression(best, count, size)),
        ):
            yield Row("regression", count, method, predicted, *measured(how, model, phi, test, size))


def hardness(draw: np.random.Generator) -> Iterator[Row]:
    """Yield rows of clients without noise, half of which are flat and lie apart: `hard` is their curvature."""
    model, rate = quadratic_model(SIZE), HARD_RATE
    apart = np.where(np.arange(CLIENTS) % 2, FAR, 0.0)
    for hard in CURVATURES:
        bent = np.array([1.0, hard])
        train, test = points(draw, NEAR**2, 1, np.where(apart > 0, hard, 1.0), apart[:, None, None], 0.0)
        average = fm.FedAvg(inner_lr=rate, inner_steps=STEPS, inner_batch_size=None)
        meta = fm.MAML(inner_lr=rate, inner_steps=STEPS)
        left = bent * (1 - rate * bent) ** (2 * STEPS)
        starts = {
            "FedAvg, fine-tuned": (trained(average, model, train, rounds=25), 1 - (1 - rate * bent) ** STEPS),
            "MAML, the same steps": (trained(meta, model, train, 1 / left.mean()), left),
        }
        for method, (phi, weights) in starts.items():
            where = weights @ [0.0, FAR] / weights.sum()
            predicted = float(np.mean(left * ((where - np.array([0.0, FAR])) ** 2 + NEAR**2)))
            yield Row("hardness", hard, method, predicted, *measured(tuned(rate, STEPS), model, phi, test, SIZE))


def directions(draw: np.random.Generator) -> Iterator[Row]:
    """Yield rows of clients that differ more in one half of the directions than in the other; 4 examples of support."""
    count, model = 4, quadratic_model(SIZE, parts=2)
    dose = best_dose(SPREAD, count)
    for ratio in RATIOS:
        halves = SPREAD * np.array([2 * ratio, 2.0]) / (1 + ratio)
        train, test = points(draw, np.repeat(halves, SIZE // 2), count)
        shrunk = float(np.mean(halves * NOISE / (count * halves + NOISE)))
        of_one = float(np.mean(of_means(dose, halves, count)))
        server = fm.optimisers.adam(0.03)
        for method, algorithm, predicted in (
            ("MAML, one best rate", fm.MAML(inner_lr=dose), of_one),
            ("Meta-SGD, a rate for each layer", fm.MetaSGD(inner_lr=dose, rates="layer"), shrunk),
            ("Meta-SGD, a rate for each coordinate", fm.MetaSGD(inner_lr=dose), shrunk),
        ):
            phi = trained(algorithm, model, train, rounds=120, server=server)
            yield Row("directions", ratio, method, predicted, *measured(algorithm, model, phi, test, SIZE))


EXPERIMENTS = {"means": means, "regression": regression, "hardness": hardness, "directions": directions}


def rows(seed: int = 0) -> Iterator[Row]:
    """Yield the rows of every experiment."""
    for place, experiment in enumerate(EXPERIMENTS.values()):
        yield from experiment(np.random.default_rng([seed, place]))


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=TABLE, help="where the table goes")
    arguments = parser.parse_args()
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    with arguments.out.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Row._fields)
        for row in rows():
            numbers = [f"{value:.5g}" for value in row[3:]]
            writer.writerow([row.experiment, f"{row.setting:g}", row.method, *numbers])
            file.flush()


if __name__ == "__main__":
    main()
