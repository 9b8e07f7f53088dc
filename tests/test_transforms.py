"""Each transform by closed forms and bounds, and what all transforms promise."""

import functools
import itertools
import math
from dataclasses import fields, replace

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmeta import transforms
from fedmeta.errors import DataError, FedmetaError, UnknownName, UsageError
from fedmeta.transforms import (
    TRANSFORMS,
    Levels,
    Sparse,
    chain,
    clip_by_norm,
    error_feedback,
    fixed_point,
    gaussian_noise,
    identity,
    quantise,
    top_k,
)
from tests import toys
from tests.examples import cells

SPARSE = chain(top_k(0.25), quantise(4))
# Each by itself, and a chain before, inside and around another.
EACH = [
    identity(),
    clip_by_norm(1.5),
    gaussian_noise(0.1),
    quantise(2),
    top_k(0.25),
    fixed_point(8, 16),
    SPARSE,
    error_feedback(SPARSE),
    chain(clip_by_norm(1.5), error_feedback(SPARSE)),
]
CASES = cells(
    EACH,
    [
        *EACH,
        quantise(1),
        quantise(4),
        quantise(8),
        fixed_point(20, 24),
        fixed_point(4, 8),
        chain(clip_by_norm(1.5), gaussian_noise(0.01), fixed_point()),
        chain(top_k(0.25), fixed_point(10, 16)),
        error_feedback(top_k(0.25)),
    ],
)
LOSSY = [quantise(2), quantise(8), top_k(0.25), SPARSE, fixed_point(4, 8), fixed_point(20, 24)]
HALF = [np.float16, ml_dtypes.bfloat16]
FLOATS = cells([np.float32], [np.float32, ml_dtypes.bfloat16])
KEY = jax.random.key(5)


def tree(seed=0, dtype=np.float32):
    """Return floats of several shapes, and an array of whole numbers, which passes."""
    draw = np.random.default_rng(seed)
    return {
        "b": draw.normal(size=5).astype(dtype),
        "n": np.array([3, -1], np.int32),
        "s": np.asarray(draw.normal(), dtype),
        "w": draw.normal(size=(3, 7)).astype(dtype),
    }


@functools.cache
def encoder(transform):
    return jax.jit(transform.encode)


def sent(transform, some, key=KEY, memory=None):
    """Return a body as NumPy arrays, and the memory."""
    memory = transform.init(some) if memory is None else memory
    body, memory = encoder(transform)(some, memory, key)
    return jax.tree.map(np.asarray, body), memory


def floats(some):
    return [leaf for leaf in jax.tree.leaves(some) if jnp.issubdtype(leaf.dtype, jnp.floating)]


def to_bytes(some):
    return b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(some))


def from_bytes(data, like):
    """Read arrays from bytes, shapes and types being known beforehand."""
    leaves, start = [], 0
    for leaf in jax.tree.leaves(like):
        count = math.prod(leaf.shape)
        leaves.append(np.frombuffer(data, leaf.dtype, count, start).reshape(leaf.shape))
        start += count * leaf.dtype.itemsize
    assert start == len(data)
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def length(like):
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(like))


# What all transforms promise.


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("transform", CASES, ids=repr)
def test_a_message_is_bytes_of_a_known_length_and_numpy_reads_what_jax_reads(transform, dtype):
    some = tree(dtype=dtype)
    body, _ = sent(transform, some)
    like = transform.body_like(some)
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), body) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), like
    )
    read = from_bytes(to_bytes(body), like)
    transform.check(read, some)
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), some)
    decoded = transform.decode(read, shapes)
    assert jax.tree.map(np.shape, decoded) == jax.tree.map(np.shape, some)
    assert toys.same_bits(decoded, jax.jit(lambda b: transform.decode(b, shapes))(jax.tree.map(jnp.asarray, body)))
    assert decoded["n"].tolist() == [3, -1]
    assert all(leaf.dtype.itemsize >= np.dtype(dtype).itemsize for leaf in floats(decoded))


