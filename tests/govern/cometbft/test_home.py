"""CometBFT's folder: what is in it, that it is there whole or not at all, and when a validator must not start."""

import base64
import dataclasses
import json
import os
import stat
import subprocess
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmeta.govern.engines.cometbft import abci, home
from fedmeta.govern.engines.cometbft.config import Peer, Settings, StateSync, config_toml
from fedmeta.govern.errors import EngineError, KeyFileError
from fedmeta.govern.wire.signatures import Key
from tests.govern.cometbft.network import PARAMETERS, needs_cometbft, program

CONSENSUS, NODE = Key.from_seed(bytes(range(32))), Key.from_seed(bytes(32))
GENESIS = home.genesis_json("chain", 1_700_000_000_250, PARAMETERS)
SETTINGS = Settings(name="north", application=Path("/run/app.sock"), rpc=Path("/run/rpc.sock"))
IDS = ["0" * 40, "ab" * 20]


@pytest.fixture
def made(tmp_path):
    """A folder as it is made, with its settings."""
    found = home.create(tmp_path / "cometbft", GENESIS, NODE, CONSENSUS)
    home.configure(found, dataclasses.replace(SETTINGS, rpc=found.rpc))
    return found


def test_the_address_and_the_id_are_those_of_cometbft():
    # The key and the address that `cometbft init` wrote.
    public = base64.b64decode("SbTRHsy51qoJQoBVjEq/wgh41CiS70Gx2VP/aFgxEcI=")
    assert home.address_of(public).hex().upper() == "235A2AC29F945E892D9449A3ED54DF7987987DC4"
    assert home.node_id(public) == "235a2ac29f945e892d9449a3ed54df7987987dc4"


