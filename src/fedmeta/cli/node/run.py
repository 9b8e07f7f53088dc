"""`fedmeta node start` and `status`: the processes, and how they are."""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import click

from fedmeta.cli.node.options import in_folder
from fedmeta.node.errors import ConfigError


@click.command(short_help="Run the node's processes until they are told to end.")
@in_folder
def start(folder: Path) -> None:
    """Start gate, core and trainer, each behind its walls, and start them again where one of them ends.

    Exit code 0 where it was told to end; 3 where the core must not go on by itself: a person must look first.

    \b
    Example:
      fedmeta node start --folder coast
    """
    from fedmeta.node.member import config as configs
    from fedmeta.node.member.settings import read_toml
    from fedmeta.node.process import supervisor

    config = configs.read(folder)
    content = read_toml(folder / configs.FILE)
    code = supervisor.run(config, content, lambda text: print(f"fedmeta: {text}", file=sys.stderr, flush=True))
    sys.exit(code)


@click.command(short_help="Say how the node is.")
@in_folder
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def status(folder: Path, as_json: bool) -> None:
    """Say how the node is: the ledger, the round, its last duty, and what its people should look at.

    Exit code 1 where it is not ready: the ledger is not followed, or its part in the last round was not done.

    \b
    Example:
      fedmeta node status --folder coast
    """
    found = read_status(folder)
    if as_json:
        print(json.dumps(found, indent=1))
    else:
        for line in lines(found):
            print(line)
    sys.exit(0 if found["ready"] and found["fresh"] else 1)


def read_status(folder: Path) -> dict[str, Any]:
    """Return what the core has last said of itself; `fresh` says whether that was just now."""
    from fedmeta.node.member.folder import Folder
    from fedmeta.node.process.status import STATUS

    file = Folder(folder).core / STATUS
    try:
        found = json.loads(file.read_bytes())
        age = time.time() - os.stat(file).st_mtime
    except (OSError, ValueError) as error:
        raise ConfigError(f"no node has run in {folder} yet: `fedmeta node start` starts one") from error
    return {**found, "fresh": age < 10.0, "age_seconds": round(age, 1)}


def lines(found: dict[str, Any]) -> list[str]:
    """Return a status as lines for people."""
    due = ("in the cohort" if found["in_cohort"] else "") + (" and " if found["in_cohort"] and found["seat"] else "")
    due += "holds a seat" if found["seat"] else ""
    running = "running" if found["fresh"] else f"not running; last seen {found['age_seconds']:,.0f} s ago"
    last = found["last_duty"]
    shown = [
        ("node", f"{found['member']}, {found['role']}: {running}{', halted' if found['halted'] else ''}"),
        ("ready", "yes" if found["ready"] and found["fresh"] else "no"),
        ("ledger", f"height {found['height']:,}; {found['ledger']}"),
        ("round", f"{found['round']} {found['phase']}{f', {due}' if due else ''}" if found["round"] else "none yet"),
        ("last duty", f"{last['what']} of round {last['round']} at {last['at']}" if last else "none yet"),
        ("rounds", ", ".join(f"{count} {kind}" for kind, count in sorted(found["rounds"].items())) or "none yet"),
        ("approved", f"{len(found['approved'])} procedures" if len(found["approved"]) != 1 else found["approved"][0]),
    ]
    if found["halted"]:
        shown.append(("halted", found["halted"]))
    shown += [("look at" if one["alarm"] else "said", f"{one['at']}  {one['text']}") for one in found["said"][-5:]]
    return [f"{name:<10} {text}" for name, text in shown]
