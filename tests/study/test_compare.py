import json
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from scipy import stats

from fedmeta.algorithms import ALGORITHMS
from fedmeta.errors import UsageError
from fedmeta.evaluation.scores import Predictions, Report, Scores
from fedmeta.study.compare import FinishedRun, Repeats, compare
from fedmeta.study.formatting import gigaflops, megabytes, percent
from fedmeta.study.plots import COLOURS, draw
from fedmeta.study.recipe import Recipe
from fedmeta.study.report import write_report
from fedmeta.study.verdict import result, verdict
from tests.examples import in_soak

SPREAD = 3.0


@cache
def experiment_of(algorithm, numbers=False):
    experiment = Recipe.default("digits", algorithm).prepare()
    if not numbers:
        return experiment
    inputs = replace(experiment.procedure.inputs, classes=None, target_scale=(5.0, SPREAD))
    return replace(experiment, procedure=replace(experiment.procedure, inputs=inputs))


def classified(shares, points=20):
    """Reports of clients of which these shares of the points are right."""
    sizes = points if isinstance(points, tuple) else (points,) * len(shares)
    y = [np.zeros(size, int) for size in sizes]
    logits = [
        np.where(np.arange(size)[:, None] < round(share * size), [1.0, 0.0], [0.0, 1.0])
        for share, size in zip(shares, sizes, strict=True)
    ]
    return reported({"accuracy": np.array(shares)}, y, logits)


def predicted(errors, points=20):
    """Reports of clients whose predictions are off by so much."""
    y = [np.arange(points, dtype=np.float64) for _ in errors]
    return reported({}, y, [one + error for one, error in zip(y, errors, strict=True)])


def reported(values, y, answers):
    count = len(y)
    scores = Scores({"loss": np.ones(count), **values}, np.array([len(one) for one in y]))
    kept = Predictions(tuple(y), tuple(answers), tuple(answers))
    return Report(scores, scores, tuple(f"c{i}" for i in range(count)), np.ones(count, int), (scores, scores), 0, kept)


def finished(algorithm, values, numbers=False, sent=10, report=None, **baselines):
    rows = []
    for number, value in enumerate(values, 1):
        rows.append({"round": number, "bytes_down": sent, "bytes_up": sent, "flops": 5, "seconds": 0.5})
        if value is not None:
            # Half the squared error, in units of the targets' variance.
            seen = {"validation_loss": (value / SPREAD) ** 2 / 2} if numbers else {"validation_accuracy": value}
            rows[-1] |= seen
    report = report or (predicted([1.0, 2.0]) if numbers else classified([0.5, 1.0]))
    return FinishedRun(experiment_of(algorithm, numbers), rows, report, baselines)


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


def test_of_numbers_the_common_target_is_an_rmse_in_their_units():
    first = finished("fedavg", [5.0, 2.0, 3.0], numbers=True)
    second = finished("maml", [2.5, 1.0, 0.5], numbers=True)
    comparison = compare([first, second])
    assert comparison.target == pytest.approx(2.0)
    assert comparison.cost == {"FedAvg": (2, 40), "FedMeta(MAML)": (2, 40)}


def repeated(*shares):
    """Comparisons of two algorithms and a constant, one for each seed."""
    return Repeats(
        tuple(
            compare(
                [
                    finished("fedavg", [one], report=classified([one]), constant=classified([0.1])),
                    finished("maml", [other], report=classified([other])),
                ]
            )
            for one, other in shares
        )
    )


def test_intervals_and_differences_are_over_seeds_and_seed_by_seed():
    repeats = repeated((0.5, 0.6), (0.7, 0.8), (0.4, 0.55))
    assert repeats.values["FedAvg"] == pytest.approx([0.5, 0.7, 0.4])
    assert repeats.values["constant"] == pytest.approx([0.1] * 3)
    low, high = stats.t.interval(0.95, 2, np.mean([0.5, 0.7, 0.4]), stats.sem([0.5, 0.7, 0.4]))
    interval = repeats.intervals["FedAvg"]
    assert (interval.low, interval.high) == pytest.approx((low, high))
    (better, worse, gap), *others = repeats.differences()
    assert (better, worse) == ("FedMeta(MAML)", "FedAvg")
    low, high = stats.t.interval(0.95, 2, np.mean([0.1, 0.1, 0.15]), stats.sem([0.1, 0.1, 0.15]))
    assert (gap.low, gap.high) == pytest.approx((low, high))
    # Though the two intervals overlap by far, with each split the one is ahead.
    assert gap.beyond_chance
    assert [(better, worse) for better, worse, _ in others] == [("FedAvg", "constant"), ("FedMeta(MAML)", "constant")]
    assert result(repeats)[1].startswith("Seed by seed it is better than FedAvg (+11.7 points (")
    uncertain = result(repeated((0.5, 0.6), (0.8, 0.4)))
    assert uncertain[0].startswith("FedAvg is best, with accuracy 65.0 % (")
    assert uncertain[1].startswith("It is not shown to be better than FedMeta(MAML)")
    assert len(uncertain) == 2
    useless = result(repeated((0.05, 0.6), (0.1, 0.4)))
    assert useless[-1] == (
        "FedAvg is no better than always answering the most frequent class of the training clients: accuracy 7.5 % "
        "against 10.0 % in the mean over seeds."
    )
    assert json.loads(json.dumps(repeats.summary()))["differences"][0]["beyond_chance"] is True


