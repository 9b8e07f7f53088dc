"""Options that several commands share, and what they mean for a recipe."""

from collections.abc import Callable
from typing import Any, get_args

import click

from fedmeta.aggregators import AGGREGATORS
from fedmeta.data.partitioners import PARTITIONERS
from fedmeta.data.schema import Kind, Task
from fedmeta.errors import UsageError
from fedmeta.models import MODELS
from fedmeta.optimisers import OPTIMISERS
from fedmeta.runs.stopping import SELECT
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
COSTLY = ("mnist", "shakespeare")
"""The data sets on which to train alone and on pooled data takes as long as the runs themselves."""

TABLE_OPTIONS = ("client", "target", "features", "exclude", "kinds", "task", "drop_missing_target", "schema")
READING_OPTIONS = (
    "separator",
    "decimal",
    "encoding",
    "comment",
    "skip_lines",
    "names",
    "missing",
    "present",
    "date_format",
    "sheet",
)


def _apply(options: list[Callable[[Any], Any]]) -> Callable[[Any], Any]:
    def decorate(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


reading_options = _apply(
    [
        click.option("--separator", metavar="SIGN", help="Between the cells of a line.  [default: recognised]"),
        click.option("--decimal", metavar="SIGN", help="Before decimals, . or a comma.  [default: recognised]"),
        click.option("--encoding", metavar="NAME", help="Of the text.  [default: utf-8, by its mark utf-16, cp1252]"),
        click.option("--comment", metavar="SIGN", help="What begins a line that is no row.  [default: # at the top]"),
        click.option("--skip-lines", metavar="LINES", help="Lines that are no rows, such as 1-3 or 2,17; from 1."),
        click.option("--names", metavar="A,B,...", help="The names of the columns, where no line has them."),
        click.option("--missing", multiple=True, metavar="TEXT", help="A text that marks a gap; may be repeated."),
        click.option("--present", multiple=True, metavar="TEXT", help="A text that looks like a gap and is a value."),
        click.option("--date-format", metavar="FORMAT", help="How dates are written, such as %d.%m.%Y."),
        click.option("--sheet", metavar="NAME", help="The sheet of a workbook.  [default: the first that is filled]"),
    ]
)

table_options = _apply(
    [
        click.option("--client", metavar="COLUMN", help="The client column of a table."),
        click.option("--target", metavar="COLUMN", help="The target column of a table."),
        click.option(
            "--features",
            multiple=True,
            metavar="A,B,...",
            help="The input columns of a table; may be repeated, once for a name with a comma.  [default: all others]",
        ),
        click.option("--exclude", multiple=True, metavar="A,B,...", help="Columns that are no inputs."),
        click.option(
            "--kind",
            "kinds",
            multiple=True,
            metavar="COLUMN=KIND",
            help=f"What a column is: {', '.join(get_args(Kind))}; may be repeated.  [default: recognised]",
        ),
        click.option(
            "--task", type=click.Choice(get_args(Task)), help="What the target is for.  [default: by its values]"
        ),
        click.option("--drop-missing-target", is_flag=True, help="Leave out rows without a target."),
        click.option("--schema", metavar="FILE", help="What the columns are, as `fedmeta data schema` writes it."),
        reading_options,
    ]
)

spread_options = _apply(
    [
        click.option(
            "--data-option",
            "source_options",
            multiple=True,
            metavar="NAME=VALUE",
            help="An option of a data set with a name, such as candidates=40 of flights; may be repeated.",
        ),
        click.option("--classes-per-client", type=int, help="Leave each client this many of the classes."),
        click.option(
            "--partition",
            metavar="NAME:OPTION=VALUE,...",
            help="Spread the examples over clients anew, such as dirichlet:clients=50,alpha=0.3, or in several steps "
            f"joined by a plus sign: {', '.join(PARTITIONERS)}.",
        ),
    ]
)

data_options = _apply(
    [
        click.option(
            "--data",
            required=True,
            metavar="NAME|FILE|FOLDER",
            help="A data set that `fedmeta data list` shows, a table (CSV, TSV, Parquet, Excel), or a folder.",
        ),
        table_options,
        spread_options,
        click.option(
            "--fractions",
            metavar="TRAIN,VALIDATION,TEST",
            help="How the clients are split among training, validation and test.  [default: 0.8,0.1,0.1; "
            "0.5,0.25,0.25 of digits]",
        ),
        click.option(
            "--validation-clients",
            multiple=True,
            metavar="A,B,...",
            help="These are the validation clients; may be repeated, once for a name with a comma.",
        ),
        click.option(
            "--test-clients",
            multiple=True,
            metavar="A,B,...",
            help="These are the test clients; all who are not named are split among the other groups.",
        ),
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
        click.option(
            "--cohort-size",
            type=int,
            help="Clients in a round.  [default: 16, or all there are; 4 of digits, mnist and shakespeare]",
        ),
        click.option(
            "--support",
            type=float,
            help="The fraction of examples a client adapts on.  [default: 0.5; 0.2 of digits, mnist, flights and "
            "Shakespeare's plays]",
        ),
        click.option("--seed", type=int, help="Of every draw.  [default: 0]"),
        click.option("--max-examples", type=int, help="At most so many of a client's examples in a round."),
        click.option("--max-evaluated", type=int, help="At most so many clients validate, and test.  [default: 1000]"),
        click.option("--validate-every", type=int, help="Rounds between looks at the validation clients."),
        click.option(
            "--select",
            type=click.Choice(SELECT),
            help="Which round's model is the result: the last one's, or the best one's by the validation clients.  "
            "[default: best; last of digits, mnist and shakespeare without --patience]",
        ),
        click.option(
            "--patience",
            type=int,
            metavar="N",
            help="Stop after N looks without a better figure, and keep the best model.  [default: never]",
        ),
        click.option(
            "--monitor", metavar="NAME", help="The figure that says which is best.  [default: accuracy or loss]"
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


def baseline_option(default: str) -> Callable[[Any], Any]:
    """Return the option that says what figures are set beside.

    Args:
        default: what it is where nothing is said, in words.
    """
    return click.option(
        "--baselines",
        type=click.Choice(["all", "free", "none"]),
        help="What the figures are set beside: free ones are a constant and a client's own support; all of them train "
        f"the network alone and on pooled data, too.  [default: {default}]",
    )


OF_TRAINING = "all, but free for mnist and shakespeare"
"""The default of `baseline_option` where a run is trained."""


def set_beside(experiment: Any, which: str | None) -> dict[str, Any]:
    """Return the reports of the baselines that were asked for, on the test clients of an experiment."""
    from fedmeta.study.baselines import FREE, TITLES, baselines

    which = which or ("free" if experiment.data.data in COSTLY else "all")
    return baselines(experiment, {"all": tuple(TITLES), "free": FREE, "none": ()}[which])


def chosen(options: dict[str, Any]) -> dict[str, Any]:
    """Return a recipe's fields from a command's options; what was not given is None or left out."""
    fields = {name: value for name, value in options.items() if value is not None}
    recipe: dict[str, Any] = {}
    more = dict(spelling.option(text) for text in fields.pop("more_options", ()))
    given = {name: fields.pop(name) for name in ALGORITHM_OPTIONS if name in fields}
    if given:
        recipe["algorithm_options"] = given
    if spread := told_of_spread(fields):
        recipe["data_options"] = spread
    if more:
        recipe["algorithm_options"] = recipe.get("algorithm_options", {}) | more
    if "server" in fields:
        fields["server"], fields["server_options"] = spelling.server(fields["server"])
    for name in ("transform", "aggregator"):
        if name in fields:
            fields[name] = getattr(spelling, name)(fields[name])
    if "fractions" in fields:
        fields["fractions"] = _fractions(fields["fractions"])
    pairs = fields.pop("model_options", ())
    if pairs:
        recipe["model_options"] = dict(_pair(text) for text in pairs)
    told = told_of_table(fields)
    recipe |= {name: told.pop(name) for name in ("client", "target", "features") if name in told}
    if told:
        recipe["table"] = told
    return {**fields, **recipe}


def told_of_spread(options: dict[str, Any]) -> dict[str, Any]:
    """Take out of a command's options those of the data set and how it is spread, as `fm.data.resolve` has them.

    Raises:
        UsageError: an option is not of its form.
    """
    told = dict(spelling.data_option(text) for text in options.pop("source_options", ()))
    kept, steps = options.pop("classes_per_client", None), options.pop("partition", None)
    if kept is not None:
        told["classes_per_client"] = kept
    if steps is not None:
        told["partition"] = spelling.partition(steps)
    return told


def told_of_table(options: dict[str, Any]) -> dict[str, Any]:
    """Take out of a command's options what is told of a table, and return it by the names of `from_table`.

    Raises:
        UsageError: an option is not of its form.
    """
    told = {name: options.pop(name) for name in TABLE_OPTIONS if options.get(name) not in (None, (), False)}
    for name in TABLE_OPTIONS:
        options.pop(name, None)
    if "kinds" in told:
        told["kinds"] = dict(_kind(text) for text in told["kinds"])
    reading = told_of_reading(options)
    if reading:
        told["reading"] = reading
    return told


def told_of_reading(options: dict[str, Any]) -> dict[str, Any]:
    """Take out of a command's options how a file is to be read, and return it by the names of `Reading`.

    Raises:
        UsageError: an option is not of its form.
    """
    told = {name: options.pop(name, None) for name in READING_OPTIONS}
    told = {name: value for name, value in told.items() if value not in (None, ())}
    if "names" in told:
        told["names"] = tuple(name.strip() for name in told["names"].split(","))
    if "skip_lines" in told:
        told["skip_lines"] = tuple(number for part in told["skip_lines"].split(",") for number in _lines(part))
    return told


def _kind(text: str) -> tuple[str, str]:
    name, equals, kind = text.rpartition("=")
    if not equals or kind not in get_args(Kind):
        raise UsageError(f"--kind takes COLUMN=KIND with one of {', '.join(get_args(Kind))}, not {text!r}")
    return name, kind


def _lines(part: str) -> range:
    first, _, last = part.partition("-")
    if not (first.strip().isdecimal() and (not last or last.strip().isdecimal())):
        raise UsageError(f"--skip-lines takes numbers of lines, such as 1-3 or 2,17, not {part!r}")
    return range(int(first), int(last or first) + 1)


def _fractions(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"--fractions takes three numbers, such as 0.6,0.2,0.2, not {text!r}") from None


def _pair(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    parts = value.split(",")
    if not (equals and name and all(part.strip().isdecimal() for part in parts)):
        raise UsageError(f"--model-option takes NAME=VALUE with whole numbers, such as hidden=64, not {text!r}")
    numbers = [int(part) for part in parts]
    return name, tuple(numbers) if len(numbers) > 1 else numbers[0]
