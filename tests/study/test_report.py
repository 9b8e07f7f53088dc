"""Reports of hostile data are whole: every tag closed, every name escaped, nothing fetched, not too large."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

import fedmeta as fm
from fedmeta.algorithms import ALGORITHMS
from fedmeta.data.schema import Field, Schema
from fedmeta.evaluation.figures import Difference
from fedmeta.evaluation.scores import Predictions, Report, Scores
from fedmeta.study.compare import FinishedRun, Repeats, compare
from fedmeta.study.formatting import counted, duration, interval, listed, short
from fedmeta.study.recipe import Recipe
from fedmeta.study.report import panels, tables, write_report
from fedmeta.study.verdict import result
from tests.examples import cells, in_soak
from tests.study.test_compare import classified, finished, predicted

VOID = {"meta", "br", "link", "img", "hr", "input", "wbr"}
HOSTILE = (
    "<script>alert(1)</script>",
    "\"quoted\" & 'single' </table>",
    "x" * 10_000,
    "患者 №7 — ОльгаΩ",
    "\u202egnirts\u0000\ud800",
    "$\\frac{1}{0}$ {{ 7 * 7 }}",
)


class Reader(HTMLParser):
    """Reads a page; fails where a tag is not closed, or closed in the wrong place."""

    def __init__(self, page):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.ids, self.text, self.links = [], [], [], [], []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        attributes = dict(attrs)
        assert not [name for name in attributes if name.startswith("on")], tag
        assert len(attributes) == len(attrs), (tag, attrs)
        self.ids += [value for name, value in attrs if name == "id"]
        self.links += [value for name, value in attrs if name in ("href", "src")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"script", "style"} & set(self.open):
            self.text.append(data)


def read(tmp_path, found, command=None):
    """Write a report; return what a reader of it sees, and the page."""
    path = tmp_path / "report.html"
    write_report(path, found, command)
    page = path.read_text()
    reader = Reader(page)
    assert reader.tags.count("html") == reader.tags.count("body") == 1
    assert reader.tags.count("script") == 1
    assert len(set(reader.ids)) == len(reader.ids)
    assert all(link.startswith("#") and link[1:] in reader.ids for link in reader.links)
    assert "://" not in page
    assert "url(" not in re.sub(r"url\(#\w+\)", "", page)
    assert path.stat().st_size < 2_000_000
    return " ".join("".join(reader.text).split()), page


def named(report, names):
    return replace(report, clients=tuple(names))


def hostile(run, classes=None):
    """The run on data of which every name is hostile."""
    experiment = run.experiment
    schema = Schema(
        task="classification",
        columns=(
            Field(name=HOSTILE[0], role="target", kind="category", categories=HOSTILE[:3]),
            *(Field(name=name, kind="category", categories=HOSTILE) for name in HOSTILE[1:]),
        ),
    )
    changed = {}
    for group in ("train", "validation", "test"):
        data = getattr(experiment, group)
        names = np.array([f"{HOSTILE[i % len(HOSTILE)]}{i}"[-12_000:] for i in range(len(data))], dtype=object)
        changed[group] = replace(data, ids=names, info=replace(data.info, classes=classes or data.info.classes))
    procedure = replace(experiment.procedure)
    # Past the check of a procedure, whose bytes hold no lone surrogate.
    object.__setattr__(procedure, "inputs", replace(procedure.inputs, schema=schema))
    return replace(run, experiment=replace(experiment, procedure=procedure, **changed))


def test_hostile_names_are_text_and_nothing_else(tmp_path):
    report = named(classified([1.0, 0.5, 0.2, 0.7, 0.0, 0.9]), HOSTILE)
    classes = (*HOSTILE, "g", "h", "i", "j")
    runs = [hostile(finished(name, [0.3, 0.6], report=report), classes) for name in ("fedavg", "maml")]
    seen, page = read(tmp_path, compare(runs), "fedmeta compare --data '<b>&'")
    assert seen.count("<script>alert(1)</script>") >= 3
    assert "\"quoted\" & 'single' </table>" in seen
    assert "患者 №7 — ОльгаΩ" in seen
    assert "$\\frac{1}{0}$ {{ 7 * 7 }}" in seen
    assert "fedmeta compare --data '<b>&'" in seen
    assert "x" * 100 not in page
    assert "\0" not in page


@pytest.mark.parametrize("numbers", [False, True])
def test_one_client_and_one_round_are_a_report(tmp_path, numbers):
    report = predicted([1.0], points=1) if numbers else classified([1.0], points=1)
    run = finished("maml", [0.5], numbers=numbers, report=report)
    seen, _ = read(tmp_path, run)
    assert "on 1 unseen client (1 query example)" in seen
    assert "1 client of the test." in seen
    read(tmp_path, compare([run]))


@pytest.mark.parametrize("numbers", [False, True])
def test_figures_that_are_not_finite_are_shown_as_such(tmp_path, numbers):
    bad = predicted([np.inf, np.nan, 1.0]) if numbers else classified([0.5, 1.0])
    if not numbers:
        answers = tuple(np.full_like(part, np.nan) for part in bad.predictions.after)
        bad = replace(bad, predictions=replace(bad.predictions, after=answers))
    run = finished("maml", [np.nan, np.inf if numbers else np.nan, np.nan], numbers=numbers, report=bad)
    good = finished("fedavg", [0.5, np.nan, 0.5], numbers=numbers)
    seen, _ = read(tmp_path, compare([good, replace(run, report=bad)]))
    assert "inf" in seen
    seen, _ = read(tmp_path, run)
    assert "nan" not in seen.lower()
    seen, _ = read(tmp_path, compare([run, run]))
    if numbers:
        assert "No algorithm has a finite RMSE" in seen
    else:
        assert "Without a finite answer, and so in no column: 40 examples." in seen


@in_soak
@pytest.mark.parametrize("numbers", cells([False], [False, True]))
def test_many_clients_many_rounds_and_every_algorithm_are_a_small_file(tmp_path, numbers):
    draw = np.random.default_rng(0)
    values, worse = draw.uniform(0, 1, (2, 1000))
    report = predicted(values, points=5) if numbers else classified(values.round(1), points=10)
    before = predicted(worse + 1, points=5) if numbers else classified(worse.round(1), points=10)
    report = replace(report, predictions=replace(report.predictions, before=before.predictions.after))
    curves = draw.uniform(0.1, 1, (len(ALGORITHMS), 3000))
    shown = [
        finished(name, curve.tolist(), numbers=numbers, report=report)
        for name, curve in zip(ALGORITHMS, curves, strict=True)
    ]
    seen, page = read(tmp_path, compare(shown))
    assert page.count("<bdi>c1") > 100
    assert "1,000 unseen clients" in seen


def test_more_clients_than_the_table_holds_are_said_to_be(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "SHOWN", 10)
    seen, page = read(tmp_path, finished("maml", [0.5], report=classified([0.5] * 12 + [0.25] * 3, points=4)))
    assert "10 of 15 clients: those that FedMeta(MAML) after serves worst." in seen
    assert page.count("<bdi>c1") == 4
    assert "<bdi>c14</bdi>" in page


def test_classes_that_are_many_are_shown_as_confused_pairs(tmp_path):
    classes, points = 60, 200
    draw = np.random.default_rng(0)
    y = [draw.integers(0, classes, points) for _ in range(3)]
    logits = [np.eye(classes)[np.where(draw.random(points) < 0.5, one, (one + 1) % classes)] for one in y]
    scores = Scores({"loss": np.ones(3), "accuracy": np.full(3, 0.5)}, np.full(3, points))
    report = Report(
        scores, scores, ("a", "b", "c"), np.ones(3, int), (scores,), 0, Predictions(tuple(y), *[tuple(logits)] * 2)
    )
    seen, page = read(tmp_path, finished("fedavg", [0.5], report=report))
    assert "Confused most" in seen
    assert 'class="matrix"' not in page


@pytest.mark.parametrize("numbers", [False, True])
@pytest.mark.parametrize("values", [[0.5], [0.5, 0.5001], [0.5, 0.501, 0.502], [1e-7, 1e-3, 1e6], [123456.1, 123456.2]])
def test_the_labels_of_an_axis_do_not_repeat(numbers, values):
    values = values if numbers else [min(value, 1.0) for value in values]
    run = finished("maml", values, numbers=numbers, sent=1234)
    for panel in [*panels.learning([run], None), *panels.adapting([run])]:
        labels = re.findall(r"<text[^>]*>([^<]*)</text>", panel.svg)
        assert labels
        # The two axes may have a label in common, and no more than that.
        assert all(labels.count(label) <= 2 for label in labels), (panel.title, labels)


def test_an_algorithm_that_does_not_adapt_is_said_not_to(tmp_path):
    seen, _ = read(tmp_path, finished("fedavg", [0.5]))
    assert "it does not adapt" in seen
    assert "What adapting changes" not in seen


@in_soak
def test_the_text_of_plays_is_reported(tmp_path):
    """Targets are the next character; its classes have no names of their own."""
    text = ["to be or not to be that is the question", "all the world is a stage and all the men"]
    characters = "".join(sorted(set("".join(text))))
    place = {sign: number for number, sign in enumerate(characters)}
    x, y, owner = [], [], []
    for client in range(12):
        words = text[client % 2]
        for start in range(12):
            x.append([place[sign] for sign in words[start : start + 8]])
            y.append(place[words[start + 8]])
            owner.append(f"role {client}")
    path = tmp_path / "plays"
    data = fm.data.from_arrays(np.array(x, np.int32), np.array(y), owner)
    info = replace(data.info, classes=tuple(characters), characters=characters)
    fm.data.save(replace(data, info=info), path)
    recipe = Recipe.default(str(path), "maml", rounds=2, cohort_size=2, model_options={"hidden": 4})
    experiment = recipe.prepare()
    run = experiment.run()
    report = experiment.report(run.phi, experiment.test, predictions=True)
    seen, _ = read(tmp_path, FinishedRun(experiment, run.rows, report))
    assert "Examples of each class" in seen


def repeated():
    return Repeats(
        tuple(
            compare(
                [
                    finished("fedavg", [one], report=classified([one]), constant=classified([0.1])),
                    finished("maml", [other], report=classified([other])),
                ]
            )
            for one, other in ((0.5, 0.6), (0.7, 0.8), (0.4, 0.55))
        )
    )


def test_seeds_are_reported_with_intervals_and_differences(tmp_path):
    repeats = repeated()
    seen, _ = read(tmp_path, repeats)
    assert result(repeats) == [
        "FedMeta(MAML) is best, with accuracy 65.0 % (32.1 % to 97.9 %) in the mean over 3 seeds.",
        "Seed by seed it is better than FedAvg (+11.7 points (4.5 to 18.8)).",
    ]
    assert "FedAvg+11.7 points (4.5 to 18.8)yes" in seen
    assert "3 seeds: means and intervals" in seen


def test_what_must_not_be_missed_stands_above_all_tables(tmp_path):
    beside = {"constant": classified([0.9, 0.9])}
    seen, page = read(tmp_path, finished("fedavg", [0.5], report=classified([0.5, 0.5]), **beside))
    assert page.index("is no better than always answering") < page.index("<table")
    assert "The best baseline is “constant” with 90.0 %." in seen.replace("\N{NO-BREAK SPACE}", " ")


def test_the_result_says_who_is_best_and_by_how_much():
    low, high = classified([0.5, 0.6, 0.7], points=10), classified([0.7, 0.8, 0.8], points=10)
    one = finished("fedavg", [0.5], report=low, constant=classified([0.1, 0.2, 0.3], points=10))
    first, second, third = result(compare([one, finished("maml", [0.5], report=high)]))
    assert first == (
        "FedMeta(MAML) is best: accuracy 76.7 % on 3 unseen clients (30 query examples); next is FedAvg with 60.0 %."
    )
    assert second.startswith(
        "Client by client, FedMeta(MAML) is ahead of FedAvg by +16.7 points (2.3 to 31.0) in the mean"
    )
    assert third == "The best baseline is “constant” with 20.0 %."
    first, *_ = result(compare([finished("fedavg", [0.5], report=high), finished("maml", [0.5], report=high)]))
    assert first.startswith("FedAvg and FedMeta(MAML) are best")


def test_names_numbers_and_times_are_written_for_people():
    assert [short("a" * 100, 12), short("line\nbreak"), short("ok")] == ["aaaaaaa…aaaa", "line�break", "ok"]
    assert [duration(s) for s in (0.0123, 1.25, 42.3, 200.0, 7500.0)] == [
        "0.012 s",
        "1.2 s",
        "42 s",
        "3 min 20 s",
        "2 h 5 min",
    ]
    assert [counted(1, "client"), counted(1200, "client")] == ["1 client", "1,200 clients"]
    assert [listed(["a"]), listed(["a", "b"]), listed(["a", "b", "c"])] == ["a", "a and b", "a, b and c"]
    assert interval("accuracy", Difference(0.97, 0.92, 1.02, 3)) == "92.0 % to 100.0 %"
    assert interval("rmse", Difference(2.0, -1.0, 5.0, 3)) == "-1.000 to 5.000"


def test_a_curve_of_numbers_is_the_rmse_and_not_what_a_bounded_loss_gives():
    run = finished("maml", [1.0, 2.0], numbers=True)
    rows = [{**row, "validation_squared_error": error} for row, error in zip(run.rows, (9.0, 25.0), strict=True)]
    run = replace(run, rows=rows)
    _, values = panels._curve(run, "validation_", lambda run, seen: run.experiment.headline(seen))
    assert values == [3.0, 5.0] == [value for *_, value in run.validation()]
