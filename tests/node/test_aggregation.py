"""The exact path on bytes: one digest, whoever computes it, and nothing of a message that is not well formed.

Run as a program it prints the digests, for a process with other libraries, threads or instructions.
"""

import functools
import hashlib
import json
import math
import os
import struct
import subprocess
import sys
import tracemalloc
import venv
from fractions import Fraction
from pathlib import Path

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fedmeta as fm
from fedmeta import aggregators, optimisers, pytrees, transforms
from fedmeta.aggregators import AGGREGATORS
from fedmeta.errors import DataError, Diverged, UsageError
from fedmeta.federation import Message, add, stack
from fedmeta.node.aggregation import HEAVIEST, Exact
from fedmeta.node.errors import MessageRefused, WrongArithmetic
from fedmeta.node.known_answers import KNOWN
from fedmeta.node.wire.chunks import Blob
from fedmeta.optimisers import OPTIMISERS
from fedmeta.runs.inputs import Inputs
from fedmeta.runs.procedure import Procedure
from tests.examples import TIMES, cells, examples
from tests.node import rounded

ROOT = Path(__file__).parents[2]
PLACES, BITS = 20, 24
GRID = transforms.fixed_point(PLACES, BITS)
CLIPPED = transforms.chain(transforms.clip_by_norm(1.0), GRID)
MOST = 2 ** (BITS - 1) - 1
CLIENTS = 7


def procedure(transform=GRID, **changed):
    return Procedure(
        **{
            "algorithm": fm.FedAvg(),
            "server": optimisers.adam(0.05),
            "transform": transform,
            "model": "mlp",
            "model_options": {"hidden": (11,)},
            "inputs": Inputs((5,), ("a", "b", "c")),
            "rounds": 3,
            "cohort_size": CLIENTS,
            **changed,
        }
    )


@functools.cache
def exact(rule="weighted_mean", server="adam", **options):
    made = optimisers.make(server, learning_rate=0.05)
    return Exact(procedure(aggregator=aggregators.make(rule), server=made), **options)


@functools.cache
def sent(number=0, clients=CLIENTS, scale=1.0):
    """Messages with weights of which no sum is a power of two."""
    draw, fed = np.random.default_rng(number), procedure().federation
    found = []
    for client in range(clients):
        tree = jax.tree.map(lambda leaf: (scale * draw.normal(size=leaf.shape)).astype(np.float32), fed.phi_like)
        body, _ = fed.transform.encode(tree, (), jax.random.key(0))
        found.append(pytrees.to_bytes(Message(body, np.float32(3 * client + 1))))
    return tuple(found)


@functools.cache
def begun(rule="weighted_mean", server="adam"):
    """A state in which the moments are no zeros."""
    one = exact(rule, server)
    return one.aggregate(one.initial(), sent(9))


def edited(message, place, value):
    return message[: 4 * place] + struct.pack("<i", value) + message[4 * place + 4 :]


def weighing(message, weight):
    return message[:-4] + struct.pack("<f", weight)


def digests():
    """A digest for each rule and server after two rounds, and whether the known answers are right."""
    Exact.known_answer()
    found = {}
    for rule, server in [*((rule, "adam") for rule in AGGREGATORS), *(("weighted_mean", name) for name in OPTIMISERS)]:
        one = exact(rule, server, threads=2)
        state = one.aggregate(one.aggregate(begun(rule, server), sent(1)), sent(2))
        found[f"{rule} {server}"] = hashlib.sha256(state).hexdigest()
    return found


@pytest.mark.parametrize("case", KNOWN, ids=lambda case: f"{case.rule} {case.server}")
def test_the_known_answers_are_those_of_exact_fractions(case):
    assert hashlib.sha256(rounded.known(case.rule, case.server)).hexdigest() == case.digest


def test_this_machine_finds_the_known_answers():
    Exact.known_answer()


def test_a_machine_that_computes_otherwise_is_noticed(monkeypatch):
    """As one does that takes numbers below the normal ones for zero."""
    plain = Exact._decoded
    monkeypatch.setattr(Exact, "_decoded", lambda *args: plain(*args) * (1 + 2.0**-50))
    with pytest.raises(
        WrongArithmetic, match=r"the known answer of weighted_mean and adam is [0-9a-f]{64}, and this machine finds"
    ):
        Exact.known_answer()


