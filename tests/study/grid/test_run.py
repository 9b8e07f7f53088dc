import errno
import json
import os
import re
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from fedmeta._engine.plan import default_plan
from fedmeta.cli import main
from fedmeta.errors import CheckpointError, RunError, RunLocked, UsageError
from fedmeta.study.experiment import Experiment
from fedmeta.study.grid import cells, work
from fedmeta.study.grid import run as running
from fedmeta.study.grid.cells import Source
from fedmeta.study.grid.file import Study
from fedmeta.study.grid.results import Results
from fedmeta.study.grid.run import run
from fedmeta.study.grid.table import COLUMNS, NAME, Table
from tests.examples import in_soak
from tests.study.grid.declared import SMALL, changed
from tests.waiting import until

DIVERGING = ("inner_epochs = 1", "inner_epochs = 1, inner_lr = 1e30")


def small(*pairs):
    return Study.parse(changed(*pairs), "small.toml", "small")


def computed(study, folder):
    """The cells that a start computes, and what came of it."""
    seen = []
    outcome = run(study, folder, show=lambda progress, cell, words: "round" in words or seen.append(str(cell.key)))
    return seen, outcome


def test_the_table_has_what_the_cell_computes_on_its_own(finished):
    results = Results(Table.read(finished))
    source = Source(small().entries[0])
    for cell in source.cells((0,)):
        experiment, found = source.experiment(cell), results.cells[cell.key]
        simulator = experiment.simulator()
        plan = default_plan(simulator.cohort_size, simulator.flops())
        report = experiment.report(experiment.run(plan=plan).phi, experiment.test)
        for when, scores in (("before", report.before), ("after", report.after)):
            each = dict(zip(report.clients, scores.values["accuracy"], strict=True))
            assert found.clients[when] == pytest.approx(each, abs=1e-6)
            assert found.totals[f"points_{when}"] == pytest.approx(scores.accuracy, abs=1e-6)
            assert found.totals[f"clients_{when}"] == pytest.approx(scores.client_accuracy, abs=1e-6)
        assert list(found.clients["after"]) == list(source.pool)
        assert found.totals["worst_tenth_after"] == pytest.approx(min(found.clients["after"].values()))
        assert found.totals["decile_50_after"] == pytest.approx(np.median(list(found.clients["after"].values())))


def test_bytes_are_those_of_the_messages_at_each_look(finished):
    # Softmax regression on 64 pixels: 650 numbers of 4 bytes to 2 clients and back, and a weight of 4 bytes back.
    for cell in Results(Table.read(finished)).cells.values():
        rounds, sent, values = cell.curve()
        assert rounds.tolist() == [1, 2, 4]
        assert sent.tolist() == [number * 2 * (2 * 650 * 4 + 4) for number in (1, 2, 4)]
        assert len(values) == 3
        assert cell.last("flops") > 0


def test_the_table_is_long_and_each_value_stands_once(finished):
    rows = Table.read(finished).rows
    assert rows.column_names == [*COLUMNS, "measure", "value"]
    keys = [tuple(row[name] for name in (*COLUMNS, "measure")) for row in rows.to_pylist()]
    assert len(set(keys)) == len(keys)
    assert rows["value"].null_count == 0


def test_finished_cells_are_not_repeated_and_more_seeds_are_added(here, folder):
    before = (folder / NAME).read_bytes()
    assert computed(small(), folder)[0] == []
    assert (folder / NAME).read_bytes() == before
    seen, outcome = computed(small(("seeds = 1", "seeds = 2")), folder)
    assert seen == ["digits, fedavg, support 0.2, seed 1", "digits, maml, support 0.2, seed 1"]
    assert len(outcome.table.finished()) == 4


def refused(study, folder, said):
    before = (folder / NAME).read_bytes()
    with pytest.raises(CheckpointError, match=said):
        run(study, folder)
    assert (folder / NAME).read_bytes() == before


def test_cells_of_other_settings_are_refused_by_name(here, folder):
    refused(small(("inner_steps = 1", "inner_steps = 2")), folder, "inner_steps .1 then, 2 now.")


def test_cells_of_other_code_are_refused_by_name(here, folder, monkeypatch):
    now = cells.code()
    monkeypatch.setattr(cells, "code", lambda: now | {"fedmeta/algorithms": "other"})
    refused(small(), folder, "the code of fedmeta/algorithms")


def test_data_that_changed_behind_a_finished_cell_are_refused(here, tmp_path):
    file, folder = tmp_path / "shop.csv", tmp_path / "study"
    draw = np.random.default_rng(0)
    lines = [f"u{user},{draw.normal():.3f},{draw.integers(2)}" for user in range(6) for _ in range(6)]
    file.write_text("\n".join(["user,spent,label", *lines]))
    text = changed(
        ('source = "digits"', f'source = "{file}"\nclient = "user"\ntarget = "label"\nselect = "last"'),
        ("options = { num_clients = 12, classes_per_client = 3 }\n", ""),
        ("[procedures.maml]\noptions = { inner_steps = 1 }", ""),
        ('comparisons = [["maml", "fedavg"]]', ""),
    )
    study = Study.parse(text, "shop.toml", "shop")
    run(study, folder)
    file.write_text("\n".join(["user,spent,label", *lines[1:], "u0,9.0,1"]))
    refused(study, folder, "the data .their fingerprint was")


