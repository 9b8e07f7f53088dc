"""The round loop: sample a cohort, run its round, tell the listeners, keep a checkpoint."""

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pyarrow as pa

from fedmeta import accounting, pytrees, random, server
from fedmeta.algorithms.algorithm import Algorithm
from fedmeta.data.dataset import FederatedDataset, check_support
from fedmeta._engine import autotune, processes, sharding
from fedmeta._fit import check_fit, drawn_sizes, usable_clients
from fedmeta._engine.cohort import Cohort, client_key
from fedmeta._engine.prefetch import Prefetcher
from fedmeta._engine.cohort_sharding import CohortSharding
from fedmeta._engine.plan import Plan, Precision, check_precision, default_plan
from fedmeta._engine.program import finite_program, round_program, traced_update
from fedmeta._engine.rewrite.interpreter import Traced
from fedmeta._engine.padding import PaddingBuckets
from fedmeta.errors import Diverged, ProcessLost, UsageError
from fedmeta.events import Listener, PlanMeasured, RoundEnded, RunEnded, RunStarted
from fedmeta.model import Model
from fedmeta.runs.folder import RunFolder, read_history, saved_plan
from fedmeta.server import ServerState

ADAM = optax.adam(1e-3)


@dataclass(frozen=True, eq=False)
class Run:
    """What training gave.

    Args:
        state: the server's last state; `state.phi` is the result.
        rows: one mapping of figures for each round.
        directory: the run folder, if there is one.
        plan: by which the rounds were computed.
    """

    state: ServerState
    rows: tuple[Mapping[str, Any], ...]
    directory: Path | None = None
    plan: Plan | None = None

    @property
    def history(self) -> pa.Table:
        """The figures as a table, one row a round; where a round has no such figure it is null."""
        names = dict.fromkeys(name for row in self.rows for name in row)
        return pa.table({name: [row.get(name) for row in self.rows] for name in names})


@dataclass(frozen=True, eq=False)
class Explanation:
    """How the engine computes a run, and why.

    Args:
        plan: the plan.
        source: where it comes from.
        trials: the plans that were measured.
        cohort_size: clients in a round.
        levels: support and query examples, padding included, at each level to which clients are padded; each is
            another program to compile.
        padding: the share of padding among all examples, when every client is padded to its own level.
        flops: floating-point operations of a client's update at the first round's level.
    """

    plan: Plan
    source: str
    trials: tuple[autotune.Trial, ...]
    cohort_size: int
    levels: tuple[tuple[int, int], ...]
    padding: float
    flops: int


def explain_plan(
    algorithm: Algorithm,
    model: Model,
    data: FederatedDataset,
    *,
    cohort_size: int = 4,
    server: optax.GradientTransformation = ADAM,
    support: float = 0.2,
    seed: int = 0,
    max_examples: int | None = None,
    plan: Plan | None = None,
    precision: Precision = "float32",
    listeners: Sequence[Listener] = (),
) -> Explanation:
    """Return how `train` would compute a run with these arguments; the plans are measured if they have not been."""
    loop = _Loop(algorithm, model, data, server, cohort_size, support, seed, max_examples, precision)
    return loop.explain(plan, listeners)


