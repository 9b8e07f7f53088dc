"""Directives that list what the ledger's code declares: transactions, parameters, events, records and the rest."""

import ast
import inspect
import textwrap
import types
from dataclasses import fields
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from docutils import nodes
from refused import field_codes, in_order, refusals
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from tables import literal, literals, prose, table

from fedmeta.govern.engines.embedded import EmbeddedEngine
from fedmeta.govern.errors import REFUSALS
from fedmeta.govern.machine.execute import RULES, attempt, authenticate, begin
from fedmeta.govern.machine.genesis import (
    FirstCandidate,
    FirstDelegation,
    FirstMember,
    FirstRecipe,
    FirstRegistration,
    Genesis,
)
from fedmeta.govern.machine.header import Header
from fedmeta.govern.machine.pool import Pool
from fedmeta.govern.rules.context import Context
from fedmeta.govern.rules.faults import KINDS
from fedmeta.govern.rules.proposal_actions import ACTIONS
from fedmeta.govern.server import Limits, create_app
from fedmeta.govern.server.making import Sequencing
from fedmeta.govern.state.parameters import TABLE
from fedmeta.govern.state.records import KeyPeriod
from fedmeta.govern.views.queries import QUERIES, Query
from fedmeta.govern.wire.events import EVENTS
from fedmeta.govern.wire.layout import LAYOUTS
from fedmeta.govern.wire.parts import Cut, Place, Seat, Window
from fedmeta.govern.wire.schema import Check
from fedmeta.govern.wire.transactions import TRANSACTIONS, Propose

PARTS = (KeyPeriod, Seat, Place, Window, Cut)
FIRST = (FirstMember, FirstCandidate, FirstDelegation, FirstRecipe, FirstRegistration)
COMMON = (Context.member, Context.active_member)
"""What every transaction may be refused for: not repeated with each."""


class Transactions(SphinxDirective):
    """A section for each kind of transaction: what it does, its fields and the codes it is refused with."""

    def run(self) -> list[nodes.Node]:
        return [_transaction(kind, cls) for kind, cls in TRANSACTIONS.items()]


def _transaction(kind: str, cls: type) -> nodes.section:
    section = _section("transaction", kind, cls)
    section += _schema(cls)
    codes = field_codes(cls) | refusals(RULES[cls], COMMON)
    note = nodes.paragraph("", "", nodes.Text("Refused with: "), *literals(in_order(codes)))
    if cls is Propose:
        note += nodes.Text("; and as its action says.")
    section += note
    return section


class Actions(SphinxDirective):
    """A section for each action that a proposal can ask for."""

    def run(self) -> list[nodes.Node]:
        sections = []
        for kind, cls in ACTIONS.items():
            section = _section("action", kind, cls)
            section += _schema(cls)
            now = field_codes(cls) | refusals(cls.check)
            later = refusals(cls.carry_out) | now
            section += nodes.paragraph("", "", nodes.Text("Refused when it is proposed: "), *literals(in_order(now)))
            section += nodes.paragraph("", "", nodes.Text("Fails when it is due: "), *literals(in_order(later)))
            sections.append(section)
        return sections


class ParameterTable(SphinxDirective):
    """Every parameter: meaning, default with its unit, and range."""

    def run(self) -> list[nodes.Node]:
        rows = [
            [
                literal(row.name),
                prose(row.meaning),
                prose(f"{row.default:,} {row.unit}"),
                prose(f"{row.low:,} to {row.high:,}"),
            ]
            for row in TABLE.values()
        ]
        return [table(["parameter", "meaning", "default", "range"], rows)]


class EventTable(SphinxDirective):
    """Every event: when it is said, and its fields."""

    def run(self) -> list[nodes.Node]:
        rows = [
            [literal(kind), prose(_said(cls)), literals(f"{name}: {shape(hint)}" for name, hint in _hints(cls))]
            for kind, cls in EVENTS.items()
        ]
        return [table(["event", "when", "fields"], rows)]


class RecordTables(SphinxDirective):
    """A section for each kind of record, and for what records are made of: key, fields in their order, meaning."""

    def run(self) -> list[nodes.Node]:
        sections = []
        for kind, layout in LAYOUTS.items():
            if kind == "parameters":
                continue
            section = _section("record", kind, layout.cls)
            section += _keyed(layout.key)
            section += _fields(layout.cls)
            sections.append(section)
        for cls in PARTS:
            section = _section("part", cls.__name__, cls)
            section += _fields(cls)
            sections.append(section)
        return sections


