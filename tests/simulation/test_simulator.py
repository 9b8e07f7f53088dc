"""The simulator as it is driven from outside: init, draw, step."""

import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import optax
import pytest

import fedmeta as fm
from fedmeta._engine.plan import Plan
from fedmeta.errors import DataError, Diverged, UsageError
from tests import toys

ROOT = Path(__file__).parents[2]
DATA = toys.classification()
FEDPER = fm.FedPer(inner_lr=0.2, inner_steps=1)


def federation(algorithm=None, model=None, **parts):
    parts = {"server": fm.optimisers.adam(0.05), **parts}
    return fm.Federation(algorithm or fm.MAML(inner_lr=0.2), model or toys.network(), **parts)


def simulator(*parts, data=DATA, **options):
    return fm.Simulator(federation(*parts), data, **{"cohort_size": 3, "support": 0.5, **options})


@pytest.fixture(scope="module")
def maml(model):
    """A simulator without any memory, for what only looks."""
    return fm.Simulator(federation(model=model), DATA, cohort_size=3, support=0.5)


def play(simulator, numbers=(1, 2)):
    """Return the state after these rounds, and their metrics."""
    state, metrics = simulator.init(), []
    for number in numbers:
        state, figures = simulator.step(state, simulator.draw(number))
        metrics.append(figures.metrics)
    return state, metrics


@pytest.fixture
def compilations():
    """How many programs have been compiled since the test began."""
    seen = []

    def count(name, *_, **__):
        if name == "/jax/core/compile/backend_compile_duration":
            seen.append(name)

    jax.monitoring.register_event_duration_secs_listener(count)
    yield lambda: len(seen)
    jax.monitoring.unregister_event_duration_listener(count)


def test_a_loop_over_steps_is_a_run(maml, model):
    run = fm.train(
        fm.MAML(inner_lr=0.2), model, DATA, rounds=3, cohort_size=3, support=0.5, server=fm.optimisers.adam(0.05)
    )
    state, metrics = play(maml, (1, 2, 3))
    assert toys.same_bits(state, run.state)
    for row, own in zip(run.rows, metrics, strict=True):
        assert {name: row[name] for name in own} == own


def test_a_state_is_not_consumed_and_may_be_stepped_from_again(maml):
    start = maml.init()
    before = jax.device_get(start)
    drawn = maml.draw(1)
    first, _ = maml.step(start, drawn)
    second, _ = maml.step(start, drawn)
    assert toys.same_bits(start, before)
    assert toys.same_bits(first, second)
    other, _ = maml.step(start, maml.draw(2))
    assert not toys.same_bits(other.phi, first.phi)
    assert int(first.round) == 1


def test_a_spent_state_lends_its_memory_and_changes_nothing(maml):
    start = maml.init()
    drawn = maml.draw(1)
    spent, _ = maml.step(start, drawn)
    wanted, _ = maml.step(start, maml.draw(2))
    found, figures = maml.step(start, maml.draw(2), spent=spent)
    assert figures.metrics
    assert toys.same_bits(found, wanted)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(spent.phi))
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(start))


def test_rounds_are_drawn_in_any_order_and_as_often_as_one_likes(maml):
    forwards = {number: maml.draw(number) for number in (1, 2, 3)}
    for number in (3, 1, 3, 2):
        again = maml.draw(number)
        assert (again.round, again.clients, again.bucket) == forwards[number][:3]
        assert toys.same_bits(again.cohort, forwards[number].cohort)
    assert len({drawn.clients for drawn in forwards.values()}) > 1
    assert all(len(set(drawn.clients)) == 3 for drawn in forwards.values())


def test_another_seed_is_another_start_and_other_cohorts(model):
    first, second = (fm.Simulator(federation(model=model), DATA, cohort_size=3, seed=seed) for seed in (0, 1))
    assert not toys.same_bits(first.init().phi, second.init().phi)
    assert [first.draw(n).clients for n in range(1, 5)] != [second.draw(n).clients for n in range(1, 5)]


