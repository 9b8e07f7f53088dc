import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from fedmeta.algorithms import ALGORITHMS
from fedmeta.errors import CheckpointError
from fedmeta.study import formatting, plots
from fedmeta.study.grid import figures
from fedmeta.study.grid.cells import Key
from fedmeta.study.grid.file import Study
from fedmeta.study.grid.report import write
from fedmeta.study.grid.results import Results
from fedmeta.study.grid.table import Table, _schema
from fedmeta.study.plots import COLOURS

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


def table(gap, seeds=3, declared=(("maml", "fedavg-meta"),), extra=(0.0, 0.0, 0.0), **options):
    """A study in which MAML is better by a gap, with each seed by so much more, and comes to 0.5 in half the bytes."""
    draw, rows = np.random.default_rng(0), []
    level = draw.uniform(0.4, 0.8, CLIENTS)
    slow, fast = [0.1, 0.2, 0.4, 0.4, 0.4, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6], [0.5] * 11
    for seed in range(seeds):
        noise = draw.normal(0, 0.002, (2, CLIENTS))
        rows += cell("maml", "maml", seed, level + gap + extra[seed] + noise[0], level - 0.2, fast, **options)
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


def test_a_verdict_is_that_of_both_intervals():
    found = Results(table(0.05, extra=(-0.03, 0.0, 0.06))).findings("toys")[0]
    # By hand: the standard deviation is 0.0458, half as many are tested as train, and t(2) ends at 4.303.
    reach = 4.303 * 0.0458 * (1 / 3 + 20 / 40) ** 0.5
    assert found.corrected.low == pytest.approx(0.06 - reach, abs=0.01)
    assert found.effect.low > found.smallest
    assert found.adjusted < 0.001
    assert found.verdict == "undecided: the bootstrap's interval leaves zero out, and the corrected t's does not"


def test_one_seed_decides_nothing():
    assert Results(table(0.05, seeds=1)).findings("toys")[0].verdict == "undecided: one seed"


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


def test_where_the_average_ended_is_a_target_of_each_seed(tmp_path):
    one = table(0.05)
    slow = [0.1, 0.2, 0.4, 0.4, 0.4, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6]
    curves = {"fedavg": slow, "maml": [0.7] * 11, "fedavg-meta": [0.5] * 11}
    rows, seen = one.rows.to_pylist(), Counter()
    for row in rows:
        if row["measure"] == "validation":
            which = row["procedure"], row["seed"]
            # With the third seed FedAvg ends where none of the others comes.
            row["value"] = curves[row["procedure"]][seen[which]] + (row["procedure"] == "fedavg" and row["seed"] == 2)
            seen[which] += 1
    one.rows = pa.Table.from_pylist(rows, schema=one.rows.schema)
    results = Results(one)
    found = results.to_end_of("toys", "fedavg", "maml", 0.2)
    assert [each.arrived for each in found.sent] == [True, True, False]
    # The smoothed slow curve is at 0.6 after look 8; the other is there from the first, or has not come after 11.
    assert found.saved.bound == "at most"
    assert found.saved.value == pytest.approx((8 * 8 * 8 / 11) ** (1 / 3))
    assert not any(each.arrived for each in results.to_end_of("toys", "fedavg", "fedavg-meta", 0.2).sent)
    one.write(tmp_path)
    text = write(tmp_path)[0].read_text()
    said = {row[0]: row[2:] for row in lines(text, "Bytes to where fedavg ended", "")}
    assert said["maml"][0].startswith("2 of 3 seeds; ")
    assert said["maml"][1].startswith("at most ")
    assert said["fedavg-meta"][0] == "0 of 3 seeds"
    assert "fedavg" not in said


def test_what_one_that_spends_more_in_a_round_has_with_as_much_spent(tmp_path):
    one = table(0.05, declared=(("maml", "fedavg-meta"), ("fedavg-meta", "fedavg")))
    curve = [0.1, 0.1, 0.4, 0.4, 0.4, 0.7, 0.7, 0.7, 0.7, 0.9, 0.9]
    rows, seen = one.rows.to_pylist(), Counter()
    for row in rows:
        if row["procedure"] == "maml" and row["measure"] in ("bytes", "validation", "flops"):
            which = row["measure"], row["seed"]
            times = {"bytes": 2.0, "flops": 0.5}
            row["value"] = times[row["measure"]] * row["value"] if row["measure"] in times else curve[seen[which]]
            seen[which] += 1
    one.rows = pa.Table.from_pylist(rows, schema=one.rows.schema)
    one.write(tmp_path)
    said = lines(write(tmp_path)[0].read_text(), "With as much spent", "")
    # FedAvg(Meta) ends at 0.6, with 110 bytes; MAML at 0.833, and with 110 bytes, after round 5, it is at 0.4. The
    # operations that MAML spends in all are those of FedAvg(Meta) after round 5, where that is at 0.4.
    assert said[2:] == [["maml against fedavg-meta", "20 %", "2.00", "0.50", "+23.3", "-20.0", "+43.3"]]


