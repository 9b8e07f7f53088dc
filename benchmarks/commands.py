"""What a user of the command line waits for: the first round of a fresh process, and rounds by several processes."""

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from shared import BENCH, CHARACTERS, ROOT, VOCABULARY, WORKS, Work, synthetic

import fedmeta as fm

CACHE = BENCH / "cache" / "commands"
PATIENCE = 240.0
"""Seconds for one command."""

IMAGES = ("--algorithm", "maml", "--model", "leaf_cnn", "--support", "0.5", "--inner-steps", "1", "--inner-lr", "0.01")
TEXT = ("--algorithm", "maml", "--model", "char_lstm", "--support", "0.5", "--inner-steps", "1", "--inner-lr", "0.1")


class CommandFailed(Exception):
    """A command ended, or was too slow; says what it said last."""


def first_round(repeats: int) -> dict[str, Any]:
    """Return the seconds from the start of `fedmeta train` to the end of its first round, with a warm cache."""
    command = [*_train(stored(WORKS["maml-cnn"])), *IMAGES, "--rounds", "4"]
    times = [_rounds(command, 1)[0] for _ in range(1 + repeats)]
    return {"before": times[0], **summary(times[1:])}


def processes(repeats: int, out_of_time: Callable[[], bool]) -> dict[str, Any]:
    """Return the seconds of a round by one process on one core, and by two on one core each."""
    found: dict[str, Any] = {}
    for name, options in {
        "maml-cnn": (*IMAGES, "--cohort-size", "16", "--rounds", "9"),
        "maml-lstm": (*TEXT, "--cohort-size", "4", "--rounds", "9"),
    }.items():
        if out_of_time():
            found[name] = {"error": "left out: no time was left"}
            continue
        command = [*_train(stored(WORKS[name])), *options]
        try:
            core = min(os.sched_getaffinity(0))
            one = _rounds(command, 1 + repeats, cores={core})[1][1:]
            two = _rounds([*command, "--processes", "2"], 1 + repeats)[1][1:]
        except CommandFailed as failure:
            found[name] = {"error": str(failure)}
            continue
        found[name] = {
            "one": summary(one),
            "two": summary(two),
            "ratio": statistics.median(one) / statistics.median(two),
        }
    return found


def stored(work: Work) -> Path:
    """Return a folder with the work's clients, as fedmeta stores a data set; it is written where there is none."""
    folder = BENCH / f"stored-{work.name}"
    if not folder.exists():
        x, y = synthetic.load(work)
        text = work.network == "lstm"
        info = fm.data.Info(
            name=work.name,
            classes=tuple(str(label) for label in range(VOCABULARY if text else 62)),
            characters="".join(chr(ord("!") + code) for code in range(VOCABULARY)) if text else None,
        )
        assert not text or x.shape[2] == CHARACTERS
        fm.data.write(folder, ((f"{client}", x[client], y[client]) for client in range(work.clients)), info)
    return folder


def summary(times: Sequence[float]) -> dict[str, Any]:
    """Return the median and the spread."""
    return {"seconds": statistics.median(times), "min": min(times), "max": max(times), "all": list(times)}


def _train(data: Path) -> list[str]:
    # As few rounds as these are not worth a measurement of plans, so that the usual one is taken in all of them.
    return [str(Path(sys.executable).with_name("fedmeta")), "train", "--data", str(data), "--validate-every", "1000"]


def _rounds(command: list[str], rounds: int, cores: set[int] | None = None) -> tuple[float, list[float]]:
    """Start a training, and end it after so many rounds; return the seconds until then, and those of each round."""
    out, log = BENCH / "command-run", BENCH / "command.log"
    shutil.rmtree(out, ignore_errors=True)
    history = out / "metrics.jsonl"
    cores_before = os.sched_getaffinity(0)
    with log.open("w") as said:
        if cores:
            os.sched_setaffinity(0, cores)
        try:
            started = time.perf_counter()
            process = subprocess.Popen(
                [*command, "--out", str(out)],
                env={**os.environ, "FEDMETA_CACHE": str(CACHE)},
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
            )
        finally:
            os.sched_setaffinity(0, cores_before)
        try:
            while True:
                ended, late = process.poll() is not None, time.perf_counter() - started > PATIENCE
                text = history.read_text() if history.exists() else ""
                if text.count("\n") >= rounds:
                    seconds = time.perf_counter() - started
                    rows = [json.loads(line) for line in text.splitlines()[:rounds]]
                    return seconds, [row["seconds"] for row in rows]
                if ended or late:
                    break
                time.sleep(0.005)
        finally:
            process.kill()
            process.wait()
            # The processes that it started end when they see that it has ended.
            time.sleep(0.5)
    lines = [line for line in log.read_text().splitlines() if line.strip()]
    raise CommandFailed(lines[-1] if lines else "the command said nothing" + (", and was too slow" if late else ""))
