"""Early stopping: by which figure, when, with which state; and every round that was told is kept, whatever fails."""

import json

import jax
import numpy as np
import pytest

import fedmeta as fm
from fedmeta import pytrees
from fedmeta.errors import UsageError
from fedmeta.events import STOP, RoundEnded, RunEnded
from fedmeta.runs.stopping import Best
from tests import toys

DATA = toys.classification()
MODEL = toys.network()


def train(directory=None, rounds=6, **options):
    options = {"cohort_size": 2, "support": 0.5, "server": fm.optimisers.adam(0.05), "validate_every": 1, **options}
    return fm.train(fm.MAML(inner_lr=0.2), MODEL, DATA, rounds=rounds, directory=directory, **options)


class Script:
    """A `validate` that gives these figures, one look after another, and keeps the phi of each look."""

    def __init__(self, *values, name="accuracy", first=0):
        self.values, self.name, self.first, self.seen = values, name, first, []

    def __call__(self, phi):
        self.seen.append(toys.flat(phi))
        return {self.name: self.values[self.first + len(self.seen) - 1], "other": 0.0}


@pytest.fixture(scope="module")
def states():
    """The state after each round of a run that nobody stops."""
    seen = []
    simulator = fm.Simulator(
        fm.Federation(fm.MAML(inner_lr=0.2), MODEL, fm.optimisers.adam(0.05)), DATA, cohort_size=2, support=0.5
    )
    state = simulator.init()
    for number in range(1, 7):
        state, figures = simulator.step(state, simulator.draw(number))
        assert figures.metrics
        seen.append(jax.device_get(state))
    return seen


@pytest.mark.parametrize(
    ("name", "values", "patience", "ends", "best"),
    [
        ("accuracy", (0.1, 0.5, 0.4, 0.4, 0.9, 0.9), 2, 4, 2),
        ("accuracy", (0.1, 0.5, 0.4, 0.6, 0.5, 0.5), 2, 6, 4),
        ("accuracy", (0.1, 0.5, 0.5, 0.5, 0.5, 0.9), 3, 5, 2),
        ("loss", (3.0, 2.0, 2.5, 1.0, 1.5, 1.5), 2, 6, 4),
        ("loss", (1.0, 2.0, 0.5, 0.4, 0.3, 0.2), 1, 2, 1),
        ("absolute_error", (1.0, 0.5, 0.7, 0.8, 0.1, 0.1), 2, 4, 2),
        ("accuracy", (0.1, 0.2, 0.3, 0.4, 0.5, 0.6), 1, 6, 6),
    ],
)
def test_a_run_stops_after_so_many_looks_without_a_better_one(name, values, patience, ends, best, states, tmp_path):
    script, told = Script(*values, name=name), []
    run = train(tmp_path, validate=script, patience=patience, monitor=name, listeners=[told.append])
    assert len(run.rows) == int(run.state.round) == ends
    assert toys.same_bits(run.state, states[ends - 1])
    assert toys.same_bits(run.best, states[best - 1])
    assert toys.same_bits(run.phi, states[best - 1].phi)
    assert toys.same_bits(pytrees.load(tmp_path / "model.safetensors", run.phi), run.phi)
    done = told[-1]
    assert isinstance(done, RunEnded)
    assert done.rounds == ends
    why = f"no better validation {name} than that of round {best} in {patience} looks"
    assert done.stopped == (why if ends - best >= patience else "")
    assert pytrees.load_metadata(tmp_path / "model.safetensors")["stopped"] == done.stopped


@pytest.mark.parametrize(
    ("figures", "monitored"),
    [({"accuracy": 0.5, "loss": 1.0}, "accuracy"), ({"loss": 1.0, "absolute_error": 2.0}, "loss")],
)
def test_where_no_figure_is_named_it_is_accuracy_or_the_loss(figures, monitored):
    told = []
    train(rounds=3, validate=lambda phi: figures, patience=1, listeners=[told.append])
    assert told[-1].stopped.startswith(f"no better validation {monitored} than that of round 1 in 1 looks")


def test_a_figure_that_validate_does_not_give_is_named(tmp_path):
    with pytest.raises(UsageError, match="validate gives no 'accurracy' to stop by; it gives accuracy, other"):
        train(tmp_path, validate=Script(*[0.5] * 6), patience=1, monitor="accurracy")
    assert kept(tmp_path) == 1, "the round is done, though nobody can say how good it is"


