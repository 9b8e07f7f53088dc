"""CometBFT's folder: the keys, the genesis, the state of who signs, and config.toml.

The folder is for one user alone. A validator that has its consensus key but not the state of what it signed could
sign two blocks of one height, for which it is slashed: it does not start.
"""

import base64
import contextlib
import json
import secrets
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock, Timeout

from fedmeta.govern.engines import disk
from fedmeta.govern.engines.cometbft.abci import BlockParameters, ConsensusParameters, EvidenceParameters
from fedmeta.govern.engines.cometbft.config import Settings, config_toml
from fedmeta.govern.errors import BadSignature, EngineError, KeyFileError
from fedmeta.govern.wire.signatures import Key

MAX_CHAIN_ID = 50
"""Characters."""
_FRESH = {"height": "0", "round": 0, "step": 0}
_PUBLIC, _PRIVATE = "tendermint/PubKeyEd25519", "tendermint/PrivKeyEd25519"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Home(NamedTuple):
    """Where things lie in CometBFT's folder."""

    folder: Path

    @property
    def config(self) -> Path:
        """All settings."""
        return self.folder / "config" / "config.toml"

    @property
    def genesis(self) -> Path:
        """What CometBFT calls the genesis, made from the ledger's."""
        return self.folder / "config" / "genesis.json"

    @property
    def node_key(self) -> Path:
        """What it shows itself by to other nodes."""
        return self.folder / "config" / "node_key.json"

    @property
    def consensus_key(self) -> Path:
        """What it signs blocks by."""
        return self.folder / "config" / "priv_validator_key.json"

    @property
    def signing_state(self) -> Path:
        """What it signed last: it must never go back."""
        return self.folder / "data" / "priv_validator_state.json"

    @property
    def rpc(self) -> Path:
        """The socket on which CometBFT listens."""
        return self.folder / "rpc.sock"

    @property
    def application(self) -> Path:
        """The socket on which the application listens."""
        return self.folder / "app.sock"


def node_id(public_key: bytes) -> str:
    """Return the id by which other nodes name the one with this public key: 40 hex digits."""
    return address_of(public_key).hex()


def address_of(public_key: bytes) -> bytes:
    """Return the address, 20 bytes, by which CometBFT names a validator with this public key."""
    return sha256(public_key).digest()[:20]


def genesis_json(chain_id: str, time: int, parameters: ConsensusParameters) -> bytes:
    """Return the text of genesis.json: without validators, which the application names when the chain begins.

    Args:
        chain_id: at most 50 characters.
        time: of the first block, in milliseconds since 1970.
        parameters: all of them; none may be None.

    Raises:
        EngineError: a value is none that CometBFT takes.
    """
    if not 0 < len(chain_id) <= MAX_CHAIN_ID:
        raise EngineError(f"the chain id {chain_id!r} has {len(chain_id)} characters: it must have 1 to {MAX_CHAIN_ID}")
    block, evidence, key_types, app_version = parameters
    if block is None or evidence is None or key_types is None or app_version is None:
        raise EngineError(f"a genesis names all parameters of consensus, but there is {parameters}")
    when = (_EPOCH + timedelta(milliseconds=time)).isoformat(timespec="milliseconds")
    document = {
        "genesis_time": when.replace("+00:00", "Z"),
        "chain_id": chain_id,
        "initial_height": "1",
        "consensus_params": {
            "block": _block(block),
            "evidence": _evidence(evidence),
            "validator": {"pub_key_types": list(key_types)},
            "version": {"app": str(app_version)},
            "abci": {"vote_extensions_enable_height": "0"},
        },
        "validators": [],
        "app_hash": "",
    }
    return _text(document)


