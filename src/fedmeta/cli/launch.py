"""Several processes for one command: started here with `--processes`, or joined with `--coordinator`."""

import os
import queue
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import click

from fedmeta.errors import ProcessLost, RunError, UsageError

LOST = 75
"""The exit code of a launched process that has lost another one; the launcher says which."""

PATIENCE = 5.0
"""Seconds that process 0 is given to explain its own failure, when another process has failed first."""

# JAX aborts a process whose coordinator is gone.
_CONSEQUENCES = (LOST, -signal.SIGABRT)

_PROGRAM = (sys.executable, "-P", "-c", "from fedmeta_script import main; main()")
_OPTIONS = ("coordinator", "processes", "process", "lifeline")


def process_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options for several processes to a command, which must be a `JoinedCommand`."""
    for option in reversed(
        [
            click.option(
                "--processes",
                type=int,
                help="Processes that share the work; without --coordinator they are started here.",
            ),
            click.option(
                "--coordinator",
                metavar="HOST:PORT|auto",
                help="Where process 0 listens, on its host; auto under SLURM, Open MPI or Kubernetes.",
            ),
            click.option("--process", type=int, help="Which of the processes this one is, from 0."),
            # A pipe that ends when the process that started this one has ended.
            click.option("--lifeline", type=int, hidden=True),
        ]
    ):
        command = option(command)
    return command


class JoinedCommand(click.Command):
    """A command that several processes may share; its function never sees the options for that."""

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> click.Context:
        """Keep the command's arguments, to start its processes with them."""
        words = [str(info_name), *args]
        context = super().make_context(info_name, args, parent, **extra)
        context.meta[__name__] = words
        return context

    def invoke(self, ctx: click.Context) -> Any:
        """Start the processes, or join them and do what the command does."""
        coordinator, processes, process, lifeline = (ctx.params.pop(name) for name in _OPTIONS)
        _check(coordinator, processes, process)
        if coordinator is None:
            if processes is not None and processes > 1:
                ctx.exit(launch([*_PROGRAM, *ctx.meta[__name__]], processes, lambda: _remedy(ctx)))
            return super().invoke(ctx)
        if lifeline is not None:
            _hold(lifeline, leader=process == 0)
        from fedmeta._engine.processes import guard, join

        try:
            join(coordinator, processes, process, cpu_devices=1)
            with guard():
                return super().invoke(ctx)
        except ProcessLost as error:
            if lifeline is not None:
                ctx.exit(LOST)
            raise ProcessLost(f"{error}{_remedy(ctx)}") from error


def launch(command: Sequence[str], processes: int, remedy: Callable[[], str] = str) -> int:
    """Run a command as several processes of this machine that join one another; return its exit code.

    Process 0 has this process's terminal. The standard output of the others is dropped, and their standard error is
    kept in case they fail. Each has its share of this process's cores. Ctrl-C is passed on to process 0, which
    ends as it would alone; a second Ctrl-C ends all processes at once. When one of them ends, or this one, all do.

    Args:
        command: the program and its words; `--coordinator`, `--processes`, `--process` and `--lifeline` are added.
        processes: how many.
        remedy: gives what to add to the line about a process that failed.

    Raises:
        RunError: a process has failed.
        KeyboardInterrupt: at the second Ctrl-C.
    """
    with ExitStack() as stack:
        lifeline, ours = os.pipe()
        stack.callback(os.close, ours)
        team = _Team()
        stack.callback(team.end)
        try:
            # Ctrl-C waits until all have been started; and in each of them, until it can be told in one line.
            with _without_interrupts():
                address = f"127.0.0.1:{_free_port()}"
                for process in range(processes):
                    place = ("--coordinator", address, "--processes", str(processes), "--process", str(process))
                    with _on_cores(process, processes):
                        team.start([*command, *place, "--lifeline", str(lifeline)], lifeline)
        finally:
            os.close(lifeline)
        return _outcome(team, remedy)


@dataclass(frozen=True)
class _Member:
    process: subprocess.Popen[bytes]
    said: IO[bytes] | None


