import threading

import pytest

from fedmeta._engine.prefetch import Prefetcher


def test_items_come_in_order_and_all_of_them():
    with Prefetcher(lambda item: 2 * item, range(7)) as feed:
        assert list(feed) == [0, 2, 4, 6, 8, 10, 12]
    with Prefetcher(str, []) as feed:
        assert list(feed) == []


def test_nothing_more_is_made_until_it_is_filled_up_or_runs_out():
    asked = []
    with Prefetcher(asked.append, range(10), ahead=2) as feed:
        items = iter(feed)
        next(items)
        next(items)
        assert asked == [0, 1]
        feed.refill()
        feed.refill()
        next(items)
        next(items)
        assert asked == [0, 1, 2, 3]
        next(items)
        assert asked[:5] == [0, 1, 2, 3, 4]


def test_items_are_made_in_one_other_thread():
    with Prefetcher(lambda _: threading.current_thread(), range(5)) as feed:
        threads = set(feed)
    assert len(threads) == 1
    assert threading.current_thread() not in threads


def test_an_error_is_raised_where_its_item_is_asked_for():
    def make(item):
        if item == 1:
            raise ValueError("item 1 cannot be made")
        return item

    with Prefetcher(make, range(3)) as feed:
        items = iter(feed)
        assert next(items) == 0
        with pytest.raises(ValueError, match="item 1 cannot be made"):
            next(items)


def test_what_waits_is_not_made_when_it_is_left():
    begun, gate, asked = threading.Event(), threading.Event(), []

    def make(item):
        asked.append(item)
        begun.set()
        gate.wait(60)

    with Prefetcher(make, range(10), ahead=5) as feed:
        feed.refill()
        assert begun.wait(60)
        threading.Timer(0.05, gate.set).start()
    assert asked == [0]
