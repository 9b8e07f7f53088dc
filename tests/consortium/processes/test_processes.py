"""The whole demonstration, with real processes: it ends, tells the truth, and leaves nothing behind."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import fedmeta as fm
from fedmeta.consortium import hospitals, methods
from fedmeta.consortium.federation import FederationPart
from fedmeta.consortium.processes import demonstration
from fedmeta.consortium.processes.board import PLAYED, Board
from fedmeta.consortium.processes.course import KILLED, LIES, Course
from fedmeta.consortium.processes.hosting import PARAMETERS, Consortium
from fedmeta.consortium.processes.wire import Counter
from fedmeta.data.sources.heart import Patients
from fedmeta.node.aggregation import Exact
from fedmeta.node.member.outbox import Outbox
from fedmeta.node.process import walls
from tests.govern.cometbft.network import needs_cometbft
from tests.node.process.test_federation import in_soak

pytestmark = in_soak

NAMES = tuple(hospitals.TITLES)
SOURCES = Path(fm.__file__).parents[1]


def command(folder, *arguments):
    return [sys.executable, "-m", "fedmeta", "consortium", "demo", "--out", str(folder), *arguments]


def environment(folder):
    """Return the environment of a demonstration: what it makes lies in a folder of its own, by which it is found."""
    folder.mkdir(exist_ok=True)
    return {**os.environ, "PYTHONPATH": str(SOURCES), "TMPDIR": str(folder)}


def left(folder):
    """Return the processes that have something to do with a folder."""
    found = []
    for one in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = one.read_bytes()
        except OSError:
            continue
        if bytes(folder) in words and int(one.parent.name) != os.getpid():
            found.append(words.replace(b"\0", b" ").decode(errors="replace")[:200])
    return found


def none_left(folder, seconds=60):
    end = time.monotonic() + seconds
    while found := left(folder):
        assert time.monotonic() < end, found
        time.sleep(0.5)


@pytest.fixture
def place():
    """Return a folder with a short path."""
    import shutil
    import tempfile

    folder = Path(tempfile.mkdtemp(prefix="fm", dir="/tmp"))
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize("engine", ["embedded", pytest.param("cometbft", marks=needs_cometbft)])
def test_the_demonstration_plays_both_faults_and_tells_the_truth(place, engine):
    out = place / "out"
    begun = time.monotonic()
    done = subprocess.run(
        command(out, "--rounds", "6", "--engine", engine),
        env=environment(place / "t"),
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    print(f"it took {time.monotonic() - begun:.0f} s")
    none_left(place / "t", 5)
    assert not list((place / "t").iterdir()), "nothing of it is left"
    part = FederationPart.from_dict(json.loads((out / "federation.json").read_text()))
    finals = [one for one in part.rounds if one.outcome == "final"]
    assert len(finals) >= 6

    killed, lied = part.faults
    assert (killed.member, lied.member) == (KILLED, LIES)
    rounds = {one.number: one for one in part.rounds}
    assert KILLED not in rounds[killed.round].note or rounds[killed.round].outcome == "final"
    assert re.search(r"its part again in round \d+, in full", killed.outcome)
    assert rounds[lied.round].faulty == (LIES,)
    assert sum(len(one.faulty) for one in part.rounds) == 1
    assert finals[-1].number > lied.round
    assert LIES not in finals[-1].seats
    assert set(finals[-1].included) == set(NAMES), "who lied about a result may still contribute"

    paid = {one.member: one for one in part.payments}
    assert set(paid) == set(NAMES)
    assert all(one.duties > 0 for one in part.payments)
    assert sum(one.contributing for one in part.payments) > 0
    assert {name for name, one in paid.items() if one.lost} == {LIES}
    assert "they agree to the unit" in part.explained
    assert part.explained.startswith("What ")

    assert [one.member for one in part.sent] == list(NAMES)
    for one in part.sent:
        assert one.agrees, one.note
        assert sum(one.kinds.values()) == one.outbox
        assert one.wire > one.outbox
        entries = [*Outbox(out / "outboxes" / f"{one.member}-core.jsonl").read()]
        assert {sent.what for sent in entries} <= {"transaction", "commitment", "offer", "chunks", "wraps"}
    assert "killed by SIGKILL" in done.stdout
    if all(one.holds for one in walls.describe_walls() if one.name == "own files"):
        assert part.note.startswith("Tried: each hospital's trainer can open its own patients and nobody else's")
    assert ("decided the ledger's blocks themselves" in part.note) == (engine == "cometbft")

    page = (out / "report.html").read_text()
    assert "What left each hospital" in page
    assert part.explained_title in page
    assert len((out / "wire.csv").read_text().splitlines()) == 1 + 4 * (1 + 3 + 3)
    assert "This is not medical advice." in done.stdout


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_however_it_is_ended_no_process_is_left(place, how):
    with subprocess.Popen(
        command(place / "out"),
        env=environment(place / "t"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        for line in process.stdout:
            if "approves the procedure" in line:
                break
        assert len(left(place / "t")) >= 13, "a ledger, and four nodes with three processes each"
        process.send_signal(how)
        said = process.stdout.read()
        assert process.wait(60) == {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -signal.SIGKILL}[how]
    none_left(place / "t")
    if how != signal.SIGKILL:
        assert not list((place / "t").iterdir())
        assert (place / "out" / "logs" / "ledger.log").exists()
    assert "Traceback" not in said


def with_people(name, change):
    """Return the stand-in's hospitals, one of them changed."""
    found = hospitals.drawn()
    return replace(found, members=tuple(change(one) if one.name == name else one for one in found))


