"""Every exception that fedmeta raises on purpose.

FedmetaError
├── UsageError          an argument or an option is wrong (also a ValueError)
│   ├── UnknownName     a name that is in no table; the message gives the nearest ones
│   └── MissingPackage  a package that an extra brings is not installed (also an ImportError)
├── DataError           the data cannot be used as they are
│   └── DownloadError   a file could not be fetched whole
├── RunError            a run cannot start, continue, or be read
│   ├── RunLocked       another process uses the run folder
│   ├── CheckpointError the stored state is damaged or belongs to another algorithm, model or recipe
│   ├── Diverged        an update or the server's state is no longer finite
│   ├── ProcessLost     another process of the run has ended, or cannot be reached
│   └── Interrupted     the user stopped a run, which can be resumed
└── GovernError         the ledger: its own branches are in `fedmeta.govern.errors`
"""

import difflib
from collections.abc import Iterable

LISTED = 30
"""How many names an error lists."""


class FedmetaError(Exception):
    """The root of all errors that fedmeta raises on purpose."""


class UsageError(FedmetaError, ValueError):
    """An argument or an option is wrong; the message names it, its value, and what would be right."""


class UnknownName(UsageError):
    """There is no such name."""

    def __init__(self, kind: str, name: object, known: Iterable[str]):
        super().__init__(f"unknown {kind} {name!r}: {nearest(name, known)}")


def nearest(name: object, known: Iterable[str]) -> str:
    """Return in words which of the known names are meant, perhaps; or which there are, the first `LISTED` of many."""
    names = sorted(known)
    near = difflib.get_close_matches(str(name).lower(), names, n=3, cutoff=0.5)
    if near:
        return f"did you mean {' or '.join(map(repr, near))}?"
    more = f", ... ({len(names)} in all)" if len(names) > LISTED else ""
    return f"known are {', '.join(names[:LISTED])}{more}"


class MissingPackage(UsageError, ImportError):
    """A package that an extra brings is not installed; the message names what needs it, the package and the extra."""


class DataError(FedmetaError):
    """The data cannot be used as they are."""


class DownloadError(DataError):
    """A file could not be fetched whole."""


class RunError(FedmetaError):
    """A run cannot start, continue, or be read."""


class RunLocked(RunError):
    """Another process uses the run folder."""


class CheckpointError(RunError):
    """The stored state is damaged or belongs to another algorithm, model or recipe."""


class Diverged(RunError):
    """An update or the server's state is no longer finite."""


class ProcessLost(RunError):
    """Another process of the run has ended, or cannot be reached."""


class Interrupted(RunError):
    """The user stopped a run, which can be resumed."""
