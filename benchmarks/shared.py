"""What these benchmarks take from the comparison with the peers, whose scripts lie in a folder of their own."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent / "peers"))

import synthetic
from process import Worker, WorkerFailed
from run import machine, rounds_in_a_block
from works import BENCH, CHARACTERS, ROOT, VOCABULARY, WORKS, Work

__all__ = [
    "BENCH",
    "CHARACTERS",
    "ROOT",
    "VOCABULARY",
    "WORKS",
    "Work",
    "Worker",
    "WorkerFailed",
    "machine",
    "rounds_in_a_block",
    "synthetic",
]