WEIGHTS = {"w": np.zeros((30, 41), np.float32), "b": np.zeros(41, np.float32)}
SIZES = {
    identity(): 4 * (1230 + 41),
    clip_by_norm(1.0): 4 * (1230 + 41),
    gaussian_noise(0.1): 4 * (1230 + 41),
    quantise(1): 154 + 6 + 2 * 4,
    quantise(2): 308 + 11 + 2 * 4,
    quantise(4): 615 + 21 + 2 * 4,
    quantise(8): 1230 + 41 + 2 * 4,
    top_k(0.1): 8 * (123 + 5),
    fixed_point(4, 8): 1230 + 41,
    fixed_point(4, 16): 2 * (1230 + 41),
    fixed_point(4, 24): 4 * (1230 + 41),
    chain(top_k(0.1), quantise(4)): 4 * (123 + 5) + 62 + 3 + 2 * 4,
    error_feedback(chain(top_k(0.1), quantise(4))): 4 * (123 + 5) + 62 + 3 + 2 * 4,
}


@pytest.mark.parametrize("transform", SIZES, ids=repr)
def test_the_length_of_a_message_has_a_closed_form(transform):
    assert length(transform.body_like(WEIGHTS)) == SIZES[transform]
    body = jax.eval_shape(lambda some: transform.encode(some, transform.init(some), KEY)[0], WEIGHTS)
    assert length(body) == SIZES[transform]


@pytest.mark.parametrize("transform", CASES, ids=repr)
def test_clients_side_by_side_send_what_each_sends_alone(transform):
    trees, keys = [tree(seed) for seed in range(3)], jax.random.split(KEY, 3)
    together = jax.tree.map(lambda *leaves: np.stack(leaves), *trees)
    memories = jax.tree.map(lambda *leaves: jnp.stack(leaves), *[transform.init(some) for some in trees])
    bodies, kept = jax.jit(jax.vmap(transform.encode))(together, memories, keys)
    bodies = jax.tree.map(np.asarray, bodies)
    for i, some in enumerate(trees):
        body, memory = sent(transform, some, keys[i])
        own = jax.tree.map(lambda leaf, i=i: leaf[i], bodies)
        toys.assert_close(transform.decode(own, some), transform.decode(body, some))
        toys.assert_close(jax.tree.map(lambda leaf, i=i: leaf[i], kept), memory)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("transform", CASES, ids=repr)
def test_a_memory_keeps_its_shapes_and_types(transform, dtype):
    some = tree(dtype=dtype)
    before = transform.init(some)
    after = jax.eval_shape(transform.encode, some, before, KEY)[1]
    described = [jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), memory) for memory in (before, after)]
    assert described[0] == described[1]
    keeps = "error_feedback" in repr(transform)
    assert len(jax.tree.leaves(before)) == (4 if keeps else 0)
    assert {leaf.dtype for leaf in floats(before)} == ({np.dtype(np.float32)} if keeps else set())


@pytest.mark.parametrize("transform", CASES, ids=repr)
def test_zeros_are_sent_and_read(transform):
    zeros = jax.tree.map(np.zeros_like, tree())
    body, _ = sent(transform, zeros)
    transform.check(body, zeros)
    decoded = transform.decode(body, zeros)
    if "noise" not in repr(transform):
        assert not any(leaf.any() for leaf in jax.tree.leaves(decoded))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf], ids=str)
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("transform", CASES, ids=repr)
def test_what_is_not_finite_stays_so_and_is_refused(transform, dtype, bad):
    some = tree(dtype=dtype)
    some["w"][1, 2] = bad
    body, _ = sent(transform, some)
    with np.errstate(invalid="ignore"):
        assert not all(np.isfinite(leaf).all() for leaf in floats(transform.decode(body, some)))
    with pytest.raises(DataError, match="not a message of"):
        transform.check(body, some)


@pytest.mark.parametrize("transform", CASES, ids=repr)
def test_an_array_of_no_numbers_is_sent_as_such(transform):
    some = {"a": np.zeros((0, 3), np.float32), "b": np.ones(2, np.float32)}
    body, _ = sent(transform, some)
    transform.check(body, some)
    assert transform.decode(body, some)["a"].shape == (0, 3)


@pytest.mark.parametrize("transform", [t for t in CASES if "noise" in repr(t) or "quantise" in repr(t)], ids=repr)
def test_a_draw_follows_from_the_key_alone_and_differs_between_leaves(transform):
    row = np.random.default_rng(0).normal(size=64).astype(np.float32)
    some = {"a": row, "b": row}
    first, again, other = (to_bytes(sent(transform, some, key)[0]) for key in (KEY, KEY, jax.random.key(6)))
    assert first == again
    assert first != other
    body, _ = sent(transform, some)
    decoded = transform.decode(body, some)
    assert not np.array_equal(decoded["a"], decoded["b"])


# Each by itself.


