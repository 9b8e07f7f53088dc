"""A ledger whose process is killed again and again, and a witness who knows from outside what must be in it.

`python -m tests.govern.engines.crashing PATH` is the process that is killed. Members submit in threads of their own,
blocks are made, snapshots are taken, old blocks are pruned, the ledger is closed and opened again, until the end comes.
It says on its output what it sends and, once the receipt says so, what was acknowledged.
"""

import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

from fedmeta.govern.client.audit import verify_ledger
from fedmeta.govern.engines import store as stores
from fedmeta.govern.engines.embedded import EmbeddedEngine
from fedmeta.govern.engines.replay import needed, whole
from fedmeta.govern.engines.store import Place, Store
from fedmeta.govern.machine import application
from fedmeta.govern.machine.execute import execute
from fedmeta.govern.machine.genesis import Genesis, start
from fedmeta.govern.state.records import Candidate, Delegation, Member
from fedmeta.govern.state.state import State
from fedmeta.govern.wire import transactions as tx
from fedmeta.govern.wire.block import Block
from fedmeta.govern.wire.signatures import digest
from tests.govern.engines.keeping import retain
from tests.govern.playing import SHORT, TIME, federation, key
from tests.waiting import PATIENCE

ROOT = Path(__file__).resolve().parents[3]
SEQUENCER = key("sequencer")
MEMBERS = ("hal", "ivy", "joy")
CANDIDATES = ("ann", "bob", "cat")
FREE = 10**12
CHECKPOINT_PAGES = (60, 2_000)
"""Either so few that the log is brought into the file every few blocks, or more than a process lives to see."""


def small() -> Genesis:
    """Return a genesis with short terms, and without rounds."""
    return federation(free=FREE, contributors=(), **SHORT)


# The process that is killed.


def main(path: str) -> None:
    """Work on a ledger for ever. The line on the input is a seed, the oldest block to keep, and a statement's number.

    The process kills itself before the database's statement of that number; if it is 0, another one has to do it.
    """
    seed, oldest, statement = map(int, sys.stdin.readline().split())
    draw = random.Random(seed)
    stores.CHECKPOINT_PAGES = draw.choice(CHECKPOINT_PAGES)
    application._retain = retain
    if statement:
        _die_at(statement)
    say("opening")
    while True:
        with EmbeddedEngine.open(path, SEQUENCER) as engine:
            say("open", engine.height, engine.app_hash.hex())
            _work(engine, draw, oldest)


def say(*words: object) -> None:
    """Write one line at once: a pipe takes all of it or nothing."""
    os.write(1, " ".join(map(str, words)).encode() + b"\n")


def _die_at(statement: int) -> None:
    left = [statement]

    def count(_: str) -> None:
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)

    def connect(*arguments: object, plain=stores.connect) -> sqlite3.Connection:
        database = plain(*arguments)
        database.set_trace_callback(count)
        return database

    stores.connect = connect


def _work(engine: EmbeddedEngine, draw: random.Random, oldest: int) -> None:
    over = threading.Event()
    members = [
        threading.Thread(target=_send, args=(engine, name, random.Random(draw.random()), over), daemon=True)
        for name in MEMBERS
    ]
    for one in members:
        one.start()
    for _ in range(draw.randint(10, 60)):
        engine.produce(TIME + engine.height, empty=draw.random() < 0.1)
        if draw.random() < 0.15:
            engine.snapshot()
        if draw.random() < 0.1:
            engine.prune(oldest)
    over.set()
    while any(one.is_alive() for one in members):
        engine.produce(TIME + engine.height)


def _send(engine: EmbeddedEngine, name: str, draw: random.Random, over: threading.Event) -> None:
    sequence = engine.query("member", {"name": name})["sequence"]
    while not over.is_set():
        receipts = []
        for _ in range(draw.randint(1, 4)):
            body = tx.Delegate(draw.choice(CANDIDATES), draw.randint(1, 99))
            raw = tx.sign(key(name), engine.origin.digest, name, sequence, body)
            say("sent", raw.hex())
            receipts.append(engine.submit(raw))
            sequence += 1
        for receipt in receipts:
            applied = receipt.wait()
            say("acknowledged", applied.digest.hex(), applied.height, applied.position)


class Victim:
    """The process that is killed, seen from outside."""

    def __init__(self, path: Path):
        command = [sys.executable, "-m", "tests.govern.engines.crashing", path]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=pipe)
        self.stuck = False

    def live(self, draw: random.Random, oldest: int) -> list[list[str]]:
        """Let it work until it is killed, at a time or a statement that is drawn; return what it said, in words."""
        statement = draw.choice((0, 0, draw.randint(1, 400)))
        self.process.stdin.write(f"{draw.getrandbits(32)} {oldest} {statement}\n".encode())
        self.process.stdin.flush()
        watch = threading.Timer(PATIENCE, self._give_up)
        watch.start()
        due, most = draw.choice(((b"opening", 0.015), (b"open ", 0.15), (b"open ", 0.15)))
        said = []
        for line in self.process.stdout:
            said.append(line)
            if not statement and line.startswith(due):
                time.sleep(draw.random() * most)
                self.process.kill()
                statement = -1
        complaint = self.process.stderr.read().decode()
        self.close()
        watch.cancel()
        must(not self.stuck, f"the process was stuck for {PATIENCE} s")
        must(self.process.returncode == -signal.SIGKILL, f"the process ended by itself:\n{complaint}")
        # The kill may have come within a line, which is not said then.
        return [line.decode().split() for line in said if line.endswith(b"\n")]

    def close(self) -> None:
        """Kill it, if it lives, and wait for its end."""
        self.process.kill()
        with self.process:
            pass

    def _give_up(self) -> None:
        self.stuck = True
        self.process.kill()


