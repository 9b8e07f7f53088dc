"""How pooled examples are spread over clients: every example once, and what each way promises."""

from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fedmeta as fm
from fedmeta.data.partitioners import PARTITIONERS, make
from fedmeta.data.splits import InTime
from fedmeta.errors import UnknownName, UsageError
from fedmeta.study import spelling


def pooled(examples=300, classes=5, seed=0):
    """Examples whose x is their number, of three clients."""
    draw = np.random.default_rng(seed)
    y = np.concatenate([np.arange(classes), draw.integers(0, classes, examples - classes)])
    x = np.stack([np.arange(examples), draw.integers(0, 4, examples)], axis=1).astype(np.float32)
    owner = draw.integers(0, 3, examples)
    return fm.data.from_arrays(x, y, owner, features=["number", "group"], classes=classes)


WAYS = (
    fm.data.by_classes(clients=12, count=2),
    fm.data.dirichlet(clients=9, alpha=0.5),
    fm.data.by_quantity(clients=20, alpha=0.5, smallest=3),
    fm.data.by_column(column="group"),
    fm.data.by_column(column="number", parts=7),
)


def contents(data):
    """Each example's number and label, client by client."""
    return [dict(zip(data[name].x[:, 0].tolist(), data[name].y.tolist(), strict=True)) for name in data.client_ids]


@pytest.mark.parametrize("way", WAYS, ids=repr)
def test_every_example_is_some_clients_with_its_own_label(way):
    data = pooled()
    found = contents(fm.data.partition(data, way))
    together = {number: label for client in found for number, label in client.items()}
    assert sum(map(len, found)) == len(together) == data.num_examples
    assert together == {number: label for client in contents(data) for number, label in client.items()}


@pytest.mark.parametrize("way", [*WAYS[:3], fm.data.concept_shift(share=0.5)], ids=repr)
def test_the_same_seed_spreads_the_same_and_another_does_not(way):
    data = pooled()
    same, again, other = (fm.data.partition(data, replace(way, seed=seed)) for seed in (1, 1, 2))
    assert contents(same) == contents(again) != contents(other)
    assert same.fingerprint == again.fingerprint != other.fingerprint


def test_clients_that_are_chosen_before_are_all_that_is_pooled():
    data = pooled().select([0, 2])
    found = contents(fm.data.partition(data, fm.data.by_quantity(clients=4, alpha=5.0)))
    assert {n for client in found for n in client} == {n for client in contents(data) for n in client}


def test_each_holds_its_number_of_classes():
    data = fm.data.partition(pooled(), fm.data.by_classes(clients=10, count=2))
    assert all(len(np.unique(data[name].y)) == 2 for name in data.client_ids)


def shares(data):
    """The share of each class in each client, shape [clients, classes]."""
    counts = np.array([np.bincount(data[name].y, minlength=data.num_classes) for name in data.client_ids])
    return counts / counts.sum(axis=1, keepdims=True)


def test_a_large_alpha_makes_clients_alike_and_a_small_one_does_not():
    data = pooled(2000)
    alike, apart = (
        shares(fm.data.partition(data, fm.data.dirichlet(clients=8, alpha=alpha, smallest=1))) for alpha in (1e5, 0.05)
    )
    overall = np.bincount(data.y) / 2000
    assert np.abs(alike - overall).max() < 0.02
    assert apart.max(axis=1).mean() > 0.6


@given(st.integers(0, 30))
def test_quantities_differ_and_labels_do_not(seed):
    data = pooled(2000)
    spread = fm.data.partition(data, fm.data.by_quantity(clients=10, alpha=0.3, smallest=5, seed=seed))
    assert spread.sizes.min() >= 5
    large = spread.sizes >= 300
    assert large.any()
    assert np.abs(shares(spread)[large] - np.bincount(data.y) / 2000).max() < 0.12


def test_a_dirichlet_draw_has_the_distribution_s_mean_and_variance():
    """Var of a share is (1/n)(1 - 1/n) / (n alpha + 1) for n clients."""
    data = pooled(4000, classes=40)
    found = []
    for seed in range(6):
        spread = fm.data.partition(data, fm.data.dirichlet(clients=4, alpha=0.5, smallest=0, seed=seed))
        counts = np.array([np.bincount(spread[name].y, minlength=40) for name in spread.client_ids])
        found.append(counts / counts.sum(axis=0))
    held = np.array(found)
    assert held.mean() == pytest.approx(0.25)
    assert held.var() == pytest.approx(0.25 * 0.75 / 3, rel=0.15)


def test_a_column_of_numbers_is_cut_at_its_quantiles():
    data = fm.data.partition(pooled(), fm.data.by_column(column="number", parts=3))
    assert [sorted(client) for client in contents(data)] == [
        list(range(first, last)) for first, last in ((0, 100), (100, 200), (200, 300))
    ]
    assert data.client_ids == ["1: 0 to 99", "2: 100 to 199", "3: 200 to 299"]
    each = fm.data.partition(pooled(), fm.data.by_column(column="group"))
    assert each.client_ids == [f"group = {value}" for value in range(4)]
    assert all((each[name].x[:, 1] == place).all() for place, name in enumerate(each.client_ids))


def test_a_category_gives_a_client_for_each_of_its_values():
    x = np.array([[1, 0, 5], [0, 1, 6], [0, 0, 7], [1, 0, 8]], np.float32)
    data = fm.data.from_arrays(x, [0, 1, 0, 1], ["u"] * 4, features=["ward = east", "ward = west", "age"])
    spread = fm.data.partition(data, fm.data.by_column(column="ward"))
    assert spread.client_ids == ["ward = east", "ward = west", "ward = none"]
    assert [spread[name].x[:, 2].tolist() for name in spread.client_ids] == [[5, 8], [6], [7]]
    with pytest.raises(UsageError, match="no quantiles"):
        fm.data.partition(data, fm.data.by_column(column="ward", parts=2))
    with pytest.raises(UnknownName, match="did you mean 'ward'"):
        fm.data.partition(data, fm.data.by_column(column="wards"))


