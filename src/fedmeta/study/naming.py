"""Clients by the names that a user gives."""

from collections.abc import Sequence

import numpy as np

from fedmeta.data import FederatedDataset
from fedmeta.errors import UsageError, nearest

SAID = 3
"""How many unknown names a message speaks of."""


def named_clients(names: Sequence[str], known: Sequence[str], where: str) -> tuple[str, ...]:
    """Return the clients that a user names, each once, in the order in which they are known.

    Args:
        names: each the name of a client; a text that is none is several with commas between them.
        known: the clients that there are.
        where: the option and the data, for an error.

    Raises:
        UsageError: there is no such client; the message has the unknown names, and those nearest to them.
    """
    there = set(known)
    split = ([text] if text in there else [part.strip() for part in text.split(",")] for text in names)
    wanted = dict.fromkeys(name for group in split for name in group)
    if unknown := [name for name in wanted if name not in there]:
        hints = [f"unknown client {name!r}: {nearest(name, there)}" for name in unknown[:SAID]]
        more = [f"and {len(unknown) - SAID} more that are unknown"] * (len(unknown) > SAID)
        raise UsageError(f"{where}: {'; '.join([*hints, *more])}")
    return tuple(name for name in known if name in wanted)


def without(data: FederatedDataset, names: Sequence[str]) -> FederatedDataset:
    """Return the data set without the clients of these names."""
    return data.select(np.flatnonzero(~np.isin(data.ids, np.array(list(names), str))))


def only(data: FederatedDataset, names: Sequence[str]) -> FederatedDataset:
    """Return the data set of the clients of these names, in its own order."""
    return data.select(np.flatnonzero(np.isin(data.ids, np.array(list(names), str))))
