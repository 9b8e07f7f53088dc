"""Figures of docs/results/ are those of the tables beside them."""

import re
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


NUMBER = re.compile(r"(?<![\w.])[-+]?\d[\d,]*\.?\d*")
ELSEWHERE = {
    "flights": {"11,948", "14,119", "2,214", "6,121"},  # parameters of the networks
    "heart": {"139", "106", "115", "149"},  # patients who are ill
    "shakespeare": {"40.76", "38.71", "46.06", "44.72"},  # the paper's
    "mnist": {"76.8", "75.4", "77.1", "83.6", "87.8", "88.8", "88.5", "89.8", "89.3", "90.3"},  # the paper's FEMNIST
}
"""Numbers in the tables of a page that its study did not measure."""


def rounded(text):
    """How many decimals a number has, and its value."""
    plain = text.replace(",", "").rstrip(".")
    return len(plain.partition(".")[2]), float(plain)


@pytest.mark.parametrize("name", STUDIES)
def test_numbers_in_the_tables_of_a_page_are_those_of_its_report(name):
    report = (RESULTS / name / "report.md").read_text()
    known = [rounded(each)[1] for each in NUMBER.findall(report)]
    page = (RESULTS / f"{name}.md").read_text().partition("```{include}")[0]
    rows = [line for line in page.splitlines() if line.startswith("|")]
    others = []
    for said in NUMBER.findall("\n".join(rows)):
        places, value = rounded(said)
        # A number of the report that has been rounded already may be a half.
        room = 0.5 * 10**-places + 1e-9
        if said.strip("+-,") not in ELSEWHERE.get(name, ()) and not any(abs(value - each) <= room for each in known):
            others.append(said)
    assert others == []


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
