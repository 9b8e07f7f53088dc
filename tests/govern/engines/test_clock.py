import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmeta.govern.engines.clock import MILLISECOND, BlockClock
from tests.govern.playing import TIME

SECOND = 1_000 * MILLISECOND
YEAR = 365 * 24 * 3_600 * SECOND
NOW = TIME * MILLISECOND

spans = st.integers(0, 10 * SECOND)
walls = st.integers(NOW - 2 * YEAR, NOW + 2 * YEAR)


@given(st.lists(st.tuples(spans, walls), max_size=30))
def test_block_time_moves_by_the_time_that_passes_a_tenth_more_or_less_whatever_the_wall_clock_says(readings):
    clock = first = BlockClock.started(TIME, NOW, 0)
    passed = 0
    for span, wall in readings:
        passed += span
        later = clock.moved(wall, passed)
        assert 9 * span <= 10 * (later.time - clock.time) <= 11 * span
        clock = later
    assert 9 * passed <= 10 * (clock.time - first.time) <= 11 * passed
    # Whole milliseconds take less than one off either end, however many blocks there were.
    assert abs((clock.milliseconds - first.milliseconds) * MILLISECOND - (clock.time - first.time)) < MILLISECOND


@given(st.lists(spans, max_size=30), st.integers(-(10**7), 10**7))
def test_a_wall_clock_that_is_within_a_tenth_is_followed_to_the_nanosecond(readings, off):
    clock = BlockClock.started(TIME, NOW, 0)
    passed, wall = 0, NOW
    for span in readings:
        passed += span
        wall += span + span * off // 10**8
        clock = clock.moved(wall, passed)
        assert clock.time in (wall, wall + 1)


@pytest.mark.parametrize("jump", [YEAR, -YEAR])
def test_after_a_jump_of_a_year_each_second_is_a_second_within_a_tenth(jump):
    clock = BlockClock.started(TIME, NOW, 0)
    for second in range(1, 101):
        clock = clock.moved(NOW + jump + second * SECOND, second * SECOND)
    assert clock.milliseconds - TIME == (110_000 if jump > 0 else 90_000)


def test_block_time_comes_back_to_a_wall_clock_that_was_set_right():
    clock = BlockClock.started(TIME, NOW + 5 * SECOND, 0)
    for second in range(1, 51):
        clock = clock.moved(NOW + second * SECOND, second * SECOND)
        assert clock.time >= NOW + second * SECOND
    assert clock.time == NOW + 50 * SECOND


def test_blocks_within_a_millisecond_of_one_another_lose_no_time():
    clock = BlockClock.started(TIME, NOW, 0)
    for step in range(1, 10_001):
        clock = clock.moved(NOW + YEAR, step * 100_000)
    assert clock.milliseconds == TIME + 1_100


def test_a_run_begins_with_the_wall_clock_but_not_before_the_last_block():
    assert BlockClock.started(TIME, NOW + 7 * SECOND, 3).milliseconds == TIME + 7_000
    assert BlockClock.started(TIME, NOW - YEAR, 3).milliseconds == TIME
    assert BlockClock.started(TIME, NOW - YEAR, 3).moved(NOW - YEAR, 3 + SECOND).milliseconds == TIME + 900
