"""`fedmeta node check`: whether a node could work as it is."""

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import click

from fedmeta.cli.ledger import show
from fedmeta.cli.node.options import in_folder


@click.command(short_help="Say whether all is as it must be, and what to do.")
@in_folder
@click.option("--json", "as_json", is_flag=True, help="Write JSON to standard output.")
def check(folder: Path, as_json: bool) -> None:
    """Look at all that a node needs: versions, folder, keys, disk, proxy, ledger, peers, clock, policy, data, walls.

    The exit code is 1 if anything fails; warnings do not matter for it. Nothing is sent but questions.

    \b
    Examples:
      fedmeta node check
      fedmeta node check --folder coast --json
    """
    from fedmeta.cli.start import start
    from fedmeta.node.member import checks
    from fedmeta.node.member.checks_of_ledger import check_ledger, check_proxy
    from fedmeta.node.member.checks_of_work import check_work
    from fedmeta.node.process.apart import check_walls

    start()
    rows = checks.run(folder, (check_proxy, check_ledger, check_work, check_walls))
    worst = checks.worst(rows)
    if as_json:
        click.echo(json.dumps({"state": worst, "checks": [asdict(row) for row in rows]}, indent=1))
    else:
        counts = Counter(row.state for row in rows)
        said = ", ".join(f"{counts[state]} {state}" for state in ("ok", "warning", "fails") if counts[state])
        show.write(show.table("", ("check", "state", "found"), [(row.name, row.state, row.found) for row in rows]))
        todo = [f"{row.name}: {row.advice}" for row in rows if row.advice and row.state != "ok"]
        show.write(
            "", *(["What to do"] if todo else []), *(f"  {line}" for line in todo), *([""] if todo else []), said
        )
    if worst == "fails":
        click.get_current_context().exit(1)
