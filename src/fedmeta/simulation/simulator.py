"""The simulator: a federation on a data set, one round at a time, driven from outside."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedmeta import pytrees, random
from fedmeta._engine import sharding
from fedmeta._engine.cohort import Cohort, client_key
from fedmeta._engine.cohort_sharding import CohortSharding
from fedmeta._engine.forks import check_not_forked
from fedmeta._engine.padding import PaddingBuckets
from fedmeta._engine.plan import Plan, Precision, check_plan, check_precision, default_plan
from fedmeta._engine.program import RoundResult, finite_program, round_program
from fedmeta._engine.rewrite.interpreter import Traced
from fedmeta._engine.tracing import message_bytes, task_like, traced_update, update_flops
from fedmeta._fit import check_fit, drawn_sizes, usable_clients
from fedmeta._settings import said, whole_number
from fedmeta.data.dataset import FederatedDataset
from fedmeta.data.splits import check_support
from fedmeta.errors import Diverged, UsageError
from fedmeta.federation import Federation, ServerState
from fedmeta.simulation.checks import check_federation
from fedmeta.simulation.memory import ClientMemory


class DrawnCohort(NamedTuple):
    """The clients of a round, and their examples, on the devices that compute them.

    Args:
        round: from 1.
        clients: the clients' names.
        bucket: the number of examples, padding included, to which each of them is padded.
        cohort: their tasks, as one pytree of arrays [clients, ...].
    """

    round: int
    clients: tuple[str, ...]
    bucket: int
    cohort: Cohort


@dataclass(frozen=True, eq=False)
class Figures:
    """The figures of a round. Its metrics may still be computing: reading them waits.

    Args:
        round: from 1.
        clients: the names of the cohort.
        bytes_down: bytes sent to the clients.
        bytes_up: bytes of the clients' messages, each its leaves in order without a header.
        flops: floating-point operations of the round's program, padding included; None where a loop's length is known
            only when it runs.
    """

    round: int
    clients: tuple[str, ...]
    bytes_down: int
    bytes_up: int
    flops: int | None
    _read: Callable[[], dict[str, float]]

    @cached_property
    def metrics(self) -> Mapping[str, float]:
        """The weighted means of the clients' training metrics, "loss" among them.

        Raises:
            Diverged: an update or the server's state is not finite; the error says whose.
        """
        return self._read()


class Simulator:
    """A federation on a data set: `init() -> state`, `draw(round) -> cohort`, and `step(state, cohort)`, one round.

    In each round a cohort is drawn at random without replacement, and each of its clients draws its support and query
    examples anew. Every draw is folded from the seed by purpose, round and client, so that rounds may be drawn in any
    order, and ahead of time.

    Args:
        federation: what a round computes.
        data: the training clients; no other client is used.
        cohort_size: clients in a round.
        support: the fraction of a client's examples that is its support set.
        seed: of every draw.
        max_examples: the most examples of a client that are drawn in a round; None for all.
        plan: how the engine computes a cohort; by default a plan that fits most models.
        precision: "bfloat16" rounds the factors of every matrix product and convolution to 8 bits of mantissa;
            sums, parameters and everything else stay float32.

    Raises:
        UsageError: an argument is out of range, or the model does not fit the data.
        DataError: no client has two examples.
    """

    def __init__(
        self,
        federation: Federation,
        data: FederatedDataset,
        *,
        cohort_size: int = 4,
        support: float = 0.2,
        seed: int = 0,
        max_examples: int | None = None,
        plan: Plan | None = None,
        precision: Precision = "float32",
    ):
        check_not_forked()
        if not isinstance(federation, Federation):
            raise UsageError(f"the simulator takes a fm.Federation, not {said(federation)}")
        if not isinstance(data, FederatedDataset):
            raise UsageError(f"data must be a data set of fm.data, such as fm.data.load('digits'), not {said(data)}")
        self.federation, self.data, self.support = federation, data, support
        self.cohort_size = whole_number("cohort_size", cohort_size)
        self.seed = whole_number("seed", seed)
        self.max_examples = whole_number("max_examples", max_examples)
        check_support(support)
        check_precision(precision)
        check_plan(plan)
        self.precision: Precision = precision
        check_fit(federation.model, data)
        self.usable = usable_clients(data, self.max_examples)
        self.left_out = data.num_clients - len(self.usable)
        if not 1 <= self.cohort_size <= len(self.usable):
            raise UsageError(
                f"cohort_size must lie between 1 and the {len(self.usable)} clients that can train, not {cohort_size}"
            )
        self.sizes = drawn_sizes(data, self.max_examples)
        self.buckets = PaddingBuckets(self.sizes[self.usable], support, split=data.split)
        check_federation(federation, self.cohort_size)
        self.memory = ClientMemory(self._fresh())
        self._after: tuple[int, tuple[str, ...], Any] | None = None
        self._known_costs: dict[int, tuple[int, int, int | None]] = {}
        self.given_plan = plan
        self._placement: CohortSharding | None = None

    def init(self) -> ServerState:
        """Return the state before the first round, on the devices; the clients forget what they have kept."""
        self.memory.close()
        self.memory, self._after = ClientMemory(self._fresh()), None
        return self.place(self.federation.init(self._key()))

    def draw(self, round: int) -> DrawnCohort:
        """Return the clients of a round, from 1, with the tasks of those that this process computes.

        Raises:
            UsageError: there is no such round.
        """
        round = whole_number("round", round)
        if round < 1:
            raise UsageError(f"round must be at least 1, not {round}")
        draw = random.generator(self.seed, "cohort", round)
        chosen = self.usable[draw.choice(len(self.usable), self.cohort_size, replace=False)]
        names = [str(name) for name in self.data.ids[chosen]]
        bucket = self.buckets.bucket(int(self.sizes[chosen].max()))
        keys = [client_key(self.seed, "client batches", round, name) for name in names]
        cohort = self.placement.read(
            self.data,
            chosen,
            self.buckets.lengths(bucket),
            keys,
            support=self.support,
            seed=self.seed,
            max_examples=self.max_examples,
            round=round,
        )
        return DrawnCohort(round, tuple(names), bucket, cohort)

    def step(
        self, state: ServerState, drawn: DrawnCohort, *, spent: ServerState | None = None
    ) -> tuple[ServerState, Figures]:
        """Return the state after a round, and the round's figures. It does not wait for the devices.

        Args:
            state: before the round; it is not changed.
            drawn: the cohort.
            spent: a state that is no longer needed, whose memory the new state reuses.
        """
        self._settle()
        memory = self.memory_of(drawn)
        result = RoundResult(*self.program(state, spent, drawn.cohort, memory))
        if self.memory:
            self._after = (drawn.round, drawn.clients, result.memory)

        def read() -> dict[str, float]:
            metrics, finite = sharding.to_host((result.metrics, result.finite))
            if not finite:
                self._after = None
                raise self._diverged(state, drawn, memory)
            self._settle()
            return {name: float(value) for name, value in metrics.items()}

        figures = Figures(drawn.round, drawn.clients, *self._costs(drawn.bucket), _read=read)
        return result.state, figures

    def use(self, plan: Plan) -> None:
        """Compute the following rounds by this plan."""
        self.given_plan, self._placement = plan, CohortSharding(plan, self.cohort_size)
        self.__dict__.pop("program", None)

    @property
    def placement(self) -> CohortSharding:
        """The devices that share a cohort."""
        if self._placement is None:
            self.use(self.given_plan or default_plan(self.cohort_size, self.flops()))
        assert self._placement is not None
        return self._placement

    @property
    def plan(self) -> Plan:
        """How the engine computes a cohort."""
        _ = self.placement
        assert self.given_plan is not None
        return self.given_plan

    @cached_property
    def program(self) -> Any:
        """The compiled round; see `round_program`."""
        there = self.placement
        return round_program(self.federation, there.plan, self.precision, there.mesh)

    def place(self, state: ServerState) -> ServerState:
        """Return a state on the devices that share the cohort."""
        return sharding.replicate(jax.tree.map(jnp.asarray, state), self.placement.mesh)

    def keep_memory_in(self, folder: Path, mark: dict[str, Any] | None = None) -> None:
        """Keep the clients' memory in a folder; with the mark of a checkpoint, continue from it."""
        self.memory.close()
        self.memory, self._after = ClientMemory(self._fresh(), folder, mark), None

    def mark_memory(self, round: int) -> dict[str, Any] | None:
        """Bring the clients' memory after a round to the disk; return what a checkpoint keeps of it."""
        return self.memory.mark(round)

    def traced(self, bucket: int | None = None) -> Traced:
        """Return the update of a client of a bucket, or of the largest, to which most cohorts are padded."""
        bucket = int(self.buckets.sizes[-1]) if bucket is None else bucket
        return traced_update(self.federation, task_like(self.data, self.buckets.lengths(bucket)))

    def flops(self, bucket: int | None = None, clients: int = 1) -> int | None:
        """Return the floating-point operations of clients' updates as the algorithm states them, or None."""
        bucket = int(self.buckets.sizes[-1]) if bucket is None else bucket
        each = update_flops(self.federation, task_like(self.data, self.buckets.lengths(bucket)))
        return None if each is None else each * clients

    def _costs(self, bucket: int) -> tuple[int, int, int | None]:
        """Return the bytes down, the bytes up and the operations of a round whose clients are padded to a bucket."""
        if bucket not in self._known_costs:
            each = message_bytes(self.federation, task_like(self.data, self.buckets.lengths(bucket)))
            down = self.cohort_size * pytrees.payload(self.federation.phi_like)
            self._known_costs[bucket] = down, self.cohort_size * each, self.flops(bucket, self.cohort_size)
        return self._known_costs[bucket]

    def _key(self) -> jax.Array:
        return random.as_key(random.key_data(self.seed, "init"))

    def _fresh(self) -> Any:
        return self.federation.memory(self._key())

    def _settle(self) -> None:
        """Store the memory of the last round's clients."""
        if self._after is not None:
            (number, names, after), self._after = self._after, None
            # All processes must take part in gathering it.
            after = sharding.to_host(after)
            if sharding.is_leader():
                self.memory.write(number, names, after)

    def memory_of(self, drawn: DrawnCohort) -> Any:
        """Return the memory of this process's clients of a cohort, every array [clients, ...], on its devices."""
        there = self.placement
        fill: list[str | None] = [None] * (there.filled - len(drawn.clients))
        if not self.memory:
            return self.memory.fresh
        names = [*drawn.clients, *fill]
        memory = sharding.broadcast(self.memory.read(names if sharding.is_leader() else [None] * len(names)))
        mine = sharding.share(there.filled, there.mesh)
        return sharding.spread(jax.tree.map(lambda leaf: leaf[mine], memory), there.mesh)

    def _diverged(self, state: ServerState, drawn: DrawnCohort, memory: Any) -> Diverged:
        """Return the error that says which client's update is not finite, or that the server's step is not."""
        there = self.placement
        program = finite_program(self.federation, there.plan, self.precision, there.mesh)
        finite = sharding.to_host(program(state.phi, drawn.cohort, memory))[: self.cohort_size]
        kept = f"the state after round {drawn.round - 1} is kept"
        if finite.all():
            return Diverged(
                f"round {drawn.round}: the server's step is not finite; {kept}. A lower server learning rate may help"
            )
        who = drawn.clients[int(np.argmin(finite))]
        now = getattr(self.federation.algorithm, "inner_lr", None)
        rate = "learning rate of the clients" if now is None else f"inner_lr (now {now})"
        return Diverged(
            f"round {drawn.round}: the update of client {who!r} is not finite; {kept}. "
            f"A lower {rate} or server learning rate may help"
        )
