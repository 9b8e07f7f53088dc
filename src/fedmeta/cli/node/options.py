"""What the node's commands share: where the node's folder is."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

ENVIRONMENT = "FEDMETA_NODE_FOLDER"
"""The environment variable that says where the node's folder is."""


def in_folder(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the option `--folder`, which it takes as `folder`, an absolute path."""
    return click.option(
        "--folder",
        metavar="DIR",
        envvar=ENVIRONMENT,
        default=".",
        type=click.Path(file_okay=False, path_type=Path),
        callback=lambda _, __, path: path.absolute(),
        help=f"The node's folder.  [default: {ENVIRONMENT}, or the present folder]",
    )(command)
