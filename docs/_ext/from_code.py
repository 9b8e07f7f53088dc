"""Directives and roles that take what they say from the code, so that the pages cannot drift from it.

A name that is gone is a warning, and a warning fails the build.
"""

import ast
import inspect
import re
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any

import click
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective, SphinxRole
from tables import literal, literals, prose, table

from fedmeta import data
from fedmeta.algorithms import ALGORITHMS, Algorithm
from fedmeta.algorithms.algorithm import InnerDescent
from fedmeta.cli import app as command_line
from fedmeta.models import MODELS
from fedmeta.study import defaults

ROOT = Path(__file__).parents[2]
HELP_WIDTH = 96

logger = logging.getLogger(__name__)


class Commands(SphinxDirective):
    """A section for each command, with the text of its own `--help`."""

    def run(self) -> list[nodes.Node]:
        settings = {**command_line.context_settings, "terminal_width": HELP_WIDTH}
        context = click.Context(command_line, info_name="fedmeta", **settings)
        return [node for name in command_line.list_commands(context) for node in _command(context, name)]


def _command(parent: click.Context, name: str) -> list[nodes.Node]:
    assert isinstance(parent.command, click.Group)
    command = parent.command.get_command(parent, name)
    assert command is not None
    context = click.Context(command, info_name=name, parent=parent)
    path = context.command_path
    section = nodes.section(ids=[nodes.make_id(path)], names=[path])
    section += nodes.title(text=path)
    section += nodes.literal_block(text=command.get_help(context), language="text", classes=["from-source"])
    if isinstance(command, click.Group):
        for inner in command.list_commands(context):
            section += _command(context, inner)
    return [section]


class AlgorithmTable(SphinxDirective):
    """Every algorithm: its name, its title, its class, and the defaults that are its own."""

    def run(self) -> list[nodes.Node]:
        common = {field.name: field.default for field in fields(InnerDescent)}
        rows = []
        for name, algorithm in ALGORITHMS.items():
            own = [
                f"{field.name} = {_default(field)}"
                for field in fields(algorithm)
                if field.name not in common or field.default != common[field.name]
            ]
            if epochs := getattr(algorithm, "default_epochs", None):
                own.append(f"inner_epochs = {epochs} where no steps are given")
            rows.append(
                [
                    literal(name),
                    prose(algorithm.title),
                    literal(f"fm.{algorithm.__name__}"),
                    prose("yes" if algorithm.adapts else "no"),
                    literals(own),
                ]
            )
        return [table(["name", "title", "class", "adapts", "defaults of its own"], rows)]


class CommonDefaults(SphinxDirective):
    """The fields of every algorithm whose clients descend, their defaults and their meaning."""

    def run(self) -> list[nodes.Node]:
        return [_options(InnerDescent)]


class Options(SphinxDirective):
    """One algorithm's options: the default of each, its meaning, and what the command line takes."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        name = self.arguments[0]
        if name not in ALGORITHMS:
            raise self.error(f"no algorithm {name!r} in fedmeta.algorithms.ALGORITHMS")
        general = defaults.GENERAL.get(name, defaults.OTHERWISE)
        said = ", ".join(f"{option} {value}" for option, value in general.items())
        note = nodes.paragraph()
        note += nodes.Text("For data that nothing was tuned for, the command line takes: ")
        note += nodes.literal(text=said)
        note += nodes.Text(".")
        return [_options(ALGORITHMS[name]), note]


class Sources(SphinxDirective):
    """The data sets that are known by name."""

    def run(self) -> list[nodes.Node]:
        rows = [
            [
                literal(source.name),
                prose(source.description),
                prose(f"{source.clients:,}"),
                literals(_signature(source.read)),
                prose(source.licence),
            ]
            for source in map(data.source, data.names())
        ]
        return [table(["name", "what", "clients", "options", "licence"], rows)]


class Networks(SphinxDirective):
    """The networks that the command line knows, and their options."""

    def run(self) -> list[nodes.Node]:
        rows = [
            [
                literal(name),
                literals(f"{option}={_spelled(value)}" for option, value in (build.__kwdefaults__ or {}).items()),
            ]
            for name, build in MODELS.items()
        ]
        return [table(["--model", "--model-option, with its default"], rows)]


class SourceRole(SphinxRole):
    """``{src}`algorithms/inner.py::InnerLoop.run` ``: the function and the line where it stands today."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        path, _, name = self.text.partition("::")
        return self.pointer(Path("src/fedmeta") / path, name)

    def pointer(self, path: Path, name: str) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        # Else a page that is not edited would keep the line, or the name, that the source had before.
        self.env.note_dependency(str(ROOT / path))
        line = _line(ROOT / path, name)
        if line is None:
            logger.warning(f"{path} has no {name or 'such file'}", location=self.get_location())
        if not name:
            return [nodes.literal(text=str(path))], []
        return [nodes.literal(text=name), nodes.Text(f" ({path}, line {line})")], []


class TestRole(SourceRole):
    """``{test}`algorithms/test_closed_forms.py` ``, or with `::test_name`: a test that exists."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        path, _, name = self.text.partition("::")
        return self.pointer(Path("tests") / path, name)


def _line(file: Path, name: str) -> int | None:
    """Return the line of a (dotted) function, class or constant; 1 without a name; None where it is not."""
    if not file.is_file():
        return None
    scope: Any = ast.parse(file.read_text("utf-8"))
    for part in filter(None, name.split(".")):
        scope = next((node for node in scope.body if part in _names(node)), None)
        if scope is None:
            return None
    return getattr(scope, "lineno", 1)


def _names(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return [target.id for target in targets if isinstance(target, ast.Name)]


def _options(algorithm: type[Algorithm]) -> nodes.table:
    meanings = {name: text for cls in reversed(algorithm.__mro__) for name, text in _arguments(cls).items()}
    rows = [[literal(field.name), literal(_default(field)), prose(meanings[field.name])] for field in fields(algorithm)]
    return table(["option", "default", "meaning"], rows)


def _default(field: Field[Any]) -> str:
    """Return a field's default as it is written in Python."""
    factory = field.default_factory
    return repr(field.default) if factory is MISSING else f"fm.{getattr(factory, '__name__', factory)}()"


def _arguments(cls: type) -> dict[str, str]:
    """Return what the section "Args:" of a class's own docstring says of each field."""
    lines = (inspect.cleandoc(cls.__dict__.get("__doc__") or "")).split("\n")
    found: dict[str, str] = {}
    name = None
    for line in lines[lines.index("Args:") + 1 :] if "Args:" in lines else []:
        if not line.startswith(" "):
            break
        if match := re.fullmatch(r" {4}(\w+): (.*)", line):
            name, found[match[1]] = match[1], match[2]
        elif name is not None:
            found[name] += " " + line.strip()
    return found


def _signature(function: Any) -> list[str]:
    return [f"{name}={entry.default!r}" for name, entry in inspect.signature(function).parameters.items()]


def _spelled(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("fedmeta-commands", Commands)
    app.add_directive("fedmeta-algorithms", AlgorithmTable)
    app.add_directive("fedmeta-common-options", CommonDefaults)
    app.add_directive("fedmeta-options", Options)
    app.add_directive("fedmeta-sources", Sources)
    app.add_directive("fedmeta-networks", Networks)
    app.add_role("src", SourceRole())
    app.add_role("test", TestRole())
    return {"parallel_read_safe": True, "env_version": 1}
