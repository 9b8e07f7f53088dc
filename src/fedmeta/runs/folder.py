"""A run is a folder: run.toml, metrics.jsonl, checkpoint/, model.safetensors. One process uses it at a time."""

import json
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w
from filelock import FileLock, Timeout

from fedmeta import pytrees
from fedmeta._engine.plan import Plan
from fedmeta._files import write_atomically
from fedmeta.errors import CheckpointError, RunError, RunLocked, UsageError
from fedmeta.events import RoundEnded
from fedmeta.runs.former import upgraded

_DIGESTS = {
    "run.data_sha256": "the digest of the training clients' data",
    "run.state_sha256": "the digest of the shapes of the model and of the server optimiser's state",
}


class RunFolder:
    """The files of one run, locked while it is open; use it as a context manager.

    Killing the process at any moment loses at most the rounds since the last checkpoint: the checkpoint is
    one file that is replaced whole, and lines of metrics.jsonl past it are dropped when the run goes on.

    Args:
        path: the folder; made when it is opened.
        settings: all that the run depends on; written to run.toml, or compared with it.

    Raises:
        RunLocked: another process uses the folder.
        CheckpointError: the folder holds a run with other settings.
        RunError: the folder holds something else, or cannot be written.
    """

    def __init__(self, path: str | Path, settings: Mapping[str, Any]):
        self.path = Path(path)
        self.settings = _without_none(settings)
        self._kept: dict[str, Any] = {}

    def __enter__(self) -> "RunFolder":
        try:
            if self.path.is_dir() and not is_run(self.path) and any(self.path.iterdir()):
                raise RunError(f"{self.path} holds something that is not a run; give an empty or a new folder")
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(self.path / ".lock")
            self._lock.acquire(timeout=0)
        except Timeout:
            raise RunLocked(f"{self.path} is in use by another process") from None
        except OSError as error:
            raise RunError(f"cannot use {self.path} as a run folder: {error.strerror or error}") from error
        try:
            self._match_settings()
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def append(self, event: RoundEnded) -> None:
        """Append a round's row to metrics.jsonl.

        Raises:
            RunError: the file system refuses.
        """
        try:
            with open(self.path / "metrics.jsonl", "a") as file:
                file.write(json.dumps(event.row()) + "\n")
        except OSError as error:
            raise RunError(f"cannot write {self.path / 'metrics.jsonl'}: {error.strerror or error}") from error

    def _match_settings(self) -> None:
        file = self.path / "run.toml"
        if not file.exists():
            write_atomically(file, tomli_w.dumps(self.settings).encode())
            return
        there = former_settings(self.path, self.settings)
        differences = [
            found
            for found in _differences(there, self.settings)
            if found[0] != "run.rounds" and not found[0].startswith(("versions", "plan"))
        ]
        # A digest, or a mean over the data, differs wherever what it stands for does: any plainer difference says more.
        for name, old, new in sorted(differences, key=lambda found: _plainness(found[0])):
            what = f"{_DIGESTS[name]} ({name})" if name in _DIGESTS else name
            raise CheckpointError(f"{self.path} holds another run: {what} is {old!r} there and {new!r} here")

    def keep_settings(self) -> None:
        """Write the settings, which may ask for another number of rounds than before.

        Raises:
            RunError: the file system refuses.
        """
        if read_settings(self.path) != self.settings:
            write_atomically(self.path / "run.toml", tomli_w.dumps(self.settings).encode())

    def restore(self, state: Any) -> Any:
        """Return the state of the last checkpoint, or `state` as it is where there is none.

        Rows of metrics.jsonl past the checkpoint are dropped.

        Raises:
            CheckpointError: the checkpoint is damaged, or has other arrays than `state`.
        """
        if self._checkpoint.exists():
            state = pytrees.load(self._checkpoint, state)
            self._kept = pytrees.load_metadata(self._checkpoint)
        rows = read_history(self.path)[: int(state.round)]
        if len(rows) != int(state.round):
            raise CheckpointError(f"{self.path} is damaged: {len(rows)} rows of history for {int(state.round)} rounds")
        if (self.path / "metrics.jsonl").exists():
            text = "".join(json.dumps(row) + "\n" for row in rows)
            write_atomically(self.path / "metrics.jsonl", text.encode())
        return state

    @property
    def memory_mark(self) -> dict[str, Any] | None:
        """What the last checkpoint keeps of the clients' memory."""
        return self._kept.get("memory")

    def best(self, like: Any) -> Any:
        """Return the best state of a run that selects it, as it was at the last checkpoint, or None."""
        name = self._kept.get("best")
        return None if name is None else pytrees.load(self.path / "checkpoint" / name, like)

    def save_checkpoint(self, state: Any, memory: dict[str, Any] | None = None, best: Any = None) -> None:
        """Replace the checkpoint by this state, once the rows that belong to it are on the disk.

        Args:
            state: the server's state.
            memory: the mark of the clients' memory.
            best: the best state so far, of a run that selects it.

        Raises:
            RunError: the file system refuses; the previous checkpoint is kept.
        """
        metrics = self.path / "metrics.jsonl"
        if metrics.exists():
            try:
                with open(metrics, "rb") as file:
                    os.fsync(file.fileno())
            except OSError as error:
                raise RunError(f"cannot write {metrics}: {error.strerror or error}") from error
        kept: dict[str, Any] = {"round": int(state.round)}
        if memory is not None:
            kept["memory"] = memory
        if best is not None:
            kept["best"] = f"best-{int(best.round)}.safetensors"
            if kept["best"] != self._kept.get("best"):
                pytrees.save(self.path / "checkpoint" / kept["best"], best)
        pytrees.save(self._checkpoint, state, kept)
        self._kept = kept
        for other in self._checkpoint.parent.glob("best-*.safetensors"):
            if other.name != kept.get("best"):
                other.unlink(missing_ok=True)

    def save_result(self, phi: Any, *, rounds: int, stopped: str = "", best: int | None = None) -> None:
        """Write phi to model.safetensors, with the run's settings in the file's metadata.

        Args:
            phi: the result.
            rounds: how many rounds are done.
            stopped: why there are no more, or "".
            best: the round whose phi it is, where the best one was selected.
        """
        metadata = {"settings": self.settings, "rounds": rounds, "stopped": stopped, "best": best}
        pytrees.save(self.path / "model.safetensors", phi, metadata)

    @property
    def _checkpoint(self) -> Path:
        return self.path / "checkpoint" / "state.safetensors"


