"""The ledger on the command line, wrongly used: one clear line each, and nothing changed."""

import contextlib
import os
import sqlite3
import threading

import pytest

from fedmeta.govern.client import keyfile
from fedmeta.govern.wire.signatures import Key
from tests.cli.serving import SHORT, end, federation, gathered, make, run, served, start

NOWHERE = ("--node", "http://127.0.0.1:1")


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(done, code, *says):
    """Check that a command said what is wrong in one line, and nothing else."""
    assert done.code == code, done.err
    assert done.out == ""
    assert done.err.startswith("fedmeta: ")
    assert done.err.count("\n") == 1
    assert [part for part in map(str, says) if part not in done.err] == []


@pytest.fixture(scope="module")
def party(tmp_path_factory):
    """A federation whose first round waits for the leader; nothing that is tested here changes it."""
    with gathered(tmp_path_factory.mktemp("party")) as found:
        yield found


GENESES = {
    "no TOML": ("chain_id = ", ("not a TOML file",), 1),
    "no UTF-8": ("\udcff", ("not a TOML file",), 1),
    "no chain": (SHORT.replace('chain_id = "short"', ""), ("chain_id",), 1),
    "an unknown field": (SHORT.replace("treasury =", "tresury ="), ("tresury", "did you mean 'treasury'?"), 2),
    "an unknown field of a member": (SHORT.replace("stake = 15", "stakes = 15"), ("west", "stakes", "'stake'?"), 2),
    "an unknown parameter": (SHORT + "quorom = 1\n", ("quorom", "quorum"), 2),
    "a parameter out of range": (SHORT + "quorum = 0\n", ("quorum is 0", "from 1"), 1),
    "parameters that contradict": (SHORT.replace("_age = 10_", "_age = 9_"), ("evidence_age is 9000",), 1),
    "text for a number": (SHORT.replace("free = 10_000", 'free = "10"', 1), ("free", "whole number"), 1),
    "a fraction": (SHORT.replace("= 40_000", "= 40000.5"), ("stake", "whole number"), 1),
    "a bad name": (SHORT.replace('"north"', '"North!"', 1), ("North!", "a-z"), 1),
    "a member twice": (SHORT.replace('name = "west"', 'name = "east"'), ("east",), 1),
    "nobody to elect": (SHORT.replace("stake =", "free ="), ("TOML",), 1),
    "a delegation to nobody": (SHORT.replace("{ east =", "{ eats ="), ("eats",), 1),
    "a file that is not there": (SHORT.replace('"recipe.toml"', '"absent.toml"'), ("absent.toml",), 1),
    "a key that is none": (SHORT.replace("free = 10", 'public = "12"\nfree = 10', 1), ("public", "32 bytes"), 1),
    "the sequencer's name": (SHORT.replace('name = "west"', 'name = "sequencer"'), ("sequencer",), 1),
}


@pytest.mark.parametrize("case", GENESES)
def test_a_bad_genesis_is_one_line_and_leaves_nothing(fedmeta, tmp_path, case):
    text, says, code = GENESES[case]
    source = federation(tmp_path, "")
    source.write_bytes(text.encode("utf-8", "surrogateescape"))
    before = contents(tmp_path)
    refused(fedmeta("ledger", "init", tmp_path / "fed", "--from", source), code, *says)
    assert contents(tmp_path) == before
    assert not (tmp_path / "fed").exists()


MISUSE = {
    "an unknown command": (("staus",), "status"),
    "no key": (("stake", "bond", 5, *NOWHERE), "--key"),
    "an amount that is none": (("stake", "bond", "five", "--key", "x", *NOWHERE), "AMOUNT is 'five'"),
    "a hash that is none": (("round", "update", "12", "--examples", 1, "--receipt", "x"), "64 hexadecimal digits"),
    "a choice that is none": (("vote", 1, "perhaps"), "abstain"),
    "a parameter without a value": (("propose", "parameters", "quorum"), "round_pool=2000"),
    "a public key that is none": (("propose", "admit", "coast", "coast", "ab"), "64 hexadecimal digits"),
    "an unknown kind of record": (("proof", "membr", "north"), "member"),
    "a key of a record that is too short": (("proof", "delegation", "north"), "MEMBER CANDIDATE"),
    "a block that is no number": (("block", "last"), "whole number"),
    "an interval of nothing": (("serve", "fed", "--block-interval", 0), "--block-interval is 0"),
    "an interval that is no number": (("serve", "fed", "--empty-interval", "nan"), "--empty-interval is nan"),
    "pruning without snapshots": (("serve", "fed", "--prune"), "--snapshot-every"),
    "a port that is none": (("serve", "fed", "--port", 70_000), "65535"),
}


