"""`fedmeta ledger serve`: a node of a ledger, until it is told to stop."""

import contextlib
import logging
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fedmeta._extras import need_extra
from fedmeta.cli.ledger import host as hosts
from fedmeta.cli.ledger.folder import Folder, check_genesis, sequencer_key
from fedmeta.cli.ledger.options import HOST, PORT
from fedmeta.errors import UsageError

if TYPE_CHECKING:
    from fedmeta.govern.engines.engine import Engine
    from fedmeta.govern.machine.genesis import Genesis
    from fedmeta.govern.server.making import Maker

EMPTY = 5.0
"""Seconds from a block of CometBFT to the next where nothing waits, if nothing else is said."""

SNAPSHOTS = 1_000
"""Blocks from one snapshot to the next where new validators begin by them, if nothing else is said."""


def _seconds(ctx: click.Context, option: click.Parameter, value: float | None) -> float | None:
    if value is not None and not (math.isfinite(value) and value > 0):
        raise UsageError(f"--{option.name} is {value}: it must be above 0 seconds".replace("_", "-"))
    return value


@contextlib.contextmanager
def _log() -> Iterator[None]:
    """Write what the node says to standard error."""
    log, handler = logging.getLogger("fedmeta.ledger"), logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S"))
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)


@click.command(short_help="Keep a ledger: make its blocks and answer over HTTP.")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--host", default=HOST, show_default=True, help="The address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=PORT, show_default=True, help="The port; 0 takes a free one."
)
@click.option(
    "--block-interval",
    type=float,
    default=1.0,
    show_default=True,
    callback=_seconds,
    help="Seconds from block to block where something waits.",
)
@click.option(
    "--empty-interval",
    type=float,
    callback=_seconds,
    help="Seconds after which a block is made though nothing waits.  "
    f"[default: as --block-interval; {EMPTY:g} with CometBFT]",
)
@click.option(
    "--snapshot-every",
    metavar="N",
    type=click.IntRange(min=0),
    help=f"Take a snapshot every N blocks; 0 for none.  [default: 0; {SNAPSHOTS:,} with CometBFT]",
)
@click.option("--prune", is_flag=True, help="After a snapshot, delete blocks that nothing needs any more.")
@click.option("--proxy", metavar="ADDRESS", default="", help="The address of a proxy whose word on its clients counts.")
@click.option(
    "--key", metavar="FILE", type=click.Path(path_type=Path), help="The sequencer's key.  [default: in DIR/keys]"
)
@click.option(
    "--cometbft",
    metavar="PATH",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The program.  [default: FEDMETA_COMETBFT, what `make cometbft` made, or the one on the PATH]",
)
def serve(folder: Path, host: str, port: int, proxy: str, **options: Any) -> None:
    """Keep the ledger in DIR: have its blocks made, answer over HTTP, and let others follow its events.

    The genesis says who makes the blocks: this node alone, with the sequencer's key; or the super nodes together, of
    which this is one, with CometBFT as its child, told what DIR/validator.toml says.

    Heights are counted in blocks, so the interval is the pace of all deadlines. The node speaks plain HTTP: for
    others than this machine put a proxy with TLS in front of it. Ctrl-C ends it, and loses nothing.

    \b
    Examples:
      fedmeta ledger serve fed
      fedmeta ledger serve fed --port 8000 --block-interval 0.2
    """
    if options["prune"] and not options["snapshot_every"]:
        raise UsageError("--prune deletes blocks before a snapshot: give --snapshot-every as well")
    from fedmeta.govern.server.app import create_app
    from fedmeta.govern.server.serve import listen
    from fedmeta.govern.server.serve import serve as run

    place = Folder(folder)
    genesis = place.read_genesis()
    making = _validating if genesis.validators else _sequencing
    with making(place, genesis, **options) as (engine, maker):
        check_genesis(place.database, engine.origin.digest, place.genesis, genesis.digest)
        with listen(host, port) as listener:
            shown = f"[{host}]" if ":" in host else host
            address = f"http://{shown}:{listener.getsockname()[1]}"
            click.echo(f"{engine.chain_id} is at {address}, block {engine.height:,}; Ctrl-C ends it")
            if genesis.validators:
                tell_listening(place, engine)
            sys.stdout.flush()
            with _log():
                run(create_app(engine, maker), listener, proxy)
    click.echo(f"stopped after block {engine.height:,}")


