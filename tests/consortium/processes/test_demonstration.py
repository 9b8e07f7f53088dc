"""The parts around the federation: the command's bad input, the comparison beside it, and what is said of the walls."""

import json
import subprocess
import sys
import time

import pytest

from fedmeta.consortium.hospitals import TITLES
from fedmeta.consortium.processes import beside
from fedmeta.consortium.processes.beside import Comparing, comparing
from fedmeta.consortium.processes.demonstration import walls_said
from fedmeta.consortium.processes.hosting import Readable
from fedmeta.errors import RunError
from tests.cli.serving import run

ALONE = {name: (name,) for name in TITLES}


def test_a_folder_that_exists_is_refused_before_anything_runs(tmp_path):
    done = run("consortium", "demo", "--out", tmp_path)
    assert (done.code, done.out) == (2, "")
    assert done.err == f"fedmeta: --out is {tmp_path}: it exists, and a demonstration begins in a new folder\n"


def test_no_rounds_are_too_few(tmp_path):
    done = run("consortium", "demo", "--out", tmp_path / "new", "--rounds", "0")
    assert done.code == 2
    assert not (tmp_path / "new").exists()


def a_process(program, folder):
    return Comparing(
        subprocess.Popen([sys.executable, "-c", program]), folder / "comparison.log", folder / "comparison.json"
    )


def test_a_comparison_that_fails_says_with_what_and_where_its_words_are(tmp_path):
    (tmp_path / "comparison.log").write_text("starts\nfedmeta: the data are damaged\n")
    found = a_process("raise SystemExit(3)", tmp_path)
    with pytest.raises(RunError, match=r"ended with 3: fedmeta: the data are damaged; see .*comparison\.log"):
        found.result()
    assert not found.runs


def test_what_a_comparison_is_at_is_the_last_that_it_said(tmp_path):
    (tmp_path / "comparison.log").write_text("")
    found = a_process("import time; time.sleep(60)", tmp_path)
    try:
        assert (found.runs, found.at) == (True, "starts")
        (tmp_path / "comparison.log").write_text("newcomers: MAML\nnewcomers: Meta-SGD\n")
        assert found.at == "newcomers: Meta-SGD"
    finally:
        found._process.kill()
        found._process.wait()


def test_a_comparison_gives_way_to_others_and_ends_with_its_context(tmp_path, monkeypatch):
    program = (
        "import json, os, sys, time\n"
        "open(sys.argv[-1] + '.told', 'w').write(json.dumps([os.nice(0), *sys.argv[1:]]))\n"
        "time.sleep(600)"
    )
    monkeypatch.setattr(beside, "PROGRAM", program)
    told = tmp_path / "comparison.json.told"
    with comparing(tmp_path) as found:
        end = time.monotonic() + 60
        while not told.exists() or not told.read_text():
            assert time.monotonic() < end
            time.sleep(0.05)
        assert found.runs
    assert not found.runs
    nice, *words = json.loads(told.read_text())
    assert nice == beside.GRACE
    assert words == ["consortium", "report", "--json", str(tmp_path / "comparison.json")]


@pytest.mark.parametrize(
    ("readable", "why", "says"),
    [
        (Readable(opened=ALONE), "", "its own patients and nobody else's; each process under a user of its own."),
        (Readable(opened=ALONE), "this is not root", "nobody else's; all processes under one user: this is not root."),
        (
            Readable(opened={**ALONE, "zurich": ("budapest", "zurich")}),
            "",
            "Walls are missing on this machine: Zurich/Basel's trainer can open Budapest, Zurich/Basel;",
        ),
        (Readable(opened={**ALONE, "zurich": ()}), "", "Zurich/Basel's trainer can open nothing"),
        (Readable(opened=ALONE, elsewhere=("zurich",)), "", "missing on this machine: Zurich/Basel's core or gate can"),
        (
            Readable(opened=ALONE, keys=("budapest",)),
            "",
            "missing on this machine: Budapest's trainer can open its keys",
        ),
        (Readable(why="no namespaces"), "", "could not be tried: no namespaces."),
    ],
)
def test_what_was_tried_of_the_walls_is_said_as_it_was(readable, why, says):
    said = walls_said(readable, why, TITLES)
    assert says in said
    assert readable.holds == said.startswith("Tried: ")
