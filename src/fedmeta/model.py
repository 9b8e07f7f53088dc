"""A model is a few pure functions; adapters make one from a Flax NNX or an Equinox module."""

import inspect
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped

from fedmeta import losses, metrics
from fedmeta._extras import need
from fedmeta._precision import widened
from fedmeta._settings import a_function, not_one_text
from fedmeta.errors import UsageError
from fedmeta.task import Batch

Params = Any
"""Any pytree of floating-point arrays."""

NEEDS = ("key", "mask")
"""What `apply` may ask for besides parameters and inputs."""

_COLUMNS = (
    "loss",
    "round",
    "client",
    "clients",
    "support",
    "query",
    "step",
    "seconds",
    "flops",
    "bytes_up",
    "bytes_down",
)
_BEGINNINGS = ("validation_", "client_")
_ENDINGS = ("_before",)


@dataclass(frozen=True, eq=False)
class Model:
    """What is trained: pure `init`, `apply` and `loss`.

    Each example is treated alone: its prediction depends on the example and the parameters, not on the other examples
    of the batch, which may be padding. A model that needs the other examples asks for the mask.

    Args:
        init: `init(key) -> params`, any pytree of floating-point arrays. Python and NumPy floats in it become JAX's.
        apply: `apply(params, x) -> predictions`, leading axis = examples on both sides. `x` and the predictions are
            arrays or pytrees of arrays.
        loss: `loss(predictions, y)`, one value per example; the mean over the mask is taken by the library.
        metrics: by name, functions like `loss`, reported and never trained on. By default:
            accuracy with `fm.losses.softmax_cross_entropy`, the absolute error with `fm.losses.squared_error`,
            none with another loss.
        needs: what `apply` is given by keyword: "key", a JAX key in training and None in evaluation (dropout is then
            off), and "mask", float of shape [examples], 0.0 where an example is padding and must change nothing.
        head: patterns over the paths of the parameters that are the network's head, such as `("head/*",)`, for
            algorithms that treat it apart (`fm.ANIL`, `fm.FedPer`).

    Raises:
        UsageError: `init`, `apply` or `loss` is no function, `needs` names something else, `head` is one text,
            `metrics` is no mapping from names to functions, or a metric has the name of a column that the library
            fills.
    """

    init: Callable[[Any], Params]
    apply: Callable[..., Any]
    loss: Callable[[Any, Any], Any] = losses.softmax_cross_entropy
    metrics: Any = None
    needs: Collection[str] = ()
    head: tuple[str, ...] | None = None

    def __post_init__(self):
        a_function("init", self.init, "lambda key: params")
        a_function("apply", self.apply, "lambda params, x: predictions")
        a_function("loss", self.loss, "fm.losses.squared_error")
        if isinstance(self.needs, str) or not set(self.needs) <= set(NEEDS):
            raise UsageError(f'a model\'s needs can be ("key",), ("mask",) or ("key", "mask"), not {self.needs!r}')
        given = _usual_metrics(self.loss) if self.metrics is None else self.metrics
        _check_metrics(given)
        init = self.init if isinstance(self.init, _Parameters) else _Parameters(self.init)
        object.__setattr__(self, "init", init)
        object.__setattr__(self, "metrics", dict(given))
        object.__setattr__(self, "needs", tuple(name for name in NEEDS if name in self.needs))
        if self.head is not None:
            not_one_text("head", self.head, "patterns")
            object.__setattr__(self, "head", tuple(self.head))

    def predict(self, params: Params, x: Any, *, key: Any = None, mask: Any = None) -> Any:
        """Return the predictions for inputs, leading axis = examples.

        Args:
            params: as `init` gives them.
            x: an array, or a pytree of arrays, leading axis = examples.
            key: for a model that needs one; None evaluates it.
            mask: for a model that needs one, shape [examples]; all ones by default.
        """
        if mask is None and "mask" in self.needs:
            mask = jnp.ones(len(jax.tree.leaves(x)[0]), jnp.float32)
        given = {"key": key, "mask": mask}
        return self.apply(params, x, **{name: given[name] for name in self.needs})

    def scores(
        self, params: Params, batch: Batch, key: Any = None
    ) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
        """Return the mean loss over the examples that count, and that of each metric, "loss" among them.

        Args:
            params: as `init` gives them.
            batch: the examples.
            key: for a model that needs one; None evaluates it.
        """
        predictions = self.predict(params, batch.x, key=key, mask=batch.mask)
        loss = masked_mean(self.loss(predictions, batch.y), batch.mask)
        measured = {name: masked_mean(f(predictions, batch.y), batch.mask) for name, f in self.metrics.items()}
        return loss, {"loss": loss, **measured}

    def mean_loss(self, params: Params, batch: Batch, key: Any = None) -> Float[Array, ""]:
        """Return the mean loss over the examples that count; 0.0 if none do. `key` is as in `scores`."""
        predictions = self.predict(params, batch.x, key=key, mask=batch.mask)
        return masked_mean(self.loss(predictions, batch.y), batch.mask)

    @staticmethod
    def from_nnx(build: Callable[[Any], Any], loss: Any = losses.softmax_cross_entropy, metrics: Any = None) -> "Model":
        """Make a model of a Flax NNX module.

        Variables of type `nnx.Param` are trained. All others stay as in a module that is built once. A module with
        streams of random numbers (except those of recurrent carries) needs the key: with a key it is in training mode
        and draws from that key, without one it is in evaluation mode.

        Args:
            build: `build(nnx.Rngs) -> nnx.Module`; the module takes a batch, as is usual in NNX, as its one argument.
            loss: as in `Model`.
            metrics: as in `Model`.

        Raises:
            UsageError: the module holds running statistics (BatchNorm). They are neither parameters nor
                shared, so their mean over clients has no meaning; LayerNorm or GroupNorm do. Or it holds a dropout
                without random numbers, or, when it is called, changes a variable that is no intermediate value.
        """
        nnx = need("flax.nnx", "Model.from_nnx")

        def built(key: Any) -> Any:
            module = build(nnx.Rngs(key))
            if not isinstance(module, nnx.Module):
                raise UsageError(f"build must return a Flax NNX module, not {type(module).__name__}")
            return module

        module = built(_first_key())
        if jax.tree.leaves(nnx.state(module, nnx.BatchStat)):
            raise UsageError("the module holds running statistics (BatchNorm): use LayerNorm or GroupNorm")
        for path, part in nnx.iter_graph(module):
            if isinstance(part, nnx.Dropout) and part.rate > 0 and part.rngs is None:
                name = ".".join(map(str, path))
                raise UsageError(f"dropout {name} has no random numbers: build it as nnx.Dropout(rate, rngs=rngs)")
        module.train()
        training = nnx.graphdef(module)
        module.eval()
        evaluation, _, streams, rest = nnx.split(module, nnx.Param, nnx.RngState, ...)
        keys = [variable for _, variable in nnx.to_flat_state(streams) if isinstance(variable, nnx.RngKey)]
        # A recurrent layer has a stream for its first carry, though hardly any layer draws it.
        random = any(variable.tag != "carry" for variable in keys)
        watched = nnx.Not(nnx.Any(nnx.RngState, nnx.Intermediate))

        def init(key: Any) -> Params:
            return nnx.to_pure_dict(nnx.state(built(key), nnx.Param))

        shapes = nnx.eval_shape(lambda: nnx.state(built(_first_key()), nnx.Param))

        def drawn_from(key: Any) -> Any:
            flat = []
            for number, (path, variable) in enumerate(nnx.to_flat_state(streams)):
                if key is not None and isinstance(variable, nnx.RngKey):
                    own = jax.random.fold_in(key, number)
                    shape = variable[...].shape
                    variable = variable.replace(jax.random.split(own, shape) if shape else own)
                flat.append((path, variable))
            return nnx.from_flat_state(flat)

        def apply(params: Params, x: Any, key: Any = None) -> Any:
            # Merging uses the variables of a state without copying them: each call needs its own.
            state, *others = (jax.tree.map(lambda leaf: leaf, part) for part in (shapes, drawn_from(key), rest))
            nnx.replace_by_pure_dict(state, params)
            module = nnx.merge(evaluation if key is None else training, state, *others)
            before = dict(nnx.to_flat_state(nnx.state(module, watched)))
            held = {path: jax.tree.leaves(variable) for path, variable in before.items()}
            predictions = module(x)
            after = dict(nnx.to_flat_state(nnx.state(module, watched)))
            for path, values in held.items():
                if any(a is not b for a, b in zip(values, jax.tree.leaves(after[path]), strict=True)):
                    name, kind = ".".join(map(str, path)), type(after[path]).__name__
                    raise UsageError(
                        f"the module changes its {kind} {name} when it is called, and what it keeps there would be "
                        "lost: only parameters are trained, and by gradients alone"
                    )
            return predictions

        return Model(init, apply, loss, metrics, ("key",) if random else ())

    @staticmethod
    def from_equinox(
        build: Callable[[Any], Any], loss: Any = losses.softmax_cross_entropy, metrics: Any = None
    ) -> "Model":
        """Make a model of an Equinox module.

        Its floating-point JAX arrays are trained; all else (functions, whole numbers, NumPy arrays) stays as in a
        module that is built once. A module that takes `key=` and holds a dropout, or a class of your own that takes
        `key=`, needs the key: with a key it is as built, and each example has a key of its own; without one it is in
        inference mode.

        Args:
            build: `build(key) -> equinox.Module`; the module takes one example, as is usual in Equinox, as its one
                positional argument (a pytree where there are several inputs).
            loss: as in `Model`.
            metrics: as in `Model`.

        Raises:
            UsageError: the module holds state (BatchNorm), a dropout and takes no `key=`, or changes its structure
                from one key to another.
        """
        eqx = need("equinox", "Model.from_equinox")
        first = build(_first_key())
        parts = _parts(first)
        if any(isinstance(part, eqx.nn.StateIndex | eqx.nn.State) for part in parts):
            raise UsageError(
                "the module holds state (eqx.nn.BatchNorm, or another layer with an eqx.nn.StateIndex): running "
                "statistics are no parameters; use eqx.nn.LayerNorm or eqx.nn.GroupNorm"
            )
        if not callable(first):
            raise UsageError(f"build must return an Equinox module that can be called, not {type(first).__name__}")
        drops = any(isinstance(part, eqx.nn.Dropout) and not part.inference and part.p > 0 for part in parts)
        own = [part for part in parts if isinstance(part, eqx.Module) and not _is_of(part, "equinox")]
        takes = _takes_key(first)
        if drops and not takes:
            raise UsageError(
                "the module holds eqx.nn.Dropout and takes no key: define __call__(self, x, *, key=None) and give "
                "the dropout a key of it"
            )
        random = takes and (drops or any(_takes_key(part) for part in own))
        trained, training = eqx.partition(first, eqx.is_inexact_array)
        evaluation = eqx.partition(eqx.nn.inference_mode(first), eqx.is_inexact_array)[1]
        structure = jax.tree.structure(trained)

        # By leaves: functions that are made anew with each module are not equal, so neither are the structures.
        def as_first(params: Params) -> Any:
            leaves = jax.tree.leaves(params)
            if len(leaves) != structure.num_leaves:
                raise UsageError(
                    f"build must return modules that are alike, not one of {structure.num_leaves} arrays and one "
                    f"of {len(leaves)}"
                )
            return jax.tree.unflatten(structure, leaves)

        def init(key: Any) -> Params:
            return as_first(eqx.filter(build(key), eqx.is_inexact_array))

        def apply(params: Params, x: Any, key: Any = None) -> Any:
            module = eqx.combine(as_first(params), evaluation if key is None else training)
            if not random:
                return jax.vmap(module)(x)
            if key is None:
                return jax.vmap(lambda example: module(example, key=None))(x)
            numbers = jnp.arange(len(jax.tree.leaves(x)[0]))
            keys = jax.vmap(lambda number: jax.random.fold_in(key, number))(numbers)
            return jax.vmap(lambda example, key: module(example, key=key))(x, keys)

        return Model(init, apply, loss, metrics, ("key",) if random else ())


