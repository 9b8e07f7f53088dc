"""Which program is run: the one that is named first, and only if its version is known."""

import pytest

from fedmeta.govern.engines.cometbft import binary
from fedmeta.govern.errors import EngineError


def script(path, text):
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def places(tmp_path, monkeypatch):
    """A program in each of the places, in the order in which they are looked at; the path of a script to name."""
    monkeypatch.setattr(binary, "CHECKOUT", tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path / 'path'}:/usr/bin:/bin")
    monkeypatch.delenv(binary.VARIABLE, raising=False)
    return tmp_path


def test_a_program_is_looked_for_in_order(places, monkeypatch):
    with pytest.raises(EngineError, match="make cometbft"):
        binary.find_binary()
    on_path = script(places / "path" / "cometbft", "echo 0.38.1")
    assert binary.find_binary() == on_path
    (places / "build").mkdir()
    built = script(places / "build" / "bin" / "cometbft", "echo v0.40.2-dev")
    assert binary.find_binary() == built
    by_variable = script(places / "variable", "echo 0.38.26")
    monkeypatch.setenv(binary.VARIABLE, str(by_variable))
    assert binary.find_binary() == by_variable
    named = script(places / "named", "echo 0.38.26")
    assert binary.find_binary(named) == named


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("echo 0.37.5", "CometBFT 0.37.5: this engine was tried with 0.38"),
        ("echo 0.380.1", "CometBFT 0.380.1"),
        ("echo hello", "not CometBFT: .* 'hello'"),
        ("exit 3", "does not run"),
    ],
)
def test_a_program_of_another_version_is_refused(places, text, words):
    with pytest.raises(EngineError, match=words):
        binary.find_binary(script(places / "program", text))


def test_what_is_named_is_not_passed_over(places, monkeypatch):
    script(places / "path" / "cometbft", "echo 0.38.1")
    (places / "text").write_text("no program")
    for path in ("text", "nothing"):
        with pytest.raises(EngineError, match=f"--cometbft names .*{path}, which is no program"):
            binary.find_binary(places / path)
    monkeypatch.setenv(binary.VARIABLE, str(places / "text"))
    with pytest.raises(EngineError, match=f"{binary.VARIABLE} names"):
        binary.find_binary()
