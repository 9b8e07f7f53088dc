"""`fedmeta evaluate`."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from fedmeta.cli.options import baseline_option, reading_options, set_beside, told_of_reading


@click.command(short_help="Test a run on unseen clients.")
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--data",
    metavar="FILE|FOLDER|NAME",
    help="Test on the clients of these data, which are read as the training data were.  [default: the run's test "
    "clients]",
)
@click.option(
    "--clients",
    multiple=True,
    metavar="A,B,...",
    help="Test these clients only; may be repeated, once for a name with a comma.",
)
@click.option(
    "--support", type=float, help="The fraction of its examples that a client adapts on.  [default: as in training]"
)
@click.option("--adapt-steps", type=int, help="Steps when a client adapts.  [default: as in training]")
@click.option(
    "--per-client",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write a row for each client to this CSV file.",
)
@baseline_option("free; of --data a client's own support")
@click.option("--drop-missing-target", is_flag=True, help="Leave out rows of --data without a target.")
@reading_options
@click.option("--json", "as_json", is_flag=True, help="Write the figures as JSON to standard output.")
def evaluate(
    run: Path,
    data: str | None,
    clients: tuple[str, ...],
    support: float | None,
    adapt_steps: int | None,
    per_client: Path | None,
    baselines: str | None,
    as_json: bool,
    **table: Any,
) -> None:
    """Test a run on clients that took no part in training, before and after they adapt.

    With --data the clients are those of another file, such as next month's: each adapts on a part of
    its examples, and is tested on the rest. The training data need not be there.

    \b
    Examples:
      fedmeta evaluate runs/maml
      fedmeta evaluate runs/maml --support 0.5 --adapt-steps 10
      fedmeta evaluate runs/visits --data next_month.csv --clients h03,h07
    """
    from dataclasses import replace

    from rich.console import Console

    from fedmeta._files import write_atomically
    from fedmeta.algorithms import PerFedAvg
    from fedmeta.cli.tables import show
    from fedmeta.runs.folder import read_history
    from fedmeta.runs.saved import load_run
    from fedmeta.study.compare import FinishedRun

    def longer(algorithm: Any) -> Any:
        """Return the algorithm with other steps of adaptation; Per-FedAvg adapts as the one that it is made of."""
        if isinstance(algorithm, PerFedAvg):
            return replace(algorithm, of=longer(algorithm.of))
        return replace(algorithm, adapt_steps=adapt_steps, adapt_epochs=None)

    saved = load_run(run)
    experiment = _experiment(run, saved, data, clients, _told(table))
    other: dict[str, Any] = {} if support is None else {"support": support}
    if adapt_steps is not None:
        other["algorithm"] = longer(saved.algorithm)
    experiment = replace(experiment, procedure=replace(experiment.procedure, **other))
    report = experiment.report(saved.phi, experiment.test, predictions=True)
    finished = FinishedRun(experiment, read_history(run), report, _beside(experiment, baselines), saved.best)
    if per_client is not None:
        write_atomically(per_client, report.per_client_csv().encode())
    if as_json:
        click.echo(json.dumps(finished.summary(), indent=1))
        return
    show(Console(), [finished])


def _beside(experiment: Any, which: str | None) -> dict[str, Any]:
    """Return the baselines that were asked for; of other data those that need no training clients."""
    from fedmeta.errors import UsageError
    from fedmeta.study.baselines import baselines

    if experiment.train.num_clients:
        return set_beside(experiment, which or "free")
    if which == "all":
        raise UsageError("--baselines all trains on the training clients, which are not there beside --data")
    return baselines(experiment, () if which == "none" else ("support",))


def _told(table: dict[str, Any]) -> dict[str, Any]:
    drop = table.pop("drop_missing_target")
    reading = told_of_reading(table)
    return {**({"drop_missing_target": True} if drop else {}), **({"reading": reading} if reading else {})}


def _experiment(run: Path, saved: Any, data: str | None, clients: Sequence[str], table: dict[str, Any]) -> Any:
    """Return the experiment with the clients that are tested."""
    from fedmeta.errors import UsageError
    from fedmeta.runs.folder import read_history
    from fedmeta.study import testing
    from fedmeta.study.saved import check_data, read_experiment

    if data is None:
        if table:
            raise UsageError("how a table is read is told beside --data, which is not given")
        experiment = read_experiment(run, all_tested=bool(clients))
        check_data(saved, experiment)
        return testing.on_own_clients(experiment, clients) if clients else experiment
    experiment = testing.on_other_data(run, data, table, clients)
    if known := testing.seen(experiment.test, read_history(run)):
        whose = f"{len(known)} of the {experiment.test.num_clients} clients of {data} took part in training"
        click.echo(f"{whose}, {known[0]!r} among them: their figures are not those of unseen clients", err=True)
    return experiment
