"""A ledger that is really served: `fedmeta ledger serve` in a process of its own."""

import contextlib
import io
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

from fedmeta.cli import main
from fedmeta.govern.client import keyfile
from fedmeta.govern.client.client import Client
from fedmeta.govern.wire.transactions import SetProfile
from tests.cli.conftest import Outcome
from tests.waiting import PATIENCE

SHORT = """
chain_id = "short"
treasury = 1_000_000

[[members]]
name = "north"
organisation = "north-hospital"
stake = 40_000
commission = 50_000
free = 10_000
delegations = { east = 5_000 }

[[members]]
name = "east"
organisation = "east-clinic"
stake = 30_000
commission = 100_000
free = 10_000

[[members]]
name = "south"
organisation = "south-hospital"
stake = 20_000
free = 10_000

[[members]]
name = "west"
organisation = "west-hospital"
stake = 15_000
free = 10_000

[[members]]
name = "coast"
organisation = "coast-practice"
free = 1_000

[[recipes]]
title = "Readmission"
file = "recipe.toml"
model_file = "first.model"
interval = 100_000
contributors = ["north", "east", "south", "west", "coast"]

[parameters]
term_length = 2_000
super_nodes = 4
standbys = 1
commit_blocks = 1_000
deliver_blocks = 1_000
compute_blocks = 1_000
reveal_blocks = 1_000
voting_blocks = 12
voting_seconds = 0
delay_blocks = 3
delay_seconds = 0
unbonding_blocks = 90_000
"""
"""A federation whose first term lasts, and whose votes do not; it plays one round."""

SWIFT = re.sub("(commit|deliver|compute|reveal)_blocks = 1_000", r"\1_blocks = 18\n\1_seconds = 0", SHORT)
"""One whose rounds are over soon where nobody does anything."""

MEMBERS = ("coast", "east", "north", "south", "west")

SEATS = ("north", "east", "south", "west")


def federation(folder: Path, text: str = SHORT) -> Path:
    """Write the TOML, and the files that it names."""
    (folder / "recipe.toml").write_text("inner_lr = 0.1\n")
    (folder / "first.model").write_text("parameters")
    (folder / "short.toml").write_text(text)
    return folder / "short.toml"


def start(*arguments):
    """Start `fedmeta ledger serve` on a port that is free; return the process and the line that it begins with."""
    process = subprocess.Popen(
        [sys.executable, "-m", "fedmeta", "ledger", "serve", *map(str, arguments), "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONWARNINGS": "error"},
    )
    return process, process.stdout.readline()


def address(line):
    """Return where a node is that began with this line."""
    return line.partition(" is at ")[2].partition(",")[0]


def end(process, number=signal.SIGINT):
    """Tell a process to end; return its exit code and what it wrote since the first line."""
    process.send_signal(number)
    out, err = process.communicate(timeout=PATIENCE)
    return process.returncode, out, err


@contextlib.contextmanager
def served(*arguments):
    """Yield the address of a node."""
    process, line = start(*arguments)
    try:
        yield address(line)
    finally:
        code, _, err = end(process)
        assert code == 0, err


def run(*words):
    """Run a command as the shell would, also where no fixture for it can be had."""
    out, err, code = io.StringIO(), io.StringIO(), None
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main([str(word) for word in words])
        except SystemExit as ended:
            code = ended.code
    return Outcome(code, out.getvalue(), err.getvalue())


def make(folder, text=SHORT):
    """Make a ledger in a folder of its own, and return that one."""
    done = run("ledger", "init", folder / "fed", "--from", federation(folder, text))
    assert done.code == 0, done.err
    return folder / "fed"


class Party:
    """Everyone in a federation: runs commands against a node, and signs as whom it is told."""

    def __init__(self, folder, node):
        self.folder = folder
        self.node = node

    def key(self, name):
        return self.folder / "keys" / f"{name}.pem"

    def run(self, *words, by=None):
        signing = () if by is None else ("--key", self.key(by))
        return run("ledger", *words, "--node", self.node, *signing)

    def must(self, *words, by=None):
        done = self.run(*words, by=by)
        assert done.code == 0, (words, done.err)
        return done

    def ask(self, *words):
        return self.must(*words, "--json").json

    def let_blocks_pass(self, number, by="south"):
        """Let so many blocks be made, by transactions that change nothing that counts."""
        with Client(self.node, keyfile.load(self.key(by)), by) as client:
            for at in range(number):
                client.send(SetProfile(f"South {at}", "", b""))

    def signed(self, name, body):
        """Return a transaction in hex that no command would make."""
        with Client(self.node, keyfile.load(self.key(name)), name) as client:
            return client.sign(body).hex()

    def play_commits(self, folder):
        """Let a round begin, and everyone in its cohort commit to an update."""
        if self.ask("round") is None:
            self.let_blocks_pass(1)
        for name in MEMBERS:
            update = folder / f"{name}.update"
            update.write_text(f"the update of {name}")
            self.must("round", "commit", update, "--opening", folder / f"{name}.salt", by=name)

    def play_deliver(self, folder):
        """Play a round from its beginning until it is known which updates are in: all."""
        self.play_commits(folder)
        for name in SEATS:
            self.must("round", "seal", by=name)
        for name in SEATS:
            self.must("round", "hold", by=name)

    def play_attest(self, folder, lying=()):
        """Play a round from its beginning until its seats can open; east's update is scored twice as high as others."""
        self.play_deliver(folder)
        for name in SEATS:
            (folder / f"{name}.model").write_text("another model" if name in lying else "the next model")
            others = [one for one in MEMBERS if one != name]
            scores = [f"--score={one}={320_000 if one == 'east' else 160_000}" for one in others]
            opening = ("--opening", folder / f"{name}.result")
            self.must("round", "attest", folder / f"{name}.model", *scores, *opening, by=name)

    def play_round(self, folder, lying=()):
        """Play a round to its end, with commands only."""
        self.play_attest(folder, lying)
        for name in SEATS:
            self.must("round", "reveal", folder / f"{name}.result", by=name)


@contextlib.contextmanager
def gathered(folder, text=SHORT):
    """Yield the party of a new ledger in a folder, while it is served; a block is made when something waits."""
    made = make(folder, text)
    with served(made, "--block-interval", 0.01, "--empty-interval", 10) as node:
        yield Party(made, node)