def test_a_legend_of_long_names_is_within_its_picture():
    one, names = table(0.05), [f"a-procedure-with-a-long-name-{place}" for place in range(6)]
    values = [0.5] * CLIENTS, [0.4] * CLIENTS, [0.5] * 11
    rows = [row for place, name in enumerate(names) for row in cell(name, ("maml", "reptile")[place % 2], 0, *values)]
    more(one, rows, names)
    figure = figures.convergence(Results(one), "toys")
    figure.draw_without_rendering()
    (legend,) = figure.legends
    assert len(legend.texts) == len(names)
    _check_within(legend, figure)


def test_a_legend_of_long_names_is_within_its_panel():
    one, names = table(0.05), [f"a-procedure-with-a-long-name-{place}" for place in range(5)]
    more(
        one,
        [row for name in names for row in cell(name, "maml", 0, [0.5] * CLIENTS, [0.4] * CLIENTS, [0.5] * 11)],
        names,
    )
    (axes,) = (figure := figures.convergence(Results(one), "toys")).axes
    figure.draw_without_rendering()
    assert len(axes.get_legend().texts) == len(names)
    _check_within(axes.get_legend(), figure)


def _check_within(legend, figure):
    box = legend.get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.width


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
    assert "among 4" not in text
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


def test_panels_of_many_procedures_stand_in_rows():
    one = table(0.05)
    names = ["maml-5", "maml-10", "fomaml"]
    for name in names:
        rows = cell(name, "maml", 0, np.full(CLIENTS, 0.5), np.full(CLIENTS, 0.4), [0.5] * 11)
        one.rows = pa.concat_tables([one.rows, pa.Table.from_pylist(rows, schema=_schema())])
    one.declared["toys"]["procedures"] += names
    drawn = figures.clients(Results(one), "toys")
    # FedAvg does not adapt.
    assert [axes.get_title(loc="left") or axes.get_title() for axes in drawn.axes] == ["fedavg-meta", "maml", *names]
    drawn.canvas.draw()
    tops = [round(axes.get_position().y1, 3) for axes in drawn.axes]
    assert len(set(tops[:4])) == 1
    assert tops[4] < tops[0]
    assert [bool(axes.get_ylabel()) for axes in drawn.axes] == [True, False, False, False, True]
    # As wide as four of them.
    assert drawn.get_figwidth() < drawn.get_figheight() * 2


def test_several_supports_have_a_picture():
    one = table(0.05)
    one.rows = pa.concat_tables([one.rows, table(0.05, support=0.5).rows])
    left, right = figures.support(Results(one), "toys").axes
    labels = [line.get_label() for line in left.lines]
    assert [name for name in labels if not name.startswith("_")] == ["fedavg", "fedavg-meta", "maml"]
    assert [text.get_text() for text in right.get_xticklabels()] == ["20 %", "50 %"]


def test_the_command_runs_the_smoke_study_on_all_cores_and_makes_the_report_again(tmp_path):
    folder = tmp_path / "smoke"
    done = _command("run", SMOKE, "--out", folder)
    assert done.returncode == 0, done.stderr
    assert "24 of 24 cells, 720 of 720 rounds" in done.stderr
    results = Results(Table.read(folder))
    assert len(results.cells) == 24
    assert not results.diverged()
    assert len([each for each in results.findings("digits") if each.declared]) == 3
    assert (folder / "study.toml").read_text() == SMOKE.read_text()
    text = (folder / "report.md").read_text()
    (folder / "report.md").unlink()
    write(folder)
    assert (folder / "report.md").read_text() == text


def more(one, rows, procedures):
    """The same study, with more cells, and these procedures."""
    one.rows = pa.concat_tables([one.rows, pa.Table.from_pylist(rows, schema=_schema())])
    one.declared["toys"]["procedures"] = procedures
    return one