def test_what_is_made_is_for_its_user_alone(made):
    home.check(made)
    for path in [made.folder, *made.folder.rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_the_keys_are_those_that_were_given(made):
    found = json.loads(made.consensus_key.read_text())
    assert base64.b64decode(found["priv_key"]["value"]) == CONSENSUS.seed + CONSENSUS.public
    assert home.consensus_key(made) == CONSENSUS.public
    node = json.loads(made.node_key.read_text())
    assert base64.b64decode(node["priv_key"]["value"]) == NODE.seed + NODE.public
    assert json.loads(made.signing_state.read_text()) == {"height": "0", "round": 0, "step": 0}


def test_the_genesis_says_what_it_was_given():
    found = json.loads(GENESIS)
    assert found["genesis_time"] == "2023-11-14T22:13:20.250Z"
    assert found["validators"] == []
    assert found["consensus_params"] == {
        "block": {"max_bytes": "1048576", "max_gas": "-1"},
        "evidence": {"max_age_num_blocks": "1000", "max_age_duration": "3600000000000", "max_bytes": "65536"},
        "validator": {"pub_key_types": ["ed25519"]},
        "version": {"app": "1"},
        "abci": {"vote_extensions_enable_height": "0"},
    }


@needs_cometbft
def test_cometbft_reads_the_same_keys_from_the_folder(made):
    def says(*words):
        command = [program()[0], *words, "--home", str(made.folder)]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.strip()

    assert says("show-node-id") == home.node_id(NODE.public)
    assert base64.b64decode(json.loads(says("show-validator"))["value"]) == CONSENSUS.public


@needs_cometbft
def test_every_setting_is_one_that_cometbft_has(tmp_path):
    command = [program()[0], "init", "--home", str(tmp_path)]
    subprocess.run(command, capture_output=True, check=True, timeout=60)
    known = tomllib.loads((tmp_path / "config" / "config.toml").read_text())
    ours = tomllib.loads(config_toml(SETTINGS))
    assert set(ours) <= set(known)
    for section, values in ours.items():
        pairs = values.items() if isinstance(values, dict) else [(section, values)]
        for name, value in pairs:
            expected = known[section][name] if isinstance(values, dict) else known[name]
            assert type(value) is type(expected), f"{section}.{name}"


def test_settings_stand_where_cometbft_looks_for_them():
    sync = StateSync(("a:1", "b:2"), 9, b"h" * 32, 3_600)
    peers = (Peer(IDS[0], "north.example:26656"), Peer(IDS[1], "[fd00::1]:26656"))
    every = Settings(
        name='a "quoted" \\ naïve name',
        application=Path("/run/a b/app.sock"),
        rpc=Path("/run/rpc.sock"),
        listen="127.0.0.1:1",
        advertised="north.example:2",
        peers=peers,
        unconditional=(IDS[1], "c" * 40),
        block_interval=700,
        empty_interval=4_000,
        max_tx_bytes=1_000,
        signer="tcp://10.0.0.1:26659",
        rpc_listen="tcp://10.0.0.1:26657",
        state_sync=sync,
        metrics="127.0.0.1:26660",
    )
    found = tomllib.loads(config_toml(every))
    assert found["moniker"] == every.name
    assert found["proxy_app"] == "unix:///run/a b/app.sock"
    assert found["priv_validator_laddr"] == every.signer
    assert found["rpc"]["laddr"] == "unix:///run/rpc.sock,tcp://10.0.0.1:26657"
    assert found["rpc"]["max_body_bytes"] > 1_000 * 4 / 3
    assert found["p2p"]["laddr"] == "tcp://127.0.0.1:1"
    assert found["p2p"]["external_address"] == "north.example:2"
    assert found["p2p"]["persistent_peers"] == f"{IDS[0]}@north.example:26656,{IDS[1]}@[fd00::1]:26656"
    assert found["p2p"]["unconditional_peer_ids"].split(",") == [*IDS, "c" * 40]
    assert found["mempool"]["max_tx_bytes"] == 1_000
    assert found["consensus"]["timeout_commit"] == "700ms"
    assert found["consensus"]["create_empty_blocks_interval"] == "4000ms"
    assert found["statesync"] == {
        "enable": True,
        "rpc_servers": "a:1,b:2",
        "trust_height": 9,
        "trust_hash": "68" * 32,
        "trust_period": "3600s",
        "temp_dir": "data",
    }
    assert found["instrumentation"]["prometheus"] is True


def test_by_default_nothing_listens_but_a_socket_and_the_port_for_peers():
    found = tomllib.loads(config_toml(SETTINGS))
    assert found["rpc"]["laddr"] == "unix:///run/rpc.sock"
    assert found["statesync"]["enable"] is found["instrumentation"]["prometheus"] is found["rpc"]["unsafe"] is False
    assert found["priv_validator_laddr"] == found["rpc"]["pprof_laddr"] == ""
    assert found["p2p"]["pex"] is False


@pytest.mark.parametrize(("count", "pause"), [(3, "10ms"), (63, "63ms")])
def test_who_has_many_peers_looks_at_each_less_often(count, pause):
    peers = tuple(Peer(f"{number:040x}", "a:1") for number in range(count))
    found = tomllib.loads(config_toml(dataclasses.replace(SETTINGS, peers=peers)))
    assert found["consensus"]["peer_gossip_sleep_duration"] == pause


@given(st.text(st.characters(min_codepoint=32, exclude_characters="\x7f", exclude_categories=["Cs"]), max_size=30))
def test_any_name_is_a_name_in_the_file(name):
    assert tomllib.loads(config_toml(dataclasses.replace(SETTINGS, name=name)))["moniker"] == name


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"name": "two\nlines"}, "control character"),
        ({"peers": (Peer("AB" * 20, "a:1"),)}, "40 hex digits"),
        ({"unconditional": ("abc",)}, "40 hex digits"),
        ({"peers": (Peer(IDS[0], "a"),)}, "where a node listens"),
        ({"peers": (Peer(IDS[0], "a:1,b:2"),)}, "where a node listens"),
        ({"listen": "0.0.0.0:99999"}, "where a node listens"),
        ({"block_interval": 0}, "block_interval is 0"),
        ({"rpc": Path("/" + "a" * 107)}, "at most 107"),
        ({"state_sync": StateSync(("a:1",), 9, b"h" * 32, 60)}, "two RPC servers"),
        ({"state_sync": StateSync(("a:1", "b:1"), 9, b"h", 60)}, "hash of 32 bytes"),
        ({"state_sync": StateSync(("a:1", "b:1"), 9, b"h" * 32, 0)}, "trust period"),
    ],
)
def test_a_setting_that_cannot_be_is_named(wrong, words):
    with pytest.raises(EngineError, match=words):
        config_toml(dataclasses.replace(SETTINGS, **wrong))


