"""Tuning as a command: what is written, and that it goes on where it was stopped. The trainings are made up."""

import csv
import json
import math
import subprocess
import sys

import pytest

from fedmeta.cli import main
from fedmeta.errors import RunError, RunLocked, UsageError
from fedmeta.study.grid import work
from fedmeta.study.grid.file import Study
from fedmeta.study.grid.tries import spent
from fedmeta.study.grid.tune import LOG, TRIES, TUNED, said, tune
from tests.examples import in_soak
from tests.study.grid.declared import SMALL

MADE = """
name = "small"
tuned = "tuned.toml"

[data.digits]
source = "digits"
options = { num_clients = 12, classes_per_client = 3 }
fractions = [0.5, 0.25, 0.25]
model = "softmax_regression"
rounds = 8
cohort_size = 2
tuning = { tflops = 6e-11, floor = 0.5 }

[procedures.fedavg]

[procedures.fedavg-meta]
options = { inner_epochs = 1 }
grid = { inner_lr = [0.1, 0.3, 0.9] }

[procedures.maml]
grid = { inner_lr = [0.1, 0.3, 0.9], server = ["adam:0.01", "adam:0.1"] }

[procedures.alone]
baseline = "alone"
"""
"""8 operations to a candidate of 8 rounds, so that 60 are seven of them."""


@pytest.fixture
def made(monkeypatch):
    """Trainings are made up: by rate, and one operation a round. What is trained is kept."""
    asked = []

    def attempt(source, cell, rounds, folder, listener):
        rate = cell.recipe.algorithm_options["inner_lr"]
        asked.append((cell.key.procedure, rate, cell.recipe.server_lr, rounds))
        if rate > 2:
            return {"before": None, "after": None, "dose": None, "flops": 1}
        after, before = (-(math.log(rate / best) ** 2) for best in (0.3, 0.03))
        dose = {"rate": 3.0, "steps": 4, "part": "all"}
        return {"before": before, "after": after - cell.recipe.server_lr, "dose": dose, "flops": rounds}

    monkeypatch.setattr(work, "attempt", attempt)
    return asked


def study(text=MADE):
    return Study.parse(text, "small.toml", "small", untuned=True)


def test_what_is_chosen_is_a_file_that_the_study_takes(here, made, tmp_path):
    tuned = tune(study(), tmp_path / "tune")
    rates = {name: chosen.best.settings["inner_lr"] for (_, name), chosen in tuned.chosen.items()}
    # FedAvg is judged before adaptation: below the grid, a third at a time.
    assert rates == {"fedavg": 0.0333, "fedavg-meta": 0.3, "maml": 0.3}
    assert tuned.lost == ()
    file = tmp_path / "small.toml"
    file.write_text(MADE)
    (tmp_path / "tuned.toml").write_bytes((tmp_path / "tune" / TUNED).read_bytes())
    (entry,) = Study.read(file).entries
    options = {name: entry.recipe(name, 0.2, 0).algorithm_options for name in ("fedavg", "fedavg-meta", "maml")}
    assert options["fedavg"]["inner_lr"] == 0.0333
    assert not any(name.startswith("adapt") for name in options["fedavg"])
    for name in ("fedavg-meta", "maml"):
        assert (options[name]["inner_lr"], options[name]["adapt_lr"], options[name]["adapt_steps"]) == (0.3, 0.9, 4)
    # The file's own options stay.
    assert options["fedavg-meta"]["inner_epochs"] == 1
    # A server's smaller rate is better, by the formula, so the grid is widened.
    assert entry.recipe("maml", 0.2, 0).server_lr < 0.01


