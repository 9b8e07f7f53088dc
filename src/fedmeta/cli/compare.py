"""`fedmeta compare`: several algorithms on one data set, with the same budget."""

import json
from pathlib import Path
from typing import Any

import click

from fedmeta.cli.options import chosen, data_options, run_options

MARK = "comparison.toml"
"""The file that says that a folder holds a comparison."""


@click.command(short_help="Train several algorithms on the same clients.")
@data_options
@click.option(
    "--algorithms",
    default="fedavg,fedavg-meta,maml,meta-sgd",
    show_default=True,
    metavar="A,B,...",
    help="The algorithms to compare, each with settings that fit the data set.",
)
@run_options
@click.option("--inner-lr", type=float, help="The learning rate of a client's gradient descent, in every algorithm.")
@click.option("--json", "as_json", is_flag=True, help="Write the figures as JSON to standard output.")
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="A folder for everything.")
def compare(data: str, algorithms: str, out: Path, as_json: bool, **options: Any) -> None:
    """Train several algorithms on the same clients and test them on clients that took no part in training.

    After an interruption, the same command continues. The folder gets a run folder for each algorithm,
    comparison.json, a picture (comparison.png and .svg) and report.html.

    \b
    Examples:
      fedmeta compare --data digits --out runs/digits
      fedmeta compare --data mnist --classes-per-client 2 --algorithms fedavg,maml --out runs/mnist
    """
    from rich.console import Console

    from fedmeta._files import write_atomically
    from fedmeta.cli.pages import write_pages
    from fedmeta.cli.progress import Display
    from fedmeta.cli.tables import show
    from fedmeta.errors import Interrupted, UsageError
    from fedmeta.events import Event, RunStarted
    from fedmeta.study.compare import FinishedRun
    from fedmeta.study.compare import compare as compare_runs
    from fedmeta.study.recipe import Recipe, prepare_all
    from fedmeta.study.saved import finish

    names = list(dict.fromkeys(name.strip() for name in algorithms.split(",") if name.strip()))
    if not names:
        raise UsageError("--algorithms names no algorithm")
    if out.exists() and not (out / MARK).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} holds something that is not a comparison; give an empty or a new folder")
    given = chosen(options)
    recipes = [Recipe.default(data, name, **given) for name in names]
    experiments = prepare_all(recipes)
    finished: list[FinishedRun] = []

    def mark(event: Event) -> None:
        if isinstance(event, RunStarted):
            text = f"data = {json.dumps(data)}\nalgorithms = {json.dumps(names)}\n"
            write_atomically(out / MARK, text.encode())

    with Display() as display:
        try:
            for name, experiment in zip(names, experiments, strict=True):
                shown = display.listener(experiment.procedure.algorithm.title)
                run = experiment.run(out / name, (mark, shown))
                finished.append(finish(experiment, run))
        except KeyboardInterrupt:
            raise Interrupted("interrupted; the same command continues where it stopped") from None
    comparison = compare_runs(finished)
    comparison.save(out)
    pages = write_pages(out, finished, comparison)
    if as_json:
        click.echo(json.dumps(comparison.summary(), indent=1))
        return
    console = Console()
    show(console, finished, comparison)
    lines = [*pages, f"Figures {out / 'comparison.json'}"]
    console.print("\n" + "\n".join(lines), highlight=False, soft_wrap=True, markup=False)
