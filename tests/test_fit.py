"""Data that can be used, and models that fit them: each example alone, or with the mask."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import fedmeta as fm
from fedmeta import _fit
from fedmeta._fit import check_fit, drawn_sizes, usable_clients
from tests import toys


def test_clients_that_cannot_be_split_are_left_out_with_a_warning():
    data = toys.classification((3, 1, 2, 1))
    with pytest.warns(UserWarning, match="2 of 4 clients have fewer than 2 examples and are left out"):
        assert usable_clients(data, None).tolist() == [0, 2]


def test_data_in_which_no_client_can_be_split_are_refused():
    with pytest.raises(fm.errors.DataError, match=r"no client of .* has two examples"):
        usable_clients(toys.classification((1, 1)), None)


def test_clients_bring_at_most_max_examples():
    data = toys.classification((3, 9))
    assert drawn_sizes(data, None).tolist() == [3, 9]
    assert drawn_sizes(data, 5).tolist() == [3, 5]
    with pytest.raises(fm.errors.UsageError, match="max_examples must be at least 2"):
        usable_clients(data, 1)


def test_a_model_for_other_inputs_is_refused():
    with pytest.raises(fm.errors.UsageError, match=r"cannot take inputs of shape \(5,\) and type float32"):
        check_fit(fm.models.softmax_regression(4, 3), toys.classification())


def test_a_model_with_too_few_classes_is_refused():
    with pytest.raises(fm.errors.UsageError, match="predicts 2 classes, and the data have 3"):
        check_fit(fm.models.softmax_regression(5, 2), toys.classification())


def test_cross_entropy_on_numbers_is_refused():
    with pytest.raises(fm.errors.UsageError, match="the targets are numbers, not classes"):
        check_fit(fm.models.softmax_regression(5, 3), toys.regression())


def test_what_fits_passes():
    check_fit(fm.models.softmax_regression(5, 3), toys.classification())
    check_fit(fm.models.mlp((5, 1), loss=fm.losses.squared_error), toys.regression())
    assert np.array_equal(usable_clients(toys.classification(), None), np.arange(6))


def test_a_regression_whose_outputs_are_not_as_many_as_the_targets_is_refused():
    with pytest.raises(fm.errors.UsageError, match=r"predicts numbers of shape \(3,\), and the targets have"):
        check_fit(fm.models.mlp((5, 3), loss=fm.losses.squared_error), toys.regression())


def test_a_loss_that_returns_its_mean_is_refused_for_padding_would_count_in_it():
    model = toys.network()
    mean = fm.Model(model.init, model.apply, lambda p, y: fm.losses.softmax_cross_entropy(p, y).mean())
    with pytest.raises(fm.errors.UsageError, match="one value per example"):
        check_fit(mean, toys.classification())


@pytest.mark.parametrize(
    ("apply", "given"),
    [
        (lambda p, x: (x @ p)[None], r"for 3 of them it gives shape \(1, 3\)"),
        (lambda p, x: (x @ p).sum(), r"for 1 of them it gives shape \(\)"),
        (lambda p, x: (x @ p[:, None]).squeeze(), r"for 1 of them it gives shape \(\)"),
        (lambda p, x: {"mean": x @ p, "scale": p}, r"for 1 of them it gives shape \(5,\)"),
        (lambda p, x: (), "for 1 of them it gives no array"),
    ],
    ids=["[1, n]", "a sum", "squeezed", "in a pytree", "nothing"],
)
def test_predictions_without_an_axis_of_examples_are_refused(apply, given):
    model = fm.Model(lambda key: jnp.zeros(5), apply, loss=lambda p, y: jnp.zeros(len(y)))
    with pytest.raises(fm.errors.UsageError, match=f"a leading axis of examples: {given}"):
        check_fit(model, toys.regression())


def test_predictions_may_be_a_pytree_where_the_loss_is_the_users():
    def cross_entropy(predictions, y):
        return optax.softmax_cross_entropy_with_integer_labels(predictions[0], y)

    def apply(params, x):
        return x @ params, x

    def init(key):
        return jax.random.normal(key, (5, 3))

    data = toys.classification()
    check_fit(fm.Model(init, apply, cross_entropy), data)
    with pytest.raises(fm.errors.UsageError, match=r"predicts a tuple, and fm\.losses.softmax_cross_entropy compares"):
        check_fit(fm.Model(init, apply), data)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({}, "init gives no parameters"),
        ({"w": jnp.zeros((0, 3))}, "init gives no parameters"),
        ({"w": jnp.zeros(3), "n": jnp.int32(2)}, "parameter n is of type int32"),
        ({"layers": [{"flag": np.array(True)}]}, "parameter layers/0/flag is of type bool"),
        (jnp.zeros(3, jnp.complex64), "parameter is of type complex64, .* a complex number is two real ones"),
        ({"n": 2}, "parameter n is the Python value 2"),
        ({"f": jnp.tanh}, "parameter f is "),
        ({"key": jax.random.key(0)}, r"parameter key is of type key<fry>"),
    ],
    ids=["nothing", "no rows", "integer", "boolean", "complex", "Python's", "function", "key"],
)
def test_parameters_that_cannot_be_trained_are_refused(params, message):
    model = fm.Model(lambda key: params, lambda p, x: x[:, :3])
    with pytest.raises(fm.errors.UsageError, match=message):
        check_fit(model, toys.classification())


def test_floats_of_python_and_numpy_become_arrays_of_jax():
    model = fm.Model(lambda key: {"w": np.ones((5, 3)), "a": 0.5, "b": np.float64(2)}, lambda p, x: x @ p["w"] * p["a"])
    check_fit(model, toys.classification())
    params = model.init(jax.random.key(0))
    assert all(isinstance(leaf, jax.Array) and leaf.dtype == jnp.float32 for leaf in params.values())
    assert not any(leaf.weak_type for leaf in params.values())
    again = jax.tree.map(lambda p: p - 0.1 * p, params)
    assert [leaf.dtype for leaf in again.values()] == [leaf.dtype for leaf in params.values()]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"init": lambda key: {}["w"]}, "the model's init failed: KeyError: 'w'"),
        ({"apply": lambda p, x: x.nothing}, r"cannot take inputs of shape \(5,\) and type float32: AttributeError"),
        ({"loss": lambda p, y: p[y, 7, 7]}, r"loss cannot compare predictions of shape \(3,\) and type float32"),
        ({"metrics": {"sum": lambda p, y: p.sum()}}, r"sum must give one value per example, shape \(1,\)"),
        ({"loss": lambda p, y: y}, "loss must give real floating-point numbers, not int"),
        ({"metrics": {"wave": lambda p, y: 1j * p[:, 0]}}, "wave must give real floating-point numbers, not complex"),
    ],
    ids=["init", "apply", "loss", "metric", "an integer loss", "a complex metric"],
)
def test_an_error_of_the_users_code_says_which_part_of_the_model_it_is_in(changes, message):
    model = toys.network()
    parts = {"init": model.init, "apply": model.apply, "metrics": {}, **changes}
    with pytest.raises(fm.errors.UsageError, match=message):
        check_fit(fm.Model(**parts), toys.classification())


def init(key):
    a, w = jax.random.split(key)
    return {"a": jax.random.normal(a, (5, 6)) / 2, "w": jax.random.normal(w, (6, 3)) / 2, "scale": jnp.zeros(6)}


def plain(p, x):
    return jnp.tanh(x @ p["a"]) @ p["w"]


def batch_statistics(p, x):
    h = x @ p["a"]
    return jnp.tanh((h - h.mean(0)) / jnp.sqrt(h.var(0) + 1e-5)) @ p["w"]


def hidden_by_a_scale_of_zero(p, x):
    h = x @ p["a"]
    return (h + p["scale"] * (h - h.mean(0))) @ p["w"]


def masked_statistics(p, x, mask):
    h, m = x @ p["a"], mask[:, None]
    count = jnp.maximum(m.sum(), 1.0)
    mean = (h * m).sum(0) / count
    return jnp.tanh((h - mean) / jnp.sqrt((m * (h - mean) ** 2).sum(0) / count + 1e-5)) @ p["w"]


def masked_attention(p, x, mask):
    h = x @ p["a"]
    return jax.nn.softmax(jnp.where(mask > 0, h @ h.T, -jnp.inf)) @ h @ p["w"]


def sorted_and_back(p, x):
    order = jnp.argsort(x[:, 0])
    return plain(p, x[order])[jnp.argsort(order)]


def dropout(p, x, key):
    h = jnp.tanh(x @ p["a"])
    if key is not None:
        h = jnp.where(jax.random.bernoulli(key, 0.5, h.shape), 2 * h, 0.0)
    return h @ p["w"]


def mixed_by_its_noise(p, x, key):
    return plain(p, x) if key is None else plain(p, x + 0.1 * jax.random.normal(key, (5,)) * x.std(0))


def until_the_weights_have_settled(p, x):
    w = jax.lax.stop_gradient(p["w"])
    u = jax.lax.while_loop(lambda s: s[0] < 20, lambda s: (s[0] + 1, w @ (w.T @ s[1]) / 10), (0, jnp.ones(6)))[1]
    return plain(p, x) / (1 + jnp.abs(u).max())


def attention(p, x):
    h = x @ p["a"]
    return jax.nn.softmax(h @ h.T) @ h @ p["w"]


def contrastive(predictions, y):
    return optax.softmax_cross_entropy_with_integer_labels(predictions @ predictions.T, jnp.arange(len(predictions)))


cross_entropy = fm.losses.softmax_cross_entropy

APART = {
    "each example alone": fm.Model(init, plain),
    "statistics with the mask": fm.Model(init, masked_statistics, needs=("mask",)),
    "attention with the mask": fm.Model(init, masked_attention, needs=("mask",)),
    "examples in another order within": fm.Model(init, sorted_and_back),
    "noise over the batch": fm.Model(init, dropout, needs=("key",)),
    "a loop with a product": fm.Model(init, until_the_weights_have_settled),
    "half precision": fm.Model(
        lambda key: jax.tree.map(lambda p: p.astype(jnp.bfloat16), init(key)),
        lambda p, x: plain(p, x.astype(p["a"].dtype)),
    ),
    "predictions that are no numbers": fm.Model(init, lambda p, x: plain(p, x) / 0.0),
    "an even chance": fm.models.softmax_regression(5, 3),
}
MIXED = {
    "statistics of the batch": (fm.Model(init, batch_statistics), "its predictions .* the other examples"),
    "a scale that starts at 0": (fm.Model(init, hidden_by_a_scale_of_zero), "its predictions .* the other examples"),
    "a mask that is not used": (
        fm.Model(init, lambda p, x, mask: batch_statistics(p, x), needs=("mask",)),
        "its predictions .* the other examples",
    ),
    "a share of the batch": (fm.Model(init, lambda p, x: plain(p, x) / len(x)), "its predictions .* the number of"),
    "the largest input": (
        fm.Model(init, lambda p, x: plain(p, x / jnp.abs(x).max())),
        "its predictions .* the other examples",
    ),
    "attention": (fm.Model(init, attention), "its predictions .* the other examples"),
    "statistics in training alone": (fm.Model(init, mixed_by_its_noise, needs=("key",)), "its predictions in training"),
    "a loss": (fm.Model(init, plain, contrastive), "its loss for an example changes with the other examples"),
    "a loss that is a share": (
        fm.Model(init, plain, lambda p, y: cross_entropy(p, y) / len(y)),
        "its loss for an example changes with the number of examples",
    ),
    "a metric": (
        fm.Model(init, plain, metrics={"rank": lambda p, y: jnp.argsort(jnp.argsort(p[:, 0])).astype(jnp.float32)}),
        "its rank for an example changes",
    ),
}


@pytest.mark.parametrize("name", APART)
def test_a_model_that_treats_each_example_alone_or_heeds_the_mask_passes(name):
    check_fit(APART[name], toys.classification())


@pytest.mark.parametrize("name", MIXED)
def test_a_model_that_mixes_examples_is_refused(name):
    model, how = MIXED[name]
    with pytest.raises(fm.errors.UsageError, match=f"the model mixes examples: {how}.*needs="):
        check_fit(model, toys.classification())


def test_codes_are_never_others_than_the_datas():
    """A table of three rows holds only the codes that there are: any other gives no number."""
    codes = np.repeat(np.arange(3, dtype=np.int32), 4)[:, None]
    data = fm.data.from_arrays(codes, codes[:, 0] % 2, np.repeat(["a", "b"], 6), classes=2)

    def apply(params, x):
        return params[0].at[x[:, 0]].get(mode="fill", fill_value=jnp.nan)

    check_fit(fm.Model(lambda key: [jnp.ones((3, 2))], apply), data)

    def mean(params, x):
        rows = apply(params, x)
        return rows - rows.mean(0)

    with pytest.raises(fm.errors.UsageError, match="mixes examples"):
        check_fit(fm.Model(lambda key: [jnp.ones((3, 2))], mean), data)


def test_only_rows_of_the_datas_own_clients_are_looked_at():
    data = toys.classification((2, 5, 2, 9))
    asked = []

    class Watched:
        shape, dtype = data.x.shape, data.x.dtype

        def __getitem__(self, rows):
            asked.extend(np.asarray(rows).tolist())
            return data.x[rows]

    some = fm.data.FederatedDataset(Watched(), data.y, data.starts, data.sizes, data.ids, data.info).select([0, 2])
    check_fit(fm.Model(init, plain), some)
    assert set(asked) == {0, 1, 7, 8}


def test_a_model_is_looked_at_once(monkeypatch):
    looks = []
    monkeypatch.setattr(_fit, "_mixed", lambda model, data: looks.append(model))
    model, data = fm.Model(init, plain), toys.classification()
    for _ in range(3):
        check_fit(model, data)
        check_fit(model, toys.classification(seed=1))
    assert looks == [model]
    check_fit(fm.Model(init, plain), data)
    assert len(looks) == 2


@pytest.mark.parametrize(
    ("model", "x"),
    [
        (fm.models.mlp((784, 16, 16, 4)), np.random.default_rng(0).normal(size=(16, 28, 28, 1))),
        (fm.models.leaf_cnn(4, filters=(3, 4), hidden=9), np.random.default_rng(0).normal(size=(16, 28, 28, 1))),
        (fm.models.char_lstm(9, 4, hidden=32), np.random.default_rng(0).integers(9, size=(16, 80))),
        (fm.Model.from_nnx(lambda rngs: nnx.Linear(5, 4, rngs=rngs)), np.random.default_rng(0).normal(size=(16, 5))),
        (
            fm.Model.from_equinox(lambda key: eqx.nn.MLP(5, 4, 8, 2, key=key)),
            np.random.default_rng(0).normal(size=(16, 5)),
        ),
    ],
    ids=["mlp", "cnn", "lstm", "nnx", "equinox"],
)
def test_the_librarys_networks_and_adapters_treat_each_example_alone(model, x):
    kind = np.int32 if x.dtype.kind == "i" else np.float32
    y = np.random.default_rng(1).integers(4, size=16)
    check_fit(model, fm.data.from_arrays(x.astype(kind), y, np.repeat(["a", "b"], 8), classes=4))


def test_models_of_several_inputs_are_looked_at_too():
    draw = np.random.default_rng(0)
    x = {"numbers": draw.normal(size=(16, 4)).astype(np.float32), "code": draw.integers(3, size=16)}
    data = fm.data.from_arrays(x, draw.integers(2, size=16), np.repeat(["a", "b"], 8), classes=2)

    def init(key):
        return {"numbers": jax.random.normal(key, (4, 2)), "codes": jnp.zeros((3, 2))}

    def apply(params, x):
        return x["numbers"] @ params["numbers"] + params["codes"][x["code"]]

    check_fit(fm.Model(init, apply), data)
    mixed = fm.Model(init, lambda p, x: apply(p, x) - p["codes"][x["code"]].mean(0))
    with pytest.raises(fm.errors.UsageError, match="the model mixes examples"):
        check_fit(mixed, data)
    with pytest.raises(
        fm.errors.UsageError, match=r"cannot take inputs .*'numbers': 'of shape \(4,\) and type float32'"
    ):
        check_fit(fm.models.mlp((4, 2)), data)