def test_all_that_was_tried_is_in_the_table(here, made, tmp_path):
    tune(study(), tmp_path / "tune")
    rows = list(csv.DictReader((tmp_path / "tune" / TRIES).read_text().splitlines()))
    assert list(rows[0]) == [
        *("data", "procedure", "settings", "rounds", "before", "after"),
        *("dose_rate", "dose_steps", "dose_part", "flops"),
    ]
    told = [(row["procedure"], json.loads(row["settings"])["inner_lr"], int(row["rounds"])) for row in rows]
    assert sorted(told) == sorted((name, rate, rounds) for name, rate, _, rounds in made)
    assert {row["procedure"] for row in rows} == {"fedavg-meta", "maml"}
    assert {int(row["rounds"]) for row in rows} == {4, 8}
    assert {(row["dose_rate"], row["dose_steps"], row["dose_part"]) for row in rows} == {("3.0", "4", "all")}
    # As many operations at most as declared, for each; the last of each candidate counts.
    for name in ("fedavg-meta", "maml"):
        last = {row["settings"]: float(row["flops"]) for row in rows if row["procedure"] == name}
        assert sum(last.values()) <= 60


def test_the_table_of_tries_tells_what_was_chosen_and_where_it_stands_at_an_edge(here, made, tmp_path):
    folder = tmp_path / "tune"
    tuned = tune(study(), folder)
    (folder / "study.toml").write_text(MADE)
    told = {(data, one.procedure): one for data, rows in spent(folder).items() for one in rows}
    assert told.keys() == tuned.chosen.keys()
    for which, chosen in tuned.chosen.items():
        assert told[which].settings == chosen.best.settings
        assert told[which].at_edge == chosen.at_edge
    assert any(chosen.at_edge for chosen in tuned.chosen.values())


def test_what_was_tried_is_not_tried_again_and_the_result_is_the_same(here, made, tmp_path):
    folder = tmp_path / "tune"
    tune(study(), folder)
    whole = {name: (folder / name).read_bytes() for name in (LOG, TRIES, TUNED)}
    count = len(made)
    made.clear()
    # The log ends within a line, as a process does that is killed, and what follows is kept.
    lines = whole[LOG].splitlines(keepends=True)
    (folder / LOG).write_bytes(b"".join(lines[:5]) + lines[5][:30])
    tune(study(), folder)
    assert len(made) == count - 5
    made.clear()
    tune(study(), folder)
    assert made == []
    assert (folder / TUNED).read_bytes() == whole[TUNED]
    assert (folder / TRIES).read_bytes() == whole[TRIES]


@pytest.mark.parametrize("line", ["3", '{"cell": 3}', "\\x00"])
def test_lines_of_the_log_that_say_nothing_are_passed_over(here, made, tmp_path, line):
    folder = tmp_path / "tune"
    folder.mkdir()
    (folder / LOG).write_text(line + "\n")
    assert len(tune(study(), folder).chosen) == 3


def test_one_that_was_stopped_before_its_first_result_goes_on(here, made, monkeypatch, tmp_path):
    folder, attempt = tmp_path / "tune", work.attempt

    def stopped(source, cell, rounds, folder, listener):
        folder.mkdir(parents=True)
        raise KeyboardInterrupt

    monkeypatch.setattr(work, "attempt", stopped)
    with pytest.raises(KeyboardInterrupt):
        tune(study(), folder)
    monkeypatch.setattr(work, "attempt", attempt)
    assert len(tune(study(), folder).chosen) == 3


def test_one_that_fails_is_named_and_what_was_tried_is_kept(here, made, monkeypatch, tmp_path):
    folder, attempt = tmp_path / "tune", work.attempt

    def failing(source, cell, rounds, *more):
        if len(made) == 4:
            raise UsageError("too hot")
        return attempt(source, cell, rounds, *more)

    monkeypatch.setattr(work, "attempt", failing)
    with pytest.raises(RunError, match=r"digits, .*inner_lr.*too hot; the same command goes on"):
        tune(study(), folder)
    assert len((folder / LOG).read_text().splitlines()) == 4
    monkeypatch.setattr(work, "attempt", attempt)
    tune(study(), folder)
    assert len({tuple(one) for one in made}) == len(made)