def test_a_known_state_holds_a_number_below_the_normal_ones():
    known = KNOWN[0]
    state, _ = known.given(Exact(known.procedure()))
    assert struct.unpack("<f", state[:4])[0] == 2.0**-140 < np.finfo(np.float32).tiny


@pytest.mark.parametrize("rule", AGGREGATORS)
def test_bytes_give_what_the_federation_gives_of_arrays(rule):
    one, fed = exact(rule, block=7), exact(rule).federation
    like = Message(fed.transform.body_like(fed.phi_like), np.float32(0))
    ordered = sorted(sent(), key=lambda message: hashlib.sha256(message).digest())
    parts = [fed.exact_lift(pytrees.from_bytes(message, like)) for message in ordered]
    total = functools.reduce(add, parts) if fed.aggregator.needs == "sum" else stack(parts)
    expected = fed.exact_finish(one.read_state(begun(rule)), total)
    assert one.aggregate(begun(rule), sent()) == pytrees.to_bytes(expected)


@pytest.mark.parametrize("rule", AGGREGATORS)
@examples(20)
@given(order=st.permutations(range(CLIENTS)), block=st.integers(1, 150), threads=st.integers(1, 3))
def test_any_order_any_blocks_and_any_threads_give_one_state(rule, order, block, threads):
    one = exact(rule)
    expected = one.aggregate(begun(rule), sent())
    other = Exact(one.procedure, block=block, threads=threads)
    assert other.aggregate(begun(rule), [sent()[place] for place in order]) == expected


@examples(30)
@given(order=st.permutations(range(CLIENTS)), cut=st.integers(1, CLIENTS - 1))
def test_any_grouping_of_the_mean_gives_one_state(order, cut):
    fed = exact().federation
    like = Message(fed.transform.body_like(fed.phi_like), np.float32(0))
    parts = [fed.exact_lift(pytrees.from_bytes(sent()[place], like)) for place in order]
    total = add(functools.reduce(add, parts[:cut]), functools.reduce(add, parts[cut:]))
    after = fed.exact_finish(exact().read_state(begun()), total)
    assert pytrees.to_bytes(after) == exact().aggregate(begun(), sent())


def test_another_message_gives_another_state():
    changed = (edited(sent()[0], 3, 5), *sent()[1:])
    assert exact().aggregate(begun(), changed) != exact().aggregate(begun(), sent())
    assert exact().aggregate(begun(), sent()[:-1]) != exact().aggregate(begun(), sent())


def test_equal_messages_count_each():
    """Two clients may send the same bytes."""
    one, twice = sent()[0], weighing(sent()[0], 2.0)
    assert exact().aggregate(begun(), [one, one, sent()[1]]) == exact().aggregate(begun(), [twice, sent()[1]])


def test_a_state_is_phi_then_the_optimisers_own_then_the_round():
    one = exact()
    state = one.federation.init(fm.random.as_key(fm.random.key_data(0, "init")))
    assert one.initial() == pytrees.to_bytes(state)
    assert one.initial().startswith(pytrees.to_bytes(state.phi))
    assert one.initial()[-4:] == bytes(4)
    assert begun()[-4:] == (1).to_bytes(4, "little")
    assert len(begun()) == one.state_length == len(one.initial())


def test_a_result_is_the_digest_of_the_blob():
    assert exact().result(begun()) == Blob.of(begun()).id
    assert len(exact().result(begun())) == 32


def test_messages_of_one_and_of_two_bytes_a_number():
    for bits in (8, 16):
        one = Exact(procedure(transforms.fixed_point(4, bits), server=optimisers.sgd(1.0)))
        size = (one.message_length - 4) // (bits // 8)
        numbers = np.full(size, 3, f"<i{bits // 8}").tobytes()
        after = one.read_state(one.aggregate(bytes(one.state_length), [numbers + struct.pack("<f", 1.0)]))
        assert all((leaf == -3 / 16).all() for leaf in jax.tree.leaves(after.phi))


