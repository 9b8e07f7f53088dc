"""`fedmeta consortium demo`: four hospitals as processes on this machine, from an election to who was paid what."""

import json
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fedmeta.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from fedmeta.consortium.processes.beside import Comparing

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
@click.option(
    "--engine",
    type=click.Choice(["embedded", "cometbft"]),
    default="embedded",
    show_default=True,
    help="Who orders the ledger's blocks: a sequencer, or the super nodes themselves.",
)
@click.option("--no-faults", is_flag=True, help="Kill no super node, and let none lie.")
def demo(rounds: int, out: Path, engine: str, no_faults: bool) -> None:
    """Run the four hospitals as processes on this machine: elections, rounds, payments, and two faults on the way.

    Each hospital's patients are read by its own trainer only. Super nodes are elected by stake, take the sealed
    updates, compute the next model each by itself, and agree on the ledger. One of them is killed and loses its disk,
    and in another round one lies about the result.

    \b
    Example:
      fedmeta consortium demo --rounds 12
      fedmeta consortium demo --engine cometbft
    """
    if out.exists():
        raise UsageError(f"--out is {out}: it exists, and a demonstration begins in a new folder")
    from fedmeta._extras import need, need_extra

    # Before anything runs for minutes.
    need("jinja2", "a report")
    if engine == "cometbft":
        need_extra("cometbft", "a ledger whose blocks super nodes decide")
        from fedmeta.govern.engines.cometbft.binary import find_binary

        find_binary()
    from rich.console import Console
    from rich.panel import Panel

    from fedmeta.cli.start import start

    start()
    from fedmeta._files import write_atomically
    from fedmeta.cli.pages import command
    from fedmeta.consortium import hospitals, terminal
    from fedmeta.consortium.processes import demonstration
    from fedmeta.consortium.processes.beside import comparing
    from fedmeta.consortium.report import write_report

    console = Console()
    patients = hospitals.load()
    if patients.warning:
        console.print(Panel(patients.warning, border_style="bold red", style="bold"))
    # Told to end, it ends all that it has started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    out.mkdir(parents=True)

    def say(text: str) -> None:
        console.print(text, highlight=False, markup=False)

    with comparing(out) as compared:
        shown = demonstration.run(patients, rounds, not no_faults, console, out, say, engine)
        write_atomically(out / "federation.json", json.dumps(shown.part.to_dict(), indent=1).encode())
        _wait(console, compared)
        found = compared.result()
    terminal.show(console, found, shown.part)
    write_report(out / "report.html", found, shown.part, command())
    say(
        f"\nReport  {out / 'report.html'}\n"
        f"Wire    {out / 'wire.csv'}: each way, by the outbox and as it was counted, and whether they agree\n"
        f"Beside  the figures, the outboxes and the logs, in {out}"
    )
    sys.exit(0)


def _wait(console: "Console", compared: "Comparing") -> None:
    """Wait for the comparison of methods, and say what it is at."""
    if not compared.runs:
        return
    if not console.is_terminal:
        console.print("the federation is done; the comparison of methods goes on", highlight=False)
    with console.status("") as status:
        while compared.runs:
            status.update(f"The federation is done. The comparison of methods goes on: {compared.at}")
            time.sleep(0.5)