@pytest.mark.parametrize(
    ("chain", "parameters", "words"),
    [
        ("", PARAMETERS, "0 characters"),
        ("c" * 51, PARAMETERS, "51 characters"),
        ("chain", abci.ConsensusParameters(), "all parameters"),
    ],
)
def test_a_genesis_that_cometbft_would_refuse_is_not_written(chain, parameters, words):
    with pytest.raises(EngineError, match=words):
        home.genesis_json(chain, 0, parameters)


def test_a_folder_is_not_made_over_another_and_not_in_part(tmp_path, made):
    with pytest.raises(EngineError, match="exists"):
        home.create(made.folder, GENESIS, NODE, CONSENSUS)
    with pytest.raises(EngineError, match="cannot make"):
        home.create(tmp_path / "none" / "cometbft", GENESIS, NODE, CONSENSUS)
    assert os.listdir(tmp_path) == ["cometbft"]


def test_a_validator_without_its_signing_state_does_not_start(made):
    made.signing_state.unlink()
    with pytest.raises(KeyFileError, match="sign two blocks of one height"):
        home.check(made)
    # A signer apart keeps its own.
    home.check(made, signer=True)
    made.consensus_key.unlink()
    home.check(made, signer=True)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"height": "-1"}', '{"height": null}', "null"])
def test_a_signing_state_that_says_nothing_is_none(made, text):
    made.signing_state.write_text(text)
    with pytest.raises(KeyFileError, match="damaged"):
        home.check(made)


def test_a_validator_without_its_key_does_not_get_another_by_chance(made):
    made.consensus_key.unlink()
    with pytest.raises(KeyFileError, match="nobody knows"):
        home.check(made)


@pytest.mark.parametrize("change", ["text", "public", "short"])
def test_a_damaged_consensus_key_is_named(made, change):
    found = json.loads(made.consensus_key.read_text())
    if change == "public":
        found["pub_key"]["value"] = base64.b64encode(NODE.public).decode()
    if change == "short":
        found["priv_key"]["value"] = "AAAA"
    made.consensus_key.write_text("no json" if change == "text" else json.dumps(found))
    with pytest.raises(KeyFileError, match=r"damaged|no consensus key"):
        home.check(made)


@pytest.mark.parametrize("name", ["genesis", "node_key", "config"])
def test_a_folder_that_lacks_a_file_is_not_whole(made, name):
    getattr(made, name).unlink()
    with pytest.raises(EngineError, match="is missing"):
        home.check(made)


def test_a_new_key_begins_with_a_state_that_signed_nothing(made):
    made.signing_state.write_text('{"height": "70", "round": 0, "step": 3}')
    with pytest.raises(KeyFileError, match="take a new one"):
        home.renew(made, CONSENSUS)
    assert json.loads(made.signing_state.read_text())["height"] == "70"
    home.renew(made, NODE)
    assert home.consensus_key(made) == NODE.public
    assert json.loads(made.signing_state.read_text())["height"] == "0"
    made.signing_state.unlink()
    home.renew(made, CONSENSUS)
    home.check(made)


def test_a_socket_that_was_left_is_taken_away_before_the_start(made):
    made.rpc.touch()
    home.configure(made, dataclasses.replace(SETTINGS, rpc=made.rpc))
    assert not made.rpc.exists()
