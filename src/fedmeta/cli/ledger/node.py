"""`fedmeta ledger serve`: a node of a ledger, until it is told to stop."""

import contextlib
import logging
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from fedmeta.cli.ledger.folder import Folder, check_genesis, sequencer_key
from fedmeta.cli.ledger.options import HOST, PORT
from fedmeta.errors import UsageError


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
    help="Seconds after which a block is made though nothing waits.  [default: as --block-interval]",
)
@click.option(
    "--snapshot-every", metavar="N", type=click.IntRange(min=0), default=0, help="Take a snapshot every N blocks."
)
@click.option("--prune", is_flag=True, help="After a snapshot, delete blocks that nothing needs any more.")
@click.option("--proxy", metavar="ADDRESS", default="", help="The address of a proxy whose word on its clients counts.")
@click.option(
    "--key", metavar="FILE", type=click.Path(path_type=Path), help="The sequencer's key.  [default: in DIR/keys]"
)
def serve(folder: Path, host: str, port: int, proxy: str, key: Path | None, prune: bool, **options: Any) -> None:
    """Keep the ledger in DIR: make its blocks, answer over HTTP, and let others follow its events.

    Heights are counted in blocks, so the interval is the pace of all deadlines. The node speaks plain HTTP: for
    others than this machine put a proxy with TLS in front of it. Ctrl-C ends it, and loses nothing.

    \b
    Examples:
      fedmeta ledger serve fed
      fedmeta ledger serve fed --port 8000 --block-interval 0.2
    """
    if prune and not options["snapshot_every"]:
        raise UsageError("--prune deletes blocks before a snapshot: give --snapshot-every as well")
    from fedmeta.govern.engines.embedded import EmbeddedEngine
    from fedmeta.govern.server.app import create_app
    from fedmeta.govern.server.making import Sequencing
    from fedmeta.govern.server.serve import listen
    from fedmeta.govern.server.serve import serve as run

    place = Folder(folder)
    genesis = place.read_genesis()
    with EmbeddedEngine.open(place.database, sequencer_key(place, key), genesis.chain_id) as engine:
        check_genesis(place.database, engine.origin.digest, place.genesis, genesis.digest)
        with listen(host, port) as listener:
            shown = f"[{host}]" if ":" in host else host
            address = f"http://{shown}:{listener.getsockname()[1]}"
            click.echo(f"{engine.chain_id} is at {address}, block {engine.height:,}; Ctrl-C ends it")
            sys.stdout.flush()
            with _log():
                run(create_app(engine, Sequencing(engine, prune=prune, **options)), listener, proxy)
    click.echo(f"stopped after block {engine.height:,}")
