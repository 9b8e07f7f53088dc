"""A member's message is what the simulation's client sends, by draws that are nobody else's."""

import functools
import hashlib
import hmac
import json
from dataclasses import replace

import jax
import numpy as np
import pytest

import fedmeta as fm
from fedmeta import optimisers, pytrees, random, transforms
from fedmeta.errors import DataError, Diverged, UsageError
from fedmeta.federation import Message
from fedmeta.node.aggregation import Exact
from fedmeta.node.training import Draws, train
from fedmeta.runs.inputs import Inputs
from fedmeta.runs.procedure import Procedure
from tests import toys
from tests.examples import cells, in_soak

GRID = transforms.fixed_point(20, 24)
SECRET = bytes(range(32))
DATA = toys.classification()
ROUND = 4


def procedure(transform=GRID, **changed):
    return Procedure(
        **{
            "algorithm": fm.FedAvg(inner_lr=0.2),
            "server": optimisers.sgd(1.0),
            "transform": transform,
            "model": "mlp",
            "model_options": {"hidden": (4,)},
            "inputs": Inputs((toys.FEATURES,), ("a", "b", "c")),
            "rounds": 9,
            "cohort_size": 1,
            "support": 0.4,
            **changed,
        }
    )


@functools.cache
def begun(made):
    return Exact(made).initial()


def sent(made=None, data=None, state=None, round=ROUND, secret=SECRET):
    made = procedure() if made is None else made
    return train(
        made, DATA.select([0]) if data is None else data, begun(made) if state is None else state, round, secret
    )


def read(made, message):
    fed = made.federation
    return pytrees.from_bytes(message, Message(fed.transform.body_like(fed.phi_like), np.float32(0)))


ALGORITHMS = [fm.FedAvg(inner_lr=0.2), fm.MAML(inner_steps=2), fm.Reptile(), fm.MetaSGD(inner_steps=2)]
BEFORE = [(), (transforms.clip_by_norm(0.1),), (transforms.clip_by_norm(0.1), transforms.gaussian_noise(0.01))]


@pytest.mark.parametrize(
    "algorithm",
    cells([fm.FedAvg(inner_lr=0.2), fm.MetaSGD(inner_steps=2)], ALGORITHMS),
    ids=lambda one: one.name,
)
@pytest.mark.parametrize("before", cells(BEFORE[1:], BEFORE))
def test_it_is_the_update_of_the_federations_client(algorithm, before):
    made = procedure(transforms.chain(*before, GRID), algorithm=algorithm, max_examples=8)
    fed, draws = made.federation, Draws(made, begun(made), ROUND, SECRET)
    state = Exact(made).read_state(begun(made))
    task = DATA.task("c0", 0.4, draws.seed("support", "c0"), max_examples=8, round=ROUND)
    memory = fed.memory(random.default_key())
    message, _, _ = jax.jit(fed.client)(state.phi, task, draws.key("update", "c0"), memory)
    assert sent(made) == pytrees.to_bytes(message)


def test_it_is_what_the_simulator_computes_with_the_same_keys():
    """With the simulator's padding, which may move the last bit of a float, and so a number by a step."""
    made = procedure()
    draws = Draws(made, begun(made), ROUND, SECRET)
    simulator = fm.Simulator(
        made.federation, DATA.select([0]), cohort_size=1, support=0.4, seed=draws.seed("support", "c0")
    )
    drawn = simulator.draw(ROUND)
    words = np.asarray(jax.random.key_data(draws.key("update", "c0")))
    drawn = drawn._replace(cohort=drawn.cohort._replace(keys=words[None]))
    exact = Exact(made)
    simulated, _ = simulator.step(simulator.place(exact.read_state(begun(made))), drawn)
    aggregated = exact.read_state(exact.aggregate(begun(made), [sent(made)]))
    toys.assert_close(jax.device_get(simulated), aggregated, rtol=0, atol=2.0**-19)
    moved = np.abs(toys.flat(aggregated.phi) - toys.flat(exact.read_state(begun(made)).phi)).max()
    assert moved > 1e-3


def test_the_same_again_and_another_with_any_other_secret_round_state_or_procedure():
    made = procedure(transforms.chain(transforms.gaussian_noise(0.01), GRID))
    other = replace(made, rounds=10)
    state = bytearray(begun(made))
    state[-1] ^= 1
    found = [
        sent(made),
        sent(made, secret=SECRET[::-1]),
        sent(made, round=ROUND + 1),
        sent(made, state=bytes(state)),
        sent(other, state=begun(made)),
    ]
    assert sent(made) == found[0]
    assert len(set(found)) == len(found)


