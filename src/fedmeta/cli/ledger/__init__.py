"""`fedmeta ledger`: a federation's ledger on the command line; one file for each subject."""

import click

from fedmeta.cli.late import LateGroup

COMMANDS = {
    "init": "folder:init",
    "serve": "node:serve",
    "status": "ask:status",
    "members": "members:members",
    "validators": "validators:validators",
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
    "checkpoint": "ask:checkpoint",
    "send": "sending:send_signed",
    "verify": "files:verify",
    "export": "files:export_",
    "import": "files:import_",
}
"""Name to where it is, in the order of the help."""


@click.group(
    cls=LateGroup,
    package=__name__,
    places=COMMANDS,
    short_help="Keep a federation's ledger: stake, elections, rounds, rewards.",
)
def ledger() -> None:
    """Keep a ledger of a federation, and play a part in it: who aggregates, who is paid what, and why.

    `init` makes one and `serve` keeps it; the other commands ask it or sign for a member. They take the node's
    address from --node or FEDMETA_NODE, and the key's file from --key or FEDMETA_KEY.

    \b
    Example:
      fedmeta ledger init fed
      fedmeta ledger serve fed
    """
