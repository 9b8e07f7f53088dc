from dataclasses import replace

import jax
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fedmeta as fm
from fedmeta._engine import sharding
from fedmeta._engine.cohort import Cohort, client_key, read
from fedmeta._engine.plan import Plan
from fedmeta._engine.program import evaluation_program, round_program
from fedmeta.errors import UsageError
from fedmeta.task import pad
from tests import toys

KEYS = [client_key(0, "client batches", 1, name) for name in "abc"]
KEY = jax.random.key(0)
LENGTHS = (9, 9)
PLANS = [Plan(), Plan(chunk=2)]


def pack(tasks, lengths, keys):
    """Return the cohort of these tasks, padded with zeros."""
    padded = [fm.Task(pad(task.support, lengths[0]), pad(task.query, lengths[1])) for task in tasks]
    stacked = jax.tree.map(lambda *parts: np.stack(parts), *padded)
    return Cohort(stacked, np.stack(keys), np.ones(len(tasks), np.float32))


@pytest.mark.parametrize("several", [False, True])
def test_a_cohort_that_is_read_holds_the_tasks_of_its_clients_and_counts_nothing_else(data, several):
    if several:
        data = replace(data, x={"all": data.x, "pair": (np.asarray(data.x[:, :1]), data.x[:, 1])})
    places, split = [3, 1], {"support": 0.4, "seed": 2, "max_examples": 9}
    cohort = read(data, places, LENGTHS, KEYS[:2], filled=3, **split)
    assert cohort.present.tolist() == [1, 1, 0]
    for number, (place, key) in enumerate(zip([*places, places[0]], [*KEYS[:2], KEYS[0]], strict=True)):
        task = data.task_at(place, **split)
        for found, side in ((cohort.tasks.support, task.support), (cohort.tasks.query, task.query)):
            own = jax.tree.map(lambda part: part[number][: len(side)], found)  # noqa: B023
            assert toys.same_bits(own, side)
            assert not found.mask[number, len(side) :].any()
            padding = jax.tree.map(lambda part: part[number][len(side) :], found.x)  # noqa: B023
            first = jax.tree.map(lambda part: np.broadcast_to(part[:1], (9 - len(side), *part.shape[1:])), side.x)  # noqa: B023
            assert toys.same_bits(padding, first)
        assert cohort.keys[number].tolist() == key.tolist()


@pytest.mark.parametrize("plan", PLANS, ids=str)
@settings(max_examples=15)
@given(st.lists(st.integers(1, 9), min_size=2, max_size=2), st.integers(0, 100))
def test_a_client_gets_the_same_model_alone_and_beside_any_other(model, plan, sizes, seed):
    """One compiled program serves all sizes, so what is compared is only what the padding holds."""
    algorithm = toys.algorithm("maml", "epochs")
    phi = algorithm.init(model, KEY)
    federation = fm.Federation(algorithm, model)
    memory = federation.memory(KEY)
    program = evaluation_program(federation, False, True, plan, "float32", sharding.mesh(1))
    own = toys.task(4, 6, seed=1)
    other = toys.task(*sizes, seed=seed)
    first = program(phi, pack([own, other], LENGTHS, KEYS[:2]), memory)
    second = program(phi, pack([other, own], LENGTHS, [KEYS[1], KEYS[0]]), memory)
    for here, there in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        np.testing.assert_array_equal(here[0], there[1])


@pytest.mark.parametrize("plan", PLANS, ids=str)
def test_a_round_of_padded_clients_is_the_mean_of_their_own_updates(model, plan):
    federation = fm.Federation(toys.algorithm("maml"), model, optax.sgd(1.0))
    tasks = [toys.task(support, query, seed=support) for support, query in ((2, 9), (4, 4))]
    state, memory = federation.init(KEY), federation.memory(KEY)
    program = round_program(federation, plan, "float32", sharding.mesh(1))
    after, metrics, finite, _ = program(state, None, pack(tasks, LENGTHS, KEYS[:2]), memory)
    client = jax.jit(lambda task, key: federation.client(state.phi, task, key, memory))
    answers = [client(task, jax.random.wrap_key_data(key)) for task, key in zip(tasks, KEYS[:2], strict=True)]
    mean = jax.tree.map(lambda *parts: sum(parts) / 2, *[message.body for message, _, _ in answers])
    toys.assert_close(jax.tree.map(np.subtract, state.phi, after.phi), mean)
    losses = [float(own["loss"]) for _, own, _ in answers]
    np.testing.assert_allclose(metrics["loss"], np.mean(losses), rtol=1e-5)
    assert bool(finite)


def test_keys_differ_by_purpose_round_client_and_seed():
    places = [
        (seed, purpose, number, name)
        for seed in (0, 1)
        for purpose in ("a", "b")
        for number in (1, 2)
        for name in ("x", "y")
    ]
    assert len({client_key(*place).tobytes() for place in places}) == len(places)
    assert client_key(*places[0]).tobytes() == client_key(*places[0]).tobytes()


def test_padding_adds_zeros_that_do_not_count():
    x = {"a": np.ones((2, 3), np.float32), "b": np.ones(2, np.uint8)}
    batch = pad(fm.Batch(x, np.ones(2, np.int32)), 4)
    assert batch.mask.tolist() == [1, 1, 0, 0]
    assert batch.y.tolist() == [1, 1, 0, 0]
    for name, part in batch.x.items():
        np.testing.assert_array_equal(part[:2], x[name])
        assert not part[2:].any()
        assert part.dtype == x[name].dtype
    assert float(batch.num_examples) == 2
    with pytest.raises(UsageError, match="cannot pad 4 examples to 3"):
        pad(batch, 3)
