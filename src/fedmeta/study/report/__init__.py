"""The HTML report of a run or of a comparison: one file that needs no other."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fedmeta._extras import need
from fedmeta._files import write_atomically
from fedmeta.aggregators import weighted_mean
from fedmeta.runs.describing import described
from fedmeta.study.compare import Comparison, FinishedRun
from fedmeta.study.formatting import gigaflops, megabytes, percent
from fedmeta.study.plots import svg
from fedmeta.study.spelling import spelled
from fedmeta.transforms import identity


def write_report(path: Path, runs: Sequence[FinishedRun], comparison: Comparison | None = None) -> None:
    """Write the report of one run, or of several that are compared.

    Raises:
        MissingPackage: the extra `reports` is not installed; nothing is written.
    """
    jinja2 = need("jinja2", "a report")
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("fedmeta.study", "templates"), autoescape=True, undefined=jinja2.StrictUndefined
    )
    accuracy = runs[0].measure == "accuracy"
    environment.filters |= {
        "score": percent if accuracy else "{:.4f}".format,
        "plain": (lambda share: f"{100 * share:.1f}") if accuracy else "{:.4f}".format,
        "mb": megabytes,
        "number": "{:,}".format,
        "gflop": gigaflops,
    }
    first = runs[0].experiment
    html = environment.get_template("report.html.jinja").render(
        runs=runs,
        comparison=comparison,
        measure=runs[0].measure,
        unit=", in %" if accuracy else "",
        procedure=first.procedure,
        looks=first.looks,
        data=Path(first.data.data).name,
        picture=svg(runs, comparison),
        settings=[(run.title, _settings(run)) for run in runs],
        groups={"training": first.train, "validation": first.validation, "test": first.test},
    )
    write_atomically(path, html.encode())


def _settings(run: FinishedRun) -> dict[str, str]:
    procedure = run.experiment.procedure
    parts = {"transform": procedure.transform, "aggregator": procedure.aggregator}
    plain = {"transform": identity(), "aggregator": weighted_mean()}
    return {
        "algorithm": _options(described(procedure.algorithm)) or "defaults",
        "server": spelled(procedure.server)
        + "".join(f"; {name} {spelled(part)}" for name, part in parts.items() if part != plain[name]),
        "network": f"{procedure.model}{_in_brackets(_options(procedure.model_options))}",
        "digest": procedure.digest,
    }


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
