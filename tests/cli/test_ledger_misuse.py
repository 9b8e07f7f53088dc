"""The ledger on the command line, wrongly used: one clear line each, and nothing changed."""

import contextlib
import json
import os
import sqlite3
import threading

import pytest

from fedmeta.govern.client import keyfile
from fedmeta.govern.client.client import Client
from fedmeta.govern.wire import codec
from fedmeta.govern.wire import transactions as tx
from fedmeta.govern.wire.signatures import Key
from tests.cli.serving import SEATS, SHORT, SWIFT, end, federation, gathered, make, run, served, start

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
    """A federation whose first round has not begun; nothing that is tested here changes it."""
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
    "parameters that contradict": (SHORT.replace("= 90_", "= 80_"), ("unbonding_blocks is 80000",), 1),
    "a contributor that is no member": (SHORT.replace('"coast"]', '"cost"]'), ("cost",), 1),
    "contributors that are no names": (SHORT.replace('"coast"]', "5]"), ("contributors of recipe 1 has 5",), 1),
    "two contributors of one organisation": (SHORT.replace('"coast-practice"', '"east-clinic"'), ("east-clinic",), 1),
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
    "a hash that is none": (("round", "commit", "12"), "64 hexadecimal digits"),
    "a hash that is too short": (("round", "attest", "ab" * 31), "64 hexadecimal digits"),
    "neither a machine's key nor none": (("members", "machine-key"), "--none"),
    "a choice that is none": (("vote", 1, "perhaps"), "abstain"),
    "a parameter without a value": (("propose", "parameters", "quorum"), "round_pool=2000"),
    "a public key that is none": (("propose", "admit", "coast", "coast", "ab"), "64 hexadecimal digits"),
    "an unknown kind of record": (("proof", "membr", "north"), "member"),
    "a key of a record that is too short": (("proof", "delegation", "north"), "MEMBER CANDIDATE"),
    "a block that is no number": (("block", "last"), "whole number"),
    "an interval of nothing": (("serve", "fed", "--block-interval", 0), "--block-interval is 0"),
    "an interval that is no number": (("serve", "fed", "--empty-interval", "nan"), "--empty-interval is nan"),
    "pruning without snapshots": (("serve", "fed", "--prune"), "--snapshot-every"),
    "a score that is none": (("round", "attest", "11" * 32, "--score", "east"), "east=250000"),
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
    for words in (("send", pipe, *NOWHERE), ("round", "commit", pipe, *north)):
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
        (("round", "sealed"), "no round"),
        (("recipes", "show", "ab" * 32), "ab" * 32),
        (("term", 9), "term 9"),
        (("fault", 9), "fault 9"),
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
    refused(party.run("recipes", "leave", "ab" * 32, by="north"), 1, "not-found", "north")
    refused(party.run("recipes", "join", by="north"), 1, "already-done", "north")
    refused(party.run("members", "machine-key", "--none", by="north"), 1, "bad-value", "no machine key")
    refused(party.run("members", "machine-key", party.key("east"), by="north"), 1, "already-done", "east")
    refused(party.run("propose", "recipe", "ab" * 32, by="north"), 2, "--model")
    refused(party.run("propose", "recipe", "ab" * 32, "--model", "cd" * 32, "--retire", by="north"), 1, "not-found")
    refused(party.run("propose", "upgrade", 1, 10**6, by="north"), 1, "bad-value", "protocol 1")
    refused(party.run("stake", "bond", 5, "--key", tmp_path / "absent.pem"), 1, "absent.pem")
    key = tmp_path / "north.pem"
    key.write_bytes(party.key("north").read_bytes())
    key.chmod(0o640)
    refused(party.run("stake", "bond", 5, "--key", key), 1, f"chmod 600 {key}")
    key.write_text("no key")
    key.chmod(0o600)
    refused(party.run("stake", "bond", 5, "--key", key), 1, "not a private key")
    assert (party.ask("members", "north"), party.ask("members", "east")) == before


def test_files_that_do_not_fit_are_named(party, tmp_path):
    opening, there = tmp_path / "opening.json", tmp_path / "there"
    opening.write_text('{"round": 1}')
    refused(party.run("round", "reveal", opening, by="north"), 1, "no opening", "genesis")
    refused(party.run("round", "opens", opening, "11" * 32), 1, "no opening", "genesis")
    opening.write_text("no JSON")
    refused(party.run("round", "reveal", opening, by="north"), 1, "not JSON")
    refused(party.run("send", tmp_path / "absent"), 2, "absent")
    refused(party.run("send", "12"), 1, "malformed")
    there.write_text("mine")
    refused(party.run("stake", "bond", 5, "--sign-only", there, by="north"), 1, "there exists")
    assert there.read_text() == "mine"


