"""`fedmeta node pull`, `approve DIGEST`, `leave` and `recover`, with a ledger that is served."""

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from fedmeta.govern.client import keyfile
from fedmeta.govern.client.client import Client
from fedmeta.govern.errors import NodeError, Unacknowledged
from fedmeta.govern.wire import transactions as tx
from fedmeta.govern.wire.signatures import digest
from fedmeta.node.disk.journal import Journal
from fedmeta.node.disk.peek import peek
from fedmeta.node.disk.store import BlobStore
from fedmeta.node.errors import ConfigError, DiskError, MemberError
from fedmeta.node.member import config as configs
from fedmeta.node.member import folder as folders
from fedmeta.node.member.approvals import Approvals
from fedmeta.node.member.folder import Folder, public_keys
from fedmeta.node.member.outbox import Outbox
from fedmeta.node.process import following as commands_following
from fedmeta.node.process import leaving, recovering, supervisor
from fedmeta.node.process.core import JOURNAL_BYTES, open_journal
from fedmeta.node.process.following import catch_up
from fedmeta.node.process.moves import model_name
from fedmeta.node.process.recovering import SILENCE
from fedmeta.node.reducer.promises import SealPromise, Silence, Started, decode, encode
from fedmeta.node.transport.gate import procedure_name
from fedmeta.node.transport.standing import WINDOW
from fedmeta.node.wire.chunks import CHUNK, Blob
from fedmeta.runs.saved import load_run
from tests.cli.serving import run
from tests.examples import in_soak
from tests.node.process.played import MEMBERS, examples, following, gate_of, ledger, play

PASSING = ("ledger.state", "node.lock")

NOW = datetime(2027, 3, 1, 10, tzinfo=UTC)


@pytest.fixture(scope="module")
def federation():
    # The sockets of a node need short paths.
    place = Path(tempfile.mkdtemp(prefix="fm-"))
    try:
        with ledger(place / "d") as found:
            yield found
    finally:
        shutil.rmtree(place, ignore_errors=True)


@pytest.fixture(scope="module")
def early(federation, tmp_path_factory):
    """What comes of a pull before any round is final."""
    out = tmp_path_factory.mktemp("early") / "run"
    return pull(federation, "coast", out), out


@pytest.fixture(scope="module")
def final(federation, early):
    """The model of the first final round, which nobody has yet."""
    after = following(federation.state, 1)
    play(federation, after)
    return after


def pull(federation, name, out, *more):
    return run("node", "pull", "--folder", federation.hosts[name].folder, "--out", out, *more)


def folder_of(federation, name):
    return Folder(federation.hosts[name].folder)


def account_of(federation, name):
    return federation.folder / "ledger" / "keys" / f"{name}.pem"


def contents(folder):
    """Return the digest of each file, but of those that come with any look at the ledger, and with any lock."""
    files = [
        one for one in sorted(folder.rglob("*")) if one.is_file() and one.name not in ("ledger.state", "node.lock")
    ]
    return {str(one.relative_to(folder)): digest(one.read_bytes()).hex() for one in files}


def own_model(federation, name, state):
    """Keep a model in a node's own store."""
    with BlobStore(folder_of(federation, name).core / "blobs", 10**8) as store:
        store.write(model_name(Blob.of(state).id), state)


# Pull.


def test_where_no_round_is_final_pull_says_so_by_a_code_of_its_own(early):
    done, out = early
    assert done.code == 4
    assert "is final yet: round 1 is in phase commit" in done.err
    assert not out.exists()


def test_where_nobody_has_the_model_pull_says_why_of_each(federation, final, tmp_path):
    done = pull(federation, "coast", tmp_path / "run")
    assert done.code == 1
    assert f"model {Blob.of(final).id.hex()} is at no gate that can be reached" in done.err
    assert all(f"{name}: " in done.err for name in MEMBERS if name != "coast")
    assert not (tmp_path / "run").exists()