def masked_mean(values: Shaped[Array | np.ndarray, " n"], mask: Any) -> Float[Array, ""]:
    """Return the mean of the values whose mask is 1.0; 0.0 if there are none. It is taken in float32 or float64."""
    values = widened(values)
    mask = jnp.asarray(mask).astype(values.dtype)
    return jnp.sum(values * mask) / jnp.maximum(jnp.sum(mask), 1.0)


@dataclass(frozen=True)
class _Parameters:
    """`init`, with every array of its result held as JAX holds it."""

    function: Callable[[Any], Params]

    def __call__(self, key: Any) -> Params:
        params = jax.tree_util.tree_map_with_path(_parameter, self.function(key))
        if not sum(leaf.size for leaf in jax.tree.leaves(params)):
            raise UsageError("the model's init gives no parameters: it must return at least one floating-point array")
        return params


def _parameter(path: Any, leaf: Any) -> Array:
    if isinstance(leaf, float) and not isinstance(leaf, np.generic):
        # Without a type of its own it would take the type of the other operand.
        return jnp.asarray(leaf, jnp.result_type(float))
    kind = type(leaf).__name__
    if isinstance(leaf, np.ndarray | np.generic | jax.Array):
        if jnp.issubdtype(leaf.dtype, jnp.floating):
            return jnp.asarray(leaf, None if isinstance(leaf, np.ndarray | np.generic) else leaf.dtype)
        kind = f"of type {leaf.dtype}"
    elif isinstance(leaf, int | str | bool | complex):
        kind = f"the Python value {leaf!r}"
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    raise UsageError(
        f"the model's parameter{f' {name}' if name else ''} is {kind}, and parameters are floating-point arrays: what "
        "is not trained stays outside init's result, and a complex number is two real ones"
    )


