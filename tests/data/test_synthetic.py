import numpy as np
import pytest
from click.testing import CliRunner
from scipy.optimize import linprog

import fedmeta as fm
from fedmeta.cli.data import data as command
from fedmeta.data import synthetic
from fedmeta.errors import UsageError


def load(num_clients, **options):
    return fm.data.load("synthetic", num_clients=num_clients, **options)


def assert_same_client(one, other):
    np.testing.assert_array_equal(one.x, other.x)
    np.testing.assert_array_equal(one.y, other.y)


@pytest.mark.parametrize(("few", "many"), [(1, 3), (3, 256), (256, 257), (300, 600)])
def test_a_larger_data_set_begins_with_the_clients_of_a_smaller_one(few, many):
    small, large = load(few, features=5, seed=4), load(many, features=5, seed=4)
    assert large.client_ids == [str(client) for client in range(many)]
    assert small.client_ids == large.client_ids[:few]
    for name in small.client_ids:
        assert_same_client(small[name], large[name])


def test_seeds_give_other_clients():
    assert not np.array_equal(load(1, seed=0)["0"].x, load(1, seed=1)["0"].x)


def test_what_is_stored_is_what_is_loaded(tmp_path):
    said = []
    stored = synthetic.write(tmp_path / "set", 300, features=7, classes=3, beta=0.5, seed=2, progress=said.append)
    loaded = load(300, features=7, classes=3, beta=0.5, seed=2)
    assert said == [256, 300]
    assert (stored.info, stored.client_ids) == (loaded.info, loaded.client_ids)
    for name in loaded.client_ids:
        assert_same_client(stored[name], loaded[name])


def test_sizes_have_the_mean_that_is_asked_for_and_a_bound():
    sizes = load(20_000, features=1, examples=30).sizes
    # The bound costs a little of the mean: E[min(e^(z - 1/2), 9)] is 0.987.
    assert sizes.mean() == pytest.approx(15 * 1.987, rel=0.02)
    assert sizes.min() >= 15
    assert sizes.max() == 150


def test_inputs_have_the_moments_of_the_paper():
    """Within a client the variance is j^-1.2; centres spread by 1 about a mean per client, and these by beta."""
    beta = 2.0
    data = load(4000, features=6, beta=beta)
    means = np.stack([data[name].x.mean(axis=0) for name in data.client_ids])
    within = data.x - np.repeat(means, data.sizes, axis=0)
    variance = np.square(within).sum(axis=0) / (data.num_examples - data.num_clients)
    expected = np.arange(1, 7) ** -1.2
    np.testing.assert_allclose(variance, expected, rtol=0.03)
    sampling = np.mean(1 / data.sizes) * expected
    np.testing.assert_allclose(means.var(axis=0), beta**2 + 1 + sampling, rtol=0.1)
    assert np.cov(means[:, 0], means[:, 5])[0, 1] == pytest.approx(beta**2, rel=0.1)


def separable(x, y):
    """Whether a hyperplane parts the two classes: whether the linear programme has a solution."""
    rows = np.concatenate([x, np.ones((len(x), 1))], axis=1) * np.where(y == 1, -1, 1)[:, None]
    return linprog(np.zeros(rows.shape[1]), rows, -np.ones(len(rows)), bounds=(None, None)).status == 0


def test_a_clients_labels_are_those_of_a_linear_model_of_its_own():
    data = load(8, features=2, classes=2, examples=80, beta=0.0, seed=1)
    clients = [data[name] for name in data.client_ids]
    mixed = [client for client in clients if np.bincount(client.y, minlength=2).min() > 5]
    assert len(mixed) >= 4
    assert all(separable(client.x, client.y) for client in mixed)
    assert not any(separable(client.x, np.random.default_rng(0).permutation(client.y)) for client in mixed)
    assert not separable(np.concatenate([c.x for c in mixed]), np.concatenate([c.y for c in mixed]))


def test_alpha_does_not_change_the_labels():
    """It shifts the scores of all classes alike; only rounding is left."""
    one, other = load(200, alpha=0.0), load(200, alpha=3.0)
    np.testing.assert_array_equal(one.x, other.x)
    assert np.mean(one.y != other.y) < 1e-3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_clients": 0}, "num_clients must be a number of at least 1, not 0"),
        ({"features": 0}, "features"),
        ({"classes": 1}, "classes must be a number of at least 2, not 1"),
        ({"examples": 3}, "examples"),
        ({"alpha": -1.0}, "alpha"),
        ({"beta": float("nan")}, "beta must be a number of at least 0, not nan"),
    ],
)
def test_numbers_out_of_range_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        load(**{"num_clients": 2, **options})


def test_an_interrupt_leaves_nothing(tmp_path):
    def interrupt(done):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        synthetic.write(tmp_path / "set", 300, features=2, progress=interrupt)
    assert list(tmp_path.iterdir()) == []


def test_the_command_stores_what_was_asked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["synthetic", "--clients", "300", "--out", "set", "--features", "3", "--classes", "4", "--seed", "5"]
    done = CliRunner().invoke(command, words, catch_exceptions=False)
    stored = fm.data.open("set")
    assert done.stdout == f"300 clients with {stored.num_examples:,} examples are in set\n"
    assert_same_client(stored["299"], load(300, features=3, classes=4, seed=5)["299"])
    with pytest.raises(UsageError, match="exists already"):
        CliRunner().invoke(command, words, catch_exceptions=False)