def test_a_recipe_that_the_ledger_does_not_have_is_said(federation, final, tmp_path):
    done = pull(federation, "coast", tmp_path / "run", "--recipe", "ab" * 32)
    assert done.code == 1
    assert f"the ledger has no recipe {'ab' * 32}: it has {federation.recipe.hex()}" in done.err
    assert pull(federation, "coast", tmp_path / "run", "--recipe", "abc").code == 2


def test_a_model_of_ones_own_disk_is_adapted_and_predicts(federation, final, tmp_path):
    own_model(federation, "south", final)
    done = pull(federation, "south", tmp_path / "run", "--json")
    assert done.code == 0, done.err
    assert (done.json["source"], done.json["rounds"]) == ("this node", 1)
    saved = load_run(tmp_path / "run")
    assert saved.rounds == 1
    assert "pulled from a federation" in str(saved)
    file, count = examples(tmp_path / "mine.npz")
    adapted = run("adapt", tmp_path / "run", "--examples", file, "--out", tmp_path / "mine.safetensors", "--json")
    assert adapted.code == 0, adapted.err
    assert adapted.json["examples"] == count
    for model in ("run", "mine.safetensors"):
        predicted = run("predict", tmp_path / model, "--examples", file)
        assert predicted.code == 0, predicted.err
        assert len(predicted.out.splitlines()) == count + 1


def test_what_needs_the_training_data_says_that_members_keep_them(federation, final, tmp_path):
    own_model(federation, "south", final)
    assert pull(federation, "south", tmp_path / "run").code == 0
    done = run("evaluate", tmp_path / "run")
    assert done.code == 2
    assert "pulled from a federation, whose members keep their data" in done.err


@in_soak
def test_beside_a_running_node_its_store_is_read_and_a_folder_can_be_pulled_again(federation, final, tmp_path):
    own_model(federation, "south", final)
    with (
        BlobStore(folder_of(federation, "south").core / "blobs", 10**8),
        supervisor.locked(federation.hosts["south"].folder),
    ):
        for _ in range(2):
            done = pull(federation, "south", tmp_path / "run")
            assert done.code == 0, done.err
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()
    done = pull(federation, "south", tmp_path / "other")
    assert done.code == 1
    assert "not a run" in done.err


def test_a_model_and_a_procedure_come_from_a_gate_and_what_left_is_in_the_outbox(federation, final, tmp_path):
    folder, content = folder_of(federation, "coast"), federation.procedure.to_bytes()
    folder.procedure(federation.recipe).unlink()
    blobs = {model_name(Blob.of(final).id): final, procedure_name(federation.recipe.hex()): content}
    with gate_of(federation, "east", blobs):
        done = pull(federation, "coast", tmp_path / "run", "--json")
        assert done.code == 0, done.err
        assert done.json["source"] == "east"
        words = ("node", "approve", federation.recipe.hex(), "--note", "again", "--yes", "--folder", str(folder.path))
        approved = subprocess.run(
            [sys.executable, "-m", "fedmeta", *words], capture_output=True, text=True, check=False
        )
        assert approved.returncode == 0, approved.stderr
    assert folder.procedure(federation.recipe).read_bytes() == content
    asked = {(one.to, one.detail.split()[0]) for one in Outbox(folder.outbox).read() if one.what == "request"}
    assert {("east", "model"), ("east", "procedure")} <= asked


def test_a_gate_that_gives_another_model_is_not_believed(federation, final, tmp_path):
    with gate_of(federation, "west", {model_name(Blob.of(final).id): following(final, 9)}):
        done = pull(federation, "coast", tmp_path / "run")
    assert done.code == 1
    assert "west: " in done.err
    assert "another blob" in done.err