class _Team:
    """The processes that were started, and in which order they end."""

    def __init__(self) -> None:
        self.members: list[_Member] = []
        self.ended: list[int] = []
        self._words: queue.SimpleQueue[int] = queue.SimpleQueue()

    def start(self, command: Sequence[str], lifeline: int) -> None:
        number = len(self.members)
        said = tempfile.TemporaryFile() if number else None  # noqa: SIM115 (closed in `end`)
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL if number else None,
            stderr=said,
            pass_fds=(lifeline,),
            # Else the terminal would send its Ctrl-C to each of them, too.
            process_group=0,
        )
        self.members.append(_Member(process, said))

        def tell() -> None:
            process.wait()
            self._words.put(number)

        threading.Thread(target=tell, daemon=True).start()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until another process has ended; return whether one has. Pass the first Ctrl-C on."""
        try:
            return self._wait(timeout)
        except KeyboardInterrupt:
            self.members[0].process.send_signal(signal.SIGINT)
            return self._wait(timeout)

    def _wait(self, timeout: float | None) -> bool:
        try:
            self.ended.append(self._words.get(timeout=timeout))
        except queue.Empty:
            return False
        return True

    def code(self, number: int) -> int:
        """Return the exit code of a process that has ended; below 0, the signal that ended it."""
        return self.members[number].process.returncode

    def failed(self) -> list[int]:
        """Return who has failed, in order; first those that did not fail because another had."""
        failed = [number for number in self.ended if self.code(number) != 0]
        return sorted(failed, key=lambda number: self.code(number) in _CONSEQUENCES)

    def cause_is_known(self) -> bool:
        return any(self.code(number) not in _CONSEQUENCES for number in self.failed())

    def end(self) -> None:
        """End what is still running."""
        for member in self.members:
            member.process.kill()
        for member in self.members:
            member.process.wait()
            if member.said is not None:
                member.said.close()


def _outcome(team: _Team, remedy: Callable[[], str]) -> int:
    """Wait until process 0 has ended or another has failed; return the exit code, or say who failed and how."""
    while 0 not in team.ended and not team.failed():
        team.wait()
    # It may be about to fail for the same reason, and says so best.
    while 0 not in team.ended and team.wait(PATIENCE):
        pass
    if 0 in team.ended and 0 <= team.code(0) != LOST:
        return team.code(0)
    while not team.cause_is_known() and team.wait(PATIENCE):
        pass
    number = team.failed()[0]
    raise RunError(f"process {number} of {len(team.members)} {_fate(team.members[number])}{remedy()}")


def _fate(member: _Member) -> str:
    """Return how a process has ended; write what it said to standard error, unless that is one plain line."""
    code = member.process.returncode
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    if code == LOST or member.said is None:
        return "could not reach the others"
    member.said.seek(0)
    text = member.said.read().decode(errors="replace").strip()
    last = text.splitlines()[-1] if text else ""
    if last.startswith("fedmeta: "):
        return f"has failed: {last.removeprefix('fedmeta: ')}"
    if text:
        click.echo(text, err=True)
    return f"has failed with exit code {code}"


def _check(coordinator: str | None, processes: int | None, process: int | None) -> None:
    if processes is not None and processes < 1:
        raise UsageError(f"--processes must be at least 1, not {processes}")
    if coordinator is None and process is not None:
        raise UsageError(f"--process {process} needs --coordinator; with --processes alone all are started here")
    if coordinator not in (None, "auto") and (processes is None or process is None):
        raise UsageError(f"--coordinator {coordinator} needs --processes and --process")


def _remedy(ctx: click.Context) -> str:
    run: Path | None = ctx.params.get("out") or ctx.params.get("run")
    return f"; go on with: fedmeta resume {run}" if run is not None and (run / "run.toml").is_file() else ""


def _hold(lifeline: int, leader: bool) -> None:
    """End this process when the one that started it ends; let Ctrl-C through to the leader only."""

    def watch() -> None:
        os.read(lifeline, 1)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()
    if leader:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    else:
        # JAX aborts when the leader is gone; that is not worth a core dump.
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@contextmanager
def _without_interrupts() -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _on_cores(process: int, processes: int) -> Iterator[None]:
    """Start a process on its share of the cores, so that the compiler has as many threads."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, part(sorted(cores), process, processes))
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def part(cores: Sequence[int], process: int, processes: int) -> Sequence[int]:
    """Return the cores of one process: equal shares, or one core for several processes where there are too few."""
    if processes > len(cores):
        return [cores[process % len(cores)]]
    return cores[process * len(cores) // processes : (process + 1) * len(cores) // processes]
