"""Names of blobs and of what is attached to them, and the files that belong to them: `BlobStore` says which."""

import re
from pathlib import Path

from fedmeta.node.errors import NotKept

LONGEST_NAME = 150
"""Characters of the longest name."""

LONGEST_LABEL = 80
"""Characters of the longest label."""

_ALLOWED = re.compile(r"[a-z0-9._/-]+")


def check(name: str, longest: int) -> None:
    """Raise `NotKept` unless it is a name: parts of a-z, 0-9, ".", "_" and "-", none of them "..", with "/" between."""
    if not _ALLOWED.fullmatch(name) or len(name) > longest or any(part in ("", ".", "..") for part in name.split("/")):
        raise NotKept(
            f"a name must have at most {longest} characters of a-z, 0-9, '.', '_', '-', and '/' between its parts, "
            f"none of which is '.' or '..', not {name!r}"
        )


def head(name: str) -> str:
    """Return the file of what is known of a blob."""
    return f"{_flat(name)}~head"


def data(name: str) -> str:
    """Return the file of a blob's bytes."""
    return f"{_flat(name)}~data"


def attachment(name: str, label: str) -> str:
    """Return the file of what is attached under a label."""
    return f"{_flat(name)}~at~{_flat(label)}"


def aside(path: Path) -> Path:
    """Return the file through which another one is written."""
    return path.with_name(f"{path.name}~new")


def parse(file: str) -> tuple[str, str, str]:
    """Return whose file it is, of what kind ("head", "data", "at" or "aside", or "" for another's), and its label."""
    name, _, kind = file.partition("~")
    kind, _, label = kind.partition("~")
    if file.endswith("~new"):
        kind = "aside"
    return name.replace("+", "/"), kind, label.replace("+", "/")


def _flat(name: str) -> str:
    return name.replace("/", "+")
