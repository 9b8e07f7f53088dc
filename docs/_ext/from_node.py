"""Directives that list what a node's code declares: keys of its files, codes of refusals, limits, what leaves."""

from dataclasses import fields
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from from_ledger import meanings
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from tables import literal, prose, table

from fedmeta.node.member import config, policy
from fedmeta.node.member.outbox import WHAT
from fedmeta.node.transport.pace import Limits
from fedmeta.node.transport.server import STATUS

PAGES = {"node.toml": config.page, "policy.toml": policy.page}


class Keys(SphinxDirective):
    """The keys of `node.toml` or `policy.toml`, from the table that the file is read by."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        found = nodes.container()
        self.state.nested_parse(StringList(PAGES[self.arguments[0]]().splitlines()), self.content_offset, found)
        return found.children


class Codes(SphinxDirective):
    """Every code with which a gate refuses a request, by its status."""

    def run(self) -> list[nodes.Node]:
        statuses: dict[int, list[str]] = {}
        for code, status in sorted(STATUS.items(), key=lambda one: one[1]):
            statuses.setdefault(status, []).append(code)
        rows = [
            [literal(str(status)), prose(", ".join(f"`{one}`" for one in codes))] for status, codes in statuses.items()
        ]
        return [table(["status", "codes"], rows)]


class LimitTable(SphinxDirective):
    """What a gate or a client bears from its peers."""

    def run(self) -> list[nodes.Node]:
        said = meanings(Limits)
        rows = [[literal(one.name), prose(f"{one.default:,}"), prose(said[one.name])] for one in fields(Limits)]
        return [table(["limit", "default", "meaning"], rows)]


class Leaving(SphinxDirective):
    """What leaves a node."""

    def run(self) -> list[nodes.Node]:
        return [table(["what", "which is"], [[literal(name), prose(said)] for name, said in WHAT.items()])]


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("node-keys", Keys)
    app.add_directive("node-codes", Codes)
    app.add_directive("node-limits", LimitTable)
    app.add_directive("node-outbox", Leaving)
    return {"parallel_read_safe": True, "env_version": 1}
