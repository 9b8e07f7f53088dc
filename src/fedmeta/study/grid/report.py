"""Makes the report of a study, of its table, and of the table of its tuning where that lies beside it."""

from pathlib import Path

from fedmeta._files import write_atomically
from fedmeta.errors import MissingPackage, UsageError
from fedmeta.study.grid import figures
from fedmeta.study.grid.page import page
from fedmeta.study.grid.results import Results
from fedmeta.study.grid.table import Table
from fedmeta.study.grid.tries import spent

PICTURES = "figures"


def write(folder: Path) -> tuple[Path, str]:
    """Write report.md and the pictures; return the page, and why there are no pictures, or "".

    Raises:
        UsageError: the folder holds no study, or no cell of it is finished.
        CheckpointError: a table is damaged.
        RunError: the file system refuses.
    """
    results = Results(Table.read(folder))
    if not results.cells:
        raise UsageError(f"no cell of the study in {folder} is finished: there is nothing to report")
    pictures, lacking = {}, ""
    for data in results.data:
        try:
            drawn = figures.draw_all(results, data, folder / PICTURES)
            pictures[data] = [(f"{PICTURES}/{name}", words) for name, words in drawn]
        except MissingPackage as error:
            lacking = str(error)
            break
    path = folder / "report.md"
    write_atomically(path, page(results, pictures, spent(folder)).encode())
    return path, lacking
