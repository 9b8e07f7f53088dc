"""Clients by the names that a user gives."""

from collections.abc import Sequence

import numpy as np

from fedmeta.data import FederatedDataset
from fedmeta.errors import UsageError, nearest

SAID = 3
"""How many unknown names a message speaks of."""


def named_clients(data: FederatedDataset, names: Sequence[str], option: str) -> tuple[str, ...]:
    """Return the clients that an option names, each once, in the order of the data set.

    Args:
        data: the clients that there are.
        names: each the name of a client; a text that is none is several with commas between them.
        option: what to call the option in an error.

    Raises:
        UsageError: there is no such client; the message has all unknown names, and those nearest to them.
    """
    known = set(data.client_ids)
    split = ([text] if text in known else [part.strip() for part in text.split(",")] for text in names)
    wanted = dict.fromkeys(name for group in split for name in group)
    if unknown := [name for name in wanted if name not in known]:
        hints = [f"unknown client {name!r}: {nearest(name, known)}" for name in unknown[:SAID]]
        more = [f"and {len(unknown) - SAID} more that are unknown"] * (len(unknown) > SAID)
        raise UsageError(f"{option}, clients of {data.info.name}: {'; '.join([*hints, *more])}")
    return tuple(name for name in data.client_ids if name in wanted)


def without(data: FederatedDataset, names: Sequence[str]) -> FederatedDataset:
    """Return the data set without the clients of these names."""
    return data.select(np.flatnonzero(~np.isin(data.ids, np.array(list(names), str))))


def only(data: FederatedDataset, names: Sequence[str]) -> FederatedDataset:
    """Return the data set of the clients of these names, in its own order."""
    return data.select(np.flatnonzero(np.isin(data.ids, np.array(list(names), str))))
