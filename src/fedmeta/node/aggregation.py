"""The exact path: messages as bytes, and a state as bytes, into the bytes of the next state, the same everywhere.

A message's numbers are whole steps of one grid (`fedmeta.transforms.fixed_point`), so that their sums are exact. All
other operations are those that IEEE 754 rounds correctly, on float64, in an order that depends on the messages alone:
rules that round take them in the order of their SHA-256. Neither the order in which messages come, nor the size of
blocks, nor the number of threads, nor the library's vector instructions change a bit.

What the grid costs. Let s = 2**-places be a step and m the largest number of steps, 2**(bits - 1) - 1. A number of at
most m * s is sent with an error of at most s / 2; a larger one is cut off at m * s. The weighted mean of such numbers
is off by at most s / 2 in each coordinate, and so are the coordinate-wise median and the trimmed mean, for all of them
move by at most what every number moves. The division of a mean adds at most 2**-53 of the mean.
"""

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from typing import Any

import jax
import numpy as np

from fedmeta import pytrees, random
from fedmeta._arrays import is_float
from fedmeta._precision import doubles
from fedmeta._settings import whole_number
from fedmeta.aggregators import Aggregator, Part, weighted_mean
from fedmeta.errors import DataError, Diverged, UsageError
from fedmeta.federation import ServerState
from fedmeta.node.errors import MessageRefused, WrongArithmetic
from fedmeta.node.known_answers import KNOWN, little
from fedmeta.node.wire.chunks import Blob
from fedmeta.runs.procedure import Procedure
from fedmeta.transforms import Transform, chain, clip_by_norm, fixed_point, gaussian_noise, identity

BLOCK = 1 << 16
"""Coordinates that are computed at a time."""

CHECKED = 1 << 16
"""Coordinates whose squares are added at a time: those of 24 bits then stay below 2**63."""

HEAVIEST = 2**20
"""The largest weight, where clients weigh by their examples."""

SLACK = Fraction(1, 1 << 10)
"""By how much of its norm a tree that was clipped may be longer: float32 sums of squares round, in any order."""


