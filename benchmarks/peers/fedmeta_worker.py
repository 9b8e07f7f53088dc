"""fedmeta, by its public face only.

    .venv/bin/python benchmarks/peers/fedmeta_worker.py maml-cnn

is a worker: see worker.py. One call of `fm.train` lasts as long as the worker; a listener takes the time, and waits for
the next command in between.

    .venv/bin/python benchmarks/peers/fedmeta_worker.py maml-cnn direction FILE
    .venv/bin/python benchmarks/peers/fedmeta_worker.py fedavg-softmax trained FILE ROUNDS

write what `run.py --check` compares the peers with.
"""

import sys
import time
from typing import Any

import jax
import numpy as np
import optax
import synthetic
from worker import Pipe, chosen_work
from works import CLASSES, HIDDEN, PIXELS, SERVER_RATE, VOCABULARY, Work

import fedmeta as fm

ENDLESS = 1_000_000
"""More rounds than any measurement asks for."""


class InputEnded(Exception):
    """The commands are over."""


def model(work: Work) -> fm.Model:
    """Return the work's network."""
    return {
        "cnn": lambda: fm.models.leaf_cnn(CLASSES),
        "lstm": lambda: fm.models.char_lstm(VOCABULARY),
        "softmax": lambda: fm.models.softmax_regression(PIXELS, CLASSES),
        "mlp": lambda: fm.models.mlp((PIXELS, HIDDEN, CLASSES)),
    }[work.network]()


def algorithm(work: Work) -> Any:
    """Return the work's algorithm."""
    kind = {"maml": fm.MAML, "meta-sgd": fm.MetaSGD, "fomaml": fm.FOMAML, "fedavg": fm.FedAvg}[work.algorithm]
    return kind(inner_lr=work.rate, inner_steps=work.steps, inner_batch_size=work.batch)


def server(work: Work) -> optax.GradientTransformation:
    """Return the server's optimiser."""
    return optax.sgd(1.0) if work.algorithm == "fedavg" else optax.adam(SERVER_RATE)


def clients(work: Work) -> fm.data.FederatedDataset:
    """Return the work's clients."""
    x, y = synthetic.load(work)
    owners = np.repeat(np.arange(work.clients), work.examples)
    classes = VOCABULARY if work.network == "lstm" else CLASSES
    return fm.data.from_arrays(x.reshape(-1, *x.shape[2:]), y.reshape(-1), owners, classes=classes)


def train(work: Work, rounds: int, listeners: tuple[Any, ...] = ()) -> fm.Run:
    """Train with the work's settings."""
    return fm.train(
        algorithm(work),
        model(work),
        clients(work),
        rounds=rounds,
        cohort_size=work.cohort,
        server=server(work),
        support=work.support / work.examples,
        listeners=listeners,
    )


class Blocks:
    """A listener that runs as many rounds as it is asked for, and then waits.

    The clock starts when the first round after the wait is done, and stops so many rounds later. At both points the
    engine may have the next round under way, so what it does ahead counts once.
    """

    def __init__(self, pipe: Pipe):
        self.pipe = pipe
        self.commands = pipe.commands()
        self.left = 0
        self.rounds = 0
        self.started = None

    def __call__(self, event: fm.events.Event) -> None:
        """Count a round; at the end of a block answer, and wait for the next command."""
        if not isinstance(event, fm.events.RoundEnded):
            return
        now = time.perf_counter()
        if self.rounds == 0:
            self.pipe.answer(ready=True)
        elif self.started is None:
            self.started = now
            return
        else:
            self.left -= 1
            if self.left:
                return
            seconds = (now - self.started) / self.rounds
            # Lets a round that is under way come to its end, so that it does not disturb who is measured next.
            time.sleep(1.5 * seconds)
            self.pipe.answer(seconds=seconds, loss=event.metrics["loss"])
        command = next(self.commands, None)
        if command is None:
            raise InputEnded
        self.rounds = self.left = command["rounds"]
        self.started = None


def evaluate(work: Work, pipe: Pipe) -> None:
    """Answer the commands with evaluations of all clients."""
    how, net, unseen = algorithm(work), model(work), clients(work)
    phi = how.init(net, jax.random.key(0))
    pipe.answer(ready=True)
    for command in pipe.commands():
        started = time.perf_counter()
        for _ in range(command["rounds"]):
            report = fm.evaluate(how, net, phi, unseen, support=work.support / work.examples, curve=False)
            loss = report.after.pooled["loss"]
        pipe.answer(seconds=(time.perf_counter() - started) / command["rounds"], loss=loss)


def by_name(tree: Any, prefix: str = "") -> dict[str, np.ndarray]:
    """Return a pytree's arrays by their paths."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {prefix + jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf) for path, leaf in leaves}


def write_direction(work: Work, file: str) -> None:
    """Write parameters, tasks, and their mean direction and loss."""
    how, net, everyone = algorithm(work.to_check), model(work), clients(work)
    phi = how.init(net, jax.random.key(0))
    tasks = [everyone.task_at(place, work.support / work.examples) for place in range(work.cohort)]
    update = jax.jit(lambda phi, task: how.client_update(net, phi, task, jax.random.key(0)))
    updates = [update(phi, task) for task in tasks]
    direction = jax.tree.map(lambda *parts: sum(parts) / len(parts), *(each.direction for each in updates))
    arrays = {
        "x": np.stack([np.concatenate([task.support.x, task.query.x]) for task in tasks]),
        "y": np.stack([np.concatenate([task.support.y, task.query.y]) for task in tasks]).astype(np.int64),
        "loss": np.mean([each.metrics["loss"] for each in updates]),
        "parameters": np.asarray(sum(leaf.size for leaf in jax.tree.leaves(phi))),
    }
    if work.algorithm == "meta-sgd":
        arrays |= by_name(direction["inner_lr"], "direction of the rates/")
        phi, direction = phi["params"], direction["params"]
    np.savez(file, **arrays, **by_name(phi, "params/"), **by_name(direction, "direction/"))


def main() -> None:
    """Do what the command line says."""
    work = chosen_work()
    if sys.argv[2:3] == ["direction"]:
        write_direction(work, sys.argv[3])
    elif sys.argv[2:3] == ["trained"]:
        np.savez(sys.argv[3], **by_name(train(work, int(sys.argv[4])).state.phi))
    else:
        pipe = Pipe()
        if work.task == "evaluate":
            evaluate(work, pipe)
            return
        try:
            train(work, ENDLESS, (Blocks(pipe),))
        except InputEnded:
            return


if __name__ == "__main__":
    main()
