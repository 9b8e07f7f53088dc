"""The walls of a node's three processes, by its configuration; and a trial of them, before the node starts."""

import json
import os
import pwd
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fedmeta.node.errors import WallError
from fedmeta.node.member.checks import Check, fails, ok, warning
from fedmeta.node.member.config import Config
from fedmeta.node.member.folder import Folder
from fedmeta.node.process.walls import Wall, describe_walls, interfaces, start, user_of

_PATIENCE = 60


def gate_wall(config: Config) -> Wall:
    """Return the wall of the gate: a network, its sealed blobs, and neither data nor keys.

    The TLS key, with which it listens, it is handed by whoever starts it.
    """
    folder = Folder(config.folder)
    return Wall("gate", config.users.gate, writable=(str(folder.gate),), open_files=16384)


def core_wall(config: Config) -> Wall:
    """Return the wall of the core: a network, the node's folder with the keys, of which it writes its own part only.

    So what a person says, configuration, policy and approvals, it can read and not change.
    """
    folder = Folder(config.folder)
    readable = (str(config.path(config.network.ca)),) if config.network.ca else ()
    keys = tuple(str(config.path(one).parent) for one in (config.keys.machine, config.keys.secret))
    return Wall(
        "core",
        config.users.core,
        readable=(*readable, *keys, str(config.folder)),
        writable=(str(folder.core), str(folder.outbox)),
    )


def trainer_wall(config: Config) -> Wall:
    """Return the wall of the trainer: the data, a folder of its own, and neither a network nor keys."""
    folder = Folder(config.folder)
    return Wall(
        "trainer",
        config.users.trainer,
        network=False,
        readable=tuple(map(str, data_of(config))),
        writable=(str(folder.trainer),),
    )


def data_of(config: Config) -> list[Path]:
    """Return the files and folders with the member's examples; a data set that comes with fedmeta has none."""
    return [path for path in map(config.path, config.data.paths) if path.exists()]


def keys_of(config: Config) -> list[Path]:
    """Return the files of the member's keys."""
    names = [config.keys.machine, config.keys.secret, *([config.keys.account] if config.keys.account else [])]
    return [config.path(name) for name in names]


def arrange(config: Config) -> None:
    """Give each process of a node its own folders, by root and where users are set; does nothing else otherwise.

    The node's folder gets mode 0711: gate and trainer pass through it to their own, and can list nothing.

    Raises:
        WallError: there is no such user, or the file system refuses.
    """
    users = config.users
    if os.geteuid() != 0 or not users.core:
        return
    folder = Folder(config.folder)
    # Data in the node's folder are the trainer's, too.
    own = [path for path in data_of(config) if path.is_relative_to(config.folder)]
    owners = dict.fromkeys((folder.trainer, *own), user_of(users.trainer))
    if config.listens:
        owners[folder.gate] = user_of(users.gate)
    try:
        for path in (config.folder, *sorted(config.folder.rglob("*"))):
            owner = next((its for part, its in owners.items() if path.is_relative_to(part)), user_of(users.core))
            os.chown(path, *owner, follow_symlinks=False)
        config.folder.chmod(0o711)
    except OSError as error:
        raise WallError(f"cannot give {error.filename} to its user: {error.strerror}") from error


def check_walls(config: Config) -> Iterator[Check]:
    """Check what walls this machine can give, and try those of the gate and of the trainer."""
    for one in describe_walls():
        if one.holds:
            yield ok(f"walls: {one.name}", one.said)
        else:
            yield warning(f"walls: {one.name}", one.said, "the processes are set apart by what else there is")
    if config.users.core and os.geteuid() != 0:
        advice = "start the node as root, as its unit does, or leave [users] out"
        yield fails("walls: users", "[users] is set, and only root can start processes under other users", advice)
        return
    if config.listens:
        yield from _tried(config, gate_wall(config), [*data_of(config), *keys_of(config)])
    # What lies in the node's folder is given to its user when the node starts.
    needs = [path for path in data_of(config) if not path.is_relative_to(config.folder)]
    yield from _tried(config, trainer_wall(config), keys_of(config), needs)


def _tried(config: Config, wall: Wall, closed: list[Path], needs: Sequence[Path] = ()) -> Iterator[Check]:
    """Start a process behind a wall, and check that it can open what it needs and nothing that is closed to it."""
    name, python = f"walls: {wall.name}", Path(os.__file__)
    said = try_wall(wall, [*closed, *needs, python])
    if isinstance(said, str):
        yield fails(name, said, "correct [users] in node.toml")
        return
    user, opened = said["user"], {Path(path) for path in said["opened"]}
    leaks = [str(path) for path in closed if path in opened]
    missing = [str(path) for path in needs if path not in opened]
    if leaks:
        found = f"{user} can open {', '.join(leaks)}"
        advice = "give each process a user of its own in [users] and start as root, or use a kernel with Landlock"
        yield fails(name, found, advice) if config.users.core else warning(name, found, advice)
    elif missing:
        yield fails(name, f"{user} cannot open {', '.join(missing)}", f"let {user} read it")
    elif wall.network:
        yield ok(name, f"{user} can open neither data nor keys")
    else:
        yield ok(name, f"{user} has no network, and cannot open the keys")
    if python not in opened:
        advice = "install it where every user can read it, or what is imported late is not found"
        yield warning(f"Python for the {wall.name}", f"{user} cannot read {python.parent}", advice)


def try_wall(wall: Wall, paths: list[Path]) -> dict[str, Any] | str:
    """Return who a process behind a wall is and which of some paths it can open, or why it could not be started."""
    process = start(wall, f"{__name__}:_probe", [str(path) for path in paths], stdout=-1, stderr=-1, text=True)
    try:
        out, err = process.communicate(timeout=_PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return f"{wall.name}: it did not start within {_PATIENCE} s"
    if process.returncode:
        lines = err.strip().splitlines() or [f"{wall.name} ended with {process.returncode}"]
        return lines[-1].removeprefix("fedmeta: ")
    return json.loads(out)


def _probe(paths: list[str]) -> int:
    """Write which paths can be opened, and who this is; runs behind a wall."""
    opened = []
    for path in paths:
        try:
            os.close(os.open(path, os.O_RDONLY))
        except OSError:
            continue
        opened.append(path)
    up = [name for name, works in interfaces() if works]
    json.dump({"user": _name(), "opened": opened, "interfaces": up}, sys.stdout)
    return 0


def _name() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"
