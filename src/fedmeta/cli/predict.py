"""`fedmeta predict`: the predictions of a client's model, or of a run's before a client adapts."""

from pathlib import Path
from typing import Any

import click

from fedmeta.cli.options import reading_options, told_of_reading


@click.command(short_help="Predict with a client's model, or with that of a run.")
@click.argument("model", metavar="MODEL|RUN", type=click.Path(path_type=Path))
@click.option(
    "--examples", required=True, type=click.Path(dir_okay=False), help="Examples; targets among them are not read."
)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the predictions here: .csv, .csv.gz or .parquet.  [default: CSV to standard output]",
)
@reading_options
@click.option("--json", "as_json", is_flag=True, help="Write JSON instead, also to a file that ends in .json.")
def predict(model: Path, examples: str, out: Path | None, as_json: bool, **reading: Any) -> None:
    """Predict with a client's model, which `fedmeta adapt` writes, or with a run before any client adapts.

    There is a row for each example, in the order of the file. It begins with the columns by which the
    file identifies its rows: that of the client, and those that training left out as identifiers. Then
    come the prediction, and for classes its probability and that of every class.

    \b
    Examples:
      fedmeta predict mine.safetensors --examples new.csv
      fedmeta predict runs/visits --examples new.csv --out predictions.parquet
    """
    from fedmeta.study import predictions

    if out is not None:
        _check_free(out, model, Path(examples))
        predictions.check_ending(out, as_json)
    network, inputs, params = _read(model)
    x, identifiers = inputs.read_rows(examples, reading=told_of_reading(reading))
    columns = predictions.predicted(network, params, x, inputs.classes, identifiers)
    if out is None:
        click.echo(predictions.to_json(columns) if as_json else predictions.to_csv(columns), nl=False)
    else:
        predictions.write(columns, out, as_json)


def _check_free(out: Path, model: Path, examples: Path) -> None:
    from fedmeta.errors import UsageError

    read = [path for path in (model, examples) if path.exists()]
    if out.exists() and (any(map(out.samefile, read)) or model.resolve() in out.resolve().parents):
        raise UsageError(f"--out {out} would overwrite what is read; give another name")


def _read(path: Path) -> Any:
    """Return the network, its inputs and the parameters of a client's model, or of a run, aloud."""
    from fedmeta.runs.saved import load_run
    from fedmeta.study.saved import read_client_model

    if not path.is_dir():
        return read_client_model(path)
    run = load_run(path)
    if run.algorithm.adapts:
        said = f"this is the model before adaptation, and fedmeta adapt {path} --examples FILE gives a client its own"
        click.echo(f"{run.algorithm.title}: {said}", err=True)
    return run.model, run.procedure.inputs, run.params
