"""The ledger on the command line: what an operator, a member and an auditor do, on a node that really runs."""

import json
import re
import signal
import stat
import subprocess
import sys
from pathlib import Path

import click
import pytest

import fedmeta.cli.ledger as package
from fedmeta.cli.ledger import ledger
from fedmeta.govern.client import keyfile
from fedmeta.govern.client.client import Client
from fedmeta.govern.machine.execute import PROTOCOL
from fedmeta.govern.machine.genesis import decode_genesis
from fedmeta.govern.rules.proposal_actions import ACTIONS
from fedmeta.govern.views.queries import QUERIES
from fedmeta.govern.wire.signatures import digest
from fedmeta.govern.wire.transactions import TRANSACTIONS
from tests.cli.serving import MEMBERS, SEATS, SWIFT, address, end, federation, gathered, make, run, served, start

SOURCES = "".join(path.read_text() for path in Path(package.__file__).parent.glob("*.py"))

FIRST = {"coast": 1_000, "east": 40_000, "north": 55_000, "south": 30_000, "west": 25_000}
"""What each member holds at first, free and at stake."""


def commands(command=ledger, path=()):
    """Yield every command of the group with its words."""
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            yield from commands(command.get_command(context, name), (*path, name))


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def made(tmp_path):
    """A ledger's folder."""
    return make(tmp_path)


@pytest.fixture(scope="module")
def party(tmp_path_factory):
    """A federation that has played its first round; the tests share it, and each leaves the others' members alone."""
    folder = tmp_path_factory.mktemp("party")
    with gathered(folder) as found:
        found.must("stake", "delegate", "west", "3_000", by="south")
        found.play_round(folder)
        yield found


# Making one.


def test_init_makes_keys_that_nobody_else_can_read_and_a_ledger_that_verify_finds_sound(fedmeta, made):
    names = sorted(path.name for path in (made / "keys").iterdir())
    assert names == [f"{name}.pem" for name in sorted((*MEMBERS, "sequencer"))]
    assert {stat.S_IMODE(path.stat().st_mode) for path in (made / "keys").iterdir()} == {0o600}
    assert stat.S_IMODE((made / "keys").stat().st_mode) == 0o700
    genesis = decode_genesis((made / "genesis.cbor").read_bytes())
    publics = {one.name: one.public for one in genesis.members}
    assert publics == {name: keyfile.load(made / "keys" / f"{name}.pem").public for name in MEMBERS}
    found = fedmeta("ledger", "verify", made, "--json")
    assert found.code == 0
    assert (found.json["sound"], found.json["height"], found.json["genesis"]) == (True, 0, genesis.digest.hex())


def test_init_without_more_makes_the_example_whose_toml_makes_it_again(fedmeta, tmp_path):
    first = fedmeta("ledger", "init", tmp_path / "fed")
    assert first.code == 0
    assert f"Next: fedmeta ledger serve {tmp_path / 'fed'}" in first.out
    again = fedmeta("ledger", "init", tmp_path / "again", "--from", tmp_path / "fed" / "federation.toml", "--json")
    assert again.code == 0
    assert again.json["chain_id"] == "four-hospitals"
    assert sorted(again.json["keys"]) == sorted((*MEMBERS, "sequencer"))
    assert {one.name for one in tmp_path.iterdir()} == {"fed", "again"}


def test_keys_with_a_passphrase_are_no_use_without_it(fedmeta, tmp_path, monkeypatch):
    monkeypatch.setenv("FEDMETA_PASSPHRASE", "a long story")
    assert fedmeta("ledger", "init", tmp_path / "fed", "--passphrase").code == 0
    path = tmp_path / "fed" / "keys" / "north.pem"
    assert b"ENCRYPTED" in path.read_bytes()
    public = fedmeta("ledger", "key", "public", path).out.strip()
    assert public == keyfile.load(path, "a long story").public.hex()
    monkeypatch.setenv("FEDMETA_PASSPHRASE", "another")
    refused = fedmeta("ledger", "key", "public", path)
    assert (refused.code, refused.err.count("\n")) == (1, 1)
    assert "passphrase" in refused.err


