"""Tables and their cells, as the directives make them."""

from collections.abc import Iterable, Sequence

from docutils import nodes


def prose(text: str) -> list[nodes.Node]:
    """Return text in which `this` is code."""
    parts = text.split("`")
    return [nodes.literal(text=part) if place % 2 else nodes.Text(part) for place, part in enumerate(parts) if part]


def literal(text: str) -> list[nodes.Node]:
    return [nodes.literal(text=text)]


def literals(texts: Iterable[str]) -> list[nodes.Node]:
    found: list[nodes.Node] = []
    for text in texts:
        found += [*([nodes.Text(", ")] if found else []), nodes.literal(text=text)]
    return found or [nodes.Text("none")]


def table(headings: Sequence[str], rows: Sequence[Sequence[list[nodes.Node]]]) -> nodes.table:
    """Return a table; a column in which no row has anything is left out."""
    filled = [at for at in range(len(headings)) if any(row[at] for row in rows)]
    headings, rows = [headings[at] for at in filled], [[row[at] for at in filled] for row in rows]
    group = nodes.tgroup(cols=len(headings))
    group += [nodes.colspec(colwidth=1) for _ in headings]
    head, body = nodes.thead(), nodes.tbody()
    head += _row([[nodes.Text(heading)] for heading in headings])
    body += [_row(row) for row in rows]
    group += [head, body]
    return nodes.table("", group, classes=["colwidths-auto"])


def _row(cells: Iterable[list[nodes.Node]]) -> nodes.row:
    return nodes.row("", *(nodes.entry("", nodes.paragraph("", "", *cell)) for cell in cells))
