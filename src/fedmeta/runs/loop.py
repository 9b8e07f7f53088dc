"""Training: a loop over a simulator's rounds, with a run folder, validation, listeners and early stopping."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedmeta import accounting, events, optimisers
from fedmeta._engine import processes, sharding
from fedmeta._engine.plan import Plan, Precision
from fedmeta._engine.prefetch import Prefetcher
from fedmeta._extras import need
from fedmeta._settings import a_function, said, whole_number
from fedmeta.aggregators import Aggregator, weighted_mean
from fedmeta.algorithms.algorithm import Algorithm
from fedmeta.data.dataset import FederatedDataset
from fedmeta.errors import UsageError
from fedmeta.events import Listener, RoundEnded, RunEnded, RunStarted
from fedmeta.federation import Federation, ServerState
from fedmeta.model import Model
from fedmeta.runs import saying
from fedmeta.runs.folder import RunFolder, read_history, saved_plan
from fedmeta.runs.settings import settings_of
from fedmeta.runs.stopping import Best, Select, figures_of
from fedmeta.simulation.planning import PlanExplanation, choose_plan, explain
from fedmeta.simulation.simulator import Simulator
from fedmeta.transforms import Transform, identity

ADAM = optimisers.adam(1e-3)


@dataclass(frozen=True, eq=False, repr=False)
class Run:
    """The result of training.

    Args:
        state: the server's last state.
        rows: one mapping of figures for each round.
        directory: the run folder, if there is one.
        plan: the plan by which the rounds were computed.
        best: the best state by the validation figure, if that is the result; else None.
        algorithm: what was trained.
    """

    state: ServerState
    rows: tuple[Mapping[str, Any], ...]
    directory: Path | None = None
    plan: Plan | None = None
    best: ServerState | None = None
    algorithm: Algorithm | None = None

    def __str__(self) -> str:
        title = "Run" if self.algorithm is None else self.algorithm.title
        lines = [f"{title}, {saying.counted(int(self.state.round))}", *saying.lines_of(self.rows)]
        if self.best is not None:
            lines.append(f"best: round {int(self.best.round)}, whose phi is the result")
        if self.directory is not None:
            lines.append(f"folder: {self.directory}")
        return "\n".join(lines)

    __repr__ = __str__

    @property
    def phi(self) -> Any:
        """The phi of the best state if there is one, else of the last."""
        return (self.state if self.best is None else self.best).phi

    @property
    def history(self) -> Any:
        """The figures as a pyarrow table, one row a round; where a round has no such figure it is null.

        Raises:
            MissingPackage: the extra `tables` is not installed.
        """
        names = dict.fromkeys(name for row in self.rows for name in row)
        columns = {name: [row.get(name) for row in self.rows] for name in names}
        return need("pyarrow", "the history as a table").table(columns)


def explain_plan(
    algorithm: Algorithm,
    model: Model,
    data: FederatedDataset,
    *,
    server: Any = ADAM,
    plan: Plan | None = None,
    listeners: Sequence[Listener] = (),
    **options: Any,
) -> PlanExplanation:
    """Return how `train` would compute a run with these arguments; the plans are measured if they have not been.

    Args:
        algorithm: as in `train`.
        model: as in `train`.
        data: as in `train`.
        server: as in `train`.
        plan: look at this one instead.
        listeners: are told of each plan that is measured.
        options: those of `fm.Simulator`.
    """
    return explain(Simulator(Federation(algorithm, model, server), data, **options), plan, listeners)


def train(
    algorithm: Algorithm,
    model: Model,
    data: FederatedDataset,
    *,
    rounds: int,
    cohort_size: int = 4,
    server: Any = ADAM,
    transform: Transform = identity(),  # noqa: B008 (a value)
    aggregator: Aggregator = weighted_mean(),  # noqa: B008
    support: float = 0.2,
    seed: int = 0,
    directory: str | Path | None = None,
    max_examples: int | None = None,
    validate: Callable[[Any], Mapping[str, float]] | None = None,
    validate_every: int = 10,
    select: Select | None = None,
    patience: int | None = None,
    monitor: str | None = None,
    checkpoint_every: int = 25,
    listeners: Sequence[Listener] = (),
    recipe: Mapping[str, Any] | None = None,
    plan: Plan | None = None,
    precision: Precision = "float32",
) -> Run:
    """Train an algorithm on the clients of a data set.

    It is a loop over the rounds of a `fm.Simulator`. See there for `cohort_size`, `support`, `seed`, `max_examples` and
    `precision`, and `fm.Federation` for `algorithm`, `model`, `server`, `transform` and `aggregator`.

    Args:
        algorithm: what is trained and how.
        model: the network, its loss and its metrics.
        data: the training clients; no other client is looked at.
        rounds: how many rounds the run has in all.
        cohort_size: clients in a round.
        server: the server's optimiser; its state lives as long as the run. The same seed, settings and plan give the
            same result, bit for bit, on the same machine.
        transform: what a client sends in place of its pseudo-gradient.
        aggregator: how what the clients sent becomes one.
        support: the fraction of a client's examples that is its support set.
        seed: every draw is folded from it by purpose, round and client.
        directory: the run folder. A run that was interrupted there goes on from its last checkpoint and gives
            bit for bit what it would have given.
        max_examples: the most examples of a client that are drawn in a round; None for all.
        validate: called with phi every `validate_every` rounds and after the last; its figures go into the
            history.
        validate_every: see `validate`.
        select: the state that is the result: "last", or the "best" by the validation figure. By default the best one
            with `patience`, else the last.
        patience: stop after this many validations without a better figure.
        monitor: the validation figure for `select` and `patience`: more is better, except for names that contain
            "loss", "error", "rmse" or "mae". By default accuracy, or the loss if there is no accuracy.
        checkpoint_every: rounds between checkpoints; there is always one after the last round.
        listeners: functions of one event, called in this process, in order. One that returns `fm.events.STOP` after a
            round ends the run there; with several processes, at the next checkpoint.
        recipe: kept in run.toml with the settings, so that the run can be repeated.
        plan: how the engine computes a cohort. By default the plan of the run in `directory`; else the plan that was
            fastest for this model on this machine, which a long run measures first; else a plan that fits most
            models.
        precision: "bfloat16" rounds the factors of every matrix product and convolution.

    Raises:
        UsageError: an argument is out of range, or the model does not fit the data.
        DataError: no client has two examples.
        Diverged: an update or the server's state is not finite; the last good state is in the checkpoint.
        ProcessLost: another process of the run has ended; the last good state is in the checkpoint.
        RunError: the run folder is in use, holds another run, or cannot be written.
    """
    simulator = Simulator(
        Federation(algorithm, model, server, transform, aggregator),
        data,
        cohort_size=cohort_size,
        support=support,
        seed=seed,
        max_examples=max_examples,
        plan=plan,
        precision=precision,
    )
    return run(
        simulator,
        rounds=rounds,
        directory=directory,
        validate=validate,
        validate_every=validate_every,
        select=select,
        patience=patience,
        monitor=monitor,
        checkpoint_every=checkpoint_every,
        listeners=listeners,
        recipe=recipe,
    )


def run(
    simulator: Simulator,
    *,
    rounds: int,
    directory: str | Path | None = None,
    validate: Callable[[Any], Mapping[str, float]] | None = None,
    validate_every: int = 10,
    validate_early: int = 0,
    select: Select | None = None,
    patience: int | None = None,
    monitor: str | None = None,
    checkpoint_every: int = 25,
    listeners: Sequence[Listener] = (),
    recipe: Mapping[str, Any] | None = None,
) -> Run:
    """Train as `train` does, with a simulator that was made before; the arguments are those of `train`.

    `validate_early` more: how many of the first rounds are all validated.
    """
    counts = {
        "rounds": rounds,
        "validate_every": validate_every,
        "checkpoint_every": checkpoint_every,
        "patience": patience,
    }
    for name, value in counts.items():
        counts[name] = whole_number(name, value)
        if value is not None and value < 1:
            raise UsageError(f"{name} must be at least 1, not {value}")
    if callable(listeners):
        raise UsageError(f"listeners takes a list of functions: write listeners=[...] around {said(listeners)}")
    for listener in listeners:
        a_function("a listener", listener, "lambda event: print(event)")
    if validate is not None:
        a_function("validate", validate, "lambda phi: figures")
    best = Best(select, patience, monitor)
    if best.keeps and validate is None:
        name = "select='best'" if patience is None else "patience"
        raise UsageError(f"{name} is about a validation figure: give validate, too")
    # A later change of the working directory must not move the run.
    directory = None if directory is None else Path(directory).absolute()
    given = simulator.given_plan
    if given is None and directory is not None and sharding.is_leader():
        given = saved_plan(directory)
    simulator.use(choose_plan(simulator, given, rounds, listeners))
    # Only process 0 prints and writes; the others compute their share of each cohort.
    listeners = listeners if sharding.is_leader() else ()
    with ExitStack() as stack:
        folder = None
        state = simulator.init()
        if directory is not None and sharding.is_leader():
            settings = settings_of(simulator, rounds, recipe)
            folder = stack.enter_context(RunFolder(directory, settings))
            state = folder.restore(state)
            best.restore(folder.best(state), read_history(folder.path))
            simulator.keep_memory_in(folder.path / "memory", folder.memory_mark)
            stack.callback(simulator.memory.close)
        state = sharding.broadcast(state)
        loop = _Loop(
            simulator, folder, listeners, best, rounds, validate, (validate_every, validate_early), checkpoint_every
        )
        return replace(loop.run(simulator.place(state), stack), directory=directory)


def agreed(stopped: str) -> str:
    """Return in every process why process 0 stops the run, or ""; the others have neither listeners nor old looks."""
    if not sharding.several():
        return stopped
    return (stopped or "process 0 stops the run") if int(sharding.broadcast(np.int32(bool(stopped)))) else ""


class _Loop:
    """The rounds of one run."""

    def __init__(
        self,
        simulator: Simulator,
        folder: RunFolder | None,
        listeners: Sequence[Listener],
        best: Best,
        rounds: int,
        validate: Callable[[Any], Mapping[str, float]] | None,
        looks: tuple[int, int],
        checkpoint_every: int,
    ):
        self.simulator, self.folder, self.listeners, self.best = simulator, folder, listeners, best
        self.rounds, self.validate = rounds, validate
        (self.validate_every, self.validate_early), self.checkpoint_every = looks, checkpoint_every
        self.rows = read_history(folder.path) if folder else []

    def run(self, state: ServerState, stack: ExitStack) -> Run:
        """Compute the remaining rounds."""
        simulator, folder = self.simulator, self.folder
        done = int(state.round)
        if done > self.rounds:
            where = folder.path if folder else "the run"
            raise UsageError(f"{where} has {done} rounds done, more than the {self.rounds} that are asked for")
        if folder:
            folder.keep_settings()
        # `told` is the state whose row is stored: after an interrupt it is in the checkpoint. The state before it is no
        # longer needed, and the next one reuses its memory.
        self.told, spent = state, jax.tree.map(jnp.copy, state)
        stopped = wish = agreed(self.best.stopped)
        try:
            self.tell(
                RunStarted(
                    rounds=self.rounds,
                    done=done,
                    clients=len(simulator.usable),
                    left_out=simulator.left_out,
                    parameters=accounting.num_parameters(state.phi),
                    directory=folder.path if folder else None,
                )
            )
            left = range(done + 1, self.rounds + 1) if not stopped else ()
            feed = stack.enter_context(Prefetcher(simulator.draw, left))
            started = time.perf_counter()
            with processes.guard():
                for drawn in feed:
                    before = self.told
                    state, figures = simulator.step(before, drawn, spent=spent)
                    feed.refill()
                    metrics = figures.metrics
                    number = drawn.round
                    validation = self.look(state, last=number == self.rounds)
                    now = time.perf_counter()
                    event = RoundEnded(
                        round=number,
                        clients=drawn.clients,
                        metrics=metrics,
                        bytes_down=figures.bytes_down,
                        bytes_up=figures.bytes_up,
                        flops=figures.flops,
                        seconds=now - started,
                        validation=validation,
                    )
                    started = now
                    if folder:
                        folder.append(event)
                    self.rows.append(event.row())
                    self.told, spent = state, before
                    wish = self.best.seen(state, validation) or wish
                    wish = self.tell(event) or wish
                    due = number % self.checkpoint_every == 0 or number == self.rounds
                    # Several processes agree on it at a checkpoint only: it is a word that they must exchange.
                    stopped = wish if not sharding.several() else agreed(wish) if due else ""
                    if due or stopped:
                        self.save()
                    if stopped:
                        break
        except BaseException:
            self.save()
            raise
        algorithm = simulator.federation.algorithm
        best = self.best.state
        if self.best.keeps and sharding.several():
            # Only process 0 has what was best before it was resumed.
            best = sharding.broadcast(sharding.to_host(self.told if best is None else best))
        result = Run(self.told, tuple(self.rows), plan=simulator.plan, best=best, algorithm=algorithm)
        if folder:
            chosen = None if best is None else int(best.round)
            folder.save_result(result.phi, rounds=int(self.told.round), stopped=stopped, best=chosen)
        self.tell(RunEnded(len(self.rows) if folder else int(self.told.round), stopped))
        return result

    def look(self, state: ServerState, *, last: bool) -> dict[str, float]:
        """Return the figures of `validate`, if it is due."""
        number = int(state.round)
        due = last or number <= self.validate_early or number % self.validate_every == 0
        if self.validate is None or not due:
            return {}
        # A copy, because `validate` may keep it and the state's memory is reused.
        return figures_of(self.validate(jax.tree.map(jnp.copy, state.phi)))

    def tell(self, event: events.Event) -> str:
        """Tell the listeners; return why the run should stop, or "" if none of them asks for it."""
        answers = [listener(event) for listener in self.listeners]
        return "a listener asked for it" if any(answer is events.STOP for answer in answers) else ""

    def save(self) -> None:
        """Write the state whose row is stored to the checkpoint."""
        mark = self.simulator.mark_memory(int(self.told.round))
        if self.folder:
            self.folder.save_checkpoint(self.told, memory=mark, best=self.best.state)
            self.simulator.memory.tidy()
