"""`fedmeta ledger init`: a folder with a new ledger, its genesis and the keys that were made for it."""

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fedmeta.errors import DataError, UsageError
from fedmeta.govern.engines.cometbft.home import Home
from fedmeta.govern.engines.disk import flush, read_file
from fedmeta.govern.errors import WrongChain
from fedmeta.govern.wire.signatures import Key

if TYPE_CHECKING:
    from fedmeta.cli.ledger.federation import Federation
    from fedmeta.govern.machine.genesis import Genesis


@dataclass(frozen=True, slots=True)
class Folder:
    """What lies where in a ledger's folder."""

    path: Path

    @property
    def description(self) -> Path:
        """The TOML that the ledger was made of."""
        return self.path / "federation.toml"

    @property
    def genesis(self) -> Path:
        """The genesis in canonical CBOR: what the others compare, and check proofs against."""
        return self.path / "genesis.cbor"

    @property
    def database(self) -> Path:
        """The ledger itself."""
        return self.path / "ledger.db"

    @property
    def host(self) -> Path:
        """What the CometBFT of this host is told, where the super nodes decide the blocks."""
        return self.path / "validator.toml"

    @property
    def home(self) -> Home:
        """The folder of CometBFT itself."""
        return Home(self.path / "cometbft")

    @property
    def prepared(self) -> bool:
        """Whether a validator's keys are there, and no ledger yet."""
        return self.home.folder.is_dir() and not self.genesis.exists()

    def key(self, name: str) -> Path:
        """The file of a key that `init` made."""
        return self.path / "keys" / f"{name}.pem"

    def read_genesis(self) -> "Genesis":
        """Return the folder's genesis; raises `DataError` if there is none."""
        from fedmeta.govern.machine.genesis import decode_genesis

        if self.prepared:
            raise DataError(
                f"{self.path} has a validator's keys, but no ledger yet: "
                f"`fedmeta ledger init {self.path} --from FILE`, or `fedmeta ledger validators join`, begins it"
            )
        if not self.genesis.is_file():
            raise DataError(f"{self.path} is no ledger's folder: it has no {self.genesis.name}")
        return decode_genesis(read_file(self.genesis))


def check_genesis(ledger: Path, found: bytes, trusted: Path, due: bytes) -> None:
    """Raise `WrongChain` unless a ledger begins with the genesis that it should, both given by their digests."""
    if found != due:
        raise WrongChain(f"{ledger} begins with genesis {found.hex()}: {trusted} is {due.hex()}")


