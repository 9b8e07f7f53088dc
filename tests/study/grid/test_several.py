"""One model tested at several supports, with a dose of its own, and what is set beside it."""

import json
import shutil

import numpy as np
import pytest

from fedmeta.cli.study import _came
from fedmeta.errors import Diverged, UsageError
from fedmeta.study import baselines, on_top
from fedmeta.study.dose import Dose, Doses
from fedmeta.study.experiment import Experiment
from fedmeta.study.grid import beside, work
from fedmeta.study.grid.beside import sides
from fedmeta.study.grid.cells import Source, changed
from fedmeta.study.grid.file import Study
from fedmeta.study.grid.report import write
from fedmeta.study.grid.results import Results
from fedmeta.study.grid.run import run
from fedmeta.study.grid.table import COLUMNS, Table
from fedmeta.study.grid.worker import Desk
from fedmeta.study.grid.workers import Job
from tests.study.grid.declared import SEVERAL

BESIDE = ["maml, masked", "maml, prior", "maml, knn-per"]


@pytest.fixture(scope="module")
def source():
    return Source(Study.parse(SEVERAL, "a.toml").entries[0])


@pytest.fixture(scope="module")
def results(several):
    return Results(Table.read(several))


def named(source, procedure):
    return next(cell for cell in source.cells((0,)) if cell.key.procedure == procedure)


def test_each_model_is_in_the_table_at_each_support_and_so_is_what_stands_beside_it(results):
    there = {(key.procedure, key.support) for key in results.cells}
    assert there == {(name, at) for name in ["maml", "majority", *BESIDE] for at in (2.0, 4.0)}
    assert list(results.procedures("digits")) == ["maml", *BESIDE, "majority"]
    assert results.trained("digits") == ["maml"]
    assert results.supports("digits") == [2.0, 4.0]
    rows = results.table.rows.to_pylist()
    keys = [tuple(row[name] for name in (*COLUMNS, "measure")) for row in rows]
    assert len(set(keys)) == len(keys)
    # Two cells: a model that is tested twice is one, and what stands beside it is of the same.
    assert len({row["cell"] for row in rows}) == len(results.table.keys) == 2


def test_a_model_is_asked_the_same_at_each_support_and_trained_once(results):
    for procedure in results.procedures("digits"):
        (few,), (many,) = (results.of("digits", procedure, at) for at in (2.0, 4.0))
        assert set(few.clients["support"].values()) == {2.0}
        assert set(many.clients["support"].values()) == {4.0}
        assert few.clients["query"] == many.clients["query"]
        if procedure == "maml":
            assert few.clients["before"] == many.clients["before"]
            assert few.rounds == many.rounds
            assert few.trained == 4


def test_what_is_finished_is_known_by_its_key(here, several, tmp_path):
    folder, seen = shutil.copytree(several, tmp_path / "again"), []
    outcome = run(Study.parse(SEVERAL, "several.toml", "several"), folder, show=lambda *told: seen.append(told))
    assert seen == []
    assert {key.support for key in outcome.table.finished()} == {0.2}


def test_a_baseline_has_no_rounds_and_answers_as_on_its_own(source, results, tmp_path):
    cell = named(source, "majority")
    assert (cell.algorithm, cell.rounds, work.looks(cell)) == ("baseline", 0, 0)
    experiment = source.at(source.experiment(cell), 4.0)
    report = baselines.constant(experiment)
    (found,) = results.of("digits", "majority", 4.0)
    assert (found.algorithm, found.trained, found.has_curve) == ("baseline", 0, False)
    assert found.totals["points_after"] == pytest.approx(report.after.accuracy)
    assert list(found.clients["after"]) == list(source.pool)
    # In the order of how often the training clients have them, the first four classes.
    often = np.argsort(-report.predictions.after[0][0], kind="stable")[:4]
    assert found.totals["top_4_after"] == pytest.approx(np.isin(np.concatenate(report.predictions.y), often).mean())


def test_over_examples_each_answer_is_told_by_its_client_and_its_row(source):
    cell = named(source, "majority")
    experiment = source.at(source.experiment(cell), 4.0)
    report = baselines.constant(experiment)
    rows = [row for row in work.tested(experiment, report, "examples") if row["measure"] == "after"]
    found = {row["client"]: row["value"] for row in rows}
    assert len(found) == len(rows) == int(np.sum(report.after.examples))
    assert np.mean(list(found.values())) == pytest.approx(report.after.accuracy)
    guess = int(np.argmax(report.predictions.after[0][0]))
    for name, value in found.items():
        client, _, row = name.rpartition(" ")
        assert value == (experiment.test[client].y[int(row)] == guess)
    # The other measures are as they are over clients.
    others, same = (
        [row for row in work.tested(experiment, report, over) if row["measure"] not in ("before", "after")]
        for over in ("examples", "clients")
    )
    assert others == same