@pytest.mark.parametrize("case", MISUSE)
def test_misuse_is_one_line_that_says_what_is_right(fedmeta, tmp_path, monkeypatch, case):
    words, says = MISUSE[case]
    monkeypatch.chdir(tmp_path)
    refused(fedmeta("ledger", *words), 2, says)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def pipe(tmp_path):
    """A named pipe. Whoever waits for its writer is let go, with nothing read, so that the test fails and ends."""
    path, over = tmp_path / "pipe", threading.Event()
    os.mkfifo(path, 0o600)

    def release():
        while not over.wait(0.05):
            with contextlib.suppress(OSError):
                os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))

    thread = threading.Thread(target=release)
    thread.start()
    yield path
    over.set()
    thread.join()


def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(fedmeta, tmp_path, pipe):
    made = make(tmp_path)
    north = ("--key", made / "keys" / "north.pem", *NOWHERE)
    for words in (
        ("serve", made, "--key", pipe),
        ("stake", "bond", 5, "--key", pipe, *NOWHERE),
        ("verify", pipe),
        ("verify", made, "--genesis", pipe),
        ("export", pipe, tmp_path / "out"),
        ("init", tmp_path / "other", "--from", pipe),
        ("proof", "member", "north", "--genesis", pipe, *NOWHERE),
        ("round", "reveal", pipe, *north),
    ):
        refused(fedmeta("ledger", *words), 1, pipe, "not a regular file")
    for words in (("send", pipe, *NOWHERE), ("round", "update", pipe, "--examples", 1, "--receipt", "x", *north)):
        refused(fedmeta("ledger", *words), 2, pipe)
    refused(fedmeta("ledger", "import", pipe, tmp_path / "copy"), 1, f"there is no file {pipe}")
    for name in ("ledger.db", "genesis.cbor"):
        (made / name).unlink()
        (made / name).symlink_to(pipe)
        refused(fedmeta("ledger", "verify", made), 1, name, "not a regular file")
    federation(tmp_path)
    (tmp_path / "recipe.toml").unlink()
    (tmp_path / "recipe.toml").symlink_to(pipe)
    source = tmp_path / "short.toml"
    refused(fedmeta("ledger", "init", tmp_path / "other", "--from", source), 1, "recipe.toml", "not a regular file")


def test_no_node_and_what_is_no_node_are_named(fedmeta, tmp_path):
    for words in (("status",), ("members",), ("explain", "north"), ("events",)):
        refused(fedmeta("ledger", *words, *NOWHERE), 1, "http://127.0.0.1:1 cannot be reached")
    refused(fedmeta("ledger", "status", "--node", "here"), 1, "'here' is not a node's address")
    refused(fedmeta("ledger", "serve", tmp_path), 1, tmp_path, "genesis.cbor")
    refused(fedmeta("ledger", "verify", tmp_path / "absent"), 1, "absent")
    refused(fedmeta("ledger", "export", tmp_path, tmp_path / "out"), 1, "there is no ledger at")


def test_what_is_not_there_is_named(party):
    for words, says in (
        (("members", "nobody"), "nobody"),
        (("explain", "nobody"), "nobody"),
        (("candidate", "nobody"), "nobody"),
        (("round", 9), "round 9"),
        (("term", 9), "term 9"),
        (("fault", 9), "fault 9"),
        (("challenge", 9), "challenge 9"),
        (("proposals", 9), "proposal 9"),
        (("block", 10**9), "no block"),
        (("transaction", "ab" * 32), "ab" * 32),
        (("proof", "member", "nobody"), "nobody"),
    ):
        refused(party.run(*words), 1, says)
    refused(party.run("parameters", "quorom"), 2, "quorum")