class Exact:
    """A procedure's aggregation on bytes.

    A message is `pytrees.to_bytes(Message(body, weight))`, a state `pytrees.to_bytes(ServerState(...))`: phi first,
    then the server's optimiser's own, then the number of rounds, an int32.

    `weighted_mean` and the rules of columns work in blocks. `norm_clipped_mean` and the rules of whole updates take
    whole trees of float64, the latter of all messages at once; see `memory`.

    Args:
        procedure: its last transform is `fixed_point`; before it are none but `clip_by_norm`, `gaussian_noise` and
            `identity`, which leave every number in its place.
        block: coordinates that are computed at a time.
        threads: blocks that are computed side by side.

    Raises:
        UsageError: the procedure is not exact, or JAX has 64 bits here, with which a message has other types.
    """

    def __init__(self, procedure: Procedure, *, block: int = BLOCK, threads: int = 1):
        for name, value in (("block", block), ("threads", threads)):
            if whole_number(name, value) < 1:
                raise UsageError(f"{name} must be at least 1, not {value}")
        if doubles():
            raise UsageError("a node computes without JAX's 64 bits: jax_enable_x64 must be False")
        self.procedure, self.federation = procedure, procedure.federation
        self.rule: Aggregator = self.federation.aggregator
        self.block, self.threads = block, threads
        self._parts = _dense_parts(self.federation.transform)
        self._grid = self._parts[-1]
        self._most = 2 ** (self._grid.bits - 1) - 1
        phi = self.federation.phi_like
        if not all(is_float(leaf) for leaf in jax.tree.leaves(phi)):
            raise UsageError("phi must hold floats alone, or there is nothing that a message could be for the rest")
        body = self.federation.transform.body_like(phi)
        self._sizes = [math.prod(leaf.shape) for leaf in jax.tree.leaves(body)]
        self._type = np.dtype(jax.tree.leaves(body)[0].dtype)
        self._starts = [self._type.itemsize * sum(self._sizes[:place]) for place in range(len(self._sizes))]
        self.message_length = self._type.itemsize * sum(self._sizes) + np.dtype(np.float32).itemsize
        """The bytes of a message."""
        self._state_like = jax.eval_shape(self.federation.init, random.default_key())
        self.state_length = pytrees.payload(self._state_like)
        """The bytes of a state."""
        one = jax.eval_shape(self.federation.server.init, jax.ShapeDtypeStruct((7,), np.float32))
        self._outer = jax.tree.structure(one)
        self._moving = [leaf.shape == (7,) for leaf in jax.tree.leaves(one)]
        self._longest = self._most_squares()

    def initial(self) -> bytes:
        """Return the state before the first round.

        Whoever writes the procedure computes it once, and the ledger's recipe names it: the normal draws of its
        parameters are JAX's, and may differ in their last bits between machines.
        """
        return pytrees.to_bytes(self.federation.init(random.as_key(random.key_data(self.procedure.seed, "init"))))

    def check(self, message: bytes) -> None:
        """Raise unless a message is well formed by the procedure alone; nothing is computed from it before.

        Its length is that of the procedure; every number is in the grid's range, and none stands for one that was not
        finite; its weight is 1 where clients weigh alike, else a whole number from 1 to `HEAVIEST`; and its norm is at
        most that to which the procedure clips, plus what rounding allows: `SLACK` of it, and half a step for each
        coordinate. Noise that is added after clipping may be as long as it likes, so no norm is checked then. All
        comparisons are of whole numbers, so that everyone refuses the same messages.

        Raises:
            MessageRefused: it is not.
        """
        if len(message) != self.message_length:
            raise MessageRefused(
                f"a message of this procedure has {self.message_length} bytes, and this one has {len(message)}"
            )
        self._check_weight(message)
        squares = 0
        for place, size in enumerate(self._sizes):
            for rows in _blocks(size, CHECKED):
                steps = self._steps(message, place, rows)
                self._check_range(steps, place, rows.start)
                if self._longest is not None:
                    wide = steps.astype(np.int64)
                    squares += int(wide @ wide)
        if self._longest is not None and squares > self._longest:
            raise MessageRefused(
                f"a message's norm must be at most {self._in_units(self._longest):.6g}, to which the procedure clips "
                f"and rounding is allowed, and is {self._in_units(squares):.6g}"
            )

    def aggregate(self, state: bytes, messages: Sequence[bytes]) -> bytes:
        """Return the bytes of the next state. Every message is checked before anything is computed.

        Args:
            state: before the round.
            messages: in any order.

        Raises:
            MessageRefused: a message is not well formed.
            DataError: the state has another length.
            UsageError: there are fewer messages than the rule takes, or so many of such weight that a sum might round.
            Diverged: the next state is not finite.
        """
        self._check_count(messages)
        self.check_state(state)
        for message in messages:
            self.check(message)
        ordered = sorted(messages, key=lambda message: hashlib.sha256(message).digest())
        if self._most * sum(map(self._weight, ordered)) > 2**53:
            raise UsageError(
                f"messages of {self._grid.bits} bits with a weight of {sum(map(self._weight, ordered)):.0f} together "
                "may not add exactly in float64: take fewer bits, or let clients weigh alike"
            )
        gradient = self._gradient(ordered)
        following = bytearray(self.state_length)
        before, after = self._views(state), self._views(following)

        def compute(place: int, rows: slice) -> None:
            old = jax.tree.map(little, self._cut(before, place, rows))
            wide = jax.tree.map(lambda leaf: leaf.astype(np.float64) if is_float(leaf) else leaf, old)
            with np.errstate(over="ignore", invalid="ignore", under="ignore"):
                done = self.federation.step(wide, gradient(place, rows))
                done = jax.tree.map(lambda new, known: np.asarray(new).astype(known.dtype), done, old)
            if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(done) if is_float(leaf)):
                raise Diverged("the next state is not finite: a lower server learning rate may help")
            for target, new in zip(jax.tree.leaves(self._cut(after, place, rows)), jax.tree.leaves(done), strict=True):
                target[...] = little(new)

        work = [(place, rows) for place, size in enumerate(self._sizes) for rows in _blocks(size, self.block)]
        if self.threads == 1:
            for one in work:
                compute(*one)
        else:
            with ThreadPoolExecutor(self.threads) as pool:
                list(pool.map(lambda one: compute(*one), work))
        return bytes(following)

    def result(self, state: bytes) -> bytes:
        """Return what the ledger calls a model, and a round's result: the blob's digest, 32 bytes."""
        return Blob.of(state).id

    def memory(self, count: int) -> int:
        """Return about the most bytes that `aggregate` takes, the messages and the states among them.

        Args:
            count: of messages.
        """
        held = count * self.message_length + 3 * self.state_length
        tree, blocks = 8 * sum(self._sizes), 8 * min(self.block, max(self._sizes)) * self.threads
        if isinstance(self.rule, weighted_mean):
            return held + 32 * blocks
        if self.rule.needs == "columns":
            return held + (14 * count + 32) * blocks
        return held + 6 * tree + (7 * count * tree if self.rule.needs == "updates" else 0) + 32 * blocks

    def check_state(self, state: bytes) -> None:
        """Raise a DataError unless a state has the procedure's length."""
        if len(state) != self.state_length:
            raise DataError(f"a state of this procedure has {self.state_length} bytes, and this one has {len(state)}")

    def read_state(self, state: bytes) -> ServerState:
        """Return a state as arrays of NumPy's.

        Raises:
            DataError: it has another length.
        """
        self.check_state(state)
        return pytrees.from_bytes(state, self._state_like)

    @staticmethod
    def known_answer() -> None:
        """Compute what is known; see `KNOWN`.

        Raises:
            WrongArithmetic: this machine, or its libraries, compute otherwise.
        """
        for known in KNOWN:
            found = known.found(Exact(known.procedure(), block=16))
            if found != known.digest:
                raise WrongArithmetic(
                    f"the known answer of {known.rule} and {known.server} is {known.digest}, and this machine finds "
                    f"{found}: its memory, its processor or its NumPy ({np.__version__}) computes otherwise than the "
                    "standard says, so that it would contradict the other members"
                )

    def moments(self, state: ServerState) -> list[Any]:
        """Return those parts of the optimiser's state that are trees like phi."""
        nodes = self._outer.flatten_up_to(state.optimiser)
        return [node for node, moving in zip(nodes, self._moving, strict=True) if moving]

    def _check_count(self, messages: Sequence[bytes]) -> None:
        if len(messages) < self.rule.smallest:
            raise UsageError(f"{self.rule} takes {self.rule.smallest} messages or more, and there are {len(messages)}")

    def _check_weight(self, message: bytes) -> None:
        weight, algorithm = self._weight(message), self.federation.algorithm
        if algorithm.weighting == "clients" and weight != 1:
            raise MessageRefused(f"a message's weight must be 1, for clients weigh alike, not {weight:g}")
        if not (1 <= weight <= HEAVIEST and weight == math.floor(weight)):
            raise MessageRefused(f"a message's weight must be a whole number from 1 to {HEAVIEST}, not {weight:g}")

    def _check_range(self, steps: np.ndarray, place: int, first: int) -> None:
        if steps.size and (steps.min() < -self._most or steps.max() > self._most):
            wrong = int(np.argmax((steps < -self._most) | (steps > self._most)))
            name = list(pytrees.names(self.federation.phi_like))[place]
            value = int(steps[wrong])
            said = "stands for a number that is not finite" if value == -self._most - 1 else f"is {value} steps"
            raise MessageRefused(
                f"a message's numbers must be from {-self._most} to {self._most} steps, and number "
                f"{first + wrong} of {name} {said}"
            )

    def _most_squares(self) -> int | None:
        """Return the largest sum of squares, in steps, of a message that was clipped; None where none is."""
        norms: list[float] = []
        for part in self._parts[:-1]:
            norms = [] if isinstance(part, gaussian_noise) else norms
            norms += [part.norm] if isinstance(part, clip_by_norm) else []
        if not norms:
            return None
        # A clipped tree is rounded to its own types, whose steps are coarser in half precision.
        coarse = max(Fraction(float(jax.numpy.finfo(leaf.dtype).eps)) for leaf in jax.tree.leaves(self._state_like.phi))
        root = math.isqrt(max(sum(self._sizes), 1) - 1) + 1
        longest = Fraction(min(norms)) * 2**self._grid.places * (1 + SLACK + coarse) + Fraction(root, 2)
        return math.floor(longest**2)

    def _in_units(self, squares: int) -> float:
        return math.sqrt(squares) / 2**self._grid.places

    def _weight(self, message: bytes) -> np.float64:
        return np.float64(little(np.frombuffer(message, np.float32, 1, len(message) - 4))[0])

    def _steps(self, message: bytes, place: int, rows: slice) -> np.ndarray:
        start = self._starts[place] + self._type.itemsize * rows.start
        return little(np.frombuffer(message, self._type, rows.stop - rows.start, start))

    def _decoded(self, message: bytes, place: int, rows: slice) -> np.ndarray:
        """Return numbers of one of phi's arrays; a product of a whole number and a power of two is exact."""
        return self._steps(message, place, rows).astype(np.float64) * 2.0**-self._grid.places

    def _gradient(self, messages: Sequence[bytes]) -> Callable[[int, slice], np.ndarray]:
        """Return the function that gives the pseudo-gradient's numbers of one of phi's arrays, as a row."""
        weights = np.array([self._weight(message) for message in messages])
        if isinstance(self.rule, weighted_mean):

            def mean(place: int, rows: slice) -> np.ndarray:
                parts = (
                    self.rule.lift(self._decoded(one, place, rows), weight)
                    for one, weight in zip(messages, weights, strict=True)
                )
                return self.rule.finish(_summed(parts))

            return mean
        if self.rule.needs == "columns":
            return lambda place, rows: self.rule.finish(Part(self._stacked(messages, place, rows), weights))
        everything = [slice(0, size) for size in self._sizes]
        if self.rule.needs == "sum":
            parts = (
                self.rule.lift([self._decoded(one, *each) for each in enumerate(everything)], weight)
                for one, weight in zip(messages, weights, strict=True)
            )
            whole = self.rule.finish(_summed(parts))
        else:
            stacked = [self._stacked(messages, *each) for each in enumerate(everything)]
            whole = self.rule.finish(Part(stacked, weights))
        return lambda place, rows: whole[place][rows]

    def _stacked(self, messages: Sequence[bytes], place: int, rows: slice) -> np.ndarray:
        stacked = np.empty((len(messages), rows.stop - rows.start))
        for row, message in zip(stacked, messages, strict=True):
            np.multiply(self._steps(message, place, rows), 2.0**-self._grid.places, out=row)
        return stacked

    def _views(self, data: bytes | bytearray) -> ServerState:
        """Return the arrays of a state where its bytes lie."""
        leaves, start = [], 0
        for leaf in jax.tree.leaves(self._state_like):
            count = math.prod(leaf.shape)
            leaves.append(np.frombuffer(data, np.dtype(leaf.dtype), count, start).reshape(leaf.shape))
            start += leaves[-1].nbytes
        return jax.tree.unflatten(jax.tree.structure(self._state_like), leaves)

    def _cut(self, state: ServerState, place: int, rows: slice) -> ServerState:
        """Return the state of some coordinates of one of phi's arrays: a tree of rows."""
        kept = [
            jax.tree.leaves(node)[place].reshape(-1)[rows] if moving else node
            for moving, node in zip(self._moving, self._outer.flatten_up_to(state.optimiser), strict=True)
        ]
        phi = jax.tree.leaves(state.phi)[place].reshape(-1)[rows]
        return ServerState(phi, jax.tree.unflatten(self._outer, kept), state.round)


