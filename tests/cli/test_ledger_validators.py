"""A ledger whose super nodes decide the blocks, on the command line: what each of them makes on its own host."""

import json
import stat
import tomllib
from dataclasses import replace

import pytest

from fedmeta.cli.ledger import founding, host
from fedmeta.cli.ledger.folder import Folder
from fedmeta.cli.ledger.node import tell_listening
from fedmeta.errors import DataError, UnknownName
from fedmeta.govern.client import keyfile
from fedmeta.govern.engines.cometbft import home as homes
from fedmeta.govern.engines.cometbft.config import Peer, StateSync
from fedmeta.govern.engines.cometbft.engine import CometEngine
from fedmeta.govern.engines.files import locked
from fedmeta.govern.engines.store import Store
from fedmeta.govern.machine.genesis import decode_genesis
from fedmeta.govern.wire import transactions as tx
from fedmeta.govern.wire.signatures import Key, verify
from tests.cli.serving import SHORT

SEATS = ("north", "east", "south", "west")
HEAD = 'chain_id = "hosts"\nengine = "cometbft"\ntime = 1_700_000_000_000\ntreasury = 1_000_000\n'
REST = 'organisation = "{0}-org"\nstake = 20_000\n'


@pytest.fixture
def laid(fedmeta, tmp_path):
    """The folder of a ledger that was made for all its validators, on one machine."""
    source = tmp_path / "short.toml"
    (tmp_path / "recipe.toml").write_text("a recipe")
    (tmp_path / "first.model").write_text("a model")
    source.write_text(SHORT)
    done = fedmeta("ledger", "init", tmp_path / "fed", "--from", source, "--engine", "cometbft")
    assert done.code == 0, done.err
    return tmp_path / "fed"


@pytest.fixture
def hosts(fedmeta, tmp_path):
    """Four folders with keys, and a file with their public halves."""
    lines = [HEAD]
    for at, name in enumerate(SEATS):
        made = fedmeta("ledger", "validators", "new", tmp_path / name, "--as", name, "--at", f"10.0.0.{at + 1}:26656")
        assert made.code == 0, made.err
        lines.append(made.out + REST.format(name))
    source = tmp_path / "federation.toml"
    source.write_text("\n".join(lines))
    return source


def own(path):
    return Folder(path).home


def genesis_of(path):
    return decode_genesis((path / "genesis.cbor").read_bytes())


def refused(done, *words):
    assert (done.code, done.err.count("\n")) in ((1, 1), (2, 1)), done.err
    for one in words:
        assert one in done.err, done.err


# For all of them.


def test_init_makes_a_folder_for_each_candidate_with_the_key_that_the_genesis_names(laid):
    genesis = genesis_of(laid)
    assert genesis.validators
    assert {one.member: one.consensus for one in genesis.candidates} == {
        name: homes.consensus_key(own(laid / name)) for name in SEATS
    }
    assert {path.name for path in laid.iterdir()} == {*SEATS, "keys", "federation.toml", "genesis.cbor"}
    for name in SEATS:
        assert (laid / name / "genesis.cbor").read_bytes() == (laid / "genesis.cbor").read_bytes()
        with Store.read(laid / name / "ledger.db") as store:
            assert decode_genesis(store.genesis) == genesis
        assert stat.S_IMODE((laid / name / "cometbft").stat().st_mode) == 0o700
        told = json.loads(own(laid / name).genesis.read_text())
        assert told["chain_id"] == f"fedmeta-{genesis.digest.hex()[:40]}"
        assert told["validators"] == []


def test_each_dials_all_the_others_where_they_listen(laid):
    files = {name: host.read(laid / name / "validator.toml") for name in SEATS}
    where = {name: Peer(homes.own_id(own(laid / name)), one.listen) for name, one in files.items()}
    assert len({one.address for one in where.values()}) == 4
    for name, one in files.items():
        assert set(one.peers) == {peer for other, peer in where.items() if other != name}


def test_the_example_can_be_made_so_and_verified(fedmeta, tmp_path):
    done = fedmeta("ledger", "init", tmp_path / "fed", "--engine", "cometbft")
    assert done.code == 0
    for at, name in enumerate(SEATS):
        assert f"fedmeta ledger serve {tmp_path / 'fed' / name} --port {7878 + at}" in done.out
    assert fedmeta("ledger", "verify", tmp_path / "fed" / "north").code == 0


