"""`fedmeta adapt` and `fedmeta predict`: a client's own model, and its predictions."""

import json
from pathlib import Path
from typing import Any

import click

from fedmeta.cli.options import reading_options, told_of_reading


@click.command(short_help="Adapt a run to a client's own examples.")
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--examples",
    required=True,
    type=click.Path(dir_okay=False),
    help="The client's own examples, with targets.",
)
@click.option(
    "--out",
    default="model.safetensors",
    show_default=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where the client's model goes.",
)
@reading_options
@click.option("--json", "as_json", is_flag=True, help="Write the figures as JSON to standard output.")
def adapt(run: Path, examples: str, out: Path, as_json: bool, **reading: Any) -> None:
    """Adapt the result of a run to a client's own examples, and write the client's model.

    The examples are a table with the columns that training had, an .npz file with arrays x and
    y, or a .txt file for a model of text. They do not leave this machine.

    \b
    Example:
      fedmeta adapt runs/visits --examples mine.csv --out mine.safetensors
    """
    import jax

    from fedmeta import random
    from fedmeta.errors import DataError
    from fedmeta.runs.saved import load_run
    from fedmeta.study.saved import save_client_model
    from fedmeta.task import Batch

    saved = load_run(run)
    x, y = saved.procedure.inputs.read(examples, need_target=True, reading=told_of_reading(reading))
    support = Batch(x, y)
    key = random.as_key(random.key_data(saved.procedure.seed, "adapt"))

    def probe(params: Any) -> Any:
        return saved.model.scores(params, support)[1]

    # Whoever adapts here has taken no part in training, or has left what it kept with the run.
    fresh = saved.algorithm.memory(saved.model, random.as_key(random.key_data(saved.procedure.seed, "init")))

    def adapted(phi: Any, memory: Any) -> Any:
        return saved.algorithm.descend(saved.model, phi, support, key, probe, memory)

    descent = jax.jit(adapted)(saved.phi, fresh)
    if not all(jax.numpy.isfinite(leaf).all() for leaf in jax.tree.leaves(descent.params)):
        raise DataError(f"adapting to {examples} gives parameters that are not finite, so nothing was written")
    save_client_model(out, saved, descent.params)
    scores = {name: [float(values[0]), float(values[-1])] for name, values in descent.probes.items()}
    if as_json:
        points = {name: {"before": before, "after": after} for name, (before, after) in scores.items()}
        click.echo(json.dumps({"model": str(out), "examples": len(x), **points}, indent=1))
        return
    said = ", ".join(f"{name} {before:.3f} -> {after:.3f}" for name, (before, after) in scores.items())
    click.echo(f"{saved.algorithm.title} on {len(x)} examples of {examples}: {said} (on these same examples)")
    if not saved.algorithm.adapts:
        click.echo(f"{saved.algorithm.title} does not adapt: this is the global model")
    click.echo(f"Model   {out}")


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--examples", required=True, type=click.Path(dir_okay=False), help="Examples, with or without targets.")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write CSV here.  [default: standard output]",
)
@reading_options
@click.option("--json", "as_json", is_flag=True, help="Write JSON instead of CSV.")
def predict(model: Path, examples: str, out: Path | None, as_json: bool, **reading: Any) -> None:
    """Predict with a client's model; one row per example.

    \b
    Example:
      fedmeta predict mine.safetensors --examples new.csv
    """
    import jax
    import numpy as np

    from fedmeta._files import write_atomically
    from fedmeta.errors import UsageError
    from fedmeta.study.saved import read_client_model

    if out is not None and out.exists() and (out.samefile(model) or out.samefile(examples)):
        raise UsageError(f"--out {out} would overwrite what is read; give another name")
    network, inputs, params = read_client_model(model)
    x, _ = inputs.read(examples, need_target=False, reading=told_of_reading(reading))
    apply = jax.jit(network.apply)
    parts = [np.asarray(apply(params, x[first : first + 1024])) for first in range(0, len(x), 1024)]
    outputs = np.concatenate(parts)
    if inputs.classes is None:
        rows = [{"prediction": float(value)} for value in outputs.reshape(len(outputs), -1)[:, 0]]
    else:
        shares = np.asarray(jax.nn.softmax(outputs, axis=-1))
        best = shares.argmax(axis=-1)
        rows = [
            {"prediction": inputs.classes[place], "probability": round(float(share[place]), 6)}
            for place, share in zip(best, shares, strict=True)
        ]
    text = json.dumps(rows, indent=1) + "\n" if as_json else _csv(rows)
    if out is None:
        click.echo(text, nl=False)
    else:
        write_atomically(out, text.encode())


def _csv(rows: list[dict[str, Any]]) -> str:
    import csv
    import io

    file = io.StringIO()
    writer = csv.DictWriter(file, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()
