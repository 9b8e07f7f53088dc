"""What a run depends on, in plain values that run.toml holds."""

import hashlib
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import jax

from fedmeta import random
from fedmeta.aggregators import weighted_mean
from fedmeta.runs.describing import described, name_of
from fedmeta.simulation.simulator import Simulator
from fedmeta.transforms import identity


def settings_of(simulator: Simulator, rounds: int, recipe: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the settings of a run, as run.toml holds them."""
    federation = simulator.federation
    shapes = jax.eval_shape(federation.init, random.default_key())
    summary = ";".join(f"{leaf.dtype}{leaf.shape}" for leaf in jax.tree.leaves(shapes))
    parts: dict[str, Any] = {}
    if name_of(federation.server):
        parts["server"] = described(federation.server)
    if federation.transform != identity():
        parts["transform"] = described(federation.transform)
    if federation.aggregator != weighted_mean():
        parts["aggregator"] = described(federation.aggregator)
    return {
        "run": {
            "rounds": rounds,
            "cohort_size": simulator.cohort_size,
            "support": simulator.support,
            "seed": simulator.seed,
            "max_examples": simulator.max_examples,
            "precision": simulator.precision,
            "clients": simulator.data.num_clients,
            "data_sha256": simulator.data.fingerprint,
            "state_sha256": hashlib.sha256(summary.encode()).hexdigest()[:16],
        },
        "algorithm": described(federation.algorithm),
        **parts,
        **({"recipe": recipe} if recipe else {}),
        "plan": simulator.plan.to_dict(),
        "versions": {name: version(name) for name in ("fedmeta", "jax", "jaxlib", "optax", "numpy")},
    }
