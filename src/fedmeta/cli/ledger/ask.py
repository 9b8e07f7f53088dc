"""`fedmeta ledger status` and what else is asked of a ledger as a whole."""

import click

from fedmeta.cli.ledger import show
from fedmeta.cli.ledger.options import Way, reading


@click.command(short_help="Where the ledger stands.")
@reading
def status(way: Way) -> None:
    """Say where the ledger stands: its height, its term, its round, and who has a part in them.

    \b
    Example:
      fedmeta ledger status
    """
    with way.reader() as client:
        node, found = client.status(), client.query("status")
    if way.as_json:
        show.write_json({**found, "node": node})
        return
    show.write(show.facts("", {**found}))
