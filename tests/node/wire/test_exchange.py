from collections import Counter
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmeta.node.wire.exchange import pulls, pushes, sources, top_up

names = st.text("abcdefgh", min_size=1, max_size=4)


@st.composite
def rounds(draw, most=12):
    """A contributor, a round, its cohort, and the powers of the seats; some contributors have a seat."""
    cohort = draw(st.lists(names, min_size=1, max_size=12, unique=True))
    some = st.dictionaries(names, st.integers(1, 10**6), min_size=1, max_size=most)
    return draw(st.sampled_from(cohort)), draw(st.integers(0, 2**40)), cohort, draw(some)


@given(rounds())
def test_pushes_go_to_more_than_a_third_of_the_power_and_to_no_seat_more(case):
    name, _, _, powers = case
    chosen = pushes(*case)
    assert len(set(chosen)) == len(chosen)
    assert 3 * sum(powers[seat] for seat in chosen) > sum(powers.values())
    assert 3 * sum(powers[seat] for seat in chosen[:-1]) <= sum(powers.values())
    if name in powers:
        assert chosen[0] == name


@given(rounds(most=8))
def test_an_honest_seat_is_always_among_them(case):
    powers, chosen = case[-1], set(pushes(*case))
    for count in range(len(powers) + 1):
        for dishonest in combinations(powers, count):
            if 3 * sum(powers[seat] for seat in dishonest) < sum(powers.values()):
                assert chosen - set(dishonest)


@given(rounds(), st.data())
def test_a_contributor_tops_up_whoever_lacks_it_once_and_those_it_pushed_to_last(case, draw):
    powers = case[-1]
    holders = draw.draw(st.sets(st.sampled_from(sorted(powers))))
    order = top_up(*case, holders=holders)
    assert sorted(order) == sorted(set(powers) - holders)
    pushed = [seat in pushes(*case) for seat in order]
    assert pushed == sorted(pushed)


@given(rounds(), st.randoms(use_true_random=False))
def test_the_order_in_which_the_ledger_lists_them_does_not_matter(case, random):
    name, round, cohort, powers = case
    seats, others = sorted(powers), cohort[:]
    random.shuffle(seats)
    random.shuffle(others)
    again = (name, round, others, {seat: powers[seat] for seat in seats})
    assert pushes(*again) == pushes(*case)
    assert top_up(*again, holders=()) == top_up(*case, holders=())


@given(names, names, st.integers(0, 100), st.sets(names, max_size=8), st.randoms(use_true_random=False))
def test_the_order_of_pulls_and_sources_does_not_depend_on_that_of_the_question(seat, name, round, some, random):
    mixed = sorted(some)
    random.shuffle(mixed)
    assert pulls(seat, round, mixed) == pulls(seat, round, some)
    assert sorted(pulls(seat, round, mixed)) == sorted(some)
    assert sources(seat, name, round, mixed) == sources(seat, name, round, some)
    assert sorted(sources(seat, name, round, mixed)) == sorted(some - {seat})


@pytest.mark.parametrize(("members", "seats", "load"), [(64, 64, 22), (7, 7, 3), (14, 7, 6), (128, 64, 44)])
def test_each_seat_of_equal_power_is_pushed_to_equally_often(members, seats, load):
    cohort = [f"member-{number:03d}" for number in range(members)]
    powers = {f"seat-{number:02d}": 5 for number in range(seats)}
    for round in range(5):
        loads = Counter(seat for name in cohort for seat in pushes(name, round, cohort, powers))
        assert loads == dict.fromkeys(powers, load)


def test_each_holder_is_asked_first_by_some_seats_and_by_none_too_often():
    seats = [f"seat-{number:02d}" for number in range(64)]
    firsts = Counter(sources(seat, "member-1", round, seats)[0] for seat in seats for round in range(20))
    # 20 times each, by a fair draw, with a standard deviation of 4.4.
    assert set(firsts) == set(seats)
    assert max(firsts.values()) < 50


def test_each_round_begins_elsewhere_and_each_seat_pulls_in_an_order_of_its_own():
    powers = {f"seat-{number}": 1 for number in range(7)}
    assert len({pushes("anna", round, ["anna", "ben"], powers) for round in range(50)}) == 7
    assert len({pulls(seat, 1, "abcdefg") for seat in powers}) > 3


def test_who_is_not_of_the_cohort_pushes_nothing():
    with pytest.raises(ValueError):
        pushes("carl", 1, ["anna", "ben"], {"seat": 1})
