"""`fedmeta data`: list the data sets, describe one, fetch one, or draw one."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fedmeta.cli.options import spread_options, table_options, told_of_spread, told_of_table
from fedmeta.errors import UsageError

if TYPE_CHECKING:
    from rich.progress import Progress

    from fedmeta.data import FederatedDataset

BARS = " ▏▎▍▌▋▊▉█"
BAR_WIDTH = 44
BINS = 10
QUANTILES = {"smallest": 0.0, "quarter": 0.25, "median": 0.5, "three quarters": 0.75, "largest": 1.0}


@click.group()
def data() -> None:
    """List data sets, describe one, fetch one, or draw one.

    \b
    Example:
      fedmeta data list
    """


@data.command("list")
@click.option("--json", "as_json", is_flag=True, help="Write JSON to standard output.")
def list_(as_json: bool) -> None:
    """List the data sets that are known by name, and where their files lie.

    \b
    Example:
      fedmeta data list
    """
    from fedmeta.data import names, source

    sources = [source(name) for name in names()]
    if as_json:
        rows = [
            {
                "name": entry.name,
                "description": entry.description,
                "licence": entry.licence,
                "clients": entry.clients,
                "present": entry.present,
                "folder": str(entry.folder) if entry.folder else None,
            }
            for entry in sources
        ]
        click.echo(json.dumps(rows, indent=1))
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table("name", "description", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("clients", justify="right")
    table.add_column("files")
    for entry in sources:
        state = "come along" if not entry.files else "here" if entry.present else "absent"
        table.add_row(entry.name, entry.description, f"{entry.clients:,}", state)
    Console().print(table)
    for entry in sources:
        if entry.files:
            click.echo(f"{entry.name}: {entry.folder or f'run `fedmeta data get {entry.name}`'}")


@data.command()
@click.argument("data_set", metavar="NAME|FILE|FOLDER")
@table_options
@spread_options
@click.option("--json", "as_json", is_flag=True, help="Write JSON to standard output.")
@click.option(
    "--picture", type=click.Path(dir_okay=False, path_type=Path), help="Draw who holds what into this .svg or .png."
)
@click.option("--out", metavar="FOLDER", help="Store the data set, as it is spread, as a new folder.")
def info(data_set: str, as_json: bool, picture: Path | None, out: str | None, **options: Any) -> None:
    """Say what a data set holds: clients, examples, classes, and how large the clients are.

    NAME is one that `fedmeta data list` shows, FILE is a table (CSV, TSV, Parquet or Excel), and FOLDER holds Parquet
    files or LEAF's JSON files, or is what `fm.data.save` stored.

    \b
    Examples:
      fedmeta data info digits
      fedmeta data info visits.csv --client hospital --target ill
      fedmeta data info digits --partition dirichlet:clients=50,alpha=0.3 --picture who.svg --out skewed
    """
    from fedmeta.data import save
    from fedmeta.data.resolve import resolve

    told = told_of_spread(options)
    table = told_of_table(options)
    opened = resolve(data_set, options=told, **table)
    if picture is not None:
        _draw(opened, data_set, told, table, picture)
    if out is not None:
        save(opened, out)
    summary = _summary(opened)
    click.echo(json.dumps(summary, indent=1) if as_json else _report(opened, summary))


@data.command()
@click.argument("file")
@table_options
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Where it goes.  [default: shown]")
def schema(file: str, out: Path | None, **options: Any) -> None:
    """Say what each column of a table is taken for, as TOML that can be edited and given back with --schema.

    \b
    Examples:
      fedmeta data schema visits.csv --client hospital --target ill
      fedmeta data schema visits.csv --client hospital --target ill --out visits.toml
    """
    from fedmeta._files import write_atomically
    from fedmeta.data.resolve import resolve

    found = resolve(file, **told_of_table(options)).info.schema
    if found is None:
        raise UsageError(f"{file} is no table: only those have a schema")
    if out is None:
        click.echo(found.to_toml(), nl=False)
    else:
        write_atomically(out, found.to_toml().encode())
        click.echo(f"The schema of {file} is in {out}; give it back with --schema {out}")


@data.command()
@click.argument("name")
def get(name: str) -> None:
    """Fetch a data set's files into the user's cache, checked against their digests.

    A fetch that was interrupted continues where it stopped. The environment variable FEDMETA_CACHE
    sets the folder of the cache.

    \b
    Example:
      fedmeta data get mnist
    """
    from fedmeta.data import locate, source

    entry = source(name)
    if entry.get is None:
        click.echo(f"{name} comes with fedmeta: nothing has to be fetched")
        return
    if entry.folder is not None:
        click.echo(f"{name} is there already: {entry.folder}")
        return
    folder = locate.cache() / (entry.place or name)
    with _bars() as bars:
        tasks: dict[str, Any] = {}

        def show(file: str, done: int, total: int | None) -> None:
            if file not in tasks:
                tasks[file] = bars.add_task(file)
            bars.update(tasks[file], completed=done, total=total)

        entry.get(folder, show)
    click.echo(f"{name} is in {folder}")


@data.command()
@click.option("--clients", type=int, required=True, help="The number of clients, for example 1000000.")
@click.option("--out", metavar="FOLDER", required=True, help="The new folder.")
@click.option("--features", type=int, default=60, show_default=True, help="The number of features.")
@click.option("--classes", type=int, default=10, show_default=True, help="The number of classes.")
@click.option("--examples", type=int, default=20, show_default=True, help="The mean number of a client's examples.")
@click.option(
    "--alpha",
    type=float,
    default=1.0,
    show_default=True,
    help="How much the clients' mean weights differ; no label depends on it.",
)
@click.option("--beta", type=float, default=1.0, show_default=True, help="How much the clients' mean inputs differ.")
@click.option("--seed", type=int, default=0, show_default=True, help="The same seed draws the same clients.")
def synthetic(clients: int, out: str, **options: Any) -> None:
    """Draw a data set of any number of clients and store it as a folder.

    It is Synthetic(alpha, beta) of Li et al. (2020), arXiv:1812.06127: Gaussian inputs, and labels by a linear
    model, both of each client's own. A client has between half the mean and five times the mean of the
    examples. A larger data set of the same seed begins with the clients of a smaller one.

    \b
    Example:
      fedmeta data synthetic --clients 1000000 --out million
    """
    from fedmeta.data.synthetic import write

    with _bars() as bars:
        task = bars.add_task(out, total=clients)
        written = write(out, clients, **options, progress=lambda done: bars.update(task, completed=done))
    click.echo(f"{written.num_clients:,} clients with {written.num_examples:,} examples are in {out}")


def _bars() -> "Progress":
    """Return bars on standard error, one for each task."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"))
    return Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True))