def test_identity_is_the_tree():
    body, memory = identity().encode(tree(), (), KEY)
    assert toys.same_bits(body, tree())
    assert memory == ()


@pytest.mark.parametrize(
    ("values", "norm", "expected"),
    [
        ([[3.0], [4.0]], 2.5, [[1.5], [2.0]]),
        ([[3.0], [4.0]], 5.0, [[3.0], [4.0]]),
        ([[3e-30], [4e-30]], 1.0, [[3e-30], [4e-30]]),
        ([[3e30], [-4e30]], 1.0, [[0.6], [-0.8]]),
        ([[3e37], [-4e37]], 5e-3, [[3e-3], [-4e-3]]),
        ([[0.0], [0.0]], 1.0, [[0.0], [0.0]]),
    ],
)
def test_clipping_scales_the_whole_tree_to_the_norm(values, norm, expected):
    body, _ = sent(clip_by_norm(norm), [np.array(leaf, np.float32) for leaf in values])
    np.testing.assert_allclose(body, expected, rtol=1e-6)


def test_a_norm_in_half_precision_is_summed_in_single():
    # The sum of squares is 90,000, more than float16 holds.
    body, _ = sent(clip_by_norm(150.0), [np.ones(90_000, np.float16)])
    assert body[0].dtype == np.float16
    np.testing.assert_array_equal(body[0], np.float16(0.5))


def test_noise_has_mean_zero_and_the_deviation_that_was_asked_for():
    count, std = 40_000, 0.25
    some = {"a": np.full(count, 2.0, np.float32), "b": np.zeros(count, np.float32)}
    noise = {
        name: np.asarray(leaf, np.float64) - some[name] for name, leaf in sent(gaussian_noise(std), some)[0].items()
    }
    for draws in noise.values():
        assert abs(draws.mean()) < 5 * std / math.sqrt(count)
        assert abs(draws.std() / std - 1) < 5 / math.sqrt(2 * count)
        assert 0.677 < np.mean(np.abs(draws) < std) < 0.688  # 68.27 %, within four deviations
    assert abs(np.corrcoef(noise["a"], noise["b"])[0, 1]) < 5 / math.sqrt(count)


@pytest.mark.parametrize(
    ("bits", "dtype"), [(1, np.float32), (2, np.float16), (4, np.float32), (8, ml_dtypes.bfloat16)]
)
def test_quantised_numbers_are_right_on_average_and_within_a_step(bits, dtype):
    draws, transform = 1000, quantise(bits)
    some = np.random.default_rng(bits).normal(size=37).astype(dtype)

    def draw(key):
        return transform.decode(transform.encode(some, (), key)[0], some)

    found = np.asarray(jax.jit(jax.vmap(draw))(jax.random.split(KEY, draws)), np.float64)
    exact = some.astype(np.float64)
    step = np.abs(exact).max() / (2**bits - 1)
    # A draw's deviation is at most a step, so a mean's is at most step / sqrt(draws).
    assert (np.abs(found.mean(axis=0) - exact) < 5 * step / math.sqrt(draws)).all()
    assert (np.abs(found - exact) < 2 * step * (1 + 1e-5)).all()
    # Of 2 levels, a step to each side, the variance is step**2 - distance to the middle**2.
    places = (exact / step + 2**bits - 1) / 2
    up = places - np.floor(places)
    np.testing.assert_allclose(found.var(axis=0), 4 * step**2 * up * (1 - up), atol=0.15 * step**2)
    assert len(np.unique(np.round(found / step))) <= 2**bits


def test_levels_are_packed_from_the_lowest_bits_on():
    # 3 and -3 are levels themselves, so nothing is left to chance.
    body, _ = sent(quantise(2), np.array([-3, -1, 1, 3, 3], np.float32))
    np.testing.assert_array_equal(body.packed, [0b11_10_01_00, 0b11])
    assert body.step == 1.0
    np.testing.assert_array_equal(quantise(2).decode(body, np.zeros(5, np.float32)), [-3, -1, 1, 3, 3])


def test_numbers_too_small_for_a_step_are_zeros():
    some = np.array([1e-38, -1e-38], np.float32)
    body, _ = sent(quantise(8), some)
    assert not quantise(8).decode(body, some).any()