def test_patience_needs_a_validation_and_is_at_least_one():
    with pytest.raises(UsageError, match="patience is about a validation figure: give validate, too"):
        train(patience=1)
    with pytest.raises(UsageError, match="patience must be at least 1, not 0"):
        train(validate=Script(), patience=0)


def test_without_patience_nothing_is_stopped_and_no_best_state_is_kept(states):
    run = train(validate=Script(0.9, *[0.1] * 5))
    assert run.best is None
    assert toys.same_bits(run.phi, states[-1].phi)


@pytest.mark.parametrize("interrupted", [False, True])
def test_the_best_round_is_the_result_of_a_run_that_selects_it_and_nothing_stops_it(interrupted, states, tmp_path):
    figures = (0.1, 0.9, 0.2, 0.2, 0.2, 0.2)
    if interrupted:
        train(tmp_path, rounds=3, validate=Script(*figures), select="best")
    run = train(tmp_path, validate=Script(*figures[3 * interrupted :]), select="best")
    assert len(run.rows) == 6
    assert toys.same_bits(run.state, states[-1])
    assert toys.same_bits(run.phi, states[1].phi)
    assert toys.same_bits(pytrees.load(tmp_path / "model.safetensors", run.phi), run.phi)
    last = train(validate=Script(*figures), select="last")
    assert toys.same_bits(last.phi, states[-1].phi)


def test_what_is_selected_is_the_best_or_the_last():
    with pytest.raises(UsageError, match="select must be 'last' or 'best', not 'first'"):
        Best("first", None, None)
    with pytest.raises(UsageError, match="select='best' is about a validation figure: give validate, too"):
        train(select="best")
    with pytest.raises(UsageError, match="select='last' has no meaning beside patience"):
        train(validate=Script(), select="last", patience=2)


def test_a_figure_that_is_no_number_is_never_the_best(states):
    nan = float("nan")
    run = train(validate=Script(nan, nan, 0.2, nan, 0.1, 0.1), patience=3)
    assert toys.same_bits(run.best, states[2])
    run = train(validate=Script(nan, nan, 0.2), patience=2)
    assert len(run.rows) == 2
    assert run.best is None
    assert toys.same_bits(run.phi, states[1].phi)


def kept(folder):
    """How many rounds the checkpoint has, of which the rows are there too."""
    done = pytrees.load_metadata(folder / "checkpoint" / "state.safetensors")["round"]
    history = folder / "metrics.jsonl"
    rows = [json.loads(line) for line in history.read_text().splitlines()] if history.exists() else []
    assert [row["round"] for row in rows] == list(range(1, len(rows) + 1))
    assert len(rows) >= done
    return done


def contents(folder):
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for row in rows:
        row.pop("seconds")
    files = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.safetensors")}
    return rows, files


VALUES = (0.1, 0.5, 0.4, 0.6, 0.5, 0.5)


@pytest.mark.parametrize("dies", [1, 2, 3, 4, 5])
def test_a_run_that_is_interrupted_stops_where_it_would_have_with_the_same_best(dies, tmp_path):
    """Checkpoints come every second round; what is run again gives what it gave."""

    class Dead(Exception):
        pass

    def die(event):
        if isinstance(event, RoundEnded) and event.round == dies:
            raise Dead

    options = {"patience": 2, "checkpoint_every": 2, "rounds": 6}
    whole = train(tmp_path / "whole", validate=Script(*VALUES), **options)
    with pytest.raises(Dead):
        train(tmp_path / "parts", validate=Script(*VALUES), listeners=[die], **options)
    assert kept(tmp_path / "parts") == dies
    again = train(tmp_path / "parts", validate=Script(*VALUES, first=dies), **options)
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")
    assert toys.same_bits((again.state, again.best), (whole.state, whole.best))


def test_a_run_that_has_stopped_stays_so(tmp_path, states):
    options = {"patience": 2, "validate": Script(0.1, 0.5, 0.4, 0.4)}
    train(tmp_path, **options)
    before = contents(tmp_path)
    told = []
    run = train(tmp_path, listeners=[told.append], **options)
    assert contents(tmp_path) == before
    assert toys.same_bits(run.best, states[1])
    assert told[-1].stopped.startswith("no better validation accuracy than that of round 2")