# The witness.


class Violation(AssertionError):
    """A promise that was broken."""


def must(promise: bool, otherwise: str) -> None:
    if not promise:
        raise Violation(otherwise)


class Witness:
    """Knows what was sent and acknowledged, and keeps a chain of its own that no process of the ledger touches."""

    def __init__(self, genesis: Genesis):
        self.genesis = genesis
        self.state = start(genesis).state
        self.hashes = [self.state.root]
        self.blocks: list[Block] = []
        self.headers: list[bytes] = []
        self.sent: dict[bytes, tx.Signed] = {}
        self.acknowledged: dict[bytes, Place] = {}
        self.found: dict[bytes, Place] = {}
        self.opened: list[tuple[int, str]] = []

    def hear(self, said: list[list[str]]) -> None:
        """Note what a process has said."""
        for word, *rest in said:
            if word == "sent":
                raw = bytes.fromhex(rest[0])
                self.sent[digest(raw)] = tx.decode(raw)
            elif word == "acknowledged":
                self.acknowledged[bytes.fromhex(rest[0])] = Place(int(rest[1]), int(rest[2]), "")
            elif word == "open":
                self.opened.append((int(rest[0]), rest[1]))

    def check(self, path: Path) -> None:
        """Compare a ledger that nobody has open with what is known; raises `Violation`."""
        with Store.read(path) as store:
            if self.headers:
                must(needed(store, len(self.headers)).header.hash == self.headers[-1], "a block was replaced")
            for height in range(len(self.blocks) + 1, store.tip + 1):
                self._follow(store, height)
            state = State.load(store.rows(), store.tip)
            for one, place in self.found.items():
                if place.height >= store.first:
                    must(store.place(one) == place, f"the index does not say {place} of {one.hex()}")
        for one, place in self.acknowledged.items():
            must(self.found.get(one) == place, f"{one.hex()} was acknowledged at {place}: it is {self.found.get(one)}")
        for height, app_hash in self.opened:
            must(self.hashes[height].hex() == app_hash, f"it was opened at {height} with {app_hash}")
        must(state.root == self.hashes[-1], f"the state after block {len(self.blocks)} is not what the blocks give")
        self._count(state)
        audit = verify_ledger(path)
        must(audit.sound, audit.problem)
        must((audit.tip, audit.app_hash) == (len(self.blocks), self.hashes[-1]), "the audit found another end")

    def _follow(self, store: Store, height: int) -> None:
        header = needed(store, height).header
        block = Block(height, header.time, tuple(whole(store, height)))
        for position, raw in enumerate(block.transactions):
            one = digest(raw)
            must(one in self.sent, f"nobody sent {one.hex()}")
            must(one not in self.found, f"{one.hex()} was applied at {self.found.get(one)} and in block {height}")
            self.found[one] = Place(height, position, "")
        done = execute(self.state, block)
        must(done.app_hash == header.app_hash, f"block {height} gives another app hash than its header says")
        self.state = done.state.fold()
        self.hashes.append(done.app_hash)
        self.blocks.append(block)
        self.headers.append(header.hash)

    def _count(self, state: State) -> None:
        """Count sequences and amounts from what was sent, without executing anything."""
        begun = start(self.genesis).state
        applied = [self.sent[one] for one in self.found]
        sequences = {name: [one.sequence for one in applied if one.member == name] for name in MEMBERS}
        for name, numbers in sequences.items():
            must(numbers == list(range(len(numbers))), f"the sequences of {name} are {numbers}")
            given = sum(one.body.amount for one in applied if one.member == name)
            member = state.need(Member, name)
            must((member.sequence, member.free) == (len(numbers), FREE - given), f"{name} has {member}, gave {given}")
        for name in CANDIDATES:
            taken = sum(one.body.amount for one in applied if one.body.candidate == name)
            candidate, before = state.need(Candidate, name), begun.need(Candidate, name)
            must(candidate.tokens == before.tokens + taken, f"{name} has {candidate}, was given {taken}")
            shares = sum(one.shares for one in state.all(Delegation) if one.candidate == name)
            must(shares == candidate.tokens * 10**6, f"the shares of {name} are {shares}")


class Torment:
    """A ledger, its victims, and the witness."""

    def __init__(self, path: Path, seed: int = 0):
        self.path = path
        self.draw = random.Random(seed)
        self.witness = Witness(small())
        self.kills = 0
        self.opening = 0
        """How many of those that were killed had not opened the ledger yet."""
        EmbeddedEngine.create(path, self.witness.genesis, SEQUENCER).close()
        self._next = Victim(path)

    def __enter__(self) -> "Torment":
        return self

    def __exit__(self, *_: object) -> None:
        self._next.close()

    def kill(self) -> None:
        """Let one process live and die, and check what it leaves; raises `Violation`."""
        victim, self._next = self._next, Victim(self.path)
        said = victim.live(self.draw, oldest=len(self.witness.blocks) + 1)
        self.kills += 1
        self.opening += not any(words[0] == "open" for words in said)
        self.witness.hear(said)
        self.witness.check(self.path)

    def finish(self) -> None:
        """Open the ledger a last time and replay all its blocks from genesis; raises `Violation`."""
        witness = self.witness
        with EmbeddedEngine.open(self.path, SEQUENCER) as engine:
            must((engine.height, engine.app_hash) == (len(witness.blocks), witness.hashes[-1]), "it opens elsewhere")
        state = start(witness.genesis).state
        for block in witness.blocks:
            state = execute(state, block).state.fold()
        must(state.root == witness.hashes[-1], "the blocks give another state when they are replayed from genesis")


if __name__ == "__main__":
    main(sys.argv[1])