@pytest.mark.parametrize("fraction", [0.07, 0.25, 1.0])
def test_the_largest_magnitudes_are_kept_and_the_rest_is_zero(fraction):
    some = np.random.default_rng(0).normal(size=(10, 10)).astype(np.float32)
    some[3], some[4] = 0.5, -0.5  # equal magnitudes
    count = round(fraction * 100)
    kept = np.argsort(-np.abs(some.ravel()), kind="stable")[:count]
    expected = np.zeros(100, np.float32)
    expected[kept] = some.ravel()[kept]
    body, _ = sent(top_k(fraction), some)
    assert sorted(body.indices) == sorted(kept)
    decoded = top_k(fraction).decode(body, some)
    np.testing.assert_array_equal(decoded, expected.reshape(10, 10))
    assert np.sum((some - decoded) ** 2) <= (1 - count / 100) * np.sum(some**2) * (1 + 1e-6)


def test_of_each_array_at_least_one_number_is_sent():
    some = {"big": np.full(1000, 9.0, np.float32), "small": np.array([1e-3, 2e-3], np.float32)}
    body, _ = sent(top_k(0.001), some)
    np.testing.assert_array_equal(top_k(0.001).decode(body, some)["small"], np.array([0, 2e-3], np.float32))


def test_fixed_point_rounds_to_even_and_cuts_off():
    transform = fixed_point(1, 8)
    some = np.array([0.25, 0.75, -0.25, -0.75, 0.3, 63.4, 64, 1e30, -64, -1e30], np.float32)
    body, _ = sent(transform, some)
    np.testing.assert_array_equal(body, [0, 2, 0, -2, 1, 127, 127, 127, -127, -127])
    np.testing.assert_array_equal(transform.decode(body, some), np.asarray(body, np.float32) / 2)


@pytest.mark.parametrize("dtype", FLOATS)
def test_fixed_point_is_within_half_a_step(dtype):
    some = np.random.default_rng(0).uniform(-7, 7, 1000).astype(dtype)
    body, _ = sent(fixed_point(20, 24), some)
    error = np.abs(fixed_point(20, 24).decode(body, some).astype(np.float64) - some.astype(np.float64))
    assert error.max() <= 2.0**-21


def test_fixed_point_numbers_add_exactly_in_any_order():
    draw = np.random.default_rng(0)
    shape = np.zeros(500, np.float32)
    transform = fixed_point(20, 24)
    weights = [1, 2**28, 12345, 7, 2**27]
    whole = [draw.integers(-(2**23) + 1, 2**23, 500).astype(np.int32) for _ in weights]
    terms = [transform.decode(body, shape).astype(np.float64) * w for body, w in zip(whole, weights, strict=True)]
    exact = [sum(int(body[i]) * w for body, w in zip(whole, weights, strict=True)) for i in range(500)]
    for order in itertools.permutations(terms):
        assert [int(v) for v in sum(order[1:], order[0]) * 2.0**20] == exact


# Composition.


def test_a_chain_is_its_parts_in_order_each_with_its_own_key():
    first, second, third = clip_by_norm(1.0), gaussian_noise(0.1), fixed_point()
    some = tree()
    body = some
    for place, part in enumerate((first, second, third)):
        body, _ = sent(part, body, jax.random.fold_in(KEY, place))
    found, _ = sent(chain(first, second, third), some)
    assert toys.same_bits(found, body)
    other, _ = sent(chain(second, first, third), some)
    assert not toys.same_bits(found, other)


def test_a_chain_decodes_backwards():
    some = tree()
    body, _ = sent(SPARSE, some)
    middle = top_k(0.25).body_like(some)
    by_hand = top_k(0.25).decode(quantise(4).decode(body, middle), some)
    assert toys.same_bits(SPARSE.decode(body, some), by_hand)


def test_transforms_are_values():
    parts = clip_by_norm(1.0), quantise(4)
    assert chain(*parts) == chain(parts) == chain(list(parts)) == chain(parts=parts)
    assert len({chain(*parts), chain(parts), chain(*reversed(parts))}) == 2
    assert chain(chain(*parts), parts[0]) != chain(*parts, parts[0])
    for transform in CASES:
        described = {field.name: getattr(transform, field.name) for field in fields(transform)}
        assert type(transform)(**described) == transform == replace(transform)
        assert hash(type(transform)(**described)) == hash(transform)
        assert transforms.make(transform.name, **described) == transform
    assert {type(transform) for transform in CASES} == set(TRANSFORMS.values())
    assert all(name == transform.name for name, transform in TRANSFORMS.items())


