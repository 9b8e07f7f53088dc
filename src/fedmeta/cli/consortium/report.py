"""`fedmeta consortium report`: what each hospital gains, computed without a federation."""

import click


@click.command(short_help="Compute what each hospital gains, and write it down.")
@click.option("--seed", default=0, show_default=True, help="Of every draw.")
def report(seed: int) -> None:
    """Say who the four hospitals are.

    \b
    Example:
      fedmeta consortium report
    """
    from rich.console import Console
    from rich.table import Table

    from fedmeta.consortium import hospitals

    found = hospitals.load(seed)
    console = Console()
    if found.warning:
        console.print(found.warning, style="bold red", markup=False)
    table = Table("hospital", "patients", "ill", title=found.source)
    for one in found:
        table.add_row(one.title, str(len(one)), f"{one.ill_share:.0%}")
    console.print(table)
