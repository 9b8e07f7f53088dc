import jax.numpy as jnp
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fedmeta import aggregate
from tests import toys


@given(st.sampled_from([1, 4]), st.integers(0, 2**31))
def test_the_weighted_mean_is_numpys(clients, seed):
    draw = np.random.default_rng(seed)
    directions = {"a": draw.normal(size=(clients, 3)), "b": [draw.normal(size=(clients, 2, 2))]}
    directions["a"], directions["b"][0] = (
        directions["a"].astype(np.float32),
        directions["b"][0].astype(np.float32),
    )
    weights = draw.uniform(0.1, 20, clients).astype(np.float32)
    expected = {
        "a": np.average(directions["a"], axis=0, weights=weights),
        "b": [np.average(directions["b"][0], axis=0, weights=weights)],
    }
    toys.assert_close(aggregate.weighted_mean(directions, jnp.asarray(weights)), expected)


def test_a_client_without_weight_adds_nothing():
    directions = np.array([[1.0, 2.0], [50.0, 60.0]], np.float32)
    mean = aggregate.weighted_mean(directions, jnp.array([3.0, 0.0]))
    np.testing.assert_array_equal(mean, directions[0])


def test_the_mean_of_no_weight_is_zero():
    directions = np.ones((2, 3), np.float32)
    np.testing.assert_array_equal(aggregate.weighted_mean(directions, jnp.zeros(2)), np.zeros(3))