@in_soak
def test_without_one_approved_recipe_it_must_be_named(federation, final, tmp_path):
    folder = folder_of(federation, "west")
    Approvals(folder.approvals).revoke(federation.recipe, "over")
    own_model(federation, "west", final)
    done = pull(federation, "west", tmp_path / "run")
    assert done.code == 2
    assert "no recipe of the ledger is approved" in done.err
    assert pull(federation, "west", tmp_path / "run", "--recipe", federation.recipe.hex()).code == 0


def test_no_ledger_is_one_clear_line(federation, tmp_path):
    shutil.copytree(federation.hosts["coast"].folder, tmp_path / "coast")
    toml = tmp_path / "coast" / "node.toml"
    toml.write_text(toml.read_text().replace(federation.address, "http://127.0.0.1:1"))
    done = run("node", "pull", "--folder", tmp_path / "coast", "--out", tmp_path / "run")
    assert done.code == 1
    assert "no address of the ledger can be used" in done.err


def test_a_store_is_read_without_its_lock_and_whole_or_not_at_all(tmp_path):
    content = bytes(range(256)) * 5_000
    with BlobStore(tmp_path / "store", 10**8) as store:
        store.write("model/a", content)
        store.begin("model/b", Blob.of(content), store.leaves("model/a"))
        store.put("model/b", 0, content[:CHUNK])
        assert peek(tmp_path / "store", "model/a") == content
        assert peek(tmp_path / "store", "model/b") is None
        assert peek(tmp_path / "store", "model/c") is None
        (file,) = (tmp_path / "store").glob("model+a~data")
        with file.open("r+b") as opened:
            opened.write(b"\xff")
        assert peek(tmp_path / "store", "model/a") is None


# Recover.


@pytest.fixture
def ready(federation):
    """The node of a seat, with a journal that says something."""
    folder = folder_of(federation, "north")
    for old in folder.core.glob("journal*"):
        old.unlink()
    with Journal.create(folder.core / "journal", JOURNAL_BYTES) as journal:
        journal.append(encode(Started(1)))
        journal.append(encode(SealPromise(1, bytes(32))))
    return folder


def member(federation, name):
    with federation.client() as client:
        return client.query("member", name=name)


def recover(federation, name="north"):
    return recovering.recover(
        configs.read(federation.hosts[name].folder), keyfile.load(account_of(federation, name)), NOW
    )


def test_recover_fences_the_old_key_and_begins_a_new_journal_in_silence(federation, ready):
    before, old = contents(ready.path), public_keys(ready)
    done = recover(federation)
    said = member(federation, "north")
    assert said["machine"]["public"] == done.machine.hex() != old[0].hex()
    assert said["tls"] == done.tls.hex() != old[1].hex()
    assert said["address"] == f"https://127.0.0.1:{federation.hosts['north'].port}"
    assert public_keys(ready) == (done.machine, done.tls)
    journal, entries = Journal.open(ready.core / "journal")
    journal.close()
    assert [decode(one) for one in entries] == [Silence(done.until)]
    # The new key signs from the block after that in which it was set.
    assert done.until == said["machine"]["since"] - 1 + SILENCE
    after = contents(ready.path)
    for name in ("journal", "machine", "tls"):
        (aside,) = [one for one in done.aside if one.name.startswith(name)]
        assert "20270301T100000Z" in aside.name
        (place,) = [one for one in before if Path(one).stem == name]
        assert after[str(aside.relative_to(ready.path))] == before[place]
    for name in ("approvals.jsonl", "policy.toml", "node.toml", "keys/secret"):
        assert after[name] == before[name]
    assert not ready.recovery.exists()


def test_a_second_recovery_on_the_same_day_overwrites_nothing(federation, ready):
    aside = {*recover(federation).aside, *recover(federation).aside}
    assert len(aside) == 6
    assert all(one.exists() for one in aside)


def test_after_the_silence_no_gate_hears_both_machines():
    # At any height of a gate: requests of the old machine carry at most `changed`, the new one's `changed + SILENCE`.
    changed = 1_000
    for gate in range(changed - 2 * WINDOW, changed + 3 * WINDOW):
        takes_new = abs(gate - (changed + SILENCE)) <= WINDOW
        takes_old = gate < changed
        assert not (takes_new and takes_old)


