"""A node's folder is made whole or not at all, for its owner only, and never over another."""

import os
import stat

import pytest

from fedmeta.govern.client import keyfile
from fedmeta.node.errors import ConfigError
from fedmeta.node.member import config, folder, policy, unit
from fedmeta.node.member.approvals import Approvals
from tests.node.member.made import GENESIS

VALUES = {"member": "coast", "ledger.addresses": ("http://10.0.0.2:7878",), "ledger.genesis": bytes.fromhex(GENESIS)}


def modes(path):
    return {str(one.relative_to(path)): stat.S_IMODE(one.stat().st_mode) for one in path.rglob("*")}


def test_all_that_a_node_needs_is_made_and_its_owners_only(tmp_path):
    made = folder.make(tmp_path / "coast", VALUES)
    assert config.read(made.path).member == "coast"
    assert policy.read(made.path) == policy.Policy()
    assert stat.S_IMODE(made.path.stat().st_mode) == 0o700
    found = modes(made.path)
    public = {made.unit.name}
    assert {name: mode for name, mode in found.items() if mode & 0o077 and name not in public} == {}
    assert {"keys/machine.pem", "keys/secret", "keys/tls.pem", "gate", "core", "trainer", "procedures"} <= found.keys()
    assert len((made.keys / "secret").read_bytes()) == folder.SECRET
    machine, tls = folder.public_keys(made)
    assert machine == keyfile.load(made.keys / "machine.pem").public
    assert len(tls) == 32


def test_two_nodes_share_no_key(tmp_path):
    one, two = (folder.make(tmp_path / name, VALUES) for name in ("one", "two"))
    for name in ("machine.pem", "secret", "tls.pem"):
        assert (one.keys / name).read_bytes() != (two.keys / name).read_bytes()


def test_an_empty_folder_is_taken_and_any_other_left_as_it_is(tmp_path):
    (tmp_path / "empty").mkdir()
    folder.make(tmp_path / "empty", VALUES)
    before = {path: path.read_bytes() for path in (tmp_path / "empty").rglob("*") if path.is_file()}
    with pytest.raises(ConfigError, match=r"empty exists: a node is made in a new folder"):
        folder.make(tmp_path / "empty", VALUES)
    assert {path: path.read_bytes() for path in (tmp_path / "empty").rglob("*") if path.is_file()} == before
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("file", "link"):
        with pytest.raises(ConfigError, match="exists"):
            folder.make(tmp_path / name, VALUES)


def test_there_must_be_a_folder_to_make_it_in(tmp_path):
    with pytest.raises(ConfigError, match=r"there is no folder .*absent to make coast in"):
        folder.make(tmp_path / "absent" / "coast", VALUES)


FAILURES = {
    "a wrong value": lambda _: {**VALUES, "member": "No Name!"},
    "no certificate": lambda patch: patch.setattr(folder, "make_certificate", _fail) or VALUES,
    "a full disk": lambda patch: patch.setattr(os, "rename", _full) or VALUES,
}


def _fail(*_):
    raise KeyboardInterrupt


def _full(*_):
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("case", FAILURES)
def test_nothing_is_left_where_it_cannot_be_made(tmp_path, monkeypatch, case):
    values = FAILURES[case](monkeypatch)
    with pytest.raises((ConfigError, KeyboardInterrupt)):
        folder.make(tmp_path / "coast", values)
    assert list(tmp_path.iterdir()) == []


def test_a_procedure_is_kept_once_under_its_digest(tmp_path):
    made = folder.make(tmp_path / "coast", VALUES)
    file = folder.keep_procedure(made, bytes(32), b"one")
    assert folder.keep_procedure(made, bytes(32), b"other") == file
    assert (file.name, file.read_bytes()) == (f"{'00' * 32}.json", b"one")
    made.procedures.joinpath(file.name).unlink()
    made.procedures.rmdir()
    made.procedures.write_text("in the way")
    with pytest.raises(ConfigError, match="cannot write"):
        folder.keep_procedure(made, bytes(32), b"one")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_what_root_adds_belongs_to_the_owner_of_the_folder(tmp_path):
    made = folder.make(tmp_path / "coast", VALUES)
    for path in (made.path, made.procedures):
        os.chown(path, 65534, 65534)
    Approvals(made.approvals).approve(bytes(32), "x", None)
    kept = folder.keep_procedure(made, bytes(32), b"one")
    assert {path.stat().st_uid for path in (made.approvals, kept)} == {65534}


def test_the_unit_starts_this_node_and_takes_away_what_it_does_not_need(tmp_path):
    made = folder.make(tmp_path / "coast", VALUES)
    text = made.unit.read_text()
    assert f" node start --folder {made.path}\n" in text
    assert f"\nReadWritePaths={made.path}\n" in text
    for line in ("ProtectSystem=strict", "PrivateTmp=true", "NoNewPrivileges=true", "LimitNOFILE=16384", "LimitCORE=0"):
        assert f"\n{line}\n" in text


def test_a_folder_in_a_home_stays_reachable_and_odd_paths_are_quoted(tmp_path):
    assert "ProtectHome" not in unit.text(tmp_path.__class__("/home/a/node"), "/bin/fedmeta")
    assert "ProtectHome=read-only" in unit.text(tmp_path.__class__("/srv/node"), "/bin/fedmeta")
    assert '--folder "/srv/a 100%%"\n' in unit.text(tmp_path.__class__("/srv/a 100%"), "/bin/fedmeta")
