from collections import Counter
from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from fedmeta.node.wire.exchange import pulls, pushes, sources, top_up

powers = st.dictionaries(st.text("abcdefgh", min_size=1, max_size=4), st.integers(1, 10**6), min_size=1, max_size=12)
names = st.text("abcdefgh", min_size=1, max_size=4)


@given(names, st.integers(0, 2**40), powers)
def test_pushes_go_to_more_than_a_third_of_the_power_and_to_no_seat_more(name, round, powers):
    chosen = pushes(name, round, powers)
    assert len(set(chosen)) == len(chosen)
    assert 3 * sum(powers[seat] for seat in chosen) > sum(powers.values())
    assert 3 * sum(powers[seat] for seat in chosen[:-1]) <= sum(powers.values())
    if name in powers:
        assert chosen[0] == name


@given(names, st.integers(0, 100), powers.filter(lambda powers: len(powers) <= 8))
def test_an_honest_seat_is_always_among_them(name, round, powers):
    chosen = set(pushes(name, round, powers))
    for count in range(len(powers) + 1):
        for dishonest in combinations(powers, count):
            if 3 * sum(powers[seat] for seat in dishonest) < sum(powers.values()):
                assert chosen - set(dishonest)


@given(names, st.integers(0, 100), powers, st.data())
def test_a_contributor_tops_up_whoever_lacks_it_once_and_those_it_pushed_to_last(name, round, powers, draw):
    holders = draw.draw(st.sets(st.sampled_from(sorted(powers))))
    order = top_up(name, round, powers, holders)
    assert sorted(order) == sorted(set(powers) - holders)
    pushed = [seat in pushes(name, round, powers) for seat in order]
    assert pushed == sorted(pushed)


@given(names, names, st.integers(0, 100), st.sets(names, max_size=8), st.randoms(use_true_random=False))
def test_the_order_of_pulls_and_sources_does_not_depend_on_that_of_the_question(seat, name, round, some, random):
    mixed = sorted(some)
    random.shuffle(mixed)
    assert pulls(seat, round, mixed) == pulls(seat, round, some)
    assert sorted(pulls(seat, round, mixed)) == sorted(some)
    assert sources(seat, name, round, mixed) == sources(seat, name, round, some)
    assert sorted(sources(seat, name, round, mixed)) == sorted(some - {seat})


def test_the_load_spreads_over_seats_of_equal_power():
    powers = {f"seat-{number:02d}": 1 for number in range(64)}
    loads, firsts = Counter(), Counter()
    for number in range(64):
        for round in range(20):
            loads.update(pushes(f"member-{number}", round, powers))
        for round in range(20):
            firsts.update(sources(f"seat-{number:02d}", "member-1", round, powers)[:1])
    # 22 of 64 seats for each of 64 contributors in 20 rounds is 440 for a seat; 6 standard deviations of a fair
    # draw are 105 either way. Each is asked first 20 times, and hardly ever more than 50 times.
    assert len(loads) == len(firsts) == 64
    assert max(abs(load - 440) for load in loads.values()) < 105
    assert max(firsts.values()) < 50


def test_each_round_and_each_member_begins_elsewhere():
    powers = {f"seat-{number}": 1 for number in range(7)}
    assert len({pushes("anna", round, powers) for round in range(50)}) == 7
    assert len({pushes(f"member-{number}", 1, powers) for number in range(50)}) == 7
    assert len({pulls(f"seat-{number}", 1, "abcdefg") for number in range(7)}) > 3