def lines(text, heading, begin):
    """The rows of a table that begin so, as lists of cells."""
    part = text.split(f"### {heading}")[1].split("\n### ")[0]
    found = [line.strip("| ").split(" | ") for line in part.splitlines() if line.startswith("|")]
    return [row for row in found if row[0].startswith(begin)]


def test_a_baseline_has_a_level_and_no_curve_and_is_compared_where_that_is_declared(tmp_path):
    one = table(0.05, declared=(("maml", "most-frequent"),))
    rows = [row for seed in range(3) for row in cell("most-frequent", "baseline", seed, [0.3] * 20, [0.1] * 20, [])]
    more(one, rows, ["fedavg", "fedavg-meta", "maml", "most-frequent"])
    results = Results(one)
    assert results.trained("toys") == ["fedavg", "fedavg-meta", "maml"]
    (declared,) = [each for each in results.findings("toys") if each.declared]
    assert (declared.other, declared.bytes_to) == ("most-frequent", {})
    assert declared.effect.value == pytest.approx(0.6 + 0.05 - 0.3, abs=0.1)
    # What is not declared of a baseline is no finding.
    assert not any("most-frequent" in (each.one, each.other) for each in results.findings("toys") if not each.declared)
    one.write(tmp_path)
    text = write(tmp_path)[0].read_text()
    (level,) = lines(text, "After adaptation", "most-frequent")
    assert level[-3:] == ["-", "-", "-"]
    assert level[1:5] == ["20 %", "3", "10.0", "30.0"]
    assert not lines(text, "Bytes to a target", "most-frequent")
    labels = [line.get_label() for line in figures.convergence(results, "toys").axes[0].lines]
    assert "most-frequent" not in labels
    assert "maml" in labels
    assert figures.marks(results, "toys")["most-frequent"].colour == COLOURS[-1]


@pytest.mark.parametrize(("support", "said"), [(30.0, "30"), (0.3, "30 %"), (1.0, "1")])
def test_from_one_on_a_support_is_a_number_of_examples(support, said, tmp_path):
    one = table(0.05, support=support)
    one.declared["toys"]["compare_at"] = support
    one.write(tmp_path)
    text = write(tmp_path)[0].read_text()
    assert {row[1] for row in lines(text, "After adaptation", "maml")} == {said}
    assert {row[1] for row in lines(text, "Declared comparisons", "maml")} == {said}
    assert formatting.amount(support) == said


def test_of_one_model_at_several_numbers_of_examples_the_curve_is_told_once(tmp_path):
    one = table(0.05, support=10.0)
    one.rows = pa.concat_tables([one.rows, table(0.02, support=30.0).rows])
    one.declared["toys"]["compare_at"] = 30.0
    one.write(tmp_path)
    text = write(tmp_path)[0].read_text()
    assert [row[1] for row in lines(text, "After adaptation", "maml")] == ["10", "30"]
    assert [row[1] for row in lines(text, "Bytes to a target", "maml") if row[0] == "maml"] == ["30"]
    left, right = figures.support(Results(one), "toys").axes
    assert [text.get_text() for text in right.get_xticklabels()] == ["10", "30"]
    assert left.get_xlabel() == "examples that it adapts on"
    # Trained with each share of a client's examples, each has its own.
    shares = table(0.05, support=0.2)
    shares.rows = pa.concat_tables([shares.rows, table(0.02, support=0.5).rows])
    assert [Results(shares).has_own_training("toys", at) for at in (0.2, 0.5)] == [True, True]
    assert [Results(one).has_own_training("toys", at) for at in (10.0, 30.0)] == [False, True]


def dosed(one, told):
    """The same study, where MAML's cells have such a dose, by seed."""
    same = {"data": "toys", "procedure": "maml", "algorithm": "maml", "support": 0.2, "judged_by": "accuracy"}
    rows = [
        {**same, "cell": f"maml{seed}0.2", "seed": seed, "measure": f"dose_{name}", "value": float(value)}
        for seed, values in enumerate(told)
        for name, value in values.items()
    ]
    return more(one, rows, one.declared["toys"]["procedures"])


def test_the_dose_is_told_by_seed_with_what_it_is_better_by(tmp_path):
    told = [
        {"rate": 3, "steps": 4, "head": 0, "validation": 0.7, "validation_none": 0.6},
        {"rate": 1, "steps": 1, "head": 1, "validation": 0.65, "validation_none": 0.6},
        {"rate": 1, "steps": 0, "head": 0, "validation": 0.6, "validation_none": 0.6},
    ]
    dosed(table(0.05), told).write(tmp_path)
    text = write(tmp_path)[0].read_text()
    (row,) = lines(text, "Dose of adaptation", "maml")
    assert row[2] == "4 steps at 3 times the rate; 1 step at 1 times the rate, the head; none"
    assert row[3] == "+5.0"
    table(0.05).write(tmp_path)
    assert "Dose" not in write(tmp_path)[0].read_text()