@given(st.sampled_from([0.0, 0.3, 0.5, 1.0]), st.integers(0, 20))
def test_labels_are_permuted_for_a_share_of_the_clients_and_for_no_other(share, seed):
    data = fm.data.partition(pooled(), fm.data.by_quantity(clients=10, alpha=5.0))
    shifted = fm.data.partition(data, fm.data.concept_shift(share=share, seed=seed))
    changed = 0
    for name in data.client_ids:
        before, after = data[name], shifted[name]
        np.testing.assert_array_equal(before.x, after.x)
        pairs = set(zip(before.y.tolist(), after.y.tolist(), strict=True))
        assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs}), "one to one"
        changed += any(a != b for a, b in pairs)
    # A permutation may move only classes that the client does not have.
    assert changed <= round(share * 10)
    assert changed >= round(share * 10) - 1
    assert shifted.split == data.split


def test_a_concept_shift_keeps_a_split_in_time_and_pooling_does_not():
    data = replace(pooled(), split=InTime(2))
    assert fm.data.partition(data, fm.data.concept_shift(share=1.0)).split == InTime(2)
    assert fm.data.partition(data, WAYS[0]).split.gap == 0
    with pytest.raises(UsageError, match="candidates of each client's own"):
        fm.data.partition(replace(data, split=InTime(support=0.2)), WAYS[0])


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("dirichlet", {"clients": 3, "alpha": 0.0}, "alpha must be a number above 0"),
        ("dirichlet", {"clients": 0, "alpha": 1.0}, "clients must be a whole number of at least 1"),
        ("dirichlet", {"clients": 3}, "needs alpha"),
        ("by_quantity", {"clients": 3, "alpha": -1.0}, "alpha must be"),
        ("by_column", {"column": "a", "parts": 1}, "parts must be a whole number of at least 2"),
        ("concept_shift", {"share": 1.5}, "share must be a number from 0 to 1"),
        ("by_classes", {"clients": 3, "count": 0}, "count must be"),
        ("by_class", {}, "did you mean 'by_classes'"),
        ("dirichlet", {"client": 3}, "did you mean 'clients'"),
    ],
)
def test_options_out_of_range_are_refused(name, options, said):
    with pytest.raises(UsageError, match=said):
        make(name, **options)


def test_what_cannot_be_spread_is_refused():
    numbers = fm.data.from_arrays(np.zeros((4, 1)), [0.5, 1.5, 2.5, 3.5], ["a"] * 4)
    for way in (WAYS[0], WAYS[1], fm.data.concept_shift(share=0.5)):
        with pytest.raises(UsageError, match="has no classes"):
            fm.data.partition(numbers, way)
    with pytest.raises(UsageError, match="no names of columns"):
        fm.data.partition(numbers, WAYS[3])
    for way in (fm.data.dirichlet(clients=200, alpha=1.0), fm.data.by_quantity(clients=200, alpha=1.0)):
        with pytest.raises(UsageError, match="300 examples are too few for 200 clients"):
            fm.data.partition(pooled(), way)
    with pytest.raises(UsageError, match=r"in 200 draws with alpha=0\.001"):
        fm.data.partition(pooled(60), fm.data.dirichlet(clients=30, alpha=0.001))


@pytest.mark.parametrize("name", PARTITIONERS)
def test_every_way_is_found_by_its_name(name):
    options = {"clients": 5, "alpha": 0.5, "count": 2, "column": "group", "share": 0.5}
    way = make(
        name, **{key: value for key, value in options.items() if key in [f.name for f in fields(PARTITIONERS[name])]}
    )
    assert way.name == name
    assert getattr(fm.data, name) is PARTITIONERS[name]
    text = f"{name}:" + ",".join(f"{key}={value}" for key, value in vars(way).items() if value is not None)
    assert [make(**step) for step in spelling.partition(text)] == [way]


def test_steps_are_spelled_and_resolved():
    steps = spelling.partition("dirichlet:clients=6,alpha=1+concept_shift:share=0.5,seed=3")
    assert [step["name"] for step in steps] == ["dirichlet", "concept_shift"]
    found = fm.data.resolve("digits", options={"partition": steps, "num_clients": 10})
    whole = fm.data.load("digits", num_clients=10)
    expected = fm.data.partition(
        fm.data.partition(whole, fm.data.dirichlet(clients=6, alpha=1.0)), fm.data.concept_shift(share=0.5, seed=3)
    )
    assert found.fingerprint == expected.fingerprint
    for wrong in ("dirichlet:alpha", "dirichlet:clients=0,alpha=1", ""):
        with pytest.raises(UsageError):
            spelling.partition(wrong)
    with pytest.raises(UsageError, match="--data-option takes NAME=VALUE"):
        spelling.data_option("candidates")


def test_a_folder_has_no_options_of_its_own(tmp_path, small):
    fm.data.save(small, tmp_path / "kept")
    with pytest.raises(UsageError, match="has no option 'candidates'"):
        fm.data.resolve(str(tmp_path / "kept"), options={"candidates": 4})
    kept = fm.data.resolve(str(tmp_path / "kept"), options={"classes_per_client": 1})
    assert all(len(np.unique(kept[name].y)) == 1 for name in kept.client_ids)
