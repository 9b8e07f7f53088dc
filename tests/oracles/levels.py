"""The padding that levels cost, and the least that any choice of levels can cost."""

from itertools import combinations


def padding(sizes, levels):
    """Return how many examples are added when every client is padded to the smallest level that holds it."""
    return sum(min(level for level in levels if level >= size) - size for size in sizes)


def least_padding(sizes, limit):
    """Return the least padding over all choices of at most `limit` levels. Levels other than sizes never help."""
    largest = max(sizes)
    others = sorted(set(sizes) - {largest})
    return min(
        padding(sizes, (*chosen, largest))
        for count in range(min(limit, len(others) + 1))
        for chosen in combinations(others, count)
    )
