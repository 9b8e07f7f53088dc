"""The round as the engine computes it, compiled and padded, is the round as it is told: a loop over clients.

Every algorithm, aggregator and transform takes part, and pairs of them where their parts meet. All of it is in
float64, for in float32 a last bit decides now and then what is rounded or chosen.
"""

import itertools
from dataclasses import replace
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fedmeta as fm
from fedmeta import aggregators, transforms
from fedmeta._engine.plan import Plan
from fedmeta.aggregators import AGGREGATORS
from fedmeta.algorithms import ALGORITHMS
from fedmeta.transforms import TRANSFORMS
from tests import toys
from tests.examples import cells, in_soak
from tests.oracles import federated

SUPPORT, COHORT, SEED = 0.4, 5, 12
# The cohorts of rounds 1 and 3 have small clients beside large ones; that of round 2 has small ones alone.
PADDED, BUCKETS = (1, 3), (1, 2, 3)
UNEQUAL = toys.classification((10, 6, 10, 6, 6, 6, 6))
# All are padded to the size of one that takes no part in those rounds: the loop over clients is compiled once.
ALIKE = toys.classification((9, 9, 10, 9, 9, 9, 9))
MODEL = toys.network()
ADAM = fm.optimisers.adam(0.05)


def several_inputs():
    def init(key):
        return {"a": jax.random.normal(key, (toys.FEATURES, toys.CLASSES)), "b": jnp.ones(toys.CLASSES)}

    def apply(params, x):
        first, second = x["pair"]
        return jnp.asarray(x["all"], params["a"].dtype) @ params["a"] + jnp.outer(first[:, 0] * second, params["b"])

    return fm.Model(init, apply)


def dropping():
    """The network, with dropout on its inputs while it trains."""

    def apply(params, x, key):
        x = jnp.asarray(x)
        return MODEL.apply(params, x if key is None else x * jax.random.bernoulli(key, 0.5, x.shape) * 2)

    return fm.Model(MODEL.init, apply, needs=("key",))


def normalising():
    """The network, on inputs that are normalised by the mean and deviation of their batch."""

    def apply(params, x, mask):
        x, weight = jnp.asarray(x, params[0]["weight"].dtype), (mask / jnp.maximum(mask.sum(), 1))[:, None]
        gap = x - (x * weight).sum(axis=0)
        return MODEL.apply(params, gap / jnp.sqrt((gap**2 * weight).sum(axis=0) + 0.1))

    return fm.Model(MODEL.init, apply, needs=("mask",))


def federation(algorithm=None, transform=None, aggregator=None, server=ADAM, model=MODEL):
    return fm.Federation(
        fm.FOMAML(inner_lr=0.2) if algorithm is None else algorithm,
        model,
        server,
        transforms.identity() if transform is None else transform,
        aggregators.weighted_mean() if aggregator is None else aggregator,
    )


LOSSY = transforms.chain(transforms.top_k(0.4), transforms.quantise(4))
MADE_GOOD = transforms.error_feedback(LOSSY)
# What is no value without something inside.
OPTIONS = {
    "chain": {"parts": (transforms.clip_by_norm(0.5), transforms.gaussian_noise(0.05))},
    "error_feedback": {"of": LOSSY},
}
LOOPS = {"fedavg": "epochs", "reptile": "minibatches", "fedper": "epochs"}
# SCAFFOLD's controls want the mean as it is.
SERVERS = {"scaffold": fm.optimisers.sgd(1.0)}


def row(table, name):
    """A row of a table as a federation, with as little beside it as can be."""
    if table is ALGORITHMS:
        algorithm = toys.algorithm(name, LOOPS.get(name, "full batch"))
        return federation(algorithm, server=SERVERS.get(name, ADAM))
    if table is AGGREGATORS:
        return federation(
            fm.FedAvg(inner_lr=0.2, inner_batch_size=None), transforms.fixed_point(), aggregators.make(name)
        )
    return federation(transform=transforms.make(name, **OPTIONS.get(name, {})))


