"""What the node's commands share: where the node's folder is, and the account's key."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fedmeta.errors import UsageError

if TYPE_CHECKING:
    from fedmeta.govern.wire.signatures import Key
    from fedmeta.node.member.config import Config

ENVIRONMENT = "FEDMETA_NODE_FOLDER"
"""The environment variable that says where the node's folder is."""


def in_folder(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the option `--folder`, which it takes as `folder`, an absolute path."""
    return click.option(
        "--folder",
        metavar="DIR",
        envvar=ENVIRONMENT,
        default=".",
        type=click.Path(file_okay=False, path_type=Path),
        callback=lambda _, __, path: path.absolute(),
        help=f"The node's folder.  [default: {ENVIRONMENT}, or the present folder]",
    )(command)


def with_account(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the option `--account`, which it takes as `account`, a path or None."""
    return click.option(
        "--account",
        metavar="FILE",
        type=click.Path(dir_okay=False, path_type=Path),
        help="The key of the member's account.  [default: keys.account of node.toml]",
    )(command)


def account_key(config: "Config", account: Path | None) -> "Key":
    """Return the account's key; raises `UsageError` where nothing says where it is, and `KeyFileError`."""
    from fedmeta.cli.ledger.options import load_key

    if account is None and not config.keys.account:
        raise UsageError("this is signed by the member's account: give its key's file with --account")
    return load_key(account or config.path(config.keys.account))
