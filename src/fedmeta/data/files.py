"""Files that appear whole or not at all, and arrays that are written block by block."""

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from fedmeta.errors import DataError, UsageError


@contextmanager
def new_folder(folder: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a folder to write into; it is renamed to `folder` if the block succeeds, and removed if it does not.

    Raises:
        UsageError: the name is taken.
    """
    target = Path(folder).absolute()
    if target.exists():
        raise UsageError(f"{folder} exists already; choose another name or remove it first")
    target.parent.mkdir(parents=True, exist_ok=True)
    work = target.with_name(f".{target.name}.{secrets.token_hex(4)}.partial")
    work.mkdir()
    try:
        yield work
        os.rename(work, target)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise


class ArrayFile:
    """A `.npy` file that grows along its first axis; a context manager.

    Args:
        path: the file.
        dtype: the type of the values.
        row: the shape of one row.
    """

    def __init__(self, path: Path, dtype: np.dtype, row: tuple[int, ...]):
        if dtype.hasobject:
            raise DataError(f"{path.name}: values of type {dtype} cannot be stored; they must be numbers")
        self.dtype, self.row, self.length = dtype, row, 0
        self._file = path.open("wb")
        self._header()
        self._begin = self._file.tell()

    def append(self, rows: np.ndarray) -> None:
        """Append rows, shape [rows, *row]."""
        self._file.write(np.ascontiguousarray(rows, self.dtype).data)
        self.length += len(rows)

    def _header(self) -> None:
        # NumPy pads the header, so the length of the first axis can be rewritten in place.
        header = {"descr": np.lib.format.dtype_to_descr(self.dtype), "fortran_order": False}
        np.lib.format.write_array_header_1_0(self._file, {**header, "shape": (self.length, *self.row)})

    def __enter__(self) -> "ArrayFile":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.seek(0)
        self._header()
        self._file.close()


def map_array(path: Path) -> np.ndarray:
    """Return the array in a `.npy` file, mapped into memory, read-only.

    Raises:
        DataError: the file is missing, cut short, or does not hold an array.
    """
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise DataError(f"{path} is missing") from None
    except (ValueError, EOFError, OSError) as error:
        raise DataError(f"{path} is damaged or cut short ({error})") from error
