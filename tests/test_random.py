import jax
import numpy as np
import pytest

from fedmeta import random
from tests.oracles import splits

PLACES = [(seed, purpose, *place) for seed in (0, 1) for purpose in ("a", "b") for place in ((), (1,), (2,), (1, "x"))]


def test_a_draw_depends_on_its_place_and_nothing_else():
    first = [random.generator(*place).integers(2**62) for place in PLACES]
    again = [random.generator(*place).integers(2**62) for place in reversed(PLACES)][::-1]
    assert first == again
    assert len(set(first)) == len(PLACES)


def test_keys_are_two_words_for_jax():
    words = [random.key_data(*place) for place in PLACES]
    assert all(word.shape == (2,) and word.dtype == np.uint32 for word in words)
    assert len({word.tobytes() for word in words}) == len(PLACES)
    assert jax.random.uniform(jax.random.wrap_key_data(words[0])).shape == ()


def test_names_and_numbers_of_a_place_are_kept_apart():
    """A client called "1" is not round 1, and joining two names gives no third."""
    draws = {
        random.key_data(0, "p", *place).tobytes() for place in ((1, "2"), ("1", 2), ("12",), (12,), ("1", "2"), (1, 2))
    }
    assert len(draws) == 6


@pytest.mark.parametrize("place", PLACES)
def test_a_draw_is_that_of_philox_with_the_digest_of_its_place_as_key(place):
    seed, *rest = place
    expected, found = splits.generator(seed, *rest), random.generator(*place)
    assert found.integers(2**62, size=9).tolist() == expected.integers(2**62, size=9).tolist()
    assert found.permutation(30).tolist() == expected.permutation(30).tolist()
    assert found.random(3, np.float32).tolist() == expected.random(3, np.float32).tolist()
