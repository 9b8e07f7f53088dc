"""The walls of a node by its configuration: they are tried before it starts, and what leaks is told."""

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from fedmeta.node.errors import WallError
from fedmeta.node.member import folder
from fedmeta.node.process import apart, landlock
from fedmeta.node.process.walls import Wall
from tests.node.member.made import configured
from tests.node.member.test_folder import VALUES

SUPER = {"role": "super", "listen__address": "0.0.0.0:7979", "listen__public": "https://node.coast.example:7979"}
USERS = {"users__gate": "65531", "users__core": "65532", "users__trainer": "65533"}

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can change users")
with_landlock = pytest.mark.skipif(not landlock.version(), reason="this kernel has no Landlock")


@pytest.fixture
def place():
    """A folder that every user can pass through."""
    made = Path(tempfile.mkdtemp(prefix="fedmeta-apart-"))
    made.chmod(0o711)
    yield made
    shutil.rmtree(made)


@pytest.fixture
def node(place):
    return folder.make(place / "coast", VALUES)


def data(place, mode=0o600):
    file = place / "visits.csv"
    file.write_text("age,ill\n")
    file.chmod(mode)
    return file


def rows(config):
    return {row.name: row for row in apart.check_walls(config)}


@as_root
def test_with_users_each_process_has_its_own_folder_and_no_other(place, node):
    file = data(place)
    os.chown(file, 65533, 65533)
    config = configured(node.path, **SUPER, **USERS, data__paths=[str(file)])
    apart.arrange(config)
    assert stat.S_IMODE(node.path.stat().st_mode) == 0o711
    owners = {path.name: path.stat().st_uid for path in (node.gate, node.core, node.trainer, node.keys, node.config)}
    assert owners == {"gate": 65531, "core": 65532, "trainer": 65533, "keys": 65532, "node.toml": 65532}
    key = node.keys / "machine.pem"
    every = [file, key, node.gate, node.core, node.trainer, node.config]
    opened = {}
    for wall in (apart.gate_wall(config), apart.core_wall(config), apart.trainer_wall(config)):
        for confined in (False, bool(landlock.version())):
            tried = apart.try_wall(
                Wall(wall.name, wall.user, wall.network, wall.readable, wall.writable, confined), every
            )
            assert isinstance(tried, dict), tried
            opened[wall.name, confined] = {Path(path) for path in tried["opened"]}
    for confined in (False, bool(landlock.version())):
        assert opened["gate", confined] == {node.gate}
        assert opened["core", confined] == {key, node.core, node.config}
        assert opened["trainer", confined] == {file, node.trainer}


@as_root
def test_data_in_the_nodes_folder_are_the_trainers(node):
    (node.path / "visits").mkdir()
    data(node.path / "visits")
    apart.arrange(configured(node.path, users__core="65532", users__trainer="65533", data__paths=["visits"]))
    assert {path.stat().st_uid for path in (node.path / "visits", node.path / "visits" / "visits.csv")} == {65533}


def test_without_users_nothing_is_given_away(node):
    before = {path: path.stat() for path in node.path.rglob("*")}
    apart.arrange(configured(node.path))
    assert {path: path.stat() for path in before} == before
    assert stat.S_IMODE(node.path.stat().st_mode) == 0o700


@as_root
def test_a_user_that_there_is_not_is_named(node):
    config = configured(node.path, users__core="no-such-user", users__trainer="65533")
    with pytest.raises(WallError, match="there is no user 'no-such-user'"):
        apart.arrange(config)
    nobody = configured(node.path, users__core="65532", users__trainer="no-such-user")
    row = rows(nobody)["walls: trainer"]
    assert (row.state, "there is no user 'no-such-user'" in row.found) == ("fails", True)


@as_root
def test_walls_that_stand_are_said_to(place, node):
    file = data(place)
    os.chown(file, 65533, 65533)
    found = rows(configured(node.path, **SUPER, **USERS, data__paths=[str(file)]))
    assert found["walls: gate"].state == found["walls: trainer"].state == "ok"
    assert "neither data nor keys" in found["walls: gate"].found
    assert "no network" in found["walls: trainer"].found


@as_root
def test_data_that_the_trainer_cannot_read_fail(place, node):
    found = rows(configured(node.path, **SUPER, **USERS, data__paths=[str(data(place))]))
    row = found["walls: trainer"]
    assert row.state == "fails"
    assert f"cannot open {place / 'visits.csv'}" in row.found


@as_root
def test_data_that_the_gate_can_open_fail(place, node, monkeypatch):
    monkeypatch.setattr(landlock, "version", lambda: 0)
    file = data(place, 0o644)
    config = configured(node.path, **SUPER, **USERS, data__paths=[str(file)])
    wall = apart.gate_wall(config)
    open_ = Wall(wall.name, wall.user, writable=wall.writable, confined=False)
    row = next(apart._tried(config, open_, [file]))
    assert row.state == "fails"
    assert f"can open {file}" in row.found


def test_without_users_and_landlock_what_leaks_is_a_warning(place, node):
    config = configured(node.path, **SUPER)
    row = next(apart._tried(config, Wall("gate", confined=False), apart.keys_of(config)))
    assert row.state == "warning"
    assert str(node.keys / "machine.pem") in row.found
    assert "Landlock" in row.advice


@with_landlock
def test_without_users_landlock_sets_the_processes_apart(place, node):
    file = data(place)
    found = rows(configured(node.path, **SUPER, data__paths=[str(file)]))
    assert found["walls: gate"].state == found["walls: trainer"].state == "ok"


def test_only_root_can_keep_users_apart(node, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    row = rows(configured(node.path, users__core="a", users__trainer="b"))["walls: users"]
    assert (row.state, "only root" in row.found) == ("fails", True)


def test_a_process_that_does_not_start_in_time_is_ended(monkeypatch):
    monkeypatch.setattr(apart, "_PATIENCE", 0)
    assert apart.try_wall(Wall("gate"), []) == "gate: it did not start within 0 s"


@as_root
def test_a_python_that_a_user_cannot_read_is_told(place, node, monkeypatch):
    hidden = place / "hidden.py"
    hidden.touch(mode=0o600)
    monkeypatch.setattr(os, "__file__", str(hidden))
    found = rows(configured(node.path, **SUPER, **USERS))
    for name in ("gate", "trainer"):
        assert (found[f"Python for the {name}"].state, found[f"walls: {name}"].state) == ("warning", "ok")


def test_a_contributor_has_no_gate(node):
    assert "walls: gate" not in rows(configured(node.path))


@with_landlock
def test_the_core_can_change_nothing_that_a_person_has_said(node):
    said = [node.config, node.policy, node.approvals, node.procedures / "new.json", node.keys / "machine.pem"]
    own = [node.core / "journal", node.outbox]
    node.approvals.touch()
    node.outbox.touch()
    wall = apart.core_wall(configured(node.path))
    program = (
        "import os, sys; from fedmeta.node.process import walls\n"
        f"walls.enter(walls.Wall('core', readable={wall.readable!r}, writable={wall.writable!r}))\n"
        "for path in sys.argv[1:]:\n"
        "    try: os.close(os.open(path, os.O_WRONLY | os.O_CREAT)); print(path)\n"
        "    except PermissionError: pass"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, (*said, *own))],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.split() == list(map(str, own))
