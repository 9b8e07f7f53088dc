import html
import io
import json
import shlex

import pytest
from rich.console import Console

import fedmeta as fm
from fedmeta.cli import tables
from fedmeta.study.baselines import TITLES
from fedmeta.study.compare import Repeats, compare
from tests.examples import cells, in_soak
from tests.study.test_compare import classified, finished, predicted

QUICK = ("--rounds", 12, "--validate-every", 4)


def test_a_comparison_leaves_figures_a_picture_a_report_and_runs(fedmeta, drawn, tmp_path):
    done = fedmeta("compare", "--data", "digits", "--algorithms", "fedavg,meta-sgd", *QUICK, "--out", tmp_path)
    assert done.code == 0, done.err
    assert "FedAvg" in done.out
    assert "FedMeta(Meta-SGD)" in done.out
    assert max(len(line) for line in done.out.splitlines() if str(tmp_path) not in line) <= 80
    assert (tmp_path / "comparison.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (tmp_path / "comparison.svg").read_text()
    report = (tmp_path / "report.html").read_text()
    assert "FedMeta(Meta-SGD)" in report
    assert "http://" not in report.replace("http://www.w3.org", "").replace("http://purl.org", "").replace(
        "http://creativecommons.org", ""
    )
    figures = json.loads((tmp_path / "comparison.json").read_text())
    averaging, meta = figures["algorithms"]["fedavg"], figures["algorithms"]["meta-sgd"]
    assert averaging["test"]["before"] == averaging["test"]["after"]
    # Softmax regression on 64 pixels: 650 numbers of 4 bytes, 4 clients, there and back, and a weight of 4 bytes back.
    # Meta-SGD sends its rates too.
    assert averaging["bytes"] == 12 * 4 * (2 * 650 * 4 + 4)
    assert meta["bytes"] == 12 * 4 * (2 * 2 * 650 * 4 + 4)
    for name, outcome in figures["algorithms"].items():
        rows = [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        looks = [row for row in rows if "validation_accuracy" in row]
        assert [row["round"] for row in looks] == [4, 8, 12]
        reached = next(row["round"] for row in looks if row["validation_accuracy"] >= figures["common_target"])
        assert outcome["rounds_to_target"] == reached
        assert outcome["bytes_to_target"] == outcome["bytes"] * reached // 12


def test_the_same_command_goes_on_and_another_is_refused(fedmeta, tmp_path):
    command = ("compare", "--data", "digits", "--algorithms", "fomaml", *QUICK, "--out", tmp_path)
    assert fedmeta(*command).code == 0
    first = (tmp_path / "fomaml" / "metrics.jsonl").read_bytes()
    again = fedmeta(*command)
    assert again.code == 0
    assert "were done before" in again.err
    assert (tmp_path / "fomaml" / "metrics.jsonl").read_bytes() == first
    other = fedmeta(*command, "--seed", 1)
    assert other.code == 1
    assert "seed" in other.err
    assert (tmp_path / "fomaml" / "metrics.jsonl").read_bytes() == first


# With so few examples all clients are of the same sizes, and little is compiled.
REAL = {
    "mnist": ("--classes-per-client", 2, "--model-option", "hidden=8", "--model-option", "filters=2,2"),
    "shakespeare": ("--model-option", "hidden=8"),
}


# MNIST warns of the writers that have too few images.
@in_soak
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("name", REAL)
def test_the_real_files_are_compared(fedmeta, real_data, tmp_path, name):
    real_data(name)
    names = ("--algorithms", cells("fomaml", "fedavg,meta-sgd"), "--baselines", cells("none", "free"))
    rounds = ("--rounds", 2, "--validate-every", 2, "--max-examples", 10)
    done = fedmeta("compare", "--data", name, *names, *rounds, *REAL[name], "--out", tmp_path, "--json")
    assert done.code == 0, done.err
    for outcome in done.json["algorithms"].values():
        assert outcome["test"]["clients"] > 50
        assert 0 < outcome["test"]["after"]["over_examples"]["accuracy"] < 1


def test_every_algorithm_of_a_comparison_has_the_same_cohorts_rate_and_test_clients_as_told(fedmeta, tmp_path):
    told = ("--inner-lr", 0.02, "--test-clients", "client-03", "--fractions", "0.5,0.3,0.2")
    names = ("--algorithms", "fomaml,reptile", "--rounds", 3)
    done = fedmeta("compare", "--data", "digits", *names, *told, "--out", tmp_path, "--json")
    assert done.code == 0, done.err
    cohorts = []
    for name, outcome in done.json["algorithms"].items():
        assert outcome["test"]["clients"] == 1
        assert fm.load_run(tmp_path / name).algorithm.inner_lr == 0.02
        lines = (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        cohorts.append([json.loads(line)["clients"] for line in lines])
    assert len(cohorts[0]) == 3
    assert cohorts[0] == cohorts[1]


def runs_of(numbers):
    """Runs whose figures are as wide as they come, beside all baselines."""
    make = (lambda: predicted([123456.7, 0.00123, 1e12])) if numbers else (lambda: classified([1.0, 0.5, 0.0]))
    beside = {name: make() for name in TITLES}
    return [
        finished(name, [0.5, 0.25], numbers=numbers, sent=10**10, report=make(), **beside)
        for name in ("fedavg", "maml", "meta-sgd", "per-fedavg")
    ]


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("numbers", [False, True])
def test_no_number_in_a_table_is_cut_off(width, numbers):
    def lines(show, *what, at):
        console = Console(width=at, file=io.StringIO(), force_terminal=False)
        show(console, *what)
        return console.file.getvalue().splitlines()

    runs = runs_of(numbers)
    repeats = Repeats(tuple(compare(runs_of(numbers)) for _ in range(3)))
    for show, *what in (
        (tables.show, runs, compare(runs)),
        (tables.show, runs[:1]),
        (tables.show_repeats, repeats),
    ):
        narrow, wide = (lines(show, *what, at=columns) for columns in (width, 1000))
        assert max(map(len, narrow)) <= width
        assert "…" not in "".join(narrow)
        for title in (run.title for run in what[0]) if what[0] is not repeats else repeats.values:
            every = [number for line in wide if line.split("  ")[0].strip() == title for number in line.split()]
            shown = [number for line in narrow if line.split("  ")[0].strip() == title for number in line.split()]
            assert every
            assert set(every) <= set(shown)


def test_the_report_has_the_command_that_repeats_it(fedmeta, tmp_path):
    out = tmp_path / "a folder"
    words = ("compare", "--data", "digits", "--algorithms", "fedavg", *QUICK, "--baselines", "free", "--out", out)
    done = fedmeta(*words)
    assert done.code == 0, done.err
    page = html.unescape((out / "report.html").read_text())
    assert shlex.join(["fedmeta", *map(str, words)]) in page


@in_soak
def test_the_report_of_several_seeds_has_their_intervals(fedmeta, tmp_path):
    some = ("--algorithms", "fedavg,maml", "--seeds", 2, "--baselines", "free")
    done = fedmeta("compare", "--data", "digits", *some, *QUICK, "--out", tmp_path)
    assert done.code == 0, done.err
    assert "in the mean over 2 seeds" in " ".join(done.out.split())
    page = (tmp_path / "report.html").read_text()
    assert "2 seeds: means and intervals" in page
    assert "Differences, seed by seed" in page