class GenesisTables(SphinxDirective):
    """The fields of a genesis, and of what it lists."""

    def run(self) -> list[nodes.Node]:
        sections = []
        for cls in (Genesis, *FIRST):
            section = _section("genesis", cls.__name__, cls)
            section += _fields(cls) if cls is Genesis else _schema(cls)
            sections.append(section)
        return sections


class HeaderTable(SphinxDirective):
    """The fields of a header, in their order."""

    def run(self) -> list[nodes.Node]:
        return [_fields(Header)]


class Queries(SphinxDirective):
    """Every query: its arguments with their defaults, and what it gives."""

    def run(self) -> list[nodes.Node]:
        rows = [
            [literal(name), literals(_argument(one, argument) for argument in one.arguments), prose(one.meaning)]
            for name, one in QUERIES.items()
        ]
        return [table(["query", "arguments", "what it gives"], rows)]


def _argument(query: Query, name: str) -> str:
    default = f" = {query.optional[name]!r}" if name in query.optional else ""
    return f"{name}: {shape(query.arguments[name])}{default}"


class Routes(SphinxDirective):
    """A section for each route of a node, from the description that the node itself serves."""

    def run(self) -> list[nodes.Node]:
        # Nothing is asked of the engine: the application is only described.
        engine = object.__new__(EmbeddedEngine)
        paths = create_app(engine, Sequencing(engine)).openapi()["paths"]
        return [_route(method.upper(), path, said) for path, one in paths.items() for method, said in one.items()]


def _route(method: str, path: str, said: dict[str, Any]) -> nodes.section:
    section = nodes.section(ids=[nodes.make_id(f"route-{method}-{path}")], names=[f"route {method} {path}"])
    section += nodes.title("", "", *literal(f"{method} {path}"))
    for paragraph in said["description"].split("\n\n"):
        section += nodes.paragraph("", "", *prose(" ".join(paragraph.split())))
    rows = [
        [literal(one["name"]), prose(one["in"]), prose(_kind(one["schema"])), prose(one.get("description", ""))]
        for one in said.get("parameters", ())
    ]
    if "requestBody" in said:
        rows.append([prose("the body"), prose("body"), prose("CBOR"), prose(said["requestBody"]["description"])])
    if rows:
        section += table(["parameter", "in", "type", "meaning"], rows)
    statuses = sorted(status for status in said["responses"] if status.isdecimal())
    section += nodes.paragraph("", "", nodes.Text("Answers with "), *literals(statuses), nodes.Text("."))
    return section


def _kind(schema: dict[str, Any]) -> str:
    """Return the type of a parameter, with its default."""
    kinds = [one["type"] for one in schema.get("anyOf", [schema]) if one.get("type") != "null"]
    default = schema.get("default")
    return ", ".join(kinds) + ("" if default is None else f", by default {str(default).lower()}")


class LimitTable(SphinxDirective):
    """What a node takes from whom."""

    def run(self) -> list[nodes.Node]:
        said = meanings(Limits)
        rows = [[literal(one.name), prose(f"{one.default:,}"), prose(said[one.name])] for one in fields(Limits)]
        return [table(["limit", "default", "meaning"], rows)]


class RefusalTable(SphinxDirective):
    """Every refusal code, and those that every transaction may be refused with."""

    def run(self) -> list[nodes.Node]:
        common = of_any_transaction()
        rows = [
            [literal(code), prose(meaning), prose("any transaction" if code in common else "")]
            for code, meaning in REFUSALS.items()
        ]
        return [table(["code", "meaning", "refuses"], rows)]


def of_any_transaction() -> set[str]:
    """Return the codes that every transaction may be refused with: where it is authenticated, and by the pool."""
    return refusals(authenticate) | refusals(Pool._execute, (begin,)) | refusals(Pool._attempt, (attempt,))


class FaultTable(SphinxDirective):
    """Every kind of fault: what it is, what it costs, and what follows."""

    def run(self) -> list[nodes.Node]:
        rows = [
            [
                literal(name),
                prose(kind.meaning),
                literal(kind.parameter),
                prose(f"{TABLE[kind.parameter].default:,}"),
                prose("barred for good" if kind.final else "jail"),
            ]
            for name, kind in KINDS.items()
        ]
        return [table(["fault", "who did it", "slashed, in ppm", "default", "then"], rows)]


