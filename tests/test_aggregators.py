"""Each rule against the paper's words in plain Python, and what all rules promise."""

import functools
import itertools
import json
import math
import os
import statistics
import subprocess
import sys
from dataclasses import replace

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from fedmeta import _options, aggregators
from fedmeta.aggregators import (
    AGGREGATORS,
    Part,
    coordinate_median,
    geometric_median,
    krum,
    multi_krum,
    norm_clipped_mean,
    trimmed_mean,
    weighted_mean,
)
from fedmeta.errors import UnknownName, UsageError
from tests import toys

RULES = [
    weighted_mean(),
    norm_clipped_mean(2.5),
    coordinate_median(),
    trimmed_mean(0.2),
    trimmed_mean(0.4),
    krum(0),
    krum(2),
    multi_krum(1, 3),
    multi_krum(2, 4),
    geometric_median(),
    geometric_median(3, 0.5),
]
STACKED = [rule for rule in RULES if rule.needs != "sum"]
ROBUST = [coordinate_median(), trimmed_mean(0.34), krum(2), multi_krum(2, 3), geometric_median()]
UNWEIGHTED = [rule for rule in STACKED if not isinstance(rule, geometric_median)]


def updates(clients=7, seed=0, dtype=np.float64):
    """Return a list of trees and a list of weights; more coordinates than a sum has lanes."""
    draw = np.random.default_rng(seed)
    trees = [
        {
            "a": draw.normal(size=(3, 700)).astype(dtype),
            "b": [draw.normal(size=5).astype(dtype), np.asarray(draw.normal(), dtype)],
        }
        for _ in range(clients)
    ]
    return trees, [np.asarray(weight, dtype) for weight in draw.integers(1, 9, clients)]


def total(rule, trees, weights):
    """Return what `finish` takes, of NumPy or JAX arrays: the loop that every other way must agree with."""
    parts = [rule.lift(tree, weight) for tree, weight in zip(trees, weights, strict=True)]
    if rule.needs == "sum":
        summed = parts[0]
        for part in parts[1:]:
            summed = jax.tree.map(lambda a, b: a + b, summed, part)
        return summed
    return jax.tree.map(lambda *leaves: leaves[0].__array_namespace__().stack(leaves), *parts)


def run(rule, trees, weights):
    return rule.finish(total(rule, trees, weights))


@functools.cache
def compiled(rule):
    return jax.jit(rule.finish)


def rows(trees):
    return [[float(v) for leaf in jax.tree.leaves(tree) for v in np.ravel(leaf)] for tree in trees]


def flat(tree):
    return rows([tree])[0]


def data(tree):
    return b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(tree))


def far(a, b):
    return math.dist(flat(a), flat(b))


# The papers, in lists and Python's own sums.


def mean_of(points, weights=None):
    weights = weights or [1.0] * len(points)
    return [
        math.fsum(w * x for w, x in zip(weights, column, strict=True)) / math.fsum(weights)
        for column in zip(*points, strict=True)
    ]


def clipped_mean(points, weights, norm):
    cut = [[x * min(1.0, norm / math.hypot(*point)) for x in point] for point in points]
    return mean_of(cut, weights)


def trimmed(points, fraction):
    cut = int(fraction * len(points) + 1e-9)
    return [statistics.fmean(sorted(column)[cut : len(column) - cut]) for column in zip(*points, strict=True)]


def nearest(points, byzantine, select):
    def score(i):
        others = sorted(math.dist(points[i], points[j]) ** 2 for j in range(len(points)) if j != i)
        return sum(others[: len(points) - byzantine - 2])

    return mean_of([points[i] for i in sorted(range(len(points)), key=score)[:select]])


def weiszfeld(points, weights, steps, smoothing):
    at = [statistics.median(column) for column in zip(*points, strict=True)]
    for _ in range(steps):
        at = mean_of(points, [w / max(smoothing, math.dist(at, p)) for w, p in zip(weights, points, strict=True)])
    return at


