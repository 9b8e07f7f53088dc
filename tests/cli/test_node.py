"""A member's node on the command line: init, check, approve, outbox; one clear line where they are wrongly used."""

import stat
import subprocess
import sys
import tomllib
from datetime import UTC, datetime, timedelta

import pytest

from fedmeta.node.member.folder import Folder
from fedmeta.node.member.outbox import Outbox
from fedmeta.node.process import landlock
from tests.cli.serving import gathered, run
from tests.cli.test_ledger_misuse import contents, refused
from tests.node.member.made import GENESIS, procedure, table

TOMORROW = (datetime.now(UTC) + timedelta(days=2)).date().isoformat()


@pytest.fixture(scope="module")
def party(tmp_path_factory):
    with gathered(tmp_path_factory.mktemp("party")) as found:
        yield found


def make(folder, *more, member="coast", ledger="http://127.0.0.1:1", genesis=GENESIS):
    usual = ("--member", member, "--ledger", ledger, "--genesis", genesis)
    done = run("node", "init", folder, *usual, *more)
    assert done.code == 0, done.err
    return done


@pytest.fixture
def node(tmp_path):
    make(tmp_path / "coast")
    return Folder(tmp_path / "coast")


@pytest.fixture
def offered(tmp_path):
    """A file with a procedure's bytes, and the procedure."""
    made = procedure(tmp_path)
    file = tmp_path / "procedure.json"
    file.write_bytes(made.to_bytes())
    return file, made


def test_init_makes_a_node_and_says_what_comes_next(fedmeta, tmp_path):
    made = ("--member", "north", "--ledger", "http://a:1", "--ledger", "http://b:2", "--genesis", GENESIS)
    public = ("--super", "--listen", "0.0.0.0:7979", "--public", "https://north.example:7979")
    done = fedmeta("node", "init", tmp_path / "north", *made, *public, "--data", "digits", "--json")
    assert done.code == 0, done.err
    folder = Folder(tmp_path / "north")
    found = tomllib.loads(folder.config.read_text())
    assert found["ledger"] == {"addresses": ["http://a:1", "http://b:2"], "genesis": GENESIS}
    assert (found["role"], found["data"]["paths"]) == ("super", ["digits"])
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
    public = fedmeta("ledger", "key", "public", folder.keys / "machine.pem").out.strip()
    assert done.json["machine"] == public
    said = make(tmp_path / "other").out
    assert "fedmeta ledger members machine-key" in said
    assert "fedmeta node check --folder" in said


def test_the_genesis_may_be_its_file(tmp_path, party):
    make(tmp_path / "coast", genesis=party.folder / "genesis.cbor")
    found = tomllib.loads((tmp_path / "coast" / "node.toml").read_text())
    assert found["ledger"]["genesis"] == party.ask("status")["genesis"]


def test_data_keep_their_meaning_from_the_nodes_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    table(tmp_path / "visits.csv")
    make(tmp_path / "coast", "--data", "visits.csv")
    found = tomllib.loads((tmp_path / "coast" / "node.toml").read_text())
    assert found["data"]["paths"] == [str(tmp_path / "visits.csv")]


INIT = {
    "no genesis": (("--genesis", "12"), ("--genesis is '12'", "64 hexadecimal digits"), 2),
    "a bad name": (("--member", "No!"), ("No!", "a-z"), 1),
    "a bad address": (("--ledger", "host"), ("'host'", "http"), 1),
    "half a super node": (("--super",), ("--super, --listen and --public belong together",), 2),
    "a listening contributor": (("--listen", "0.0.0.0:1", "--public", "https://a:1"), ("belong together",), 2),
    "a bad place to listen": (
        ("--super", "--listen", "7979", "--public", "https://a:1"),
        ("listen.address is '7979'",),
        1,
    ),
}


@pytest.mark.parametrize("case", INIT)
def test_a_wrong_init_is_one_line_and_leaves_nothing(fedmeta, tmp_path, case):
    given, says, code = INIT[case]
    usual = {"--member": "coast", "--ledger": "http://127.0.0.1:1", "--genesis": GENESIS}
    rest = [part for pair in usual.items() if pair[0] not in given for part in pair]
    refused(fedmeta("node", "init", tmp_path / "coast", *rest, *given), code, *says)
    assert list(tmp_path.iterdir()) == []


def test_init_writes_over_nothing(fedmeta, node):
    before = contents(node.path)
    usual = ("--member", "coast", "--ledger", "http://a:1", "--genesis", GENESIS)
    refused(fedmeta("node", "init", node.path, *usual), 1, "exists: a node is made in a new folder")
    assert contents(node.path) == before


def rows(done):
    return {row["name"]: row for row in done.json["checks"]}


