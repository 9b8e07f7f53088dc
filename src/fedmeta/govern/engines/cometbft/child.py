"""CometBFT as a child of this process: started, watched, started again whenever it ends, and never left behind."""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, NamedTuple

from fedmeta.govern.engines.cometbft import home as homes
from fedmeta.govern.engines.cometbft.config import Settings
from fedmeta.govern.engines.cometbft.home import Home
from fedmeta.govern.engines.cometbft.rpc import Rpc
from fedmeta.govern.errors import EngineError

LOG_BYTES = 1 << 23
"""Of its log, this much is kept in a file, and as much in the one before."""

_FAILURE = b"CONSENSUS FAILURE"
_CHUNK = 1 << 16
_LINE = 1 << 20
# Becomes CometBFT after it has asked Linux to be killed together with the thread that started it. It is a program of
# its own, because nothing may be asked between fork and exec where there are threads.
_TRAMPOLINE = """
import os, signal, sys
parent, program, *arguments = sys.argv[1:]
if sys.platform == "linux":
    import ctypes
    ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != int(parent):
        sys.exit("who started this has ended")
os.execv(program, [program, *arguments])
"""


class Started(NamedTuple):
    """CometBFT runs."""

    pid: int


class Ended(NamedTuple):
    """CometBFT has ended, which it should not, whatever its exit code; it is started again."""

    code: int
    """The exit code, or minus the signal."""
    ran: float
    """Seconds."""
    pause: int | float
    """Seconds until it is started again."""


class ConsensusFailure(NamedTuple):
    """CometBFT has stopped to take part, and lives on: the line in its log that says so."""

    line: str


class StandsStill(NamedTuple):
    """No new block for a long time: too few validators are there, or this one is cut off, or it has failed."""

    height: int
    seconds: float


class GoesOn(NamedTuple):
    """There are new blocks again."""

    height: int


News = Started | Ended | ConsensusFailure | StandsStill | GoesOn


class Patience(NamedTuple):
    """Seconds."""

    first_pause: int | float = 1
    """Before it is started again; twice as long each time that it ends soon, up to `longest_pause`."""
    longest_pause: int | float = 60
    soon: int | float = 60
    look: int | float = 2
    """Between two looks at the height."""
    still: int | float = 60
    """Without a new block, until that is told."""
    restart: int | float = 600
    """Without a new block, until it is started again: CometBFT dials a lost peer ever more rarely (after a day no
    more), and dials all of them when it starts. Not before the first block, where a snapshot may be on its way."""
    end: int | float = 10
    """For its own end, before it is killed."""


