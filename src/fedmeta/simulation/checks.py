"""Checks of a federation before its first round."""

import jax

from fedmeta import optimisers, random
from fedmeta.errors import UsageError
from fedmeta.federation import Federation


def check_federation(federation: Federation, cohort_size: int) -> None:
    """Raise a UsageError if a part of a federation does not work with this model.

    The server's optimiser must step on a gradient alone, and an inner optimiser that is differentiated must have a
    derivative where a gradient is exactly zero.
    """
    if cohort_size < federation.aggregator.smallest:
        raise UsageError(
            f"{federation.aggregator!r} takes {federation.aggregator.smallest} clients or more, and cohort_size is "
            f"{cohort_size}"
        )
    federation.algorithm.check_server(federation.server)
    phi = federation.phi_like
    try:
        state = jax.eval_shape(federation.init, random.default_key())
        after = jax.eval_shape(federation.step, state, phi)
    except (TypeError, ValueError, AttributeError) as error:
        reason = str(error).strip().split("\n")[0][:200]
        raise UsageError(
            f"the server's optimiser cannot step on a pseudo-gradient alone: {reason}. Optimisers that need a loss, "
            "other parameters or a line search have no place at the server"
        ) from error
    if jax.tree.structure(state) != jax.tree.structure(after):
        raise UsageError("the server's optimiser gives a state of another structure than the one it was given")
    for old, new in zip(jax.tree.leaves(state), jax.tree.leaves(after), strict=True):
        if (old.shape, old.dtype) != (new.shape, new.dtype):
            raise UsageError(
                f"the server's optimiser turns {old.dtype}{list(old.shape)} into {new.dtype}{list(new.shape)}: its "
                "state must keep its types"
            )
    inner = federation.algorithm.differentiated
    if inner is not None and not optimisers.differentiable_at_zero(inner, phi):
        raise UsageError(
            f"{federation.algorithm.title} differentiates through the inner optimiser, which has no derivative where a "
            "gradient is exactly zero, as for an input that is always 0: its meta-gradient would be NaN. Give it "
            "eps_root, such as optax.adam(0.05, eps_root=1e-8), or take fm.FOMAML"
        )
