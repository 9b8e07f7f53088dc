"""`fedmeta train --explain-plan`: how a run would be computed, and why."""

import json
import math
from typing import Any

import click


def explain(prepared: Any, plan: Any, as_json: bool) -> None:
    """Show the plan for a recipe that was made real, and the plans that it was chosen from."""
    from rich.console import Console

    console = Console(stderr=True)
    with console.status("measuring plans", spinner="line") as status:

        def listener(event: Any) -> None:
            status.update(f"measured: {event.plan}")

        found = prepared.explain(plan, (listener,))
    if as_json:
        click.echo(json.dumps(_summary(found), indent=1))
    else:
        _show(Console(), found)


def _summary(found: Any) -> dict[str, Any]:
    return {
        "plan": found.plan.to_dict(),
        "source": found.source,
        "cohort_size": found.cohort_size,
        "levels": [{"support": support, "query": query} for support, query in found.levels],
        "padding": found.padding,
        "flops_per_client": found.flops,
        "trials": [
            {
                "plan": trial.plan.to_dict(),
                "seconds": trial.seconds if math.isfinite(trial.seconds) else None,
                "first_seconds": trial.first,
                "bytes": trial.memory,
            }
            for trial in found.trials
        ],
    }


def _show(console: Any, found: Any) -> None:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("plan")
    for name in ("round", "a client", "rate", "first round", "memory"):
        table.add_column(name, justify="right")
    for trial in found.trials:
        each = trial.seconds / found.cohort_size
        measured = math.isfinite(trial.seconds)
        table.add_row(
            str(trial.plan),
            f"{1e3 * trial.seconds:.2f} ms" if measured else "not run",
            f"{1e3 * each:.2f} ms" if measured else "",
            f"{found.flops / each / 1e9:.0f} GFLOP/s" if measured else "",
            f"{trial.first:.1f} s",
            f"{trial.memory / 1e6:,.0f} MB",
            style="bold" if trial.plan == found.plan else None,
        )
    shapes = ", ".join(f"{support} + {query}" for support, query in found.levels)
    console.print(table)
    for name, value in {
        "Plan": f"{found.plan} ({found.source})",
        "Cohort": f"{found.cohort_size} clients, {found.flops / 1e6:,.1f} MFLOP each",
        "Shapes": f"{shapes} support and query examples; {100 * found.padding:.0f} % of all examples are padding",
        "Programs": f"at most {len(found.levels)} rounds to compile, one for each shape",
    }.items():
        console.print(f"{name:<9}{value}", highlight=False, soft_wrap=True, markup=False)
