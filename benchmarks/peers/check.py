"""Whether the systems compute the same: losses and directions for the same weights, and what training leads to."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import synthetic
from process import HERE, Worker, WorkerFailed
from works import BENCH, Work

TOLERANCE = 1e-3
"""The relative error of a mean direction, and of a loss."""

ROUNDS = 20
TRAINED_TOLERANCE = 0.1
"""The relative difference of the loss over all clients after `ROUNDS` rounds, in which each system draws on its own."""


def check(works: list[Work], peers: list[str]) -> int:
    """Print how far each peer is from fedmeta; return 1 if one is too far, or fails."""
    bad = False
    for work in works:
        asked = [peer for peer in work.peers if peer in peers]
        if not asked or work.task == "evaluate":
            continue
        averaging = work.algorithm == "fedavg"
        file = _reference(work, averaging)
        for peer in asked:
            if work.algorithm == "fomaml" and peer == "flower":
                # Its clients call the loop's function; what the batches are, only it can know.
                continue
            try:
                worker = Worker(peer, work)
                line, right = _trained(worker, work, file) if averaging else _direction(worker, file)
                worker.close()
            except WorkerFailed as failure:
                line, right = str(failure), False
            bad |= not right
            print(f"{work.name:<16}{peer:<12}{line}{'' if right else '   <-- WRONG'}", flush=True)
    return int(bad)


def _reference(work: Work, averaging: bool) -> Path:
    """Let fedmeta write what the peers are compared with."""
    file = BENCH / f"check-{work.name}.npz"
    what = ["trained", file, str(ROUNDS)] if averaging else ["direction", file]
    subprocess.run([sys.executable, HERE / "fedmeta_worker.py", work.name, *what], check=True)
    return file


def _direction(worker: Worker, file: Path) -> tuple[str, bool]:
    found = worker.ask(check=str(file))
    with np.load(file) as arrays:
        same_size = found["parameters"] == int(arrays["parameters"])
    line = f"loss {found['loss']:.1e}, mean direction {found['direction']:.1e}, {found['parameters']:,} parameters"
    return line, same_size and max(found["loss"], found["direction"]) < TOLERANCE


def _trained(worker: Worker, work: Work, file: Path) -> tuple[str, bool]:
    worker.ask(rounds=ROUNDS)
    theirs = BENCH / f"check-{work.name}-{worker.system}.npz"
    worker.ask(parameters=str(theirs))
    ours, found = (_softmax_loss(work, each) for each in (file, theirs))
    line = f"loss over all clients after {ROUNDS} rounds {found:.4f}, fedmeta's {ours:.4f}"
    return line, abs(found / ours - 1) < TRAINED_TOLERANCE


def _softmax_loss(work: Work, file: Path) -> float:
    """Return softmax regression's mean loss over all examples of all clients."""
    x, y = synthetic.load(work)
    with np.load(file) as params:
        logits = x.reshape(y.size, -1).astype(np.float64) @ params["weight"] + params["bias"]
    highest = logits.max(axis=1, keepdims=True)
    chosen = logits[np.arange(y.size), y.reshape(-1)]
    return float(np.mean(highest[:, 0] + np.log(np.exp(logits - highest).sum(axis=1)) - chosen))
