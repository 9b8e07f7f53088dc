"""Walls: behind them a process can open neither data nor keys, has no network, and cannot get back what was taken.

Each trial has its control: without the wall, or for what it is left with, the same attempt succeeds.
"""

import errno
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

import tests
from fedmeta.node.errors import WallError
from fedmeta.node.process import landlock, seccomp, walls
from fedmeta.node.process.walls import NO_WALL, Wall, start, user_of

NOBODY, OTHER = "65534", "65533"
UNREACHABLE = (errno.ENETUNREACH, errno.EACCES, errno.EADDRNOTAVAIL)

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can change users")
with_landlock = pytest.mark.skipif(not landlock.version(), reason="this kernel has no Landlock")
with_namespaces = pytest.mark.skipif(not walls.describe_walls()[1].holds, reason="no network namespaces here")


@pytest.fixture
def place():
    """A folder that every user can pass through, with keys, data, and a folder for the process behind the wall."""
    folder = Path(tempfile.mkdtemp(prefix="fedmeta-walls-"))
    folder.chmod(0o711)
    for name in ("keys", "data", "own"):
        (folder / name).mkdir(mode=0o700)
        (folder / name / "file").write_text(name)
        (folder / name / "file").chmod(0o600)
    yield folder
    shutil.rmtree(folder)


def give(path, user):
    for one in (path, *path.rglob("*")):
        os.chown(one, *user_of(user))


def started(wall, function, order, **options):
    """Start one of the functions beside the tests, which are read behind the wall too."""
    wall = replace(wall, readable=(*wall.readable, str(Path(tests.__file__).parent)))
    return start(wall, f"tests.node.process.behind:{function}", order, stderr=-1, text=True, **options)


def behind(wall, **order):
    """Return what a process behind a wall could do."""
    process = started(wall, "attempts", order, stdout=-1)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return json.loads(out)


def files(place):
    return {name: str(place / name / "file") for name in ("keys", "data", "own")}


@as_root
@pytest.mark.parametrize("confined", [False, True])
def test_a_gate_opens_neither_data_nor_keys(place, confined):
    give(place / "own", NOBODY)
    give(place / "data", OTHER)
    paths = files(place)
    gate = Wall("gate", NOBODY, writable=(str(place / "own"),), confined=confined)
    found = behind(gate, paths=[*paths.values(), str(place / "keys"), str(place / "data")])
    assert found["opened"] == [paths["own"]]
    assert found["listed"] == []
    assert behind(Wall("no wall", confined=False), paths=list(paths.values()))["opened"] == list(paths.values())


@as_root
def test_who_has_changed_user_cannot_go_back(place):
    found = behind(Wall("gate", NOBODY, open_files=64))
    assert found["uid"] == found["gid"] == [65534] * 3
    assert set(found["groups"]) <= {65534}
    assert not found["root again"]
    assert (found["core"], found["files"], found["umask"]) == ([0, 0], [64, 64], 0o077)
    assert behind(Wall("no wall"))["root again"]


@as_root
@with_namespaces
@pytest.mark.parametrize("user", ["", NOBODY])
def test_a_trainer_has_no_network_and_reads_data_but_no_keys(place, user):
    give(place / "data", user or "0")
    paths = files(place)
    with socket.create_server(("127.0.0.1", 0)) as here:
        addresses = [here.getsockname(), ("192.0.2.1", 80), ("::1", here.getsockname()[1])]
        trainer = Wall("trainer", user, network=False, readable=(paths["data"],), confined=bool(landlock.version()))
        found = behind(trainer, paths=list(paths.values()), connect=addresses)
        assert behind(Wall("gate"), connect=addresses[:1])["connected"] == {str(list(addresses[0])): "connected"}
    assert found["interfaces"] == []
    assert set(found["connected"].values()) <= set(UNREACHABLE)
    assert len(found["connected"]) == 3
    if user or landlock.version():
        assert found["opened"] == [paths["data"]]


@with_namespaces
@pytest.mark.skipif(not seccomp.known(), reason="this machine's calls are not known")
def test_a_trainer_can_ask_nobody_that_listens_at_a_path(place):
    path = str(place / "listens")
    with socket.socket(socket.AF_UNIX) as here:
        here.bind(path)
        here.listen()
        found = behind(Wall("trainer", network=False, confined=bool(landlock.version())), ask=[path])
        assert (found["asked"], found["pair"]) == ({path: errno.EACCES}, False)
        free = behind(Wall("core"), ask=[path])
        assert (free["asked"], free["pair"]) == ({path: "connected"}, True)


@with_namespaces
@as_root
def test_without_root_the_network_is_left_by_a_user_namespace(place):
    program = (
        "import os; os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)\n"
        "walls._prctl(None, 4, 1)\n"
        "held = walls.enter(walls.Wall('trainer', network=False))\n"
        "print(held.network, held.own_user, [name for name, up in walls.interfaces() if up])"
    )
    done = run(program)
    if "allow user namespaces" in done.stderr:
        pytest.skip("users may not make namespaces here")
    refused = run(program.replace("4, 1", "4, 0")).stderr
    assert "trainer: its user namespace cannot be set up" in refused
    assert done.stdout == "none False []\n", done.stderr