def test_the_dose_is_the_best_of_the_validation_clients_and_the_test_is_made_with_it(source, several, results):
    cell = named(source, "maml")
    experiment = source.at(source.experiment(cell), 4.0)
    trained = work.train(source.experiment(cell), several / "cells" / cell.folder, lambda event: None)
    (found,) = results.of("digits", "maml", 4.0)
    plan, tried = trained.run.plan, {}
    algorithm, network = experiment.procedure.algorithm, experiment.procedure.network
    for rate in (1.0, 3.0):
        most, phi = Dose(rate=rate, steps=2, part="all").of(algorithm, network, trained.run.phi)
        report = experiment.report(phi, experiment.validation, algorithm=most, plan=plan)
        tried |= {Dose(rate=rate, steps=at, part="all"): scores.accuracy for at, scores in enumerate(report.steps)}
    assert len(tried) == 6
    told = found.totals
    dose = Dose(rate=told["dose_rate"], steps=int(told["dose_steps"]), part="head" if told["dose_head"] else "all")
    assert tried[dose] == pytest.approx(max(tried.values())) == told["dose_validation"]
    assert told["dose_validation_none"] == pytest.approx(tried[Dose(rate=1.0, steps=0, part="all")])
    adapting, phi = dose.of(algorithm, network, trained.run.phi)
    report = experiment.report(phi, experiment.test, algorithm=adapting, predictions=True, plan=plan)
    assert told["points_after"] == pytest.approx(report.after.accuracy)
    assert len(found.steps["points_at_step"]) == dose.steps + 1
    # What stands beside it is of the model as it was trained.
    assert not any(name.startswith("dose") for name in results.of("digits", "maml, prior", 4.0)[0].totals)


def test_what_stands_beside_a_model_is_of_its_phi(source, several, results):
    cell = named(source, "maml")
    experiment = source.at(source.experiment(cell), 2.0)
    trained = work.train(source.experiment(cell), several / "cells" / cell.folder, lambda event: None)
    network = experiment.procedure.network
    report = on_top.masked(network, trained.run.phi, experiment.test, sides(experiment))
    (found,) = results.of("digits", "maml, masked", 2.0)
    assert found.totals["points_after"] == pytest.approx(report.after.accuracy)
    assert found.totals["points_before"] == pytest.approx(results.of("digits", "maml", 2.0)[0].totals["points_before"])
    # What is chosen, is chosen on the validation clients: none of the grid is better there.
    tried = [
        on_top.with_prior(
            network, trained.run.phi, experiment.validation, experiment.train, sides(experiment), prior=prior
        ).accuracy
        for prior in beside.PRIORS
    ]
    best = beside.PRIORS[int(np.argmax(tried))]
    report = on_top.with_prior(
        network, trained.run.phi, experiment.test, experiment.train, sides(experiment), prior=best
    )
    (found,) = results.of("digits", "maml, prior", 2.0)
    assert found.totals["points_after"] == pytest.approx(report.after.accuracy)
    assert "validation" not in found.rounds


@pytest.mark.parametrize(
    ("old", "new", "procedure", "said"),
    [
        ("evaluate_at = [2, 4]", "evaluate_at = [3, 4]", "maml", "tested ([2.0, 4.0] then, [3.0, 4.0] now)"),
        ("steps = 2", "steps = 3", "maml", "doses.steps (2 then, 3 now)"),
        ('"masked", "prior"', '"masked"', "maml", "also (['masked', 'prior', 'knn-per'] then"),
        ('baseline = "majority"', 'baseline = "alone"', "majority", "baseline ('majority' then, 'alone' now)"),
    ],
)
def test_a_digest_changes_with_what_is_tested(source, old, new, procedure, said):
    other = Source(Study.parse(SEVERAL.replace(old, new), "a.toml").entries[0])
    one, other = named(source, procedure), named(other, procedure)
    assert one.digest != other.digest
    assert said in "; ".join(changed(one.identity, other.identity))


def test_neither_a_grid_nor_its_operations_change_a_digest(source):
    text = SEVERAL.replace("steps = 2,", "steps = 2,").replace("seeds = 1", "seeds = 2")
    text = text.replace("rounds = 4", "rounds = 4\ntuning = { tflops = 1 }")
    text = text.replace("inner_steps = 1 }", "inner_steps = 1 }\ngrid = { inner_lr = [0.1, 0.3] }")
    other = Source(Study.parse(text, "a.toml").entries[0])
    assert named(other, "maml").digest == named(source, "maml").digest
    # A candidate has its own settings, and the seed of the tuning.
    tried = [other.candidate("maml", {"inner_lr": rate}) for rate in (0.1, 0.3)]
    assert len({cell.digest for cell in tried} | {named(other, "maml").digest}) == 3
    assert {cell.key.seed for cell in tried} == {1_000_000}


