"""`fedmeta ledger`: a federation's ledger on the command line; one file for each subject."""

import importlib
from typing import Any

import click

COMMANDS = {
    "init": "folder:init",
    "serve": "node:serve",
    "status": "ask:status",
    "members": "members:members",
    "key": "members:key",
    "stake": "stake:stake",
    "candidate": "stake:candidate",
    "term": "ask:term",
    "round": "round_parts:round",
    "fault": "faults:fault",
    "propose": "proposals:propose",
    "proposals": "proposals:proposals",
    "vote": "proposals:vote",
    "explain": "ask:explain",
    "fairness": "ask:fairness",
    "supply": "ask:supply",
    "parameters": "ask:parameters",
    "recipes": "recipes:recipes",
    "block": "ask:block",
    "transaction": "ask:transaction",
    "events": "ask:events",
    "proof": "ask:proof",
    "send": "sending:send_signed",
    "verify": "files:verify",
    "export": "files:export_",
    "import": "files:import_",
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
        return getattr(importlib.import_module(f"fedmeta.cli.ledger.{module}"), name)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            from fedmeta.errors import UnknownName

            raise UnknownName("command of fedmeta ledger", args[0], COMMANDS)
        return super().resolve_command(ctx, args)


@click.group(cls=_Commands, short_help="Keep a federation's ledger: stake, elections, rounds, rewards.")
def ledger() -> None:
    """Keep a ledger of a federation, and play a part in it: who aggregates, who is paid what, and why.

    `init` makes one and `serve` keeps it; the other commands ask it or sign for a member. They take the node's
    address from --node or FEDMETA_NODE, and the key's file from --key or FEDMETA_KEY.

    \b
    Example:
      fedmeta ledger init fed
      fedmeta ledger serve fed
    """
