"""The HTML report of a run or of a comparison: one file that needs no other."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fedmeta._extras import need
from fedmeta._files import write_atomically
from fedmeta.study.compare import Comparison, Outcome
from fedmeta.study.formatting import megabytes, percent
from fedmeta.study.plots import svg


def write_report(path: Path, outcomes: Sequence[Outcome], comparison: Comparison | None = None) -> None:
    """Write the report of one run, or of several that are compared.

    Raises:
        MissingPackage: the extra `reports` is not installed; nothing is written.
    """
    jinja2 = need("jinja2", "a report")
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("fedmeta.study", "templates"), autoescape=True, undefined=jinja2.StrictUndefined
    )
    accuracy = outcomes[0].measure == "accuracy"
    environment.filters |= {
        "score": percent if accuracy else "{:.4f}".format,
        "plain": (lambda share: f"{100 * share:.1f}") if accuracy else "{:.4f}".format,
        "mb": megabytes,
        "number": "{:,}".format,
    }
    recipe = outcomes[0].prepared.recipe
    html = environment.get_template("report.html.jinja").render(
        outcomes=outcomes,
        comparison=comparison,
        measure=outcomes[0].measure,
        unit=", in %" if accuracy else "",
        recipe=recipe,
        data=Path(recipe.data).name,
        picture=svg(outcomes, comparison),
        settings=[(outcome.title, _settings(outcome)) for outcome in outcomes],
        groups={
            "training": outcomes[0].prepared.train,
            "validation": outcomes[0].prepared.validation,
            "test": outcomes[0].prepared.test,
        },
    )
    write_atomically(path, html.encode())


def _settings(outcome: Outcome) -> dict[str, Any]:
    recipe = outcome.prepared.recipe
    options = ", ".join(f"{name} {value}" for name, value in recipe.algorithm_options.items())
    network = ", ".join(f"{name} {value}" for name, value in recipe.model_options.items())
    return {
        "algorithm": options or "defaults",
        "server": f"{recipe.server}, learning rate {recipe.server_lr:g}",
        "network": f"{recipe.model}{f' ({network})' if network else ''}",
    }
