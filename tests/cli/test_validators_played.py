"""The page on four validators, played as it stands: real processes, each on a host of its own on loopback."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from fedmeta.govern.client.client import Client
from fedmeta.govern.engines.cometbft.rpc import Rpc
from fedmeta.govern.errors import EngineError
from tests.cli import played
from tests.cli.played import PATIENCE
from tests.cli.test_tour import check, plain
from tests.examples import in_soak
from tests.govern.cometbft.network import needs_cometbft
from tests.waiting import until

PAGE = Path(__file__).parents[2] / "docs" / "how-to-validators.md"
SEATS = ("north", "east", "south", "west")
HOSTS = (*SEATS, "river")
WHO = {"each member": SEATS, **{name.title(): (name,) for name in ("north", "south", "west", "river")}}
SERVE = "fedmeta ledger serve"
PACE = "--block-interval 0.3 --empty-interval 1 --snapshot-every 3"
PARTS = ("chain_id", "organisation")
"""What the blocks of TOML on the page begin with: the file's head, and what is added to each member."""


class Play:
    """Hosts on a network of 127.0.0.0/8 that is this process's own, and what runs on them."""

    def __init__(self, folder):
        self.folder = folder
        self.net = f"127.{1 + os.getpid() % 250}.251."
        self.running = {}
        self.who = ""
        self.head = self.point = self.peer = ""
        self.file = []
        self.commands = {}
        bin = str(Path(sys.executable).parent)
        self.environment = {
            **os.environ,
            "PATH": f"{bin}{os.pathsep}{os.environ['PATH']}",
            "COLUMNS": "200",
            "FEDMETA_NODE": self.url("north"),
        }
        for name in HOSTS:
            (folder / name).mkdir()

    def url(self, name):
        return f"http://{self.net}{HOSTS.index(name) + 1}:7878"

    def here(self, text, name):
        """Return a text of the page as it is for a member's host; where all do it, North stands for each."""
        if len(WHO[self.who]) > 1:
            text = text.replace("10.0.0.1:", f"10.0.0.{HOSTS.index(name) + 1}:").replace("north", name)
            text = re.sub(r"10\.0\.0\.1$", f"10.0.0.{HOSTS.index(name) + 1}", text, flags=re.MULTILINE)
        return text.replace("10.0.0.", self.net)

    def step(self, step):
        self.who = step.who
        for name in WHO[step.who]:
            script = self.filled(self.here(step.text, name))
            if SERVE in script:
                self.serve(name, script.splitlines()[-1], step.due if name == WHO[step.who][0] else [])
                continue
            if "validators reset" in script:
                self.stop(name)
            if "validators renew" in script:
                self.put_back(name)
            done = subprocess.run(
                ["bash", "-eo", "pipefail", "-c", script],
                cwd=self.folder / name,
                env=self.environment,
                capture_output=True,
                text=True,
                timeout=PATIENCE,
            )
            assert done.returncode == 0, script + done.stdout + done.stderr
            if "validators new" in script and name in SEATS:
                self.file.append(done.stdout)
            if name == WHO[step.who][0]:
                check(step.due, done.stdout.replace(self.net, "10.0.0."), script)
            if "checkpoint" in script and name == "north":
                self.point = re.search(r"^\d+:[0-9a-f]{64}$", done.stdout, re.MULTILINE)[0]
                self.peer = re.search(r"[0-9a-f]{40}@\S+", done.stdout)[0]
                shutil.copy(self.folder / "north" / "north" / "genesis.cbor", self.folder / "river")

    def put_back(self, name):
        """Put a validator back to an older state, with which it has its key and an old memory of what it signed."""
        place, older = self.folder / name / name, self.folder / name / "snapshot"
        self.stop(name)
        shutil.copytree(place, older, ignore=shutil.ignore_patterns("*.sock"))
        self.serve(name, self.commands[name], [])
        self.stop(name)
        shutil.rmtree(place)
        older.rename(place)

    def filled(self, script):
        """Return a script with what the page leaves out, as a reader has it from what came before.

        All hosts are this one here, so that none of them can listen on all addresses.
        """
        script = re.sub(r"--at (\S+)", r"--at \1 --listen \1", script)
        if "PUBLIC-KEY:PROOF" in script:
            proven = self.run("west", "fedmeta", "ledger", "validators", "keys", "west", "--proven")
            script = script.replace("PUBLIC-KEY:PROOF", proven.strip())
        if "HEIGHT:HASH" in script:
            script = re.sub(r"ID@\S+", self.peer, script.replace("HEIGHT:HASH", self.point))
        return script

    def run(self, name, *words):
        return subprocess.run(
            words, cwd=self.folder / name, env=self.environment, capture_output=True, text=True, check=True
        ).stdout

    def serve(self, name, command, due, waits=True):
        log = self.folder / f"{name}.log"
        self.commands[name] = command
        with log.open("a") as file:
            self.running[name] = subprocess.Popen(
                ["bash", "-c", f"exec {command} {PACE}"],
                cwd=self.folder / name,
                env=self.environment,
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        wanted = [plain(one.removesuffix("...")) for one in due]
        until(lambda: all(map(plain(log.read_text().replace(self.net, "10.0.0.")).count, wanted)), PATIENCE)
        if waits and len(self.running) >= 4:
            self.wait(name)

    def wait(self, name, blocks=2):
        """Wait until a host has some blocks more than all have now."""
        due = max((self.height(one) for one in self.running), default=0) + blocks
        begun = time.monotonic()
        until(lambda: self.height(name) >= due, PATIENCE)
        return time.monotonic() - begun

    def height(self, name):
        try:
            with Rpc(self.folder / name / name / "cometbft" / "rpc.sock", timeout=5) as rpc:
                return rpc.status().height
        except EngineError:
            return -1

    def stop(self, name, how=signal.SIGTERM):
        process = self.running.pop(name)
        process.send_signal(how)
        assert process.wait(60) == 0, (self.folder / f"{name}.log").read_text()

    def tell(self):
        """Show what all have written, where a test fails."""
        for name in HOSTS:
            for path in (self.folder / f"{name}.log", self.folder / name / name / "cometbft" / "cometbft.log"):
                if path.exists():
                    print(f"== {path}, height {self.height(name)}\n{path.read_text(errors='replace')[-4_000:]}")

    def close(self):
        for process in self.running.values():
            process.kill()
            process.wait()

    def toml(self, text):
        """Write the file that the founder sends to all."""
        if text.startswith("chain_id"):
            self.head = re.sub(r"^time = .*$", f"time = {time.time_ns() // 10**6}", text, flags=re.MULTILINE)
            return
        top, _, parameters = self.head.partition("[parameters]")
        members = [part + text.replace("north", name) for name, part in zip(SEATS, self.file, strict=True)]
        whole = "\n".join([top, *members, f"[parameters]{parameters}"])
        for name in SEATS:
            (self.folder / name / "federation.toml").write_text(whole)


@pytest.fixture
def play():
    # Sockets need short paths.
    folder = Path(tempfile.mkdtemp(prefix="fv"))
    found = Play(folder)
    try:
        yield found
    finally:
        found.tell()
        found.close()
        shutil.rmtree(folder)


@needs_cometbft
@in_soak
def test_four_validators_and_a_fifth_come_out_as_the_page_says(play):
    for step in played.steps(PAGE):
        if step.kind == "toml":
            play.toml(step.text)
        elif step.kind == "sh":
            if "ledger checkpoint" in step.text:
                make_blocks(play)
            play.step(step)
    assert set(play.running) == set(HOSTS)
    for name in HOSTS:
        play.wait(name)
    with Client(play.url("river")) as river, Client(play.url("north")) as north:
        assert river.status()["app_hash"] == north.status()["app_hash"]
        assert river.status()["first_block"] > 1, "it began by a snapshot"
        west = next(one for one in north.query("validators") if one["candidate"] == "west")
    assert west["public"] in play.run("west", "fedmeta", "ledger", "validators", "keys", "west", "--proven")
    # What it began with is no matter when it starts again.
    play.stop("river")
    play.serve("river", play.commands["river"], [])
    lose_cometbft(play)
    # West decides blocks by its new key: without East, its votes are needed.
    play.stop("east")
    play.wait("north", 3)
    for name in list(play.running):
        play.stop(name, signal.SIGINT)


def make_blocks(play):
    """Let something happen, so that there are snapshots."""
    key = play.folder / "north" / "north" / "keys" / "north.pem"
    for at in range(8):
        play.run("north", "fedmeta", "ledger", "members", "profile", "--title", f"North {at}", "--key", str(key))


def lose_cometbft(play):
    """Let River lose what its CometBFT knows: it takes no snapshot over its blocks until they are reset."""
    make_blocks(play)
    play.wait("river")
    play.stop("river")
    home = play.folder / "river" / "river" / "cometbft"
    for path in (home / "data").iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != "priv_validator_state.json":
            path.unlink()
    log = home / "cometbft.log"
    log.unlink()
    play.serve("river", play.commands["river"], [], waits=False)
    until(lambda: log.exists() and "State sync failed" in log.read_text())
    assert play.height("river") == 0
    play.stop("river")
    nodes = [word for name in ("north", "south") for word in ("--node", play.url(name))]
    words = ("fedmeta", "ledger", "validators", "reset", "river", "--yes", "--checkpoint", play.point, *nodes)
    assert "it takes the blocks from the others" in play.run("river", *words)
    play.serve("river", play.commands["river"], [])
    with Client(play.url("river")) as river:
        assert river.status()["first_block"] > 1


def test_each_block_of_the_page_is_run_written_or_shown_and_says_who_does_it():
    steps = played.steps(PAGE)
    assert {step.kind for step in steps} == {"sh", "toml", "none"}
    assert {step.who for step in steps if step.kind == "sh"} == set(WHO)
    assert {step.text.split(" = ")[0] for step in steps if step.kind == "toml"} == set(PARTS)
    assert all(step.kind == "sh" for step in steps if step.due)
    assert sum(SERVE in step.text for step in steps if step.kind == "sh") == 4


def test_the_table_of_windows_is_what_the_rules_and_the_pace_give():
    rows = re.findall(r"^\| (\d+) \| (\d+) \| ([^|]+) \| ([^|]+) \|$", PAGE.read_text("utf-8"), re.MULTILINE)
    assert [int(row[0]) for row in rows] == [4, 16, 64]

    def seconds(text):
        parts = dict(reversed(one.split()) for one in re.findall(r"\d+ (?:min|s)", text))
        return 60 * int(parts.get("min", 0)) + int(parts.get("s", 0))

    for seats, blocks, quiet, busy in rows:
        assert int(blocks) == 2 * int(seats) + 10
        assert seconds(quiet) == 5 * int(blocks)
        assert seconds(busy) == int(blocks)