def test_the_report_shows_amounts_and_says_of_doses_and_baselines_what_there_is(several, results, tmp_path):
    Table.read(several).write(tmp_path)
    text = write(tmp_path)[0].read_text()
    levels = text.split("### After adaptation")[1].split("###")[0]
    assert "| maml | 2 | 1 |" in levels
    assert "| majority | 4 | 1 |" in levels
    (row,) = [line for line in levels.splitlines() if line.startswith("| majority | 4 |")]
    (found,) = results.of("digits", "majority", 4.0)
    assert row.endswith(f"| {100 * found.totals['top_4_after']:.1f} | - | - | - |")
    assert "| worst tenth | among 4 | rounds |" in levels
    doses = text.split("### Dose of adaptation")[1].split("###")[0]
    rows = [line.split(" | ") for line in doses.splitlines() if line.startswith("| maml")]
    assert [row[:2] for row in rows] == [["| maml", "2"], ["| maml", "4"]]
    # One training speaks for all supports.
    targets = text.split("### Bytes to a target")[1].split("###")[0]
    rows = [line.split(" | ") for line in targets.splitlines() if "of 1 seed" in line]
    assert [row[:2] for row in rows] == [["| maml", "4"]]
    assert "2 finished cells, with 1 seed." in text
    declared = text.split("### Declared comparisons")[1].split("###")[0]
    assert "| maml against majority | 4 |" in declared
    for name in ("convergence", "support"):
        assert (tmp_path / "figures" / f"digits-{name}.png").is_file()


def test_an_attempt_that_goes_on_is_one_that_was_whole(source, tmp_path):
    cell = named(source, "maml")
    shorter = work.attempt(source, cell, 2, tmp_path / "on", lambda event: None)
    longer = work.attempt(source, cell, 4, tmp_path / "on", lambda event: None)
    whole = work.attempt(source, cell, 4, tmp_path / "whole", lambda event: None)
    assert longer == whole
    assert whole["flops"] == pytest.approx(2 * shorter["flops"])
    assert json.loads(json.dumps(whole)) == whole
    # Without any step is one of the doses.
    assert whole["after"] >= whole["before"]
    assert Doses(rates=(1.0, 3.0), steps=2) == source.entry.doses
    assert set(whole["dose"]) == {"rate", "steps", "part"}


def test_one_that_diverges_later_keeps_what_it_was_before(source, tmp_path, monkeypatch):
    cell, folder = named(source, "maml"), tmp_path / "run"
    before = work.attempt(source, cell, 2, folder, lambda event: None)

    def diverging(experiment, *told, **more):
        raise Diverged("the update of round 3 is not finite")

    monkeypatch.setattr(Experiment, "run", diverging)
    came = work.attempt(source, cell, 4, folder, lambda event: None)
    assert came == {"before": None, "after": None, "dose": None, "flops": before["flops"]}
    _, rows = work.compute(source, cell, folder, lambda event: None)
    assert {row["support"]: row["value"] for row in rows if row["measure"] == "diverged"} == {2.0: 3, 4.0: 3}
    assert {row["round"] for row in rows if row["measure"] == "bytes"} == {2}


def test_a_support_that_a_client_cannot_have_is_found_before_anything_is_trained(tmp_path):
    text = SEVERAL.replace("evaluate_at = [2, 4]", "evaluate_at = [4, 400]")
    source = Source(Study.parse(text, "a.toml").entries[0])
    with pytest.raises(UsageError, match="clients have fewer than 400 examples that can be support"):
        work.compute(source, named(source, "maml"), tmp_path / "run", lambda event: None)
    assert not (tmp_path / "run").exists()


def test_with_another_floor_candidates_are_tried_for_fewer_rounds_than_before(source, tmp_path):
    study = Study.parse(SEVERAL.replace("rounds = 4", "rounds = 4\ntuning = { tflops = 1 }"), "a.toml")
    said = []
    desk = Desk(study, tmp_path, said.append)
    cell = Source(study.entries[0]).candidate("maml", {})
    for rounds in (3, 1, 3):
        desk.answer(json.loads(Job("try", 0, cell, {}, rounds).line))
    first, short, again = (words["tried"] for words in said if "tried" in words)
    assert first == again
    assert 3 * short["flops"] == first["flops"]


def test_a_line_of_progress_is_of_the_cell_itself():
    rows = [
        {"client": None, "round": None, "step": None, "measure": f"points_{when}", "value": value, **more}
        for value, more in ((0.5, {"support": 2.0}), (0.6, {"support": 4.0}), (0.7, {"support": 2.0, "procedure": "p"}))
        for when in ("before", "after")
    ]
    assert _came(rows) == "0.500 before, 0.500 after"
