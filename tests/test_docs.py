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
SHOWN = re.compile(r"```\n\n```text\n(.*?)^```$", re.MULTILINE | re.DOTALL)
"""What a page says that the block before it prints."""
WARNED = "fedmeta: warning: "
VARIES = re.compile(r"\d+\.\d+")
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
WIDTH = 100
"""Characters of a line of code that are seen without scrolling in a window of 1,200 pixels, in Furo with
docs/_static/fedmeta.css: 107 in Liberation Mono, some fewer in wider fonts."""
SOURCE_WIDTH = 120
"""The same in a block of the class `from-source`, and the longest line of the source."""
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


def folded(text):
    """Return the lines of an output on a page, those that continue another joined to it, without `...`."""
    lines = re.sub(r"\n {4,}", " ", text).splitlines()
    return [plain(line) for line in lines if line.strip() and line != "..."]


def plain(text):
    """Return a text without decimals, which differ between machines, and with single spaces."""
    return VARIES.sub("#", " ".join(text.split()))


def shown(page):
    """Return by the first line of a block of a shell what the page says that it prints."""
    text = page.read_text("utf-8")
    found = {}
    for match in BLOCK.finditer(text):
        after = SHOWN.match(text, match.end() - 3)
        if match[1] == "console" and after:
            found[text.count("\n", 0, match.start(2)) + 1] = after[1]
    return found


@pytest.mark.parametrize("page", RUNNABLE, ids=name)
def test_the_snippets_of_a_page_run_in_order(page, tmp_path, monkeypatch, capsys, caplog):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    scope = {"__name__": "__main__"}
    prints = shown(page)
    for kind, line, text in blocks(page):
        if kind == "python":
            # Blank lines before it, so that a traceback names the line of the page.
            exec(compile("\n" * (line - 1) + text, str(page), "exec"), scope)
        elif kind == "console":
            check_what_commands_print(commands(text), folded(prints.get(line, "")), capsys, caplog)
    if page.name == "tutorial.md":
        check_what_the_tutorial_claims(scope)


def check_what_commands_print(texts, due, capsys, caplog):
    """Run commands. They may warn, and be refused, only where the page says so."""
    warned = [line.removeprefix(WARNED) for line in due if line.startswith(WARNED)]
    refused = any(line.startswith("fedmeta: ") and not line.startswith(WARNED) for line in due)
    caplog.clear()
    said = ""
    for words in texts:
        with warnings.catch_warnings():
            for message in warned:
                warnings.filterwarnings("default", re.escape(message))
            with pytest.raises(SystemExit) as ended:
                main(words)
        said += "\n".join([*capsys.readouterr(), *caplog.messages])
        assert ended.value.code == int(refused), said
    missing = [line for line in due if line not in plain(said)]
    assert not missing, said


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
    fenced = FENCED.findall(page.read_text("utf-8"))
    assert not [line for block in fenced for line in block.splitlines() if len(line) > WIDTH]
    included = [block for block in fenced if block.startswith("```{literalinclude}")]
    assert all("\n:class: from-source\n" in block for block in included)


def test_no_help_of_a_command_scrolls_sideways():
    commands = [("fedmeta", app)]
    for path, command in commands:
        if isinstance(command, click.Group):
            commands += [(f"{path} {name}", inner) for name, inner in command.commands.items()]
        said = command.get_help(click.Context(command, info_name=path, terminal_width=96, **app.context_settings))
        assert not [line for line in said.splitlines() if len(line) > SOURCE_WIDTH], path


@pytest.mark.parametrize("words", COMMANDS)
def test_a_command_on_a_page_exists_with_its_options(words):
    context, command = click.Context(app), app
    while isinstance(command, click.Group):
        first, *words = words
        found = command.get_command(context, first)
        assert found is not None, first
        command = found
    command.make_context(command.name, list(words), **app.context_settings)
