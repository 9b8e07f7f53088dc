"""`fedmeta node`: a member's node on the command line; one file for each subject."""

import importlib
from typing import Any

import click

COMMANDS = {
    "init": "folder:init",
    "check": "check:check",
    "approve": "approve:approve",
    "start": "run:start",
    "status": "run:status",
    "demo": "demo:demo",
    "outbox": "outbox:outbox",
    "pull": "pull:pull",
    "recover": "recover:recover",
    "leave": "leave:leave",
}
"""Name to where it is, in the order of the help."""


class _Commands(click.Group):
    """Commands that are imported when they are called for: most need less than all of them together."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, name = COMMANDS[cmd_name].split(":")
        return getattr(importlib.import_module(f"fedmeta.cli.node.{module}"), name)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            from fedmeta.errors import UnknownName

            raise UnknownName("command of fedmeta node", args[0], COMMANDS)
        return super().resolve_command(ctx, args)


@click.group(cls=_Commands, short_help="Run a member's node: train on own data, answer on the ledger.")
def node() -> None:
    """Run a member's node: it trains on data that never leave, and answers for its promises on the ledger.

    `init` makes its folder, `check` says whether all is as it must be, and `approve` lets it work on a procedure:
    without that it takes no duty. They take the folder from --folder or FEDMETA_NODE_FOLDER.

    \b
    Example:
      fedmeta node init coast --member coast --ledger https://ledger.example --genesis genesis.cbor
      fedmeta node check coast
    """