def expected(rule, trees, weights):
    points, weights = rows(trees), [float(w) for w in weights]
    match rule:
        case weighted_mean():
            return mean_of(points, weights)
        case norm_clipped_mean():
            return clipped_mean(points, weights, rule.norm)
        case coordinate_median():
            return [statistics.median(column) for column in zip(*points, strict=True)]
        case trimmed_mean():
            return trimmed(points, rule.fraction)
        case krum():
            return nearest(points, rule.byzantine, 1)
        case multi_krum():
            return nearest(points, rule.byzantine, rule.select)
        case geometric_median():
            return weiszfeld(points, weights, rule.steps, rule.smoothing)
    raise AssertionError(rule)


@pytest.mark.parametrize("rule", RULES, ids=repr)
@pytest.mark.parametrize("clients", [7, 10])
def test_a_rule_is_what_the_paper_says(rule, clients):
    trees, weights = updates(clients, seed=clients)
    np.testing.assert_allclose(flat(run(rule, trees, weights)), expected(rule, trees, weights), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_jax_and_numpy_agree(rule, x64):
    trees, weights = updates()
    numpy = run(rule, trees, weights)
    toys.assert_close(
        compiled(rule)(jax.tree.map(jnp.asarray, total(rule, trees, weights))), numpy, rtol=1e-12, atol=1e-13
    )


@pytest.mark.parametrize("rule", [weighted_mean(), norm_clipped_mean(2.5)], ids=repr)
def test_what_a_client_brings_to_a_sum_is_the_same_on_jax(rule, x64):
    (tree,), (weight,) = updates(1)
    part = jax.jit(rule.lift)(*jax.tree.map(jnp.asarray, (tree, weight)))
    toys.assert_close(part, rule.lift(tree, weight), rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_under_vmap_each_stack_is_finished_on_its_own(rule, x64):
    several = [jax.tree.map(jnp.asarray, total(rule, *updates(seed=seed))) for seed in range(3)]
    together = jax.jit(jax.vmap(rule.finish))(jax.tree.map(lambda *leaves: jnp.stack(leaves), *several))
    for i, alone in enumerate(several):
        toys.assert_close(
            jax.tree.map(lambda leaf, i=i: leaf[i], together), compiled(rule)(alone), rtol=1e-12, atol=1e-13
        )


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_the_order_of_clients_does_not_matter_but_for_rounding(rule):
    trees, weights = updates()
    there = run(rule, trees, weights)
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(len(trees))
        toys.assert_close(
            run(rule, [trees[i] for i in order], [weights[i] for i in order]), there, rtol=1e-12, atol=1e-13
        )


def test_of_equal_scores_krum_takes_the_first():
    # Three in a line at equal steps: the middle's nearest is as near as the ends'.
    points = [{"a": np.array([x])} for x in (4.0, 1.0, -2.0)]
    ones = [np.float64(1)] * 3
    for order in itertools.permutations(points):
        np.testing.assert_array_equal(run(krum(0), order, ones)["a"], order[0]["a"])


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule.needs == "columns"], ids=repr)
def test_blocks_of_columns_may_be_finished_apart(rule):
    trees, weights = updates()
    stacked = total(rule, trees, weights)
    whole = rule.finish(stacked)
    wide = stacked.tree["a"].reshape(len(trees), -1)
    blocks = [rule.finish(Part(block, stacked.weight)) for block in np.array_split(wide, 11, axis=1)]
    assert np.concatenate(blocks).tobytes() == whole["a"].tobytes()
    jitted = jax.jit(rule.finish)
    blocks = [jitted(Part(block, stacked.weight)) for block in np.array_split(wide.astype(np.float32), 3, axis=1)]
    np.testing.assert_array_equal(np.concatenate(blocks), jitted(Part(wide.astype(np.float32), stacked.weight)))


def spoilt(trees, weights, bad):
    """Return the same with a third of the clients sending something bad, and nobody's rows left alone."""
    some = {1, 4}
    return [
        jax.tree.map(lambda leaf: np.full_like(leaf, bad), tree) if i in some else tree for i, tree in enumerate(trees)
    ], weights


