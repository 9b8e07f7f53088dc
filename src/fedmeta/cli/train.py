"""`fedmeta train` and `fedmeta resume`."""

import json
from pathlib import Path
from typing import Any

import click

from fedmeta.algorithms import ALGORITHMS
from fedmeta.cli.explain import explain
from fedmeta.cli.launch import JoinedCommand, process_options
from fedmeta.cli.options import (
    OF_TRAINING,
    algorithm_options,
    baseline_option,
    chosen,
    data_options,
    engine_options,
    run_options,
    set_beside,
)


@click.command(cls=JoinedCommand, short_help="Train an algorithm and test it on unseen clients.")
@data_options
@click.option("--algorithm", required=True, metavar="NAME", help=", ".join(ALGORITHMS) + ".")
@run_options
@algorithm_options
@engine_options
@click.option(
    "--explain-plan", is_flag=True, help="Measure and show how the run would be computed, without running it."
)
@process_options
@baseline_option(OF_TRAINING)
@click.option("--tensorboard", type=click.Path(file_okay=False), help="Also write TensorBoard's event files here.")
@click.option("--json", "as_json", is_flag=True, help="Write the test's figures as JSON to standard output.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="The run folder.  [required]")
def train(
    data: str,
    algorithm: str,
    out: Path | None,
    tensorboard: str | None,
    as_json: bool,
    plan: str | None,
    explain_plan: bool,
    baselines: str | None,
    **options: Any,
) -> None:
    """Train an algorithm, then test it on clients that took no part in training.

    Settings that are not given are chosen to fit the data set and the algorithm. After Ctrl-C,
    `fedmeta resume` continues the run.

    \b
    Examples:
      fedmeta train --data digits --algorithm maml --out runs/maml
      fedmeta train --data visits.csv --client hospital --target ill --algorithm meta-sgd --out runs/visits
      fedmeta train --data digits --algorithm fedprox --algorithm-option mu=0.5 --out runs/prox
      fedmeta train --data digits --algorithm fedavg --transform quantise:bits=8
          --aggregator trimmed_mean:fraction=0.25 --patience 5 --out runs/robust
      fedmeta train --data mnist --algorithm maml --explain-plan
    """
    from fedmeta._engine.plan import Plan
    from fedmeta.errors import UsageError
    from fedmeta.study.recipe import Recipe

    given = None if plan is None else Plan.parse(plan)
    recipe = Recipe.default(data, algorithm, **chosen(options))
    if explain_plan:
        explain(recipe.prepare(), given, as_json)
    elif out is None:
        raise UsageError("give the run folder: --out RUN")
    else:
        _run(recipe.prepare(), out, tensorboard, as_json, baselines, given)


@click.command(cls=JoinedCommand, short_help="Continue a run that was interrupted.")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--rounds", type=int, help="Rounds in all, to train for more than at first.")
@process_options
@baseline_option(OF_TRAINING)
@click.option("--tensorboard", type=click.Path(file_okay=False), help="Also write TensorBoard's event files here.")
@click.option("--json", "as_json", is_flag=True, help="Write the test's figures as JSON to standard output.")
def resume(run: Path, rounds: int | None, baselines: str | None, tensorboard: str | None, as_json: bool) -> None:
    """Continue a run that was interrupted; the result is bit for bit that of an uninterrupted run.

    \b
    Examples:
      fedmeta resume runs/maml
      fedmeta resume runs/maml --rounds 1000
    """
    from fedmeta.study.saved import read_experiment

    _run(read_experiment(run, rounds), run, tensorboard, as_json, baselines)


def _run(
    experiment: Any, out: Path, tensorboard: str | None, as_json: bool, baselines: str | None, plan: Any = None
) -> None:
    from rich.console import Console

    from fedmeta._engine.sharding import is_leader
    from fedmeta.cli.pages import write_pages
    from fedmeta.cli.progress import Display
    from fedmeta.cli.tables import show
    from fedmeta.errors import Interrupted
    from fedmeta.events import TensorBoard
    from fedmeta.study.saved import finish

    if not is_leader():
        finish(experiment, experiment.run(), set_beside(experiment, baselines))
        return
    board = None if tensorboard is None else TensorBoard(tensorboard)
    with Display() as display:
        try:
            shown = display.listener(experiment.procedure.algorithm.title)
            run = experiment.run(out, (shown,) if board is None else (shown, board), plan)
        except KeyboardInterrupt:
            raise Interrupted(f"interrupted; go on with: fedmeta resume {out}") from None
        finally:
            if board is not None:
                board.close()
    finished = finish(experiment, run, set_beside(experiment, baselines))
    pages = write_pages(out, finished)
    if as_json:
        click.echo(json.dumps(finished.summary(), indent=1))
        return
    console = Console()
    show(console, [finished])
    lines = [f"Model   {out / 'model.safetensors'}", *pages]
    console.print("\n" + "\n".join(lines), highlight=False, soft_wrap=True, markup=False)