def test_two_studies_do_not_share_a_folder(here, folder, tmp_path):
    with pytest.raises(RunError, match="holds the study 'small', and this is 'other'"):
        run(Study.parse(SMALL, "other.toml", "other"), folder)
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "a.txt").write_text("dear")
    with pytest.raises(RunError, match="not a study"):
        run(small(), tmp_path / "letters")
    with FileLock(folder / ".lock"), pytest.raises(RunLocked, match="in use"):
        run(small(), folder)


def test_a_cell_that_diverges_is_recorded_and_the_rest_goes_on(here, tmp_path):
    seen, outcome = computed(small(DIVERGING), tmp_path / "study")
    assert len(seen) == 2
    (lost,) = outcome.diverged
    assert lost.key.procedure == "fedavg"
    results = Results(Table.read(tmp_path / "study"))
    assert results.diverged() == [lost.key]
    assert results.cells[lost.key].totals["diverged"] >= 1
    assert [each.one for each in results.findings("digits")] == []
    assert computed(small(DIVERGING), tmp_path / "study")[0] == []


def test_a_cell_that_fails_is_named_and_tried_again(here, tmp_path, monkeypatch):
    compute = work.compute

    def failing(source, cell, *more):
        if cell.key.procedure == "fedavg":
            raise UsageError("too hot")
        return compute(source, cell, *more)

    monkeypatch.setattr(work, "compute", failing)
    _, outcome = computed(small(), tmp_path / "study")
    assert outcome.failed == {"digits, fedavg, support 0.2, seed 0": "too hot"}
    monkeypatch.setattr(work, "compute", compute)
    seen, outcome = computed(small(), tmp_path / "study")
    assert (seen, outcome.failed) == (["digits, fedavg, support 0.2, seed 0"], {})


def test_without_free_disk_what_is_finished_is_kept(here, tmp_path, monkeypatch):
    folder, replace, writes = tmp_path / "study", os.replace, []

    def full(source, target):
        writes.append(str(target).endswith(NAME))
        if sum(writes) > 2 and writes[-1]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(source, target)

    monkeypatch.setattr("fedmeta._files.os.replace", full)
    with pytest.raises(RunError, match="No space left on device"):
        run(small(), folder)
    monkeypatch.setattr("fedmeta._files.os.replace", replace)
    assert [key.procedure for key in Table.read(folder).finished()] == ["fedavg"]
    assert not list(folder.glob(".study.parquet.*"))
    assert computed(small(), folder)[0] == ["digits, maml, support 0.2, seed 0"]


def test_what_is_declared_too_late_is_exploratory(here, folder):
    more = '["maml", "fedavg"], ["fedavg", "late"]'
    text = changed(('["maml", "fedavg"]', more)) + '\n[procedures.late]\nalgorithm = "fomaml"\n'
    outcome = run(Study.parse(text, "small.toml", "small"), folder)
    assert outcome.exploratory == ("digits: fedavg against late",)
    found = Results(Table.read(folder)).findings("digits")
    assert [(each.one, each.other) for each in found if each.declared] == [("maml", "fedavg")]
    assert len(found) == 3


def test_targets_do_not_change_after_cells_were_finished(here, folder):
    refused(small(("targets = [0.2]", "targets = [0.1]")), folder, "targets of digits was declared as")


def test_an_estimate_measures_each_kind_of_cell_once(here, monkeypatch):
    asked = []
    answers = running.workers.answers

    def listening(first, jobs, count):
        asked.extend(jobs)
        return answers(first, jobs, count)

    monkeypatch.setattr(running.workers, "answers", listening)
    found = list(running.estimate(small(("seeds = 1", "seeds = 3")), 1))
    assert [str(cell.key) for cell, *_ in found] == [
        f"digits, {name}, support 0.2, seed {seed}" for seed in range(3) for name in ("fedavg", "maml")
    ]
    assert len(asked) == 2
    for _, parts, seconds in found:
        assert seconds == pytest.approx(parts.first + 3 * parts.round + 3 * parts.look + parts.end)
        assert seconds > 0


@in_soak
@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_study_that_was_killed_goes_on_and_gives_the_same(finished, tmp_path, ending):
    file, folder = tmp_path / "small.toml", tmp_path / "killed"
    file.write_text(SMALL)
    command = [sys.executable, "-m", "fedmeta", "study", "run", file, "--out", folder, "--processes", "1"]
    first = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until(lambda: (folder / NAME).is_file() and len(Table.read(folder).finished()) == 1)
    first.send_signal(ending)
    assert first.wait() == (-ending if ending == signal.SIGKILL else 130)
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert "fedavg" not in again.stderr
    columns = ["cell", "client", "round", "step", "measure", "value"]

    def values(table):
        rows = table.rows.select(columns).to_pylist()
        return {json.dumps({**row, "value": None}): row["value"] for row in rows if row["measure"] != "seconds"}

    assert values(Table.read(folder)) == pytest.approx(values(Table.read(finished)), abs=1e-6)


