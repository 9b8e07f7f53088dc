"""How much clients adapt, against the algorithm that says so itself."""

import math
from dataclasses import replace

import jax
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fedmeta as fm
from fedmeta import pytrees
from fedmeta.algorithms import make
from fedmeta.errors import UsageError
from fedmeta.study.dose import Dose, Doses, choose, possible
from tests import toys
from tests.examples import cells, examples

KEY = jax.random.key(3)

PHI = {"w": np.zeros(2, np.float32)}

SHARED = ["fedavg-meta", "maml", "fomaml", "reptile", "anil"]
"""Algorithms whose phi is a network alone, and whose clients adapt."""


@pytest.fixture(scope="module")
def clients():
    return toys.classification()


@pytest.fixture(scope="module")
def network():
    return toys.network()


def adapted(algorithm, network, phi, clients):
    """What a client's network becomes."""
    task = clients.task("c0", 0.5, 0)
    return algorithm.adapt(network, phi, task.support, KEY, algorithm.memory(network, KEY))


def same(one, other):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7), one, other)


def close(one, other):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5), one, other)


@pytest.mark.parametrize("part", ["all", "head"])
@pytest.mark.parametrize("name", cells(["anil"], SHARED))
def test_a_dose_is_what_the_algorithm_gives_at_that_rate(name, part, network, clients):
    # The factor is of the rate with which clients adapt, where they have one of their own.
    for own in ({}, {"adapt_lr": 0.05}):
        algorithm = make(name, inner_lr=0.2, adapt_epochs=3, **own)
        phi = algorithm.init(network, KEY)
        given, new = Dose(rate=3.0, steps=4, part=part).of(algorithm, network, phi)
        like = replace(algorithm, adapt_lr=3 * own.get("adapt_lr", 0.2), adapt_steps=4, adapt_epochs=None)
        if part == "head":
            like = replace(like, adaptable=network.head)
        close(adapted(given, network, new, clients), adapted(like, network, phi, clients))


def test_all_rates_are_one_program(network):
    algorithm = fm.MAML(inner_lr=0.2)
    phi = algorithm.init(network, KEY)
    one, other = (Dose(rate=rate, steps=4, part="all").of(algorithm, network, phi) for rate in (0.5, 3.0))
    assert one[0] == other[0]
    assert set(jax.tree.leaves(other[1]["inner_lr"])) == {np.float32(0.6)}


def test_fedper_has_its_rate_from_the_dose(network):
    given, _ = Dose(rate=0.5, steps=2, part="all").of(fm.FedPer(inner_lr=0.2), network, "phi")
    assert given == fm.FedPer(inner_lr=0.2, adapt_lr=0.1, adapt_steps=2)


def test_per_fedavg_passes_a_dose_on(network, clients):
    outside = fm.PerFedAvg(of=fm.MAML(inner_lr=0.2), local_steps=3)
    phi = outside.init(network, KEY)
    given, new = Dose(rate=2.0, steps=3, part="head").of(outside, network, phi)
    inside = fm.MAML(inner_lr=0.2, adapt_lr=0.4, adapt_steps=3, adaptable=network.head)
    close(adapted(given, network, new, clients), adapted(inside, network, phi, clients))


def test_an_optimiser_of_the_users_keeps_its_rate(network):
    algorithm = fm.FedAvgMeta(inner=fm.optimisers.adam(0.01))
    given, _ = Dose(rate=1.0, steps=6, part="all").of(algorithm, network, "phi")
    assert given == replace(algorithm, adapt_steps=6)
    assert [rate for rate, _ in possible(algorithm, Doses(rates=(0.3, 3.0)), network)] == [1.0]


@pytest.mark.parametrize("rates", [None, "filter", "layer"])
def test_of_meta_sgd_the_learned_rates_are_multiplied(rates, network):
    algorithm = fm.MetaSGD(inner_lr=0.125, rates=rates)
    phi = algorithm.init(network, KEY)
    given, new = Dose(rate=2.0, steps=2, part="all").of(algorithm, network, phi)
    assert given == replace(algorithm, adapt_steps=2)
    same(new["inner_lr"], jax.tree.map(lambda leaf: np.full(leaf.shape, 0.25), phi["inner_lr"]))
    same(new["params"], phi["params"])


@pytest.mark.parametrize("rates", cells(["layer"], [None, "filter", "layer"]))
@pytest.mark.parametrize("inner", cells([None], [None, fm.optimisers.adam(1.0)]))
def test_meta_sgd_takes_as_many_steps_as_the_dose_says_at_those_rates(rates, inner, network, clients):
    algorithm = fm.MetaSGD(inner_lr=0.1, rates=rates, inner=inner)
    phi = algorithm.init(network, KEY)
    phi["inner_lr"] = jax.tree.map(lambda leaf: leaf * 1.7, phi["inner_lr"])
    given, new = Dose(rate=2.0, steps=2, part="all").of(algorithm, network, phi)
    task = clients.task("c0", 0.5, 0)
    params, optimiser = phi["params"], optax.sgd(1.0) if inner is None else optax.adam(1.0)
    state, slope = optimiser.init(params), jax.jit(jax.grad(lambda p: network.scores(p, task.support)[0]))
    for _ in range(2):
        gradient = slope(params)
        steps, state = optimiser.update(gradient, state)
        params = jax.tree.map(lambda p, s, rate: p + 2.0 * rate * s, params, steps, phi["inner_lr"])
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5),
        adapted(given, network, new, clients),
        params,
    )