PAIRS = {
    "error feedback and the median": lambda: federation(
        toys.algorithm("fedavg", "minibatches"), MADE_GOOD, aggregators.coordinate_median()
    ),
    "error feedback and the trimmed mean": lambda: federation(
        transform=transforms.error_feedback(transforms.quantise(2)), aggregator=aggregators.trimmed_mean(0.3)
    ),
    "error feedback and the geometric median": lambda: federation(
        transform=transforms.chain(transforms.clip_by_norm(0.5), transforms.error_feedback(transforms.top_k(0.2))),
        aggregator=aggregators.geometric_median(),
    ),
    "Meta-SGD, error feedback and Krum": lambda: federation(
        toys.algorithm("meta-sgd"), MADE_GOOD, aggregators.multi_krum()
    ),
    "FedPer, a lossy chain and the median": lambda: federation(
        toys.algorithm("fedper", "minibatches"),
        transforms.chain(transforms.clip_by_norm(0.5), transforms.quantise(4)),
        aggregators.coordinate_median(),
    ),
    "SCAFFOLD and error feedback": lambda: federation(
        toys.algorithm("scaffold", "minibatches", participation=5 / 7), MADE_GOOD, server=SERVERS["scaffold"]
    ),
    "Per-FedAvg around an algorithm with a memory": lambda: federation(
        fm.PerFedAvg(of=toys.algorithm("fedper"), local_steps=2, batch_size=3), transforms.fixed_point()
    ),
    "Adam inside MAML": lambda: federation(fm.MAML(inner=optax.adam(0.05, eps_root=1e-8), inner_steps=2)),
    "momentum over epochs": lambda: federation(
        fm.FedAvg(inner=fm.optimisers.momentum(0.1), inner_epochs=2, inner_batch_size=2), transforms.quantise(8)
    ),
    "some parameters adapt": lambda: federation(toys.algorithm("maml", adaptable=("0/weight",)), transforms.top_k(0.5)),
    "dropout": lambda: federation(toys.algorithm("maml"), model=dropping()),
    "statistics of a batch": lambda: federation(toys.algorithm("fedavg"), model=normalising()),
    "several inputs": lambda: federation(toys.algorithm("maml", "minibatches"), model=several_inputs()),
    "a bare Optax server": lambda: federation(server=optax.yogi(0.05), aggregator=aggregators.norm_clipped_mean(0.3)),
    "rates by filter, error feedback": lambda: federation(toys.algorithm("meta-sgd", rates="filter"), MADE_GOOD),
    "rates by layer, local steps and the median": lambda: federation(
        fm.PerFedAvg(of=toys.algorithm("meta-sgd", rates="layer"), local_steps=2, batch_size=3),
        transforms.fixed_point(),
        aggregators.coordinate_median(),
    ),
}
TABLES = {"algorithm": ALGORITHMS, "aggregator": AGGREGATORS, "transform": TRANSFORMS}
ROWS = [(kind, name) for kind, table in TABLES.items() for name in table]
# One of each kind; Meta-SGD, Per-FedAvg, a median and what loses something are in the pairs.
SOME = [
    *(("algorithm", name) for name in ("fedavg", "maml", "anil", "fedper", "scaffold")),
    *(("aggregator", name) for name in ("trimmed_mean", "geometric_median")),
    ("transform", "gaussian_noise"),
]
CELLS = [*cells(SOME, ROWS), *(("pair", name) for name in cells([*PAIRS][3::3], [*PAIRS]))]


def made(cell):
    kind, name = cell
    return PAIRS[name]() if kind == "pair" else row(TABLES[kind], name)


@pytest.fixture(autouse=True)
def doubles():
    """Double precision; and compiled programs are dropped, for a process can map only so many."""
    with jax.enable_x64(True):
        yield
    if next(_count) % 16 == 15:
        jax.clear_caches()


_count = itertools.count()


def simulator(cell, plan=None, numbers=PADDED):
    data = UNEQUAL if cell[0] in ("algorithm", "aggregator") or numbers == BUCKETS else ALIKE
    if cell[1] == "several inputs":
        pair = np.asarray(data.x[:, :1]), np.asarray(data.x[:, 1])
        data = replace(data, x={"all": data.x, "pair": pair})
    return fm.Simulator(made(cell), data, cohort_size=COHORT, support=SUPPORT, seed=SEED, plan=plan)