def rule(hint: Any) -> str:
    """Return what a field of a schema must be, in words."""
    if get_origin(hint) is Annotated:
        return next(one.rule for one in get_args(hint) if isinstance(one, Check))
    if get_origin(hint) is tuple:
        inner = get_args(hint)
        if inner[-1] is Ellipsis:
            return f"a list, of each: {rule(inner[0])}"
        return "a list of " + " and ".join(f"({rule(one)})" for one in inner)
    return {bool: "true or false"}.get(hint, "a map")


def shape(hint: Any) -> str:
    """Return the type of a field of a record or an event as its encoding has it."""
    if get_origin(hint) is Annotated:
        return shape(get_args(hint)[0])
    if get_origin(hint) is tuple:
        return f"[{shape(get_args(hint)[0])}]"
    if get_origin(hint) is types.UnionType:
        return " or ".join("null" if one is types.NoneType else shape(one) for one in get_args(hint))
    plain = {str: "text", int: "int", bytes: "bytes", bool: "bool"}
    return plain.get(hint) or (hint.__name__ if hint in (*PARTS, *FIRST) else "map")


def meanings(cls: type) -> dict[str, str]:
    """Return what stands under each field of a class."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    assert isinstance(tree, ast.ClassDef)
    found = {}
    for field, said in zip(tree.body, tree.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(said, ast.Expr) and isinstance(said.value, ast.Constant):
            assert isinstance(field.target, ast.Name)
            found[field.target.id] = inspect.cleandoc(said.value.value)
    return found


def _hints(cls: type) -> list[tuple[str, Any]]:
    hints = get_type_hints(cls, include_extras=True)
    return [(field.name, hints[field.name]) for field in fields(cls)]


def _said(cls: type) -> str:
    """Return the docstring of a class, without the section of what it raises, as one paragraph."""
    text = inspect.cleandoc(cls.__doc__ or "").split("\n\nRaises:")[0]
    return " ".join(text.split())


def _section(what: str, name: str, cls: type) -> nodes.section:
    section = nodes.section(ids=[nodes.make_id(f"{what}-{name}")], names=[f"{what} {name}"])
    section += nodes.title("", "", *literal(name))
    section += nodes.paragraph("", "", *prose(_said(cls)))
    return section


def _keyed(key: tuple[str, ...]) -> nodes.paragraph:
    if not key:
        return nodes.paragraph(text="There is one.")
    return nodes.paragraph("", "", nodes.Text("Key: "), *literals(key), nodes.Text("."))


def _schema(cls: type) -> list[nodes.Node]:
    said = meanings(cls)
    rows = [[literal(name), prose(rule(hint)), prose(said.get(name, ""))] for name, hint in _hints(cls)]
    return [table(["field", "must be", "meaning"], rows)] if rows else [nodes.paragraph(text="It has no fields.")]


def _fields(cls: type) -> nodes.table:
    said = meanings(cls)
    rows = [[literal(name), literal(shape(hint)), prose(said.get(name, ""))] for name, hint in _hints(cls)]
    return table(["field", "type", "meaning"], rows)


def _keep_tables(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Show a table that is drawn in a docstring as it is drawn."""
    shown: list[str] = []
    for line in lines:
        if line.startswith("|") and not (shown and shown[-1].startswith("    |")):
            shown += ["::", ""]
        shown.append(f"    {line}" if line.startswith("|") else line)
    lines[:] = shown


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("autodoc-process-docstring", _keep_tables)
    app.add_directive("ledger-transactions", Transactions)
    app.add_directive("ledger-actions", Actions)
    app.add_directive("ledger-parameters", ParameterTable)
    app.add_directive("ledger-events", EventTable)
    app.add_directive("ledger-records", RecordTables)
    app.add_directive("ledger-genesis", GenesisTables)
    app.add_directive("ledger-header", HeaderTable)
    app.add_directive("ledger-queries", Queries)
    app.add_directive("ledger-routes", Routes)
    app.add_directive("ledger-limits", LimitTable)
    app.add_directive("ledger-refusals", RefusalTable)
    app.add_directive("ledger-faults", FaultTable)
    return {"parallel_read_safe": True, "env_version": 1}