def train(
    algorithm: Algorithm,
    model: Model,
    data: FederatedDataset,
    *,
    rounds: int,
    cohort_size: int = 4,
    server: optax.GradientTransformation = ADAM,
    support: float = 0.2,
    seed: int = 0,
    directory: str | Path | None = None,
    max_examples: int | None = None,
    validate: Callable[[Any], Mapping[str, float]] | None = None,
    validate_every: int = 10,
    checkpoint_every: int = 25,
    listeners: Sequence[Listener] = (),
    recipe: Mapping[str, Any] | None = None,
    plan: Plan | None = None,
    precision: Precision = "float32",
) -> Run:
    """Train an algorithm on the clients of a data set.

    In each round a cohort is drawn at random without replacement, each of its clients draws its support and
    query examples anew, and the server steps along the weighted mean of their directions.

    Args:
        algorithm: what is trained and how.
        model: the network, its loss and its metrics.
        data: the training clients; no other client is looked at.
        rounds: how many rounds the run has in all.
        cohort_size: clients in a round.
        server: any Optax optimiser; its state lives as long as the run. The same seed, settings and plan give the
            same result, bit for bit, on the same machine.
        support: the fraction of a client's examples that is its support set.
        seed: every draw is folded from it by purpose, round and client.
        directory: the run folder. A run that was interrupted there goes on from its last checkpoint and gives
            bit for bit what it would have given.
        max_examples: at most so many of a client's examples are drawn in a round.
        validate: called with phi every `validate_every` rounds and after the last; what it returns goes into
            the history.
        validate_every: see `validate`.
        checkpoint_every: rounds between checkpoints; there is always one after the last round.
        listeners: functions of one event, called in this process, in order.
        recipe: kept in run.toml beside the settings, for whoever must repeat the run.
        plan: how the engine computes a cohort. Where it is not given: that of the run in `directory`; else the one
            that was fastest when this model was measured on this machine, which a run that is long enough does
            first; else the usual one.
        precision: "bfloat16" rounds the factors of every matrix product and convolution to 8 bits of mantissa;
            sums, parameters and everything else stay float32.

    Raises:
        UsageError: an argument is out of range, or the model does not fit the data.
        DataError: no client has two examples.
        Diverged: an update or the server's state is not finite; the last good state is in the checkpoint.
        ProcessLost: another process of the run has ended; the last good state is in the checkpoint.
        RunError: the run folder is in use, holds another run, or cannot be written.
    """
    for name, value in {
        "rounds": rounds,
        "validate_every": validate_every,
        "checkpoint_every": checkpoint_every,
    }.items():
        if value < 1:
            raise UsageError(f"{name} must be at least 1, not {value}")
    loop = _Loop(algorithm, model, data, server, cohort_size, support, seed, max_examples, precision)
    if plan is None and directory is not None and sharding.is_leader():
        plan = saved_plan(directory)
    loop.use(loop.choose(plan, rounds, listeners))
    # Only process 0 speaks and writes; the others compute their share of each cohort.
    listeners = listeners if sharding.is_leader() else ()
    settings = {
        "run": {"rounds": rounds, **loop.settings()},
        "algorithm": {"name": algorithm.name, **asdict(algorithm)},
        **({"recipe": recipe} if recipe else {}),
        "plan": loop.plan.to_dict(),
        "versions": {name: version(name) for name in ("fedmeta", "jax", "jaxlib", "optax", "numpy")},
    }
    with ExitStack() as stack:
        state = loop.initial_state()
        folder = None
        if directory is not None and sharding.is_leader():
            folder = stack.enter_context(RunFolder(directory, settings))
            state = folder.restore(state)
            listeners = (folder, *listeners)
        state = sharding.broadcast(state)
        rows = read_history(folder.path) if folder else []
        done = int(state.round)
        if done > rounds:
            raise UsageError(f"{directory} has {done} rounds done, more than the {rounds} that are asked for")
        if folder:
            folder.keep_settings()

        state = loop.placed(state)
        # The state whose row the listeners have: what an interrupt leaves in the checkpoint. The one before it is
        # needed no more, and the next one takes its place in memory.
        told, spent = state, None

        def tell(event: Any) -> None:
            for listener in listeners:
                listener(event)

        try:
            parameters = accounting.num_parameters(state.phi)
            path = folder.path if folder else None
            tell(RunStarted(rounds, done, len(loop.usable), loop.left_out, parameters, path))
            feed = stack.enter_context(Prefetcher(loop.draw, range(done + 1, rounds + 1)))
            started = time.perf_counter()
            with processes.guard():
                for drawn in feed:
                    number = drawn.round
                    state, figures = loop.round(told, spent, drawn, feed.refill)
                    validation = {}
                    if validate is not None and (number % validate_every == 0 or number == rounds):
                        # A copy, for whoever keeps it: the state's memory is used again.
                        validation = dict(validate(jax.tree.map(jnp.copy, state.phi)))
                    now = time.perf_counter()
                    event = RoundEnded(**figures, seconds=now - started, validation=validation)
                    started = now
                    rows.append(event.row())
                    tell(event)
                    told, spent = state, told
                    if folder and (number % checkpoint_every == 0 or number == rounds):
                        folder.save_checkpoint(state)
        except (KeyboardInterrupt, Diverged, ProcessLost):
            if folder:
                folder.save_checkpoint(told)
            raise
        if folder:
            folder.save_result(state.phi)
        tell(RunEnded(rounds))
    return Run(state, tuple(rows), None if directory is None else Path(directory), loop.plan)