def test_where_all_diverged_the_procedure_is_named_and_has_no_settings(here, made, tmp_path):
    text = MADE.replace(
        "[procedures.maml]\ngrid = { inner_lr = [0.1, 0.3, 0.9]", "[procedures.maml]\ngrid = { inner_lr = [3.0, 9.0]"
    )
    tuned = tune(study(text), tmp_path / "tune")
    assert tuned.lost == (("digits", "maml"),)
    assert "[digits.maml" not in (tmp_path / "tune" / TUNED).read_text()
    lines = list(said(tuned))
    assert lines[-1] == "digits, maml: every candidate diverged"
    assert lines[0] == "digits, fedavg: inner_lr 0.0333"


def test_the_edge_that_is_left_is_said(here, made, tmp_path):
    text = MADE.replace("tflops = 6e-11", "tflops = 3e-11")
    lines = list(said(tune(study(text), tmp_path / "tune")))
    assert "digits, maml: inner_lr 0.3, server adam:0.01; at the edge in server" in lines


def test_operations_that_cannot_be_counted_are_no_ground_for_tuning(here, monkeypatch, tmp_path):
    came = {"before": 0.1, "after": 0.2, "dose": None, "flops": 0}
    monkeypatch.setattr(work, "attempt", lambda *told: came)
    with pytest.raises(RunError, match="digits, fedavg-meta: its floating-point operations cannot be counted"):
        tune(study(), tmp_path / "tune")


def test_a_study_without_a_grid_or_operations_tunes_nothing(tmp_path):
    for text in (SMALL, MADE.replace("tuning = { tflops = 6e-11, floor = 0.5 }", "")):
        with pytest.raises(UsageError, match=r"the study tunes nothing: give tuning = .*grid = "):
            tune(study(text), tmp_path / "tune")


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "a.txt").write_text("dear")
    with pytest.raises(RunError, match="not a study"):
        tune(study(), tmp_path / "letters")
    assert [file.name for file in (tmp_path / "letters").iterdir()] == ["a.txt"]


def test_two_processes_do_not_tune_in_one_folder(here, made, tmp_path):
    from filelock import FileLock

    tune(study(), tmp_path / "tune")
    with FileLock(tmp_path / "tune" / ".lock"), pytest.raises(RunLocked, match="in use"):
        tune(study(), tmp_path / "tune")


def test_the_command_says_what_was_tried_and_chosen(here, made, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.toml").write_text(MADE)
    with pytest.raises(SystemExit) as ended:
        main(["study", "tune", "small.toml"])
    assert ended.value.code == 0
    told = capsys.readouterr()
    assert told.out.splitlines()[-1] == "Settings runs/tune-small/tuned.toml"
    assert any(line.startswith("digits, fedavg: inner_lr 0.0333") for line in told.out.splitlines())
    assert "digits, maml: inner_lr 0.3, server adam:0.01, 4 rounds: -5.302 before, -0.01 after" in told.err


@in_soak
def test_candidates_are_trained_by_processes_and_the_study_runs_with_what_was_chosen(tmp_path):
    text = SMALL.replace("seeds = 1", 'seeds = 1\ntuned = "tuned/tuned.toml"').replace(
        "rounds = 4", "rounds = 4\ntuning = { tflops = 0.00001, floor = 0.5 }\ndose = { steps = 2 }"
    )
    text += "\ngrid = { inner_lr = [0.1, 0.3] }\n"
    file = tmp_path / "small.toml"
    file.write_text(text)

    def done(*words):
        command = [sys.executable, "-m", "fedmeta", "study", *map(str, words)]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)

    first = done("tune", file, "--out", tmp_path / "tuned", "--processes", 2)
    assert first.returncode == 0, first.stderr
    assert first.stdout.startswith("digits, maml: inner_lr ")
    written = (tmp_path / "tuned" / TUNED).read_bytes()
    again = done("tune", file, "--out", tmp_path / "tuned", "--processes", 1)
    assert (again.returncode, again.stdout) == (0, first.stdout)
    assert (tmp_path / "tuned" / TUNED).read_bytes() == written
    ran = done("run", file, "--out", tmp_path / "run")
    assert ran.returncode == 0, ran.stderr