def test_a_key_that_is_not_the_members_changes_nothing(party, tmp_path):
    before = party.ask("members", "north"), party.ask("members", "east")
    refused(party.run("stake", "bond", 5, "--as", "east", by="north"), 1, "bad-signature", "east")
    refused(party.run("stake", "bond", 5, "--as", "nobody", by="north"), 1, "unknown-member", "nobody")
    refused(party.run("stake", "bond", 10**6, by="north"), 1, "insufficient-funds")
    refused(party.run("round", "open", by="east"), 1, "not-allowed", "north")
    refused(party.run("stake", "bond", 5, "--key", tmp_path / "absent.pem"), 1, "absent.pem")
    key = tmp_path / "north.pem"
    key.write_bytes(party.key("north").read_bytes())
    key.chmod(0o640)
    refused(party.run("stake", "bond", 5, "--key", key), 1, f"chmod 600 {key}")
    key.write_text("no key")
    key.chmod(0o600)
    refused(party.run("stake", "bond", 5, "--key", key), 1, "not a private key")
    assert (party.ask("members", "north"), party.ask("members", "east")) == before


def test_what_comes_too_early_says_what_is_due(party, tmp_path):
    due = ("round 1 is in phase opening", "north is to open it")
    hashes = ("--aggregate", "11" * 32, "--model", "22" * 32)
    opening = tmp_path / "opening.json"
    for words in (
        ("round", "receipt", "east", "11" * 32, "--examples", 5),
        ("round", "update", "11" * 32, "--examples", 5, "--receipt", tmp_path / "absent"),
        ("round", "manifest", *hashes),
        ("round", "attest", *hashes, "--opening", opening),
    ):
        refused(party.run(*words, by="north"), 2, *due)
    assert not opening.exists()
    (tmp_path / "other.json").write_text('{"round": 1}')
    refused(party.run("round", "reveal", tmp_path / "other.json", by="north"), 1, "no opening", "chain_id")
    (tmp_path / "other.json").write_text("no JSON")
    refused(party.run("round", "reveal", tmp_path / "other.json", by="north"), 1, "not JSON")
    refused(party.run("fault", "manifests", "12", tmp_path / "absent", by="north"), 2, "absent")
    refused(party.run("send", "12"), 1, "malformed")
    (tmp_path / "there").write_text("mine")
    refused(party.run("stake", "bond", 5, "--sign-only", tmp_path / "there", by="north"), 1, "there exists")
    assert (tmp_path / "there").read_text() == "mine"


def test_two_processes_on_one_ledger_and_a_taken_port_are_refused(party, fedmeta, tmp_path):
    refused(fedmeta("ledger", "serve", party.folder), 1, "ledger.db is in use by another process")
    other = make(tmp_path)
    before = contents(other)
    port = party.node.rpartition(":")[2]
    taken = f"cannot listen on 127.0.0.1 port {port}: Address already in use"
    refused(fedmeta("ledger", "serve", other, "--port", port), 1, taken)
    assert contents(other) == before


def test_a_database_that_is_not_this_ledgers_is_refused_and_left_alone(fedmeta, tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "other").mkdir()
    one, other = make(tmp_path / "one"), make(tmp_path / "other")
    mine = (one / "ledger.db").read_bytes()

    def serve(*words):
        before = contents(one)
        done = fedmeta("ledger", "serve", one, "--port", 0, *words)
        assert contents(one) == before
        return done

    (one / "ledger.db").write_bytes((other / "ledger.db").read_bytes())
    # It has another sequencer, too: what is said is that it is another ledger.
    refused(serve("--key", other / "keys" / "sequencer.pem"), 1, "genesis", one / "genesis.cbor")
    refused(fedmeta("ledger", "verify", one / "ledger.db", "--genesis", one / "genesis.cbor"), 1, "begins with genesis")
    (one / "ledger.db").write_bytes(mine)
    refused(serve("--key", other / "keys" / "sequencer.pem"), 1, "not that of the sequencer")
    (one / "ledger.db").write_bytes(b"no database at all" * 10)
    refused(serve(), 1, "is not a database")
    (one / "ledger.db").write_bytes(mine)
    with sqlite3.connect(one / "ledger.db") as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    refused(serve(), 1, "has schema 99")
    refused(fedmeta("ledger", "verify", one), 1, "has schema 99")


