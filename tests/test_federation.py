"""The server's step, and that federations made alike are equal."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax

import fedmeta as fm
from fedmeta.federation import ServerState

PHI = {"a": jnp.array([1.0, -2.0]), "b": jnp.array(3.0)}


def federation(server):
    return fm.Federation(fm.MAML(), fm.models.mlp((4, 3)), server)


def start(server, phi):
    return ServerState(phi, server.init(phi), jnp.zeros((), jnp.int32))


def test_sgd_with_rate_one_subtracts_the_pseudo_gradient():
    server = optax.sgd(1.0)
    pseudo_gradient = {"a": jnp.array([0.5, 0.25]), "b": jnp.array(-1.0)}
    state = federation(server).step(start(server, PHI), pseudo_gradient)
    np.testing.assert_array_equal(state.phi["a"], [0.5, -2.25])
    np.testing.assert_array_equal(state.phi["b"], 4.0)
    assert int(state.round) == 1


def test_adam_keeps_its_moments_from_round_to_round():
    """Adam's own equations (arXiv 1412.6980, algorithm 1), over several rounds of changing pseudo-gradients."""
    rate, decay1, decay2, small = 0.1, 0.9, 0.999, 1e-8
    server = optax.adam(rate)
    state = start(server, PHI["a"])
    expected, first, second = np.array([1.0, -2.0]), np.zeros(2), np.zeros(2)
    draw = np.random.default_rng(0)
    for number in range(1, 5):
        pseudo_gradient = draw.normal(size=2)
        state = federation(server).step(state, jnp.asarray(pseudo_gradient, jnp.float32))
        first = decay1 * first + (1 - decay1) * pseudo_gradient
        second = decay2 * second + (1 - decay2) * pseudo_gradient**2
        unbiased = first / (1 - decay1**number), second / (1 - decay2**number)
        expected = expected - rate * unbiased[0] / (np.sqrt(unbiased[1]) + small)
        np.testing.assert_allclose(state.phi, expected, rtol=1e-5)
        assert int(state.round) == number


def test_federations_made_alike_are_equal_and_others_are_not():
    def made(rate=1e-3, hidden=8, bits=8, algorithm=fm.MAML(inner_lr=0.1)):  # noqa: B008
        return fm.Federation(algorithm, fm.models.mlp((4, hidden, 3)), optax.adam(rate), fm.transforms.quantise(bits))

    assert made() == made()
    assert hash(made()) == hash(made())
    for other in (made(rate=1e-2), made(hidden=9), made(bits=4), made(algorithm=fm.MAML(inner_lr=0.2))):
        assert made() != other


MISUSE = """
import optax, fedmeta as fm
for part, value in {
    "algorithm": fm.MAML,
    "model": lambda x: x,
    "server": optax.adam,
    "transform": "quantise",
    "aggregator": fm.aggregators.coordinate_median,
}.items():
    parts = {"algorithm": fm.MAML(), "model": fm.models.mlp((4, 3)), part: value}
    try:
        fm.Federation(**parts)
    except fm.errors.UsageError as error:
        print(error)
"""


def test_a_part_that_is_something_else_is_named():
    """In a process of its own, for here the annotations are checked first."""
    found = subprocess.run([sys.executable, "-c", MISUSE], capture_output=True, text=True, check=True).stdout
    said = [
        "algorithm must be such as fm.MAML(), not the class MAML",
        "model must be such as fm.models.mlp((4, 8, 3)), not the function",
        "server must be one of fm.optimisers such as fm.optimisers.adam(1e-3), or an Optax transformation, not",
        "transform must be such as fm.transforms.quantise(8), not 'quantise'",
        "aggregator must be such as fm.aggregators.coordinate_median(), not the class coordinate_median",
    ]
    assert len(found.splitlines()) == len(said)
    for line, start in zip(found.splitlines(), said, strict=True):
        assert line.startswith(start)


def test_half_precision_moments_keep_their_types():
    phi = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), PHI)
    server = fm.optimisers.adam(0.1)
    state = start(server, phi)
    after = federation(server).step(state, jax.tree.map(lambda leaf: leaf.astype(jnp.float32), PHI))
    assert [leaf.dtype for leaf in jax.tree.leaves(after)] == [leaf.dtype for leaf in jax.tree.leaves(state)]