def test_another_state_has_other_noise():
    """Else the difference of two messages would be free of it."""
    made = procedure(transforms.chain(transforms.gaussian_noise(1.0), GRID))
    one, two = bytearray(begun(made)), bytearray(begun(made))
    two[-1] ^= 1
    difference = toys.flat(read(made, sent(made, state=bytes(one))).body) - toys.flat(
        read(made, sent(made, state=bytes(two))).body
    )
    assert np.std(difference) > 2**20


def test_draws_are_the_code_by_the_secret():
    made = procedure()
    text = json.dumps(
        ["fedmeta.node.training", made.digest, hashlib.sha256(b"state").hexdigest(), 3, "update", "ä"]
    ).encode()
    code = hmac.new(SECRET, text, "sha256").digest()
    draws = Draws(made, b"state", 3, SECRET)
    assert draws.seed("update", "ä") == int.from_bytes(code[:8], "little")
    np.testing.assert_array_equal(
        jax.random.key_data(draws.key("update", "ä")), [int.from_bytes(code[i : i + 4], "little") for i in (0, 4)]
    )


@in_soak
@pytest.mark.parametrize("norm", [0.05, 50.0])
def test_several_clients_send_their_mean_clipped_as_a_whole(norm):
    made = procedure(transforms.chain(transforms.clip_by_norm(norm), GRID))
    fed, data = made.federation, DATA.select([0, 1, 2])
    draws, phi = Draws(made, begun(made), ROUND, SECRET), Exact(made).read_state(begun(made)).phi
    updates = [
        toys.update_of(fed.algorithm, fed.model, draws.key("update", name))(
            phi, data.task(name, 0.4, draws.seed("support", name), round=ROUND)
        )
        for name in data.client_ids
    ]
    weights = np.array([12.0, 6.0, 12.0])
    assert [float(update.weight) for update in updates] == weights.tolist()
    mean = np.average([toys.flat(update.pseudo_gradient) for update in updates], axis=0, weights=weights)
    expected = mean * min(1, norm / np.linalg.norm(mean))
    assert 0.05 < np.linalg.norm(mean) < 50
    message = read(made, sent(made, data))
    np.testing.assert_allclose(toys.flat(message.body) / 2**20, expected, atol=2.0**-19)
    assert message.weight == 30


@pytest.mark.parametrize("places", [[0], [0, 1, 2]])
def test_where_clients_weigh_alike_a_member_weighs_one(places):
    made = procedure(algorithm=fm.MAML(inner_steps=1))
    assert read(made, sent(made, DATA.select(places))).weight == 1


def test_clients_with_a_single_example_are_left_out():
    whole = toys.classification()
    sizes = whole.sizes.copy()
    sizes[1] = 1
    few = replace(whole, sizes=sizes).select([0, 1])
    assert sent(data=few) == sent()
    with pytest.raises(DataError, match=r"no client of .* has two examples"):
        sent(data=few.select([1]))


@pytest.mark.parametrize("change", [lambda state: state[:-1], lambda state: state + b"\0", lambda state: b""])
def test_a_state_of_another_length_is_refused(change):
    with pytest.raises(DataError, match=r"a state of this procedure has .* bytes, and this one has"):
        sent(state=change(begun(procedure())))


def test_a_state_that_is_not_finite_is_refused():
    state = np.float32(np.nan).tobytes() + begun(procedure())[4:]
    with pytest.raises(DataError, match="the state's phi is not finite"):
        sent(state=state)


def test_a_short_secret_and_a_round_that_is_none_are_refused():
    with pytest.raises(UsageError, match="secret must have at least 32 bytes, not 31"):
        sent(secret=SECRET[1:])
    with pytest.raises(UsageError, match="round must be at least 1, not 0"):
        sent(round=0)


@pytest.mark.parametrize("algorithm", [fm.SCAFFOLD(inner_steps=2), fm.FedPer()], ids=lambda one: one.name)
def test_a_procedure_whose_clients_keep_something_is_refused(algorithm):
    with pytest.raises(UsageError, match=f"{algorithm.title} with fixed_point.* keeps something at the client"):
        sent(procedure(algorithm=algorithm))


def test_a_precision_that_a_node_does_not_have_is_refused():
    with pytest.raises(UsageError, match="a node trains in float32, and the procedure's precision is bfloat16"):
        sent(procedure(precision="bfloat16"))


def test_data_that_do_not_fit_are_refused():
    with pytest.raises(UsageError):
        sent(procedure(inputs=Inputs((toys.FEATURES + 1,), ("a", "b", "c"))))


def test_an_update_that_diverges_is_an_error():
    made = procedure(algorithm=fm.FedAvg(inner_lr=1e38, inner_epochs=30))
    with pytest.raises(Diverged, match=r"round 4: the other members would refuse this update: .* not finite"):
        sent(made)
