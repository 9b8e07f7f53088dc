"""`fedmeta node leave`: stop to contribute, and hear when the node may be shut down."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fedmeta.cli.ledger import show
from fedmeta.cli.node.options import account_key, in_folder, with_account

if TYPE_CHECKING:
    from fedmeta.node.process.leaving import Standing


@click.command(short_help="Stop contributing; say what is still owed, and when the node may be shut down.")
@with_account
@click.option("--candidate", is_flag=True, help="Stand for no further election, too.")
@click.option("--note", metavar="TEXT", default="left", show_default=True, help="Why; it never leaves.")
@click.option("--wait", "waits", is_flag=True, help="Wait until the node may be shut down.")
@in_folder
@click.option("--json", "as_json", is_flag=True, help="Write JSON to standard output.")
def leave(account: Path | None, candidate: bool, note: str, waits: bool, folder: Path, as_json: bool) -> None:
    """Contribute no more: the node brings no further updates, and the ledger ends the member's registrations.

    What was committed to is still brought, and seats are still served: leave the node running until this says that it
    may be shut down, or with --wait returns. Stake and rewards stay where they are; what there is of them is said. To
    contribute again, approve the procedure again.

    \b
    Examples:
      fedmeta node leave --folder coast --account /media/key/coast.pem
      fedmeta node leave --folder north --account /media/key/north.pem --candidate --wait
    """
    from fedmeta.node.member import config as configs

    config = configs.read(folder)
    key = account_key(config, account)
    from fedmeta.cli.start import start

    start()
    from fedmeta.node.process import leaving

    done, follower = leaving.leave(config, key, note, candidate=candidate)
    if not as_json:
        show.write(*(done or ["nothing to leave: this member contributes to no recipe"]))
    if waits:
        found = leaving.wait(config, follower, lambda now: None if as_json else _say_duties(now))
    else:
        found = leaving.standing(follower.state, config.member)
        if not as_json:
            _say_duties(found)
    if as_json:
        show.write_json({"done": done, **asdict(found), "may_shut_down": not found.duties})
    elif found.stakes:
        show.write("\nOn the ledger", *(f"  {one}" for one in found.stakes))


def _say_duties(now: "Standing") -> None:
    if now.duties:
        said = f"At height {now.height:,} the node must not be shut down yet:"
        show.write(said, *(f"  {one}" for one in now.duties))
    else:
        show.write(f"At height {now.height:,} the node has no duty any more: it may be shut down")