def test_a_model_that_what_costs_nothing_equals_is_told_so_in_words():
    beside = {"constant": classified([0.8, 0.8]), "support": classified([0.7, 0.7])}
    assert verdict(finished("fedavg", [0.5], report=classified([0.9, 0.9]), **beside)) == []
    (one,) = verdict(finished("fedavg", [0.5], report=classified([0.8, 0.8]), **beside))
    assert one == (
        "FedAvg is no better than always answering the most frequent class of the training clients: "
        "accuracy 80.0 % against 80.0 %."
    )
    beside = {"constant": predicted([3.0, 3.0]), "support": predicted([1.0, 1.0])}
    (one,) = verdict(finished("fedavg", [5.0], numbers=True, report=predicted([2.0, 2.0]), **beside))
    assert one == (
        "FedAvg is no better than always answering the mean target of a client's own support: RMSE 2.000 against 1.000."
    )


def test_who_is_ahead_client_by_client_is_said_as_it_is():
    """A large client decides the figure over data points, and the small ones the mean over clients."""
    sizes, ahead, behind = (300, 20, 20, 20), (0.9, 0.5, 0.5, 0.5), (0.7, 0.6, 0.65, 0.6)
    runs = [
        finished(name, [0.5], report=classified(shares, points=sizes))
        for name, shares in (("maml", ahead), ("fedavg", behind))
    ]
    sentences = result(compare(runs))
    assert sentences[0].startswith("FedMeta(MAML) is best")
    assert sentences[1].startswith("But client by client, FedAvg is ahead of FedMeta(MAML) by +")
    assert "which may be chance" in sentences[1]


def test_a_figure_that_is_not_finite_is_none_in_json():
    lost = predicted([np.inf, 1.0])
    runs = [finished("fedavg", [np.inf], numbers=True, report=lost), finished("maml", [2.0], numbers=True, report=lost)]
    found = compare(runs)
    assert json.loads(json.dumps(found.summary(), allow_nan=False))["common_target"] is None
    json.dumps(Repeats((found, found)).summary(), allow_nan=False)


def test_a_model_that_adapting_makes_worse_is_told_so_in_words():
    good, bad = predicted([1.0, 1.0, 1.0]), predicted([1.5, 2.0, 2.5])
    kept = replace(good.predictions, after=bad.predictions.after)
    (one,) = verdict(finished("maml", [1.0], numbers=True, report=replace(bad, predictions=kept)))
    assert one.startswith("FedMeta(MAML): adapting makes clients worse, by 1.000 (-0.2421 to 2.242) of RMSE")
    assert one.endswith("which may be chance.")
    assert verdict(finished("fedavg", [1.0], numbers=True, report=replace(bad, predictions=kept))) == []
    kept = replace(good.predictions, before=bad.predictions.after)
    assert verdict(finished("maml", [1.0], numbers=True, report=replace(bad, predictions=kept))) == []


def test_operations_that_could_not_be_counted_are_shown_as_such(tmp_path):
    counted, other = finished("fedavg", [0.3, 0.6]), finished("maml", [0.7, 0.8])
    other = replace(other, rows=[{**row, "flops": None} for row in other.rows])
    assert (counted.flops(), other.flops()) == (10, None)
    comparison = compare([counted, other])
    assert comparison.summary()["algorithms"]["maml"]["flops"] is None
    write_report(tmp_path / "report.html", comparison)
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


@in_soak
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
    assert [megabytes(count) for count in (1_234, 12_345, 1_234_567, 123_456_789)] == ["0.001", "0.01", "1.2", "123"]
