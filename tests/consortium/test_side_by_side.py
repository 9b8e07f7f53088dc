"""Runs side by side are the runs of `fm.train`, and their clients adapt as `fm` adapts them."""

import jax
import numpy as np
import pytest

import fedmeta as fm
from fedmeta.consortium import hospitals, methods
from fedmeta.consortium.hospitals import INPUTS
from fedmeta.consortium.methods import ALONE, MOST_STEPS, Setting, Trained, own_steps
from fedmeta.consortium.side_by_side import Run
from tests.examples import cells

ROUNDS = 3
SETTINGS = [
    Setting("fedavg", 0.3, 2),
    Setting("fedavg-meta", 0.3, 2, adapt=4),
    Setting("maml", 0.3, 2, 0.05, few=True, adapt=4),
    Setting("meta-sgd", 0.5, 2, 0.05, adapt=4),
    Setting("per-fedavg", 0.3, 1, 0.1, few=True, adapt=4),
]


@pytest.fixture(scope="module")
def drawn():
    return hospitals.drawn(5)


@pytest.fixture(scope="module")
def patients(drawn):
    x = np.concatenate([one.x for one in drawn])
    first = np.cumsum([0, *(len(one) for one in drawn)])
    rows = {one.name: first[place] + np.arange(len(one)) for place, one in enumerate(drawn)}
    return x, np.concatenate([one.y for one in drawn]), rows


@pytest.fixture(scope="module")
def trained(patients):
    x, y, rows = patients
    names = list(rows)
    runs = [Run(seed, {name: rows[name] for name in names[seed : seed + 3]}) for seed in (0, 1)]
    return Trained(x, y, runs, ROUNDS)


@pytest.mark.parametrize("setting", cells(SETTINGS[1::2], SETTINGS), ids=lambda one: one.name)
def test_a_run_comes_out_as_by_train(setting, trained, drawn):
    support, most = setting.draws
    found = trained.phi(setting)
    for place, run in enumerate(trained.runs):
        data = hospitals.dataset(drawn, {name: np.arange(len(drawn[name])) for name in run.clients})
        expected = fm.train(
            setting.algorithm,
            INPUTS.model(methods.MODEL, {}),
            data,
            rounds=ROUNDS,
            cohort_size=len(run.clients),
            server=setting.optimiser,
            support=support,
            max_examples=most,
            seed=run.seed,
        ).phi
        for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(one[place], other, rtol=2e-4, atol=2e-6)


@pytest.mark.parametrize("setting", cells(SETTINGS[2::2], SETTINGS[1:]), ids=lambda one: one.name)
def test_a_client_adapts_as_its_algorithm_does(setting, trained, patients):
    x, y, rows = patients
    support, asked = [rows["zurich"][:7], rows["long-beach"][:40]], [rows["zurich"][50:60], rows["zurich"][60:63]]
    every = trained.adapted(setting, support, [1, 0])
    odds = trained.odds(setting, every, asked)
    model = INPUTS.model(methods.MODEL, {})
    for place, run in enumerate((1, 0)):
        phi = jax.tree.map(lambda leaf, run=run: leaf[run], trained.phi(setting))
        batch = fm.Batch(x[support[place]], y[support[place]])
        own = setting.algorithm.adapt(model, phi, batch, fm.random.default_key())
        logits = np.asarray(model.predict(own, x[asked[place]]))
        assert odds[place].shape == (MOST_STEPS + 1, len(asked[place]))
        np.testing.assert_allclose(odds[place][setting.adapt], logits[:, 1] - logits[:, 0], rtol=2e-4, atol=2e-5)
        start = phi["params"] if setting.name == "meta-sgd" else phi
        before = np.asarray(model.predict(start, x[asked[place]]))
        np.testing.assert_allclose(odds[place][0], before[:, 1] - before[:, 0], rtol=2e-4, atol=2e-5)


def test_alone_starts_from_a_model_that_nobody_trained(trained):
    assert all(not np.asarray(leaf).any() for leaf in jax.tree.leaves(trained.phi(ALONE)))


def test_settings_that_train_alike_are_trained_once():
    pair = Setting("fedavg-meta", 0.3, 2, adapt=4), Setting("fedavg", 0.3, 2)
    assert pair[0].in_training == pair[1].in_training
    assert Setting("maml", 0.3, 2, 0.1).in_training != Setting("maml", 0.3, 2, 0.2).in_training


def test_the_steps_are_chosen_by_the_own_patients_and_the_usual_number(trained, patients, monkeypatch):
    """By plain loops: leave some out, adapt on the rest, add the log losses, and the price of leaving the usual."""
    monkeypatch.setattr(methods, "MOST_STEPS", 4)
    x, y, rows = patients
    setting, own, usual = Setting("fedavg-meta", 0.3, 2), rows["zurich"][3:8], 2
    (chosen,) = own_steps(trained, setting, [own], [0], usual)
    model = INPUTS.model(methods.MODEL, {})
    phi = jax.tree.map(lambda leaf: leaf[0], trained.phi(setting))
    losses = []
    for steps in range(5):
        algorithm = fm.FedAvgMeta(inner_lr=0.3, inner_batch_size=None, adapt_steps=steps)
        loss = np.log((steps + 1) / (usual + 1)) ** 2
        for left in range(len(own)):
            kept = np.delete(own, left)
            params = algorithm.adapt(model, phi, fm.Batch(x[kept], y[kept]), fm.random.default_key())
            logits = np.asarray(model.predict(params, x[own[[left]]]), np.float64)[0]
            loss += np.log(np.exp(logits).sum()) - logits[y[own[left]]]
        losses.append(loss)
    assert chosen == int(np.argmin(losses))


def test_every_hospital_has_a_setting_for_every_algorithm():
    for table in (methods.NEWCOMER, methods.MEMBER):
        assert set(table) == set(methods.TITLES)
        for name, own in table.items():
            assert set(own) == set(hospitals.TITLES)
            assert {setting.name for setting in own.values()} == {name}
            assert all(0 <= setting.adapt <= MOST_STEPS for setting in own.values())


def test_the_procedure_of_a_federation_is_one_that_nodes_take():
    from fedmeta.node.aggregation import Exact

    for name in methods.TITLES:
        procedure = methods.procedure(name, rounds=7)
        assert procedure.rounds == 7
        assert procedure.inputs == INPUTS
        assert Exact(procedure).initial()
