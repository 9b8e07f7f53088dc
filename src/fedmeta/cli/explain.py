"""`fedmeta train --explain-plan`: how a run would be computed, and why."""

import json
import math
from typing import Any

import click


def explain(experiment: Any, plan: Any, as_json: bool) -> None:
    """Show the plan for an experiment, and the plans that it was chosen from."""
    from rich.console import Console

    console = Console(stderr=True)
    with console.status("measuring plans", spinner="line") as status:

        def listener(event: Any) -> None:
            status.update(f"measured: {event.plan}")

        explanation = experiment.explain(plan, (listener,))
    if as_json:
        click.echo(json.dumps(_summary(explanation), indent=1))
    else:
        _show(Console(), explanation)


def _summary(explanation: Any) -> dict[str, Any]:
    return {
        "plan": explanation.plan.to_dict(),
        "source": explanation.source,
        "cohort_size": explanation.cohort_size,
        "buckets": [{"support": support, "query": query} for support, query in explanation.buckets],
        "padding": explanation.padding,
        "flops_per_client": explanation.flops,
        "trials": [
            {
                "plan": trial.plan.to_dict(),
                "seconds": trial.seconds if math.isfinite(trial.seconds) else None,
                "first_seconds": trial.first,
                "bytes": trial.memory,
            }
            for trial in explanation.trials
        ],
    }


def _show(console: Any, explanation: Any) -> None:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("plan")
    for name in ("round", "a client", "rate", "first round", "memory"):
        table.add_column(name, justify="right")
    for trial in explanation.trials:
        each = trial.seconds / explanation.cohort_size
        measured = math.isfinite(trial.seconds)
        table.add_row(
            str(trial.plan),
            f"{1e3 * trial.seconds:.2f} ms" if measured else "not run",
            f"{1e3 * each:.2f} ms" if measured else "",
            f"{explanation.flops / each / 1e9:.0f} GFLOP/s" if measured and explanation.flops is not None else "",
            f"{trial.first:.1f} s",
            f"{trial.memory / 1e6:,.0f} MB",
            style="bold" if trial.plan == explanation.plan else None,
        )
    counted = "" if explanation.flops is None else f", {explanation.flops / 1e6:,.1f} MFLOP each"
    buckets = ", ".join(f"{support} + {query}" for support, query in explanation.buckets)
    console.print(table)
    for name, value in {
        "Plan": f"{explanation.plan} ({explanation.source})",
        "Cohort": f"{explanation.cohort_size} clients{counted}",
        "Buckets": f"{buckets} support and query examples; {100 * explanation.padding:.0f} % of them are padding",
        "Programs": f"at most {len(explanation.buckets)} rounds to compile, one for each bucket",
    }.items():
        console.print(f"{name:<9}{value}", highlight=False, soft_wrap=True, markup=False)