def test_init_leaves_nothing_behind_when_it_fails(fedmeta, tmp_path, monkeypatch):
    source = federation(tmp_path)
    before = contents(tmp_path)
    saved = keyfile.save

    def fails(path, key, passphrase=None):
        if Path(path).name == "west.pem":
            raise OSError(28, "No space left on device", str(path))
        saved(path, key, passphrase)

    monkeypatch.setattr(keyfile, "save", fails)
    done = fedmeta("ledger", "init", tmp_path / "fed", "--from", source)
    assert done.code == 1
    assert "No space left" in done.err
    assert contents(tmp_path) == before
    assert {one.name for one in tmp_path.iterdir()} == {"recipe.toml", "first.model", "short.toml"}


def test_init_never_writes_over_anything_but_takes_an_empty_folder(fedmeta, made, tmp_path):
    before = contents(tmp_path)
    for taken in (made, tmp_path / "short.toml"):
        done = fedmeta("ledger", "init", taken)
        assert (done.code, done.err) == (2, f"fedmeta: {taken} exists: a ledger is made in a new folder\n")
    assert contents(tmp_path) == before
    (tmp_path / "empty").mkdir()
    assert fedmeta("ledger", "init", tmp_path / "empty").code == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_node_says_where_it_is_and_ends_cleanly_when_told_to(made, number):
    process, line = start(made, "--block-interval", 0.02)
    assert re.fullmatch(r"short is at http://127\.0\.0\.1:\d+, block 0; Ctrl-C ends it\n", line)
    with Client(address(line)) as client:
        assert client.status()["chain_id"] == "short"
    code, out, err = end(process, number)
    assert (code, err) == (0, "")
    assert re.fullmatch(r"stopped after block \d+\n", out)


# The whole story.


def test_a_round_by_hand_is_final_and_explain_sums_to_what_each_member_holds(party):
    found = party.ask("round", 1)
    assert found["phase"] == "final"
    assert found["result"] == digest(b"the next model").hex()
    assert party.ask("recipes")[0]["model"] == found["result"]
    for name in MEMBERS:
        told = party.ask("explain", name, "--term", 1)
        assert told["check"]["holds"]
        assert told["check"]["before"] == FIRST[name]
        assert told["total"] == sum(line["amount"] for line in told["lines"]) > 0
        text = party.must("explain", name).out
        assert "they agree to the unit" in text
        assert all(line["formula"] in text for line in told["lines"])
    # Half of 1,000 units is for updates, and the others' seats gave east 320,000 of 1,000,000.
    paid = {
        name: [line["amount"] for line in party.ask("explain", name)["lines"] if line["why"] == "contributor"]
        for name in MEMBERS
    }
    assert paid == {"coast": [80], "east": [160], "north": [80], "south": [80], "west": [80]}
    held = party.ask("members", "south")["balance"]
    party.must("stake", "claim", by="south")
    assert party.ask("members", "south")["balance"]["free"] == held["free"] + held["owed"] + held["accrued"]
    supply = party.ask("supply")
    assert sum(amount for where, amount in supply.items() if where != "supply") == supply["supply"]


def test_what_opens_a_commitment_is_for_its_owner_only(party):
    beside = party.folder.parent
    assert {path.stem for path in beside.glob("*.salt")} == set(MEMBERS)
    assert {path.stem for path in beside.glob("*.result")} == set(SEATS)
    for path in (*beside.glob("*.salt"), *beside.glob("*.result")):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_contributor_sees_how_much_of_the_power_has_sealed_before_it_sends_anything(tmp_path):
    with gathered(tmp_path) as party:
        party.play_commits(tmp_path)
        trusted = ("--genesis", party.folder / "genesis.cbor")
        for at, name in enumerate(SEATS):
            done = party.run("round", "sealed", *trusted, "--json")
            powers = {one["candidate"]: one["power"] for one in party.ask("round")["seats"]}
            power, total = sum(powers[one] for one in SEATS[:at]), sum(powers.values())
            assert [one["candidate"] for one in done.json["seats"] if one["sealed"]] == list(SEATS[:at])
            assert (done.json["power"], done.json["total"]) == (power, total)
            enough = power * 3 > total * 2
            assert (done.code, done.json["sealed"], bool(done.err)) == (0 if enough else 1, enough, not enough)
            party.must("round", "seal", *trusted, by=name)
        assert "Sealed: seats with 100 %" in party.must("round", "sealed", *trusted).out
        header = party.must("block", party.ask("round")["committed"], "--json").json["header"]
        assert {one["header"] for one in party.ask("round")["seals"]} == {header["hash"]}
        told = party.must("round", "opens", tmp_path / "coast.salt", tmp_path / "coast.update").out
        assert told == "it is what coast committed to in round 1\n"


