"""`fedmeta ledger verify`, `export` and `import`: a ledger as files, without a node."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fedmeta.cli.ledger import show
from fedmeta.cli.ledger.folder import Folder, check_genesis, making
from fedmeta.errors import DataError
from fedmeta.govern.engines.disk import open_file, read_file

if TYPE_CHECKING:
    from fedmeta.govern.client.audit import Audit
    from fedmeta.govern.engines.replay import Progress

DATABASE = b"SQLite format 3\0"
"""How a database begins."""


@click.command(short_help="Execute a ledger again and check all that it says.")
@click.argument("ledger", metavar="DIR|FILE", type=click.Path(path_type=Path))
@click.option(
    "--genesis",
    "trusted",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The genesis that it must begin with.  [default: the one in DIR]",
)
@click.option("--json", "as_json", is_flag=True, help="Write JSON to standard output.")
def verify(ledger: Path, trusted: Path | None, as_json: bool) -> None:
    """Execute every block again, and check every block, signature, root and invariant.

    DIR is a ledger's folder, FILE its database or what `export` wrote. It is only read, also while it is served. The
    exit code is 1 if anything does not hold.

    \b
    Examples:
      fedmeta ledger verify fed
      fedmeta ledger verify fed.ledger --genesis genesis.cbor
    """
    from dataclasses import asdict

    from fedmeta.govern.errors import Damaged
    from fedmeta.govern.machine.genesis import decode_genesis

    if trusted is None and ledger.is_dir():
        trusted = Folder(ledger).genesis
    due = None if trusted is None else decode_genesis(read_file(trusted)).digest
    found = _audit(ledger)
    if trusted is not None and due is not None:
        check_genesis(ledger, found.genesis, trusted, due)
    if as_json:
        show.write_json({**asdict(found), "sound": found.sound})
    else:
        show.write(show.facts(found.chain_id, _facts(found)))
    if not found.sound:
        raise Damaged(f"{ledger} does not hold: {found.problem}")
    if not as_json:
        show.write("\nSound: every block, signature, root and invariant holds.")
        if due is None:
            show.write("That it begins with the right genesis, only yours can show: give it with --genesis.")


def _facts(found: "Audit") -> dict[str, object]:
    begin = f"from block {found.start + 1:,}, after a snapshot" if found.start else "from genesis"
    return {
        "genesis": show.Whole(found.genesis.hex()),
        "executed": f"{begin} to block {found.height:,} of {found.tip:,}",
        "transactions": f"{found.transactions:,}, of which {found.refused:,} were refused",
        "app hash": show.Whole(found.app_hash.hex()),
    }


def _audit(path: Path) -> "Audit":
    from fedmeta.govern.client.audit import load, verify_ledger

    database = _database(path)
    if database != path or _begins(path, DATABASE):
        with _bar("executing") as progress:
            return verify_ledger(database, progress)
    with tempfile.TemporaryDirectory(prefix="fedmeta-") as folder:
        # Read into a ledger that is thrown away: then there is one way to check.
        copy = Path(folder) / "ledger.db"
        load(path, copy)
        with _bar("executing") as progress:
            return verify_ledger(copy, progress)


def _database(path: Path) -> Path:
    return Folder(path).database if path.is_dir() else path


def _begins(path: Path, mark: bytes) -> bool:
    with open_file(path) as file:
        return file.read(len(mark)) == mark


@contextlib.contextmanager
def _bar(text: str) -> Iterator["Progress | None"]:
    """Yield what shows the progress on a terminal."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    with Progress(console=console, transient=True) as bars:
        task = bars.add_task(text, total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)


@click.command("export", short_help="Write a ledger to one file.")
@click.argument("ledger", metavar="DIR", type=click.Path(path_type=Path))
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
def export_(ledger: Path, file: Path) -> None:
    """Write the ledger in DIR to the new FILE, for others to verify or to import; also while it is served.

    No key is in it.

    \b
    Example:
      fedmeta ledger export fed fed.ledger
    """
    from fedmeta.govern.client.audit import export

    height = export(_database(ledger), file)
    show.write(f"{file} holds the ledger up to block {height:,}")


@click.command("import", short_help="Make a ledger of an exported file.")
@click.argument("file", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path))
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
def import_(file: Path, folder: Path) -> None:
    """Make the ledger of an exported FILE in the new folder DIR, executing and checking all of it.

    \b
    Example:
      fedmeta ledger import fed.ledger copy
    """
    from fedmeta.govern.client.audit import load
    from fedmeta.govern.engines.replay import read_genesis
    from fedmeta.govern.engines.store import Store
    from fedmeta.govern.machine.genesis import encode_genesis

    if not file.is_file():
        raise DataError(f"there is no file {file}")
    with making(folder) as aside:
        height = load(file, aside.database)
        with Store.read(aside.database) as store:
            genesis = read_genesis(store)
        aside.genesis.write_bytes(encode_genesis(genesis))
    if genesis.validators:
        then = "to keep it with the others, let a folder of `fedmeta ledger validators new` join them"
    else:
        then = "to serve it, give the sequencer's key with --key"
    show.write(f"{folder} holds the ledger up to block {height:,}; {then}")