def _usual_metrics(loss: Any) -> dict[str, Callable[[Any, Any], Any]]:
    if loss is losses.softmax_cross_entropy:
        return {"accuracy": metrics.accuracy}
    if loss is losses.squared_error:
        return {"absolute_error": metrics.absolute_error}
    return {}


def _check_metrics(given: Any) -> None:
    """Raise a UsageError unless it maps names that are free to functions."""
    if not isinstance(given, Mapping):
        raise UsageError(
            f'metrics must be a mapping from names to functions, as {{"accuracy": fm.metrics.accuracy}}, not {given!r}'
        )
    for name, function in given.items():
        if not isinstance(name, str) or not name:
            raise UsageError(f"a metric's name must be a text, not {name!r}")
        if name in _COLUMNS or name.startswith(_BEGINNINGS) or name.endswith(_ENDINGS):
            raise UsageError(
                f"a metric cannot be called {name!r}, which tables of results use: not {', '.join(_COLUMNS)}, nor a "
                f"name that begins with {' or '.join(_BEGINNINGS)} or ends in {' or '.join(_ENDINGS)}"
            )
        if not callable(function):
            raise UsageError(f"metric {name!r} must be a function of predictions and targets, not {function!r}")


def _first_key() -> Array:
    """Return the key from which a first module is built; its parameters are not used."""
    return jax.random.key(0, impl="threefry2x32")


def _parts(tree: Any) -> list[Any]:
    """Return every node and every leaf of the pytree."""
    found: list[Any] = []

    def note(part: Any) -> bool:
        found.append(part)
        return False

    jax.tree.leaves(tree, is_leaf=note)
    return found


def _takes_key(module: Any) -> bool:
    if not callable(module):
        return False
    parameters = inspect.signature(module).parameters.values()
    return any(parameter.name == "key" or parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)


def _is_of(value: Any, package: str) -> bool:
    return type(value).__module__.split(".")[0] == package
