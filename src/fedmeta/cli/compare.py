"""`fedmeta compare`: several algorithms on one data set, with the same budget."""

import json
import tomllib
from pathlib import Path
from typing import Any

import click

from fedmeta.cli.options import OF_TRAINING, baseline_option, chosen, data_options, run_options, set_beside

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
@click.option("--seeds", type=click.IntRange(min=1), default=1, show_default=True, help="Repeat with so many seeds.")
@baseline_option(OF_TRAINING)
@click.option("--inner-lr", type=float, help="The learning rate of a client's gradient descent, in every algorithm.")
@click.option("--json", "as_json", is_flag=True, help="Write the figures as JSON to standard output.")
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="A folder for everything.")
def compare(
    data: str, algorithms: str, out: Path, seeds: int, baselines: str | None, as_json: bool, **options: Any
) -> None:
    """Train several algorithms on the same clients and test them on clients that took no part in training.

    Below the algorithms stand a constant, a client's own support, each client alone and all data pooled.

    With several seeds, each splits the clients and draws anew; the table has intervals, and says which differences
    are beyond them. After an interruption, the same command continues. The folder gets a run folder for each
    algorithm (and seed), comparison.json, a picture (comparison.png and .svg) and report.html.

    \b
    Examples:
      fedmeta compare --data digits --out runs/digits
      fedmeta compare --data mnist --classes-per-client 2 --algorithms fedavg,maml --out runs/mnist
      fedmeta compare --data visits.csv --client hospital --target ill --seeds 5 --out runs/visits
    """
    from rich.console import Console

    from fedmeta._files import write_atomically
    from fedmeta.cli.pages import write_pages
    from fedmeta.cli.progress import Display
    from fedmeta.cli.tables import show, show_repeats
    from fedmeta.errors import Interrupted, UsageError
    from fedmeta.events import Event, RunStarted
    from fedmeta.study.compare import Repeats, save
    from fedmeta.study.compare import compare as compare_runs
    from fedmeta.study.recipe import Recipe, prepare_all
    from fedmeta.study.saved import finish

    names = list(dict.fromkeys(name.strip() for name in algorithms.split(",") if name.strip()))
    if not names:
        raise UsageError("--algorithms names no algorithm")
    if out.exists() and not (out / MARK).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} holds something that is not a comparison; give an empty or a new folder")
    if (out / MARK).is_file() and (held := tomllib.loads((out / MARK).read_text()).get("seeds", 1)) != seeds:
        raise UsageError(f"{out} holds a comparison with --seeds {held}; give another folder for --seeds {seeds}")
    given = chosen(options)
    first = given.pop("seed", None) or 0
    recipes = [Recipe.default(data, name, **given, seed=seed) for seed in range(first, first + seeds) for name in names]
    prepared = prepare_all(recipes)
    experiments = {first + place: prepared[place * len(names) :][: len(names)] for place in range(seeds)}

    def mark(event: Event) -> None:
        if isinstance(event, RunStarted):
            text = f"data = {json.dumps(data)}\nalgorithms = {json.dumps(names)}\nseeds = {seeds}\n"
            write_atomically(out / MARK, text.encode())

    comparisons = []
    with Display() as display:
        try:
            for seed, some in experiments.items():
                beside = set_beside(some[0], baselines)
                folder = out if seeds == 1 else out / f"seed-{seed}"
                finished = []
                for name, experiment in zip(names, some, strict=True):
                    title = experiment.procedure.algorithm.title
                    shown = display.listener(title if seeds == 1 else f"{title}, seed {seed}")
                    run = experiment.run(folder / name, (mark, shown))
                    finished.append(finish(experiment, run, beside))
                comparisons.append(compare_runs(finished))
        except KeyboardInterrupt:
            raise Interrupted("interrupted; the same command continues where it stopped") from None
    comparison = comparisons[0]
    found = comparison if seeds == 1 else Repeats(tuple(comparisons))
    save(out, found)
    pages = write_pages(out, found)
    if as_json:
        click.echo(json.dumps(found.summary(), indent=1))
        return
    console = Console()
    show(console, comparison.runs, comparison, f"seed {first}" if seeds > 1 else "")
    if isinstance(found, Repeats):
        show_repeats(console, found)
    lines = [*pages, f"Figures {out / 'comparison.json'}"]
    console.print("\n" + "\n".join(lines), highlight=False, soft_wrap=True, markup=False)
