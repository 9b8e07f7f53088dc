"""One command that starts the processes of a node behind their walls, and starts them again where one of them ends."""

import contextlib
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from fedmeta.node.errors import ConfigError, FolderInUse, WallError
from fedmeta.node.member.checks import check_folder, check_keys
from fedmeta.node.member.config import Config, share
from fedmeta.node.member.folder import Folder
from fedmeta.node.process import apart, walls
from fedmeta.node.process.jobs import HALTED

CORE, GATE, TRAINER = (f"fedmeta.node.process.{one}:serve" for one in ("core", "gate", "trainer"))

AGAIN = (1.0, 2.0, 5.0, 10.0, 30.0)
"""Seconds before the processes are started again, the first time and later."""

LONG = 120.0
"""Seconds after which processes that end count as having run well."""

GRACE = 20.0
"""Seconds that a process has to end by itself."""

LOCK = "node.lock"
"""The file in the node's folder that one command at a time has."""

_UNSEEN = {"member", "role", "ledger"}


def run(config: Config, content: dict[str, Any], say: Callable[[str], None]) -> int:
    """Run a node until it is told to end by a signal, or must not go on; return the exit code.

    Args:
        config: The node's.
        content: What `node.toml` holds, as TOML gives it.
        say: Is given what people should read.

    Raises:
        WallError: a process could not be set apart.
        FolderInUse: the node runs already.
        ConfigError: a recovery has not ended, or keys are missing, are none, or could be used by others.
    """
    with locked(config.folder):
        _check_whole(Folder(config.folder))
        _check_private(config)
        # The core may write this file, and make none beside it.
        Folder(config.folder).outbox.touch(0o600)
        apart.arrange(config)
        if config.listens:
            # The core must get through to the gate's socket, and no further.
            Folder(config.folder).gate.chmod(0o711)
        return _Supervisor(config, content, say).run()


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep a node from running in its folder; raises `FolderInUse` where one runs already."""
    import fcntl

    with open(folder / LOCK, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise FolderInUse(f"a node runs in {folder} already: one at a time") from error
        yield


def _check_whole(folder: Folder) -> None:
    if folder.recovery.exists():
        raise ConfigError(f"a recovery was begun in {folder.path} and has not ended: run `fedmeta node recover` again")


def _check_private(config: Config) -> None:
    wrong = [one for one in (*check_folder(config), *check_keys(config)) if one.state == "fails"]
    if wrong:
        raise ConfigError("; ".join(f"{one.name}: {one.found} ({one.advice})" for one in wrong))


class _Supervisor:
    def __init__(self, config: Config, content: dict[str, Any], say: Callable[[str], None]):
        self.config, self.content, self.say = config, content, say
        self.ended = threading.Event()
        self.processes: dict[str, subprocess.Popen] = {}

    def run(self) -> int:
        before = {one: signal.signal(one, lambda *_: self.ended.set()) for one in (signal.SIGTERM, signal.SIGINT)}
        tries = 0
        try:
            while True:
                begun = time.monotonic()
                self._begin()
                name, code = self._wait()
                self._end()
                if self.ended.is_set():
                    return 0
                if code == walls.NO_WALL:
                    raise WallError(f"the {name} could not be set apart: `fedmeta node check` says what is missing")
                if code == HALTED:
                    self.say(f"the {name} must not go on by itself: what it has said above, a person must look at")
                    return HALTED
                tries = 0 if time.monotonic() - begun > LONG else tries + 1
                pause = AGAIN[min(tries, len(AGAIN) - 1)]
                self.say(f"the {name} has ended with {code}: all start again in {pause:g} s")
                if self.ended.wait(pause):
                    return 0
        finally:
            self._end()
            for one, handler in before.items():
                signal.signal(one, handler)

    def _begin(self) -> None:
        config, folder = self.config, Folder(self.config.folder)
        core, trainer = socket.socketpair()
        data = {name: part for name, part in self.content.items() if name in (*_UNSEEN, "data")}
        # The trainer has no need to know where anything listens.
        data["role"] = "contributor"
        with core, trainer:
            self.processes["trainer"] = walls.start(
                apart.trainer_wall(config),
                TRAINER,
                {"fd": trainer.fileno(), "folder": str(config.folder), "config": data},
                pass_fds=(trainer.fileno(),),
                stdin=subprocess.DEVNULL,
                cwd="/",
                env=_environment(folder.trainer),
            )
            if config.listens:
                host, _, port = config.listen.address.rpartition(":")
                user = walls.user_of(config.users.core)[0] if config.users.core else os.getuid()
                gate = walls.start(
                    apart.gate_wall(config),
                    GATE,
                    {
                        "folder": str(folder.gate),
                        "host": host.strip("[]"),
                        "port": int(port),
                        "quota": share(config),
                        "core": user,
                    },
                    stdin=subprocess.PIPE,
                    cwd="/",
                    env=_environment(folder.gate),
                )
                assert gate.stdin is not None
                gate.stdin.write(folder.tls.read_bytes())
                gate.stdin.close()
                self.processes["gate"] = gate
            self.processes["core"] = walls.start(
                apart.core_wall(config),
                CORE,
                {"folder": str(config.folder), "trainer": core.fileno()},
                pass_fds=(core.fileno(),),
                stdin=subprocess.DEVNULL,
                cwd="/",
                env=_environment(folder.core),
            )

    def _wait(self) -> tuple[str, int]:
        while not self.ended.is_set():
            for name, one in self.processes.items():
                code = one.poll()
                if code is not None:
                    return name, code
            self.ended.wait(0.1)
        return "", 0

    def _end(self) -> None:
        # The core first: it has things to put in order.
        for name in ("core", "gate", "trainer"):
            process = self.processes.pop(name, None)
            if process is None:
                continue
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(GRACE)
                except subprocess.TimeoutExpired:
                    process.kill()
            process.wait()


def _environment(home: Path) -> dict[str, str]:
    """Return what a process may know of the environment: nothing of the starter's own, and a home that it can write."""
    kept = ("PATH", "LANG", "LC_ALL", "TZ", "PYTHONPATH", "XLA_FLAGS", "OMP_NUM_THREADS", "SSL_CERT_FILE")
    found = {name: os.environ[name] for name in kept if name in os.environ}
    own = {"HOME": str(home), "TMPDIR": str(home), "FEDMETA_CACHE": str(home / "cache")}
    return {**found, **own, "JAX_PLATFORMS": "cpu"}