def is_run(path: Path) -> bool:
    """Return whether the folder holds a run."""
    return (path / "run.toml").is_file() or {entry.name for entry in path.glob("*")} == {".lock"}


def read_settings(path: str | Path) -> dict[str, Any]:
    """Return what run.toml says.

    Raises:
        UsageError: the folder holds no run.
        CheckpointError: run.toml is damaged.
    """
    file = Path(path) / "run.toml"
    if not file.is_file():
        raise UsageError(f"{path} holds no run: there is no file run.toml in it")
    try:
        return tomllib.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{file} is damaged: {error}") from error


def former_settings(path: Path, today: Mapping[str, Any]) -> dict[str, Any]:
    """Return what run.toml says, in today's form; earlier versions did not note a named server optimiser.

    Raises:
        CheckpointError: run.toml is damaged.
    """
    there = read_settings(path)
    try:
        there = _without_none(upgraded(there))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise CheckpointError(f"{path / 'run.toml'} is damaged: {error}") from error
    return there if "server" in there or "server" not in today else {**there, "server": today["server"]}


def saved_plan(path: str | Path) -> Plan | None:
    """Return the plan of the run in a folder, by which it goes on; None where there is no run.

    Raises:
        CheckpointError: run.toml is damaged.
    """
    if not (Path(path) / "run.toml").is_file():
        return None
    try:
        return Plan.from_dict(read_settings(path).get("plan", {}))
    except (UsageError, TypeError) as error:
        raise CheckpointError(f"{Path(path) / 'run.toml'} is damaged: {error}") from error


def read_history(path: str | Path) -> list[dict[str, Any]]:
    """Return the rows of metrics.jsonl, without a last line that was cut off while it was written.

    Raises:
        CheckpointError: the file is damaged.
    """
    file = Path(path) / "metrics.jsonl"
    if not file.exists():
        return []
    rows = []
    for number, line in enumerate(file.read_bytes().split(b"\n")[:-1], 1):
        try:
            rows.append(json.loads(line))
            whole = rows[-1]["round"] == number
        except (ValueError, TypeError, KeyError):
            whole = False
        if not whole:
            raise CheckpointError(f"{file} is damaged in line {number}")
    return rows


def _plainness(name: str) -> int:
    return 2 if name.startswith("recipe.procedure.inputs") else 1 if name in _DIGESTS else 0


def _without_none(settings: Mapping[str, Any]) -> dict[str, Any]:
    cleaned: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            cleaned[name] = _without_none(value)
        elif value is not None:
            value = value.item() if isinstance(value, np.generic) else value
            cleaned[name] = list(value) if isinstance(value, tuple) else value
    return cleaned


def _differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any, Any]]:
    found = []
    for name in [*old, *(name for name in new if name not in old)]:
        a, b = old.get(name), new.get(name)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            found += _differences(a, b, f"{prefix}{name}.")
        elif a != b:
            found.append((prefix + name, a, b))
    return found
