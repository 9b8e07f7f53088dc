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
    help="What is compared; each with the settings that fit the data set.",
)
@run_options
@click.option("--json", "as_json", is_flag=True, help="Write the figures as JSON to standard output.")
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="A folder for all of it.")
def compare(data: str, algorithms: str, out: Path, as_json: bool, **options: Any) -> None:
    """Train several algorithms on the same clients and test them on clients that took no part in training.

    The same command goes on after an interruption. The folder gets a run folder per algorithm,
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
    from fedmeta.study.compare import Outcome
    from fedmeta.study.compare import compare as compare_outcomes
    from fedmeta.study.recipe import Recipe
    from fedmeta.study.saved import finish

    names = list(dict.fromkeys(name.strip() for name in algorithms.split(",") if name.strip()))
    if not names:
        raise UsageError("--algorithms names no algorithm")
    if out.exists() and not (out / MARK).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} holds something that is not a comparison; give an empty or a new folder")
    given = chosen(options)
    recipes = [Recipe.usual(data, name, **given) for name in names]
    whole = recipes[0].load()
    prepared = [recipe.prepare(whole) for recipe in recipes]
    outcomes: list[Outcome] = []

    def mark(event: Event) -> None:
        if isinstance(event, RunStarted):
            text = f"data = {json.dumps(data)}\nalgorithms = {json.dumps(names)}\n"
            write_atomically(out / MARK, text.encode())

    with Display() as display:
        try:
            for name, one in zip(names, prepared, strict=True):
                run = one.run(out / name, (mark, display.listener(one.algorithm.title)))
                outcomes.append(finish(one, run))
        except KeyboardInterrupt:
            raise Interrupted("interrupted; the same command goes on where it stopped") from None
    comparison = compare_outcomes(outcomes)
    comparison.save(out)
    pages = write_pages(out, outcomes, comparison)
    if as_json:
        click.echo(json.dumps(comparison.summary(), indent=1))
        return
    console = Console()
    show(console, outcomes, comparison)
    lines = [*pages, f"Figures {out / 'comparison.json'}"]
    console.print("\n" + "\n".join(lines), highlight=False, soft_wrap=True, markup=False)
