"""A function's last results, kept by the keys of its arguments."""

import collections
import functools
import threading
from collections.abc import Callable, Hashable
from typing import Any

from fedmeta._keys.walk import value_key
from fedmeta.errors import UsageError


class Memoised:
    """A function that keeps the last results for arguments with equal keys; see `memoise`."""

    def __init__(self, function: Callable[..., Any], maxsize: int):
        functools.update_wrapper(self, function)
        self._function, self._maxsize = function, maxsize
        self._results: collections.OrderedDict[Hashable, Any] = collections.OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return the function's result for arguments that were made alike; the function runs where there is none."""
        key = value_key((args, tuple(sorted(kwargs.items()))))
        with self._lock:
            if key in self._results:
                self._results.move_to_end(key)
                return self._results[key]
        result = self._function(*args, **kwargs)
        with self._lock:
            # Another thread may have been first: both go on with the same.
            result = self._results.setdefault(key, result)
            self._results.move_to_end(key)
            while len(self._results) > self._maxsize:
                self._results.popitem(last=False)
        return result

    def __len__(self) -> int:
        """Return how many results are kept."""
        return len(self._results)

    def clear(self) -> None:
        """Forget all results."""
        with self._lock:
            self._results.clear()


def memoise(maxsize: int) -> Callable[[Callable[..., Any]], Memoised]:
    """Return a decorator: results are kept by the `value_key` of the arguments, those used longest ago go first.

    The arguments of the first call are what a result was made from. Whoever traces it later should see that their key
    is still the same.

    Args:
        maxsize: how many results are kept; at least 1.

    Raises:
        UsageError: `maxsize` is less than 1.
    """
    if maxsize < 1:
        raise UsageError(f"maxsize is {maxsize}: at least one result must be kept")
    return lambda function: Memoised(function, maxsize)
