"""The scripts behind docs/when-meta-learning-helps.md, played small."""

import importlib
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import fedmeta as fm
from tests.examples import cells, in_soak

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def script(monkeypatch):
    """Import one of the scripts, which stand beside one another and are no package."""

    def load(name):
        monkeypatch.syspath_prepend(BENCHMARKS)
        return importlib.import_module(name)

    before = set(sys.modules)
    yield load
    for name in set(sys.modules) - before:
        if name.startswith("when_"):
            del sys.modules[name]


@pytest.fixture
def closed_forms(script, monkeypatch):
    module = script("when_quadratics")
    for name, value in {"CLIENTS": 150, "SIZE": 6, "SUPPORTS": (3,), "CURVATURES": (0.2,), "RATIOS": (16.0,)}.items():
        monkeypatch.setattr(module, name, value)
    return module


@pytest.mark.parametrize(
    "name", ["hardness", pytest.param("means", marks=in_soak), pytest.param("directions", marks=in_soak)]
)
def test_what_is_measured_on_quadratics_is_what_the_closed_forms_predict(closed_forms, name):
    rows = list(closed_forms.EXPERIMENTS[name](np.random.default_rng(1)))
    assert len({row.method for row in rows}) == len(rows) >= 2
    for row in rows:
        assert abs(row.measured - row.predicted) < 4 * row.error, row
    if name == "hardness":
        assert rows[1].predicted < rows[0].predicted / 2


def test_the_best_dose_is_the_least_of_the_closed_forms(script):
    module = script("when_quadratics")
    doses = np.linspace(0, 1, 1001)
    for count, spread in ((1, 0.3), (5, 2.0)):
        errors = module.of_means(doses, spread, count)
        least = spread * module.NOISE / (count * spread + module.NOISE)
        assert errors.min() == pytest.approx(least, rel=1e-5)
        assert doses[errors.argmin()] == pytest.approx(module.best_dose(spread, count), abs=1e-3)
    rates = np.linspace(0, 1, 1001)
    errors = [module.of_regression(rate, 8, 10) for rate in rates]
    assert rates[np.argmin(errors)] == pytest.approx(module.best_regression_rate(8, 10), abs=1e-3)


def test_how_much_clients_differ_is_what_least_squares_says_of_each(script):
    """Clients that hold the same examples, each with its own labels: their own models by `lstsq`."""
    module, draw = script("when_map"), np.random.default_rng(0)
    x, classes = draw.normal(size=(400, 3)), np.repeat(np.arange(10), 40)
    orders = [np.arange(10), draw.permutation(10), draw.permutation(10)]
    labels = [order[classes] for order in orders]
    said = module.linear(np.tile(x, (3, 1)), np.tile(classes, 3), np.concatenate(labels), np.repeat(np.arange(3), 400))
    inputs = np.concatenate([x, np.ones((400, 1))], axis=1)
    targets = [np.eye(10)[one] for one in labels]
    own = [np.linalg.lstsq(inputs, one)[0] for one in targets]
    common = np.linalg.lstsq(np.tile(inputs, (3, 1)), np.concatenate(targets))[0]

    def error(weights, target):
        return np.square(inputs @ weights - target).sum(axis=1).mean()

    left = np.mean([error(weights, target) for weights, target in zip(own, targets, strict=True)])
    assert said["noise"] == pytest.approx(left, rel=1e-2)
    assert said["spread"] == pytest.approx(np.mean([error(common, one) for one in targets]) - left, rel=2e-2)


def test_the_border_is_where_a_shrunk_model_has_the_common_ones_error(script):
    module = script("when_map")
    # One direction: s S / (n S + s) = T at n = s / T - s / S.
    signal, noise = np.full((1, 1, 1), 2.0), np.full((1, 1, 1), 0.5)
    assert module.border(signal, noise, 0.1) == pytest.approx(0.5 / 0.1 - 0.5 / 2.0, rel=1e-4)


