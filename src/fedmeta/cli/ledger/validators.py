"""`fedmeta ledger validators`: who decides the blocks, and what a validator does with its keys and its folder."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fedmeta.cli.ledger import founding, host, show
from fedmeta.cli.ledger.folder import Folder, making
from fedmeta.cli.ledger.options import PUBLIC_KEY, Connection, Shown, passphrase, reading
from fedmeta.errors import DataError, UsageError
from fedmeta.govern.engines.cometbft import home as homes
from fedmeta.govern.engines.cometbft.config import Peer, StateSync, check_address
from fedmeta.govern.engines.disk import read_file
from fedmeta.govern.engines.files import locked
from fedmeta.govern.errors import EngineError
from fedmeta.govern.wire.signatures import Key

if TYPE_CHECKING:
    from fedmeta.govern.machine.genesis import Genesis

_FOLDER = click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
_JSON = click.option("--json", "as_json", is_flag=True, help="Write JSON to standard output.")


@click.group(cls=Shown, short_help="List who decides the blocks; a validator's keys and folder.")
def validators() -> None:
    """List the super nodes that decide the blocks; make a validator's keys, replace them, or begin anew.

    \b
    Examples:
      fedmeta ledger validators
      fedmeta ledger validators new north --as north --at north.example:26656
    """


@validators.command("show", short_help="List who decides the blocks.")
@reading
def show_(way: Connection) -> None:
    """List the validators, their power, and since which term each has had a seat without a break.

    \b
    Example:
      fedmeta ledger validators show
    """
    with way.reader() as client:
        found = client.query("validators")
    if way.as_json:
        show.write_json(found)
        return
    if not found:
        show.write("A sequencer orders the blocks of this ledger: there are no validators.")
        return
    total = sum(one["power"] for one in found)
    rows = [
        (
            one["candidate"],
            one["organisation"],
            one["power"],
            show.percent(one["power"] * 1_000_000 // total),
            f"term {one['since_term']}",
            one["missed"],
            show.Whole(one["address"].upper()),
        )
        for one in found
    ]
    headings = ("validator", "organisation", "power", "of all", "since", "duties missed", "address")
    show.write(
        show.table("", headings, rows),
        f"Blocks are decided by more than {total * 2 // 3:,} of {total:,}.",
    )


@validators.command(short_help="Make a validator's keys, on its own host.")
@_FOLDER
@click.option("--as", "member", metavar="NAME", required=True, help="The member that it is a validator for.")
@click.option("--at", metavar="HOST:PORT", required=True, help="Where the others reach its CometBFT.")
@click.option(
    "--listen", metavar="HOST:PORT", help="Where its CometBFT listens.  [default: all addresses, the port of --at]"
)
@click.option(
    "--public", metavar="PUBLIC-KEY", type=PUBLIC_KEY, help="The account's public key, whose private half is elsewhere."
)
@click.option("--signer", metavar="tcp://HOST:PORT", default="", help="Where a signer of its own process dials in.")
@click.option("--consensus", metavar="PUBLIC-KEY", type=PUBLIC_KEY, help="The public key that this signer signs by.")
@click.option("--passphrase", "protect", is_flag=True, help="Encrypt the account's key.")
@_JSON
def new(
    folder: Path,
    member: str,
    at: str,
    listen: str | None,
    public: bytes | None,
    signer: str,
    consensus: bytes | None,
    protect: bool,
    as_json: bool,
) -> None:
    """Make a validator's keys in the new folder DIR, and write their public halves, for the federation's file.

    These are: the account's key, DIR/keys/NAME.pem; the consensus key, by which blocks are decided; and the one by
    which its CometBFT shows itself to others. `init` begins the ledger in DIR once the file is agreed on, and `join`
    where there is one already.

    \b
    Examples:
      fedmeta ledger validators new north --as north --at north.example:26656
      fedmeta ledger validators new north --as north --at 10.0.0.1:26656 --public 5d1f...
    """
    from fedmeta.govern.client import keyfile
    from fedmeta.govern.wire.schema import is_name

    if not is_name(member):
        raise UsageError(f"--as is {member[:80]!r}: a name has 1 to 32 of a-z, 0-9 and -")
    if bool(signer) != (consensus is not None):
        raise UsageError("--signer and --consensus go together: the signer has the key")
    if protect and public is not None:
        raise UsageError("--passphrase encrypts the account's key, which --public says is elsewhere")
    if signer and not re.fullmatch(r"tcp://\S+:\d+", signer):
        raise UsageError(f"--signer is {signer[:80]!r}: it must be such as tcp://10.0.0.1:26659")
    listens = listen or f"0.0.0.0:{at.rpartition(':')[2]}"
    for address in (at, listens):
        try:
            check_address(address)
        except EngineError as error:
            raise UsageError(str(error)) from error
    secret = passphrase("Passphrase for the account's key", confirm=True) if protect else None
    account = Key.generate() if public is None else None
    with making(folder) as aside:
        homes.create(aside.home.folder, None, Key.generate(), None if signer else Key.generate())
        settings = host.HostFile(
            member=member, listen=listens, advertised=at, signer=signer, consensus=(consensus or b"").hex()
        )
        host.write(aside.host, settings)
        if account is not None:
            (aside.path / "keys").mkdir(mode=0o700)
            keyfile.save(aside.key(member), account, secret)
    _tell(Folder(folder), account.public if account else public, as_json)


@validators.command(short_help="Show a validator's public keys.")
@_FOLDER
@click.option("--proven", is_flag=True, help="Only the consensus key, proven, as `members consensus-key` takes it.")
@_JSON
def keys(folder: Path, proven: bool, as_json: bool) -> None:
    """Show the public halves of the keys in DIR again, and where others reach its CometBFT.

    \b
    Examples:
      fedmeta ledger validators keys north
      fedmeta ledger validators keys north --proven
    """
    place = Folder(folder)
    if proven:
        place.read_genesis()
        click.echo(_proven(place, host.read(place.host).member))
    else:
        _tell(place, None, as_json)


def _tell(place: Folder, public: bytes | None, as_json: bool) -> None:
    """Write a validator's public keys, and where it is reached."""
    settings = host.read(place.host)
    consensus = settings.consensus if settings.signer else homes.consensus_key(place.home).hex()
    node = str(Peer(homes.own_id(place.home), settings.advertised or settings.listen))
    found = {"name": settings.member, "public": (public or b"").hex(), "consensus": consensus, "node": node}
    if place.genesis.exists() and not settings.signer:
        found["proven"] = _proven(place, settings.member)
    if as_json:
        show.write_json(found)
        return
    if public is None:
        show.write(show.facts(place.path.name, {name: show.Whole(value) for name, value in found.items() if value}))
        return
    lines = [
        "[[members]]",
        f'name = "{settings.member}"',
        f'public = "{public.hex()}"',
        f'consensus = "{consensus}"',
        f'nodes = ["{node}"]',
    ]
    show.write(*lines)


