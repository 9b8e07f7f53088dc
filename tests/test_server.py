import jax.numpy as jnp
import numpy as np
import optax

from fedmeta import server

PHI = {"a": jnp.array([1.0, -2.0]), "b": jnp.array(3.0)}


def test_sgd_with_rate_one_subtracts_the_direction():
    optimiser = optax.sgd(1.0)
    direction = {"a": jnp.array([0.5, 0.25]), "b": jnp.array(-1.0)}
    state = server.step(optimiser, server.init(optimiser, PHI), direction)
    np.testing.assert_array_equal(state.phi["a"], [0.5, -2.25])
    np.testing.assert_array_equal(state.phi["b"], 4.0)
    assert int(state.round) == 1


def test_adam_keeps_its_moments_from_round_to_round():
    """Adam's own equations (arXiv 1412.6980, algorithm 1), over several rounds of changing directions."""
    rate, decay1, decay2, small = 0.1, 0.9, 0.999, 1e-8
    optimiser = optax.adam(rate)
    state = server.init(optimiser, PHI["a"])
    expected, first, second = np.array([1.0, -2.0]), np.zeros(2), np.zeros(2)
    draw = np.random.default_rng(0)
    for number in range(1, 5):
        direction = draw.normal(size=2)
        state = server.step(optimiser, state, jnp.asarray(direction, jnp.float32))
        first = decay1 * first + (1 - decay1) * direction
        second = decay2 * second + (1 - decay2) * direction**2
        unbiased = first / (1 - decay1**number), second / (1 - decay2**number)
        expected = expected - rate * unbiased[0] / (np.sqrt(unbiased[1]) + small)
        np.testing.assert_allclose(state.phi, expected, rtol=1e-5)
        assert int(state.round) == number
