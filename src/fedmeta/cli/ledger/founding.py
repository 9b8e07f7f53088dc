"""How a ledger begins whose super nodes decide the blocks: for all of them on one machine, or for one on its host."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from fedmeta.cli.ledger import host
from fedmeta.cli.ledger.folder import Folder, begin
from fedmeta.errors import DataError, UsageError
from fedmeta.govern.engines import disk
from fedmeta.govern.engines.cometbft import home as homes
from fedmeta.govern.engines.files import locked

if TYPE_CHECKING:
    from fedmeta.cli.ledger.federation import Federation
    from fedmeta.govern.machine.genesis import Genesis


def lay(folder: Folder, made: "Federation") -> None:
    """Make a folder for each validator whose keys were made here, with a ledger and a CometBFT of its own."""
    missing = [name for name, one in made.validators.items() if one.consensus is None]
    if missing:
        raise DataError(
            f"{', '.join(missing)} made keys on a host of its own: begin this ledger in the folder with those keys, "
            "which `fedmeta ledger validators new` has made there"
        )
    for name, one in made.validators.items():
        assert one.node is not None
        place = Folder(folder.path / name)
        place.path.mkdir()
        homes.create(place.home.folder, _genesis_json(made.genesis), one.node, one.consensus)
        where = one.nodes[0].address
        # All of them are on this machine, where nobody else is to reach them.
        host.write(place.host, host.HostFile(member=name, listen=where, advertised=where, peers=made.peers(name)))
        begin(place, made.genesis)
        _write_genesis(place, made.genesis)


def engine_of(folder: Path, source: Path | None, engine: str | None, protect: bool) -> str:
    """Return the engine of a folder with a validator's keys; raises `UsageError` for options that do not go with it."""
    if source is None:
        raise UsageError(f"{folder} has a validator's keys: give the file with all members by --from")
    if engine == "embedded":
        raise UsageError(f"{folder} has a validator's keys: its engine is cometbft")
    if protect:
        raise UsageError(f"{folder} has its keys already: --passphrase encrypts only what init makes")
    return "cometbft"


def found(folder: Folder, text: bytes, made: "Federation", source: Path | None) -> str:
    """Begin a ledger in a folder with a validator's keys, and return the validator's name; it can be done again.

    Raises:
        DataError: the file would have this host make keys of others, or has no candidate with the keys of this one.
    """
    if made.keys:
        raise DataError(
            f"{source}: {', '.join(made.keys)} has no public key: on hosts of their own all must have made their keys"
        )
    known = host.read(folder.host)
    public = bytes.fromhex(known.consensus) if known.signer else homes.consensus_key(folder.home)
    names = [one.member for one in made.genesis.candidates if one.consensus == public]
    if not names:
        raise DataError(
            f"{source}: no candidate has the consensus key of {folder.path}, {public.hex()}: "
            "`fedmeta ledger validators keys` says what to write"
        )
    disk.replace_file(folder.description, text, 0o644)
    complete(folder, made.genesis, replace(known, member=names[0], peers=made.peers(names[0])))
    return names[0]


def complete(folder: Folder, genesis: "Genesis", settings: host.HostFile) -> None:
    """Let a folder with a validator's keys begin a ledger; what an attempt before this one left is made anew."""
    host.write(folder.host, settings)
    clear(folder)
    begin(folder, genesis)
    homes.set_genesis(folder.home, _genesis_json(genesis))
    # The last: with it the folder is whole.
    _write_genesis(folder, genesis)


def clear(folder: Folder) -> None:
    """Take a ledger's database away; raises `StoreLocked` while a process has it open."""
    with locked(folder.database):
        for ending in ("", "-wal", "-shm"):
            folder.database.with_name(folder.database.name + ending).unlink(missing_ok=True)
        disk.flush(folder.path)


def words(folder: Path, made: "Federation", name: str) -> list[str]:
    """Return what `init` says of the validators, and what comes next."""
    if name:
        return [
            f"Here     {name}, one of {len(made.validators)} validators",
            "\nCompare the genesis with the others': all must have this one.",
            f"Next: fedmeta ledger serve {folder}",
        ]
    commands = [f"fedmeta ledger serve {folder / one} --port {7878 + at}" for at, one in enumerate(made.validators)]
    return [
        f"Nodes    a folder for each of {', '.join(made.validators)}",
        "\nNext, each in a terminal of its own:",
        *commands,
    ]


def _genesis_json(genesis: "Genesis") -> bytes:
    """Return CometBFT's genesis, which is made of the ledger's."""
    from fedmeta.govern.engines.cometbft.bridge import consensus_parameters
    from fedmeta.govern.state.parameters import check_parameters
    from fedmeta.govern.wire.commits import chain_id_of

    parameters = check_parameters(genesis.parameters, genesis.supply, genesis.validators)
    return homes.genesis_json(chain_id_of(genesis.digest), genesis.time, consensus_parameters(parameters))


def _write_genesis(folder: Folder, genesis: "Genesis") -> None:
    from fedmeta.govern.machine.genesis import encode_genesis

    disk.replace_file(folder.genesis, encode_genesis(genesis), 0o644)
