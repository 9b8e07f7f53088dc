"""How much a node takes from whom."""

import ipaddress
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

SECOND = 10**9
"""Nanoseconds."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a node takes from one member, from one peer address and in all."""

    body_bytes: int = 65_536
    """The size of a request's body."""
    body_seconds: int = 10
    """The time in which a body must have come."""
    member_rate: int = 20
    """Transactions a second of one member, in the long run."""
    member_burst: int = 200
    """Transactions of one member at once."""
    peer_rate: int = 50
    """Requests a second from one address, in the long run; an IPv6 network of 64 bits counts as one address."""
    peer_burst: int = 500
    """Requests from one address at once."""
    remembered: int = 10_000
    """Members and addresses of which the rates are remembered, the latest ones."""
    connections: int = 2_000
    """Connections at once; fewer where the system does not let a process open so many files."""
    peer_connections: int = 100
    """Connections at once of one address."""
    streams: int = 100
    """Event streams at once."""
    peer_streams: int = 10
    """Event streams at once to one address."""
    explanations: int = 20
    """Explanations at once, of which one is made and the others wait."""
    peer_explanations: int = 2
    """Explanations at once for one address."""
    heartbeat_seconds: int = 15
    """A silent stream says so often that it lives."""
    stall_seconds: int = 30
    """A stream is closed when its reader takes nothing for so long."""
    wait_seconds: int = 30
    """A request waits for its transaction's block for so long at most."""
    waiting: int = 10_000
    """Requests that wait for a block at once."""


class Buckets:
    """A token bucket for each key: it holds `burst` tokens at most and gains `rate` a second."""

    def __init__(self, rate: int, burst: int, keys: int, clock: Callable[[], int] = time.monotonic_ns):
        """Remember so many keys; `clock` gives nanoseconds."""
        self._rate, self._full, self._keys, self._clock = rate, burst * SECOND, keys, clock
        self._levels: OrderedDict[str, tuple[int, int]] = OrderedDict()

    def take(self, key: str) -> int:
        """Take a token and return 0; or take none and return after how many seconds there is one."""
        wait = self.missing(key)
        if not wait:
            self.spend(key)
        return wait

    def missing(self, key: str) -> int:
        """Return after how many seconds there is a token: 0 if there is one now. The key is not remembered for it."""
        lack = SECOND - self._level(key, self._clock())
        return -(-lack // (self._rate * SECOND)) if lack > 0 else 0

    def spend(self, key: str) -> None:
        """Take a token, also one that is not there yet."""
        now = self._clock()
        self._levels[key] = (self._level(key, now) - SECOND, now)
        self._levels.move_to_end(key)
        if len(self._levels) > self._keys:
            self._levels.popitem(last=False)

    def _level(self, key: str, now: int) -> int:
        level, then = self._levels.get(key, (self._full, now))
        return min(self._full, level + (now - then) * self._rate)


class Places:
    """So many places in all, and so many of them for each key."""

    def __init__(self, what: str, most: int, each: int):
        """Say in a refusal `what` there are too many of."""
        self._what, self._most, self._each = what, most, each
        self.taken: Counter[str] = Counter()

    def take(self, key: str) -> str:
        """Take a place and return nothing; or take none and return why."""
        if self.total() < self._most and self.taken[key] < self._each:
            self.taken[key] += 1
            return ""
        there = f"{self.total()} {self._what} at once, {self.taken[key]} of them for this address"
        return f"there are {there}: at most {self._most} and {self._each}"

    def total(self) -> int:
        """Return how many are taken."""
        return self.taken.total()

    def leave(self, key: str) -> None:
        """Give a place back."""
        self.taken[key] -= 1
        if not self.taken[key]:
            del self.taken[key]


def peer_key(host: str) -> str:
    """Return what the requests of one address are counted under."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv6Address):
        mapped = address.ipv4_mapped
        return str(mapped) if mapped else str(ipaddress.ip_network((int(address), 64), strict=False))
    return host