@click.command(short_help="Make a ledger: its genesis, its keys, its database.")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--from",
    "source",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The federation, in TOML.  [default: an example of four organisations]",
)
@click.option(
    "--engine",
    type=click.Choice(["embedded", "cometbft"]),
    help="Who orders the blocks: a sequencer, or the super nodes.  [default: what FILE says, or embedded]",
)
@click.option(
    "--passphrase",
    "protect",
    is_flag=True,
    help="Encrypt the keys; the passphrase is asked for, or taken from FEDMETA_PASSPHRASE.",
)
@click.option("--json", "as_json", is_flag=True, help="Write JSON to standard output.")
def init(folder: Path, source: Path | None, engine: str | None, protect: bool, as_json: bool) -> None:
    """Make a ledger in the new folder DIR: its genesis, its database, and a key for whoever has none.

    The folder gets federation.toml, which says who is in it; genesis.cbor; ledger.db; and keys/NAME.pem, readable by
    their owner only. Hand each key to its member. To make a ledger of your own, change a copy of the example's
    federation.toml and give it with --from.

    With the engine cometbft DIR gets a folder for each candidate in the place of ledger.db, with a ledger and a
    CometBFT of its own. Or each of them makes its keys on its own host, by `fedmeta ledger validators new DIR`, and
    this command, with the same file on each host, begins the ledger in that DIR.

    \b
    Examples:
      fedmeta ledger init fed
      fedmeta ledger init ours --from ours.toml --passphrase
      fedmeta ledger init fed --engine cometbft
    """
    from fedmeta.cli.ledger import federation, founding, options, show

    own = Folder(folder).prepared
    if own:
        engine = founding.engine_of(folder, source, engine, protect)
    else:
        check_free(folder)
    text = federation.EXAMPLE.encode() if source is None else read_file(source)
    made = federation.parse(text, source or Path("the example"), time.time_ns() // 10**6, engine)
    genesis = made.genesis
    secret = options.passphrase("Passphrase for the keys", confirm=True) if protect else None
    if own:
        name = founding.found(Folder(folder), text, made, source)
    else:
        name = ""
        with making(folder) as aside:
            _fill(aside, text, made, secret)
    if as_json:
        keys = {one: str(Folder(folder).key(one)) for one in made.keys}
        found = {"chain_id": genesis.chain_id, "genesis": genesis.digest.hex(), "keys": keys}
        if genesis.validators:
            found["folders"] = {name: str(folder)} if own else {one: str(folder / one) for one in made.validators}
        show.write_json(found)
        return
    names = [one.name for one in genesis.members]
    lines = [
        f"Chain    {genesis.chain_id}",
        f"Genesis  {genesis.digest.hex()}",
        f"Members  {', '.join(names)}; {genesis.supply:,} units in all, {genesis.treasury:,} of them in the treasury",
    ]
    if not own:
        lines.append(
            f"Keys     {len(made.keys)} in {folder / 'keys'}, readable by you only{', encrypted' if secret else ''}"
        )
    if genesis.validators:
        lines += founding.words(folder, made, name)
    else:
        lines.append(f"\nNext: fedmeta ledger serve {folder}")
    show.write(*lines)


@contextlib.contextmanager
def making(path: Path) -> Iterator[Folder]:
    """Yield a folder aside, and put it in its place once it is whole; nothing is left if anything fails.

    Raises:
        UsageError: there is something already.
        DataError: there is no folder to make it in.
    """
    check_free(path)
    place = path.absolute()
    parent = place.parent
    if not parent.is_dir():
        raise DataError(f"there is no folder {parent} to make {place.name} in")
    aside = Path(tempfile.mkdtemp(prefix=f".{place.name}.", dir=parent))
    try:
        aside.chmod(0o755)
        yield Folder(aside)
        for file in (*aside.iterdir(), aside):
            flush(file)
        # This takes the place of an empty folder, and of nothing else.
        os.rename(aside, place)
        flush(parent)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise


def check_free(path: Path) -> None:
    """Raise `UsageError` unless a folder can be made at a path without anything being lost."""
    if os.path.lexists(path) and not (path.is_dir() and not any(path.iterdir())):
        raise UsageError(f"{path} exists: a ledger is made in a new folder")


def _fill(folder: Folder, text: bytes, made: "Federation", passphrase: str | None) -> None:
    from fedmeta.cli.ledger import founding
    from fedmeta.govern.client import keyfile
    from fedmeta.govern.machine.genesis import encode_genesis

    folder.description.write_bytes(text)
    folder.genesis.write_bytes(encode_genesis(made.genesis))
    (folder.path / "keys").mkdir(mode=0o700)
    for name, key in made.keys.items():
        keyfile.save(folder.key(name), key, passphrase)
    if made.genesis.validators:
        founding.lay(folder, made)
    else:
        begin(folder, made.genesis)


def begin(folder: Folder, genesis: "Genesis") -> None:
    """Make the database of a ledger at its genesis."""
    from fedmeta.govern.engines.store import Store
    from fedmeta.govern.machine.genesis import encode_genesis, start
    from fedmeta.govern.machine.header import event_leaves

    begun = start(genesis)
    Store.create(folder.database, encode_genesis(genesis), begun.state.dump(), event_leaves(begun.events))


def sequencer_key(folder: Folder, given: Path | None) -> Key:
    """Return the key that blocks are signed by."""
    from fedmeta.cli.ledger.federation import SEQUENCER
    from fedmeta.cli.ledger.options import load_key

    return load_key(folder.key(SEQUENCER) if given is None else given)
