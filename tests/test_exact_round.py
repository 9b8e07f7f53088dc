"""A round on NumPy's float64 gives one state, whoever computes it: in any order of clients, with any instructions.

Run as a program it prints the digests, for a process in which NumPy may use fewer instructions.
"""

import functools
import itertools
import json
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import jax
import numpy as np
import optax
import pytest

import fedmeta as fm
from fedmeta import aggregators, optimisers, pytrees, random, transforms
from fedmeta.aggregators import AGGREGATORS
from fedmeta.errors import UsageError
from fedmeta.federation import Message, add, stack
from fedmeta.optimisers import OPTIMISERS
from tests import toys

ROOT = Path(__file__).parents[1]
PLACES = 20
# Of which the sum and a mean are long fractions; the sum of the weights is no power of two.
WEIGHTS = (1, 700, 3, 2**18, 41)
ORDERS = list(itertools.permutations(range(len(WEIGHTS))))
MODEL = toys.network()


def federation(aggregator=None, server=None):
    return fm.Federation(
        fm.MAML(),
        MODEL,
        server or optimisers.adam(0.05),
        transforms.fixed_point(PLACES),
        aggregator or aggregators.weighted_mean(),
    )


@functools.cache
def messages(number=0):
    """What five clients send: whole numbers, and a weight each."""
    fed, draw = federation(), np.random.default_rng(number)
    found = []
    for weight in WEIGHTS:
        update = jax.tree.map(lambda leaf: draw.normal(size=leaf.shape).astype(np.float32), fed.phi_like)
        body, _ = fed.transform.encode(update, (), random.default_key())
        sent = pytrees.to_bytes(Message(body, np.float32(weight)))
        like = Message(fed.transform.body_like(fed.phi_like), np.float32(0))
        found.append(pytrees.from_bytes(sent, like))
    return tuple(found)


@functools.cache
def start(fed):
    """A state in which the moments are no zeros."""
    state = jax.device_get(fed.init(random.default_key()))
    return fed.exact_finish(state, summed(fed, 9, range(5)))


@functools.cache
def lifted(fed, number):
    """The parts of what five clients send, and the digest of each."""
    parts = [fed.exact_lift(message) for message in messages(number)]
    return parts, [pytrees.digest(part) for part in parts]


def summed(fed, number, order):
    """What `finish` takes: the parts added in this order, or where a rule rounds, in the order of their digests."""
    parts, digest = lifted(fed, number)
    if fed.aggregator == aggregators.weighted_mean():
        return functools.reduce(add, [parts[place] for place in order])
    parts = [parts[place] for place in sorted(order, key=digest.__getitem__)]
    return functools.reduce(add, parts) if fed.aggregator.needs == "sum" else stack(parts)


def digests(aggregator=None, server=None, orders=ORDERS, rounds=1):
    """The digests of the state after so many rounds, over these orders of the clients."""
    fed = federation(aggregator, server)
    first, found = start(fed), set()
    for order in orders:
        state = first
        for number in range(rounds):
            state = fed.exact_finish(state, summed(fed, number, order))
        found.add(pytrees.digest(state))
    return found


def everything():
    """A digest for each rule, and one for each server after three rounds."""
    rules = {name: digests(aggregators.make(name), orders=ORDERS[:2]) for name in AGGREGATORS}
    servers = {
        name: digests(server=optimisers.make(name, learning_rate=0.05), orders=ORDERS[:2], rounds=3)
        for name in OPTIMISERS
    }
    return {
        f"{kind} {name}": sorted(found)
        for kind, some in (("rule", rules), ("server", servers))
        for name, found in some.items()
    }


@pytest.mark.parametrize("name", AGGREGATORS)
def test_every_order_of_the_clients_gives_one_state(name):
    """The mean adds them as they come; what is scaled down or averaged over some lies on no grid and has an order."""
    assert len(digests(aggregators.make(name))) == 1


def test_off_the_grid_the_order_shows():
    """So the comparison above can fail."""
    fed = federation()
    rough = [
        fm.aggregators.weighted_mean().lift(
            jax.tree.map(lambda leaf: leaf / 3.0, fed.exact_lift(m).tree), np.float64(1)
        )
        for m in messages()
    ]
    assert len({pytrees.digest(functools.reduce(add, [rough[place] for place in order])) for order in ORDERS}) > 1