@pytest.mark.parametrize("of", LOSSY, ids=repr)
def test_what_was_decoded_and_what_is_kept_is_what_was_wanted(of):
    transform = error_feedback(of)
    memory, wanted, decoded = transform.init(tree()), None, None
    for round in range(12):
        # Multiples of 2**-10, of which float32 loses nothing.
        some = jax.tree.map(
            lambda leaf: np.round(leaf * 2**10).astype(leaf.dtype) / 2**10 if leaf.dtype == np.float32 else leaf,
            tree(round),
        )
        body, memory = sent(transform, some, jax.random.fold_in(KEY, round), memory)
        there = transform.decode(body, some)
        wanted = some if wanted is None else jax.tree.map(np.add, wanted, some)
        decoded = there if decoded is None else jax.tree.map(np.add, decoded, there)
    both = [a + np.asarray(b) for a, b in zip(floats(decoded), floats(memory), strict=True)]
    if of == top_k(0.25):
        assert toys.same_bits(both, floats(wanted))
    toys.assert_close(both, floats(wanted), rtol=1e-5, atol=1e-5)
    assert memory[0]["n"].tolist() == [0, 0]
    # Without memory, something is missing: this test can fail.
    if of != fixed_point(20, 24):
        assert any(np.abs(a - b).max() > 1e-3 for a, b in zip(floats(decoded), floats(wanted), strict=True))


def test_error_feedback_sends_in_time_what_top_k_would_never_send():
    some = np.array([1.0, 0.3], np.float32)
    transform, memory, total = error_feedback(top_k(0.5)), (np.zeros(2, np.float32), ()), np.zeros(2)
    for _ in range(40):
        body, memory = sent(transform, some, memory=memory)
        total += transform.decode(body, some)
    np.testing.assert_allclose(total / 40, some, atol=2 / 40)


@pytest.mark.parametrize("dtype", HALF)
def test_the_memory_of_half_precision_is_single(dtype):
    # 2**-10 beside 1 is less than bfloat16 can add, and float16's last digit.
    transform = error_feedback(fixed_point(0, 24))
    some, memory = np.full(3, 2.0**-10, dtype), None
    for _ in range(300):
        _, memory = sent(transform, some, memory=memory)
    np.testing.assert_array_equal(memory[0], np.full(3, 300 * 2.0**-10, np.float32))


# Messages from strangers.


def spoil(body, leaf, place, value):
    """Return a copy of a body with one number of one leaf changed."""
    body = jax.tree.map(np.array, body)
    leaves, structure = jax.tree.flatten(body)
    leaves[leaf][place] = value
    return jax.tree.unflatten(structure, leaves)


ROW = np.arange(1, 7, dtype=np.float32)


@pytest.mark.parametrize(
    ("transform", "leaf", "place", "value", "reason"),
    [
        (identity(), 0, 3, np.nan, "not finite as sent"),
        (clip_by_norm(1.0), 0, 0, -np.inf, "not finite as sent"),
        (quantise(4), 1, (), np.inf, "not finite as sent"),
        (quantise(4), 1, (), -1.0, "at least 0, not -1.0"),
        (quantise(4), 1, (), 3e38, "not finite as decoded"),
        (quantise(2), 0, 1, 0b10000, "bits after the last level"),
        (top_k(0.5), 0, 1, 6, "an index must be from 0 to 5, not 6"),
        (top_k(0.5), 0, 0, -1, "an index must be from 0 to 5, not -1"),
        (top_k(0.5), 0, 2, 5, "an index is given twice"),
        (top_k(0.5), 1, 2, np.nan, "not finite as sent"),
        (fixed_point(4, 24), 0, 0, 2**23, "from -8388607 to 8388607 steps, not 8388608"),
        (fixed_point(4, 24), 0, 5, -(2**23), "not -8388608"),
        (fixed_point(4, 8), 0, 5, -128, "from -127 to 127 steps, not -128"),
        (chain(top_k(0.5), quantise(4)), 0, 1, 6, "an index must be from 0 to 5, not 6"),
        (chain(top_k(0.5), quantise(4)), 2, (), 3e38, "not finite as decoded"),
        (chain(clip_by_norm(1.0), fixed_point(4, 8)), 0, 5, -128, "not -128"),
        (error_feedback(chain(top_k(0.5), quantise(4))), 0, 1, -7, "not -7"),
    ],
)
def test_what_no_client_sends_is_refused(transform, leaf, place, value, reason):
    body, _ = sent(transform, ROW)
    transform.check(body, ROW)
    with pytest.raises(DataError, match=reason):
        transform.check(spoil(body, leaf, place, value), ROW)