def _proven(place: Folder, member: str) -> str:
    """Return the consensus key with its signature that the member holds it, as `members consensus-key` takes it."""
    from fedmeta.govern.wire.transactions import possession

    key = homes.consensus_private(place.home)
    genesis = place.read_genesis().digest
    return f"{key.public.hex()}:{key.sign(possession(genesis, member, key.public)).hex()}"


@validators.command(short_help="Take a new consensus key, after a lost machine or an old snapshot.")
@_FOLDER
@_JSON
def renew(folder: Path, as_json: bool) -> None:
    """Take a new consensus key in DIR, in the place of one that may have signed what this machine does not know.

    Do this before the first start on a machine that was restored from an older state, or in whose place another one
    comes. The node then listens only: it signs nothing before the new key is on the ledger, which is the second step.

    \b
    Example:
      fedmeta ledger validators renew north
    """
    place = Folder(folder)
    place.read_genesis()
    settings = host.read(place.host)
    if settings.signer:
        raise UsageError(f"a signer at {settings.signer} has the consensus key of {folder}: take a new one there")
    with locked(place.database), homes.held(place.home):
        homes.renew(place.home, Key.generate())
    proven = _proven(place, settings.member)
    if as_json:
        show.write_json({"name": settings.member, "proven": proven})
        return
    show.write(
        f"{folder} has a new consensus key: {proven.partition(':')[0]}",
        "\nNext: start the node, which only listens, and let it catch up:",
        f"  fedmeta ledger serve {folder}",
        f"Then put the new key on the ledger with {settings.member}'s account key, on the machine that has it:",
        f"  fedmeta ledger members consensus-key {proven} --key {settings.member}.pem --as {settings.member}",
        "From the second block after that on it decides blocks again, as long as it has a seat.",
        "A machine that has the old key must never start again.",
    )


