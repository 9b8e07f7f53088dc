import jax
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fedmeta as fm
from fedmeta import server
from fedmeta._engine import sharding
from fedmeta._engine.cohort import client_key, pack
from fedmeta._engine.plan import Plan
from fedmeta._engine.program import evaluation_program, round_program
from fedmeta.errors import UsageError
from fedmeta.task import pad
from tests import toys

KEYS = [client_key(0, "client batches", 1, name) for name in "abc"]
LENGTHS = (9, 9)
PLANS = [Plan(), Plan(chunk=2)]


@pytest.mark.parametrize("plan", PLANS, ids=str)
@settings(max_examples=15)
@given(st.lists(st.integers(1, 9), min_size=2, max_size=2), st.integers(0, 100))
def test_a_client_gets_the_same_model_alone_and_beside_any_other(model, plan, sizes, seed):
    """One compiled program serves all sizes, so what is compared is only what the padding holds."""
    algorithm = toys.algorithm("maml", "epochs")
    phi = algorithm.init(model, jax.random.key(0))
    program = evaluation_program(algorithm, model, False, plan, "float32", sharding.mesh(1))
    own = toys.task(4, 6, seed=1)
    other = toys.task(*sizes, seed=seed)
    first = program(phi, pack([own, other], LENGTHS, KEYS[:2]))
    second = program(phi, pack([other, own], LENGTHS, [KEYS[1], KEYS[0]]))
    for name in first:
        np.testing.assert_array_equal(first[name][0], second[name][1])


@pytest.mark.parametrize("plan", PLANS, ids=str)
def test_a_round_of_padded_clients_is_the_mean_of_their_own_updates(model, plan):
    algorithm = toys.algorithm("maml")
    tasks = [toys.task(support, query, seed=support) for support, query in ((2, 9), (4, 4))]
    state = server.init(optax.sgd(1.0), algorithm.init(model, jax.random.key(0)))
    program = round_program(algorithm, model, optax.sgd(1.0), plan, "float32", sharding.mesh(1))
    result = program(state, None, pack(tasks, LENGTHS, KEYS[:2]))
    update = jax.jit(lambda task, key: algorithm.client_update(model, state.phi, task, key))
    updates = [update(task, jax.random.wrap_key_data(key)) for task, key in zip(tasks, KEYS[:2], strict=True)]
    mean = jax.tree.map(lambda *parts: sum(parts) / 2, *[update.direction for update in updates])
    toys.assert_close(jax.tree.map(np.subtract, state.phi, result.state.phi), mean)
    losses = [float(update.metrics["loss"]) for update in updates]
    np.testing.assert_allclose(result.metrics["loss"], np.mean(losses), rtol=1e-5)


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
    batch = pad(fm.Batch(np.ones((2, 3), np.float32), np.ones(2, np.int32)), 4)
    assert batch.mask.tolist() == [1, 1, 0, 0]
    assert not batch.x[2:].any()
    assert float(batch.num_examples) == 2
    with pytest.raises(UsageError, match="cannot pad 4 examples to 3"):
        pad(batch, 3)
