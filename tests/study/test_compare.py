from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from fedmeta.algorithms import ALGORITHMS
from fedmeta.errors import UsageError
from fedmeta.evaluation.evaluator import Report, Scores
from fedmeta.study.compare import FinishedRun, compare
from fedmeta.study.formatting import gigaflops, megabytes, percent
from fedmeta.study.plots import COLOURS, draw
from fedmeta.study.recipe import Recipe
from fedmeta.study.report import write_report


@cache
def experiment_of(algorithm):
    return Recipe.default("digits", algorithm).prepare()


def finished(algorithm, values, measure="accuracy", sent=10):
    rows = []
    for number, value in enumerate(values, 1):
        rows.append({"round": number, "bytes_down": sent, "bytes_up": sent, "flops": 5})
        if value is not None:
            rows[-1][f"validation_{measure}"] = value
    scores = Scores({"loss": np.array([1.0, 2.0]), measure: np.array([0.5, 1.0])}, np.array([3, 1]))
    report = Report(scores, scores, ("a", "b"), np.array([1, 1]), (scores, scores), 0)
    return FinishedRun(experiment_of(algorithm), rows, report)


def test_the_common_target_is_what_every_algorithm_reached():
    slow = finished("fedavg", [None, 0.3, None, 0.619, 0.5])
    fast = finished("maml", [None, 0.9, None, 0.8, 0.7], sent=100)
    comparison = compare([slow, fast])
    assert comparison.target == 0.61
    assert comparison.cost == {"FedAvg": (4, 4 * 20), "FedMeta(MAML)": (2, 2 * 200)}


@pytest.mark.parametrize("percent_reached", range(101))
def test_the_noise_of_float32_costs_neither_a_percent_nor_a_round(percent_reached):
    share = percent_reached / 100
    noisy = [finished("fedavg", [0.0, np.nextafter(share, 0) - 1e-8]), finished("maml", [0.0, share, share + 0.001])]
    comparison = compare(noisy)
    assert comparison.target == share
    assert comparison.cost["FedAvg"][0] == (2 if percent_reached else 1)


def test_an_algorithm_without_a_finite_accuracy_is_compared_all_the_same():
    comparison = compare([finished("fedavg", [np.nan, np.nan]), finished("maml", [0.5, np.nan])])
    assert comparison.target == 0.0
    assert comparison.cost["FedMeta(MAML)"] == (1, 20)


def test_without_accuracy_the_common_target_is_a_loss():
    first = finished("fedavg", [5.0, 2.0, 3.0], "loss")
    second = finished("maml", [2.5, 1.0, 0.5], "loss")
    comparison = compare([first, second])
    assert comparison.target == 2.0
    assert comparison.cost == {"FedAvg": (2, 40), "FedMeta(MAML)": (2, 40)}


def test_operations_that_could_not_be_counted_are_shown_as_such(tmp_path):
    counted, other = finished("fedavg", [0.3, 0.6]), finished("maml", [0.7, 0.8])
    other = replace(other, rows=[{**row, "flops": None} for row in other.rows])
    assert (counted.flops(), other.flops()) == (10, None)
    comparison = compare([counted, other])
    assert comparison.summary()["algorithms"]["maml"]["flops"] is None
    write_report(tmp_path / "report.html", [counted, other], comparison)
    assert "<td>not counted</td>" in (tmp_path / "report.html").read_text()
    assert gigaflops(2 * 10**9) == "2"


def test_each_algorithm_has_a_colour_of_its_own():
    assert len(set(COLOURS)) == len(COLOURS) == len(ALGORITHMS)


def test_nothing_cannot_be_compared():
    with pytest.raises(UsageError, match="nothing to compare"):
        compare([])


def test_the_picture_shows_every_algorithm_once():
    runs = [finished("fedavg", [0.3, 0.6]), finished("maml", [0.7, 0.8])]
    figure = draw(runs, compare(runs))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["FedAvg", "FedMeta(MAML)"]
    assert len(figure.axes) == 3


def test_federated_meta_learning_is_ahead_of_averaging_in_the_demo():
    """The main job: unseen clients that hold three classes each, the same few rounds, tuned on validation clients."""
    after = {}
    for name in ("fedavg", "maml", "meta-sgd"):
        experiment = Recipe.default("digits", name).prepare()
        after[name] = experiment.report(experiment.run().phi, experiment.test).accuracy
    assert after["maml"] > after["fedavg"] + 0.02
    assert after["meta-sgd"] > after["fedavg"] + 0.02


def test_figures_are_written_for_people():
    assert percent(0.9344) == "93.4 %"
    assert [megabytes(count) for count in (12_345, 1_234_567, 123_456_789)] == ["0.01", "1.2", "123"]
