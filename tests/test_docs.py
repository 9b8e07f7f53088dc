"""The pages do what they say: their snippets run, in order, and their commands are ones that exist."""

import re
import shlex
import warnings
from pathlib import Path

import click
import pytest

from fedmeta.cli import app, main

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
TOUR = ROOT / "docs" / "how-to-ledger.md"
"""Its commands are played, with a node, in tests/cli/test_tour.py."""

BLOCK = re.compile(r"^```(python|console|sh)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
WIDTH = 100
"""Characters of a line of code that are seen without scrolling in a window of 1,200 pixels, in Furo with
docs/_static/fedmeta.css: 107 in Liberation Mono, 104 in wider fonts."""
LINK = re.compile(r"\]\(([^)\s]+)\)")
ELSEWHERE = ("https://", "http://", "mailto:", "#")


def blocks(page):
    """Return (language, first line, text) of each block of code in a page."""
    text = page.read_text("utf-8")
    return [(match[1], text.count("\n", 0, match.start(2)) + 1, match[2]) for match in BLOCK.finditer(text)]


def commands(text):
    """Return the arguments of each `fedmeta` command in a block of a shell."""
    lines = (line.removeprefix("$ ").removeprefix(".venv/bin/") for line in text.replace("\\\n", "").splitlines())
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("fedmeta ")]


def links(page):
    """Return what a page's links and images point to, outside its code and inside this project."""
    prose = FENCED.sub("", page.read_text("utf-8"))
    return [target.split("#")[0] for target in LINK.findall(prose) if not target.startswith(ELSEWHERE)]


def name(page):
    return str(page.relative_to(ROOT))


RUNNABLE = [page for page in PAGES if any(kind in ("python", "console") for kind, *_ in blocks(page))]
COMMANDS = [
    pytest.param(words, id=f"{name(page)}: {shlex.join(words)}")
    for page in PAGES
    if page != TOUR
    for kind, _, text in blocks(page)
    if kind != "python"
    for words in commands(text)
]


@pytest.mark.parametrize("page", RUNNABLE, ids=name)
def test_the_snippets_of_a_page_run_in_order(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    scope = {"__name__": "__main__"}
    for kind, line, text in blocks(page):
        if kind == "python":
            # Blank lines before it, so that a traceback names the line of the page.
            exec(compile("\n" * (line - 1) + text, str(page), "exec"), scope)
        elif kind == "console":
            for words in commands(text):
                with pytest.raises(SystemExit) as ended:
                    main(words)
                assert ended.value.code == 0, capsys.readouterr().err
    if page.name == "tutorial.md":
        check_what_the_tutorial_claims(scope)


def check_what_the_tutorial_claims(scope):
    assert scope["client"] == "client-01"
    assert (len(scope["task"].support), len(scope["task"].query)) == (6, 23)
    assert scope["after"] > scope["before"]
    assert len(scope["run"].history) == 80
    assert scope["report"].accuracy > scope["report"].before.accuracy + 0.1


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md"], ids=name)
def test_every_relative_link_and_image_of_a_page_exists(page):
    dead = [target for target in links(page) if not (page.parent / target).is_file()]
    assert not dead


def test_links_and_images_are_found():
    assert "docs/tutorial.md" in links(ROOT / "README.md")
    assert "images/digits.png" in links(ROOT / "docs" / "results.md")


@pytest.mark.parametrize("page", [page for page in PAGES if page.parent != ROOT], ids=name)
def test_no_block_of_code_scrolls_sideways(page):
    lines = [line for block in FENCED.findall(page.read_text("utf-8")) for line in block.splitlines()]
    assert not [line for line in lines if len(line) > WIDTH]


@pytest.mark.parametrize("words", COMMANDS)
def test_a_command_on_a_page_exists_with_its_options(words):
    context, command = click.Context(app), app
    while isinstance(command, click.Group):
        first, *words = words
        found = command.get_command(context, first)
        assert found is not None, first
        command = found
    command.make_context(command.name, list(words))
