"""The round loop: sample a cohort, run its round, tell the listeners, keep a checkpoint."""

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
import pyarrow as pa

from fedmeta import accounting, random, server
from fedmeta.algorithms.algorithm import Algorithm
from fedmeta.data.dataset import FederatedDataset, check_support
from fedmeta.engine.clients import check_fit, drawn_sizes, usable_clients
from fedmeta.engine.cohort import Cohort, client_key, pack
from fedmeta.engine.program import RoundResult, round_program
from fedmeta.engine.shapes import Shapes
from fedmeta.errors import Diverged, UsageError
from fedmeta.events import Listener, RoundEnded, RunEnded, RunStarted
from fedmeta.model import Model
from fedmeta.rundir import RunFolder, read_history
from fedmeta.server import ServerState

ADAM = optax.adam(1e-3)


@dataclass(frozen=True, eq=False)
class Run:
    """What training gave.

    Args:
        state: the server's last state; `state.phi` is the result.
        rows: one mapping of figures for each round.
        directory: the run folder, if there is one.
    """

    state: ServerState
    rows: tuple[Mapping[str, Any], ...]
    directory: Path | None = None

    @property
    def history(self) -> pa.Table:
        """The figures as a table, one row a round; where a round has no such figure it is null."""
        names = dict.fromkeys(name for row in self.rows for name in row)
        return pa.table({name: [row.get(name) for row in self.rows] for name in names})


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
        server: any Optax optimiser; its state lives as long as the run. The same seed and settings give the
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

    Raises:
        UsageError: an argument is out of range, or the model does not fit the data.
        DataError: no client has two examples.
        Diverged: an update or the server's state is not finite; the last good state is in the checkpoint.
        RunError: the run folder is in use, holds another run, or cannot be written.
    """
    loop = _Loop(algorithm, model, data, server, cohort_size, support, seed, max_examples)
    for name, value in {
        "rounds": rounds,
        "validate_every": validate_every,
        "checkpoint_every": checkpoint_every,
    }.items():
        if value < 1:
            raise UsageError(f"{name} must be at least 1, not {value}")
    settings = {
        "run": {"rounds": rounds, **loop.settings()},
        "algorithm": {"name": algorithm.name, **asdict(algorithm)},
        **({"recipe": recipe} if recipe else {}),
        "versions": {name: version(name) for name in ("fedmeta", "jax", "jaxlib", "optax", "numpy")},
    }
    with ExitStack() as stack:
        state = loop.initial_state()
        folder = None
        if directory is not None:
            folder = stack.enter_context(RunFolder(directory, settings))
            state = folder.restore(state)
            listeners = (folder, *listeners)
        rows = read_history(folder.path) if folder else []
        done = int(state.round)
        if done > rounds:
            raise UsageError(f"{directory} has {done} rounds done, more than the {rounds} that are asked for")
        if folder:
            folder.keep_settings()

        # The state whose row the listeners have: what an interrupt leaves in the checkpoint.
        told = state

        def tell(event: Any) -> None:
            for listener in listeners:
                listener(event)

        try:
            parameters = accounting.num_parameters(state.phi)
            path = folder.path if folder else None
            tell(RunStarted(rounds, done, len(loop.usable), loop.left_out, parameters, path))
            for number in range(done + 1, rounds + 1):
                started = time.perf_counter()
                state, event = loop.round(state, number)
                validation = {}
                if validate is not None and (number % validate_every == 0 or number == rounds):
                    validation = dict(validate(state.phi))
                event = RoundEnded(**event, seconds=time.perf_counter() - started, validation=validation)
                rows.append(event.row())
                tell(event)
                told = state
                if folder and (number % checkpoint_every == 0 or number == rounds):
                    folder.save_checkpoint(state)
        except (KeyboardInterrupt, Diverged):
            if folder:
                folder.save_checkpoint(told)
            raise
        if folder:
            folder.save_result(state.phi)
        tell(RunEnded(rounds))
    return Run(state, tuple(rows), None if directory is None else Path(directory))


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
    ):
        self.algorithm, self.model, self.data, self.optimiser = algorithm, model, data, optimiser
        self.cohort_size, self.support, self.seed, self.max_examples = (
            cohort_size,
            support,
            seed,
            max_examples,
        )
        check_support(support)
        check_fit(model, data)
        self.usable = usable_clients(data, max_examples)
        self.left_out = data.num_clients - len(self.usable)
        if not 1 <= cohort_size <= len(self.usable):
            raise UsageError(
                f"cohort_size must lie between 1 and the {len(self.usable)} clients that can train, not {cohort_size}"
            )
        self.sizes = drawn_sizes(data, max_examples)
        self.shapes = Shapes(self.sizes[self.usable], support)
        self.program = round_program(algorithm, model, optimiser)
        self.flops: dict[int, int] = {}

    def settings(self) -> dict[str, Any]:
        """Return what a run depends on, beside the algorithm's own fields."""
        shapes = jax.eval_shape(self.initial_state)
        described = ";".join(f"{leaf.dtype}{leaf.shape}" for leaf in jax.tree.leaves(shapes))
        return {
            "cohort_size": self.cohort_size,
            "support": self.support,
            "seed": self.seed,
            "max_examples": self.max_examples,
            "clients": self.data.num_clients,
            "data_sha256": self.data.fingerprint,
            "state_sha256": hashlib.sha256(described.encode()).hexdigest()[:16],
        }

    def initial_state(self) -> ServerState:
        key = random.as_key(random.key_data(self.seed, "init"))
        return server.init(self.optimiser, self.algorithm.init(self.model, key))

    def cohort(self, number: int) -> tuple[list[str], int, Cohort]:
        """Draw the clients of a round and read their tasks; return their names, the level and the cohort."""
        draw = random.generator(self.seed, "cohort", number)
        places = self.usable[draw.choice(len(self.usable), self.cohort_size, replace=False)]
        names = [str(name) for name in self.data.ids[places]]
        tasks = [
            self.data.task_at(int(place), self.support, self.seed, max_examples=self.max_examples, round=number)
            for place in places
        ]
        level = self.shapes.level(int(self.sizes[places].max()))
        keys = [client_key(self.seed, "client batches", number, name) for name in names]
        return names, level, pack(tasks, self.shapes.lengths(level), keys)

    def round(self, state: ServerState, number: int) -> tuple[ServerState, dict[str, Any]]:
        """Run a round; return the new state and the round's figures but its time."""
        names, level, cohort = self.cohort(number)
        if level not in self.flops:
            self.flops[level] = accounting.count_flops(self.program, state, cohort)
        result = self.program(state, cohort)
        self._check_finite(result, names, number)
        sent = accounting.payload(state.phi) * self.cohort_size
        figures = {
            "round": number,
            "clients": tuple(names),
            "metrics": {name: float(value) for name, value in jax.device_get(result.metrics).items()},
            "bytes_down": sent,
            # A direction is a pytree like phi.
            "bytes_up": sent,
            "flops": self.flops[level],
        }
        return result.state, figures

    def _check_finite(self, result: RoundResult, names: Sequence[str], number: int) -> None:
        finite = np.asarray(result.finite_clients)
        if not finite.all():
            who = names[int(np.argmin(finite))]
            raise Diverged(
                f"round {number}: the update of client {who!r} is not finite; the state after round {number - 1} is "
                f"kept. A lower inner_lr (now {self.algorithm.inner_lr}) or server learning rate may help"
            )
        if not result.finite_state:
            raise Diverged(
                f"round {number}: the server's step is not finite; the state after round {number - 1} is kept. "
                "A lower server learning rate may help"
            )
