"""`fedmeta node recover`: a new beginning after a lost machine, or an old state of its disk."""

from pathlib import Path

import click

from fedmeta.cli.ledger import show
from fedmeta.cli.node.options import account_key, in_folder, with_account


@click.command(short_help="Begin anew after a lost machine or an old snapshot, by the account's key.")
@with_account
@in_folder
@click.option("--json", "as_json", is_flag=True, help="Write JSON to standard output.")
def recover(account: Path | None, folder: Path, as_json: bool) -> None:
    """Make a new machine key, a new TLS key and a new journal, and tell the ledger by the account's key.

    This is for a node whose machine was lost, or whose disk was put back to an older state: a backup, or a snapshot of
    a virtual machine. The new key fences the old one, so that nothing the old machine still says counts. The old keys
    and the old journal are set aside under their date, and never used again. Then the node is silent for some blocks.
    Approvals, policy, configuration and data stay as they are. On a new machine, `fedmeta node init` comes first.

    There are no backups of journals: one that lacks the last promise would let the node contradict itself, and lose its
    stake. What it has said before, it reads from the ledger.

    \b
    Example:
      fedmeta node recover --folder coast --account /media/key/coast.pem
    """
    from fedmeta.node.member import config as configs

    config = configs.read(folder)
    key = account_key(config, account)
    from fedmeta.cli.start import start

    start()
    from fedmeta.node.process import recovering

    done = recovering.recover(config, key)
    if as_json:
        aside = [str(one) for one in done.aside]
        show.write_json({"machine": done.machine, "tls": done.tls, "silent_until": done.until, "set_aside": aside})
        return
    show.write(
        f"Machine key  {done.machine.hex()}",
        f"TLS key      {done.tls.hex()}",
        *(f"Set aside    {one}" for one in done.aside),
        f"Silent       until height {done.until:,}",
        f"\nNext: fedmeta node check --folder {folder}, then fedmeta node start --folder {folder}",
    )
