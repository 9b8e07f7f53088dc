"""What is wrong with a table, collected so that one message names all of it; and what was guessed, to be said aloud."""

from collections.abc import Iterable

from fedmeta.errors import DataError

LISTED = 5
"""So many lines, words or names are spelled out; of the rest their number is said."""


class Findings:
    """What was found while a table was read.

    Args:
        name: of the table.
    """

    def __init__(self, name: str):
        self.name = name
        self.notes: list[str] = []
        self._problems: list[str] = []
        self._explained = False

    def note(self, text: str) -> None:
        """Keep what was guessed, and the option that decides otherwise."""
        self.notes.append(text)

    def problem(self, text: str) -> None:
        """Keep what is wrong, where, and what to do about it."""
        if text not in self._problems and not self._explained:
            self._problems.append(text)

    def only(self, text: str) -> None:
        """Keep this problem alone, for it explains the others."""
        self._problems, self._explained = [text], True

    def check(self) -> None:
        """Raise a DataError that names every problem, if there is one."""
        if len(self._problems) == 1:
            raise DataError(f"{self.name}: {self._problems[0]}")
        if self._problems:
            lines = "".join(f"\n  {place}. {text}" for place, text in enumerate(self._problems, 1))
            raise DataError(f"{self.name} has {len(self._problems)} problems:{lines}")


def listed(parts: Iterable[str], count: int | None = None) -> str:
    """Return "a, b and c", or "a, b, c, d, e and 7 more".

    Args:
        parts: all of them, or at least the first few.
        count: how many there are, where that is not all that are given.
    """
    parts = list(parts)
    count = len(parts) if count is None else count
    if count > LISTED + 1:
        return f"{', '.join(parts[:LISTED])} and {count - LISTED:,} more"
    return " and ".join(part for part in (", ".join(parts[:-1]), parts[-1]) if part) if parts else "none"


def quoted(words: Iterable[str]) -> str:
    """Return the words in quotes, at most so many of them and none longer than 40 characters."""
    return listed(repr(word if len(word) <= 40 else f"{word[:37]}...") for word in words)


def counted(count: int, what: str, several: str | None = None) -> str:
    """Return "1 row" or "1,200 rows"."""
    return f"{count:,} {what if count == 1 else several or what + 's'}"
