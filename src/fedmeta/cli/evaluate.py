"""`fedmeta evaluate`."""

import json
from pathlib import Path
from typing import Any

import click


@click.command(short_help="Test a run on unseen clients.")
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--support", type=float, help="The fraction of its examples that a client adapts on.  [default: as in training]"
)
@click.option("--adapt-steps", type=int, help="Steps when a client adapts.  [default: as in training]")
@click.option(
    "--per-client",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write a row for each client to this CSV file.",
)
@click.option("--json", "as_json", is_flag=True, help="Write the figures as JSON to standard output.")
def evaluate(run: Path, support: float | None, adapt_steps: int | None, per_client: Path | None, as_json: bool) -> None:
    """Test a run on clients that took no part in training, before and after they adapt.

    \b
    Examples:
      fedmeta evaluate runs/maml
      fedmeta evaluate runs/maml --support 0.5 --adapt-steps 10
    """
    from dataclasses import replace

    from rich.console import Console

    from fedmeta._files import write_atomically
    from fedmeta.algorithms import PerFedAvg
    from fedmeta.cli.tables import show
    from fedmeta.runs.folder import read_history
    from fedmeta.runs.saved import load_run
    from fedmeta.study.compare import FinishedRun
    from fedmeta.study.saved import check_data, read_experiment

    def longer(algorithm: Any) -> Any:
        """Return the algorithm with other steps of adaptation; Per-FedAvg adapts as the one that it is made of."""
        if isinstance(algorithm, PerFedAvg):
            return replace(algorithm, of=longer(algorithm.of))
        return replace(algorithm, adapt_steps=adapt_steps, adapt_epochs=None)

    saved = load_run(run)
    experiment = read_experiment(run)
    check_data(saved, experiment)
    if adapt_steps is not None:
        procedure = replace(experiment.procedure, algorithm=longer(saved.algorithm))
        experiment = replace(experiment, procedure=procedure)
    report = experiment.report(saved.phi, experiment.test, support=support)
    if per_client is not None:
        write_atomically(per_client, report.per_client_csv().encode())
    if as_json:
        click.echo(json.dumps(report.summary(), indent=1))
        return
    show(Console(), [FinishedRun(experiment, read_history(run), report)])