def test_recover_refuses_without_the_accounts_key_and_leaves_everything(federation, ready):
    before = contents(ready.path)
    usual = ("node", "recover", "--folder", ready.path)
    none = run(*usual)
    assert none.code == 2
    assert "give its key's file with --account" in none.err
    other = run(*usual, "--account", account_of(federation, "east"))
    assert other.code == 1
    assert "is not that of north's account" in other.err
    machine = run(*usual, "--account", ready.keys / "machine.pem")
    assert machine.code == 1
    absent = run(*usual, "--account", ready.keys / "absent.pem")
    assert absent.code == 1
    assert contents(ready.path) == before


def test_recover_refuses_while_the_node_runs(federation, ready):
    with supervisor.locked(ready.path):
        done = run("node", "recover", "--folder", ready.path, "--account", account_of(federation, "north"))
    assert done.code == 1
    assert "a node runs in" in done.err
    with Journal.open(ready.core / "journal")[0]:
        done = run("node", "recover", "--folder", ready.path, "--account", account_of(federation, "north"))
    assert done.code == 1
    assert "in use by another process" in done.err


def test_where_nothing_was_sent_nothing_has_changed(federation, ready, monkeypatch):
    before = contents(ready.path)

    def fails(*_):
        raise NodeError("the ledger takes nothing now")

    monkeypatch.setattr(recovering, "send", fails)
    with pytest.raises(NodeError):
        recover(federation)
    assert contents(ready.path) == before
    assert not ready.recovery.exists()


def lost(*_):
    raise Unacknowledged("no answer", bytes(32), b"")


def torn(monkeypatch):
    """Let the third change of names fail: the journal is in its place then, and the keys are not."""
    rename, times = os.rename, []

    def fails(source, target):
        times.append(target)
        if len(times) == 3:
            raise OSError(5, "no more", str(target))
        rename(source, target)

    monkeypatch.setattr(os, "rename", fails)


@pytest.mark.parametrize("how", ["unknown fate", "torn"])
def test_a_recovery_that_has_not_ended_keeps_the_node_from_starting_and_is_done_again(
    federation, ready, monkeypatch, how
):
    with monkeypatch.context() as patched:
        if how == "torn":
            torn(patched)
        else:
            patched.setattr(recovering, "send", lost)
        with pytest.raises(DiskError if how == "torn" else Unacknowledged):
            recover(federation)
    config = configs.read(ready.path)
    with pytest.raises(ConfigError, match=r"a recovery was begun in .* and has not ended"):
        supervisor.run(config, {}, print)
    done = recover(federation)
    assert member(federation, "north")["machine"]["public"] == done.machine.hex()
    assert public_keys(ready)[0] == done.machine
    assert not ready.recovery.exists()


# Leave.


def followed(federation, name):
    config = configs.read(federation.hosts[name].folder)
    with federation.client() as client:
        return config, catch_up(config, client)


@in_soak
def test_leave_ends_the_registration_and_what_the_node_would_do_by_itself(federation, final):
    folder = folder_of(federation, "coast")
    done = run("node", "leave", "--folder", folder.path, "--account", account_of(federation, "coast"), "--json")
    assert done.code == 0, done.err
    assert f"left recipe {federation.recipe.hex()}" in done.json["done"]
    with federation.client() as client:
        found = client.query("registrations", recipe=federation.recipe)
    assert {one["member"] for one in found if one["active"]} == {"north", "east", "south", "west"}
    approval = Approvals(folder.approvals).latest()[federation.recipe]
    assert approval.holds(date.today())
    assert not approval.contributes
    again = run("node", "leave", "--folder", folder.path, "--account", account_of(federation, "coast"))
    assert again.code == 0
    assert "nothing to leave" in again.out
    Approvals(folder.approvals).approve(federation.recipe, "back", None)
    assert Approvals(folder.approvals).latest()[federation.recipe].contributes


