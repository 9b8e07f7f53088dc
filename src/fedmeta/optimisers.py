"""Optimisers as values: equal where their settings are, with names, and with Optax's own state.

Each is what Optax has under the same name (`momentum` is `optax.sgd` with one), to the bit, and may be used wherever
an Optax transformation may. On NumPy's arrays it uses only operations that IEEE 754 rounds correctly (+, -, *, / and
the square root), one at a time and in a fixed order, so that float64 gives the same bytes on every machine.

References:
    Kingma and Ba, "Adam: A Method for Stochastic Optimization", arXiv 1412.6980.
    Zaheer et al., "Adaptive Methods for Nonconvex Optimization" (Yogi), NeurIPS 2018.
    Duchi et al., "Adaptive Subgradient Methods for Online Learning and Stochastic Optimization", JMLR 12, 2011.
    Reddi et al., "Adaptive Federated Optimization", arXiv 2003.00295: these as the server's, FedAdam, FedYogi and
    FedAdagrad, with `eps` in the place of their tau. (Theirs leave the bias as it is; Optax's, and these, correct it.)
"""

import abc
import math
import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
import optax

from fedmeta._settings import said
from fedmeta.errors import UnknownName, UsageError

if TYPE_CHECKING:
    Setting = float
    Flag = bool
else:
    # Any number, also NumPy's or JAX's, becomes a float; anything else is refused with the setting's name.
    Setting = Any
    Flag = Any

STEPS = 3
"""The steps through which `differentiable_at_zero` looks: moments that start at zero have moved after the first."""


@runtime_checkable
class Optimiser(Protocol):
    """Turns gradients into updates: any Optax transformation, or one of those below."""

    @property
    def init(self) -> Callable[..., Any]:
        """Takes the parameters, returns the state before the first step."""
        ...

    @property
    def update(self) -> Callable[..., Any]:
        """Takes (updates, state, params), returns (updates, state): what is added to the parameters, and the state."""
        ...


