"""Damage to bytes, and to values of the codec: other types, other ranges, other shapes. All from one `Random`."""

from random import Random

from hypothesis import strategies as st

EDGES = (0, 1, 2, 23, 24, 255, 256, 2**16, 2**32, 10**15, 10**15 + 1, 2**53 - 1, 2**53, 2**63 - 1, 2**63, 2**64, 2**256)
TEXTS = ("", "a", "ann", "hal", "lou", "zoe", "-a", "A", "kind", "é", "\0", "\n", "a" * 33, "a" * 300, "yes", "claim")
OCTETS = (b"", b"\0", bytes(31), bytes(32), bytes(33), bytes(64), b"\xff" * 32, b"\x80", b"\xa0", b"\x01" + bytes(31))

rngs = st.builds(Random, st.integers(0, 2**64 - 1))
"""One number decides all: it is drawn fast, and a failure names it."""


def odd(rng, depth=2):
    """Return any small value of the codec."""
    match rng.randrange(7 if depth else 5):
        case 0:
            return rng.choice((None, True, False))
        case 1:
            return rng.choice(EDGES)
        case 2:
            return -rng.choice(EDGES)
        case 3:
            return rng.choice(TEXTS)
        case 4:
            return rng.choice(OCTETS)
        case 5:
            return [odd(rng, depth - 1) for _ in range(rng.randrange(4))]
    return {rng.choice(TEXTS): odd(rng, depth - 1) for _ in range(rng.randrange(4))}


def mutated(rng, value):
    """Return a value that is another than `value` at one to three places."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        paths = list(_paths(value))
        other = _at(value, rng.choice(paths))
        value = _replaced(value, rng.choice(paths), lambda old, other=other: _changed(rng, old, other))
    return value


def _paths(value, at=()):
    yield at
    for step, item in _items(value):
        yield from _paths(item, (*at, step))


def _items(value):
    if type(value) is dict:
        return value.items()
    return enumerate(value) if type(value) is list else ()


def _at(value, path):
    for step in path:
        value = value[step]
    return value


def _replaced(value, path, change):
    if not path:
        return change(value)
    step, *rest = path
    items = ((name, _replaced(item, rest, change) if name == step else item) for name, item in _items(value))
    return dict(items) if type(value) is dict else [item for _, item in items]


def _changed(rng, old, other):
    """Return another value in the place of one; `other` is one from elsewhere in the same."""
    kind = rng.randrange(8)
    if kind == 0:
        return other
    if kind <= 2:
        return odd(rng)
    if type(old) is int:
        return old + rng.choice((-1, 1, 1000, -1000))
    if type(old) is list:
        return _other_list(rng, old)
    if type(old) is dict:
        name = rng.choice([*old, "other"])
        rest = {one: item for one, item in old.items() if one != name}
        return rng.choice((rest, {**rest, name + "x": old.get(name)}, {**old, rng.choice(TEXTS): odd(rng)}))
    if type(old) is bytes:
        return damaged(rng, old)
    if type(old) is str:
        where = rng.randrange(len(old) + 1)
        return rng.choice((old[:where], old + old[:1], old[:where] + "~" + old[where + 1 :], old.upper()))
    return odd(rng)


def _other_list(rng, old):
    where = rng.randrange(len(old) + 1)
    before, here, after = old[:where], old[where : where + 1], old[where + 1 :]
    return rng.choice((before + after, old[:where] + here + old[where:], [*before, odd(rng), *here, *after], old[::-1]))


def damaged(rng, raw):
    """Return bytes that differ from `raw` by one to three flips, cuts, insertions or repetitions."""
    for _ in range(rng.randint(1, 3)):
        where = rng.randrange(len(raw) + 1)
        before, after = raw[:where], raw[where:]
        match rng.randrange(8):
            case 0:
                raw = before
            case 1:
                raw = before + rng.randbytes(rng.randrange(9)) + after
            case 2:
                raw = before + after[rng.randint(1, 9) :]
            case 3:
                raw = before + before[where // 2 :] + after
            case 4:
                raw = before + rng.randbytes(1) + after[1:]
            case _:
                raw = before + bytes(one ^ 1 << rng.randrange(8) for one in after[:1]) + after[1:]
    return raw