@in_soak
def test_a_seat_must_go_on_until_its_term_is_over_also_where_it_stands_for_election_no_more(federation, final):
    config, follower = followed(federation, "east")
    found = leaving.standing(follower.state, "east")
    assert any("it holds a seat of term 1, which ends at height" in one for one in found.duties)
    assert any("stands for election" in one for one in found.stakes)
    assert any("50,100 units are staked on east" in one for one in found.stakes)
    assert any("are owed to it" in one for one in found.stakes)
    done = run("node", "leave", "--folder", config.folder, "--account", account_of(federation, "east"), "--candidate")
    assert done.code == 0, done.err
    assert "stands for election no more" in done.out
    assert "must not be shut down yet" in done.out
    after = leaving.standing(followed(federation, "east")[1].state, "east")
    assert not any("stands for election" in one for one in after.stakes)
    assert after.duties


@in_soak
def test_who_has_no_seat_and_no_update_in_a_live_round_may_shut_down_and_wait_returns(federation, final):
    config, follower = followed(federation, "coast")
    said = []
    assert leaving.wait(config, follower, said.append).duties == ()
    assert len(said) == 1


@in_soak
def test_leave_with_a_wrong_key_changes_nothing(federation):
    folder = folder_of(federation, "south")
    before = contents(folder.path)
    done = run("node", "leave", "--folder", folder.path, "--account", account_of(federation, "north"))
    assert done.code == 1
    assert "is not that of south's account" in done.err
    assert contents(folder.path) == before
    assert run("node", "leave", "--folder", folder.path).code == 2


def test_no_member_of_the_ledger_is_said(federation):
    config = configs.read(federation.hosts["south"].folder)
    key = keyfile.load(account_of(federation, "south"))
    with pytest.raises(MemberError, match="nobody is no member of the ledger"):
        leaving.leave(replace(config, member="nobody"), key, "left")


# A newcomer, whose node has never run.


@in_soak
def test_who_has_no_tls_key_on_the_ledger_is_given_both_too(federation, final, tmp_path):
    """As a newcomer that listens nowhere and has told the ledger its machine's key alone."""
    folder, content = folder_of(federation, "coast"), federation.procedure.to_bytes()
    folder.procedure(federation.recipe).unlink()
    blobs = {model_name(Blob.of(final).id): final, procedure_name(federation.recipe.hex()): content}
    with Client(federation.address, keyfile.load(account_of(federation, "coast")), "coast") as client:
        client.send(tx.SetProfile("", "", b""))
        try:
            with gate_of(federation, "east", blobs):
                done = pull(federation, "coast", tmp_path / "run", "--json")
        finally:
            client.send(tx.SetProfile("", "", public_keys(folder)[1]))
            folders.keep_procedure(folder, federation.recipe, content)
    assert done.code == 0, done.err
    assert done.json["source"] == "east"


@in_soak
def test_who_pulls_before_its_node_has_ever_run_can_start_it_afterwards(federation, final, tmp_path, monkeypatch):
    """What a pull keeps of a long ledger must not look like what is left where a journal was lost."""
    monkeypatch.setattr(commands_following, "SAVED", 1)
    own = Folder(shutil.copytree(federation.hosts["coast"].folder, tmp_path / "coast"))
    for name in ("journal", "ledger.state"):
        (own.core / name).unlink(missing_ok=True)
    with BlobStore(own.core / "blobs", 10**8) as store:
        store.write(model_name(Blob.of(final).id), final)
    done = run("node", "pull", "--folder", own.path, "--out", tmp_path / "run")
    assert done.code == 0, done.err
    assert (own.core / commands_following.FOLLOWED).exists()
    journal, entries = open_journal(own.core)
    journal.close()
    assert not entries
