"""Groups of commands that are imported when they are called for: most need less than all of them together."""

import importlib
from collections.abc import Mapping
from typing import Any

import click


class LateGroup(click.Group):
    """A group whose commands lie in modules of one package.

    Args:
        package: the package, such as `fedmeta.cli.node`.
        places: the name of each command to where it is, `module:function`, in the order of the help.
    """

    def __init__(self, *arguments: Any, package: str, places: Mapping[str, str], **more: Any):
        super().__init__(*arguments, **more)
        self._package, self._places = package, places

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names, in the order of the help."""
        return list(self._places)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command, imported now, or None if there is none."""
        if cmd_name not in self._places:
            return None
        module, name = self._places[cmd_name].split(":")
        return getattr(importlib.import_module(f"{self._package}.{module}"), name)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """Return a command; raises `UnknownName`, with the nearest ones, for a name that is none."""
        if args and args[0] not in self._places and not args[0].startswith("-"):
            from fedmeta.errors import UnknownName

            raise UnknownName(f"command of fedmeta {self.name}", args[0], self._places)
        return super().resolve_command(ctx, args)
