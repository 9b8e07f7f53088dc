"""A run that kills its own process at a chosen point; `python -m tests.interrupted_run FOLDER POINT`."""

import os
import signal
import sys
from pathlib import Path

import jax
import optax

import fedmeta as fm
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


_plan = {"point": None, "done": 0}


def _here(*place):
    if place == _plan["point"]:
        os.kill(os.getpid(), signal.SIGKILL)


def _model():
    network = toys.network()

    def apply(params, x):
        jax.debug.callback(lambda: _here("program", _plan["done"]))
        return network.apply(params, x)

    return fm.Model(network.init, apply)


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


def run(directory):
    """Train in the folder, or go on there."""
    return fm.train(
        fm.MAML(inner_lr=0.2, inner_steps=2, inner_batch_size=2),
        MODEL,
        toys.classification((8, 8, 8, 6, 6)),
        rounds=ROUNDS,
        cohort_size=2,
        server=SERVER,
        support=0.5,
        directory=directory,
        checkpoint_every=CHECKPOINT_EVERY,
        validate=_validate,
        validate_every=1,
        listeners=[_listen],
    )


if __name__ == "__main__":
    os.replace = _dying_rename
    _plan["point"] = POINTS[sys.argv[2]]
    run(sys.argv[1])