@pytest.mark.parametrize("bad", [30.0, 1e6, -1e160, 1e300, np.inf, -np.inf, np.nan], ids=str)
def test_a_third_of_bad_updates_moves_the_mean_but_no_robust_rule(bad):
    trees, _ = updates(7)
    weights = [np.float64(1)] * 7
    centre = jax.tree.map(
        lambda *leaves: np.mean(np.stack(leaves), axis=0), *[t for i, t in enumerate(trees) if i not in {1, 4}]
    )
    widest = max(far(tree, centre) for i, tree in enumerate(trees) if i not in {1, 4})
    attacked = spoilt(trees, weights, bad)
    for rule in ROBUST:
        assert far(run(rule, *attacked), centre) < 1.5 * widest, rule
    with np.errstate(over="ignore", invalid="ignore"):
        moved = flat(run(weighted_mean(), *attacked))
        assert not math.dist(moved, flat(centre)) < 5 * widest


@pytest.mark.parametrize("bad", [1e6, -1e300])
def test_a_bad_update_moves_the_clipped_mean_by_its_share_of_the_norm(bad):
    trees, _ = updates(7)
    weights = [np.float64(1)] * 7
    rule = norm_clipped_mean(2.0)
    moved = far(run(rule, *spoilt(trees, weights, bad)), run(rule, trees, weights))
    assert 0.05 < moved <= 2 * 2 * 2.0 / 7 * (1 + 1e-12)


def test_clipping_leaves_what_is_short_and_does_not_lose_what_is_very_long():
    rule = norm_clipped_mean(5.0)
    one = np.float32(1)
    np.testing.assert_array_equal(rule.lift(np.array([3, -4], np.float32), one).tree, [3, -4])
    np.testing.assert_allclose(rule.lift(np.array([3e30, -4e30], np.float32), one).tree, [3, -4], rtol=1e-6)
    np.testing.assert_array_equal(rule.lift(np.zeros(2, np.float32), one).tree, [0, 0])
    assert not np.isfinite(rule.lift(np.array([np.inf, 1], np.float32), one).tree).all()


@pytest.mark.parametrize("rule", STACKED, ids=repr)
@pytest.mark.parametrize("left", [0.0, np.nan, np.inf, -1e300], ids=str)
@pytest.mark.parametrize("kind", ["numpy", "jax"])
def test_what_nobody_brings_changes_nothing(rule, left, kind, x64):
    trees, weights = updates(7)
    nothing = jax.tree.map(lambda leaf: np.full_like(leaf, left), trees[0])
    padded = [nothing, *trees[:3], nothing, *trees[3:], nothing]
    padded_weights = [np.float64(w) for w in (0, *weights[:3], 0, *weights[3:], -1)]
    if kind == "numpy":
        assert data(run(rule, padded, padded_weights)) == data(run(rule, trees, weights))
    else:
        padded = jax.tree.map(jnp.asarray, total(rule, padded, padded_weights))
        toys.assert_close(compiled(rule)(padded), run(rule, trees, weights), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("rule", [weighted_mean(), norm_clipped_mean(2.5)], ids=repr)
def test_a_part_of_zeros_adds_nothing_to_a_sum(rule):
    trees, weights = updates(4)
    padded = [*trees, jax.tree.map(np.zeros_like, trees[0])], [*weights, np.float64(0)]
    assert toys.same_bits(run(rule, *padded), run(rule, trees, weights))


@pytest.mark.parametrize("rule", RULES, ids=repr)
@pytest.mark.parametrize("kind", ["numpy", "jax"])
def test_nobody_at_all_gives_zeros(rule, kind):
    trees, _ = updates(10, dtype=np.float32)
    trees, weights = jax.tree.map(np.zeros_like if rule.needs == "sum" else np.asarray, trees), [np.float32(0)] * 10
    parts = total(rule, trees, weights)
    done = rule.finish(parts) if kind == "numpy" else compiled(rule)(jax.tree.map(jnp.asarray, parts))
    assert set(flat(done)) == {0.0}


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule.smallest == 1], ids=repr)
@pytest.mark.parametrize("weight", [1.0, 0.25, 12.0])
def test_a_client_alone_gets_its_own_update(rule, weight):
    trees, _ = updates(1)
    trees = [jax.tree.map(lambda leaf: leaf / 30, trees[0])]  # shorter than the norm that is clipped
    np.testing.assert_allclose(flat(run(rule, trees, [np.float64(weight)])), flat(trees[0]), rtol=1e-15)


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_equal_updates_are_their_own_aggregate(rule):
    trees, weights = updates(8)
    same = [jax.tree.map(lambda leaf: leaf / 30, trees[0])] * 8
    np.testing.assert_allclose(flat(run(rule, same, weights)), flat(same[0]), rtol=1e-14)


