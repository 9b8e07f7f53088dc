"""`fedmeta consortium report` computes, prints and writes; here with a comparison that is made up."""

import json

import pytest

from fedmeta.consortium import comparison, hospitals
from fedmeta.consortium.results import Comparison
from tests.cli.conftest import *  # noqa: F403 (the fixtures of the command line)
from tests.consortium import made


@pytest.fixture
def compared(monkeypatch):
    calls = []

    def compare(found, splits, seed, bootstrap, progress, planted_seeds):
        calls.append((found.stand_in, splits, seed, bootstrap, planted_seeds))
        progress("members: MAML")
        return made.comparison(found.warning, flamby=False)

    monkeypatch.setattr(comparison, "compare", compare)
    return calls


def test_it_prints_and_writes_what_was_compared(fedmeta, compared, tmp_path, monkeypatch):
    monkeypatch.delenv("FEDMETA_DATA", raising=False)
    monkeypatch.setenv("FEDMETA_CACHE", str(tmp_path / "cache"))
    out, figures = tmp_path / "report.html", tmp_path / "report.json"
    numbers = ("--splits", "3", "--seed", "5", "--planted", "2")
    done = fedmeta("consortium", "report", "--out", str(out), "--json", str(figures), *numbers)
    assert done.code == 0, done.err
    assert compared == [(True, 3, 5, 400, 2)]
    assert "THESE ARE NOT PATIENTS" in done.err
    assert "members: MAML" in done.err
    assert "THESE ARE NOT PATIENTS" in done.out
    assert f"Report  {out}" in done.out
    assert f"Figures {figures}" in done.out
    assert "fedmeta consortium report --out" in out.read_text()
    again = Comparison.from_dict(json.loads(figures.read_text()))
    assert again.goals == made.comparison(hospitals.WARNING, flamby=False).goals


def test_one_split_is_refused(fedmeta, compared):
    done = fedmeta("consortium", "report", "--splits", "1")
    assert done.code == 2
    assert "1 is not in the range x>=2" in done.err
    assert compared == []