@cache
def told(cell, numbers=PADDED):
    """What the loop over clients gives."""
    there = simulator(cell, numbers=numbers)
    cohorts = {number: there.draw(number).clients for number in numbers}
    return federated.rounds(there.federation, there.data, cohorts, SUPPORT, SEED)


def check(cell, plan=None, numbers=PADDED):
    there = simulator(cell, plan, numbers)
    state, (expected, memories) = there.init(), told(cell, numbers)
    assert all(leaf.dtype == jnp.float64 for leaf in jax.tree.leaves(state.phi))
    buckets = []
    for number, right in zip(numbers, expected, strict=True):
        drawn = there.draw(number)
        state, figures = there.step(state, drawn)
        toys.assert_close(state.phi, right.state.phi, rtol=1e-9, atol=1e-12)
        toys.assert_close(state.optimiser, right.state.optimiser, rtol=1e-9, atol=1e-12)
        assert figures.metrics.keys() == right.metrics.keys()
        for name, value in right.metrics.items():
            # A metric of booleans is a mean in float32.
            assert figures.metrics[name] == pytest.approx(value, rel=1e-6 if name == "accuracy" else 1e-9)
        assert drawn.clients == tuple(right.sent)
        assert figures.bytes_up == sum(len(message) for message in right.sent.values())
        buckets.append(drawn.bucket)
        assert number == 2 or min(len(there.data[name]) for name in drawn.clients) < drawn.bucket, "there is padding"
    assert buckets == ([10, 6, 10] if numbers == BUCKETS else [10, 10])
    assert int(state.round) == len(numbers)
    names = sorted(memories)
    kept = there.memory.read(names)
    if jax.tree.leaves(kept):
        stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *[memories[name] for name in names])
        toys.assert_close(kept, stacked, rtol=1e-9, atol=1e-12)
    else:
        assert not any(jax.tree.leaves(memory) for memory in memories.values())


@pytest.mark.parametrize("cell", cells(CELLS[4::8], CELLS), ids=lambda cell: f"{cell[0]} {cell[1]}")
def test_a_compiled_round_is_the_loop_over_clients(cell):
    check(cell)


@in_soak
def test_cohorts_of_several_buckets_go_on_from_one_another():
    check(("pair", "SCAFFOLD and error feedback"), numbers=BUCKETS)


PLANS = [
    ("Meta-SGD, error feedback and Krum", Plan()),
    ("Meta-SGD, error feedback and Krum", Plan(chunk=5, rewrite=False)),
    ("FedPer, a lossy chain and the median", Plan(chunk=2, low_rank=False)),
    ("FedPer, a lossy chain and the median", Plan(rewrite=False)),
    ("FedPer, a lossy chain and the median", Plan(chunk=3, rewrite=False, remat=True)),
    ("FedPer, a lossy chain and the median", Plan(chunk=2, remat=True)),
]


@pytest.mark.parametrize(("name", "plan"), cells(PLANS[2::2], PLANS), ids=str)
def test_every_plan_gives_the_loop_over_clients(name, plan):
    check(("pair", name), plan)


def test_a_row_that_takes_options_has_them_here():
    """So that a new row of a table is run, or asked for by name."""
    for table, names in ((ALGORITHMS, LOOPS), (TRANSFORMS, OPTIONS), (ALGORITHMS, SERVERS)):
        assert set(names) <= set(table)
    made_of = {kind: {name for at, name in ROWS if at == kind} for kind in TABLES}
    assert made_of == {kind: set(table) for kind, table in TABLES.items()}
    for kind, name in ROWS:
        assert getattr(made((kind, name)), kind).name == name


def test_the_loop_tells_a_wrong_round():
    """The comparison is one that fails: where clients' heads are lost between their rounds."""
    cell = ("pair", "FedPer, a lossy chain and the median")
    there, (expected, _) = simulator(cell), told(cell)
    state = there.init()
    for number in PADDED:
        there.memory._rows.clear()
        state, figures = there.step(state, there.draw(number))
        assert figures.metrics
    assert np.abs(toys.flat(state.phi) - toys.flat(expected[-1].state.phi)).max() > 1e-6
