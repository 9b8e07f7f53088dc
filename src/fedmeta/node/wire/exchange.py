"""Who brings an update to whom: orders that spread the load, and that everyone can compute."""

from collections.abc import Iterable

from fedmeta.govern.wire.signatures import tagged


def push_order(genesis: bytes, round: int, contributor: str, seats: Iterable[str]) -> list[str]:
    """Return the seats in the order in which a contributor brings them its update: another for each and each round."""
    return _spread("push", seats, genesis, round, contributor)


def pull_order(genesis: bytes, round: int, contributor: str, seat: str, holders: Iterable[str]) -> list[str]:
    """Return the holders of a contributor's update in the order in which a seat asks them for it."""
    return _spread("pull", holders, genesis, round, contributor, seat)


def _spread(purpose: str, names: Iterable[str], genesis: bytes, round: int, *others: str) -> list[str]:
    def place(name: str) -> bytes:
        return tagged(purpose, genesis, b"%d" % round, *(one.encode() for one in (*others, name)))

    return sorted(names, key=place)