def _dense_parts(transform: Transform) -> tuple[Any, ...]:
    """Return the parts of a transform that is exact.

    Raises:
        UsageError: it is not.
    """

    def flat(one: Transform) -> Iterator[Transform]:
        for part in one.parts if isinstance(one, chain) else ():
            yield from flat(part)
        if not isinstance(one, chain):
            yield one

    parts = tuple(flat(transform))
    if not isinstance(parts[-1], fixed_point):
        raise UsageError(
            f"the last transform of a procedure for a node must be fixed_point, whose sums are exact, not {parts[-1]}: "
            "such as chain(clip_by_norm(1.0), fixed_point(20, 24))"
        )
    for part in parts[:-1]:
        if not isinstance(part, clip_by_norm | gaussian_noise | identity):
            raise UsageError(
                f"before fixed_point a node takes clip_by_norm, gaussian_noise and identity, not {part}: "
                "every number must stay in its place"
            )
    return parts


def _blocks(size: int, block: int) -> Iterator[slice]:
    """Return the slices of an array of so many numbers; one of an array that is empty, for the count of rounds."""
    for first in range(0, max(size, 1), block):
        yield slice(first, min(first + block, size))


def _summed(parts: Iterator[Part]) -> Part:
    """Return the sum of parts, added in their order into the memory of the first."""
    total = next(parts)
    for part in parts:
        for into, leaf in zip(jax.tree.leaves(total.tree), jax.tree.leaves(part.tree), strict=True):
            into += leaf
        total = total._replace(weight=total.weight + part.weight)
    return total