def few(one):
    kept = np.arange(15)
    return replace(one, patients=Patients(*(part[kept] for part in one.patients)))


def coded_otherwise(found):
    table = found.table("zurich")
    table.write_text(table.read_text().replace("asymptomatic", "4").replace("non-anginal pain", "3"))
    table.write_text(table.read_text().replace("atypical angina", "2").replace("typical angina", "1"))


def without_a_column(found):
    table = found.table("zurich")
    table.write_text(table.read_text().replace("cholesterol", "chol", 1))


@pytest.mark.parametrize(
    ("people", "change", "says"),
    [
        (hospitals.drawn(), without_a_column, "there is no column 'cholesterol', which the model needs"),
        (hospitals.drawn(), coded_otherwise, "column 'chest_pain' holds"),
        (with_people("zurich", few), lambda found: None, "15 examples stand behind an update; smallest_examples is 20"),
    ],
)
def test_a_hospital_that_is_not_fit_is_told_why_and_the_others_rounds_go_on(place, people, change, says):
    """It has a seat, and takes no duty of it: the other three have more than two thirds of the power."""
    made = methods.procedure(rounds=demonstration.ROUNDS)
    exact = Exact(made)
    state = exact.initial()
    board = Board(hospitals.TITLES)
    with Counter() as counter:
        found = Consortium(
            place / "f",
            made,
            state,
            {name: {} for name in NAMES},
            NAMES,
            parameters=PARAMETERS | {"commit_blocks": 40, "compute_blocks": 60},
            approved=False,
            patients=people,
            counter=counter,
        )
        with found:
            found.make(exact.result(state))
            change(found)
            found.start_ledger()
            found.introduce()
            found.elect()
            for name in NAMES:
                found.start(name)
            Course(found, board, 2, False, time.monotonic(), patience=400.0).run(lambda seconds: None)
            status = json.loads((found.hosts["zurich"].folder / "core" / "status.json").read_text())
    assert any(says in one["text"] for one in status["said"]), status
    assert not status["halted"]
    for one in board.finals:
        assert one.included == ("budapest", "cleveland", "long-beach")
    assert board.rows["zurich"].contributing == board.rows["zurich"].duties == 0
    assert not any(row.lost for row in board.rows.values())
    assert all(not text.startswith(PLAYED) or "approves" in text for _, text in board.lines)