def test_check_of_a_member_in_order_holds(fedmeta, tmp_path, party, offered):
    file, made = offered
    table(tmp_path / "visits.csv")
    make(
        tmp_path / "south",
        "--data",
        tmp_path / "visits.csv",
        member="south",
        ledger=party.node,
        genesis=party.folder / "genesis.cbor",
    )
    folder = tmp_path / "south"
    before = rows(fedmeta("node", "check", "--folder", folder, "--json"))
    assert before["machine key on the ledger"]["state"] == "fails"
    party.must("members", "machine-key", folder / "keys" / "machine.pem", "--as", "south", by="south")
    assert fedmeta("node", "approve", file, "--note", "x", "--folder", folder, "--yes").code == 0
    done = fedmeta("node", "check", "--folder", folder, "--json")
    found = rows(done)
    assert (done.code, done.json["state"] != "fails") == (0, True), done.out
    assert found["member"]["found"] == "south of south-hospital"
    for name in ("clock", f"ledger {party.node}", "machine key on the ledger", f"data for {made.digest[:12]}…"):
        assert found[name]["state"] == "ok", found[name]
    if landlock.version():
        assert found["walls: trainer"]["state"] == "ok"
    shown = fedmeta("node", "check", "--folder", folder)
    assert shown.code == 0
    assert all(name in shown.out for name in ("machine key on the ledger", "30 examples", " ok"))


def test_check_tries_the_addresses_in_turn_and_knows_its_ledger(fedmeta, tmp_path, party):
    genesis = party.folder / "genesis.cbor"
    make(tmp_path / "one", "--ledger", "http://127.0.0.1:1", member="west", ledger=party.node, genesis=genesis)
    found = rows(fedmeta("node", "check", "--folder", tmp_path / "one", "--json"))
    assert found["ledger http://127.0.0.1:1"]["state"] == "warning"
    assert found[f"ledger {party.node}"]["state"] == "ok"
    make(tmp_path / "two", member="west", ledger=party.node)
    done = fedmeta("node", "check", "--folder", tmp_path / "two", "--json")
    assert done.code == 1
    assert "it is another ledger" in rows(done)[f"ledger {party.node}"]["advice"]


def test_a_check_that_fails_exits_with_1_and_says_what_to_do(fedmeta, node):
    (node.keys / "machine.pem").chmod(0o644)
    done = fedmeta("node", "check", "--folder", node.path)
    assert done.code == 1
    assert f"machine key: chmod 600 {node.keys / 'machine.pem'}" in done.out
    assert "What to do" in done.out
    empty = fedmeta("node", "check", "--folder", node.path / "gate", "--json")
    assert (empty.code, rows(empty)["configuration"]["state"]) == (1, "fails")


def test_approve_shows_what_it_does_and_keeps_the_bytes(fedmeta, node, offered):
    file, made = offered
    where = ("--folder", node.path)
    done = fedmeta("node", "approve", file, "--note", "ethics 2026-17", "--until", TOMORROW, "--yes", *where)
    assert done.code == 0, done.err
    assert [
        part for part in (made.digest, "age, smoker", "42 numbers", f"until {TOMORROW}") if part not in done.out
    ] == []
    assert node.procedure(bytes.fromhex(made.digest)).read_bytes() == made.to_bytes()
    (listed,) = fedmeta("node", "approve", "--list", "--json", *where).json
    assert (listed["digest"], listed["holds"], listed["note"]) == (made.digest, True, "ethics 2026-17")
    # What is kept may be approved by its digest.
    again = fedmeta("node", "approve", made.digest, "--note", "again", "--json", *where)
    assert (again.json["note"], again.json["until"]) == ("again", None)
    gone = fedmeta("node", "approve", made.digest, "--revoke", "--note", "ended", *where)
    assert (gone.code, gone.out.startswith("revoked by")) == (0, True)
    assert not fedmeta("node", "approve", "--list", "--json", *where).json[0]["holds"]
    assert made.digest in fedmeta("node", "approve", "--list", *where).out


def test_the_policy_refuses_with_every_reason(fedmeta, tmp_path, node):
    text = node.policy.read_text()
    node.policy.write_text(text.replace("most_steps = 1000", "most_steps = 1").replace("cohort = 3", "cohort = 9"))
    file = tmp_path / "procedure.json"
    file.write_bytes(procedure(tmp_path).to_bytes())
    done = fedmeta("node", "approve", file, "--note", "x", "--json", "--folder", node.path)
    refused(done, 1, "the policy refuses", "3 gradient steps; most_steps is 1", "cohort is 4; smallest_cohort is 9")
    assert not node.approvals.exists()
    assert list(node.procedures.iterdir()) == []


