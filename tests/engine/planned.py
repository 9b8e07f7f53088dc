"""A run by a plan on several devices or processes: `python -m tests.engine.planned PART OUT [PLACE]`.

It leaves what the run gave in OUT, one file a run.
"""

import os
import signal
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

import fedmeta as fm
from fedmeta._engine import processes, sharding
from fedmeta._engine.plan import Plan
from fedmeta.errors import FedmetaError
from fedmeta.models.layers import convolution, dense, dense_init, max_pool
from tests.examples import cells

SIZES = (10, 6, 10, 10, 6, 10, 6)
CLASSES = 36
ALGORITHM = fm.MAML(inner_lr=0.2, inner_steps=2, weighting="examples")
SERVER = optax.sgd(0.5)

DEALT = {"each": Plan(devices=4), "three": Plan(devices=3, chunk=2, low_rank=False)}
DEALT |= cells({}, {"two": Plan(devices=4, chunk=2)})


def network():
    """A convolution, and dense layers large enough to be left in their factors."""

    def init(key):
        keys = jax.random.split(key, 3)
        sizes = [(9, 4), (36, 32), (32, CLASSES)]
        return [dense_init(k, *size) for k, size in zip(keys, sizes, strict=True)]

    def apply(params, x):
        x = jnp.tanh(max_pool(convolution(params[0], jnp.asarray(x), 3)))
        x = jnp.tanh(dense(params[1], x.reshape(len(x), -1)))
        return dense(params[2], x)

    return fm.Model(init, apply)


MODEL = network()
FEDERATION = fm.Federation(ALGORITHM, MODEL, SERVER)


def images(sizes=SIZES):
    """Clients of two sizes; what they see is a small image."""
    draw = np.random.default_rng(0)
    owner = np.repeat(np.arange(len(sizes)), sizes)
    centres = draw.normal(size=(len(sizes), 6, 6, 1))
    x = (centres[owner] + draw.normal(size=(len(owner), 6, 6, 1))).astype(np.float32)
    return fm.data.from_arrays(x, draw.integers(CLASSES, size=len(owner)), [f"c{o}" for o in owner], classes=CLASSES)


def train(plan=None, rounds=2, algorithm=ALGORITHM, **options):
    chosen = {"cohort_size": 5, "server": SERVER, "support": 0.5, "data": images(), "model": MODEL, **options}
    return fm.train(algorithm, rounds=rounds, plan=plan, **chosen)


def evaluate(phi, plan=None, algorithm=ALGORITHM):
    return fm.evaluate(algorithm, MODEL, phi, images(), 0.5, plan=plan)


def save(path, run, report):
    leaves = {str(number): leaf for number, leaf in enumerate(jax.tree.leaves(sharding.to_host(run.state.phi)))}
    losses = [row["loss"] for row in run.rows]
    if sharding.is_leader():
        np.savez(path, **leaves, losses=losses, after=report.after.values["loss"])


def plans(out):
    """Four devices, with more or fewer clients than they hold at once."""
    for name, plan in DEALT.items():
        run = train(plan)
        save(out / f"{name}.npz", run, evaluate(run.state.phi, plan))


def resumed(out):
    """Half of the rounds, and in the same folder the other half."""
    train(rounds=2, directory=out / "run")
    run = train(rounds=4, directory=out / "run")
    save(out / "resumed.npz", run, evaluate(run.state.phi))


def lost(out):
    """The last process is killed once round 3 is done."""

    def validate(phi):
        if not sharding.is_leader() and float(jnp.sum(phi[0]["bias"])) != 0.0 and len(seen) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        seen.append(None)
        return {}

    seen = []
    train(rounds=100_000, directory=out / "run", validate=validate, validate_every=1, checkpoint_every=100_000)


def main(part, out, *place):
    try:
        if place:
            processes.join(place[0], int(place[1]), int(place[2]), timeout=60)
        else:
            processes.use_cpu_devices(4)
        {"plans": plans, "resumed": resumed, "lost": lost}[part](Path(out))
    except FedmetaError as error:
        print(type(error).__name__, error)
        sys.stdout.flush()
        os._exit(1)


if __name__ == "__main__":
    main(*sys.argv[1:])
