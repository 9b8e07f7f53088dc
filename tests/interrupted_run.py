"""A run that kills its own process at a chosen point; `python -m tests.interrupted_run FOLDER POINT [KIND]`."""

import os
import signal
import sys
from pathlib import Path

import jax
import optax

import fedmeta as fm
from fedmeta.simulation import memory
from fedmeta.transforms import chain, error_feedback, quantise, top_k
from tests import toys

ROUNDS, CHECKPOINT_EVERY = 6, 2
# Where the process dies: rounds are written as the number of rounds done before.
POINTS = {
    "in the program of round 4": ("program", 3),
    "between the program and the row of round 5": ("validate", 4),
    "between rounds 3 and 4": ("listener", 3),
    "before the checkpoint of round 4 is renamed": ("state.safetensors", 3),
    "before the result is renamed": ("model.safetensors", 5),
}
# Where clients keep something, it may also die there.
MEMORY_POINTS = {
    "in the middle of a row that a client keeps": ("row", 4),
    "between the new file of rows and its checkpoint": ("renew", 3),
}
KINDS = {
    "nothing is kept": {},
    "error feedback": {"transform": error_feedback(chain(top_k(0.3), quantise(4)))},
    "FedPer": {"algorithm": fm.FedPer(inner_lr=0.2, inner_steps=2, inner_batch_size=2)},
    "SCAFFOLD": {
        "algorithm": fm.SCAFFOLD(inner_lr=0.2, inner_steps=2, participation=0.4),
        "server": fm.optimisers.sgd(1.0),
    },
}


_plan = {"point": None, "done": 0}


def _here(*place):
    if place == _plan["point"]:
        os.kill(os.getpid(), signal.SIGKILL)


def _model():
    network = toys.network()

    def apply(params, x):
        jax.debug.callback(lambda: _here("program", _plan["done"]))
        return network.apply(params, x)

    return fm.Model(network.init, apply, head=network.head)


MODEL, SERVER = _model(), optax.adam(0.01)


def _listen(event):
    if isinstance(event, fm.events.RunStarted):
        _plan["done"] = event.done
    if isinstance(event, fm.events.RoundEnded):
        _plan["done"] = event.round
        _here("listener", event.round)


def _validate(phi):
    _here("validate", _plan["done"])
    return {"sum": float(toys.flat(phi).sum())}


def _dying_rename(source, target, rename=os.replace):
    # A checkpoint is written once the listeners have heard of its round.
    _here(Path(target).name, _plan["done"] - 1)
    rename(source, target)


def _dying_write(self, name, row, write=memory.ClientMemory._write):
    if ("row", _plan["done"]) == _plan["point"]:
        self._file.seek(0, os.SEEK_END)
        self._file.write(row[: len(row) // 2])
        self._file.flush()
        _here("row", _plan["done"])
    write(self, name, row)


def _dying_renew(self, renew=memory.ClientMemory._renew):
    renew(self)
    # As with the checkpoint, the listeners have heard of the round.
    _here("renew", _plan["done"] - 1)


def run(directory, kind="nothing is kept"):
    """Train in the folder, or go on there."""
    options = {"algorithm": fm.MAML(inner_lr=0.2, inner_steps=2, inner_batch_size=2), "server": SERVER, **KINDS[kind]}
    return fm.train(
        options.pop("algorithm"),
        MODEL,
        toys.classification((8, 8, 8, 6, 6)),
        **options,
        rounds=ROUNDS,
        cohort_size=2,
        support=0.5,
        directory=directory,
        checkpoint_every=CHECKPOINT_EVERY,
        validate=_validate,
        validate_every=1,
        listeners=[_listen],
    )


if __name__ == "__main__":
    os.replace = _dying_rename
    memory.ClientMemory._write, memory.ClientMemory._renew = _dying_write, _dying_renew
    # A new file of what clients keep with every checkpoint.
    memory.SLACK = -(1 << 30)
    _plan["point"] = {**POINTS, **MEMORY_POINTS}[sys.argv[2]]
    run(sys.argv[1], *sys.argv[3:])
