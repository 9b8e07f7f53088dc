"""fedmeta, by its public face only.

    .venv/bin/python benchmarks/peers/fedmeta_worker.py maml-cnn

is a worker: see worker.py. One call of `fm.train` lasts as long as the worker; a listener takes the time, and waits for
the next command in between. JAX starts as on fedmeta's command line: each core is a device, and what was compiled or
measured is kept in build/bench/cache. The first answer also says by which plan a round is computed, the bytes that it
must move, and the seconds from the start to the end of the first round; each of the others the floating-point
operations of a round, and the most memory that the process had so far.

    .venv/bin/python benchmarks/peers/fedmeta_worker.py maml-cnn direction FILE
    .venv/bin/python benchmarks/peers/fedmeta_worker.py fedavg-softmax trained FILE ROUNDS

write what `run.py --check` compares the peers with.
"""

import os
import resource
import sys
import time
from functools import lru_cache
from typing import Any

import jax
import numpy as np
import optax
import synthetic
from worker import Pipe, chosen_work
from works import BENCH, CLASSES, GROUPS, PIXELS, SERVER_RATE, VOCABULARY, Work

import fedmeta as fm
from fedmeta import accounting, pytrees, random
from fedmeta._engine.plan import Plan
from fedmeta.cli.start import start
from fedmeta.runs.loop import explain_plan

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
        "mlp": lambda: fm.models.mlp((PIXELS, work.hidden, CLASSES)),
        "tiny": lambda: fm.models.softmax_regression(clients(work).x.shape[1], clients(work).num_classes),
    }[work.network]()


def algorithm(work: Work) -> Any:
    """Return the work's algorithm."""
    kind = {"maml": fm.MAML, "meta-sgd": fm.MetaSGD, "fomaml": fm.FOMAML, "fedavg": fm.FedAvg}[work.algorithm]
    return kind(inner_lr=work.rate, inner_steps=work.steps, inner_batch_size=work.batch)


def server(work: Work) -> optax.GradientTransformation:
    """Return the server's optimiser."""
    return optax.sgd(1.0) if work.algorithm == "fedavg" else optax.adam(SERVER_RATE)


@lru_cache(maxsize=1)
def clients(work: Work) -> fm.data.FederatedDataset:
    """Return the work's clients."""
    if work.folder is not None:
        return fm.data.open(work.folder)
    x, y = synthetic.load(work)
    owners = np.repeat(np.arange(work.clients), work.examples)
    classes = {"lstm": VOCABULARY, "tiny": GROUPS}.get(work.network, CLASSES)
    return fm.data.from_arrays(x.reshape(-1, *x.shape[2:]), y.reshape(-1), owners, classes=classes)


@lru_cache(maxsize=1)
def settings(work: Work) -> dict[str, Any]:
    """Return the arguments that training and its explanation share."""
    return {
        "algorithm": algorithm(work),
        "model": model(work),
        "data": clients(work),
        "cohort_size": work.cohort,
        "server": server(work),
        "support": work.support / work.examples,
        "precision": work.precision,
    }


def train(work: Work, rounds: int, listeners: tuple[Any, ...] = (), plan: Plan | None = None) -> fm.Run:
    """Train with the work's settings."""
    return fm.train(**settings(work), rounds=rounds, listeners=listeners, plan=plan)


def chosen_plan(work: Work) -> tuple[Plan, float]:
    """Return the work's plan, or the one that fedmeta measures and keeps; and the seconds that this takes."""
    started = time.perf_counter()
    plan = explain_plan(**settings(work)).plan if work.plan is None else Plan.parse(work.plan)
    return plan, time.perf_counter() - started


def in_words(plan: Plan) -> str:
    """Return a plan as `--plan` takes it."""
    return ",".join(f"{name}={str(value).lower()}" for name, value in plan.to_dict().items())


def bytes_to_move(work: Work) -> int:
    """Return the bytes of a round that no program can do without.

    That is phi and the server optimiser's state, read and written (an evaluation reads phi only), and the cohort's
    examples.
    """
    how, net, data = algorithm(work), model(work), clients(work)
    phi = jax.eval_shape(lambda: how.init(net, jax.random.key(0)))
    example = sum(np.dtype(column.dtype).itemsize * int(np.prod(column.shape[1:])) for column in (data.x, data.y))
    examples = example * work.cohort * work.examples
    if work.task == "evaluate":
        return pytrees.payload(phi) + examples
    return 2 * pytrees.payload((phi, jax.eval_shape(server(work).init, phi))) + examples


