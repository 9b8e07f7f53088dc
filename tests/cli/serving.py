"""A ledger that is really served: `fedmeta ledger serve` in a process of its own."""

import contextlib
import io
import os
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
organisation = "west-practice"
stake = 15_000
free = 10_000

[[recipes]]
title = "Readmission"
file = "recipe.toml"
model_file = "first.model"

[parameters]
term_length = 2_000
super_nodes = 3
standbys = 1
open_blocks = 100_000
update_blocks = 1_000
manifest_blocks = 1_000
commit_blocks = 1_000
reveal_blocks = 1_000
voting_blocks = 12
execution_delay = 3
challenge_blocks = 2_000
evidence_age = 10_000
unbonding_period = 30_000
"""
"""A federation whose first term lasts, and whose votes do not."""

MEMBERS = ("east", "north", "south", "west")


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


def make(folder):
    """Make a ledger in a folder of its own, and return that one."""
    done = run("ledger", "init", folder / "fed", "--from", federation(folder))
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

    def play_updates(self, folder):
        """Let everyone in the cohort commit an update that the first super node has a copy of."""
        latest = self.ask("round")
        witness = self.ask("term", latest["term"])["seats"][0]["candidate"]
        for name in latest["cohort"]:
            update, receipt = folder / f"{name}.update", folder / f"{name}.receipt"
            update.write_text(f"the update of {name}")
            self.must("round", "receipt", name, update, "--examples", 20, "--out", receipt, by=witness)
            self.must("round", "update", update, "--examples", 20, "--receipt", receipt, by=name)

    def play_round(self, folder):
        """Play the latest round to its end, with commands only: east's update is scored twice as high as the others."""
        latest = self.ask("round")
        self.must("round", "open", by=latest["leader"])
        self.play_updates(folder)
        (folder / "aggregate").write_text("the aggregate")
        (folder / "model").write_text("the next model")
        computed = ("--aggregate", folder / "aggregate", "--model", folder / "model")
        self.must("round", "manifest", *computed, by=latest["leader"])
        super_nodes = [seat["candidate"] for seat in self.ask("term", latest["term"])["seats"]]
        scores = [f"--score={name}={500_000 if name == 'east' else 250_000}" for name in latest["cohort"]]
        for name in super_nodes:
            self.must("round", "attest", *computed, *scores, "--opening", folder / f"{name}.json", by=name)
        for name in super_nodes:
            self.must("round", "reveal", folder / f"{name}.json", by=name)


@contextlib.contextmanager
def gathered(folder):
    """Yield the party of a new ledger in a folder, while it is served; a block is made when something waits."""
    made = make(folder)
    with served(made, "--block-interval", 0.01, "--empty-interval", 10) as node:
        yield Party(made, node)
