"""Closed forms, and how often intervals and tests are right where the truth is known."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from fedmeta.errors import UsageError
from fedmeta.study.statistics import (
    Reached,
    corrected_t,
    crossed_bootstrap,
    holm,
    ratio,
    smoothed,
    time_to,
    wilcoxon,
)


def test_the_bootstrap_of_one_seed_is_that_of_its_clients():
    values = np.random.default_rng(0).normal(size=(1, 40))
    found = crossed_bootstrap(values)
    assert found.value == pytest.approx(values.mean())
    # The variance of a mean of draws with replacement is that of the sample over its size.
    spread = values.std() / math.sqrt(40) * stats.norm.ppf(0.975)
    assert found.high - found.value == pytest.approx(spread, rel=0.1)
    assert found.value - found.low == pytest.approx(spread, rel=0.1)


def test_the_bootstrap_of_equal_differences_has_no_width():
    assert crossed_bootstrap(np.full((3, 5), 0.25)) == pytest.approx((0.25, 0.25, 0.25))


def test_the_bootstrap_is_every_pair_of_resampled_seeds_and_clients():
    values = np.array([[0.0, 1.0], [4.0, 9.0]])
    means = [
        values[np.ix_(s, c)].mean()
        for s in itertools.product(range(2), repeat=2)
        for c in itertools.product(range(2), repeat=2)
    ]
    found = crossed_bootstrap(values)
    assert (found.low, found.high) == (min(means), max(means))


def test_a_missing_difference_is_left_out_of_the_mean():
    assert crossed_bootstrap(np.array([[1.0, np.nan], [1.0, 1.0]])) == pytest.approx((1.0, 1.0, 1.0))
    with pytest.raises(UsageError, match="differences"):
        crossed_bootstrap(np.full((2, 2), np.nan))


def test_the_crossed_bootstrap_covers_the_truth_where_seeds_and_clients_both_vary():
    draw, hits, games = np.random.default_rng(1), 0, 200
    for _ in range(games):
        values = draw.normal(size=(8, 1)) + draw.normal(size=(1, 30)) + draw.normal(size=(8, 30))
        found = crossed_bootstrap(values, draws=400)
        hits += found.low <= 0 <= found.high
    # 95 % in the limit; with eight seeds a percentile interval is somewhat narrow.
    assert 0.87 <= hits / games <= 0.99


def test_a_bootstrap_over_clients_alone_would_not():
    draw, hits, games = np.random.default_rng(1), 0, 200
    for _ in range(games):
        values = draw.normal(size=(8, 1)) + draw.normal(size=(1, 30)) + draw.normal(size=(8, 30))
        found = crossed_bootstrap(values.mean(axis=0, keepdims=True), draws=400)
        hits += found.low <= 0 <= found.high
    assert hits / games < 0.8


def test_wilcoxon_of_a_few_clients_is_the_count_of_sign_patterns():
    values = np.array([0.5, 1.0, 1.5, 2.0, -2.5])
    ranks = np.arange(1, 6)
    seen = ranks[values > 0].sum()
    sums = np.array(
        [sum(r for r, s in zip(ranks, signs, strict=True) if s) for signs in itertools.product((0, 1), repeat=5)]
    )
    far = np.mean(np.abs(sums - 7.5) >= abs(seen - 7.5))
    assert wilcoxon(values) == pytest.approx(far)


def test_wilcoxon_without_a_difference_is_one():
    assert wilcoxon(np.zeros(4)) == 1.0
    assert wilcoxon(np.array([np.nan, 0.0])) == 1.0


def test_the_corrected_t_without_tested_clients_is_student_s():
    values = np.array([0.1, 0.3, 0.2, 0.5])
    found, plain = corrected_t(values, 0.0), stats.ttest_1samp(values, 0.0)
    assert found.p == pytest.approx(plain.pvalue)
    assert (found.low, found.high) == pytest.approx(tuple(plain.confidence_interval(0.95)))


def test_the_correction_widens_the_interval_by_the_published_factor():
    values = np.array([0.1, 0.3, 0.2, 0.5])
    plain, wide = corrected_t(values, 0.0), corrected_t(values, 0.25)
    assert (wide.high - wide.value) / (plain.high - plain.value) == pytest.approx(math.sqrt((1 / 4 + 0.25) * 4))


def test_one_seed_has_no_interval():
    assert np.isnan(corrected_t(np.array([0.3]), 0.1)[1:]).all()
    with pytest.raises(UsageError, match="at least 0"):
        corrected_t(np.array([0.3]), -0.1)


def test_holm_is_the_step_down_procedure():
    # Holm 1979: times 3, 2, 1 in the order of the values, never below one before.
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([math.nan, 0.01]) == pytest.approx([1.0, 0.02])
    assert holm([]) == []


def test_holm_errs_no_more_often_than_its_level_where_nothing_differs():
    draw = np.random.default_rng(2)
    wrong = np.mean([min(holm(draw.uniform(size=3).tolist())) < 0.05 for _ in range(4000)])
    # The true rate is 1 - (1 - 0.05 / 3)^3 = 0.0492; four standard errors of 4,000 games are 0.0137.
    assert wrong == pytest.approx(1 - (1 - 0.05 / 3) ** 3, abs=0.0137)


def test_a_look_is_smoothed_by_the_two_before_it():
    assert smoothed(np.array([3.0, 1.0, 2.0, 6.0])) == pytest.approx([3.0, 2.0, 2.0, 3.0])


COSTS = np.array([10.0, 20.0, 30.0, 40.0, 50.0, 60.0])


def test_a_target_is_reached_where_the_smoothed_curve_stays():
    lone = np.array([0.0, 0.0, 0.9, 0.0, 0.0, 0.0])
    assert time_to(0.3, lone, COSTS) == Reached(30.0, True), "three smoothed looks hold the one high look"
    assert time_to(0.31, lone, COSTS) == Reached(60.0, False)
    rising = np.array([0.0, 0.3, 0.6, 0.9, 0.9, 0.9])
    assert time_to(0.6, rising, COSTS) == Reached(40.0, True)
    assert time_to(0.8, rising, COSTS) == Reached(60.0, False), "two looks do not show that it stays"


def test_of_errors_the_target_is_reached_from_above():
    assert time_to(1.0, np.array([3.0, 1.0, 0.5, 0.5, 0.5, 0.5]), COSTS, more_is_better=False) == Reached(40.0, True)
    with pytest.raises(UsageError, match="looks"):
        time_to(1.0, np.array([]), np.array([]))


def test_a_ratio_is_the_geometric_mean_with_student_s_interval_of_logarithms():
    found = ratio([Reached(8.0, True), Reached(2.0, True)], [Reached(1.0, True), Reached(1.0, True)])
    assert found.value == pytest.approx(4.0)
    reach = stats.t.ppf(0.975, 1) * math.log(2)
    assert math.log(found.high / found.value) == pytest.approx(reach)
    assert (found.bound, found.pairs, found.censored) == ("exact", 2, 0)


@pytest.mark.parametrize(
    ("one", "other", "bound"),
    [(False, True, "at least"), (True, False, "at most"), (False, False, "unknown")],
)
def test_a_curve_that_does_not_arrive_gives_a_bound_and_no_interval(one, other, bound):
    found = ratio([Reached(8.0, one), Reached(2.0, True)], [Reached(1.0, other), Reached(1.0, True)])
    assert found.bound == bound
    assert math.isnan(found.low)
    assert math.isnan(found.value) == (bound == "unknown")
    with pytest.raises(UsageError, match="pairs"):
        ratio([], [])