def create(folder: Path, genesis: bytes | None, node: Key, consensus: Key | None) -> Home:
    """Make CometBFT's folder, which must not exist; it is there whole, or not at all.

    Args:
        folder: where; of mode 0700.
        genesis: of `genesis_json`; None where it is not known yet, and `set_genesis` is to say it.
        node: the key by which it shows itself to other nodes.
        consensus: the key by which it signs; None where a signer apart has it.

    Raises:
        EngineError: there is one already, or the file system refuses.
    """
    if folder.exists():
        raise EngineError(f"{folder} exists: a folder of CometBFT is never made over another one")
    aside = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
    try:
        for path in (aside, aside / "config", aside / "data"):
            path.mkdir(0o700)
        home = Home(aside)
        if genesis is not None:
            disk.write_new(home.genesis, genesis, 0o600)
        disk.write_new(home.node_key, _text({"priv_key": _tagged(_PRIVATE, node.seed + node.public)}), 0o600)
        if consensus is not None:
            disk.write_new(home.signing_state, _text(_FRESH), 0o600)
            disk.write_new(home.consensus_key, _key_file(consensus), 0o600)
        aside.rename(folder)
        disk.flush(folder.parent)
    except OSError as error:
        raise EngineError(f"cannot make {folder}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return Home(folder)


def set_genesis(home: Home, genesis: bytes) -> None:
    """Say what the chain begins with, where CometBFT has not run yet; raises `KeyFileError` if it cannot be written."""
    _replace(home.genesis, genesis)


def forget(home: Home) -> None:
    """Let CometBFT begin anew, with the blocks of its peers: all it knows but its keys and what it signed goes.

    CometBFT must not run, and the application must begin anew as well. Who signed a block remembers it, so that it
    does not sign another of that height.

    Raises:
        EngineError: the file system refuses.
    """
    kept = home.signing_state
    try:
        for path in kept.parent.iterdir():
            if path != kept:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        disk.flush(kept.parent)
    except OSError as error:
        raise EngineError(f"cannot empty {kept.parent}: {error.strerror or error}") from error


def renew(home: Home, consensus: Key) -> None:
    """Give a validator a new consensus key, with a state that has signed nothing: after a lost machine.

    CometBFT must not run. The key must be new: to sign again by one that signed before is what is slashed.

    Raises:
        KeyFileError: it is the key that is there already, or cannot be written.
    """
    if home.consensus_key.exists() and consensus_key(home) == consensus.public:
        raise KeyFileError(f"{home.consensus_key} holds this key already: take a new one")
    # In this order: a crash between the two leaves the new key with a state that lets it sign too little.
    _replace(home.consensus_key, _key_file(consensus))
    _replace(home.signing_state, _text(_FRESH))


@contextlib.contextmanager
def held(home: Home) -> Iterator[None]:
    """Hold the folder, so that no other process starts CometBFT in it; raises `EngineError` where one has."""
    lock = FileLock(home.folder / "lock", timeout=0, thread_local=False)
    try:
        lock.acquire()
    except Timeout as error:
        raise EngineError(f"another process runs CometBFT in {home.folder}: end that one first") from error
    except OSError as error:
        raise EngineError(f"cannot lock {home.folder}: {error.strerror or error}") from error
    try:
        yield
    finally:
        lock.release()


def configure(home: Home, settings: Settings) -> None:
    """Write config.toml anew, and take away sockets that a killed process left; raises `EngineError`."""
    text = config_toml(settings).encode()
    try:
        _replace(home.config, text)
        settings.rpc.unlink(missing_ok=True)
    except (OSError, KeyFileError) as error:
        raise EngineError(f"cannot write {home.config}: {error}") from error


def consensus_key(home: Home) -> bytes:
    """Return the public key by which this validator signs, 32 bytes; raises `KeyFileError`."""
    found = _read(home.consensus_key)
    key = _private(home.consensus_key, found)
    try:
        public = base64.b64decode(found["pub_key"]["value"], validate=True)
    except (KeyError, TypeError, ValueError) as error:
        raise KeyFileError(f"{home.consensus_key} is no consensus key of CometBFT's: {error!r}") from error
    if key.public != public:
        raise KeyFileError(f"{home.consensus_key} is damaged: its private key is not that of its public key")
    return public


def own_id(home: Home) -> str:
    """Return the id by which other nodes name this one; raises `KeyFileError`."""
    return node_id(_private(home.node_key, _read(home.node_key)).public)


def consensus_private(home: Home) -> Key:
    """Return the key by which this validator signs, to prove that it has it; raises `KeyFileError`."""
    return _private(home.consensus_key, _read(home.consensus_key))


def check(home: Home, signer: bool = False) -> None:
    """Look whether CometBFT may start in this folder; `signer` says that a process apart signs.

    Raises:
        KeyFileError: the consensus key is missing or damaged, or is there without the state of what it signed.
        EngineError: another file is missing.
    """
    for path in (home.genesis, home.node_key, home.config):
        if not path.is_file():
            raise EngineError(f"{path} is missing: {home.folder} is no folder of CometBFT that was made whole")
    if signer:
        return
    if not home.consensus_key.is_file():
        raise KeyFileError(
            f"{home.consensus_key} is missing, and CometBFT would make one that nobody knows: restore it together with "
            f"{home.signing_state}, or register a new key"
        )
    consensus_key(home)
    if not home.signing_state.is_file():
        raise KeyFileError(
            f"{home.signing_state} is missing while {home.consensus_key.name} is there: started so, this validator "
            "could sign two blocks of one height, and be slashed. Register a new consensus key"
        )
    found = _read(home.signing_state)
    if not (isinstance(found, dict) and str(found.get("height", "")).isdecimal()):
        raise KeyFileError(f"{home.signing_state} is damaged: register a new consensus key")


def _private(path: Path, found: Any) -> Key:
    try:
        return Key.from_seed(base64.b64decode(found["priv_key"]["value"], validate=True)[:32])
    except (KeyError, TypeError, ValueError, BadSignature) as error:
        raise KeyFileError(f"{path} is no key of CometBFT's: {error!r}") from error


def _block(block: BlockParameters) -> dict[str, str]:
    return {"max_bytes": str(block.max_bytes), "max_gas": str(block.max_gas)}


def _evidence(evidence: EvidenceParameters) -> dict[str, str]:
    blocks, age, size = evidence
    return {"max_age_num_blocks": str(blocks), "max_age_duration": str(age), "max_bytes": str(size)}


def _key_file(key: Key) -> bytes:
    return _text(
        {
            "address": address_of(key.public).hex().upper(),
            "pub_key": _tagged(_PUBLIC, key.public),
            "priv_key": _tagged(_PRIVATE, key.seed + key.public),
        }
    )


def _tagged(kind: str, value: bytes) -> dict[str, str]:
    return {"type": kind, "value": base64.b64encode(value).decode()}


def _text(document: Any) -> bytes:
    return json.dumps(document, indent=2).encode() + b"\n"


def _read(path: Path) -> Any:
    try:
        return json.loads(disk.read_file(path))
    except OSError as error:
        raise KeyFileError(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise KeyFileError(f"{path} is damaged: {error}") from error


def _replace(path: Path, data: bytes) -> None:
    """Put a whole file in the place of another one; raises `KeyFileError`."""
    try:
        disk.replace_file(path, data, 0o600)
    except OSError as error:
        raise KeyFileError(f"cannot write {path}: {error.strerror or error}") from error
