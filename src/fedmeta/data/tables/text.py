"""The text of a file: unpacked and decoded, by its mark or by rules that never guess a language."""

import bz2
import gzip
import lzma
import zlib
from pathlib import Path

import pyarrow as pa

from fedmeta.data.tables.problems import Findings, quoted
from fedmeta.errors import DataError, UsageError

MARKS = ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"))


def read_bytes(path: Path) -> bytes:
    """Return what a file holds, unpacked by its ending.

    Raises:
        DataError: it is missing or damaged.
    """
    try:
        content = path.read_bytes()
        match path.suffix.lower():
            case ".gz":
                return gzip.decompress(content)
            case ".bz2":
                return bz2.decompress(content)
            case ".xz":
                return lzma.decompress(content)
            case ".zst":
                return pa.CompressedInputStream(pa.BufferReader(content), "zstd").read()
    except FileNotFoundError:
        raise DataError(f"there is no file {path}") from None
    except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError, pa.ArrowException) as error:
        raise DataError(f"{path} cannot be read: {' '.join(str(error).split())}") from error
    return content


def decode(content: bytes, encoding: str | None, findings: Findings) -> str:
    """Return the text, with line feeds alone between lines.

    It is what its mark says (UTF-8 or UTF-16), or UTF-8, or Windows-1252, which is noted with the words that show it.

    Raises:
        DataError: it is none of these, or not what was told.
        UsageError: there is no such encoding.
    """
    text = _told(content, encoding, findings) if encoding is not None else _recognised(content, findings)
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _told(content: bytes, encoding: str, findings: Findings) -> str:
    for mark, marked in MARKS:
        if content.startswith(mark) and encoding.lower().replace("_", "-") in (marked, marked[:6], "utf8", "utf16"):
            content, encoding = content[len(mark) :], marked
    try:
        return content.decode(encoding)
    except LookupError:
        raise UsageError(f"there is no encoding {encoding!r}; such as utf-8, utf-16, cp1252 or latin-1") from None
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(f"{findings.name} is not {encoding}: {error.reason} in line {line}") from error


def _recognised(content: bytes, findings: Findings) -> str:
    for mark, marked in MARKS:
        if content.startswith(mark):
            return _told(content[len(mark) :], marked, findings)
    if b"\0" in content:
        raise DataError(
            f"{findings.name} holds zero bytes, so it is no text in UTF-8: if it is UTF-16 without a mark, say "
            "--encoding utf-16-le or utf-16-be"
        )
    try:
        return content.decode()
    except UnicodeDecodeError:
        pass
    try:
        text = content.decode("cp1252")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{findings.name} is neither UTF-8 nor Windows-1252 (line {line}): say what it is with --encoding"
        ) from error
    shown: dict[str, None] = {}
    for word in text.replace(",", " ").replace(";", " ").split():
        if not word.isascii():
            shown.setdefault(word.strip('"'))
            if len(shown) == 3:
                break
    findings.note(f"read as Windows-1252, which gives {quoted(shown)}; --encoding says otherwise")
    return text
