"""`fedmeta consortium report`: what each hospital gains, computed without a federation."""

import json
from pathlib import Path

import click


@click.command(short_help="Compute what each hospital gains, and write it down.")
@click.option("--out", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path), help="The report as HTML.")
@click.option("--json", "as_json", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path), help="All figures.")
@click.option("--splits", default=10, show_default=True, type=click.IntRange(2), help="Splits of each hospital.")
@click.option("--bootstrap", default=400, show_default=True, type=click.IntRange(20), help="Draws of an interval.")
@click.option(
    "--planted", default=4, show_default=True, type=click.IntRange(0), help="Seeds of planted contributors; 0: none."
)
@click.option("--seed", default=0, show_default=True, help="Of every draw.")
def report(out: Path | None, as_json: Path | None, splits: int, bootstrap: int, planted: int, seed: int) -> None:
    """Set four hospitals beside themselves alone, all pooled, and a federation; and each as one that joins later.

    Beside them, what free-riders and poisoners are paid that are planted in a federation. It trains in one process,
    without a ledger. The patients are those of the UCI Heart Disease data where their files
    are on this machine (`fedmeta data get heart` fetches them), else a stand-in, and the report says so.

    \b
    Examples:
      fedmeta consortium report
      fedmeta consortium report --splits 20 --out report.html --json report.json
    """
    from rich.console import Console

    from fedmeta._extras import need
    from fedmeta._files import write_atomically
    from fedmeta.cli.pages import command
    from fedmeta.consortium import comparison, hospitals, terminal
    from fedmeta.consortium.report import write_report

    if out is not None:
        need("jinja2", "a report")
    aside = Console(stderr=True)
    found = hospitals.load(seed)
    if found.warning:
        aside.print(found.warning, style="bold", markup=False)
    with aside.status("starts") as status:

        def progress(text: str) -> None:
            if aside.is_terminal:
                status.update(text)
            else:
                aside.print(text, highlight=False, markup=False)

        compared = comparison.compare(found, splits, seed, bootstrap, progress, planted_seeds=planted)
    console = Console()
    terminal.show(console, compared)
    if as_json is not None:
        write_atomically(as_json, json.dumps(compared.to_dict(), indent=1).encode())
        console.print(f"Figures {as_json}", highlight=False, soft_wrap=True, markup=False)
    if out is not None:
        write_report(out, compared, command=command())
        console.print(f"Report  {out}", highlight=False, soft_wrap=True, markup=False)
