"""The processes of a study: as many as there are cores, each with one thread."""

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import fedmeta
from fedmeta._files import cache_folder
from fedmeta.study.grid.cells import Cell

PATIENCE = 30.0
"""Seconds that a process has to write its checkpoint when the study is stopped."""

COMPILED = 2 << 30
"""Bytes of compiled programs that are kept for all processes and for the next start."""


@dataclass(frozen=True, eq=False)
class Job:
    """What a process is asked for.

    Args:
        do: "run", "measure" or "try".
        entry: the place of the data set in the study.
        cell: the cell.
        settings: of its procedure's grid, where they are tried.
        rounds: that they are tried for.
    """

    do: str
    entry: int
    cell: Cell
    settings: Mapping[str, Any] | None = None
    rounds: int = 0

    @property
    def line(self) -> str:
        """The line that asks for it."""
        told: dict[str, Any] = {"do": self.do, "entry": self.entry, "cell": self.cell.digest}
        if self.settings is not None:
            told |= {"procedure": self.cell.key.procedure, "settings": dict(self.settings), "rounds": self.rounds}
        return json.dumps(told) + "\n"


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def answers(
    first: Mapping[str, Any], jobs: Sequence[Job], count: int
) -> Generator[tuple[Job, dict[str, Any]], None, None]:
    """Yield what the processes say of each job: how far it is, and last what came of it.

    Where this is closed early, the processes are stopped, and keep what they have in their checkpoints.

    Args:
        first: what each process is told first.
        jobs: what is done, in this order.
        count: how many processes.
    """
    with Team(first, min(count, len(jobs))) as team:
        yield from team.ask(jobs)


class Team:
    """Processes that wait for jobs; they end, and keep what they have in their checkpoints, where it is left.

    Args:
        first: what each process is told first.
        count: how many processes.
    """

    def __init__(self, first: Mapping[str, Any], count: int):
        self._todo: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._said: queue.SimpleQueue[tuple[Job, dict[str, Any]] | BaseException] = queue.SimpleQueue()
        self._workers = [_Worker(first, self._todo, self._said) for _ in range(count)]

    def __enter__(self) -> "Team":
        try:
            for worker in self._workers:
                worker.thread.start()
        except BaseException:
            # Interrupted: those that were started must not go on.
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.interrupt()
            self._todo.put(None)
        for worker in self._workers:
            worker.end()

    def ask(self, jobs: Sequence[Job]) -> Generator[tuple[Job, dict[str, Any]], None, None]:
        """Yield what is said of each job until all are done.

        A job whose process ends without a word is answered with `failed`; the rest goes on.
        """
        for job in jobs:
            self._todo.put(job)
        left = len(jobs)
        while left:
            one = self._said.get()
            if isinstance(one, BaseException):
                raise one
            left -= is_last(one[1])
            yield one


def is_last(words: Mapping[str, Any]) -> bool:
    """Return whether this is the last that is said of a job, and not how far it is."""
    return "round" not in words


class _Worker:
    """A process, the thread that talks to it, and the next process where one is lost."""

    def __init__(self, first: Mapping[str, Any], todo: Any, said: Any):
        self.first, self.todo, self.said = json.dumps(first) + "\n", todo, said
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self._process: subprocess.Popen[str] | None = None
        self._stopped = threading.Event()
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 (closed by `end`)

    def interrupt(self) -> None:
        """Ask the process to keep what it has and to end."""
        self._stopped.set()
        process = self._process
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGINT)

    def end(self) -> None:
        """Wait for the process, which is killed where it does not end."""
        process = self._process
        if process is not None:
            _close(process.stdin)
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if self.thread.ident is not None:
            self.thread.join()
        if process is not None:
            _close(process.stdout)
        self._log.close()

    def _serve(self) -> None:
        try:
            while (job := self.todo.get()) is not None and not self._stopped.is_set():
                self._ask(job)
        except BaseException as error:  # noqa: BLE001 (raised again by who waits)
            self.said.put(error)

    def _ask(self, job: Job) -> None:
        """Pass a job on, and what is said of it until it is done."""
        process = self._alive()
        assert process.stdin is not None
        assert process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(job.line)
            process.stdin.flush()
        for line in process.stdout:
            words = json.loads(line)
            self.said.put((job, words))
            if is_last(words):
                return
        if not self._stopped.is_set():
            self.said.put(
                (job, {"failed": f"its process ended with code {process.wait()}{self._last()}", "stop": False})
            )

    def _alive(self) -> "subprocess.Popen[str]":
        if self._process is None or self._process.poll() is not None:
            if self._process is not None:
                _close(self._process.stdin)
                _close(self._process.stdout)
            self._process = subprocess.Popen(
                # Not in the folder where the user is, which may hold any file.
                [sys.executable, "-P", "-m", "fedmeta.study.grid.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                text=True,
                env=_environment(),
                # Ctrl-C is for the one that waits for them.
                start_new_session=True,
            )
            assert self._process.stdin is not None
            if self._stopped.is_set():
                # Stopped while it was being started.
                self._process.kill()
                self._process.wait()
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.write(self.first)
                self._process.stdin.flush()
        return self._process

    def _last(self) -> str:
        """Return the last line that the process wrote to its standard error."""
        self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, self._log.tell() - 4096))
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        return f": {lines[-1]}" if lines else ""


def _close(pipe: IO[str] | None) -> None:
    """Close a pipe, whether or not anybody is at its other end."""
    with contextlib.suppress(OSError):
        if pipe is not None:
            pipe.close()


def _environment() -> dict[str, str]:
    """Return the environment of a process with one thread, which shares compiled programs with the others."""
    own = dict(os.environ)
    home = str(Path(fedmeta.__file__).parents[1])
    own["PYTHONPATH"] = os.pathsep.join([home, *filter(None, [own.get("PYTHONPATH")])])
    own |= dict.fromkeys(("NPROC", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    own["XLA_FLAGS"] = f"{own.get('XLA_FLAGS', '')} --xla_cpu_multi_thread_eigen=false".strip()
    folder = cache_folder("programs")
    if folder is not None and "JAX_COMPILATION_CACHE_DIR" not in own:
        own["JAX_COMPILATION_CACHE_DIR"] = str(folder)
        own["JAX_COMPILATION_CACHE_MAX_SIZE"] = str(COMPILED)
        own["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"
    return own