def _draw(opened: "FederatedDataset", name: str, told: dict[str, Any], table: dict[str, Any], picture: Path) -> None:
    """Draw who holds what; clients whose labels a last step permutes are marked."""
    from fedmeta.data.resolve import resolve
    from fedmeta.study.who_holds import draw, save_picture

    steps = told.get("partition", [])
    before = None
    if steps and steps[-1]["name"] == "concept_shift":
        before = resolve(name, options={**told, "partition": steps[:-1]}, **table)
    save_picture(draw(opened, before), picture)


def _summary(opened: "FederatedDataset") -> dict[str, Any]:
    import jax
    import numpy as np

    quantiles = np.quantile(opened.sizes, list(QUANTILES.values()))
    return {
        "name": opened.info.name,
        "description": opened.info.description,
        "source": opened.info.source,
        "clients": opened.num_clients,
        "examples": opened.num_examples,
        "classes": opened.num_classes,
        "class_names": opened.info.classes,
        "features": opened.info.features,
        "shape": jax.tree.map(lambda column: list(column.shape[1:]), opened.x),
        "sizes": dict(zip(QUANTILES, quantiles.tolist(), strict=True)) | {"mean": float(np.mean(opened.sizes))},
    }


def _report(opened: "FederatedDataset", summary: dict[str, Any]) -> str:
    """Return the text of `info`, no line of it wider than 80 columns where names allow that."""
    sizes = summary["sizes"]
    names = summary["class_names"]
    targets = "a number (regression)" if names is None else f"{len(names)} classes"
    if names is not None and (said := ", ".join(names)) and len(said) < 50 and said.isprintable():
        targets += f": {said}"
    lines = [f"{summary['name']}" + (f": {summary['description']}" if summary["description"] else "")]
    rows = {
        "source": summary["source"],
        "clients": f"{summary['clients']:,}",
        "examples": f"{summary['examples']:,}",
        "input": _shape(opened.x),
        "target": targets,
        "examples a client": f"{sizes['mean']:,.1f} on average, {sizes['median']:,.0f} in the median",
    }
    lines += [f"  {name:<18} {value}" for name, value in rows.items() if value]
    return "\n".join([*lines, "", "Clients by their number of examples", *_histogram(opened)])


def _shape(x: Any) -> str:
    """Return the shape of one example's inputs, each by its name where there are several."""
    import jax

    said = {
        jax.tree_util.keystr(path, simple=True, separator="/"): " x ".join(map(str, column.shape[1:])) or "a number"
        for path, column in jax.tree_util.tree_flatten_with_path(x)[0]
    }
    return "; ".join(f"{name}: {shape}" if name else shape for name, shape in said.items())


def _histogram(opened: "FederatedDataset") -> list[str]:
    """Draw how many clients have how many examples, a line per bin."""
    import numpy as np

    low, high = int(opened.sizes.min()), int(opened.sizes.max())
    skewed = low > 0 and high > 30 * low
    edges = np.geomspace(low, high + 1, BINS + 1) if skewed else np.linspace(low, high + 1, BINS + 1)
    bounds = np.unique(np.ceil(edges - 1e-9).astype(int))
    counts, _ = np.histogram(opened.sizes, bounds)
    ranges = [
        f"{first:,}" if first == last else f"{first:,} to {last:,}"
        for first, last in zip(bounds[:-1], bounds[1:] - 1, strict=True)
    ]
    width, digits = max(map(len, ranges)), len(f"{counts.max():,}")
    lines = []
    for label, count in zip(ranges, counts.tolist(), strict=True):
        eighths = round(count / counts.max() * BAR_WIDTH * 8) or (1 if count else 0)
        bar = BARS[8] * (eighths // 8) + (BARS[eighths % 8] if eighths % 8 else "")
        lines.append(f"  {label:>{width}}  {count:>{digits},} {bar}".rstrip())
    return lines