def test_a_copy_of_such_a_ledger_is_no_validator_and_says_so(fedmeta, laid, tmp_path):
    assert fedmeta("ledger", "export", laid / "north", tmp_path / "file").code == 0
    done = fedmeta("ledger", "import", tmp_path / "file", tmp_path / "copy")
    assert (done.code, "join them" in done.out) == (0, True)
    refused(fedmeta("ledger", "validators", "reset", tmp_path / "copy", "--yes"), "has no CometBFT")


def test_without_the_engine_the_example_has_a_sequencer(fedmeta, tmp_path):
    assert fedmeta("ledger", "init", tmp_path / "fed").code == 0
    assert not genesis_of(tmp_path / "fed").validators


# Each on its own host.


def test_each_host_makes_the_same_genesis_and_its_own_folder(fedmeta, hosts, tmp_path):
    before = {name: own(tmp_path / name).consensus_key.read_bytes() for name in SEATS}
    found = []
    for name in SEATS:
        done = fedmeta("ledger", "init", tmp_path / name, "--from", hosts, "--json")
        assert done.code == 0, done.err
        found.append(done.json["genesis"])
        assert done.json["folders"] == {name: str(tmp_path / name)}
    assert len(set(found)) == 1
    genesis = genesis_of(tmp_path / "west")
    assert genesis.digest.hex() == found[0]
    for at, name in enumerate(SEATS):
        place = tmp_path / name
        assert own(place).consensus_key.read_bytes() == before[name]
        assert {path.name for path in (place / "keys").iterdir()} == {f"{name}.pem"}
        public = next(one.public for one in genesis.members if one.name == name)
        assert keyfile.load(place / "keys" / f"{name}.pem").public == public
        told = host.read(place / "validator.toml")
        assert (told.listen, told.advertised) == ("0.0.0.0:26656", f"10.0.0.{at + 1}:26656")
        assert [one.address for one in told.peers] == [f"10.0.0.{n + 1}:26656" for n in range(4) if n != at]


