"""What a node cannot work with: it says what is wrong, ends with a code or takes no duty, and leaves nothing behind."""

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

import fedmeta as fm
from fedmeta.node.disk.store import BlobStore
from fedmeta.node.errors import FolderInUse
from fedmeta.node.member import folder as folders
from fedmeta.node.member.approvals import Approvals
from fedmeta.node.process import own
from fedmeta.node.reducer.view import Peer
from tests.cli.serving import run
from tests.examples import in_soak
from tests.node.member.made import GENESIS, procedure, table
from tests.node.process import federations
from tests.node.process.federations import federation


@pytest.fixture
def node(tmp_path):
    values = {"member": "coast", "ledger.addresses": ("http://127.0.0.1:1",), "ledger.genesis": bytes.fromhex(GENESIS)}
    return folders.make(tmp_path / "coast", values)


def there(node):
    """Return what lies in a node's folder; its lock is nobody's state."""
    return {
        str(file.relative_to(node.path)): file.read_bytes() if file.is_file() else None
        for file in node.path.rglob("*")
        if file.name != "node.lock"
    }


def refused(node, code=1):
    """Check that the node does not start and that nothing of it has changed, and return the one line that says why."""
    before = there(node)
    done = run("node", "start", "--folder", node.path)
    assert (done.code, done.out) == (code, "")
    assert there(node) == before
    (line,) = done.err.splitlines()
    assert line.startswith("fedmeta: ")
    return line


@pytest.mark.parametrize("name", ["machine.pem", "secret", "tls.pem"])
def test_without_a_key_no_node_starts(node, name):
    (node.keys / name).unlink()
    assert f"there is no {node.keys / name}" in refused(node)


@pytest.mark.parametrize("name", ["machine.pem", "secret", "tls.pem"])
def test_with_a_key_that_others_can_read_no_node_starts(node, name):
    (node.keys / name).chmod(0o644)
    line = refused(node)
    assert f"others can use {node.keys / name} (mode 0644)" in line
    assert f"chmod 600 {node.keys / name}" in line


def test_with_something_else_in_place_of_a_key_no_node_starts(node):
    (node.keys / "machine.pem").write_text("no key")
    (node.keys / "secret").write_bytes(b"short")
    line = refused(node)
    assert "is no Ed25519 key in PEM" in line
    assert "has 5 bytes: it must have 32" in line


def test_in_a_folder_that_others_can_use_no_node_starts(node):
    node.path.chmod(0o755)
    assert f"chmod 700 {node.path}" in refused(node)


def test_a_node_that_runs_is_not_started_again(node):
    with open(node.path / "node.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert f"a node runs in {node.path} already" in refused(node)


def test_blobs_that_another_process_uses_are_not_opened(node):
    """The core says so, and a person must look: whoever uses them must be found."""
    with BlobStore(node.core / "blobs", 10**6), pytest.raises(FolderInUse):
        BlobStore(node.core / "blobs", 10**6)


def peer(**changed):
    usual = {"name": "coast", "organisation": "practice", "key": b"k" * 32, "address": "", "fingerprints": (b"t" * 32,)}
    return Peer(**{**usual, **changed})


def test_who_is_as_the_ledger_says_is_told_nothing():
    assert own.strange("coast", peer(), b"k" * 32, b"t" * 32, True) == []
    both = peer(fingerprints=(b"u" * 32, b"t" * 32))
    assert own.strange("coast", both, b"k" * 32, b"t" * 32, True) == []


def test_a_contributor_needs_no_certificate_on_the_ledger_but_no_other_one_must_be_there():
    assert own.strange("coast", peer(fingerprints=()), b"k" * 32, b"t" * 32, False) == []
    assert len(own.strange("coast", peer(fingerprints=(b"u" * 32,)), b"k" * 32, b"t" * 32, False)) == 1


def test_who_is_not_is_told_what_is_otherwise():
    (line,) = own.strange("coast", None, b"k" * 32, b"t" * 32, True)
    assert "coast is no member of the ledger" in line
    (line,) = own.strange("coast", peer(key=b"o" * 32), b"k" * 32, b"t" * 32, True)
    assert "the machine key here is 6b6b6b6b6b6b, and the ledger has 6f6f6f6f6f6f" in line
    (line,) = own.strange("coast", peer(fingerprints=()), b"k" * 32, b"t" * 32, True)
    assert "the TLS key here is 747474747474, and the ledger has none" in line


# A node that starts, takes no duty, and says why.


@contextlib.contextmanager
def started(node):
    """Start a node as its command does; it ends with 0 when it is told to."""
    path = f"{Path(fm.__file__).parents[1]}:{federations.ROOT}"
    with open(node.path / "log", "w+") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "fedmeta", "node", "start", "--folder", str(node.path)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": path},
        )
        try:
            yield process
            process.terminate()
            assert process.wait(60) == 0
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def says(node, *texts, seconds=90):
    """Wait until a node has said something of each of these texts to its people."""
    end = time.monotonic() + seconds
    while True:
        said = run("node", "status", "--folder", node.path, "--json")
        found = [one["text"] for one in said.json["said"]] if said.out else []
        if all(any(text in one for one in found) for text in texts):
            assert said.code == 1, "such a node is not ready"
            assert said.json["duties"] == {}
            return found
        assert time.monotonic() < end, (found, (node.path / "log").read_text())
        time.sleep(0.3)


