"""Which clients can take part, how many examples they have, and whether the model fits the data."""

import math
import warnings
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import jax
import jax.numpy as jnp
import numpy as np

from fedmeta import losses
from fedmeta.algorithms.algorithm import Algorithm, Phi
from fedmeta.data import columns
from fedmeta.data.dataset import FederatedDataset
from fedmeta.errors import DataError, FedmetaError, UsageError
from fedmeta.model import Model, Params

ALONE, TOGETHER = 3, 8
"""How many examples are checked for effects of the rest of the batch, and the size of that batch with its padding."""

# The program runs two or three times, so most of its time is compilation.
_QUICKLY: Any = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}

_apart: WeakKeyDictionary[Model, set[str]] = WeakKeyDictionary()
"""The models that were checked, with the shapes and types of their inputs."""


def usable_clients(data: FederatedDataset, max_examples: int | None) -> np.ndarray:
    """Return the positions of the clients that have at least two examples; warn if some do not.

    Raises:
        UsageError: `max_examples` is below two.
        DataError: no client has two.
    """
    if max_examples is not None and max_examples < 2:
        raise UsageError(f"max_examples must be at least 2, for support and query, not {max_examples}")
    usable = np.flatnonzero(data.drawable >= 2)
    gap = f" beside the {data.split.gap} between them" if data.split.gap else ""
    if not len(usable):
        raise DataError(f"no client of {data!r} has two examples, one for support and one for query{gap}")
    if len(usable) < data.num_clients:
        left_out = data.num_clients - len(usable)
        warnings.warn(
            f"{left_out} of {data.num_clients} clients have fewer than 2 examples{gap} and are left out",
            stacklevel=3,
        )
    return usable


def drawn_sizes(data: FederatedDataset, max_examples: int | None) -> np.ndarray:
    """Return how many examples are drawn of each client, shape [clients]."""
    return np.asarray(data.drawable if max_examples is None else np.minimum(data.drawable, max_examples))


def check_phi(algorithm: Algorithm, model: Model, phi: Phi) -> None:
    """Raise a UsageError unless phi fits this algorithm and this model."""
    expected = jax.eval_shape(lambda: algorithm.init(model, _key()))
    if jax.tree.structure(phi) != jax.tree.structure(expected):
        raise UsageError(f"phi is not what {algorithm.title} holds for this model: another algorithm or model made it")
    for (path, found), right in zip(
        jax.tree_util.tree_flatten_with_path(phi)[0], jax.tree.leaves(expected), strict=True
    ):
        kind = jnp.result_type(found)
        if not jnp.issubdtype(kind, jnp.floating):
            name = jax.tree_util.keystr(path, simple=True, separator="/")
            raise UsageError(
                f"phi holds {kind}{f' at {name}' if name else ''}, and parameters are floating-point arrays"
            )
        if np.shape(found) != right.shape:
            raise UsageError(
                f"phi is of another model: an array has shape {np.shape(found)}, where {right.shape} is right"
            )


def check_fit(model: Model, data: FederatedDataset) -> None:
    """Raise a UsageError unless the model fits the data, and treats each example alone.

    Its parameters must be floating-point arrays. Its predictions must have a leading axis of examples and fit the
    data's classes or targets, and its loss and metrics must give one value per example. Shapes alone tell all this;
    `check_rows_apart` computes.
    """
    params = _tell("the model's init failed", jax.eval_shape, model.init, _key())
    for count in (1, ALONE):
        x, y = data.shapes(count)
        if "key" in model.needs:
            _predicted(model, params, x, count, _key())
        predictions = _predicted(model, params, x, count, None)
        _check_outputs(model, data, predictions)
        _check_one_value_per_example(model, predictions, y, count)
    check_rows_apart(model, data)


def check_rows_apart(model: Model, data: FederatedDataset) -> None:
    """Raise a UsageError if the model's result for an example depends on the rest of its batch.

    A few examples of the data are computed with some padding after them, with other padding, and without padding. The
    parameters are those of `init`, perturbed, because a scale that starts at zero hides what comes before it. The loss
    and the metrics are checked likewise, and a model that asks for the mask is given it. Each model is checked once for
    inputs of one shape and type.

    Rounding is no reason to refuse a model: in one program, other padding does not change a single bit of a model that
    treats each example alone, and between two lengths only a difference larger than rounding counts. A model that
    passes may still mix examples, by less than that or on other data.
    """
    seen = _apart.setdefault(model, set())
    kind = _described((data.x, data.y))
    if kind in seen or not data.num_examples:
        return
    with jax.debug_nans(False):
        found = _mixed(model, data)
    if found:
        raise UsageError(
            f"the model mixes examples: its {found}. Batches are padded, so each example must be treated alone "
            "(LayerNorm or GroupNorm in place of the statistics of a batch), or apply must ask for the mask, "
            'fm.Model(..., needs=("mask",)), and leave out the examples for which it is 0.0'
        )
    seen.add(kind)