def test_init_that_was_killed_half_way_can_be_done_again(fedmeta, hosts, tmp_path, monkeypatch):
    def killed(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(founding, "_write_genesis", killed)
        assert fedmeta("ledger", "init", tmp_path / "north", "--from", hosts).code == 1
    assert not (tmp_path / "north" / "genesis.cbor").exists()
    assert fedmeta("ledger", "init", tmp_path / "north", "--from", hosts).code == 0
    refused(fedmeta("ledger", "init", tmp_path / "north", "--from", hosts), "exists")


def test_the_public_halves_are_toml_and_no_private_one_is_among_them(fedmeta, tmp_path):
    done = fedmeta("ledger", "validators", "new", tmp_path / "v", "--as", "north", "--at", "north.example:26656")
    (member,) = tomllib.loads(done.out)["members"]
    assert bytes.fromhex(member["consensus"]) == homes.consensus_key(own(tmp_path / "v"))
    account = keyfile.load(tmp_path / "v" / "keys" / "north.pem")
    assert bytes.fromhex(member["public"]) == account.public
    assert member["nodes"] == [f"{homes.own_id(own(tmp_path / 'v'))}@north.example:26656"]
    for private in (account, homes.consensus_private(own(tmp_path / "v"))):
        assert private.seed.hex() not in done.out
    again = fedmeta("ledger", "validators", "keys", tmp_path / "v", "--json").json
    assert (again["consensus"], [again["node"]]) == (member["consensus"], member["nodes"])


def test_an_account_key_that_is_elsewhere_and_a_signer_leave_no_key_here(fedmeta, tmp_path):
    account, signer = Key.generate().public.hex(), Key.generate().public.hex()
    more = ("--public", account, "--signer", "tcp://10.0.0.1:26659", "--consensus", signer)
    done = fedmeta("ledger", "validators", "new", tmp_path / "v", "--as", "north", "--at", "n.example:26656", *more)
    (member,) = tomllib.loads(done.out)["members"]
    assert (member["public"], member["consensus"]) == (account, signer)
    assert not (tmp_path / "v" / "keys").exists()
    assert not own(tmp_path / "v").consensus_key.exists()
    refused(fedmeta("ledger", "validators", "renew", tmp_path / "v"), "no ledger yet")


WRONG = {
    "no time": (lambda text: text.replace("time = 1_700_000_000_000\n", ""), "time = "),
    "a sequencer": (lambda text: f'sequencer = "{"ab" * 32}"\n{text}', "names a sequencer"),
    "another engine": (lambda text: text.replace('"cometbft"', '"embedded"'), "cannot be cometbft"),
    "an unknown engine": (lambda text: text.replace('"cometbft"', '"cometbtf"'), "cometbft"),
    "a member without a key": (lambda text: f'{text}\n[[members]]\nname = "coast"\norganisation = "c"\n', "coast"),
    "nodes without an id": (lambda text: text.replace('nodes = ["', 'nodes = ["x'), "40 hex digits"),
    "no nodes": (lambda text: text.replace("nodes", "# nodes", 1), "north"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_file_that_does_not_fit_is_refused_in_a_line_and_the_folder_stays_prepared(fedmeta, hosts, tmp_path, what):
    damage, words = WRONG[what]
    hosts.write_text(damage(hosts.read_text()))
    refused(fedmeta("ledger", "init", tmp_path / "north", "--from", hosts), words)
    assert Folder(tmp_path / "north").prepared


def test_a_validator_that_the_file_does_not_name_cannot_begin_with_it(fedmeta, hosts, tmp_path):
    done = fedmeta("ledger", "validators", "new", tmp_path / "river", "--as", "river", "--at", "10.0.0.9:26656")
    assert done.code == 0
    refused(fedmeta("ledger", "init", tmp_path / "river", "--from", hosts), "no candidate has the consensus key")
    refused(fedmeta("ledger", "init", tmp_path / "river"), "--from")
    refused(fedmeta("ledger", "init", tmp_path / "river", "--from", hosts, "--engine", "embedded"), "cometbft")
    refused(fedmeta("ledger", "init", tmp_path / "all", "--from", hosts), "made keys on a host of its own")
    refused(fedmeta("ledger", "serve", tmp_path / "river"), "no ledger yet")


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"--as": "North Hospital"}, "1 to 32"),
        ({"--at": "north.example"}, "where a node listens"),
        ({"--listen": ":26656"}, "where a node listens"),
        ({"--signer": "tcp://10.0.0.1:26659"}, "go together"),
        ({"--consensus": "ab" * 32}, "go together"),
    ],
)
def test_new_says_what_is_wrong_and_makes_nothing(fedmeta, tmp_path, changed, words):
    options = {"--as": "north", "--at": "north.example:26656", **changed}
    flat = [word for pair in options.items() for word in pair]
    refused(fedmeta("ledger", "validators", "new", tmp_path / "v", *flat), words)
    assert not any(tmp_path.iterdir())


# The host's own file.


def test_what_is_written_of_a_host_is_read_again(tmp_path):
    peers = (Peer("ab" * 20, "north.example:26656"), Peer("00" * 20, "[::1]:1"))
    sync = StateSync(("http://a/light", "http://b/light"), 29, bytes(range(32)), 600)
    told = host.HostFile(
        member="north",
        advertised="n:1",
        peers=peers,
        unconditional=("cd" * 20,),
        metrics="127.0.0.1:26660",
        signer="tcp://10.0.0.1:26659",
        consensus="ef" * 32,
        state_sync=sync,
    )
    for one in (told, replace(told, state_sync=None), host.HostFile()):
        host.write(tmp_path / "validator.toml", one)
        assert host.read(tmp_path / "validator.toml") == one


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("peer = []", UnknownName),
        ('peers = ["ab@n:1"]', DataError),
        ("peers = [5]", DataError),
        ("listen = 26656", DataError),
        ('listen = "n"', DataError),
        ('signer = "tcp://10.0.0.1:1"', DataError),
        ("= ", DataError),
    ],
)
def test_a_host_file_that_says_something_else_is_refused(tmp_path, line, error):
    (tmp_path / "validator.toml").write_text(line)
    with pytest.raises(error, match=r"validator\.toml"):
        host.read(tmp_path / "validator.toml")


