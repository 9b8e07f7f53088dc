"""The round loop: who takes part, what is told, what stops it, and that it repeats."""

from functools import partial

import jax
import numpy as np
import optax
import pytest

import fedmeta as fm
from fedmeta import pytrees
from fedmeta._engine.padding import PaddingBuckets
from fedmeta.errors import Diverged, UsageError
from fedmeta.simulation import simulator
from tests import toys

ALGORITHM = fm.MAML(inner_lr=0.2)
ADAM = optax.adam(0.01)


def train(model, data, algorithm=ALGORITHM, **options):
    return fm.train(
        algorithm, model, data, **{"rounds": 3, "cohort_size": 2, "server": ADAM, "support": 0.4, **options}
    )


def test_the_same_seed_gives_the_same_bits_and_another_seed_another_run(data):
    first, second = (train(toys.network(), data, seed=1) for _ in range(2))
    assert toys.same_bits(first.state, second.state)
    assert first.history.drop_columns("seconds").equals(second.history.drop_columns("seconds"))
    other = train(toys.network(), data, seed=2)
    assert first.history["clients"] != other.history["clients"]
    assert not toys.same_bits(first.state, other.state)


def test_a_cohort_is_drawn_without_replacement_and_everyone_has_a_turn(model, data):
    cohorts = train(model, data, rounds=20, cohort_size=4).history["clients"].to_pylist()
    assert all(len(set(cohort)) == 4 for cohort in cohorts)
    assert {name for cohort in cohorts for name in cohort} == set(data.client_ids)
    assert len({tuple(cohort) for cohort in cohorts}) > 10


def test_cohorts_do_not_depend_on_the_algorithm(model, data):
    """So that algorithms are compared on the same draws."""
    cohorts = [train(model, data, algorithm).history["clients"] for algorithm in (ALGORITHM, fm.FedAvg())]
    assert cohorts[0] == cohorts[1]


def test_cohorts_and_batches_do_not_depend_on_how_clients_are_packed(model, monkeypatch):
    data = toys.classification((4, 12, 5, 12, 7, 12))
    algorithm = fm.MAML(inner_lr=0.5, inner_epochs=2, inner_batch_size=2)
    runs = []
    for limit in (1, 4):
        monkeypatch.setattr(simulator, "PaddingBuckets", partial(PaddingBuckets, limit=limit))
        runs.append(train(model, data, algorithm))
    assert runs[0].history["clients"] == runs[1].history["clients"]
    # Other batches would show in the second digit.
    toys.assert_close(runs[0].state.phi, runs[1].state.phi, rtol=1e-4, atol=1e-6)
    other_batches = train(model, data, algorithm, seed=1)
    assert np.abs(toys.flat(other_batches.state.phi) - toys.flat(runs[0].state.phi)).max() > 1e-2


def test_support_and_query_are_drawn_anew_in_each_round(data):
    first, second = (data.task("c3", 0.5, 0, round=number) for number in (1, 2))
    assert not np.array_equal(first.support.x, second.support.x)


def test_listeners_hear_of_the_start_of_every_round_and_of_the_end(model, data, tmp_path):
    events = []
    run = train(model, data, directory=tmp_path, listeners=[events.append])
    started, *rounds, ended = events
    numbers = (toys.FEATURES + 1) * 4 + (4 + 1) * toys.CLASSES
    assert started == fm.events.RunStarted(
        rounds=3, done=0, clients=6, left_out=0, parameters=numbers, directory=tmp_path
    )
    assert ended == fm.events.RunEnded(3)
    assert [event.round for event in rounds] == [1, 2, 3]
    assert all(len(event.clients) == 2 and event.seconds > 0 for event in rounds)
    assert [event.row() for event in rounds] == list(run.rows)


def test_the_history_has_a_row_a_round(model, data):
    history = train(model, data).history
    assert history["round"].to_pylist() == [1, 2, 3]
    assert set(history.column_names) == {
        "round",
        "loss",
        "accuracy",
        "bytes_down",
        "bytes_up",
        "flops",
        "seconds",
        "clients",
    }
    assert all(len(names) == 2 for names in history["clients"].to_pylist())


def test_validate_is_called_as_often_as_asked_and_after_the_last_round(model, data):
    seen = []

    def validate(phi):
        seen.append(toys.flat(phi))
        return {"score": float(len(seen))}

    run = train(model, data, rounds=5, validate=validate, validate_every=2)
    assert run.history["validation_score"].to_pylist() == [None, 1.0, None, 2.0, 3.0]
    np.testing.assert_array_equal(seen[-1], toys.flat(run.state.phi))
    assert not np.array_equal(seen[0], seen[1])


def test_validation_changes_nothing(model, data):
    plain, validated = train(model, data), train(model, data, validate=lambda phi: {}, validate_every=1)
    assert toys.same_bits(plain.state, validated.state)