def test_a_false_result_costs_stake_and_a_vote_can_annul_it(tmp_path):
    with gathered(tmp_path) as party:
        party.play_round(tmp_path, lying=["north"])
        assert party.ask("round")["phase"] == "final"
        assert re.search("north +another: ", party.must("round").out)
        # A twentieth of the pool.
        fault = party.ask("fault", 1)
        assert (fault["offender"], fault["kind"]) == ("north", "false-result")
        assert sum(cut["amount"] for cut in fault["cuts"]) == 2_000
        assert "opened another result" in party.must("fault", 1).out
        assert "false-result" in party.must("fault").out
        assert party.ask("candidate", "north")["jailed"]
        assert "jailed until block" in party.must("candidate").out
        assert "north" not in party.ask("status")["super_nodes"]
        lost = [line["amount"] for line in party.ask("explain", "north")["lines"] if line["why"] == "slash"]
        assert lost == [-2_000]
        party.must("propose", "annul", 1, "--title", "An accident", by="west")
        for name in ("north", "south", "west"):
            party.must("vote", 1, "yes", by=name)
        party.let_blocks_pass(15)
        assert party.ask("proposals", 1)["status"] == "executed"
        assert party.ask("fault", 1)["annulled"]
        given = [line["amount"] for line in party.ask("explain", "north")["lines"] if line["why"] == "annulled"]
        assert given == [2_000]
        # North voted with what it had left and what it has with east, south and west with their own.
        voted, bonded = 38_000 + 5_000 + 20_000 + 15_000, 110_000 - 2_000
        assert party.ask("fairness")["turnout"] == {"1": voted * 1_000_000 // bonded}


def test_a_machine_signs_in_rounds_with_a_key_of_its_own(tmp_path):
    machine = tmp_path / "machine.pem"
    with gathered(tmp_path) as party:
        public = run("ledger", "key", "new", machine).out.strip()
        assert "signs in rounds with" in party.must("members", "machine-key", machine, by="coast").out
        assert re.search(f"machine key +{public}", party.must("members", "coast").out)
        commit = ("round", "commit", "11" * 32, "--opening", tmp_path / "kept")
        by_machine = ("--key", machine, "--as", "coast")
        for wrong in (party.run(*commit, by="coast"), party.run("members", "profile", "--title", "Mine", *by_machine)):
            assert (wrong.code, "bad-signature" in wrong.err) == (1, True)
        assert not (tmp_path / "kept").exists()
        party.must(*commit, *by_machine)
        party.must("members", "machine-key", "--none", by="coast")
        assert party.ask("members", "coast")["machine"] is None
        again = party.run(*commit[:-1], tmp_path / "again", by="coast")
        assert (again.code, "already-done" in again.err, (tmp_path / "again").exists()) == (1, True, False)


def test_a_round_that_comes_to_nothing_says_why_and_its_contributors_join_again(tmp_path):
    with gathered(tmp_path, SWIFT) as party:
        party.let_blocks_pass(1 + 18)
        told = party.must("round", 1).out
        assert re.search("phase +void", told)
        assert "too few committed to an update (too-few-commits)" in told
        assert party.ask("round", 1)["reason"] == "too-few-commits"
        assert "nobody contributes" in party.must("recipes").out
        party.must("recipes", "join", by="coast")
        assert re.search("sit out +coast up to round 2, unless", party.must("recipes").out)
        assert [one["member"] for one in party.ask("recipes")[0]["registrations"]] == ["coast"]
        party.must("recipes", "leave", tmp_path / "recipe.toml", by="coast")
        assert party.ask("recipes", "show", tmp_path / "recipe.toml")["registrations"] == []


def test_why_a_proposal_failed_is_said_in_words(tmp_path):
    with gathered(tmp_path) as party:
        party.must("propose", "parameters", "round_pool=2_000", by="west")
        for _ in range(2):
            party.must("propose", "spend", "west", 10_000, by="south")
        for number in (2, 3):
            for name in ("north", "south"):
                party.must("vote", number, "yes", by=name)
        party.must("propose", "remove", "coast", by="west")
        party.must("vote", 4, "veto", by="north")
        party.let_blocks_pass(25)
        assert "rejected: too little of the stake has voted (parameter quorum)" in party.must("proposals", 1).out
        assert party.ask("proposals", 2)["status"] == "executed"
        # A hundredth of the supply is what proposals may spend in a term.
        assert "failed: there are as many as the parameters allow (limit-reached)" in party.must("proposals", 3).out
        assert party.ask("proposals", 3)["reason"] == "limit-reached"
        assert "vetoed: too much of it has vetoed (parameter veto)" in party.must("proposals", 4).out


def test_what_is_exported_is_what_is_imported_and_both_are_sound(party, fedmeta, tmp_path):
    height = party.ask("status")["height"]
    out, copy = tmp_path / "fed.ledger", tmp_path / "copy"
    assert fedmeta("ledger", "export", party.folder, out).code == 0
    genesis = ("--genesis", party.folder / "genesis.cbor")
    for where in (party.folder, party.folder / "ledger.db", out):
        found = fedmeta("ledger", "verify", where, *genesis, "--json")
        assert (found.code, found.json["sound"]) == (0, True)
        assert found.json["height"] >= height
    assert fedmeta("ledger", "import", out, copy).code == 0
    assert "Sound" in fedmeta("ledger", "verify", copy, *genesis).out
    with served(copy, "--key", party.key("sequencer"), "--empty-interval", 10) as node:
        assert fedmeta("ledger", "round", 1, "--node", node, "--json").json == party.ask("round", 1)
    again = fedmeta("ledger", "export", party.folder, out)
    assert (again.code, again.err.count("\n"), "exists" in again.err) == (1, 1, True)


def test_a_member_changes_its_key_and_its_profile(party, tmp_path):
    assert run("ledger", "key", "new", tmp_path / "new.pem").code == 0
    assert stat.S_IMODE((tmp_path / "new.pem").stat().st_mode) == 0o600
    party.must("members", "rotate", tmp_path / "new.pem", by="north")
    stale = party.run("stake", "bond", 1, by="north")
    assert (stale.code, "bad-signature" in stale.err) == (1, True)
    new = ("--key", tmp_path / "new.pem", "--as", "north")
    party.must("members", "profile", "--title", "North [bold]Hospital[/]", *new)
    assert "North [bold]Hospital[/]" in party.must("members", "north").out
    assert party.ask("members", "north")["public"] == keyfile.load(tmp_path / "new.pem").public.hex()
    party.key("north").write_bytes((tmp_path / "new.pem").read_bytes())


def test_events_blocks_transactions_and_proofs_can_be_looked_up(party):
    before = party.ask("supply")["bonded"]
    sent = json.loads(party.must("stake", "bond", 700, "--json", by="south").out)
    # Rewards are settled as well, if there were any before.
    kinds = [one["kind"] for one in sent["events"] if one["kind"] != "rewards-settled"]
    assert kinds == ["transaction-applied", "staked"]
    lines = party.must("events", "--from", sent["height"], "--kind", "staked", "--json").out.splitlines()
    assert [json.loads(line)["fields"]["amount"] for line in lines] == [700]
    assert "amount 700" in party.must("block", sent["height"]).out
    assert party.ask("transaction", sent["digest"])["body"] == {"amount": 700}
    assert party.ask("supply")["bonded"] == before + 700
    genesis = ("--genesis", party.folder / "genesis.cbor")
    assert party.ask("proof", "delegation", "south", "south", *genesis)["record"]["shares"] == 20_700_000_000
    assert "node's word" in party.must("proof", "member", "south").out


def test_every_proposal_can_be_made_by_hand(party):
    public = run("ledger", "key", "new", party.folder / "coast.pem").out.strip()
    beside = party.folder.parent
    actions = (
        ("parameters", "round_pool=2_000"),
        ("parameters", "contributor_share=600000", "super_node_share=300000"),
        ("admit", "coast2", "coast-hospital", public, "--full-name", "Coast Hospital"),
        ("remove", "west"),
        ("spend", "west", 500),
        ("recipe", beside / "recipe.toml", "--model", beside / "first.model", "--name", "Anew", "--interval", 5),
        ("recipe", beside / "recipe.toml", "--retire"),
        ("upgrade", PROTOCOL + 1, 1_000_000),
    )
    for at, action in enumerate(actions):
        # One organisation may have few proposals at once.
        party.must("propose", *action, by=("west", "south")[at % 2])
    kinds = [one["action"]["kind"] for one in party.ask("proposals")]
    assert set(kinds) | {"annul-slash"} == set(ACTIONS)
    told = party.must("proposals").out
    for words in (
        "set round_pool to 2,000",
        "admit coast2 of coast-hospital",
        "pay west 500 units",
        f"protocol {PROTOCOL + 1} from",
    ):
        assert words in told
    retired = party.ask("proposals", 7)["action"]
    assert (retired["title"], retired["interval"], retired["active"]) == ("Readmission", 100_000, False)
    wrong = party.run("propose", "parameters", "quorum=0", by="west")
    assert (wrong.code, wrong.err.count("\n"), "bad-value" in wrong.err) == (1, 1, True)


# All of it.


def test_every_query_transaction_and_action_can_be_reached():
    assert set(re.findall(r'\.query\(\s*"([a-z]+)"', SOURCES)) == set(QUERIES)
    used = set(re.findall(r"\btx\.([A-Z]\w+)\(", SOURCES))
    assert used == {cls.__name__ for cls in TRANSACTIONS.values()}
    assert set(re.findall(r'_propose\(way, title, "([a-z-]+)"', SOURCES)) == set(ACTIONS)


def test_every_command_has_an_example_that_names_it_and_no_option_twice():
    for path, command in commands():
        name = " ".join(path)
        text = command.get_help(click.Context(command, info_name=name, help_option_names=["-h", "--help"]))
        assert f"fedmeta ledger {name}" in text, name
        names = [one.name for one in command.params]
        assert len(names) == len(set(names)), name


@pytest.mark.parametrize(
    "words",
    [
        (name, *argument)
        for name, argument in {
            "status": (),
            "members": (),
            "members show": ("west",),
            "candidate": (),
            "candidate show": ("west",),
            "validators": (),
            "term": (),
            "round": (),
            "round show": (1,),
            "fault": (),
            "proposals": (),
            "explain": ("west",),
            "fairness": (),
            "supply": (),
            "parameters": (),
            "parameters round_pool": (),
            "recipes": (),
            "recipes show": (),
            "round sealed": (),
            "block": (),
        }.items()
    ],
    ids=lambda words: words[0],
)
def test_what_is_asked_is_answered_in_words_and_in_json(party, words):
    name, *arguments = words
    plain = party.must(*name.split(), *arguments)
    assert plain.out.strip()
    assert plain.err == ""
    assert party.ask(*name.split(), *arguments) is not None


def test_the_ledgers_commands_wait_for_neither_jax_nor_numpy():
    code = (
        "import sys\nfrom fedmeta.cli import main\n"
        "try:\n    main(['ledger', 'status', '--node', 'http://127.0.0.1:1'])\n"
        "except SystemExit as ended:\n    assert ended.code == 1\n"
        "print(sorted({'jax', 'numpy', 'fastapi', 'uvicorn'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
