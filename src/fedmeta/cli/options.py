"""Options that several commands share, and what they mean for a recipe."""

from collections.abc import Callable
from typing import Any

import click

from fedmeta.aggregators import AGGREGATORS
from fedmeta.errors import UsageError
from fedmeta.models import MODELS
from fedmeta.optimisers import OPTIMISERS
from fedmeta.study import spelling
from fedmeta.transforms import TRANSFORMS

ALGORITHM_OPTIONS = (
    "inner_lr",
    "inner_steps",
    "inner_epochs",
    "inner_batch_size",
    "adapt_lr",
    "adapt_steps",
    "adapt_epochs",
    "weighting",
)
DATA_OPTIONS = ("classes_per_client",)


def _apply(options: list[Callable[[Any], Any]]) -> Callable[[Any], Any]:
    def decorate(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


data_options = _apply(
    [
        click.option(
            "--data",
            required=True,
            metavar="NAME|FILE|FOLDER",
            help="A data set that `fedmeta data list` shows, a CSV or Parquet file, or a folder.",
        ),
        click.option("--client", metavar="COLUMN", help="The client column of a table."),
        click.option("--target", metavar="COLUMN", help="The target column of a table."),
        click.option("--features", metavar="A,B,...", help="The input columns of a table.  [default: all others]"),
        click.option("--classes-per-client", type=int, help="Leave each client this many of the classes."),
    ]
)

run_options = _apply(
    [
        click.option("--model", metavar="NAME", help=", ".join(MODELS) + "."),
        click.option(
            "--model-option",
            "model_options",
            multiple=True,
            metavar="NAME=VALUE",
            help="An option of the model, such as hidden=128 or hidden=64,64.",
        ),
        click.option("--rounds", type=int, help="Rounds in all."),
        click.option("--cohort-size", type=int, help="Clients in a round.  [default: 4]"),
        click.option("--support", type=float, help="The fraction of examples a client adapts on.  [default: 0.2]"),
        click.option("--seed", type=int, help="Of every draw.  [default: 0]"),
        click.option("--max-examples", type=int, help="At most so many of a client's examples in a round."),
        click.option("--max-evaluated", type=int, help="At most so many clients validate, and test.  [default: 1000]"),
        click.option("--validate-every", type=int, help="Rounds between looks at the validation clients."),
        click.option(
            "--patience",
            type=int,
            metavar="N",
            help="Stop after N looks without a better figure, and keep the best model.  [default: never]",
        ),
        click.option(
            "--monitor", metavar="NAME", help="The figure that --patience is about.  [default: accuracy or loss]"
        ),
        click.option(
            "--transform",
            metavar="NAME[:OPTION=VALUE,...]",
            help="What clients send in place of their update, several joined by a plus sign, such as "
            f"clip_by_norm:norm=1+quantise:bits=8; {', '.join(TRANSFORMS)}.  [default: identity]",
        ),
        click.option(
            "--aggregator",
            metavar="NAME[:OPTION=VALUE,...]",
            help=f"How the updates become one: {', '.join(AGGREGATORS)}.  [default: weighted_mean]",
        ),
    ]
)

engine_options = _apply(
    [
        click.option(
            "--precision",
            type=click.Choice(["float32", "bfloat16"]),
            help="The type to which the factors of matrix products are rounded.  [default: float32]",
        ),
        click.option(
            "--plan",
            metavar="NAME=VALUE,...",
            help="How the engine computes a cohort, such as chunk=4,convolution=im2col.  [default: what was measured]",
        ),
    ]
)

algorithm_options = _apply(
    [
        click.option(
            "--server",
            metavar="NAME[:OPTION=VALUE,...]",
            help=f"The server's optimiser: {', '.join(OPTIMISERS)}.",
        ),
        click.option("--server-lr", type=float, help="Its learning rate."),
        click.option("--inner-lr", type=float, help="The learning rate of a client's gradient descent."),
        click.option("--inner-steps", type=int, help="A client's gradient steps in training."),
        click.option("--inner-epochs", type=int, help="Passes over its examples, instead of steps."),
        click.option("--inner-batch-size", type=int, help="Examples in one of its steps."),
        click.option("--adapt-lr", type=float, help="The learning rate when a client adapts."),
        click.option("--adapt-steps", type=int, help="Steps when a client adapts."),
        click.option("--adapt-epochs", type=int, help="Passes over the support when a client adapts."),
        click.option(
            "--weighting",
            type=click.Choice(["clients", "examples"]),
            help="Whether clients count alike in the mean, or by their examples.",
        ),
        click.option(
            "--algorithm-option",
            "more_options",
            multiple=True,
            metavar="NAME=VALUE",
            help="Any other option of the algorithm, such as mu=0.1, local_steps=4, of=fomaml, or "
            "inner=adam:learning_rate=0.05,eps_root=1e-8.",
        ),
    ]
)


def chosen(options: dict[str, Any]) -> dict[str, Any]:
    """Return a recipe's fields from a command's options; what was not given is None or left out."""
    fields = {name: value for name, value in options.items() if value is not None}
    recipe: dict[str, Any] = {}
    more = dict(spelling.option(text) for text in fields.pop("more_options", ()))
    for group, names in (("algorithm_options", ALGORITHM_OPTIONS), ("data_options", DATA_OPTIONS)):
        given = {name: fields.pop(name) for name in names if name in fields}
        if given:
            recipe[group] = given
    if more:
        recipe["algorithm_options"] = recipe.get("algorithm_options", {}) | more
    if "server" in fields:
        fields["server"], fields["server_options"] = spelling.server(fields["server"])
    for name in ("transform", "aggregator"):
        if name in fields:
            fields[name] = getattr(spelling, name)(fields[name])
    pairs = fields.pop("model_options", ())
    if pairs:
        recipe["model_options"] = dict(_pair(text) for text in pairs)
    if "features" in fields:
        fields["features"] = tuple(name.strip() for name in fields["features"].split(","))
    return {**fields, **recipe}


def _pair(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    parts = value.split(",")
    if not (equals and name and all(part.strip().isdecimal() for part in parts)):
        raise UsageError(f"--model-option takes NAME=VALUE with whole numbers, such as hidden=64, not {text!r}")
    numbers = [int(part) for part in parts]
    return name, tuple(numbers) if len(numbers) > 1 else numbers[0]