@dataclass(frozen=True)
class NamedOptimiser(abc.ABC):
    """An optimiser that is described by a name and numbers."""

    name: ClassVar[str]

    @abc.abstractmethod
    def init(self, params: Any) -> Any:
        """Return Optax's state before the first step, in the parameters' shapes and types.

        Args:
            params: a pytree of arrays, all of NumPy's for a state of NumPy's arrays.
        """

    @abc.abstractmethod
    def update(self, updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        """Return what is to be added to the parameters, and the next state.

        Args:
            updates: the gradient, a pytree like the parameters; all of NumPy's arrays where the state is.
            state: from `init` or the step before, or from Optax's optimiser of the same name.
            params: not used.
        """

    def __iter__(self) -> Iterator[Callable[..., Any]]:
        """Allow `init, update = optimiser`, as Optax's transformations do."""
        return iter((self.init, self.update))


@dataclass(frozen=True)
class sgd(NamedOptimiser):
    """Gradient descent: -learning_rate * g; as `optax.sgd`.

    Args:
        learning_rate: positive and finite.

    Raises:
        UsageError: a setting is out of range, or no number.
    """

    name: ClassVar[str] = "sgd"
    learning_rate: Setting

    def __post_init__(self):
        _settle(self, learning_rate=_RATE)

    def init(self, params: Any) -> Any:
        """Return Optax's state, which is empty."""
        return optax.EmptyState(), optax.EmptyState()

    def update(self, updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        """Return the step, and the state."""
        return _scaled(updates, self.learning_rate), state


@dataclass(frozen=True)
class momentum(NamedOptimiser):
    """Gradient descent along t = g + decay * t; as `optax.sgd(learning_rate, decay, nesterov)`.

    Args:
        learning_rate: positive and finite.
        decay: the share of the trace that is kept in a step; in [0, 1).
        nesterov: step along g + decay * t instead.

    Raises:
        UsageError: a setting is out of range, or no number.
    """

    name: ClassVar[str] = "momentum"
    learning_rate: Setting
    decay: Setting = 0.9
    nesterov: Flag = False

    def __post_init__(self):
        _settle(self, learning_rate=_RATE, decay=_SHARE)
        if not isinstance(self.nesterov, (bool, np.bool_)):
            raise UsageError(f"nesterov must be True or False, not {self.nesterov!r}")
        object.__setattr__(self, "nesterov", bool(self.nesterov))

    def init(self, params: Any) -> Any:
        """Return Optax's state: the trace, zeros."""
        return optax.TraceState(_filled(params, 0.0)), optax.EmptyState()

    def update(self, updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        """Return the step, and the next trace."""

        def along(g: Any, t: Any) -> Any:
            return g + self.decay * t

        trace = jax.tree.map(along, updates, state[0].trace)
        stepped = jax.tree.map(along, updates, trace) if self.nesterov else trace
        return _scaled(stepped, self.learning_rate), (optax.TraceState(trace), state[1])


@dataclass(frozen=True)
class adam(NamedOptimiser):
    """Adam, with its bias corrected; as `optax.adam`.

    m = (1 - b1) g + b1 m and v = (1 - b2) g^2 + b2 v; the step after n is -learning_rate * m' / (sqrt(v' + eps_root) +
    eps), with m' = m / (1 - b1^n) and v' = v / (1 - b2^n).

    Args:
        learning_rate: positive and finite.
        b1: the share of the first moment that is kept in a step; in [0, 1).
        b2: the share of the second; in [0, 1).
        eps: added to the root; finite, not negative.
        eps_root: added under it; finite, not negative. Above zero where the steps are differentiated, as in MAML's
            inner loop: a root has no derivative where a gradient is zero (`differentiable_at_zero`).

    Raises:
        UsageError: a setting is out of range, or no number.
    """

    name: ClassVar[str] = "adam"
    learning_rate: Setting
    b1: Setting = 0.9
    b2: Setting = 0.999
    eps: Setting = 1e-8
    eps_root: Setting = 0.0

    def __post_init__(self):
        _settle(self, learning_rate=_RATE, b1=_SHARE, b2=_SHARE, eps=_SMALL, eps_root=_SMALL)

    def init(self, params: Any) -> Any:
        """Return Optax's state: no step, and both moments zero."""
        count = _namespace(params).zeros((), np.int32)
        return optax.ScaleByAdamState(count, _filled(params, 0.0), _filled(params, 0.0)), optax.EmptyState()

    def update(self, updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        """Return the step, and the next moments."""
        nu = jax.tree.map(lambda g, v: (1 - self.b2) * (g * g) + self.b2 * v, updates, state[0].nu)
        return _adaptive_step(self, updates, state, nu, self.eps_root)


@dataclass(frozen=True)
class yogi(NamedOptimiser):
    """Yogi: Adam, with v - (1 - b2) sign(v - g^2) g^2 for the second moment; as `optax.yogi`.

    Args:
        learning_rate: positive and finite.
        b1: the share of the first moment that is kept in a step; in [0, 1).
        b2: how slowly the second changes; in [0, 1).
        eps: added to the root; finite, not negative.

    Raises:
        UsageError: a setting is out of range, or no number.
    """

    name: ClassVar[str] = "yogi"
    learning_rate: Setting
    b1: Setting = 0.9
    b2: Setting = 0.999
    eps: Setting = 1e-3

    def __post_init__(self):
        _settle(self, learning_rate=_RATE, b1=_SHARE, b2=_SHARE, eps=_SMALL)

    def init(self, params: Any) -> Any:
        """Return Optax's state: no step, and both moments 1e-6."""
        count = _namespace(params).zeros((), np.int32)
        return optax.ScaleByAdamState(count, _filled(params, 1e-6), _filled(params, 1e-6)), optax.EmptyState()

    def update(self, updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        """Return the step, and the next moments."""
        xp = _namespace((updates, state))

        def second(g: Any, v: Any) -> Any:
            square = g * g
            return v - (1 - self.b2) * xp.sign(v - square) * square

        return _adaptive_step(self, updates, state, jax.tree.map(second, updates, state[0].nu), 0.0)


@dataclass(frozen=True)
class adagrad(NamedOptimiser):
    """Adagrad: -learning_rate * g / sqrt(s + eps), s the sum of all g^2 so far; as `optax.adagrad`.

    Args:
        learning_rate: positive and finite.
        initial_accumulator_value: of s; finite, not negative.
        eps: added under the root; finite, not negative.

    Raises:
        UsageError: a setting is out of range, or no number.
    """

    name: ClassVar[str] = "adagrad"
    learning_rate: Setting
    initial_accumulator_value: Setting = 0.1
    eps: Setting = 1e-7

    def __post_init__(self):
        _settle(self, learning_rate=_RATE, initial_accumulator_value=_SMALL, eps=_SMALL)

    def init(self, params: Any) -> Any:
        """Return Optax's state: the sums, all at their initial value."""
        return optax.ScaleByRssState(_filled(params, self.initial_accumulator_value)), optax.EmptyState()

    def update(self, updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        """Return the step, and the next sums."""
        xp = _namespace((updates, state))
        sums = jax.tree.map(lambda g, s: g * g + s, updates, state[0].sum_of_squares)

        def step(s: Any, g: Any) -> Any:
            # JAX has a reciprocal root of its own, which Optax takes; it is not always the correctly rounded one.
            root = 1 / np.sqrt(np.where(s > 0, s + self.eps, 1)) if xp is np else jax.lax.rsqrt(s + self.eps)
            return xp.where(s > 0, root, 0.0) * g

        return _scaled(jax.tree.map(step, sums, updates), self.learning_rate), (optax.ScaleByRssState(sums), state[1])


OPTIMISERS: dict[str, type[NamedOptimiser]] = {kind.name: kind for kind in (sgd, momentum, adam, adagrad, yogi)}
"""Every named optimiser; tests, the command line and the documentation read this table."""


def make(name: str, **options: Any) -> NamedOptimiser:
    """Return the optimiser of that name with these settings.

    Raises:
        UsageError: no such optimiser, no such setting, or a value out of range.
    """
    if name not in OPTIMISERS:
        raise UnknownName("optimiser", name, OPTIMISERS)
    known = [field.name for field in fields(OPTIMISERS[name])]
    for option in options:
        if option not in known:
            raise UnknownName(f"option of {name}", option, known)
    if "learning_rate" not in options:
        raise UsageError(f"{name} needs a learning_rate")
    return OPTIMISERS[name](**options)


def differentiable_at_zero(optimiser: Optimiser, params_like: Any) -> bool:
    """Return whether an optimiser's updates have finite derivatives in the gradients where these are exactly zero.

    Parameters that no example touches (an input that is always zero) have such gradients, and a derivative that is not
    finite there makes all of a meta-gradient NaN. `optax.adam` is of that kind, with `eps_root=1e-8` it is not.

    This tries a few steps on small arrays, with every axis of the parameters cut to 2. Each coordinate has a zero
    gradient in one of two trials.

    Args:
        optimiser: needs nothing but gradients, state and parameters.
        params_like: the parameters, or anything with their shapes and dtypes.
    """
    leaves, structure = jax.tree.flatten(params_like)
    shapes = [tuple(min(size, 2) for size in np.shape(leaf)) for leaf in leaves]
    dtypes = [getattr(leaf, "dtype", np.float32) for leaf in leaves]
    kinds = list(zip(shapes, dtypes, strict=True))
    ones = jax.tree.unflatten(structure, [jnp.ones(*kind) for kind in kinds])
    begun = optimiser.init(ones)
    memory = jax.tree.structure(begun)

    def moves(leaf: Any) -> bool:
        return jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)

    def total(gradient: Any, moving: Any, params: Any, fixed: Any) -> Any:
        state = jax.tree.unflatten(memory, [b if a is None else a for a, b in zip(moving, fixed, strict=True)])
        updates, state = optimiser.update(gradient, state, params)
        counted = [jnp.sum(leaf) for leaf in jax.tree.leaves((updates, state)) if moves(leaf)]
        return sum(counted, jnp.zeros(())), (optax.apply_updates(params, updates), jax.tree.leaves(state))

    # One step at a time, so that little is compiled. In reverse mode, as a meta-gradient: forward mode has fewer NaNs.
    slopes = jax.jit(jax.grad(total, (0, 1, 2), has_aux=True), compiler_options=_UNOPTIMISED)
    for parity in (0, 1):
        params, state = ones, jax.tree.leaves(begun)
        for step in range(STEPS):
            gradient = [_half_zero(*kind, parity + place, step) for place, kind in enumerate(kinds)]
            moving = [leaf if moves(leaf) else None for leaf in state]
            fixed = [None if moves(leaf) else leaf for leaf in state]
            slope, (params, state) = slopes(jax.tree.unflatten(structure, gradient), moving, params, fixed)
            # Before the first step, state and parameters depend on no gradient.
            if not all(np.isfinite(np.asarray(leaf)).all() for leaf in jax.tree.leaves(slope if step else slope[0])):
                return False
    return True


_UNOPTIMISED = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
"""For a program that runs a few times on a few numbers: compiling it is all that takes time."""


def _half_zero(shape: tuple[int, ...], dtype: Any, parity: int, step: int) -> jax.Array:
    """Return a gradient of which every second coordinate is zero, the same ones in every step."""
    values = np.arange(1, math.prod(shape) + 1) + parity
    return jnp.asarray(np.where(values % 2 == 0, 0.0, 0.1 * values + step).reshape(shape), dtype)


def _adaptive_step(self: adam | yogi, updates: Any, state: Any, nu: Any, eps_root: float) -> tuple[Any, Any]:
    """Return the step and the state of Adam and of Yogi, which differ in the second moment."""
    xp, (moments, rest) = _namespace((updates, state)), state
    mu = jax.tree.map(lambda g, m: (1 - self.b1) * g + self.b1 * m, updates, moments.mu)
    most = np.iinfo(np.int32).max
    count = xp.where(moments.count < most, moments.count + 1, most).astype(np.int32)
    first, second = (1 - _power(decay, count, xp) for decay in (self.b1, self.b2))

    def step(m: Any, v: Any) -> Any:
        # The corrections are rounded to the moments' own type, after they were computed in a wider one.
        v = v / second.astype(v.dtype)
        return (m / first.astype(m.dtype)) / (xp.sqrt(v + eps_root) + self.eps)

    return _scaled(jax.tree.map(step, mu, nu), self.learning_rate), (optax.ScaleByAdamState(count, mu, nu), rest)


def _power(base: float, exponent: Any, xp: Any) -> Any:
    """Return base ** exponent, shape [].

    On NumPy by squaring, products of float64 in a fixed order, since a library's power is rounded differently from
    machine to machine. On JAX as Optax has it, to be the same to the bit.
    """
    if xp is not np:
        return base**exponent
    power, square, left = 1.0, base, operator.index(exponent)
    while left:
        if left & 1:
            power *= square
        square *= square
        left >>= 1
    return np.float64(power)


def _scaled(updates: Any, learning_rate: float) -> Any:
    return jax.tree.map(lambda g: -learning_rate * g, updates)


def check_optimiser(name: str, value: Any) -> None:
    """Raise a UsageError unless a value is an optimiser; a class or a name of one is not."""
    if isinstance(value, type) or not (hasattr(value, "init") and hasattr(value, "update")):
        meant = value if isinstance(value, str) and value in OPTIMISERS else "adam"
        raise UsageError(
            f"{name} must be one of fm.optimisers such as fm.optimisers.{meant}(1e-3), or an Optax transformation, not "
            f"{said(value)}"
        )


def _filled(params: Any, value: float) -> Any:
    return jax.tree.map(lambda p: _namespace(p).full_like(p, value), params)


def _namespace(tree: Any) -> Any:
    """Return NumPy where all leaves are NumPy's, else JAX's namespace."""
    leaves = jax.tree.leaves(tree)
    return np if leaves and all(isinstance(leaf, (np.ndarray, np.generic)) for leaf in leaves) else jnp


_RATE = (lambda value: 0 < value < math.inf, "positive and finite")
_SHARE = (lambda value: 0 <= value < 1, "at least 0 and below 1")
_SMALL = (lambda value: 0 <= value < math.inf, "finite and not negative")


def _settle(self: NamedOptimiser, **settings: tuple[Callable[[float], bool], str]) -> None:
    """Make each setting a Python float, so that values stay hashable and equal, or say what it should be."""
    for name, (is_right, right) in settings.items():
        given = getattr(self, name)
        try:
            value = math.nan if isinstance(given, (bool, np.bool_, str, bytes)) else float(given)
        except (TypeError, ValueError, OverflowError):
            value = math.nan
        if not is_right(value):
            raise UsageError(f"{name} of {self.name} must be a number, {right}, not {given!r}")
        object.__setattr__(self, name, value)