@pytest.fixture
def small(script, monkeypatch):
    """The map on digits, of two cells."""
    module = script("when_map")
    monkeypatch.setattr(module, "RATES", (0.1,))
    monkeypatch.setattr(module, "LONGEST", 3)
    data = fm.data.load("digits")
    grid = module.Grid(((module.LABELS, 3.0), (module.CONCEPTS, 1.0)), (5,), 1, 20, 2, 4, 40)
    return module, module.pooled(np.asarray(data.x[:]) / 16, np.asarray(data.y[:])), grid


SETTINGS = [
    ("fedavg", 0.1, "sgd", 1.0),
    *((name, 0.3, "adam", 0.01) for name in ("maml", "meta-sgd-layer", "meta-sgd")),
]


def tuning(module):
    names = ("algorithm", "rate", "server", "server_rate")
    return [
        {"kind": kind, **dict(zip(names, one, strict=True)), "validation": 0.5}
        for kind in (module.LABELS, module.CONCEPTS)
        for one in SETTINGS
    ]


@in_soak
def test_a_map_has_a_row_for_each_method_of_each_cell(small, tmp_path):
    module, pool, grid = small
    grid, table = grid._replace(levels=cells(grid.levels[1:], grid.levels)), tmp_path / "map.csv"
    assert len(list(module.measure(pool, grid, tuning(module), table))) == len(grid.levels)
    rows = module.stored(table)
    assert [row["method"] for row in rows] == len(grid.levels) * list(module.METHODS)
    assert all(0 <= float(row["accuracy"]) <= 1 for row in rows)
    found = {row["method"]: row for row in rows[-6:]}
    # FedAvg's and FedAvg(Meta)'s are one training.
    assert found["global"]["accuracy"] == found["fedavg-meta"]["before"]
    # Local work is equal, as counted, to half a step of two.
    assert float(found["maml"]["flops"]) == pytest.approx(float(found["fedavg-meta"]["flops"]), rel=0.25)


def test_a_map_goes_on_where_it_stopped(small, tmp_path, monkeypatch):
    module, pool, grid = small
    scores = {"accuracy": 0.5, "before": 0.25, "rate": None, "steps": 2, "validation": 0.5, "flops": 7}
    monkeypatch.setattr(module, "cell", lambda *_: ((name, scores) for name in module.METHODS))
    table = tmp_path / "map.csv"
    assert len(list(module.measure(pool, grid, tuning(module), table))) == 2
    written = table.read_text()
    assert list(module.measure(pool, grid, tuning(module), table)) == []
    table.write_text("".join(written.splitlines(keepends=True)[:7]))
    assert [said.partition(",")[0] for said in module.measure(pool, grid, tuning(module), table)] == ["concepts 1"]
    assert table.read_text() == written


@pytest.mark.parametrize("support", cells([50], [2, 50]))
def test_fedavgs_steps_are_as_much_work_as_a_meta_learners_update(script, support):
    """As the library counts it, to within half a step."""
    module = script("when_map")
    x, examples = np.zeros((1, 49), np.float32), 100
    task = fm.Task(
        fm.Batch(np.repeat(x, support, 0), np.zeros(support, np.int32)),
        fm.Batch(np.repeat(x, examples - support, 0), np.zeros(examples - support, np.int32)),
    )
    model = fm.models.mlp((49, module.HIDDEN, 10))
    steps = module.local_steps(49, support, examples)
    key = jax.random.key(0)

    def work(algorithm):
        phi = algorithm.init(model, key)
        return fm.accounting.count_flops(lambda phi: algorithm.update(model, phi, task, key)[0], phi)

    one = work(fm.FedAvg(inner_steps=1, inner_batch_size=module.BATCH))
    assert work(fm.FedAvg(inner_steps=steps, inner_batch_size=module.BATCH)) == steps * one
    assert abs(work(fm.MAML(inner_steps=module.STEPS)) - steps * one) <= one / 2 + 1