@pytest.mark.parametrize("rule", UNWEIGHTED, ids=repr)
def test_where_every_client_counts_the_same_weights_do_not_matter(rule):
    trees, weights = updates(8)
    assert data(run(rule, trees, weights)) == data(run(rule, trees, [np.float64(1)] * 8))


def test_a_weight_is_so_many_clients_to_the_mean_and_the_geometric_median():
    trees, weights = updates(5)
    for rule in (weighted_mean(), geometric_median(60)):
        repeated = [tree for tree, weight in zip(trees, weights, strict=True) for _ in range(int(weight))]
        toys.assert_close(
            run(rule, trees, weights), run(rule, repeated, [np.float64(1)] * len(repeated)), rtol=1e-5, atol=1e-5
        )


def test_the_geometric_median_comes_near_the_least_sum_of_distances():
    trees, weights = updates(7)
    points = rows(trees)

    def cost(at):
        return math.fsum(float(w) * math.dist(at, p) for w, p in zip(weights, points, strict=True))

    best = flat(run(geometric_median(100), trees, weights))
    draw = np.random.default_rng(1)
    for size in (1e-3, 1e-1, 1.0):
        assert all(
            cost(best) <= cost(best + size * draw.normal(size=len(best)) / math.sqrt(len(best))) for _ in range(5)
        )
    assert cost(flat(run(geometric_median(), trees, weights))) < cost(best) * (1 + 1e-4)


def test_where_distances_are_too_large_for_the_type_the_geometric_median_stays_at_the_median():
    points = [np.array([x], np.float32) for x in (-3e30, 1e30, 2e30)]
    np.testing.assert_array_equal(run(geometric_median(), points, [np.float32(1)] * 3), [np.float32(1e30)])


def test_if_all_updates_are_lost_so_is_the_result():
    trees = [np.array([np.nan, 1.0])] * 5
    ones = [np.float64(1)] * 5
    for rule in (*ROBUST[:2], krum(1), geometric_median()):
        assert not np.isfinite(run(rule, trees, ones)).all(), rule


@pytest.mark.parametrize("fraction", [0.1, 0.29, 0.07, 0.4999])
def test_what_is_trimmed_is_counted_exactly(fraction):
    for n in (1, 2, 10, 100):
        cut = int(str(fraction)[2:].ljust(4, "0")) * n // 10000
        points = [np.array([float(2**i)]) for i in range(n)]
        there = run(trimmed_mean(fraction), points, [np.float64(1)] * n)
        np.testing.assert_allclose(there, [statistics.fmean(2.0**i for i in range(cut, n - cut))])


@pytest.mark.parametrize(
    ("kind", "dtype"), [("numpy", np.float16), ("numpy", ml_dtypes.bfloat16), ("jax", ml_dtypes.bfloat16)]
)
@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_half_precision_is_summed_in_single(dtype, rule, kind):
    trees, weights = updates(9, dtype=dtype)
    weights = [w.astype(np.float32) for w in weights]
    single = run(rule, jax.tree.map(lambda leaf: leaf.astype(np.float32), trees), weights)
    parts = total(rule, trees, weights)
    half = rule.finish(parts) if kind == "numpy" else compiled(rule)(jax.tree.map(jnp.asarray, parts))
    assert {leaf.dtype for leaf in jax.tree.leaves(half)} == {np.dtype(np.float32)}
    toys.assert_close(half, single, rtol=2e-5, atol=2e-6)