@with_landlock
def test_landlock_leaves_what_was_named_and_nothing_else(place):
    paths = files(place)
    wall = Wall("core", readable=(paths["data"],), writable=(str(place / "own"),))
    new = [str(place / "own" / "new"), str(place / "new"), paths["data"]]
    found = behind(wall, paths=list(paths.values()), write=new)
    assert found["opened"] == [paths["data"], paths["own"]]
    assert found["written"] == new[:1]
    assert (place / "data" / "file").read_text() == "data"
    free = behind(Wall("no wall", confined=False), paths=list(paths.values()), write=[str(place / "new")])
    assert free["opened"] == list(paths.values())
    assert free["written"] == [str(place / "new")]


@with_landlock
def test_a_folder_of_keys_beneath_one_that_is_left_is_not_opened_by_a_link(place):
    paths = files(place)
    (place / "own" / "link").symlink_to(paths["keys"])
    wall = Wall("gate", writable=(str(place / "own"),))
    assert behind(wall, paths=[str(place / "own" / "link")])["opened"] == []


@with_landlock
def test_the_memory_of_the_process_outside_cannot_be_read():
    assert behind(Wall("gate"), parent=os.getpid())["memory"] is False
    assert behind(Wall("no wall", confined=False), parent=os.getpid())["memory"] is (os.geteuid() == 0)


@pytest.mark.skipif(landlock.version() < 6, reason="this kernel's Landlock does not know signals")
@with_namespaces
def test_a_trainer_can_signal_nothing_outside():
    assert behind(Wall("trainer", network=False), parent=os.getpid())["signalled"] is False
    assert behind(Wall("gate"), parent=os.getpid())["signalled"] is True


def test_a_process_ends_with_what_its_function_returns():
    process = started(Wall("core"), "exits", 3)
    assert (process.communicate(timeout=60)[1], process.returncode) == ("", 3)


def run(program, **options):
    """Run a program in a process of its own, so that what it takes from itself this one keeps."""
    program = f"from fedmeta.node.process import walls, landlock\n{program}"
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False, **options
    )


REFUSED = {
    "no such user": (Wall("gate", "no-such-user"), "there is no user 'no-such-user'", "useradd"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_without_its_wall_a_process_does_not_start(case):
    wall, *says = REFUSED[case]
    process = started(wall, "exits", 0)
    _, err = process.communicate(timeout=60)
    assert process.returncode == NO_WALL
    assert err.count("\n") == 1
    assert [part for part in says if part not in err] == []


@as_root
def test_only_root_can_become_another_user():
    program = (
        "import os; os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)\n"
        "walls.become(walls.Wall('gate', '65533'))"
    )
    assert "only root can become 65533: start the node as root" in run(program).stderr


def test_walls_are_refused_where_threads_would_stay_outside():
    program = (
        "import threading; threading.Thread(target=threading.Event().wait, daemon=True).start()\n"
        "walls.enter(walls.Wall('gate'))"
    )
    assert "gate: it has 2 threads, and walls would stand around one" in run(program).stderr


def test_a_network_that_is_there_is_seen():
    # Whatever else there is, loopback is up where tests run.
    assert ("lo", True) in walls.interfaces()
    with pytest.raises(WallError, match=r"trainer: the interface .* is up, but it must have no network"):
        walls.check_no_network("trainer")


def test_an_address_that_answers_is_seen_though_no_interface_is(monkeypatch):
    monkeypatch.setattr(walls, "interfaces", lambda: [("lo", False)])
    with pytest.raises(WallError, match=r"trainer: 127.0.0.1 .* but it must have no network"):
        walls.check_no_network("trainer")


def test_a_system_that_refuses_stops_the_process(monkeypatch):
    monkeypatch.setattr(walls.landlock, "version", lambda: 0)
    with pytest.raises(OSError, match="this kernel has no Landlock"):
        landlock.restrict((), (), network=True)

    class Refusing:
        prctl = unshare = staticmethod(lambda *_: -1)

    monkeypatch.setattr(walls, "_libc", Refusing)
    with pytest.raises(WallError, match="gate: prctl 4 is refused"):
        walls.become(Wall("gate"))
    with pytest.raises(WallError, match=r"trainer: its network cannot be taken away .* start the node as root"):
        walls._leave_network(Wall("trainer", network=False))


def test_held_says_which_walls_stand():
    done = run("import json, dataclasses; print(json.dumps(dataclasses.asdict(walls.enter(walls.Wall('core')))))")
    held = json.loads(done.stdout)
    version = landlock.version()
    assert held["files"] == (f"landlock {version}" if version else "permissions")
    assert (held["network"], held["own_user"], held["no_new_privileges"]) == ("reachable", False, True)


def test_what_this_machine_can_do_is_described():
    found = {one.name: one for one in walls.describe_walls()}
    assert found["own users"].holds == (os.geteuid() == 0)
    assert found["own files"].holds == bool(landlock.version())
    assert all(one.said for one in found.values())