# Serving: what is looked at before anything starts.


@pytest.fixture
def program(tmp_path, monkeypatch):
    """A program that says it is CometBFT, and is never started."""
    path = tmp_path / "cometbft"
    path.write_text("#!/bin/sh\necho 0.38.26\n")
    path.chmod(0o755)
    monkeypatch.setenv("FEDMETA_COMETBFT", str(path))
    return path


def test_serving_without_the_program_says_how_to_have_it(fedmeta, laid, monkeypatch):
    monkeypatch.setenv("FEDMETA_COMETBFT", str(laid / "nowhere"))
    refused(fedmeta("ledger", "serve", laid / "north"), "FEDMETA_COMETBFT names")
    monkeypatch.delenv("FEDMETA_COMETBFT")
    refused(fedmeta("ledger", "serve", laid / "north", "--cometbft", laid / "no"), "--cometbft names")


def test_serving_without_the_extra_says_which_it_is(fedmeta, laid, monkeypatch):
    monkeypatch.setattr("fedmeta._extras._is_there", lambda package: package != "google.protobuf")
    refused(fedmeta("ledger", "serve", laid / "north"), "fedmeta[cometbft]")


def test_serving_the_folder_of_all_names_one_of_them(fedmeta, laid):
    refused(fedmeta("ledger", "serve", laid), f"serve one, such as {laid / 'east'}")


def test_options_of_the_other_engine_are_refused(fedmeta, laid, program, tmp_path):
    refused(fedmeta("ledger", "serve", laid / "north", "--key", laid / "keys" / "north.pem"), "no sequencer signs")
    assert fedmeta("ledger", "init", tmp_path / "one").code == 0
    refused(fedmeta("ledger", "serve", tmp_path / "one", "--cometbft", program), "a sequencer orders the blocks")
    refused(fedmeta("ledger", "serve", tmp_path / "one", "--prune"), "--snapshot-every")


def test_a_consensus_key_without_its_signing_state_does_not_start(fedmeta, laid, program):
    own(laid / "north").signing_state.unlink()
    refused(fedmeta("ledger", "serve", laid / "north"), "could sign two blocks", "Register a new consensus key")
    assert fedmeta("ledger", "validators", "renew", laid / "north").code == 0
    homes.check(own(laid / "north"))


def test_a_node_whose_key_is_not_on_the_ledger_says_that_it_only_listens(fedmeta, laid, capsys):
    place = Folder(laid / "east")

    def said():
        capsys.readouterr()
        with CometEngine.open(place.database, place.home.rpc) as engine:
            tell_listening(place, engine)
        return capsys.readouterr().out

    assert said() == ""
    assert fedmeta("ledger", "validators", "renew", laid / "east").code == 0
    assert said().startswith("this node listens, and decides no blocks: after block 0 its consensus key is not east's")


# After a lost machine, and after a halt.


def test_renew_takes_a_key_that_has_signed_nothing_and_proves_that_it_is_the_members(fedmeta, laid):
    before = homes.consensus_key(own(laid / "east"))
    own(laid / "east").signing_state.write_text('{"height": "12", "round": 0, "step": 3}')
    done = fedmeta("ledger", "validators", "renew", laid / "east", "--json")
    public, proof = (bytes.fromhex(one) for one in done.json["proven"].split(":"))
    assert public != before
    assert public == homes.consensus_key(own(laid / "east"))
    assert json.loads(own(laid / "east").signing_state.read_text())["height"] == "0"
    verify(public, tx.possession(genesis_of(laid).digest, "east", public), proof)
    shown = fedmeta("ledger", "validators", "keys", laid / "east", "--json").json
    assert shown["proven"] == done.json["proven"]
    assert fedmeta("ledger", "validators", "keys", laid / "east", "--proven").out.strip() == shown["proven"]