def test_a_step_does_not_wait_and_reading_the_metrics_does(maml, monkeypatch):
    """A step takes nothing to the host and asks for no array to be ready."""
    from fedmeta._engine import sharding

    start, drawn = maml.init(), maml.draw(1)
    wanted, figures = maml.step(start, drawn)
    assert figures.metrics
    waited = []
    for module, name in ((sharding, "to_host"), (jax, "device_get"), (jax, "block_until_ready")):
        called = getattr(module, name)
        monkeypatch.setattr(module, name, lambda tree, name=name, call=called: waited.append(name) or call(tree))
    after, figures = maml.step(start, drawn)
    assert waited == []
    assert figures.clients == drawn.clients
    assert figures.bytes_up > 0
    assert waited == []
    assert figures.metrics["loss"] > 0
    assert "to_host" in waited
    assert toys.same_bits(after, wanted)


def test_a_run_of_steps_counts_its_bytes(model):
    """FedPer sends the body alone, here of 4 x 5 weights and 4 biases in float32, and a weight."""
    there = fm.Simulator(federation(FEDPER, model), DATA, cohort_size=3, support=0.5)
    _, figures = there.step(there.init(), there.draw(1))
    assert figures.bytes_down == 3 * 4 * 24
    assert figures.bytes_up == 3 * (4 * 24 + 4)
    quantised = federation(FEDPER, model, transform=fm.transforms.quantise(2))
    there = fm.Simulator(quantised, DATA, cohort_size=3, support=0.5)
    _, figures = there.step(there.init(), there.draw(1))
    assert figures.bytes_up == 3 * ((5 + 4) + (1 + 4) + 4)


def test_a_second_simulator_of_an_equal_federation_compiles_no_round(compilations):
    def once():
        # Everything is made anew: the model, the algorithm, the optimiser, the data.
        there = fm.Simulator(
            federation(FEDPER, toys.network(), server=optax.adam(0.05)),
            toys.classification(),
            cohort_size=3,
            support=0.5,
        )
        start, drawn = there.init(), there.draw(1)
        before = compilations()
        state, figures = there.step(start, drawn)
        assert figures.metrics
        return state, compilations() - before

    (first, some), (second, none) = once(), once()
    assert some > 0
    assert none == 0
    assert toys.same_bits(first, second)


def test_another_federation_is_another_program(model):
    """Values that differ in one number are not taken for one another."""
    states = [
        play(fm.Simulator(federation(fm.MAML(inner_lr=rate), model), DATA, cohort_size=3), (1,))[0]
        for rate in (0.2, 0.3, 0.2)
    ]
    assert not toys.same_bits(states[0].phi, states[1].phi)
    assert toys.same_bits(states[0], states[2])


def test_one_federation_in_single_and_in_double_precision(model):
    """What was found out of it in the one is not taken for the other."""
    chosen = federation(model=model)

    def bytes_up():
        there = fm.Simulator(chosen, DATA, cohort_size=3, support=0.5)
        state, figures = there.step(there.init(), there.draw(1))
        assert figures.metrics
        return state.phi[0]["bias"].dtype, figures.bytes_up

    for _ in range(2):
        assert bytes_up() == (np.float32, 3 * 4 * (39 + 1))
        with jax.enable_x64(True):
            assert bytes_up() == (np.float64, 3 * 8 * (39 + 1))


@pytest.mark.parametrize("plan", [Plan(chunk=2), Plan(rewrite=False)], ids=str)
def test_a_plan_that_is_given_is_taken(plan, maml, model):
    there = fm.Simulator(federation(model=model), DATA, cohort_size=3, support=0.5, plan=plan)
    assert there.plan == plan
    toys.assert_close(play(there)[0], play(maml)[0], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"cohort_size": 0}, "cohort_size must lie between 1 and the 6 clients that can train, not 0"),
        ({"cohort_size": 7}, "cohort_size must lie between 1 and the 6 clients that can train, not 7"),
        ({"support": 0.0}, "support"),
        ({"support": 1.0}, "support"),
        ({"max_examples": 1}, "max_examples must be at least 2"),
    ],
    ids=str,
)
def test_an_argument_out_of_range_is_named(options, said, model):
    with pytest.raises(UsageError, match=said):
        fm.Simulator(federation(model=model), DATA, **options)