def _snapshot(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of one after which the node may begin from a snapshot."""
    command = click.option(
        "--node", "nodes", metavar="ADDRESS", multiple=True, help="Two nodes that show blocks then; repeat."
    )(command)
    return click.option("--checkpoint", metavar="HEIGHT:HASH", help="Begin from a snapshot, at this header or later.")(
        command
    )


@validators.command(short_help="Forget the blocks and take them from the others again: after a halt.")
@_FOLDER
@_snapshot
@click.option("--yes", is_flag=True, help="Do not ask.")
def reset(folder: Path, checkpoint: str | None, nodes: tuple[str, ...], yes: bool) -> None:
    """Take the ledger's database and CometBFT's data away from DIR; the keys and what they have signed stay.

    This is for a node whose blocks are damaged, or which takes part no more while the others go on. When it starts
    again it takes all blocks from them and executes them; or a snapshot, as after `join`. Never do it on all nodes at
    once.

    \b
    Example:
      fedmeta ledger validators reset north
    """
    place = Folder(folder)
    genesis = place.read_genesis()
    if not place.home.folder.is_dir():
        raise UsageError(f"{folder} has no CometBFT: its ledger cannot be had from others again")
    sync = _state_sync(genesis, checkpoint, nodes)
    if not yes:
        click.confirm(f"Take the blocks away from {folder}? The others must have them", abort=True)
    with homes.held(place.home):
        founding.clear(place)
        homes.forget(place.home)
        founding.begin(place, genesis)
        host.write(place.host, replace(host.read(place.host), state_sync=sync))
    show.write(f"{folder} is at its genesis again; it takes the blocks from the others: fedmeta ledger serve {folder}")


@validators.command(short_help="Begin a ledger that others keep already.")
@_FOLDER
@click.option(
    "--genesis",
    "trusted",
    metavar="FILE",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="The ledger's genesis, from a member that you trust.",
)
@click.option("--peer", "peers", metavar="ID@HOST:PORT", multiple=True, required=True, help="A node to dial; repeat.")
@_snapshot
def join(folder: Path, trusted: Path, peers: tuple[str, ...], checkpoint: str | None, nodes: tuple[str, ...]) -> None:
    """Let a validator's folder DIR, which `new` has made, begin a ledger that others keep already.

    Without --checkpoint it takes all blocks from its peers and executes them. With one it takes a snapshot, and trusts
    what more than two thirds of the validators have signed since the checkpoint: ask a member whom you trust for it.
    Two nodes then show those blocks over the HTTP that they serve anyway; they cannot forge them.

    \b
    Example:
      fedmeta ledger validators join river --genesis genesis.cbor --peer 5d1f...@north.example:26656
    """
    from fedmeta.govern.machine.genesis import decode_genesis

    place = Folder(folder)
    if not place.prepared:
        raise DataError(f"{folder} is no folder with a validator's keys and no ledger: `validators new` makes one")
    genesis = decode_genesis(read_file(trusted))
    if not genesis.validators:
        raise DataError(f"a sequencer orders the blocks of {genesis.chain_id}: no validator can join it")
    try:
        dialled = tuple(map(Peer.read, peers))
    except EngineError as error:
        raise UsageError(f"--peer: {error}") from error
    sync = _state_sync(genesis, checkpoint, nodes)
    founding.complete(place, genesis, replace(host.read(place.host), peers=dialled, state_sync=sync))
    lines = [f"Chain    {genesis.chain_id}", f"Genesis  {genesis.digest.hex()}"]
    if sync is not None:
        lines.append(f"From     a snapshot after block {sync.trust_height:,}")
    show.write(*lines, f"\nNext: fedmeta ledger serve {folder}")


def _state_sync(genesis: "Genesis", checkpoint: str | None, nodes: tuple[str, ...]) -> StateSync | None:
    """Return from what CometBFT begins: the block that certifies a checkpoint's header, whose height a node says."""
    if (checkpoint is not None) != bool(nodes) or len(nodes) == 1:
        raise UsageError("a snapshot needs --checkpoint, and --node at least twice: one node checks the other")
    if checkpoint is None:
        return None
    from fedmeta.cli.ledger.options import told
    from fedmeta.govern.client.client import Client
    from fedmeta.govern.machine.trust import trust_period
    from fedmeta.govern.state.parameters import check_parameters
    from fedmeta.govern.wire.commits import decode_certificate

    point = told(checkpoint)
    assert point is not None
    with Client(nodes[0], genesis=genesis, checkpoint=point) as client:
        signed = client.signed_header(point.height)
    block = decode_certificate(signed.certificate).header
    parameters = check_parameters(genesis.parameters, genesis.supply, genesis.validators)
    period = trust_period(parameters.unbonding_seconds) // 1_000
    servers = tuple(f"{one.rstrip('/')}/light" for one in nodes)
    return StateSync(servers, block.height, block.hash, period)
