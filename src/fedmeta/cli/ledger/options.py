"""Options that the ledger's commands share: which node, whose key, and how the answer is written."""

import functools
import hashlib
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fedmeta.errors import UsageError
from fedmeta.govern.engines.disk import open_file, read_file
from fedmeta.govern.errors import Malformed
from fedmeta.govern.wire.signatures import Key

if TYPE_CHECKING:
    from fedmeta.govern.client.client import Client
    from fedmeta.govern.machine.genesis import Genesis
    from fedmeta.govern.machine.trust import Checkpoint

HOST, PORT = "127.0.0.1", 7878
"""Where `fedmeta ledger serve` listens."""

NODE = f"http://{HOST}:{PORT}"
"""Where a node that `fedmeta ledger serve` starts is found."""

PASSPHRASE = "FEDMETA_PASSPHRASE"
"""The environment variable that takes the place of the question for a passphrase."""


HEX = re.compile("[0-9a-fA-F]{64}")
"""A hash, or another 32 bytes."""


@dataclass(frozen=True, slots=True)
class Connection:
    """How a command reaches the ledger, and as whom."""

    node: str
    as_json: bool
    key: Path | None = None
    member: str | None = None
    sign_only: Path | None = None
    """Where the signed transaction goes instead of to the node."""

    def reader(self, genesis: Path | None = None, checkpoint: str | None = None) -> "Client":
        """Return a client that asks, and that trusts the genesis in a file, or else what the node says."""
        from fedmeta.govern.client.client import Client

        return Client(self.node, genesis=_trusted(genesis), checkpoint=told(checkpoint))

    def signer(self, genesis: Path | None = None, checkpoint: str | None = None) -> "Client":
        """Return a client that signs; raises `UsageError` without a key, and `KeyFileError` for one that is no use."""
        from fedmeta.govern.client.client import Client

        return Client(
            self.node,
            load_key(self.key_file),
            self.name,
            genesis=_trusted(genesis),
            checkpoint=told(checkpoint),
        )

    @property
    def key_file(self) -> Path:
        """The key's file; raises `UsageError` if none was given."""
        if self.key is None:
            raise UsageError("this is signed: give the key's file with --key, or in FEDMETA_KEY")
        return self.key

    @property
    def name(self) -> str:
        """As whom the command signs."""
        return self.member or self.key_file.stem


def _trusted(path: Path | None) -> "Genesis | None":
    from fedmeta.govern.machine.genesis import decode_genesis

    return None if path is None else decode_genesis(read_file(path))


def told(text: str | None) -> "Checkpoint | None":
    """Return the checkpoint that --checkpoint spells; raises `UsageError`."""
    from fedmeta.govern.machine.trust import Checkpoint

    try:
        return None if text is None else Checkpoint.read(text)
    except Malformed as error:
        raise UsageError(f"--checkpoint: {error}") from error


class Shown(click.Group):
    """A group that shows something where no command of its own is named: `NAME [WHAT]` is `NAME show [WHAT]`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order in which they are declared."""
        return list(self.commands)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put `show` before what is no command and no question for help."""
        if not args or (args[0] not in self.commands and args[0] not in ctx.help_option_names):
            args = ["show", *args]
        return super().parse_args(ctx, args)


_node = click.option(
    "--node", metavar="ADDRESS", envvar="FEDMETA_NODE", default=NODE, show_default=True, help="The node to ask."
)
_json = click.option("--json", "as_json", is_flag=True, help="Write JSON to standard output.")
_key = click.option(
    "--key",
    "key_file",
    metavar="FILE",
    envvar="FEDMETA_KEY",
    type=click.Path(path_type=Path),
    help="The key to sign by.  [default: FEDMETA_KEY]",
)
_member = click.option(
    "--as", "as_member", metavar="NAME", help="The member to sign as.  [default: the key file's name]"
)
_sign_only = click.option(
    "--sign-only",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the signed transaction to a new file, and do not send it.",
)

GENESIS = click.option(
    "--genesis",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The genesis that is trusted.  [default: the node's word]",
)
"""What a command checks against that trusts no node."""

CHECKPOINT = click.option(
    "--checkpoint",
    metavar="HEIGHT:HASH",
    help="A late header to begin from, where validators decide the blocks and the genesis is long ago.",
)
"""What a command begins from for which the genesis is too old to say whom to trust."""


def reading(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of one that asks; it takes them as its first argument, a `Connection`."""

    @_node
    @_json
    @functools.wraps(command)
    def asked(node: str, as_json: bool, **rest: Any) -> None:
        command(Connection(node, as_json), **rest)

    return asked


