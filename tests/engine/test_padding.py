import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fedmeta._engine.padding import PaddingBuckets
from fedmeta.data.splits import InTime, support_size
from tests.oracles import levels

SUPPORT = st.floats(0.001, 0.999)


@given(st.lists(st.integers(2, 500), min_size=1, max_size=200), SUPPORT, st.integers(1, 6))
def test_every_client_fits_its_bucket_and_there_are_few(sizes, support, limit):
    buckets = PaddingBuckets(np.array(sizes), support, limit)
    assert len(buckets.sizes) <= limit
    for size in sizes:
        for_support, for_query = buckets.lengths(buckets.bucket(size))
        needed = support_size(size, support)
        assert for_support + for_query == buckets.bucket(size)
        assert 1 <= needed <= for_support
        assert 1 <= size - needed <= for_query


@given(st.lists(st.integers(2, 300), min_size=1, max_size=50), SUPPORT, st.integers(1, 200), st.integers(1, 6))
def test_every_client_with_a_count_of_support_fits_its_bucket(sizes, support, count, limit):
    split = InTime(count=count)
    buckets = PaddingBuckets(np.array(sizes), support, limit, split=split)
    for size in sizes:
        for_support, for_query = buckets.lengths(buckets.bucket(size))
        needed = support_size(size, support, split)
        assert needed == min(count, size - 1)
        assert for_support + for_query == buckets.bucket(size)
        assert needed <= for_support
        assert size - needed <= for_query


@given(st.lists(st.integers(2, 30), min_size=1, max_size=12), st.integers(1, 4))
def test_no_choice_of_buckets_pads_less(sizes, limit):
    buckets = PaddingBuckets(np.array(sizes), 0.5, limit, slack=0.0)
    assert levels.padding(sizes, buckets.sizes.tolist()) == levels.least_padding(sizes, limit)


@given(st.lists(st.integers(2, 30), min_size=1, max_size=12), st.integers(1, 4), st.floats(0.0, 1.0))
def test_a_further_bucket_is_made_only_for_padding_that_is_worth_it(sizes, limit, slack):
    found = PaddingBuckets(np.array(sizes), 0.5, limit, slack).sizes.tolist()
    assert levels.padding(sizes, found) == levels.least_padding(sizes, len(found))
    if len(found) > 1:
        assert levels.least_padding(sizes, len(found) - 1) > slack * sum(sizes)


@given(st.integers(2, 10_000), SUPPORT)
def test_the_support_set_is_the_fraction_to_within_one_example(size, support):
    count = support_size(size, support)
    assert 1 <= count <= size - 1
    assert abs(count - support * size) <= 1


def test_many_different_sizes_still_fit():
    sizes = np.arange(2, 2000)
    buckets = PaddingBuckets(sizes, 0.2)
    assert len(buckets.sizes) <= 4
    assert buckets.sizes[-1] == sizes[-1]
    # Four equal bands cost a quarter of a band on average; a single bucket would cost half of the whole range.
    assert levels.padding(sizes.tolist(), buckets.sizes.tolist()) < 0.3 * np.sum(sizes[-1] - sizes)