def test_a_chain_of_another_name_is_refused(fedmeta, tmp_path):
    one = make(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    source = federation(tmp_path / "elsewhere", SHORT.replace('"short"', '"long"'))
    assert fedmeta("ledger", "init", tmp_path / "long", "--from", source).code == 0
    (one / "ledger.db").write_bytes((tmp_path / "long" / "ledger.db").read_bytes())
    refused(fedmeta("ledger", "serve", one, "--port", 0), 1, "'long'", "'short'")


def test_verify_says_what_does_not_hold_and_ends_with_1(fedmeta, tmp_path):
    made = make(tmp_path)
    with served(made, "--block-interval", 0.02, "--empty-interval", 10) as node:
        signing = ("--node", node, "--key", made / "keys" / "west.pem")
        assert fedmeta("ledger", "stake", "bond", 5, *signing).code == 0
    assert fedmeta("ledger", "export", made, tmp_path / "whole").code == 0
    with sqlite3.connect(made / "ledger.db") as database:
        database.execute("UPDATE state SET data = (SELECT data FROM state WHERE slot = 1) WHERE slot = 2")
    database.close()
    found = fedmeta("ledger", "verify", made)
    assert (found.code, found.err.count("\n")) == (1, 1)
    assert "does not hold: after block 1: slot 2" in found.err
    told = fedmeta("ledger", "verify", made, "--json")
    assert (told.code, told.json["sound"], told.json["height"]) == (1, False, 1)
    whole = (tmp_path / "whole").read_bytes()
    for at, broken in enumerate((whole[:-9], whole[:2000] + b"\0" + whole[2001:], b"no ledger")):
        (tmp_path / f"broken{at}").write_bytes(broken)
        before = set(tmp_path.iterdir())
        refused(fedmeta("ledger", "verify", tmp_path / f"broken{at}"), 1, f"broken{at}")
        refused(fedmeta("ledger", "import", tmp_path / f"broken{at}", tmp_path / "copy"), 1, f"broken{at}")
        assert set(tmp_path.iterdir()) == before


def test_a_receipt_for_something_else_is_refused_before_it_is_sent(tmp_path):
    with gathered(tmp_path) as party:
        party.must("round", "open", by="north")
        receipt = ("--receipt", tmp_path / "receipt")
        party.must("round", "receipt", "east", "11" * 32, "--examples", 5, "--out", tmp_path / "receipt", by="north")
        refused(party.run("round", "update", "22" * 32, "--examples", 5, *receipt, by="east"), 1, "update")
        refused(party.run("round", "update", "11" * 32, "--examples", 6, *receipt, by="east"), 1, "examples 5")
        refused(party.run("round", "update", "11" * 32, "--examples", 5, *receipt, by="west"), 1, "member 'east'")
        assert party.ask("round")["updates"] == []
        party.must("round", "update", "11" * 32, "--examples", 5, *receipt, by="east")


def test_a_key_that_was_made_is_never_written_over(fedmeta, tmp_path):
    keyfile.save(tmp_path / "mine.pem", Key.from_seed(b"1" * 32))
    before = contents(tmp_path)
    refused(fedmeta("ledger", "key", "new", tmp_path / "mine.pem"), 1, "never written over")
    assert contents(tmp_path) == before


def test_a_node_that_cannot_start_says_so_and_ends(tmp_path):
    process, line = start(tmp_path)
    code, out, err = end(process)
    assert (code, line + out) == (1, "")
    assert err.count("\n") == 1
    assert run("ledger", "serve", tmp_path).err == err