def test_of_meta_sgd_all_but_the_head_stands_still(network, clients):
    algorithm = fm.MetaSGD(inner_lr=0.5)
    phi = algorithm.init(network, KEY)
    given, new = Dose(rate=2.0, steps=1, part="head").of(algorithm, network, phi)
    (head, body), (_, before) = (
        pytrees.split(params, network.head) for params in (adapted(given, network, new, clients), phi["params"])
    )
    same(body, before)
    like = fm.MAML(inner_lr=1.0, inner_steps=1, adaptable=network.head)
    same(head, pytrees.split(adapted(like, network, phi["params"], clients), network.head)[0])


@pytest.mark.parametrize("name", cells(["maml"], [*SHARED, "meta-sgd"]))
def test_no_steps_are_no_adaptation(name, network, clients):
    algorithm = make(name, inner_lr=0.2)
    phi = algorithm.init(network, KEY)
    given, new = Dose(rate=3.0, steps=0, part="all").of(algorithm, network, phi)
    same(adapted(given, network, new, clients), phi["params"] if name == "meta-sgd" else phi)


def test_what_can_be_tried_depends_on_the_algorithm_and_the_network(network):
    doses = Doses(rates=(1.0, 3.0), parts=("all", "head"))
    both = [(1.0, "all"), (1.0, "head"), (3.0, "all"), (3.0, "head")]
    assert list(possible(fm.MAML(), doses, network)) == both
    assert list(possible(fm.MetaSGD(), doses, network)) == both
    assert list(possible(fm.PerFedAvg(), doses, network)) == both
    # ANIL adapts the head as it is, and a network may have none that is named.
    assert list(possible(fm.ANIL(), doses, network)) == [(1.0, "all"), (3.0, "all")]
    assert list(possible(fm.MAML(), doses, replace(network, head=None))) == [(1.0, "all"), (3.0, "all")]
    assert list(possible(fm.FedAvg(), doses, network)) == []


@examples(20)
@given(st.lists(st.floats(-1, 1), min_size=8, max_size=8))
def test_the_best_is_chosen_and_of_equals_the_fewest_steps(values):
    """The report is a table that is made up: by rate and steps."""
    doses, values = Doses(rates=(1.0, 3.0), steps=3), np.round(values, 1)
    # Without a step, the rate does not matter.
    told = {1.0: values[:4], 3.0: [values[0], *values[5:]]}
    found = choose(fm.MAML(inner_lr=0.1), toys.network(), PHI, doses, _answers(told), lambda scores: scores["figure"])
    assert len(found) == 8
    best = max(max(each) for each in told.values())
    fewest = min(steps for each in told.values() for steps, value in enumerate(each) if value == best)
    dose, value = next(iter(found.items()))
    assert (value, dose.steps) == (best, fewest)
    if dose.rate != 1.0:
        assert told[1.0][fewest] < best
    assert list(found.values()) == sorted(found.values(), reverse=True)


def test_what_is_not_finite_is_the_worst():
    told = {1.0: [0.1, math.nan, math.inf, -0.3]}
    found = choose(
        fm.MAML(inner_lr=0.1), toys.network(), PHI, Doses(steps=3), _answers(told), lambda one: one["figure"]
    )
    assert [dose.steps for dose in found] == [0, 3, 1, 2]
    assert list(found.values()) == [0.1, -0.3, -math.inf, -math.inf]


def _answers(told):
    """Ask as `choose` does, with made-up values by the factor of the rate."""

    class Pooled:
        def __init__(self, value):
            self.pooled = {"figure": value}

    class Made:
        def __init__(self, values):
            self.steps = [Pooled(value) for value in values]

    def ask(algorithm, phi):
        (rate,) = {float(rate) for rate in jax.tree.leaves(phi["inner_lr"])}
        return Made(told[round(rate / 0.1, 5)])

    return ask


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"rates": ()}, r"the rates of a dose are factors above 0, not \[\]"),
        ({"rates": (1.0, 0.0)}, r"factors above 0, not \[1.0, 0.0\]"),
        ({"steps": 0}, "at least 1, not 0"),
        ({"parts": ()}, r"parts of a dose are of all, head, not \[\]"),
        ({"parts": ("body",)}, r"not \['body'\]"),
    ],
)
def test_doses_out_of_range_are_named(options, said):
    with pytest.raises(UsageError, match=said):
        Doses(**options)