@in_soak
def test_a_cell_whose_process_is_killed_is_named_and_the_rest_goes_on(tmp_path):
    file, folder = tmp_path / "small.toml", tmp_path / "lost"
    file.write_text(SMALL)
    command = [sys.executable, "-m", "fedmeta", "study", "run", file, "--out", folder, "--processes", "1"]
    first = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    children = Path(f"/proc/{first.pid}/task")
    (child,) = until(lambda: [word for task in children.iterdir() for word in (task / "children").read_text().split()])
    os.kill(int(child), signal.SIGKILL)
    _, said = first.communicate()
    assert first.returncode == 1
    assert "digits, fedavg, support 0.2, seed 0 could not be computed: its process ended with code -9" in said
    assert [key.procedure for key in Table.read(folder).finished()] == ["maml"]
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert len(Table.read(folder).finished()) == 2


def test_a_dry_run_prints_cells_and_hours_and_writes_nothing(here, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    Path("small.toml").write_text(SMALL)
    with pytest.raises(SystemExit) as ended:
        main(["study", "run", "small.toml", "--dry-run", "--processes", "2"])
    assert ended.value.code == 0
    _, *cells, total = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in cells] == [
        f"digits, {name}, support 0.2, seed 0" for name in ("fedavg", "maml")
    ]
    hours = [float(word) for word in re.findall(r"[\d.e-]*\d", total.replace("2 at a time", ""))]
    assert hours[0] == pytest.approx(2 * hours[1], rel=0.01)
    assert [entry.name for entry in tmp_path.iterdir()] == ["small.toml"]


def test_a_dry_run_of_a_study_that_is_not_tuned_says_so(here, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    Path("small.toml").write_text('tuned = "tuned/small.toml"\n' + SMALL)
    with pytest.raises(SystemExit) as ended:
        main(["study", "run", "small.toml", "--dry-run", "--processes", "1"])
    assert ended.value.code == 0
    said = capsys.readouterr()
    assert "there is no tuned/small.toml yet" in said.err
    assert len(said.out.splitlines()) == 4
    with pytest.raises(SystemExit) as ended:
        main(["study", "run", "small.toml", "--out", "out", "--processes", "1"])
    assert ended.value.code != 0
    assert "tuned/small.toml" in capsys.readouterr().err


def test_an_estimate_tells_of_a_cell_before_the_next_is_measured(here, monkeypatch):
    def answers(first, jobs, count):
        assert [job.cell.key.procedure for job in jobs] == ["fedavg", "maml"]
        yield jobs[0], {"measured": [1.0, 1.0, 1.0, 1.0]}
        raise AssertionError("asked on")

    monkeypatch.setattr(running.workers, "answers", answers)
    cell, parts, seconds = next(running.estimate(small(), 1))
    assert cell.key.procedure == "fedavg"
    assert (parts.round, seconds) == (1.0, 8.0)


def test_a_dry_run_that_is_ended_takes_its_processes_along(tmp_path):
    (tmp_path / "small.toml").write_text(SMALL)
    command = [sys.executable, "-m", "fedmeta", "study", "run", "small.toml", "--dry-run", "--processes", "1"]
    first = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    children = Path(f"/proc/{first.pid}/task")
    (child,) = until(lambda: [word for task in children.iterdir() for word in (task / "children").read_text().split()])
    first.send_signal(signal.SIGTERM)
    _, said = first.communicate()
    assert first.returncode == 130
    assert said == "fedmeta: interrupted; what was printed was measured\n"
    assert not Path(f"/proc/{child}").exists()


def test_an_estimate_counts_the_choice_of_a_dose_and_what_stands_beside_a_model(monkeypatch):
    # A clock that a report moves by a second, and what stands beside a model by a minute.
    clock = {"seconds": 0.0}

    def took(seconds, result=None):
        clock["seconds"] += seconds
        return result

    report = Experiment.report
    monkeypatch.setattr(work.time, "perf_counter", lambda: clock["seconds"])
    monkeypatch.setattr(Experiment, "report", lambda *args, **more: took(1, report(*args, **more)))
    monkeypatch.setitem(work.ALSO, "prior", lambda *args: took(60))
    dose = ('source = "digits"', 'source = "digits"\ndose = { rates = [0.3, 1.0, 3.0], steps = 2, parts = ["all"] }')
    beside = ("[procedures.fedavg]", '[procedures.fedavg]\nalso = ["prior"]')
    source = Source(small(dose, beside).entries[0])
    ends = {cell.key.procedure: work.measure(source, cell).end for cell in source.cells((0,))}
    # FedAvg does not adapt: a test, and the prior. MAML: three curves, and a test.
    assert ends == {"fedavg": 61, "maml": 4}