class Child:
    """Runs CometBFT in a folder as long as `run` runs. The application's socket must listen, and go on doing so."""

    def __init__(
        self,
        program: Path,
        home: Home,
        settings: Settings,
        told: Callable[[News], None],
        patience: Patience | None = None,
    ):
        self._program = program
        self._home = home
        self._settings = settings
        self._told = told
        self._patience = patience or Patience()
        self._process: asyncio.subprocess.Process | None = None
        self._again = asyncio.Event()

    @property
    def pid(self) -> int | None:
        """The process; None while there is none."""
        process = self._process
        return process.pid if process and process.returncode is None else None

    @property
    def log(self) -> Path:
        """What it writes; what was before is beside it, with `.1` at its end."""
        return self._home.folder / "cometbft.log"

    def restart(self) -> None:
        """Let the process end and be started again; to be called in the loop that runs `run`."""
        self._again.set()

    async def run(self) -> None:
        """Run CometBFT, again and again, until this is cancelled; then it is ended.

        Linux kills it should the thread end that this runs in.

        Raises:
            KeyFileError: it must not start: see `home.check`.
            EngineError: it cannot start, or another process runs it in this folder.
        """
        with homes.held(self._home):
            await self._again_and_again()

    async def _again_and_again(self) -> None:
        pause = self._patience.first_pause
        while True:
            homes.configure(self._home, self._settings)
            homes.check(self._home, bool(self._settings.signer))
            await _until_listening(self._settings.application)
            begun = time.monotonic()
            code = await self._once()
            ran = time.monotonic() - begun
            if ran > self._patience.soon:
                pause = self._patience.first_pause
            self._told(Ended(code, ran, pause))
            await asyncio.sleep(pause)
            pause = min(2 * pause, self._patience.longest_pause)

    async def _once(self) -> int:
        """Run CometBFT once, and return its exit code."""
        self._process = process = await self._spawn()
        self._again.clear()
        self._told(Started(process.pid))
        keeping = asyncio.create_task(self._keep_log(process))
        others = [asyncio.create_task(one) for one in (process.wait(), self._again.wait(), self._watch())]
        try:
            await asyncio.wait(others, return_when=asyncio.FIRST_COMPLETED)
        finally:
            code = await self._end(process)
            for one in others:
                one.cancel()
            await asyncio.gather(keeping, *others, return_exceptions=True)
        return code

    async def _spawn(self) -> asyncio.subprocess.Process:
        if not os.access(self._program, os.X_OK):
            raise EngineError(f"cannot start {self._program}: it is no program")
        command = [str(self._program), "start", "--home", str(self._home.folder.absolute())]
        try:
            return await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", "-c", _TRAMPOLINE, str(os.getpid())),
                *command,
                cwd=self._home.folder,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            raise EngineError(f"cannot start {self._program}: {error.strerror or error}") from error

    async def _end(self, process: asyncio.subprocess.Process) -> int:
        """See that it has ended, by force if need be, also where this is cancelled; return its exit code."""
        try:
            if process.returncode is None:
                _signal(process.pid, signal.SIGTERM)
                # One that was stopped (SIGSTOP) hears nothing else.
                _signal(process.pid, signal.SIGCONT)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(process.wait(), self._patience.end)
        finally:
            if process.returncode is None:
                _signal(process.pid, signal.SIGKILL)
                await process.wait()
        return await process.wait()

    async def _keep_log(self, process: asyncio.subprocess.Process) -> None:
        """Keep what it writes, and tell of a consensus failure."""
        assert process.stdout is not None
        rest = b""
        with _Log(self.log) as log:
            while chunk := await process.stdout.read(_CHUNK):
                whole, end, rest = (rest + chunk).rpartition(b"\n")
                if len(rest) > _LINE:
                    whole, end, rest = whole + end + rest, b"", b""
                log.write(whole + end)
                for one in whole.split(b"\n") if _FAILURE in whole else ():
                    if _FAILURE in one:
                        self._told(ConsensusFailure(one.decode("utf-8", "replace")[:400]))
            log.write(rest)

    async def _watch(self) -> None:
        """Look at the height, and tell where it stands still, and when it goes on."""
        patience = self._patience
        height, since, still = -1, time.monotonic(), False
        with Rpc(self._settings.rpc, timeout=max(patience.look, 5)) as rpc:
            while True:
                await asyncio.sleep(patience.look)
                with contextlib.suppress(EngineError):
                    found = (await asyncio.to_thread(rpc.status)).height
                    if found != height:
                        if still:
                            self._told(GoesOn(found))
                        height, since, still = found, time.monotonic(), False
                seconds = time.monotonic() - since
                if seconds >= patience.still and not still:
                    still = True
                    self._told(StandsStill(max(height, 0), seconds))
                if seconds >= patience.restart and height > 0:
                    self.restart()
                    since = time.monotonic()


class _Log:
    """A file that begins anew when it is large, with the one before beside it; lines stay whole."""

    def __init__(self, path: Path):
        self._path = path
        self._file: BinaryIO

    def __enter__(self) -> "_Log":
        self._file = self._path.open("ab", buffering=0)
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, chunk: bytes) -> None:
        """Write, as long as the disk has room: a log is not worth a validator."""
        with contextlib.suppress(OSError):
            if self._file.tell() + len(chunk) > LOG_BYTES:
                self._path.replace(self._path.with_name(f"{self._path.name}.1"))
                self._file.close()
                self._file = self._path.open("ab", buffering=0)
            self._file.write(chunk)


def _signal(pid: int, number: int) -> None:
    """Send a signal to the process and all that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, number)


async def _until_listening(socket: Path, seconds: int | float = 30) -> None:
    """Wait until something listens on a socket; raises `EngineError` where nothing comes."""
    end = time.monotonic() + seconds
    while True:
        try:
            _, writer = await asyncio.open_unix_connection(socket)
            writer.close()
            return
        except OSError as error:
            if time.monotonic() > end:
                raise EngineError(f"no application listens on {socket}, after {seconds} s: {error}") from error
        await asyncio.sleep(0.05)