def test_a_longer_patience_goes_on(tmp_path, states):
    train(tmp_path, patience=2, validate=Script(0.1, 0.5, 0.4, 0.4))
    run = train(tmp_path, patience=4, validate=Script(0.1, 0.5, 0.4, 0.4, 0.9, 0.1, first=4))
    assert len(run.rows) == 6
    assert toys.same_bits(run.best, states[4])


def test_patience_that_is_given_later_looks_from_then_on(tmp_path, states):
    """The best state of the rounds before was not kept: none of them can be the result."""
    train(tmp_path, rounds=3, validate=Script(0.1, 0.9, 0.4))
    run = train(tmp_path, rounds=6, patience=2, validate=Script(0.5, 0.6, 0.5))
    assert len(run.rows) == 6
    assert toys.same_bits(run.best, states[4])


def test_another_figure_to_stop_by_looks_from_then_on(tmp_path, states):
    def validate(phi):
        return dict(zip(("accuracy", "loss"), next(figures), strict=True))

    figures = iter([(0.1, 1.0), (0.9, 2.0), (0.4, 3.0), (0.1, 7.0), (0.1, 6.0), (0.1, 9.0)])
    train(tmp_path, rounds=3, validate=validate, patience=5, monitor="accuracy")
    run = train(tmp_path, rounds=6, validate=validate, patience=3, monitor="loss")
    assert toys.same_bits(run.best, states[4])


# Listeners.


def test_a_listener_that_asks_for_it_stops_the_run_after_its_round(tmp_path, states):
    def stop(event):
        return STOP if isinstance(event, RoundEnded) and event.round == 3 else None

    told = []
    run = train(tmp_path, listeners=[told.append, stop, told.append], checkpoint_every=5)
    assert len(run.rows) == kept(tmp_path) == 3
    assert toys.same_bits(run.state, states[2])
    assert [type(event).__name__ for event in told[-4:]] == ["RoundEnded"] * 2 + ["RunEnded"] * 2, "all of them hear"
    assert told[-1].stopped == "a listener asked for it"
    assert pytrees.load_metadata(tmp_path / "model.safetensors")["rounds"] == 3
    assert toys.same_bits(train(tmp_path).state, states[-1]), "without it, the run goes on"


@pytest.mark.parametrize("answer", [None, True, "stop", 0])
def test_any_other_answer_of_a_listener_says_nothing(answer):
    assert len(train(rounds=2, listeners=[lambda event: answer]).rows) == 2


@pytest.mark.parametrize("fails", [1, 3, 6])
@pytest.mark.parametrize("who", ["listener", "validate"])
def test_whoever_raises_the_rounds_so_far_are_kept(who, fails, tmp_path, states):
    class Broken(Exception):
        pass

    def listener(event):
        if isinstance(event, RoundEnded) and event.round == fails and who == "listener":
            raise Broken

    def validate(phi):
        looks.append(phi)
        if len(looks) == fails and who == "validate":
            raise Broken
        return {"accuracy": 0.5}

    looks = []
    with pytest.raises(Broken):
        train(tmp_path, validate=validate, listeners=[listener], checkpoint_every=100)
    # A round counts once its row is written, which comes after the look and before the listeners hear of it.
    done = fails if who == "listener" else fails - 1
    assert kept(tmp_path) == done
    if done:
        state = pytrees.load(tmp_path / "checkpoint" / "state.safetensors", states[0])
        assert toys.same_bits(state, states[done - 1])
    who = ""
    assert toys.same_bits(train(tmp_path, validate=validate).state, states[-1])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (None, "validate must return figures by name"),
        (0.5, "validate must return figures by name"),
        ({"accuracy": "high"}, "validate must return single numbers, and 'accuracy' is 'high'"),
        ({"accuracy": np.ones(3)}, "validate must return single numbers"),
    ],
    ids=str,
)
def test_what_is_no_figure_is_named(given, said):
    with pytest.raises(UsageError, match=said):
        train(rounds=1, validate=lambda phi: given)


def test_figures_of_numpy_and_jax_are_taken():
    run = train(rounds=1, validate=lambda phi: {"a": np.float32(0.5), "b": jax.numpy.ones(()), "c": np.ones((1,))[0]})
    assert [run.rows[0][f"validation_{name}"] for name in "abc"] == [0.5, 1.0, 1.0]