def test_of_errors_a_dose_that_lessens_them_is_better(tmp_path):
    one = dosed(table(0.05), [{"rate": 1, "steps": 2, "head": 0, "validation": 1.5, "validation_none": 2.0}])
    of_errors(one).write(tmp_path)
    (row,) = lines(write(tmp_path)[0].read_text(), "Dose of adaptation", "maml")
    assert row[3] == "+0.5000"


def test_a_cell_that_diverged_is_named_once_whatever_the_supports(tmp_path):
    one = table(0.05, support=10.0)
    one.rows = pa.concat_tables([one.rows, table(0.02, support=30.0).rows])
    one.declared["toys"]["compare_at"] = 30.0
    same = {"cell": "x", "data": "toys", "procedure": "lost", "algorithm": "maml", "seed": 0, "judged_by": "accuracy"}
    rows = [{**same, "support": at, "measure": "diverged", "value": 7.0} for at in (10.0, 30.0)]
    more(one, rows, ["fedavg", "fedavg-meta", "maml", "lost"]).write(tmp_path)
    text = write(tmp_path)[0].read_text()
    assert "1 of them diverged, and is left out of all comparisons: toys, lost, seed 0 in round 7." in text


def test_intervals_over_examples_are_said_to_be_so_and_have_no_picture_of_clients(tmp_path):
    one = table(0.05)
    same = {"cell": "maml00.2", "data": "toys", "procedure": "maml", "algorithm": "maml", "support": 0.2, "seed": 0}
    rows = [{**same, "judged_by": "accuracy", "measure": "training_examples", "value": 400.0}]
    more(one, rows, one.declared["toys"]["procedures"]).write(tmp_path)
    text = write(tmp_path)[0].read_text()
    assert "| seeds x examples |" in text
    assert "| examples after |" in text
    assert [path.name for path in sorted((tmp_path / "figures").glob("*.png"))] == ["toys-convergence.png"]


def test_many_curves_of_one_algorithm_have_a_panel_for_each_algorithm():
    one, names = table(0.05), {f"{of}-{steps}": of for of in ("maml", "fomaml") for steps in range(5)}
    rows = [
        {**row, "procedure": name, "algorithm": "per-fedavg", "cell": f"{name}{row['seed']}"}
        for row in one.rows.to_pylist()
        if row["procedure"] == "maml"
        for name in names
        if not (name == "maml-4" and row["seed"] == 2)
    ]
    more(one, rows, [*one.declared["toys"]["procedures"], *names])
    lost = {**rows[0], "procedure": "maml-4", "cell": "maml-42", "seed": 2, "measure": "diverged", "value": 7.0}
    one.rows = pa.concat_tables([one.rows, pa.Table.from_pylist([lost], schema=_schema())])
    results = Results(one)
    assert results.families("toys") == results.procedures("toys")
    for name, of in names.items():
        one.keys[name] = Key("toys", name, 0.2, 0)
        one.identities[name] = {"settings": {"algorithm": {"name": "per-fedavg", "of": {"name": of}}}}
    assert results.families("toys") == {"fedavg": "fedavg", "fedavg-meta": "fedavg-meta", "maml": "maml"} | names
    drawn = {axes.get_title(): axes for axes in figures.convergence(results, "toys").axes}
    assert list(drawn) == ["fedavg", "fedavg-meta", "maml", "fomaml"]
    said = [text.get_text() for text in drawn["maml"].get_legend().get_texts()]
    assert said == ["maml", "maml-0", "maml-1", "maml-2", "maml-3", "maml-4, 2 of 3 seeds"]
    assert {line.get_color() for line in drawn["fomaml"].get_lines()[:5]} == {plots.mark_of("fomaml").colour}


