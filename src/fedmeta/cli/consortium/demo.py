"""`fedmeta consortium demo`: four hospitals as processes on this machine, from an election to who was paid what."""

import json
import signal
import sys
from pathlib import Path

import click

from fedmeta.errors import UsageError

OUT = "consortium-demo"


@click.command(short_help="Run the four hospitals as processes on this machine.")
@click.option("--rounds", default=12, show_default=True, type=click.IntRange(1), help="Final rounds to wait for.")
@click.option(
    "--out",
    default=OUT,
    metavar="DIR",
    show_default=True,
    type=click.Path(path_type=Path),
    help="A new folder for the report, the logs and the outboxes.",
)
@click.option("--no-faults", is_flag=True, help="Kill no super node, and let none lie.")
def demo(rounds: int, out: Path, no_faults: bool) -> None:
    """Run the four hospitals as processes on this machine: elections, rounds, payments, and two faults on the way.

    Each hospital's patients are read by its own trainer only. Super nodes are elected by stake, take the sealed
    updates, compute the next model each by itself, and agree on the ledger. One of them is killed and loses its disk,
    and in another round one lies about the result.

    \b
    Example:
      fedmeta consortium demo --rounds 12
    """
    if out.exists():
        raise UsageError(f"--out is {out}: it exists, and a demonstration begins in a new folder")
    from rich.console import Console
    from rich.panel import Panel

    from fedmeta.consortium import demonstration, hospitals

    console = Console(highlight=False)
    patients = hospitals.load()
    if patients.warning:
        console.print(Panel(patients.warning, border_style="bold red", style="bold"))
    # Told to end, it ends all that it has started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    out.mkdir(parents=True)
    shown = demonstration.run(patients, rounds, not no_faults, console, out, console.print)
    (out / "federation.json").write_text(json.dumps(shown.part.to_dict(), indent=1))
    sys.exit(0)