def test_before_a_round_has_begun_nothing_can_be_done_in_one(party, tmp_path):
    assert party.must("round").out.startswith("no round has begun")
    kept = ("--opening", tmp_path / "kept")
    hash = "11" * 32
    for words in (("commit", hash, *kept), ("seal",), ("hold",), ("attest", hash, *kept)):
        refused(party.run("round", *words, by="north"), 1, "not-found", "no round has begun")
    assert list(tmp_path.iterdir()) == []


def test_what_does_not_belong_in_a_round_is_refused_with_its_code_and_changes_nothing(tmp_path):
    hash, kept, other = "11" * 32, tmp_path / "kept", tmp_path / "other"
    keep = ("--opening", kept)
    with gathered(tmp_path, SWIFT) as party, Client(party.node) as client:

        def no(code, *words, by=None, says=""):
            """Check that something is refused, and that the round and the files are as before."""
            before = client.query("round", number=1)
            refused(party.run(*words, by=by), 1, f"{code}: ", says)
            assert client.query("round", number=1) == before
            assert not kept.exists()

        party.let_blocks_pass(1)
        due = "the cohort is to commit"
        for words in (("seal",), ("hold",), ("attest", hash, *keep)):
            no("wrong-phase", "round", *words, by="north", says=due)
        no("wrong-phase", "round", "sealed", says="not closed")
        no("wrong-phase", "send", party.signed("north", tx.Seal(1, bytes(32))))
        no("not-found", "send", party.signed("north", tx.CommitUpdate(2, bytes(32))), says="round 2")
        no("bad-value", "send", party.signed("north", tx.CommitUpdate(1, bytes(31))), says="32 bytes")
        party.play_commits(tmp_path)
        no("wrong-phase", "round", "commit", hash, *keep, by="north", says="deliver")
        for words in (("seal",), ("hold",)):
            no("not-allowed", "round", *words, by="coast", says="coast holds no seat in round 1")
        no("not-found", "round", "hold", "coast", "nobody", by="north", says="nobody")
        no("bad-value", "send", party.signed("north", tx.Hold(1, 1, ("west", "east"))), says="order")
        no("wrong-attempt", "send", party.signed("north", tx.Hold(1, 2, ("east",))), says="attempt 1")
        no("bad-reveal", "round", "opens", tmp_path / "coast.salt", hash, says="coast committed to")
        # The same words are the same bytes: they are in their block, and are not done again.
        assert party.must("round", "hold", "coast", by="north") == party.must("round", "hold", "coast", by="north")
        party.must("round", "hold", "coast", "east", by="north")
        no("already-done", "send", party.signed("north", tx.Hold(1, 1, ("east",))), says="already whose")
        party.must("round", "seal", by="north")
        no("already-done", "send", party.signed("north", tx.Seal(1, bytes(32))), says="signed a header")
        # Nobody else holds anything: the attempt fails, and what north said is for it alone.
        party.let_blocks_pass(18)
        assert (party.ask("round")["attempt"], party.ask("round")["phase"]) == (2, "deliver")
        no("wrong-attempt", "send", party.signed("north", tx.Hold(1, 1, ("east",))), says="attempt 2")
        for name in SEATS:
            party.must("round", "hold", by=name)
        no("not-allowed", "round", "attest", hash, *keep, by="coast", says="no seat")
        for scores, says in (
            (("east=800001", "south=0", "west=0", "coast=0"), "at most 800000 for 4 updates of others"),
            (("north=5", "east=0", "south=0", "west=0", "coast=0"), "0 for one's own organisation"),
            (("east=5", "south=5", "west=5"), "missing for coast"),
            (("east=5", "south=5", "west=5", "coast=5", "nobody=5"), "nobody"),
        ):
            no(
                "bad-scores",
                "round",
                "attest",
                hash,
                *keep,
                *(f"--score={one}" for one in scores),
                by="north",
                says=says,
            )
        for name in SEATS:
            party.must("round", "attest", hash, "--opening", tmp_path / f"{name}.result", by=name)
        assert party.ask("round")["phase"] == "reveal"
        no("wrong-phase", "round", "attest", hash, *keep, by="north", says="reveal")
        opening = json.loads((tmp_path / "north.result").read_text())
        for change, code, says in (
            ({"salt": "22" * 32}, "bad-reveal", "north committed to"),
            ({"result": "22" * 32}, "bad-reveal", "north committed to"),
            ({"scores": {**opening["scores"], "east": 7}}, "bad-reveal", "north committed to"),
            ({"attempt": 1}, "wrong-attempt", "attempt 2"),
            ({"round": 7}, "not-found", "round 7"),
            ({"result": "22" * 31}, "bad-value", "32 bytes"),
        ):
            other.write_text(json.dumps({**opening, **change}))
            no(code, "round", "reveal", other, by="north", says=says)
        other.write_text(json.dumps({**opening, "genesis": "33" * 32}))
        refused(party.run("round", "reveal", other, by="north"), 1, "is for the ledger of genesis 3333")
        refused(party.run("round", "reveal", tmp_path / "north.result", by="east"), 1, "you sign as east")
        party.must("round", "reveal", tmp_path / "north.result", by="north")
        # Sent once more it is not done again; nobody can open a commitment in two ways.
        party.must("round", "reveal", tmp_path / "north.result", by="north")