def test_clients_that_cannot_be_split_take_no_part(model):
    data = toys.classification((6, 1, 8, 1, 7))
    events = []
    with pytest.warns(UserWarning, match="2 of 5 clients have fewer than 2 examples"):
        run = train(model, data, rounds=4, listeners=[events.append])
    assert (events[0].clients, events[0].left_out) == (3, 2)
    assert {name for cohort in run.history["clients"].to_pylist() for name in cohort} == {"c0", "c2", "c4"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"cohort_size": 7}, "cohort_size must lie between 1 and the 6 clients that can train, not 7"),
        ({"cohort_size": 0}, "cohort_size must lie between 1 and .* not 0"),
        ({"support": 0.0}, "must lie between 0 and 1"),
        ({"support": 1.0}, "must lie between 0 and 1"),
        ({"rounds": 0}, "rounds must be at least 1, not 0"),
        ({"validate_every": 0}, "validate_every must be at least 1, not 0"),
        ({"checkpoint_every": -1}, "checkpoint_every must be at least 1, not -1"),
        ({"max_examples": 1}, "max_examples must be at least 2"),
    ],
)
def test_an_argument_out_of_range_is_named(model, data, tmp_path, options, said):
    with pytest.raises(UsageError, match=said):
        train(model, data, directory=tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_a_model_that_does_not_fit_the_data_is_refused_before_anything_is_written(data, tmp_path):
    for wrong in (fm.models.mlp((4, 3)), fm.models.mlp((toys.FEATURES, 2))):
        with pytest.raises(UsageError, match="the model"):
            train(wrong, data, directory=tmp_path / "run")
    with pytest.raises(UsageError, match="the targets are numbers"):
        train(fm.models.mlp((toys.FEATURES, 3)), toys.regression(), directory=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["maml", "fedavg"])
def test_a_run_that_diverges_stops_names_client_and_round_and_keeps_the_state_before(name, tmp_path):
    """One client's inputs are so large that its update overflows; the rounds without it go well."""
    data = toys.regression()
    model = fm.models.mlp((toys.FEATURES, 1), loss=fm.losses.squared_error)
    algorithm = toys.algorithm(name, inner_lr=0.01)
    calm = train(model, data, algorithm, rounds=20)
    cohorts = calm.history["clients"].to_pylist()
    # A client whose first turn comes late, so that there is a good state to keep.
    turns = {client: next(k for k, cohort in enumerate(cohorts, 1) if client in cohort) for client in data.client_ids}
    culprit = max(turns, key=turns.get)
    rows = toys.client_rows(data, data.position(culprit))
    x = np.array(data.x)
    x[rows] = 3e38
    broken = fm.data.FederatedDataset(x, data.y, data.starts, data.sizes, data.ids, data.info)
    told = []
    with pytest.raises(Diverged, match=f"round {turns[culprit]}: the update of client '{culprit}' is not finite"):
        train(model, broken, algorithm, rounds=20, directory=tmp_path, listeners=[told.append])
    good = turns[culprit] - 1
    assert good >= 1
    assert [event.round for event in told[1:]] == list(range(1, good + 1))
    expected = train(model, data, algorithm, rounds=good)
    kept = pytrees.load(tmp_path / "checkpoint" / "state.safetensors", expected.state)
    assert toys.same_bits(kept, expected.state)
    assert not (tmp_path / "model.safetensors").exists()


def test_a_servers_step_that_diverges_is_told_apart(model, data):
    with pytest.raises(Diverged, match="round 1: the server's step is not finite"):
        train(model, data, server=optax.scale(float("inf")))


def test_max_examples_bounds_what_a_client_brings(model, data):
    """Weighted by examples, clients of 6 and 12 examples that bring at most 5 weigh the same."""
    options = {"cohort_size": 6, "rounds": 1, "max_examples": 5}
    by_examples = fm.MAML(inner_lr=0.2, weighting="examples")
    runs = [train(model, data, algorithm, **options) for algorithm in (by_examples, ALGORITHM)]
    toys.assert_close(runs[0].state.phi, runs[1].state.phi)
    assert runs[0].rows[0]["flops"] < train(model, data, cohort_size=6, rounds=1).rows[0]["flops"]


def sinusoids(clients, seed):
    """Each client is a sine wave with its own amplitude and phase, and 20 points on it."""
    draw = np.random.default_rng(seed)
    x = draw.uniform(-2, 2, size=(clients, 20, 1))
    amplitude, phase = draw.uniform(1, 3, size=(clients, 1, 1)), draw.uniform(0, 2 * np.pi, size=(clients, 1, 1))
    y = amplitude * np.sin(1.5 * x - phase)
    return fm.data.from_arrays(x.reshape(-1, 1), y.reshape(-1), np.repeat(np.arange(clients), 20))


def test_maml_learns_to_fit_an_unseen_sinusoid_from_ten_points():
    """No model that does not adapt can: over all phases the mean wave is flat."""
    model = fm.models.mlp((1, 32, 32, 1), loss=fm.losses.squared_error, activation=jax.nn.tanh)
    algorithm = fm.MAML(inner_lr=0.1, inner_steps=2)
    train, unseen = sinusoids(100, 0), sinusoids(30, 1)
    run = fm.train(algorithm, model, train, rounds=150, cohort_size=8, server=optax.adam(5e-3), support=0.5)
    report = fm.evaluate(algorithm, model, run.state.phi, unseen, support=0.5)
    assert report.after.pooled["loss"] < 0.5 * report.before.pooled["loss"]
    untrained = fm.evaluate(algorithm, model, model.init(jax.random.key(0)), unseen, support=0.5)
    assert report.after.pooled["loss"] < 0.5 * untrained.after.pooled["loss"]