def test_reset_takes_all_but_the_keys_and_what_they_signed(fedmeta, laid):
    home = own(laid / "south")
    signed = '{"height": "12", "round": 0, "step": 3}'
    home.signing_state.write_text(signed)
    keys = [path.read_bytes() for path in (home.consensus_key, home.node_key)]
    (home.folder / "data" / "state.db").mkdir()
    (home.folder / "data" / "state.db" / "LOG").write_text("blocks")
    (laid / "south" / "ledger.db").write_bytes(b"damaged")
    assert fedmeta("ledger", "validators", "reset", laid / "south", "--yes").code == 0
    assert [path.name for path in (home.folder / "data").iterdir()] == ["priv_validator_state.json"]
    assert home.signing_state.read_text() == signed
    assert [path.read_bytes() for path in (home.consensus_key, home.node_key)] == keys
    assert fedmeta("ledger", "verify", laid / "south").code == 0


@pytest.mark.parametrize("command", [("renew",), ("reset", "--yes")])
def test_neither_is_done_while_the_ledger_is_served(fedmeta, laid, command):
    name, *more = command
    with locked(laid / "west" / "ledger.db"):
        refused(fedmeta("ledger", "validators", name, laid / "west", *more), "in use by another process")
    before = own(laid / "west").consensus_key.read_bytes()
    with homes.held(own(laid / "west")):
        refused(fedmeta("ledger", "validators", name, laid / "west", *more), "another process runs CometBFT")
    assert own(laid / "west").consensus_key.read_bytes() == before


def test_reset_is_not_done_to_a_ledger_that_nobody_else_has(fedmeta, tmp_path):
    assert fedmeta("ledger", "init", tmp_path / "one").code == 0
    refused(fedmeta("ledger", "validators", "reset", tmp_path / "one", "--yes"), "cannot be had from others")


def test_what_is_no_proven_key_is_refused_before_anything_is_asked(fedmeta, laid):
    done = fedmeta("ledger", "members", "consensus-key", "ab" * 32, "--key", laid / "keys" / "north.pem")
    refused(done, "PUBLIC-KEY:PROOF")


# Joining.


@pytest.fixture
def river(fedmeta, tmp_path):
    assert fedmeta("ledger", "validators", "new", tmp_path / "v", "--as", "river", "--at", "10.0.0.9:26656").code == 0
    return tmp_path / "v"


def test_who_joins_begins_with_the_genesis_it_was_given_and_its_own_keys(fedmeta, laid, river):
    before = homes.consensus_key(own(river))
    node = fedmeta("ledger", "validators", "keys", laid / "north", "--json").json["node"]
    done = fedmeta("ledger", "validators", "join", river, "--genesis", laid / "genesis.cbor", "--peer", node)
    assert done.code == 0, done.err
    assert genesis_of(river) == genesis_of(laid)
    assert homes.consensus_key(own(river)) == before
    told = host.read(river / "validator.toml")
    assert (told.member, list(map(str, told.peers)), told.state_sync) == ("river", [node], None)
    assert own(river).genesis.read_bytes() == own(laid / "north").genesis.read_bytes()
    assert fedmeta("ledger", "verify", river).code == 0


@pytest.mark.parametrize(
    "more", [("--checkpoint", f"5:{'ab' * 32}"), ("--node", "http://a"), ("--node", "http://a", "--node", "http://b")]
)
def test_a_snapshot_needs_a_checkpoint_and_two_nodes(fedmeta, laid, river, more):
    peer = f"{'ab' * 20}@north.example:26656"
    done = fedmeta("ledger", "validators", "join", river, "--genesis", laid / "genesis.cbor", "--peer", peer, *more)
    refused(done, "--node at least twice")
    assert Folder(river).prepared


def test_only_a_prepared_folder_joins_and_only_a_ledger_of_validators(fedmeta, laid, river, tmp_path):
    peer = f"{'ab' * 20}@north.example:26656"
    join = ("ledger", "validators", "join")
    refused(fedmeta(*join, laid / "north", "--genesis", laid / "genesis.cbor", "--peer", peer), "validators new")
    assert fedmeta("ledger", "init", tmp_path / "one").code == 0
    other = tmp_path / "one" / "genesis.cbor"
    refused(fedmeta(*join, river, "--genesis", other, "--peer", peer), "a sequencer orders")
    refused(fedmeta(*join, river, "--genesis", laid / "genesis.cbor", "--peer", "north.example:26656"), "is no node")