@contextlib.contextmanager
def _sequencing(
    place: Folder,
    genesis: "Genesis",
    key: Path | None,
    cometbft: Path | None,
    prune: bool,
    snapshot_every: int | None,
    **pace: Any,
) -> "Iterator[tuple[Engine, Maker]]":
    """Yield the engine of a sequencer, and who makes its blocks."""
    from fedmeta.govern.engines.embedded import EmbeddedEngine
    from fedmeta.govern.server.making import Sequencing

    if cometbft is not None:
        raise UsageError(f"--cometbft: a sequencer orders the blocks of {genesis.chain_id}, as its genesis says")
    with EmbeddedEngine.open(place.database, sequencer_key(place, key), genesis.chain_id) as engine:
        yield engine, Sequencing(engine, snapshot_every=snapshot_every or 0, prune=prune, **pace)


@contextlib.contextmanager
def _validating(
    place: Folder,
    genesis: "Genesis",
    key: Path | None,
    cometbft: Path | None,
    prune: bool,
    snapshot_every: int | None,
    block_interval: float,
    empty_interval: float | None,
) -> "Iterator[tuple[Engine, Maker]]":
    """Yield the engine whose blocks CometBFT decides, and what runs that; all that it needs is looked at before."""
    if key is not None:
        raise UsageError(f"--key: the super nodes decide the blocks of {genesis.chain_id}, and no sequencer signs them")
    _needed(place, genesis)
    from fedmeta.govern.engines.cometbft import home as homes
    from fedmeta.govern.engines.cometbft.binary import find_binary
    from fedmeta.govern.engines.cometbft.engine import CometEngine
    from fedmeta.govern.server.validating import Validating

    program = find_binary(cometbft)
    # CometBFT runs in a folder of its own.
    place = Folder(place.path.absolute())
    told = hosts.read(place.host)
    settings = told.settings(place.home, block_interval, EMPTY if empty_interval is None else empty_interval)
    snapshots = SNAPSHOTS if snapshot_every is None else snapshot_every
    with CometEngine.open(place.database, place.home.rpc, genesis.chain_id, snapshots, prune) as engine:
        homes.configure(place.home, settings)
        homes.check(place.home, bool(told.signer))
        yield engine, Validating(engine, program, place.home, settings)


def tell_listening(place: Folder, engine: "Engine") -> None:
    """Say where this node's consensus key is not on the ledger: then it decides no blocks, which is no fault."""
    from fedmeta.govern.engines.cometbft import home as homes
    from fedmeta.govern.state.records import Candidate

    told = hosts.read(place.host)
    public = bytes.fromhex(told.consensus) if told.signer else homes.consensus_key(place.home)
    candidate = engine.read(lambda application: application.state.get(Candidate, told.member))
    if candidate is None or candidate.consensus != public:
        click.echo(
            f"this node listens, and decides no blocks: after block {engine.decided:,} its consensus key is not "
            f"{told.member or 'anybody'}'s on the ledger; `fedmeta ledger members consensus-key` puts it there"
        )


def _needed(place: Folder, genesis: "Genesis") -> None:
    """Raise `UsageError` for a folder of several validators, and `MissingPackage` without the extra."""
    inside = sorted(one.parent.name for one in place.path.glob("*/validator.toml"))
    if inside and not place.host.exists():
        raise UsageError(f"{place.path} has a folder for each validator: serve one, such as {place.path / inside[0]}")
    need_extra("cometbft", f"a validator of {genesis.chain_id}")