def test_who_says_no_has_not_approved(fedmeta, node, offered, monkeypatch):
    monkeypatch.setattr("click.confirm", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    done = fedmeta("node", "approve", offered[0], "--note", "x", "--folder", node.path)
    assert done.code == 130
    assert not node.approvals.exists()


APPROVE = {
    "nothing": ((), ("say which procedure",), 2),
    "no note": (("FILE",), ("say why with --note",), 2),
    "a digest that is not here": (("ab" * 32, "--note", "x"), ("no address of the ledger can be used",), 1),
    "no file": (("absent.json", "--note", "x"), ("cannot read absent.json",), 1),
    "no procedure": (("OTHER", "--note", "x"), ("is no procedure",), 1),
    "no date": (("FILE", "--note", "x", "--until", "tomorrow"), ("--until is 'tomorrow'", "2027-12-31"), 1),
    "a past date": (("FILE", "--note", "x", "--until", "2020-01-01"), ("until 2020-01-01 would have ended",), 1),
    "nothing to revoke": (("FILE", "--note", "x", "--revoke"), ("is not approved",), 1),
    "revoked until": (("FILE", "--note", "x", "--revoke", "--until", TOMORROW), ("leave --until out",), 2),
    "a list of one": (("FILE", "--list"), ("--list takes nothing else",), 2),
}


@pytest.mark.parametrize("case", APPROVE)
def test_a_wrong_approval_is_one_line_and_approves_nothing(fedmeta, node, offered, case):
    given, says, code = APPROVE[case]
    other = node.path / "other.json"
    other.write_text("{}")
    words = [{"FILE": offered[0], "OTHER": other}.get(word, word) for word in given]
    refused(fedmeta("node", "approve", *words, "--json", "--folder", node.path), code, *says)
    assert not node.approvals.exists()


def test_a_procedure_under_a_foreign_digest_is_refused(fedmeta, node, offered):
    node.procedure(bytes(32)).write_bytes(offered[1].to_bytes())
    done = fedmeta("node", "approve", "00" * 32, "--note", "x", "--json", "--folder", node.path)
    refused(done, 1, "holds another procedure", offered[1].digest)


def test_outbox_lists_what_left_with_its_sums(fedmeta, node):
    where = ("--folder", node.path)
    assert fedmeta("node", "outbox", *where).out == "nothing has left\n"
    box = Outbox(node.outbox)
    box.record(to="ledger", what="commitment", size=210, digest=bytes(32), why="in the cohort", round=1)
    for number in (0, 1):
        box.record(to="north", what="chunks", size=1 << 20, digest=bytes(32), why="a seat", round=1, detail=f"{number}")
    box.record(to="east", what="card", size=90, digest=bytes(32), why="it asked")
    whole = fedmeta("node", "outbox", "--json", *where).json
    assert [one["to"] for one in whole["sent"]] == ["ledger", "north", "north", "east"]
    assert whole["totals"]["chunks"] == {"times": 2, "bytes": 2 << 20}
    assert len(fedmeta("node", "outbox", "--round", 1, "--json", *where).json["sent"]) == 3
    shown = fedmeta("node", "outbox", *where).out
    assert [
        part for part in ("in the cohort", "1,048,576", "2,097,152", "4 times, 2,097,452 bytes") if part not in shown
    ] == []
    assert fedmeta("node", "outbox", "--round", 7, *where).out == "nothing has left in round 7\n"


def test_a_changed_outbox_is_refused(fedmeta, node):
    box = Outbox(node.outbox)
    for number in range(2):
        box.record(to="north", what="card", size=number, digest=bytes(32), why="x")
    node.outbox.write_text(node.outbox.read_text().replace('"size":0', '"size":7'))
    refused(fedmeta("node", "outbox", "--folder", node.path), 1, "outbox.jsonl is damaged: line 2")


@pytest.mark.parametrize("command", [("outbox",), ("approve", "--list")])
def test_a_folder_that_is_no_nodes_is_refused(fedmeta, tmp_path, command):
    refused(fedmeta("node", *command, "--folder", tmp_path), 1, "there is no", "fedmeta node init")


def test_an_unknown_command_is_told_the_nearest(fedmeta):
    refused(fedmeta("node", "aprove"), 2, "aprove", "'approve'")


def test_help_and_init_do_not_wait_for_jax(tmp_path):
    program = "import sys\nfrom fedmeta.cli import main\ntry: main(sys.argv[1:])\nfinally: print('jax' in sys.modules)"
    usual = ("--member", "coast", "--ledger", "http://127.0.0.1:1", "--genesis", GENESIS)
    for words in (("--help",), ("init", tmp_path / "coast", *usual), ("outbox", "--folder", tmp_path / "coast")):
        done = subprocess.run([sys.executable, "-c", program, "node", *map(str, words)], capture_output=True, text=True)
        assert done.stdout.endswith("False\n"), (words, done.stdout, done.stderr)