def test_a_header_of_another_ledger_is_neither_believed_nor_sealed(fedmeta, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    other = ("--genesis", make(tmp_path / "elsewhere") / "genesis.cbor")
    with gathered(tmp_path) as party:
        party.play_commits(tmp_path)
        for words, by in ((("round", "sealed"), None), (("round", "seal"), "north")):
            refused(party.run(*words, *other, by=by), 1, "the header is of the ledger of genesis")
        assert party.ask("round")["seals"] == []
        # Seals of another header, as of another history, do not count for this one.
        party.must("send", party.signed("north", tx.Seal(1, bytes(32))))
        for name in ("east", "south", "west"):
            party.must("send", party.signed(name, tx.Seal(1, b"\1" * 32)))
        done = party.run("round", "sealed", "--json")
        assert (done.code, done.json["power"], done.json["sealed"]) == (1, 0, False)


def test_scores_that_no_command_commits_to_are_refused_when_they_are_opened(tmp_path):
    salt = bytes(32)
    with gathered(tmp_path) as party:
        party.play_deliver(tmp_path)
        genesis = bytes.fromhex(party.ask("status")["genesis"])
        # Coast, east, north, south, west: the budget is 800,000.
        bodies = [
            tx.Reveal(1, 1, bytes(32), scores, salt) for scores in ((800_001, 0, 0, 0, 0), (0, 5, 0, 0, 0), (0, 0))
        ]
        for name, body in zip(("north", "east", "south"), bodies, strict=True):
            commitment = tx.commitment(genesis, 1, 1, name, body.result, body.scores, salt)
            party.must("send", party.signed(name, tx.Attest(1, 1, commitment)))
        party.must("round", "attest", "11" * 32, "--opening", tmp_path / "west.result", by="west")
        for name, body in zip(("north", "east", "south"), bodies, strict=True):
            refused(party.run("send", party.signed(name, body)), 1, "bad-scores: ")


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


def test_a_ledger_with_a_leader_in_each_round_is_one_line_that_says_what_reads_it(fedmeta, tmp_path):
    made, exported = make(tmp_path), tmp_path / "exported"
    assert fedmeta("ledger", "export", made, exported).code == 0
    values = codec.decode((made / "genesis.cbor").read_bytes())
    del values["protocol"], values["registrations"]
    old = codec.encode(values)
    (made / "genesis.cbor").write_bytes(old)
    with sqlite3.connect(made / "ledger.db") as database:
        database.execute("UPDATE meta SET value = ? WHERE name = 'genesis'", (old,))
    database.close()
    whole = exported.read_bytes()
    size = 4 + int.from_bytes(whole[:4], "big")
    frame = codec.encode([*codec.decode(whole[4:size])[:2], old])
    exported.write_bytes(len(frame).to_bytes(4, "big") + frame + whole[size:])
    before = contents(tmp_path)
    for words in (
        ("serve", made, "--port", 0),
        ("verify", made),
        ("verify", made / "ledger.db"),
        ("verify", exported),
        ("import", exported, tmp_path / "copy"),
        ("proof", "member", "north", "--genesis", made / "genesis.cbor", *NOWHERE),
    ):
        refused(fedmeta("ledger", *words), 1, "protocol 1, with a leader in each round", "executes protocol 3")
    assert {path: data for path, data in contents(tmp_path).items() if path in before} == before
    assert not (tmp_path / "copy").exists()


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
