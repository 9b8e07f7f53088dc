"""Small rounds whose answers are known by exact fractions, so that a machine that computes otherwise is noticed."""

import hashlib
import sys
from typing import Any, NamedTuple

import jax
import numpy as np

from fedmeta import aggregators, optimisers, pytrees
from fedmeta.algorithms import FedAvg
from fedmeta.runs.inputs import Inputs
from fedmeta.runs.procedure import Procedure
from fedmeta.transforms import fixed_point


def little(array: np.ndarray) -> np.ndarray:
    """Return the array with its bytes turned round where the machine's first byte is not the lowest."""
    return array.byteswap() if sys.byteorder == "big" else array


class Known(NamedTuple):
    """A small case whose answer is known.

    Args:
        rule: the aggregator's name.
        server: the optimiser's name, at a learning rate of 0.3.
        digest: what `found` gives where all is right.
    """

    rule: str
    server: str
    digest: str

    def procedure(self) -> Procedure:
        """Return softmax regression of 20 numbers to 3 classes: phi is a row of 3 (bias), then of 60 (weight)."""
        return Procedure(
            algorithm=FedAvg(),
            server=optimisers.make(self.server, learning_rate=0.3),
            transform=fixed_point(20, 24),
            aggregator=aggregators.make(self.rule),
            model="softmax_regression",
            inputs=Inputs((20,), ("a", "b", "c")),
            rounds=10,
            cohort_size=MEMBERS,
        )

    def found(self, exact: Any) -> str:
        """Return the SHA-256, in hexadecimal, of three states after one round each, one after another.

        They differ in the phi before the round: as `known_number` has it; then zero, except for its first; then what
        undoes that second state's phi. In the third the step all but cancels, so that the last bits of float64 show.
        """
        state, messages = self.given(exact)
        first = exact.aggregate(state, messages)
        second = exact.aggregate(self.with_phi(state, np.append(np.float32(2.0**-140), np.zeros(62))), messages)
        third = exact.aggregate(self.with_phi(state, 0 - little(np.frombuffer(second, np.float32, 63))), messages)
        return hashlib.sha256(first + second + third).hexdigest()

    def with_phi(self, state: bytes, phi: np.ndarray) -> bytes:
        """Return the state with another phi, shape [63]."""
        return little(phi.astype(np.float32)).tobytes() + state[4 * 63 :]

    def given(self, exact: Any) -> tuple[bytes, list[bytes]]:
        """Return the first state, and the messages: `MEMBERS` of them, with the weights 1, 3, 5, ..."""
        state = exact.read_state(bytes(exact.state_length))
        trees = [state.phi, *exact.moments(state)]
        for which, tree in enumerate(trees):
            places = iter(range(63))
            for leaf in jax.tree.leaves(tree):
                leaf.reshape(-1)[:] = [known_number(which, next(places)) for _ in range(leaf.size)]
        messages = []
        for member in range(MEMBERS):
            steps = np.array([known_steps(member, place) for place in range(63)], np.int32)
            messages.append(little(steps).tobytes() + little(np.array([2 * member + 1], np.float32)).tobytes())
        return pytrees.to_bytes(state), messages


MEMBERS = 11
"""The messages of a known case."""


def known_number(which: int, place: int) -> float:
    """Return a coordinate of phi (0), or of the optimiser's first moment (1) or its second (2), in the known cases.

    The first of phi is a float32 below the normal ones, which a processor that takes those for zero would lose.
    """
    if place == 0:
        return 2.0**-140 if which == 0 else 0.0
    return (((31 * place * place + 17) % 4097 - 2048) / 1024, (37 * place % 101 - 50) / 1024, 53 * place % 211 / 4096)[
        which
    ]


def known_steps(member: int, place: int) -> int:
    """Return a number of steps in a known case's messages; nobody moves the first coordinate."""
    return 0 if place == 0 else (7919 * place + 104729 * member * (place + 3)) % (2**24 - 1) - (2**23 - 1)


KNOWN = (
    Known("weighted_mean", "adam", "7611dd3e11e330f9fabba87f4c847b811179c2471e61e48b024223c9ec633804"),
    Known("trimmed_mean", "momentum", "449368acb47b761cd6dc573f4399c71df7dcafcb977fdf5106afbf8317412620"),
    Known("geometric_median", "adagrad", "4509ee2b5bdf1f3900dd9950bb924ec8250577e341fd009c8f5443e101ec2007"),
)
"""What `Exact.known_answer` computes, in blocks of 16. The digests follow from the definitions by exact fractions.

Every sum, difference, product, quotient and root of the rule and of the server is taken as a fraction (a root by that
of a whole number) and rounded to the nearest float64, the even one of two; the weighted mean's sum needs no rounding.
At the end phi and the moments are rounded to float32 in the same way. `tests/node/rounded.py` does so without NumPy,
and comes to these digests.
"""
