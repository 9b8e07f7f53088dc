"""The HTML report of a run, of a comparison, or of one over several seeds: one file that needs no other."""

import platform
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from fedmeta._extras import need
from fedmeta._files import write_atomically
from fedmeta.aggregators import weighted_mean
from fedmeta.runs.describing import described
from fedmeta.study.compare import Comparison, FinishedRun, Repeats
from fedmeta.study.formatting import counted, listed, short
from fedmeta.study.report import confusion, holdings, panels, tables
from fedmeta.study.spelling import spelled
from fedmeta.study.verdict import leaders, result, verdicts
from fedmeta.transforms import identity

COLOURS_IN_THE_DARK = {"#000000": "#e8e8e8", "#0072B2": "#4aa3df", "#882255": "#d06a9c", "#332288": "#9a8cf0"}
"""What some colours of algorithms become on a dark page."""


def write_report(path: Path, found: FinishedRun | Comparison | Repeats, command: str | None = None) -> None:
    """Write the report of one run, of several that are compared, or of a comparison with several seeds.

    Args:
        path: the file.
        found: what it is about; of several seeds, the first one is shown in detail.
        command: the command that repeats it.

    Raises:
        MissingPackage: the extra `reports` is not installed; nothing is written.
    """
    jinja2 = need("jinja2", "a report")
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("fedmeta.study", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # A number keeps its sign on its line.
    environment.filters["glued"] = lambda text: text.replace(" %", "\N{NO-BREAK SPACE}%")
    html = environment.get_template("report.html.jinja").render(_content(found, command))
    write_atomically(path, html.encode(errors="replace"))


def _content(found: FinishedRun | Comparison | Repeats, command: str | None) -> dict[str, Any]:
    """Return all that the template needs."""
    repeats, comparison, runs = None, None, ()
    if isinstance(found, FinishedRun):
        runs = (found,)
    else:
        repeats = found if isinstance(found, Repeats) else None
        comparison = found.comparisons[0] if isinstance(found, Repeats) else found
        runs = comparison.runs
    every = [run for each in repeats.comparisons for run in each.runs] if repeats else runs
    first = runs[0].experiment
    classification = runs[0].report.figures.confusion is not None
    signs, symbols = panels.swatches(runs)
    return {
        "title": _title(runs, Path(first.data.data).name),
        "result": result(found),
        "warnings": _warnings(found),
        "facts": _facts(runs, repeats),
        "single": len(runs) == 1,
        "adapts": any(run.adapts for run in runs),
        "swatches": signs,
        "symbols": symbols,
        "quality": tables.quality(runs),
        "seeds": tables.seeds(repeats) if repeats else [],
        "interval_panels": [panels.intervals(repeats)] if repeats else [],
        "seed": first.procedure.seed,
        "left_out": runs[0].report.left_out,
        "learning": panels.learning(runs, comparison),
        "adapting": panels.adapting(runs),
        "numbers": [table for table in (tables.steps(runs), tables.deciles(runs)) if table is not None],
        "gains": tables.gains(runs),
        "figure_tables": tables.figures(runs),
        "answers": _confusions(runs) if classification else [],
        "residuals": [] if classification else panels.residuals(runs),
        "clients": tables.clients(runs),
        **_holdings(first, classification),
        "cost": tables.cost(runs, comparison),
        "command": command,
        "settings": _settings(runs),
        "digests": {
            run.title + (f", seed {run.experiment.procedure.seed}" if repeats else ""): run.experiment.procedure.digest
            for run in every
        },
        "versions": _versions(),
        "colours": list(panels.COLOURS),
        "dark": [COLOURS_IN_THE_DARK.get(colour, colour) for colour in panels.COLOURS],
    }


def _title(runs: Sequence[FinishedRun], data: str) -> str:
    titles = listed([run.title for run in runs])
    return f"{titles} on {short(data)}" if len(runs) <= 4 else f"{len(runs)} algorithms on {short(data)}"


def _warnings(found: FinishedRun | Comparison | Repeats) -> list[str]:
    """Return what a reader must not miss."""
    if not isinstance(found, Repeats):
        return verdicts([found] if isinstance(found, FinishedRun) else found.runs)
    return [
        f"Seed {each.runs[0].experiment.procedure.seed}: {sentence}"
        for each in found.comparisons
        for sentence in verdicts(each.runs)
    ]


def _facts(runs: Sequence[FinishedRun], repeats: Repeats | None) -> list[str]:
    """Return what was done, in a few words each."""
    experiment = runs[0].experiment
    procedure, count = experiment.procedure, len(repeats.comparisons) if repeats else 1
    training, validation, test = (group.num_clients for group in holdings.groups(experiment).values())
    seeds = f"seed {procedure.seed}" if count == 1 else f"{count} seeds"
    return [
        f"data {short(Path(experiment.data.data).name)}",
        f"{counted(procedure.rounds, 'round')} of {counted(procedure.cohort_size, 'client')}",
        f"{counted(training, 'client')} to train, {validation:,} to validate, {test:,} to test",
        f"support {100 * procedure.support:g} % of a client's examples",
        seeds,
    ]


def _confusions(runs: Sequence[FinishedRun]) -> list[dict[str, Any]]:
    """Return of each run what is taken for what."""
    found, best = [], leaders(runs)[:1]
    for run in runs:
        counts = run.report.figures.confusion
        if counts is None:
            continue
        names = _class_names(run, len(counts))
        answered = int(counts.sum())
        asked = sum(int(np.size(part)) for part in run.report.predictions.y) if run.report.predictions else answered
        small = confusion.matrix(counts, names)
        entry = {"title": run.title, "matrix": small, "without": asked - answered, "open": run in best}
        found.append(entry | {"pairs": confusion.pairs(counts, names) if small is None else None})
    return found


def _class_names(run: FinishedRun, count: int) -> tuple[str, ...]:
    """Return the names of the classes, or their numbers where there are no names."""
    names = run.experiment.test.info.classes
    return names if names is not None and len(names) == count else tuple(map(str, range(count)))


def _holdings(experiment: Any, classification: bool) -> dict[str, Any]:
    y = holdings.targets(experiment)
    schema = experiment.procedure.inputs.schema
    shown = [holdings.sizes(experiment)]
    names = experiment.train.info.classes
    if classification and names is not None:
        shown.append(holdings.classes(y, names))
    elif not classification:
        shown.append(holdings.numbers(y))
    return {
        "holdings": shown,
        "held": holdings.held(experiment) if classification else "",
        "target_panels": [] if classification else [panels.targets(y)],
        "columns": None if schema is None else holdings.described(schema),
    }


def _settings(runs: Iterable[FinishedRun]) -> tables.Table:
    plain = {"transform": identity(), "aggregator": weighted_mean()}
    rows = []
    for run in runs:
        procedure = run.experiment.procedure
        parts = {name: getattr(procedure, name) for name in plain}
        changed = [f"{name} {spelled(part)}" for name, part in parts.items() if part != plain[name]]
        cells = [
            _options(described(procedure.algorithm)) or "defaults",
            "; ".join([spelled(procedure.server), *changed]),
            f"{procedure.model}{_in_brackets(_options(procedure.model_options))}",
            "the last" if run.best is None else f"{run.best}, the best by the validation clients",
        ]
        rows.append(tables.Row(run.title, cells))
    headings = ("", "its settings", "server", "network", "round whose model was tested")
    return tables.Table("Settings", headings, rows, words=True)


def _versions() -> str:
    packages = ", ".join(f"{name} {version(name)}" for name in ("fedmeta", "jax", "numpy"))
    return f"{packages}, Python {platform.python_version()}, {platform.system()} on {platform.machine()}"


def _options(content: Mapping[str, Any]) -> str:
    """Return options in words; a value of one's own in brackets."""
    words = []
    for name, value in content.items():
        if name == "name":
            continue
        if isinstance(value, Mapping):
            value = f"{value['name']}{_in_brackets(_options(value))}"
        elif isinstance(value, list | tuple):
            value = " ".join(str(part) for part in value)
        words.append(f"{name} {value}")
    return ", ".join(words)


def _in_brackets(text: str) -> str:
    return f" ({text})" if text else ""