TUNED = """
name = "toys"
[data.toys]
source = "digits"
tuning = { tflops = 0.5 }
[procedures.fedavg]
[procedures.fedavg-meta]
grid = { inner_lr = [0.1, 0.3] }
[procedures.maml]
grid = { inner_lr = [0.1, 0.3], inner_steps = [1, 2] }
[procedures.reptile]
"""
TRIED = """data,procedure,settings,rounds,before,after,dose_rate,dose_steps,dose_part,flops
toys,fedavg-meta,"{""inner_lr"": 0.1}",4,0.3,0.5,,,,1e11
toys,fedavg-meta,"{""inner_lr"": 0.3}",4,0.2,0.6,,,,1e11
toys,fedavg-meta,"{""inner_lr"": 0.1}",8,0.4,0.6,,,,2e11
toys,fedavg-meta,"{""inner_lr"": 0.3}",8,0.3,0.7,,,,2e11
toys,fedavg-meta,"{""inner_lr"": 0.9}",8,0.3,0.6,,,,2e11
toys,maml,"{""inner_lr"": 0.1, ""inner_steps"": 1}",4,0.1,0.5,,,,1e10
toys,maml,"{""inner_lr"": 0.3, ""inner_steps"": 1}",4,,,,,,1e10
toys,maml,"{""inner_lr"": 0.1, ""inner_steps"": 1}",8,0.1,0.6,,,,2e10
toys,maml,"{""inner_lr"": 0.0333, ""inner_steps"": 1}",8,,,,,,2e10
"""


def test_what_tuning_spent_is_reported_where_its_table_lies_beside(tmp_path):
    table(0.05).write(tmp_path)
    (tmp_path / "tuning.csv").write_text(TRIED)
    assert "### Tuning" not in write(tmp_path)[0].read_text()
    (tmp_path / "study.toml").write_text(TUNED)
    said = {row[0]: row[1:] for row in lines(write(tmp_path)[0].read_text(), "Tuning", "")}
    # FedAvg is judged before adaptation: 0.1 is the best, and a third of it was not tried.
    assert said["fedavg"] == ["3", "3", "0.6 of 0.5", "inner_lr 0.1", "inner_lr"]
    assert said["fedavg-meta"] == ["3", "3", "0.6 of 0.5", "inner_lr 0.3", "-"]
    # One beyond the edge diverged; below one step there is none.
    assert said["maml"] == ["3", "2", "0.05 of 0.5", "inner_lr 0.1, inner_steps 1", "-"]
    assert "reptile" not in said


def test_a_table_of_tries_of_another_grid_is_refused(tmp_path):
    table(0.05).write(tmp_path)
    (tmp_path / "study.toml").write_text(TUNED.replace("inner_lr = [0.1, 0.3] }", "inner_epochs = [1, 2] }"))
    (tmp_path / "tuning.csv").write_text(TRIED)
    with pytest.raises(CheckpointError, match=r"other settings of toys, fedavg-meta than the grid in .*study\.toml"):
        write(tmp_path)


@pytest.mark.parametrize(
    "damage", ["toys,fedavg-meta,x,4,0.3,0.5,,,,1e11", "toys,fedavg-meta", 'toys,maml,{},4,0.1,,,,,"']
)
def test_a_damaged_table_of_tries_is_named(tmp_path, damage):
    table(0.05).write(tmp_path)
    (tmp_path / "study.toml").write_text(TUNED)
    (tmp_path / "tuning.csv").write_text(TRIED + damage + "\n")
    with pytest.raises(CheckpointError, match=r"tuning\.csv is damaged"):
        write(tmp_path)


def test_the_smoke_study_is_declared_in_full():
    (entry,) = Study.read(SMOKE).entries
    assert next((each.one, each.other) for each in entry.comparisons) == ("maml", "fedavg-meta")


def _command(*words):
    command = [sys.executable, "-m", "fedmeta", "study", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)


def test_bytes_that_were_not_declared_stand_beside_the_federated_averages_alone(tmp_path):
    one = table(0.05)
    rows = one.rows.to_pylist()
    fast = [{**row, "procedure": name} for row in rows if row["procedure"] == "maml" for name in ("reptile", "anil")]
    more(
        one,
        [{**row, "algorithm": row["procedure"]} for row in fast],
        ["fedavg", "fedavg-meta", "maml", "reptile", "anil"],
    )
    one.write(tmp_path)
    text = write(tmp_path)[0].read_text()
    told = text.split("### Bytes to a target")[1].split("###")[0]
    pairs = {line.split(" | ")[0].strip("| ") for line in told.splitlines() if " over " in line}
    assert {"fedavg over reptile", "reptile over fedavg"} & pairs
    assert {"fedavg-meta over reptile", "reptile over fedavg-meta"} & pairs
    assert {"reptile over anil", "anil over reptile", "reptile over maml", "maml over reptile"}.isdisjoint(pairs)
    assert "anil" in text.split("### Exploratory comparisons")[1].split("###")[0]