@examples(30)
@given(numbers=st.lists(st.floats(-7, 7, width=32), min_size=CLIENTS, max_size=CLIENTS), places=st.integers(2, 12))
@pytest.mark.parametrize("rule", ["weighted_mean", "coordinate_median", "trimmed_mean"])
def test_the_grid_costs_at_most_half_a_step(rule, numbers, places):
    """In each coordinate, and of the mean one rounding more; against fractions of what was not yet quantised."""
    grid = transforms.fixed_point(places, 16)
    one = Exact(procedure(grid, aggregator=aggregators.make(rule), server=optimisers.sgd(1.0)))
    like = one.federation.phi_like
    weights = [client + 1 for client in range(CLIENTS)]
    messages = [
        pytrees.to_bytes(
            Message(
                grid.encode(jax.tree.map(lambda leaf, x=x: np.full(leaf.shape, x, np.float32), like), (), None)[0],
                np.float32(w),
            )
        )
        for x, w in zip(numbers, weights, strict=True)
    ]
    found = one._gradient(messages)(0, slice(0, 1))[0]
    values = sorted(map(Fraction, numbers))
    expected = {
        "weighted_mean": sum(w * Fraction(x) for w, x in zip(weights, numbers, strict=True)) / sum(weights),
        "coordinate_median": values[CLIENTS // 2],
        "trimmed_mean": sum(values) / CLIENTS,
    }[rule]
    assert abs(Fraction(float(found)) - expected) <= Fraction(1, 2 ** (places + 1)) + abs(expected) / 2**50


def test_beyond_the_range_a_number_is_cut_off():
    tree = {"a": np.array([1e9, -1e9], np.float32)}
    body, _ = GRID.encode(tree, (), None)
    np.testing.assert_array_equal(body["a"], [MOST, -MOST])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda m: m[:-1], r"has 412 bytes, and this one has 411"),
        (lambda m: m + b"\0", r"has 412 bytes, and this one has 413"),
        (lambda m: b"", r"has 412 bytes, and this one has 0"),
        (
            lambda m: edited(m, 0, MOST + 1),
            rf"from -{MOST} to {MOST} steps, and number 0 of 0/bias is {MOST + 1} steps",
        ),
        (lambda m: edited(m, 14, -(2**31)), r"number 3 of 0/weight is -2147483648 steps"),
        (lambda m: edited(m, 101, -MOST - 1), r"number 32 of 1/weight stands for a number that is not finite"),
        (lambda m: weighing(m, 0.0), r"weight must be a whole number from 1 to 1048576, not 0"),
        (lambda m: weighing(m, -1.0), r"weight must be a whole number from 1 to 1048576, not -1"),
        (lambda m: weighing(m, 1.5), r"weight must be a whole number from 1 to 1048576, not 1.5"),
        (lambda m: weighing(m, 2.0 * HEAVIEST), r"weight must be a whole number from 1 to 1048576, not 2.09715e\+06"),
        (lambda m: weighing(m, math.nan), r"weight must be a whole number from 1 to 1048576, not nan"),
        (lambda m: weighing(m, math.inf), r"weight must be a whole number from 1 to 1048576, not inf"),
    ],
)
def test_a_message_that_is_not_well_formed_is_refused(change, said):
    message = change(sent()[0])
    with pytest.raises(MessageRefused, match=said):
        exact().check(message)
    with pytest.raises(MessageRefused, match=said):
        exact().aggregate(begun(), (*sent()[1:], message))


def test_the_largest_numbers_and_weights_are_taken():
    message = edited(edited(sent()[0], 0, MOST), 1, -MOST)
    exact().check(weighing(message, float(HEAVIEST)))
    exact().check(weighing(message, 1.0))


def test_where_clients_weigh_alike_a_weight_is_one():
    one = Exact(procedure(algorithm=fm.MAML()))
    one.check(weighing(sent()[0], 1.0))
    with pytest.raises(MessageRefused, match="weight must be 1, for clients weigh alike, not 2"):
        one.check(weighing(sent()[0], 2.0))


def longest(one, norm):
    """The largest sum of squares that is allowed, by integers alone."""
    size = (one.message_length - 4) // 4
    slack = Fraction(1, 1024) + Fraction(1, 2**23)
    return (Fraction(norm) * 2**PLACES * (1 + slack) + Fraction(math.isqrt(size - 1) + 1, 2)) ** 2