def test_a_mean_of_many_half_precision_updates_does_not_stall():
    # In float16, 2048 + 1 is 2048.
    ones = [np.ones(3, np.float16)] * 3000
    np.testing.assert_array_equal(run(weighted_mean(), ones, [np.float32(1)] * 3000), [1, 1, 1])
    np.testing.assert_array_equal(
        trimmed_mean(0.1).finish(Part(np.ones((3000, 3), np.float16), np.ones(3000))), [1, 1, 1]
    )


def test_the_exact_mean_has_the_same_bytes_in_all_orders_and_leaving_one_out_is_a_subtraction():
    draw = np.random.default_rng(0)
    grid = [{"a": draw.integers(-(2**23) + 1, 2**23, 3001) * 2.0**-20} for _ in range(5)]
    parts = [weighted_mean().lift(tree, np.float64(w)) for tree, w in zip(grid, (1, 700, 3, 2**18, 41), strict=True)]

    def add(some):
        result = some[0]
        for part in some[1:]:
            result = jax.tree.map(lambda a, b: a + b, result, part)
        return result

    everything = add(parts)
    assert {data(weighted_mean().finish(add(order))) for order in itertools.permutations(parts)} == {
        data(weighted_mean().finish(everything))
    }
    without = jax.tree.map(lambda a, b: a - b, everything, parts[2])
    assert data(without) == data(add([*parts[:2], *parts[3:]]))
    # Off the grid the order shows, so the test above can fail.
    loose = [jax.tree.map(lambda leaf: leaf * np.exp(9 * draw.normal(size=leaf.shape)), part) for part in parts]
    assert len({data(add(order)) for order in itertools.permutations(loose)}) > 1


@pytest.mark.parametrize("rule", [coordinate_median(), trimmed_mean(0.2)], ids=repr)
def test_zeros_of_both_signs_give_the_same_bytes_in_any_order(rule):
    points = [np.array([zero] * 40) for zero in (0.0, -0.0, 0.0, -0.0, -0.0)]
    ones = [np.float64(1)] * 5
    assert len({data(run(rule, order, ones)) for order in itertools.permutations(points)}) == 1


CHILD = """
import hashlib, json
import numpy as np
from fedmeta import aggregators as a
draw = np.random.default_rng(3)
trees = []
for _ in range(9):
    signs = np.where(draw.random(99) < 0.5, 0.0, -0.0)
    trees.append({"w": draw.normal(size=(37, 211)), "b": draw.normal(size=5003), "s": signs})
found = {}
for name in a.AGGREGATORS:
    rule = a.make(name)
    parts = [rule.lift(tree, np.float64(w)) for tree, w in zip(trees, (3, 1, 7, 2, 20, 5, 9, 1, 4))]
    stacked = a.Part({k: np.stack([p.tree[k] for p in parts]) for k in trees[0]}, np.stack([p.weight for p in parts]))
    if rule.needs == "sum":
        summed = parts[0]
        for p in parts[1:]:
            summed = a.Part({k: summed.tree[k] + p.tree[k] for k in p.tree}, summed.weight + p.weight)
        stacked = summed
    done = rule.finish(stacked)
    found[repr(rule)] = hashlib.sha256(b"".join(done[k].tobytes() for k in sorted(done))).hexdigest()
print(json.dumps(found))
"""