class _Drawn(NamedTuple):
    """A round's clients, and their tasks on the devices: what the host prepares."""

    round: int
    clients: tuple[str, ...]
    level: int
    cohort: Cohort


class _Loop:
    """One run's fixed parts, and its rounds."""

    def __init__(
        self,
        algorithm: Algorithm,
        model: Model,
        data: FederatedDataset,
        optimiser: optax.GradientTransformation,
        cohort_size: int,
        support: float,
        seed: int,
        max_examples: int | None,
        precision: Precision,
    ):
        self.algorithm, self.model, self.data, self.optimiser = algorithm, model, data, optimiser
        self.cohort_size, self.support, self.seed, self.max_examples = (
            cohort_size,
            support,
            seed,
            max_examples,
        )
        check_support(support)
        check_precision(precision)
        check_fit(model, data)
        self.usable = usable_clients(data, max_examples)
        self.left_out = data.num_clients - len(self.usable)
        if not 1 <= cohort_size <= len(self.usable):
            raise UsageError(
                f"cohort_size must lie between 1 and the {len(self.usable)} clients that can train, not {cohort_size}"
            )
        self.sizes = drawn_sizes(data, max_examples)
        self.shapes = PaddingBuckets(self.sizes[self.usable], support)
        self.precision: Precision = precision
        self.flops: dict[int, int] = {}

    def use(self, plan: Plan) -> None:
        """Compute the rounds by this plan."""
        self.plan, self.places = plan, CohortSharding(plan, self.cohort_size)
        self.program = round_program(
            self.algorithm, self.model, self.optimiser, self.places.plan, self.precision, self.places.mesh
        )

    def choose(self, plan: Plan | None, rounds: int, listeners: Sequence[Listener] = ()) -> Plan:
        """Return the plan for a run of so many rounds: that of `explain`, or the usual one where it is too short.

        Args:
            plan: is returned where it is given.
            rounds: of the run.
            listeners: hear of each plan that is measured.
        """
        if sharding.several():
            # All processes must take the same, and none can measure alone.
            if plan is None and sharding.is_leader() and (found := autotune.remembered(self._digest())):
                plan = autotune.best(found).plan
            return Plan.shared(plan or default_plan(self.cohort_size, self._flops()))
        if plan is not None:
            return plan
        flops = self._flops()
        plan = default_plan(self.cohort_size, flops)
        if not autotune.worthwhile(rounds, flops * self.cohort_size) and not autotune.remembered(self._digest()):
            return plan
        return self.explain(listeners=listeners).plan

    def explain(self, plan: Plan | None = None, listeners: Sequence[Listener] = ()) -> Explanation:
        """Return the fastest of the plans that were measured before or are measured now; or look at this plan."""

        stopwatch = autotune.Stopwatch(self._compiled)

        def trial(candidate: Plan) -> autotune.Trial:
            found = stopwatch(candidate)
            for listener in listeners:
                listener(PlanMeasured(str(candidate), found.seconds, found.first))
            return found

        start = default_plan(self.cohort_size, self._flops()) if plan is None else plan
        traced, name = self._traced(), self._digest()
        if plan is not None:
            trials, source = [trial(plan)], "given"
        else:
            trials, source = autotune.remembered(name), "the fastest of those measured before"
        if not trials:
            changes = list(autotune.alternatives(start, traced, self.cohort_size))
            trials, source = autotune.search(start, changes, trial), "the fastest of those measured now"
            autotune.remember(name, trials)
        plan = autotune.best(trials).plan
        self.use(plan)
        return Explanation(
            plan=plan,
            source=source,
            trials=tuple(trials),
            cohort_size=self.cohort_size,
            levels=tuple(self.shapes.lengths(int(level)) for level in self.shapes.levels),
            padding=self.shapes.padding(self.sizes[self.usable]),
            flops=self._flops(),
        )

    def _traced(self, level: int | None = None) -> Traced:
        """Return the update of a client at a level, or at the highest, which most cohorts are padded to."""
        level = int(self.shapes.levels[-1]) if level is None else level
        return traced_update(self.algorithm, self.model, self.data, self.shapes.lengths(level))

    def _flops(self, level: int | None = None) -> int:
        """Return the floating-point operations of a client's update, as the algorithm states it."""
        return accounting.count_flops_of(self._traced(level).program)

    def _digest(self) -> str:
        return autotune.digest(self._traced(), self.cohort_size, self.precision)

    def _compiled(self, plan: Plan) -> tuple[Callable[[], Any], Any]:
        """Compile a plan's round, of the first round's clients; return it with its arguments, and the executable."""
        self.use(plan)
        cohort, start = self.draw(1).cohort, self.placed(self.initial_state())
        executable = self.program.lower(start, jax.tree.map(jnp.copy, start), cohort).compile()
        spent = [jax.tree.map(jnp.copy, start)]

        def run() -> Any:
            result = executable(start, spent.pop(), cohort)
            spent.append(result.state)
            return result.finite

        return run, executable

    def settings(self) -> dict[str, Any]:
        """Return what a run depends on, beside the algorithm's own fields."""
        shapes = jax.eval_shape(self.initial_state)
        described = ";".join(f"{leaf.dtype}{leaf.shape}" for leaf in jax.tree.leaves(shapes))
        return {
            "cohort_size": self.cohort_size,
            "support": self.support,
            "seed": self.seed,
            "max_examples": self.max_examples,
            "precision": self.precision,
            "clients": self.data.num_clients,
            "data_sha256": self.data.fingerprint,
            "state_sha256": hashlib.sha256(described.encode()).hexdigest()[:16],
        }

    def initial_state(self) -> ServerState:
        key = random.as_key(random.key_data(self.seed, "init"))
        return server.init(self.optimiser, self.algorithm.init(self.model, key))

    def placed(self, state: ServerState) -> ServerState:
        """Return the state on the devices that share the cohort."""
        return sharding.replicate(jax.tree.map(jnp.asarray, state), self.places.mesh)

    def draw(self, number: int) -> _Drawn:
        """Draw the clients of a round and read the tasks of those that this process computes."""
        draw = random.generator(self.seed, "cohort", number)
        chosen = self.usable[draw.choice(len(self.usable), self.cohort_size, replace=False)]
        names = [str(name) for name in self.data.ids[chosen]]
        level = self.shapes.level(int(self.sizes[chosen].max()))
        keys = [client_key(self.seed, "client batches", number, name) for name in names]
        cohort = self.places.read(
            self.data,
            chosen,
            self.shapes.lengths(level),
            keys,
            support=self.support,
            seed=self.seed,
            max_examples=self.max_examples,
            round=number,
        )
        return _Drawn(number, tuple(names), level, cohort)

    def round(
        self, state: ServerState, spent: ServerState | None, drawn: _Drawn, meanwhile: Callable[[], None]
    ) -> tuple[ServerState, dict[str, Any]]:
        """Run a round; return the new state, in the memory of `spent`, and the round's figures but its time.

        `meanwhile` is called while the devices compute.
        """
        if drawn.level not in self.flops:
            self.flops[drawn.level] = self._flops(drawn.level) * self.cohort_size
        if spent is None:
            spent = jax.tree.map(jnp.copy, state)
        result = self.program(state, spent, drawn.cohort)
        meanwhile()
        metrics, finite = sharding.to_host((result.metrics, result.finite))
        if not finite:
            raise self._diverged(state, drawn)
        sent = pytrees.payload(state.phi) * self.cohort_size
        figures = {
            "round": drawn.round,
            "clients": drawn.clients,
            "metrics": {name: float(value) for name, value in metrics.items()},
            "bytes_down": sent,
            # A direction is a pytree like phi.
            "bytes_up": sent,
            "flops": self.flops[drawn.level],
        }
        return result.state, figures

    def _diverged(self, state: ServerState, drawn: _Drawn) -> Diverged:
        """Return the error that says whose update, or whether the server's step, is not finite."""
        places = self.places
        program = finite_program(self.algorithm, self.model, places.plan, self.precision, places.mesh)
        finite = sharding.to_host(program(state.phi, drawn.cohort))[: self.cohort_size]
        kept = f"the state after round {drawn.round - 1} is kept"
        if finite.all():
            return Diverged(
                f"round {drawn.round}: the server's step is not finite; {kept}. A lower server learning rate may help"
            )
        who = drawn.clients[int(np.argmin(finite))]
        return Diverged(
            f"round {drawn.round}: the update of client {who!r} is not finite; {kept}. "
            f"A lower inner_lr (now {self.algorithm.inner_lr}) or server learning rate may help"
        )
