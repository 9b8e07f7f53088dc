"""`fedmeta adapt`: a client's own model."""

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
@click.option("--drop-missing-target", is_flag=True, help="Leave out rows of a table without a target.")
@reading_options
@click.option("--json", "as_json", is_flag=True, help="Write the figures as JSON to standard output.")
def adapt(run: Path, examples: str, out: Path, drop_missing_target: bool, as_json: bool, **reading: Any) -> None:
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
    from fedmeta.evaluation.figures import finite
    from fedmeta.runs.saved import load_run
    from fedmeta.study.saved import save_client_model
    from fedmeta.task import Batch

    saved = load_run(run)
    told = told_of_reading(reading)
    x, y = saved.procedure.inputs.read(examples, drop_missing_target=drop_missing_target, reading=told)
    support = Batch(x, y)
    key = random.as_key(random.key_data(saved.procedure.seed, "adapt"))

    def probe(params: Any) -> Any:
        return saved.model.scores(params, support)[1]

    def adapted(phi: Any, memory: Any) -> Any:
        return saved.algorithm.descend(saved.model, phi, support, key, probe, memory)

    descent = jax.jit(adapted)(saved.phi, saved.memory)
    if not all(jax.numpy.isfinite(leaf).all() for leaf in jax.tree.leaves(descent.params)):
        raise DataError(f"adapting to {examples} gives parameters that are not finite, so nothing was written")
    save_client_model(out, saved, descent.params)
    scores = {name: [float(values[0]), float(values[-1])] for name, values in descent.probes.items()}
    if as_json:
        points = {name: {"before": finite(one), "after": finite(other)} for name, (one, other) in scores.items()}
        click.echo(json.dumps({"model": str(out), "examples": len(x), **points}, indent=1))
        return
    said = ", ".join(f"{name} {before:.3f} -> {after:.3f}" for name, (before, after) in scores.items())
    click.echo(f"{saved.algorithm.title} on {len(x)} examples of {examples}: {said} (on these same examples)")
    if not saved.algorithm.adapts:
        click.echo(f"{saved.algorithm.title} does not adapt: this is the global model")
    click.echo(f"Model   {out}")