@pytest.fixture
def place():
    folder = Path(tempfile.mkdtemp(prefix="fm", dir="/tmp"))
    yield folder
    shutil.rmtree(folder)


def made(place, header="age,smoker,ill", approve=True, policy=""):
    """Return a node with a table of data, that has approved a procedure."""
    table(place / "visits.csv", header=header)
    values = {
        "member": "coast",
        "ledger.addresses": ("http://127.0.0.1:1",),
        "ledger.genesis": bytes.fromhex(GENESIS),
        "data.paths": (str(place / "visits.csv"),),
    }
    node = folders.make(place / "n", values)
    fits = procedure(place)
    if approve:
        folders.keep_procedure(node, bytes.fromhex(fits.digest), fits.to_bytes())
        Approvals(node.approvals).approve(bytes.fromhex(fits.digest), "a test", None)
    if policy:
        node.policy.write_text(policy)
    return node


@in_soak
def test_without_a_ledger_and_an_approval_a_node_says_both(place):
    node = made(place, approve=False)
    with started(node):
        found = says(node, "no procedure is approved", "the ledger is not reached")
    assert len(found) == 2, "each is said once"


@in_soak
def test_data_with_other_columns_are_no_data_for_a_procedure(place):
    node = made(place, header="years,smoker,ill")
    with started(node):
        found = says(node, "cannot be worked on with the data here")
    assert any("age" in one for one in found)
    assert (node.path / "log").read_text().count("cannot be worked on") == 1, "it is said once"


@in_soak
def test_what_the_policy_refuses_by_now_is_not_worked_on(place):
    node = made(place, policy="most_steps = 1\n")
    with started(node):
        says(node, "the policy refuses procedure")


@in_soak
def test_who_is_not_fit_is_told_why_and_holds_nobody_up():
    """`d` shows a foreign certificate, `e` has no room for the model, `f` has data of another kind."""
    large = federations.procedure(model="mlp", model_options={"hidden": 2000})

    def unfit(found):
        config = found.hosts["e"].folder / "node.toml"
        config.write_text(config.read_text().replace('# quota = "20 GB"', 'quota = "1 MB"'))
        table(found.folder / "visits.csv")
        config = found.hosts["f"].folder / "node.toml"
        config.write_text(config.read_text().replace('["digits"]', f'["{found.folder}/visits.csv"]'))

    with federation(seats=4, others=2, kinds={"b": "recording"}, procedure=large) as found:
        found.begin(unfit)
        found.kill("d")
        tls = folders.Folder(found.hosts["d"].folder).tls
        tls.unlink()
        folders.make_certificate(folders.Folder(found.hosts["d"].folder), "d")
        found.start("d")
        found.more_finals(2, 300)
        assert "the TLS key here is" in found.told("d")
        assert "quota" in found.told("e")
        assert "cannot be worked on with the data here" in found.told("f")
        assert not {"e", "f"} & {name for one in found.done for name in one.round.members}
        found.check()