@pytest.mark.parametrize("transform", CASES, ids=repr)
def test_another_structure_shape_or_type_is_refused(transform):
    some = tree()
    body, _ = sent(transform, some)
    leaves, structure = jax.tree.flatten(body)
    longer = [np.concatenate([np.ravel(leaf), np.ravel(leaf)]) for leaf in leaves]
    typed = [leaf.astype(np.float64 if leaf.dtype != np.float64 else np.float32) for leaf in leaves]
    for wrong in (longer, typed, [*leaves[:-1], None], [*leaves[:-1], "text"], [*leaves[:-1], 1.0]):
        with pytest.raises(DataError, match="not a message of"):
            transform.check(jax.tree.unflatten(structure, wrong), some)
    for wrong in (None, leaves, {}, {1: leaves[0], "a": leaves[1]}, 3, b"bytes"):
        with pytest.raises(DataError, match="not a message of"):
            transform.check(wrong, some)


@functools.cache
def honest_bytes(transform, dtype):
    return to_bytes(sent(transform, tree(dtype=dtype))[0])


@pytest.mark.parametrize("transform", CASES, ids=repr)
@given(data=st.data())
def test_any_bytes_are_refused_or_decoded_into_finite_numbers_of_the_right_shapes(transform, data):
    some = tree(dtype=data.draw(st.sampled_from([np.float32, *HALF])))
    like = transform.body_like(some)
    honest = honest_bytes(transform, some["b"].dtype)
    if data.draw(st.booleans()):
        text = data.draw(st.binary(min_size=len(honest), max_size=len(honest)))
    else:
        text = bytearray(honest)
        for _ in range(data.draw(st.integers(1, 4))):
            text[data.draw(st.integers(0, len(text) - 1))] = data.draw(st.integers(0, 255))
    body = from_bytes(bytes(text), like)
    try:
        transform.check(body, some)
    except FedmetaError:
        return
    decoded = transform.decode(body, some)
    assert jax.tree.map(np.shape, decoded) == jax.tree.map(np.shape, some)
    assert all(np.isfinite(leaf).all() for leaf in floats(decoded))


def test_a_reader_needs_no_arrays_of_jax():
    some = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), tree())
    for transform in CASES:
        body = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), transform.body_like(some))
        for leaf in jax.tree.leaves(transform.decode(body, some)):
            assert isinstance(leaf, np.ndarray | np.generic)


# Options.


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("clip_by_norm", {"norm": 0.0}, "norm must be a positive number, not 0.0"),
        ("gaussian_noise", {"std": -1.0}, "std must be a positive number, not -1.0"),
        ("quantise", {"bits": 3}, "bits must be 1, 2, 4 or 8, not 3"),
        ("quantise", {"bits": 16}, "bits must be a whole number from 1 to 8, not 16"),
        ("top_k", {"fraction": 0.0}, "fraction must be a number above 0 and at most 1, not 0.0"),
        ("top_k", {"fraction": 1.5}, "fraction must be a number above 0 and at most 1, not 1.5"),
        ("fixed_point", {"bits": 25}, "bits must be a whole number from 2 to 24, not 25"),
        ("fixed_point", {"bits": 1}, "bits must be a whole number from 2 to 24, not 1"),
        ("fixed_point", {"places": -1}, "places must be a whole number from 0 to 64, not -1"),
        ("chain", {"parts": ()}, "a chain needs at least one part"),
        ("error_feedback", {}, "transform error_feedback needs of"),
    ],
)
def test_an_option_out_of_range_is_refused_by_name(name, options, message):
    with pytest.raises(UsageError, match=message):
        transforms.make(name, **options)


def test_a_chain_of_something_else_is_refused():
    with pytest.raises(UsageError, match=r"a part of a chain must be a transform such as quantise\(8\), not 3"):
        chain(identity(), 3)


def test_a_name_that_is_in_no_table_is_refused_with_the_nearest():
    with pytest.raises(UnknownName, match="quantise"):
        transforms.make("quantize")
    with pytest.raises(UnknownName, match="bits"):
        transforms.make("quantise", bit=4)


def test_messages_are_named_tuples_in_a_fixed_order():
    assert Levels._fields == ("packed", "step")
    assert Sparse._fields == ("indices", "values")