def test_the_same_bytes_whatever_the_processor_can_do():
    from numpy._core import _multiarray_umath as umath

    usable = [name for name in umath.__cpu_dispatch__ if umath.__cpu_features__[name]]
    if not usable:
        pytest.skip("this processor has none of the features that NumPy could leave out")
    found = []
    for disabled in ("", " ".join(usable)):
        environment = {**os.environ, "NPY_DISABLE_CPU_FEATURES": disabled, "JAX_PLATFORMS": "cpu"}
        if not disabled:
            del environment["NPY_DISABLE_CPU_FEATURES"]
        done = subprocess.run(
            [sys.executable, "-c", CHILD], capture_output=True, text=True, env=environment, check=False
        )
        assert done.returncode == 0, done.stderr
        found.append(json.loads(done.stdout))
    assert len(found[0]) == len(AGGREGATORS)
    assert found[0] == found[1]


def test_rules_are_values_and_found_by_name():
    for name, rule in AGGREGATORS.items():
        assert rule.name == name
        assert aggregators.make(name) == rule()
        assert hash(rule()) == hash(replace(rule()))
        assert rule.needs in ("sum", "columns", "updates")
    assert aggregators.make("multi_krum", byzantine=2, select=1) == multi_krum(2, 1)
    with pytest.raises(UnknownName, match="krum"):
        aggregators.make("crum")
    with pytest.raises(UnknownName, match="fraction"):
        aggregators.make("trimmed_mean", fractoin=0.1)


@pytest.mark.parametrize(
    ("rule", "options"),
    [
        ("trimmed_mean", {"fraction": 0.5}),
        ("trimmed_mean", {"fraction": -0.1}),
        ("trimmed_mean", {"fraction": math.nan}),
        ("norm_clipped_mean", {"norm": 0.0}),
        ("norm_clipped_mean", {"norm": math.inf}),
        ("krum", {"byzantine": -1}),
        ("krum", {"byzantine": True}),
        ("multi_krum", {"select": 0}),
        ("geometric_median", {"steps": 0}),
        ("geometric_median", {"smoothing": 0.0}),
    ],
)
def test_an_option_out_of_range_is_refused_by_name(rule, options):
    (name,) = options
    with pytest.raises(UsageError, match=f"{name} must be"):
        aggregators.make(rule, **options)


@pytest.mark.parametrize("value", ["much", b"1", 1.5, True, None, math.nan, 3, -1])
def test_an_option_of_another_type_is_refused_too(value):
    with pytest.raises(UsageError, match="count must be a whole number from 0 to 2, not"):
        _options.whole("count", value, 0, 2)
    if value not in (1.5, 3):
        with pytest.raises(UsageError, match="size must be a positive number, not"):
            _options.real("size", value, "a positive number", above=0.0)


def test_numbers_of_numpy_become_pythons():
    assert type(_options.whole("count", np.int64(2), 0)) is int
    assert type(_options.real("size", np.float32(0.25), "a positive number", above=0.0)) is float


@pytest.mark.parametrize(
    ("rule", "smallest"), [(krum(1), 5), (krum(0), 3), (multi_krum(1, 3), 5), (multi_krum(1, 6), 7)], ids=repr
)
def test_krum_refuses_fewer_clients_than_it_can_answer_for(rule, smallest):
    assert rule.smallest == smallest
    trees, weights = updates(smallest)
    run(rule, trees, weights)
    with pytest.raises(UsageError, match=f"at least {smallest} clients, not {smallest - 1}"):
        run(rule, trees[1:], weights[1:])
    # Where nobody fills the rows, what remains is still somebody's update.
    for left in range(1, smallest):
        weights = [np.float64(i < left) for i in range(smallest)]
        nearest_of = flat(run(replace(rule, select=1) if isinstance(rule, multi_krum) else rule, trees, weights))
        assert any(np.array_equal(nearest_of, row) for row in rows(trees[:left]))


@pytest.mark.parametrize("rule", RULES, ids=repr)
@pytest.mark.parametrize("dtype", [np.int32, bool, np.complex64])
def test_what_is_no_float_is_refused(rule, dtype):
    with pytest.raises(UsageError, match=f"only floats can be aggregated, not an array of {np.dtype(dtype)}"):
        rule.lift({"a": np.ones(3, dtype)}, np.float32(1))