def memory() -> int:
    """Return the most bytes of memory that this process had so far."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def draw_seconds(work: Work, rounds: int = 200) -> float:
    """Return the seconds to draw a cohort as training does, the median of some."""
    data, times = clients(work), []
    usable = np.flatnonzero(data.sizes >= 2)
    for number in range(rounds):
        started = time.perf_counter()
        chosen = usable[random.generator(0, "cohort", number).choice(len(usable), work.cohort, replace=False)]
        assert len([str(name) for name in data.ids[chosen]]) == work.cohort
        times.append(time.perf_counter() - started)
    return float(np.median(times))


class Blocks:
    """A listener that runs as many rounds as it is asked for, and then waits.

    The clock starts when the first round after the wait is done, and stops so many rounds later. At both points the
    engine may have the next round under way, so what it does ahead counts once.
    """

    def __init__(self, pipe: Pipe, **first: Any):
        self.pipe = pipe
        self.first = first
        self.born = time.perf_counter()
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
            self.pipe.answer(ready=True, **self.first, first_round=now - self.born)
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
            self.pipe.answer(seconds=seconds, loss=event.metrics["loss"], flops=event.flops, memory=memory())
        command = next(self.commands, None)
        if command is None:
            raise InputEnded
        self.rounds = self.left = command["rounds"]
        self.started = None


def evaluate(work: Work, pipe: Pipe) -> None:
    """Answer the commands with evaluations of all clients."""
    how, net, unseen = algorithm(work), model(work), clients(work)
    phi = how.init(net, jax.random.key(0))
    flops = work.cohort * evaluation_flops(work, phi)
    pipe.answer(ready=True, bytes=bytes_to_move(work))
    for command in pipe.commands():
        started = time.perf_counter()
        for _ in range(command["rounds"]):
            report = fm.evaluate(how, net, phi, unseen, support=work.support / work.examples, curve=False)
            loss = report.after.pooled["loss"]
        seconds = (time.perf_counter() - started) / command["rounds"]
        pipe.answer(seconds=seconds, loss=loss, flops=flops, memory=memory())


def evaluation_flops(work: Work, phi: Any) -> int:
    """Return the floating-point operations of one client's evaluation: query, adaptation, and query again."""
    how, net = algorithm(work), model(work)

    def client(phi: Any, task: Any, key: Any) -> Any:
        before = net.scores(how.start(phi, adapting=True).params, task.query)
        return before, net.scores(how.descend(net, phi, task.support, key).params, task.query)

    task = clients(work).task_at(0, work.support / work.examples)
    return accounting.count_flops(client, phi, task, jax.random.key(0))


def by_name(tree: Any, prefix: str = "") -> dict[str, np.ndarray]:
    """Return a pytree's arrays by their paths."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {prefix + jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf) for path, leaf in leaves}


def write_direction(work: Work, file: str) -> None:
    """Write parameters, tasks, and their mean direction and loss."""
    how, net, everyone = algorithm(work.to_check), model(work), clients(work)
    phi = how.init(net, jax.random.key(0))
    tasks = [everyone.task_at(place, work.support / work.examples) for place in range(work.cohort)]
    update = jax.jit(lambda phi, task: how.update(net, phi, task, jax.random.key(0))[0])
    updates = [update(phi, task) for task in tasks]
    direction = jax.tree.map(lambda *parts: sum(parts) / len(parts), *(each.pseudo_gradient for each in updates))
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


def start_jax() -> None:
    """Start JAX as the command line does, with a cache of the benchmarks' own."""
    os.environ["FEDMETA_CACHE"] = str(BENCH / "cache")
    start()


def main() -> None:
    """Do what the command line says."""
    start_jax()
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
        started = time.perf_counter()
        clients(work)
        first = {"open": time.perf_counter() - started, "draw": draw_seconds(work), "bytes": bytes_to_move(work)}
        plan, first["measuring"] = chosen_plan(work)
        try:
            train(work, ENDLESS, (Blocks(pipe, plan=in_words(plan), **first),), plan)
        except InputEnded:
            return


if __name__ == "__main__":
    main()
