"""Figures of docs/results/ are those of the tables beside them."""

from pathlib import Path

import pytest

from fedmeta.study.grid.file import Study
from fedmeta.study.grid.page import page
from fedmeta.study.grid.report import PICTURES
from fedmeta.study.grid.results import Results
from fedmeta.study.grid.table import NAME, Table
from fedmeta.study.grid.tries import spent
from tests.examples import in_soak

RESULTS = Path(__file__).parents[1] / "docs" / "results"
STUDIES = sorted(path.parent.name for path in RESULTS.glob(f"*/{NAME}"))


def first_lines(text):
    """A report without its pictures."""
    return [line for line in text.splitlines() if line and not line.startswith("![")]


@in_soak
@pytest.mark.parametrize("name", STUDIES)
def test_a_report_follows_from_its_table(name):
    folder = RESULTS / name
    made = page(Results(Table.read(folder)), {}, spent(folder))
    assert first_lines(made) == first_lines((folder / "report.md").read_text())


@pytest.mark.parametrize("name", STUDIES)
def test_its_pictures_are_there_and_its_file_is_the_one_of_studies(name):
    folder = RESULTS / name
    for line in (folder / "report.md").read_text().splitlines():
        if line.startswith("!["):
            assert (folder / line.rpartition("(")[2].rstrip(")")).is_file(), line
            assert f"({PICTURES}/" in line
    assert Study.read(folder / "study.toml", tuning=True).name == Table.read(folder).name