def signing(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of one that sends a transaction; its first argument is the `Connection`."""

    @_node
    @_key
    @_member
    @_sign_only
    @_json
    @functools.wraps(command)
    def signed(
        node: str, as_json: bool, key_file: Path | None, as_member: str | None, sign_only: Path | None, **rest: Any
    ) -> None:
        command(Connection(node, as_json, key_file, as_member, sign_only), **rest)

    return signed


def load_key(path: Path) -> Key:
    """Return the key in a file, asking for its passphrase where it has one; raises `KeyFileError`."""
    from fedmeta.govern.client import keyfile

    return keyfile.load(path, passphrase(f"Passphrase of {path}") if _encrypted(path) else None)


def passphrase(question: str, *, confirm: bool = False) -> str:
    """Return the passphrase in `FEDMETA_PASSPHRASE`, or what the user types unseen."""
    given = os.environ.get(PASSPHRASE)
    return given if given else click.prompt(question, hide_input=True, confirmation_prompt=confirm, err=True)


def _encrypted(path: Path) -> bool:
    try:
        with open_file(path) as file:
            return b"ENCRYPTED" in file.read(200)
    except OSError:
        # What is wrong with the file, its reader says better.
        return False


class Hashed(click.ParamType):
    """A hash of 32 bytes, a file whose SHA-256 is taken, or none."""

    name = "HASH|FILE"

    def __init__(self, optional: bool = False):
        self.optional = optional

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> bytes:
        """Return the 32 bytes; no bytes where `none` is allowed and given."""
        if isinstance(value, bytes):
            return value
        if HEX.fullmatch(value):
            return bytes.fromhex(value)
        if self.optional and value == "none":
            return b""
        if not os.path.isfile(value):
            said = "" if param is None else f"{param.human_readable_name} is "
            raise UsageError(f"{said}{value[:80]!r}: it must be 64 hexadecimal digits, or a file to hash")
        with open_file(value) as file:
            return hashlib.file_digest(file, "sha256").digest()


class PublicKey(click.ParamType):
    """The public half of a key, in hex."""

    name = "PUBLIC-KEY"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> bytes:
        """Return the 32 bytes."""
        if isinstance(value, bytes):
            return value
        return digest_of(value, self.name)


class Units(click.ParamType):
    """A whole number; `_` and `,` may stand between its digits."""

    name = "WHOLE NUMBER"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number."""
        if isinstance(value, int):
            return value
        return whole(value, "it" if param is None else param.human_readable_name)


HASH = Hashed()
HASH_OR_NONE = Hashed(optional=True)
PUBLIC_KEY = PublicKey()
UNITS = Units()


def digest_of(text: str, what: str) -> bytes:
    """Return the 32 bytes that a text gives in hex; raises `UsageError`."""
    if not HEX.fullmatch(text):
        raise UsageError(f"{what} is {text[:80]!r}: it must be 64 hexadecimal digits")
    return bytes.fromhex(text)


def whole(text: str, what: str) -> int:
    """Return the whole number that a text is, `_` and `,` between its digits allowed; raises `UsageError`."""
    bare = text.replace("_", "").replace(",", "")
    if not (bare.isascii() and bare.isdecimal()):
        raise UsageError(f"{what} is {text[:40]!r}: it must be a whole number")
    return int(bare)


def numbers(texts: Sequence[str], what: str, example: str) -> dict[str, int]:
    """Return the whole numbers in texts such as `NAME=NUMBER`, by name; raises `UsageError` with an example."""
    found: dict[str, int] = {}
    for text in texts:
        name, _, value = text.partition("=")
        if not (name and value):
            raise UsageError(f"{what} is {text[:80]!r}: it must be such as {example}")
        if name in found:
            raise UsageError(f"{what} names {name} twice")
        found[name] = whole(value, f"{what} of {name}")
    return found