def spread(one, squares):
    """A message with the largest number whose square is allowed, and the rest in ones."""
    size = (one.message_length - 4) // 4
    first = math.isqrt(squares)
    numbers, left = [first], squares - first * first
    while left and len(numbers) < size:
        numbers.append(min(math.isqrt(left), MOST))
        left -= numbers[-1] ** 2
    assert not left
    return struct.pack(f"<{size}i", *numbers, *[0] * (size - len(numbers))) + struct.pack("<f", 1.0)


@pytest.mark.parametrize("norm", [1.0, 0.37, 2.5])
def test_a_norm_is_checked_to_the_last_step(norm):
    one = Exact(procedure(transforms.chain(transforms.clip_by_norm(norm), GRID)))
    allowed = math.floor(longest(one, norm))
    one.check(spread(one, allowed))
    with pytest.raises(MessageRefused, match=r"a message's norm must be at most .* to which the procedure clips"):
        one.check(spread(one, allowed + 1))


@examples(30)
@given(seed=st.integers(0, 10**6), norm=st.floats(1e-4, 4), size=st.sampled_from([1e-3, 1.0, 1e3]))
def test_what_an_honest_client_clips_is_taken(seed, norm, size):
    transform = transforms.chain(transforms.clip_by_norm(norm), GRID)
    one, draw = Exact(procedure(transform)), np.random.default_rng(seed)
    like = one.federation.phi_like
    tree = jax.tree.map(lambda leaf: (size * draw.normal(size=leaf.shape)).astype(np.float32), like)
    body, _ = transform.encode(tree, transform.init(tree), jax.random.key(seed))
    one.check(pytrees.to_bytes(Message(body, np.float32(1))))


def test_the_shortest_norm_counts_and_noise_ends_what_came_before():
    clip, noise = transforms.clip_by_norm, transforms.gaussian_noise(0.1)
    for parts, norm in (
        ((clip(3.0), clip(1.0)), 1.0),
        ((clip(1.0), clip(3.0)), 1.0),
        ((clip(1.0), transforms.chain(noise, clip(2.0))), 2.0),
    ):
        one = Exact(procedure(transforms.chain(*parts, GRID)))
        one.check(spread(one, math.floor(longest(one, norm))))
        with pytest.raises(MessageRefused, match="norm must be at most"):
            one.check(spread(one, math.floor(longest(one, norm)) + 1))
    free = Exact(procedure(transforms.chain(clip(1.0), noise, GRID)))
    free.check(spread(free, MOST**2))


def test_a_norm_that_overflows_machine_integers_is_refused():
    """13 million numbers of 24 bits have squares whose sum is beyond 2**63."""
    wide = Exact(procedure(CLIPPED, model="softmax_regression", model_options={}, inputs=Inputs((2**18,), ("a", "b"))))
    size = (wide.message_length - 4) // 4
    assert MOST**2 * size > 2**64
    with pytest.raises(MessageRefused, match="norm must be at most"):
        wide.check(np.full(size, MOST, "<i4").tobytes() + struct.pack("<f", 1.0))


def test_a_state_of_another_length_is_refused():
    for wrong in (begun()[:-1], begun() + b"\0"):
        with pytest.raises(DataError, match=rf"a state of this procedure has {len(begun())} bytes, and this one has"):
            exact().aggregate(wrong, sent())


def test_too_few_messages_are_refused():
    with pytest.raises(UsageError, match="takes 1 messages or more, and there are 0"):
        exact().aggregate(begun(), [])
    with pytest.raises(UsageError, match="takes 5 messages or more, and there are 4"):
        exact("krum").aggregate(begun("krum"), sent()[:4])


def test_weights_with_which_a_sum_might_round_are_refused():
    heavy = [weighing(message, float(HEAVIEST)) for message in sent()[:2]]
    exact().aggregate(begun(), heavy)
    with pytest.raises(UsageError, match=r"messages of 24 bits with a weight of .* may not add exactly in float64"):
        exact().aggregate(begun(), heavy * 513)


def test_a_state_that_is_not_finite_is_an_error():
    one = exact(server="sgd")
    state = np.frombuffer(one.initial(), "<f4").copy()
    state[3] = np.nan
    with pytest.raises(Diverged, match="the next state is not finite"):
        one.aggregate(state.tobytes(), sent())


