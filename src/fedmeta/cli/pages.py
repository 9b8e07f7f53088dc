"""The report and the picture of a command, which does without them where the extra that brings them is missing."""

import shlex
from functools import partial
from pathlib import Path

import click

from fedmeta.errors import MissingPackage
from fedmeta.study import plots, report
from fedmeta.study.compare import Comparison, FinishedRun, Repeats


def write_pages(folder: Path, found: FinishedRun | Comparison | Repeats) -> list[str]:
    """Write report.html, and of a comparison its picture too; return the lines that say where they are.

    What cannot be written without a package that is not installed is named in one line on standard error.
    """
    pages = [("Report  ", folder / "report.html", partial(report.write_report, found=found, command=command()))]
    if not isinstance(found, FinishedRun):
        comparison = found.comparisons[0] if isinstance(found, Repeats) else found
        pages.insert(0, ("Picture ", folder / "comparison.png", partial(plots.save_picture, comparison)))
    lines, left_out, reason = [], [], None
    for title, path, write in pages:
        try:
            write(path=path)
        except MissingPackage as missing:
            left_out.append(path.name)
            reason = missing
        else:
            lines.append(f"{title}{path}")
    if left_out:
        verb = "was" if len(left_out) == 1 else "were"
        click.echo(f"fedmeta: {' and '.join(left_out)} {verb} not written: {reason}", err=True)
    return lines


def command() -> str | None:
    """Return the command that is at work, as a shell reads it; None for one that does not repeat what it shows."""
    context = click.get_current_context(silent=True)
    words = None if context is None else context.find_root().obj
    return None if not words or words[0] == "resume" else shlex.join(["fedmeta", *words])
