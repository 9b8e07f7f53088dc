"""`fedmeta node outbox`: all bytes that ever left, to whom and why."""

from dataclasses import asdict
from pathlib import Path

import click

from fedmeta.cli.ledger import show
from fedmeta.cli.node.options import in_folder


@click.command(short_help="List all bytes that ever left, to whom and why.")
@click.option("--round", "number", metavar="N", type=click.IntRange(min=0), help="Of this round only.")
@in_folder
@click.option("--json", "as_json", is_flag=True, help="Write JSON to standard output.")
def outbox(number: int | None, folder: Path, as_json: bool) -> None:
    """List what left this node: when, for which round, to whom, what, how many bytes, their digest, and why.

    Each is written down before it leaves, bound to the one before by its hash: a change of the file is found.

    \b
    Examples:
      fedmeta node outbox
      fedmeta node outbox --folder coast --round 12
    """
    from fedmeta.node.member import config
    from fedmeta.node.member.folder import Folder
    from fedmeta.node.member.outbox import WHAT, Outbox, totals
    from fedmeta.node.member.settings import said_size

    config.read(folder)
    made = Folder(folder)
    sent = Outbox(made.outbox).read(number)
    if number is None:
        # What the gate has answered belongs to no round; it keeps a list of its own, for it may not write the core's.
        sent = sorted([*sent, *Outbox(made.gate / made.outbox.name).read()], key=lambda one: one.time)
    sums = totals(sent)
    if as_json:
        summed = {what: {"times": times, "bytes": size} for what, (times, size) in sums.items()}
        show.write_json({"sent": [asdict(one) for one in sent], "totals": summed})
        return
    if not sent:
        show.write("nothing has left" + ("" if number is None else f" in round {number:,}"))
        return
    headings = ("time", "round", "to", "what", "detail", "bytes", "digest", "why")
    rows = [(one.time, one.round, one.to, one.what, one.detail, one.size, one.digest, one.why) for one in sent]
    summed = [(what, times, size, WHAT[what]) for what, (times, size) in sums.items()]
    everything = sum(size for _, size in sums.values())
    show.write(
        show.table("", headings, rows),
        show.table("In all", ("what", "times", "bytes", "which is"), summed),
        f"{len(sent):,} times, {everything:,} bytes ({said_size(everything)})",
    )
