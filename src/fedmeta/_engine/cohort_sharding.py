"""Where a cohort is computed: the devices that share it, and how many clients each of them has."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from fedmeta._engine import sharding
from fedmeta._engine.cohort import Cohort, read
from fedmeta._engine.plan import Plan
from fedmeta.data.dataset import FederatedDataset

LARGE = 1 << 17
"""The size in bytes from which an array is put on the device by a call of its own."""


class CohortSharding:
    """The devices of a plan, and a cohort of some size on them.

    Args:
        plan: its `devices` are those of each process; several processes use all of theirs.
        cohort_size: the clients in a round or a group.
    """

    mesh: Mesh
    """The devices."""
    plan: Plan
    """The plan, its chunk no larger than what a device has."""
    filled: int
    """The size of a cohort padded so that all devices have the same number of whole chunks."""

    def __init__(self, plan: Plan, cohort_size: int):
        self.mesh = sharding.mesh(None if sharding.several() else plan.devices)
        each = -(-cohort_size // self.mesh.size)
        # As many chunks as the plan's size asks for, each as small as that allows.
        chunks = -(-each // min(plan.chunk, each))
        chunk = -(-each // chunks)
        self.plan = replace(plan, chunk=chunk, devices=plan.devices)
        self.filled = self.mesh.size * chunks * chunk

    def read(
        self,
        data: FederatedDataset,
        places: Sequence[int] | np.ndarray,
        lengths: tuple[int, int],
        keys: Sequence[np.ndarray],
        **split: Any,
    ) -> Cohort:
        """Read the clients that this process computes, as `cohort.read` does, and put them on its devices."""
        mine = sharding.share(self.filled, self.mesh)
        own = [number for number in range(mine.start, mine.stop) if number < len(places)]
        # A process without a client of its own fills its share with the first client.
        chosen = own or [0]
        cohort = read(
            data,
            [int(places[number]) for number in chosen],
            lengths,
            [keys[number] for number in chosen],
            filled=mine.stop - mine.start,
            **split,
        )
        if not own:
            cohort = cohort._replace(present=np.zeros_like(cohort.present))
        if self.mesh.size > 1:
            return sharding.spread(cohort, self.mesh)
        # Large arrays are put on the device here, in the thread that reads ahead.
        return jax.tree.map(lambda leaf: jax.device_put(leaf) if leaf.nbytes > LARGE else leaf, cohort)