@pytest.mark.parametrize("name", OPTIMISERS)
def test_three_rounds_of_every_server_give_one_state(name):
    server = optimisers.make(name, learning_rate=0.05)
    once, other = (
        digests(server=server, rounds=3),
        digests(server=optimisers.make(name, learning_rate=0.06), orders=ORDERS[:1], rounds=3),
    )
    assert len(once) == 1
    assert once != other


def test_the_mean_is_that_of_fractions():
    fed = federation()
    found = fed.aggregator.finish(summed(fed, 0, range(5)))
    everything = sum(map(Fraction, WEIGHTS))
    for place, leaf in enumerate(jax.tree.leaves(found)):
        steps = [jax.tree.leaves(message.body)[place].ravel() for message in messages()]
        for number, value in enumerate(leaf.ravel()):
            whole = sum(
                weight * Fraction(int(each[number]), 2**PLACES) for weight, each in zip(WEIGHTS, steps, strict=True)
            )
            # Nothing but the last division is rounded; a fraction becomes the nearest float.
            assert value == float(whole / everything)


def test_the_state_after_plain_descent_is_that_of_fractions():
    """phi - lr * mean, rounded where float64 rounds, and to float32 at the end."""
    fed = federation(server=optimisers.sgd(0.25))
    state = start(fed)
    total = summed(fed, 0, range(5))
    after = fed.exact_finish(state, total)
    for new, old, mean in zip(*map(jax.tree.leaves, (after.phi, state.phi, fed.aggregator.finish(total))), strict=True):
        assert new.dtype == old.dtype == np.float32
        for a, b, m in zip(new.ravel(), old.ravel(), mean.ravel(), strict=True):
            # A product with a quarter is exact, so the difference alone is rounded.
            assert a == np.float32(float(Fraction(float(b)) - Fraction(float(m)) / 4))
    assert int(after.round) == int(state.round) + 1


def test_leaving_a_client_out_is_a_subtraction():
    fed = federation()
    whole = summed(fed, 0, range(5))
    for place in range(5):
        own = fed.exact_lift(messages()[place])
        left = jax.tree.map(lambda a, b: a - b, whole, own)
        others = summed(fed, 0, [other for other in range(5) if other != place])
        assert pytrees.digest(left) == pytrees.digest(others)
        assert pytrees.digest(fed.exact_finish(start(fed), left)) == pytrees.digest(
            fed.exact_finish(start(fed), others)
        )


def test_the_exact_round_is_near_the_compiled_one():
    for name in AGGREGATORS:
        fed = federation(aggregators.make(name))
        state = start(fed)
        exact = fed.exact_finish(state, summed(fed, 0, range(5)))
        parts = [fed.lift(jax.tree.map(jax.numpy.asarray, message)) for message in messages()]
        total = functools.reduce(add, parts) if fed.aggregator.needs == "sum" else stack(parts)
        usual = jax.jit(fed.finish)(jax.tree.map(jax.numpy.asarray, state), total)
        toys.assert_close(jax.device_get(usual), exact, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("weight", [0.5, -1.0, 2.0**20 + 1, float("nan"), float("inf")])
def test_a_weight_that_is_no_whole_number_in_range_is_refused(weight):
    with pytest.raises(UsageError, match=r"a message's weight must be a whole number from 0 to 1048576, not"):
        federation().exact_lift(messages()[0]._replace(weight=np.float32(weight)))


def test_a_server_without_a_name_is_refused():
    fed = federation(server=optax.adam(0.05))
    state = fed.init(random.default_key())
    with pytest.raises(UsageError, match=r"only a server of fm\.optimisers gives the same bytes"):
        fed.exact_finish(state, summed(fed, 0, range(5)))


def test_the_digests_are_the_same_whatever_the_processor_can_do():
    features = np._core._multiarray_umath.__cpu_features__
    optional = [name for name in np._core._multiarray_umath.__cpu_dispatch__ if features[name]]
    if not optional:
        pytest.skip("NumPy takes no optional vector instructions on this processor")
    environment = {**os.environ, "NPY_DISABLE_CPU_FEATURES": " ".join(optional), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-m", "tests.test_exact_round"]
    plain = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert plain.returncode == 0, plain.stderr
    found = json.loads(plain.stdout)
    assert len(found) == len(AGGREGATORS) + len(OPTIMISERS)
    assert found == everything()


if __name__ == "__main__":
    print(json.dumps(everything()))