def _mixed(model: Model, data: FederatedDataset) -> str | None:
    """Return, in words, which result for an example changes with the rest of its batch, and how; or None."""
    own, paddings = _examples(data)
    mask = (np.arange(TOGETHER) < ALONE).astype(np.float32)
    functions = {"loss": model.loss, **model.metrics}
    keys = (None, _key()) if "key" in model.needs else (None,)
    changes = ["predictions for an example change", "predictions in training for an example change"][: len(keys)]
    changes += [f"{name} for an example changes" for name in functions]

    def compute(params: Params, x: Any, y: Any) -> tuple[list[Any], list[Any]]:
        predictions = [model.predict(params, x, key=key, mask=mask) for key in keys]
        padded = [*predictions, *(function(predictions[0], y) for function in functions.values())]
        own_x, few, own_y = _first((x, predictions[0], y))
        # Noise may be drawn for the batch as a whole: then it is another one for another length.
        alone = [model.predict(params, own_x, mask=mask[:ALONE]), *_first(predictions[1:])]
        # From the same predictions, so that rounding moves none across a threshold.
        alone += [function(few, own_y) for function in functions.values()]
        return _first(padded), alone

    program = jax.jit(compute, compiler_options=_QUICKLY if jax.default_backend() == "cpu" else None)
    params = _shaken(model.init(_key()))

    def run(padding: Any, params: Params = params) -> Any:
        x, y = jax.tree.map(lambda *parts: np.concatenate(parts), own, padding)
        return jax.device_get(program(params, x, y))

    (padded, alone), (otherwise, _) = (run(padding) for padding in paddings)
    # What the mask sets to zero is still in the model's sums, whose order may vary.
    slack = 1e-4 if "mask" in model.needs else 0.0
    for place, change in enumerate(changes):
        values = padded[place]
        gap = _gap(values, otherwise[place])
        # A second run with the same padding differs only where the machine's sums have no fixed order. With a mask,
        # padding that is no number is none that the cohort reader makes: it repeats the client's own.
        told = gap > slack and (not slack or math.isfinite(gap))
        if told and gap > slack + 10 * _gap(values, run(paddings[0])[0][place]):
            return f"{change} with the other examples of the batch"
        gap = _gap(values, alone[place])
        # Parameters changed by a few roundings show how much rounding alone can change the results.
        if 0.02 < gap < math.inf and gap > 0.02 + 100 * _gap(values, run(paddings[0], _nudged(params))[0][place]):
            return f"{change} with the number of examples in the batch"
    return None


def _examples(data: FederatedDataset) -> tuple[Any, list[Any]]:
    """Return a few examples (x, y), and two paddings of their batch.

    The examples are the smallest of a sample of the data. One padding repeats an example, as the cohort reader does;
    the other has the largest inputs of the sample. Only examples of the data are used, because the model may not
    accept other numbers.
    """
    ends = np.cumsum(data.sizes)
    numbers = np.unique(np.linspace(0, data.num_examples - 1, 16).astype(int))
    clients = np.searchsorted(ends, numbers, side="right")
    rows = data.starts[clients] + numbers - (ends - data.sizes)[clients]
    sample = columns.read((data.x, data.y), rows)
    sizes = [np.abs(leaf.reshape(len(rows), -1).astype(float)).max(axis=1) for leaf in jax.tree.leaves(sample[0])]
    order = np.argsort(np.sum(sizes, axis=0), kind="stable")

    def taken(places: np.ndarray, count: int) -> Any:
        return jax.tree.map(lambda leaf: leaf[np.resize(places, count)], sample)

    missing = TOGETHER - ALONE
    return taken(order, ALONE), [taken(order[:1], missing), taken(order[::-1], missing)]


def _shaken(params: Params) -> Params:
    """Return the parameters, each changed by up to a third of its value, and moved away from zero; as NumPy arrays."""
    # Repeated, because drawing millions of numbers would take longer than the rest of the check.
    draw = np.random.default_rng(0).uniform(-1, 1, 65537).astype(np.float32)

    def leaf(array: Any) -> np.ndarray:
        array = np.asarray(array)
        step = np.where(array == 0, 0.5 / math.sqrt(max(1, math.prod(array.shape[:-1]))), array * 0.3)
        return np.asarray(array + step * np.resize(draw, array.shape)).astype(array.dtype)

    return jax.tree.map(leaf, params)