@pytest.mark.parametrize("number", [0, -1])
def test_rounds_are_counted_from_one(number, maml):
    with pytest.raises(UsageError, match=f"round must be at least 1, not {number}"):
        maml.draw(number)


def test_numbers_of_numpy_are_taken():
    """In a process of its own, for here types are checked before the library sees them."""
    lines = (
        "import numpy as np",
        "import fedmeta as fm",
        "from tests import toys",
        "made = fm.Federation(fm.MAML(inner_lr=0.2), toys.network())",
        "def seen(whole, real, small):",
        "    options = {'cohort_size': whole(3), 'support': real(0.5), 'seed': small(7), 'max_examples': whole(8)}",
        "    there = fm.Simulator(made, toys.classification(), **options)",
        "    state, figures = there.step(there.init(), there.draw(small(2)))",
        "    return figures.clients, toys.flat(state.phi).tobytes(), figures.round, dict(figures.metrics)",
        "assert seen(np.int64, np.float64, np.uint8) == seen(int, float, int)",
        "for name in ('cohort_size', 'seed', 'max_examples'):",
        "    for wrong in (2.5, 'x', True):",
        "        try: fm.Simulator(made, toys.classification(), **{name: wrong})",
        "        except fm.errors.UsageError as error: said = str(error)",
        "        assert said == f'{name} must be a whole number, not {wrong!r}', said",
    )
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_who_cannot_be_split_is_left_out(model):
    with pytest.warns(UserWarning, match="1 of 4 clients have fewer than 2 examples"):
        there = fm.Simulator(federation(model=model), toys.classification((1, 4, 4, 4)), cohort_size=3, support=0.5)
    assert there.left_out == 1
    assert set(there.draw(1).clients) == {"c1", "c2", "c3"}
    with pytest.raises(DataError, match="no client of"):
        fm.Simulator(federation(model=model), toys.classification((1, 1)), cohort_size=1)


# What is not finite.


def poisoned(client):
    """The data, with one input of one client far too large."""
    x = np.array(DATA.x[:])
    x[toys.client_rows(DATA, DATA.position(client))[0]] = 1e30
    return fm.data.FederatedDataset(x, DATA.y, DATA.starts, DATA.sizes, DATA.ids, DATA.info)


def square(key):
    return jax.numpy.ones((toys.FEATURES, toys.CLASSES))


def exploding():
    return fm.Model(square, lambda params, x: (jax.numpy.asarray(x) @ params) ** 2)


@pytest.mark.parametrize("algorithm", [fm.MAML(inner_lr=0.2), fm.FedAvg(inner_lr=0.2)], ids=str)
def test_a_client_whose_update_is_not_finite_is_named_when_the_figures_are_read(algorithm):
    there = fm.Simulator(federation(algorithm, exploding()), poisoned("c3"), cohort_size=6, support=0.5)
    state = there.init()
    after, figures = there.step(state, there.draw(1))
    with pytest.raises(
        Diverged, match="round 1: the update of client 'c3' is not finite; the state after round 0 is k"
    ):
        _ = figures.metrics
    # The state before is as good as ever.
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))
    assert not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(after.phi))


def test_clients_keep_nothing_of_a_round_that_diverged():
    model = fm.Model(
        lambda key: {"body": square(key), "head": jax.numpy.ones(toys.CLASSES)},
        lambda params, x: (jax.numpy.asarray(x) @ params["body"]) ** 2 * params["head"],
        head=("head",),
    )
    there = fm.Simulator(federation(FEDPER, model), poisoned("c3"), cohort_size=6, support=0.5)
    _, figures = there.step(there.init(), there.draw(1))
    with pytest.raises(Diverged, match="client 'c3'"):
        _ = figures.metrics
    assert len(there.memory) == 0


def test_a_servers_step_that_is_not_finite_is_told_apart(model):
    server = optax.scale(float("inf"))
    there = fm.Simulator(federation(model=model, server=server), DATA, cohort_size=3, support=0.5)
    _, figures = there.step(there.init(), there.draw(1))
    with pytest.raises(Diverged, match="round 1: the server's step is not finite; the state after round 0 is kept"):
        _ = figures.metrics
