"""`fedmeta consortium`: four hospitals that meta-learn one diagnosis model; one file for each command."""

import click

from fedmeta.cli.late import LateGroup

COMMANDS = {
    "report": "report:report",
    "demo": "demo:demo",
}
"""Name to where it is, in the order of the help."""


@click.group(
    cls=LateGroup,
    package=__name__,
    places=COMMANDS,
    short_help="Show what four hospitals gain by training together.",
)
def consortium() -> None:
    """Show what four hospitals gain by meta-learning one diagnosis model, and what one gains that joins later.

    The hospitals are those of the UCI Heart Disease data: `fedmeta data get heart` fetches them. Without them, a
    stand-in of the same shape is drawn, which says so. None of this is medical advice.

    \b
    Example:
      fedmeta consortium report --out report.html
    """