def _nudged(params: Params) -> Params:
    """Return the parameters, each changed by a few roundings."""
    draw = np.random.default_rng(1)

    def leaf(array: np.ndarray) -> np.ndarray:
        by = 4 * float(jnp.finfo(array.dtype).eps) * (2 * draw.random(array.shape, np.float32) - 1)
        return np.asarray(array * (1 + by)).astype(array.dtype)

    return jax.tree.map(leaf, params)


def _gap(left: Any, right: Any) -> float:
    """Return the largest difference between two pytrees of arrays, as a share of the largest number in its array."""
    gaps = [0.0]
    for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        a, b = (np.asarray(part).astype(complex if np.iscomplexobj(part) else float) for part in (a, b))
        differ = ~((a == b) | (np.isnan(a) & np.isnan(b)))
        if differ.any():
            scale = np.abs(a[np.isfinite(a)]).max(initial=np.finfo(np.float32).tiny)
            gaps.append(float(np.nan_to_num(np.abs(a - b)[differ], nan=np.inf).max() / scale))
    return max(gaps)


def _first(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf[:ALONE], tree)


def _predicted(model: Model, params: Params, x: Any, count: int, key: Any) -> Any:
    """Return the shapes of the predictions; raise a UsageError unless the examples are their first axis."""

    def predict(params: Params, x: Any) -> Any:
        return model.predict(params, x, key=key)

    predictions = _tell(f"the model cannot take inputs {_described(x)}", jax.eval_shape, predict, params, x)
    shapes = [leaf.shape for leaf in jax.tree.leaves(predictions)]
    wrong = [shape for shape in shapes if shape[:1] != (count,)]
    if wrong or not shapes:
        given = f"shape {wrong[0]}" if wrong else "no array"
        raise UsageError(
            f"the model's predictions must have a leading axis of examples: for {count} of them it gives {given}"
        )
    return predictions


def _check_outputs(model: Model, data: FederatedDataset, predictions: Any) -> None:
    """Raise a UsageError unless the library's losses can compare the predictions with the data's targets."""
    if model.loss not in (losses.squared_error, losses.softmax_cross_entropy):
        return
    if not isinstance(predictions, jax.ShapeDtypeStruct):
        raise UsageError(
            f"the model predicts a {type(predictions).__name__}, and fm.losses.{model.loss.__name__} compares one "
            "array: give a loss of your own"
        )
    if model.loss is losses.squared_error and math.prod(predictions.shape[1:]) != math.prod(data.y.shape[1:]):
        raise UsageError(
            f"the model predicts numbers of shape {predictions.shape[1:]}, and the targets have {data.y.shape[1:]}"
        )
    if model.loss is losses.softmax_cross_entropy:
        if data.num_classes is None:
            raise UsageError("the targets are numbers, not classes: use fm.losses.squared_error, or give classes")
        if len(predictions.shape) < 2 or predictions.shape[-1] < data.num_classes:
            raise UsageError(
                f"the model predicts {predictions.shape[-1] if len(predictions.shape) > 1 else 1} classes, "
                f"and the data have {data.num_classes}"
            )


def _check_one_value_per_example(model: Model, predictions: Any, y: Any, count: int) -> None:
    """Raise a UsageError unless the loss and each metric give as many real numbers as there are examples."""
    for name, function in {"loss": model.loss, **model.metrics}.items():
        what = f"{name} cannot compare predictions {_described(predictions)} with targets {_described(y)}"
        values = _tell(what, jax.eval_shape, function, predictions, y)
        shape = values.shape if isinstance(values, jax.ShapeDtypeStruct) else type(values).__name__
        if shape != (count,):
            raise UsageError(
                f"{name} must give one value per example, shape ({count},) for {count} of them, not {shape}"
            )
        # A metric may be a count or a boolean; a loss has a gradient.
        kinds = (jnp.floating,) if name == "loss" else (jnp.floating, jnp.integer, jnp.bool_)
        if not any(jnp.issubdtype(values.dtype, kind) for kind in kinds):
            raise UsageError(f"{name} must give real floating-point numbers, not {values.dtype}")


def _tell(what: str, function: Callable[..., Any], *args: Any) -> Any:
    """Call the function; an error in the user's code becomes a UsageError that begins with `what`."""
    try:
        return function(*args)
    except FedmetaError:
        raise
    except Exception as error:
        reason = str(error).strip().split("\n")[0]
        if not isinstance(error, TypeError | ValueError) or not reason:
            reason = f"{type(error).__name__}: {reason}" if reason else type(error).__name__
        raise UsageError(f"{what}: {reason}") from error


def _described(tree: Any) -> str:
    """Return the shapes of one example and the types, in words."""
    found = jax.tree.map(lambda leaf: f"of shape {tuple(leaf.shape[1:])} and type {leaf.dtype}", tree)
    return found if isinstance(found, str) else str(found)


def _key() -> jax.Array:
    return jax.random.key(0, impl="threefry2x32")
