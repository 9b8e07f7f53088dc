"""Cohorts read ahead: while one computes, the next are drawn and read by another thread."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Generic, TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")


class Prefetcher(Generic[Item, Made]):
    """Yields `make(item)` for each item, in order; a few are made ahead of time.

    Use it as a context manager; an error in `make` is raised where its item is asked for. Only one
    Python thread runs at a time. So call `refill` once a computation has been started and this thread is about to wait
    for it; otherwise reading ahead would delay the start.

    Args:
        make: called in another thread, on one item after another.
        items: what to call it with.
        ahead: how many are made, or under way, before they are asked for.
    """

    def __init__(self, make: Callable[[Item], Made], items: Iterable[Item], ahead: int = 2):
        self._make, self._items, self._ahead = make, iter(items), ahead
        self._waiting: deque[Future[Made]] = deque()

    def __enter__(self) -> "Prefetcher[Item, Made]":
        self._pool = ThreadPoolExecutor(1, "fedmeta-feed")
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def refill(self) -> None:
        """Start making items until enough are ahead."""
        for item in islice(self._items, self._ahead - len(self._waiting)):
            self._waiting.append(self._pool.submit(self._make, item))

    def __iter__(self) -> Iterator[Made]:
        while True:
            if not self._waiting:
                self.refill()
            if not self._waiting:
                return
            yield self._waiting.popleft().result()
