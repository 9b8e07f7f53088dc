from collections import Counter
from itertools import combinations

import pytest
from fedmeta.govern.rules.beacon import advance, draw
from hypothesis import given
from hypothesis import strategies as st

from fedmeta.govern.wire.signatures import digest

names = st.lists(st.text("abcdefgh", min_size=1, max_size=4), unique=True, max_size=30)
beacons = st.binary(min_size=32, max_size=32)


@given(beacons, st.integers(0, 2**53 - 1), names, st.integers(1, 40))
def test_a_draw_is_a_sorted_sample_of_the_names_of_the_size_asked_for(beacon, number, among, size):
    drawn = draw(beacon, number, among, size)
    assert list(drawn) == sorted(set(drawn))
    assert set(drawn) <= set(among)
    assert len(drawn) == min(size, len(among))


@given(beacons, names.flatmap(lambda among: st.tuples(st.just(among), st.permutations(among))), st.integers(1, 30))
def test_a_draw_does_not_depend_on_the_order_of_the_names(beacon, orders, size):
    assert draw(beacon, 3, orders[0], size) == draw(beacon, 3, orders[1], size)


def test_every_subset_is_drawn_and_none_more_often_than_chance_allows():
    among, size, times = "abcdef", 3, 6_000
    seen = Counter(draw(digest(b"%d" % at), 1, among, size) for at in range(times))
    subsets = list(combinations(among, size))
    assert set(seen) == set(subsets)
    # Chi-square with 19 degrees of freedom is above 43.8 once in a thousand times.
    expected = times // len(subsets)
    assert sum((seen[one] - expected) ** 2 for one in subsets) * 10 < 438 * expected


def test_every_name_is_as_likely_as_any_other_in_a_draw_of_one_out_of_many():
    among = [f"m{at:02}" for at in range(50)]
    seen = Counter(draw(digest(b"beacon"), number, among, 1)[0] for number in range(10_000))
    # Chi-square with 49 degrees of freedom is above 85.4 once in a thousand times.
    assert sum((seen[one] - 200) ** 2 for one in among) * 10 < 854 * 200


@pytest.mark.parametrize("changed", [{"beacon": digest(b"other")}, {"round": 2}])
def test_another_beacon_or_another_round_draws_another_cohort(changed):
    among = [f"m{at:03}" for at in range(400)]
    plain = {"beacon": digest(b"beacon"), "round": 1, "names": among, "size": 20}
    assert draw(**plain) != draw(**{**plain, **changed})


def test_a_long_draw_goes_on_beyond_one_digest():
    among = [f"m{at:03}" for at in range(300)]
    drawn = draw(digest(b"long"), 1, among, 299)
    assert len(set(drawn)) == 299


def test_the_beacon_depends_on_every_reveal_and_not_on_their_order():
    salts = [("ada", digest(b"1")), ("bern", digest(b"2")), ("cork", digest(b"3"))]
    old = digest(b"old")
    moved = advance(old, 7, salts)
    assert len(moved) == 32
    assert advance(old, 7, reversed(salts)) == moved
    others = [
        advance(old, 7, salts[:2]),
        advance(old, 7, [*salts[:2], ("cork", digest(b"4"))]),
        advance(old, 7, [*salts[:2], ("delft", digest(b"3"))]),
        advance(old, 8, salts),
        advance(digest(b"older"), 7, salts),
    ]
    assert len({moved, *others}) == 6


def test_the_beacon_moves_on_without_reveals_too():
    old = digest(b"old")
    assert advance(old, 1, []) not in (old, advance(old, 2, []))