@pytest.mark.parametrize(
    ("transform", "said"),
    [
        (transforms.identity(), r"the last transform of a procedure for a node must be fixed_point.*not identity\(\)"),
        (transforms.chain(GRID, transforms.clip_by_norm(1.0)), "must be fixed_point.*not clip_by_norm"),
        (transforms.error_feedback(GRID), "must be fixed_point.*not error_feedback"),
        (transforms.chain(transforms.top_k(0.1), GRID), "before fixed_point a node takes .*, not top_k"),
        (transforms.chain(transforms.chain(transforms.quantise(8)), GRID), "before fixed_point .*, not quantise"),
    ],
)
def test_a_procedure_that_is_not_exact_is_refused(transform, said):
    with pytest.raises(UsageError, match=said):
        Exact(procedure(transform))


def test_other_wrong_settings_are_refused():
    for name in ("block", "threads"):
        with pytest.raises(UsageError, match=f"{name} must be at least 1, not 0"):
            Exact(procedure(), **{name: 0})


def test_with_jaxs_64_bits_there_is_no_exact_path(x64):
    with pytest.raises(UsageError, match="a node computes without JAX's 64 bits"):
        Exact(procedure())


@pytest.mark.parametrize("rule", cells(("krum",), AGGREGATORS))
def test_the_memory_is_what_is_said(rule):
    """So that a duty that would not fit is not taken; in blocks it is far less than the messages as floats."""
    size = 2**16
    wide = {"model": "softmax_regression", "model_options": {}, "inputs": Inputs((size // 2,), ("a", "b"))}
    one = Exact(procedure(aggregator=aggregators.make(rule), **wide), block=1 << 8)
    zeros = bytes(one.message_length - 8)
    messages = [zeros + struct.pack("<if", client, 1.0) for client in range(20)]
    state = bytes(one.state_length)
    tracemalloc.start()
    one.aggregate(state, messages)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    held = 20 * one.message_length + one.state_length
    assert one.memory(20) / 4 < peak + held < one.memory(20) + 2**20
    if rule in ("weighted_mean", "coordinate_median", "trimmed_mean"):
        assert peak < 2 * one.state_length + 20 * 8 * size / 8


def elsewhere(python=sys.executable, **environment):
    """Return the digests that another process finds."""
    done = subprocess.run(
        [python, "-m", "tests.node.test_aggregation"],
        cwd=ROOT,
        env={**os.environ, "JAX_PLATFORMS": "cpu", **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_digests_are_the_same_whatever_the_processor_can_do():
    features = np._core._multiarray_umath.__cpu_features__
    optional = [name for name in np._core._multiarray_umath.__cpu_dispatch__ if features[name]]
    if not optional:
        pytest.skip("NumPy takes no optional vector instructions on this processor")
    found = elsewhere(NPY_DISABLE_CPU_FEATURES=" ".join(optional), OMP_NUM_THREADS="1")
    assert found.pop("numpy") == np.__version__
    assert len(found) == len(AGGREGATORS) + len(OPTIMISERS) - 1
    assert found == digests()


OTHER = "2.1.3" if np.__version__ != "2.1.3" else "2.2.6"


@pytest.mark.skipif(not TIMES, reason="fetches another NumPy: in `make soak`")
def test_digests_are_the_same_with_another_version_of_numpy(tmp_path):
    """A folder with another NumPy before all that is installed here."""
    there = tmp_path / "other"
    venv.create(there, with_pip=True, system_site_packages=True)
    fetched = subprocess.run(
        [there / "bin/python", "-m", "pip", "install", "--quiet", "--target", tmp_path / "numpy", f"numpy=={OTHER}"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if fetched.returncode:
        pytest.skip(f"NumPy {OTHER} cannot be fetched: {fetched.stderr.strip().splitlines()[-1:]}")
    path = os.pathsep.join([str(tmp_path / "numpy"), *(entry for entry in sys.path if entry)])
    found = elsewhere(PYTHONPATH=path)
    assert found.pop("numpy") == OTHER
    assert found == digests()


if __name__ == "__main__":
    print(json.dumps({"numpy": np.__version__, **digests()}))
