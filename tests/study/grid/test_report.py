import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from fedmeta.algorithms import ALGORITHMS
from fedmeta.study.grid import figures
from fedmeta.study.grid.file import Study
from fedmeta.study.grid.report import write
from fedmeta.study.grid.results import Results
from fedmeta.study.grid.table import NAME, Table, _schema
from fedmeta.study.plots import COLOURS
from tests.examples import in_soak
from tests.study.grid.declared import SMALL

CLIENTS = 20

SMOKE = Path(__file__).parents[3] / "studies" / "smoke.toml"


def cell(procedure, algorithm, seed, after, before, curve, sent=10.0, support=0.2):
    """The rows of a cell with these clients and this curve."""
    same = {"cell": f"{procedure}{seed}{support}", "data": "toys", "procedure": procedure, "algorithm": algorithm}
    same |= {"support": support, "seed": seed, "judged_by": "accuracy"}

    def row(measure, value, **place):
        return {**same, "client": None, "round": None, "step": None, **place, "measure": measure, "value": float(value)}

    rows = [row("training_clients", 40)]
    for number, value in enumerate(curve, 1):
        rows += [row("validation", value, round=number), row("flops", number, round=number)]
        rows += [row("bytes", number * sent, round=number)]
    for when, values in (("before", before), ("after", after)):
        rows += [row(when, value, client=f"c{place}") for place, value in enumerate(values)]
        rows += [row(f"{kind}_{when}", np.mean(values)) for kind in ("points", "clients", "worst_tenth", "std")]
        rows += [row(f"decile_{p:02}_{when}", np.percentile(values, p)) for p in range(0, 101, 10)]
    rows += [row("support", 3 + place // 3, client=f"c{place}") for place in range(CLIENTS)]
    return rows


def of_errors(one):
    """The same values, as errors: less is better."""
    column = pa.array(["rmse"] * one.rows.num_rows)
    one.rows = one.rows.set_column(one.rows.column_names.index("judged_by"), "judged_by", column)
    return one


def table(gap, seeds=3, declared=(("maml", "fedavg-meta"),), **options):
    """A study in which MAML is better by a gap, and comes to 0.5 in half the bytes."""
    draw, rows = np.random.default_rng(0), []
    level = draw.uniform(0.4, 0.8, CLIENTS)
    slow, fast = [0.1, 0.2, 0.4, 0.4, 0.4, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6], [0.5] * 11
    for seed in range(seeds):
        noise = draw.normal(0, 0.002, (2, CLIENTS))
        rows += cell("maml", "maml", seed, level + gap + noise[0], level - 0.2, fast, **options)
        rows += cell("fedavg-meta", "fedavg-meta", seed, level + noise[1], level - 0.1, slow, **options)
        rows += cell("fedavg", "fedavg", seed, level - 0.1, level - 0.1, [0.1] * 11, **options)
    told = {"targets": [0.5], "compare_at": 0.2, "smallest_effect": 0.01}
    told |= {"comparisons": [list(pair) for pair in declared], "procedures": ["fedavg", "fedavg-meta", "maml"]}
    return Table("toys", {"toys": told}, tuple(range(seeds)), {}, {}, pa.Table.from_pylist(rows, schema=_schema()))


@pytest.mark.parametrize(
    ("gap", "verdict"),
    [
        (0.05, "better, by enough to matter"),
        (0.01, "better; by enough to matter is open"),
        (0.0, "no difference that matters"),
        (-0.05, "worse, by enough to matter"),
    ],
)
def test_the_verdict_is_that_of_the_interval_and_the_smallest_effect(gap, verdict):
    (found, *others) = Results(table(gap)).findings("toys")
    assert (found.one, found.other, found.declared, found.seeds, found.clients) == ("maml", "fedavg-meta", True, 3, 20)
    assert found.effect.value == pytest.approx(gap, abs=0.002)
    assert found.verdict == verdict
    assert found.adjusted == found.p
    assert not any(each.declared for each in others)


def test_of_errors_less_is_better(tmp_path):
    one = of_errors(table(0.05))
    found = Results(one).findings("toys")[0]
    assert found.effect.value == pytest.approx(-0.05, abs=0.002)
    assert found.verdict == "worse, by enough to matter"
    one.write(tmp_path)
    text = write(tmp_path)[0].read_text()
    assert "RMSE." in text
    assert "point" not in text.split("### Bytes")[0].split("### Declared")[1]


def test_holm_counts_declared_comparisons_that_could_not_be_made():
    results = Results(table(0.05, declared=(("maml", "fedavg-meta"), ("maml", "absent"))))
    found = results.findings("toys")[0]
    assert found.adjusted == pytest.approx(2 * found.p)


def test_time_to_a_target_is_a_ratio_of_bytes_and_a_bound_where_one_does_not_arrive():
    found = {(each.one, each.other): each.bytes_to[0.5] for each in Results(table(0.05)).findings("toys")}
    # The smoothed slow curve is at 0.533 after look 7 and stays; the fast one is there from the first look.
    exact = found["maml", "fedavg-meta"]
    assert (exact.value, exact.bound) == (pytest.approx(7.0), "exact")
    late = found["fedavg", "maml"]
    assert (late.value, late.bound) == (pytest.approx(1 / 11), "at most")


def test_the_report_is_made_of_the_table_alone_and_says_what_is_exploratory(tmp_path):
    table(0.05).write(tmp_path)
    path, lacking = write(tmp_path)
    text = path.read_text()
    assert lacking == ""
    declared, exploratory = text.split("### Exploratory comparisons")
    assert "maml against fedavg-meta" in declared
    assert "better, by enough to matter" in declared
    assert "fedavg against maml" in exploratory
    assert "| verdict |" not in exploratory.split("### ")[0]
    assert "0 of 3 seeds" in declared
    for name in ("convergence", "clients", "who-gains"):
        assert (tmp_path / "figures" / f"toys-{name}.png").read_bytes().startswith(b"\x89PNG")
        assert "<svg" in (tmp_path / "figures" / f"toys-{name}.svg").read_text()
        assert f"figures/toys-{name}.png" in text
    # One support has no picture over supports.
    assert not (tmp_path / "figures" / "toys-support.png").exists()
    picture = (tmp_path / "figures" / "toys-convergence.svg").read_bytes()
    shutil.rmtree(tmp_path / "figures")
    path.unlink()
    write(tmp_path)
    assert path.read_text() == text
    assert (tmp_path / "figures" / "toys-convergence.svg").read_bytes() == picture


def test_a_colour_is_that_of_the_algorithm_and_a_second_procedure_of_it_has_another_form():
    one = table(0.05)
    more = cell("maml-5", "maml", 0, np.full(CLIENTS, 0.5), np.full(CLIENTS, 0.4), [0.5] * 11)
    one.rows = pa.concat_tables([one.rows, pa.Table.from_pylist(more, schema=_schema())])
    one.declared["toys"]["procedures"].append("maml-5")
    marks = figures.marks(Results(one), "toys")
    assert marks["maml"].colour == marks["maml-5"].colour == COLOURS[list(ALGORITHMS).index("maml")]
    assert marks["maml"].marker != marks["maml-5"].marker
    assert marks["maml"].dash != marks["maml-5"].dash
    assert marks["fedavg"].colour != marks["maml"].colour


def test_several_supports_have_a_picture():
    one = table(0.05)
    one.rows = pa.concat_tables([one.rows, table(0.05, support=0.5).rows])
    left, right = figures.support(Results(one), "toys").axes
    labels = [line.get_label() for line in left.lines]
    assert [name for name in labels if not name.startswith("_")] == ["fedavg", "fedavg-meta", "maml"]
    assert [text.get_text() for text in right.get_xticklabels()] == ["20 %", "50 %"]


def test_the_command_runs_a_study_on_processes_and_the_report_again(tmp_path):
    file, folder = tmp_path / "small.toml", tmp_path / "study"
    tiny = SMALL.replace("[procedures.maml]\noptions = { inner_steps = 1 }", "").replace('[["maml", "fedavg"]]', "[]")
    file.write_text(tiny)
    done = _command("run", file, "--out", folder, "--processes", 1)
    assert done.returncode == 0, done.stderr
    assert "1 of 1 cells, 4 of 4 rounds" in done.stderr
    assert (folder / NAME).is_file()
    text = (folder / "report.md").read_text()
    (folder / "report.md").unlink()
    assert (folder / "study.toml").read_text() == tiny
    write(folder)
    assert (folder / "report.md").read_text() == text


@in_soak
def test_the_smoke_study_is_whole(tmp_path):
    done = _command("run", SMOKE, "--out", tmp_path / "smoke")
    assert done.returncode == 0, done.stderr
    results = Results(Table.read(tmp_path / "smoke"))
    assert len(results.cells) == 24
    assert not results.diverged()
    assert len([each for each in results.findings("digits") if each.declared]) == 3


def test_the_smoke_study_is_declared_in_full():
    (entry,) = Study.read(SMOKE).entries
    assert next((each.one, each.other) for each in entry.comparisons) == ("maml", "fedavg-meta")


def _command(*words):
    command = [sys.executable, "-m", "fedmeta", "study", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
