"""`fedmeta node`: a member's node on the command line; one file for each subject."""

import click

from fedmeta.cli.late import LateGroup

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


@click.group(
    cls=LateGroup,
    package=__name__,
    places=COMMANDS,
    short_help="Run a member's node: train on own data, answer on the ledger.",
)
def node() -> None:
    """Run a member's node: it trains on data that never leave, and answers for its promises on the ledger.

    `init` makes its folder, `check` says whether all is as it must be, and `approve` lets it work on a procedure:
    without that it takes no duty. They take the folder from --folder or FEDMETA_NODE_FOLDER.

    \b
    Example:
      fedmeta node init coast --member coast --ledger https://ledger.example --genesis genesis.cbor
      fedmeta node check --folder coast
    """
