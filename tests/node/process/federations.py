"""A federation of real processes for the tests, watched by executing the ledger's blocks again."""

import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fedmeta as fm
from fedmeta.govern.client.follower import Follower
from fedmeta.govern.errors import NodeError
from fedmeta.govern.state.records import Attestation, Candidate, Fault, Round, Update
from fedmeta.govern.views.invariants import check_invariants
from fedmeta.govern.wire import codec
from fedmeta.govern.wire import transactions as tx
from fedmeta.node.aggregation import Exact
from fedmeta.node.process.federation import LocalFederation
from fedmeta.node.process.moves import SALT
from fedmeta.node.reducer import View, look
from fedmeta.node.wire.chunks import Blob
from fedmeta.runs.inputs import Inputs
from fedmeta.runs.procedure import Procedure

ROOT = Path(__file__).parents[3]

WINDOW = 40
"""Blocks of each window: what is missing then has been waited for long enough."""

CLIENTS = 3
"""Of the digits' clients that each member has."""


def procedure(**changed) -> Procedure:
    usual = {
        "algorithm": fm.MAML(inner_lr=0.1, inner_steps=1),
        "server": fm.optimisers.adam(0.01),
        "transform": fm.transforms.chain(fm.transforms.clip_by_norm(10.0), fm.transforms.fixed_point()),
        "model": "softmax_regression",
        "inputs": Inputs.of(fm.data.load("digits")),
        "rounds": 1000,
        "cohort_size": 6,
    }
    return Procedure(**{**usual, **changed})


@dataclass
class Settled:
    """A round that is over, with what the ledger has of it."""

    round: Round
    updates: dict[str, Update]
    attestations: dict[str, Attestation]


@dataclass
class Federation(LocalFederation):
    """As `LocalFederation`; some members' nodes do otherwise, and one of them writes down what it computes from."""

    kinds: dict[str, str] = field(default_factory=dict)
    """What each member's node is started as, of `tests.node.process.otherwise`; as it should be if not named."""
    follower: Follower = field(init=False)
    settled: dict[int, Settled] = field(default_factory=dict)
    phases: dict[int, tuple[int, str]] = field(default_factory=dict)
    """The number and the phase of the latest round after each block."""

    def program(self, name: str) -> list[str]:
        if kind := self.kinds.get(name):
            return [sys.executable, "-m", "tests.node.process.otherwise", kind]
        return super().program(name)

    def begin(self, change: Callable[["Federation"], None] = lambda _: None) -> None:
        """Make everything, change something of it, and start it."""
        self.make(Exact(self.procedure).result(self.state))
        self.follower = Follower(self.genesis)
        change(self)
        self.start_ledger()
        self.introduce()
        for name in self.hosts:
            self.start(name)

    # What the ledger has.

    def look(self, limit: float = 5.0) -> View:
        """Execute the blocks that have come, and return what is there to see then."""
        end = time.monotonic() + limit
        while True:
            try:
                with self.client() as client:
                    while (block := client.encoded_block(self.follower.height + 1)) is not None:
                        self.follower.apply(block)
                        self._keep()
                return look(self.follower.state, next(iter(self.hosts)), self.follower.header_hash)
            except NodeError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.2)

    def _keep(self) -> None:
        state = self.follower.state
        latest = max((one.number for one in state.all(Round)), default=0)
        for one in state.all(Round):
            if one.number == latest:
                self.phases[self.follower.height] = one.number, one.phase
            if one.settled and one.number not in self.settled:
                updates = {it.member: it for it in state.where(Update, "round", one.number)}
                attestations = {it.candidate: it for it in state.where(Attestation, "round", one.number)}
                self.settled[one.number] = Settled(one, updates, attestations)

    @property
    def done(self) -> list[Settled]:
        """The rounds that are final."""
        return [one for _, one in sorted(self.settled.items()) if one.round.phase == "final"]

    def until(self, holds, what: str, seconds: float = 120.0) -> View:
        """Watch the ledger until something holds of what is there to see."""
        end = time.monotonic() + seconds
        while True:
            view = self.look(limit=seconds)
            if holds(view):
                return view
            assert time.monotonic() < end, f"not within {seconds:g} s: {what}; {self.said()}"
            time.sleep(0.1)

    def more_finals(self, count: int, seconds: float = 120.0, *, includes: str = "") -> list[Settled]:
        """Wait for so many more final rounds, with a member's update in each if one is named; return them."""
        self.look()
        before = max(self.settled, default=0)

        def fresh() -> list[Settled]:
            return [one for one in self.done if one.round.number > before and includes in ("", *one.round.members)]

        what = f"{count} more rounds are final" + (f" with {includes} in them" if includes else "")
        self.until(lambda _: len(fresh()) >= count, what, seconds)
        return fresh()

    def kill_in(self, name: str, phase: str, tries: int = 8) -> Round:
        """Kill a member's processes while a round is in a phase, and return that round as it was then."""
        for _ in range(tries):
            view = self.until(lambda view: view.live and view.live.phase == phase, f"a round is in {phase}")
            self.kill(name)
            after = self.look()
            assert view.live is not None
            if after.live is not None and (after.live.number, after.live.phase) == (view.live.number, phase):
                return view.live
            self.start(name)
            self.more_finals(1, includes=name)
        raise AssertionError(f"{name} could not be killed in {phase} in {tries} tries")

    def told(self, name: str) -> str:
        """Return what a node has said to its people."""
        status = self.hosts[name].folder / "core" / "status.json"
        return "\n".join(one["text"] for one in json.loads(status.read_bytes())["said"]) if status.exists() else ""

    # What holds at any time.

    def check(self, dishonest=()) -> None:
        """Check that the ledger is sound, that nobody honest lost anything, and all that became final."""
        self.look()
        state = self.follower.state
        check_invariants(state)
        assert {one.offender for one in state.all(Fault)} <= set(dishonest)
        for one in state.all(Candidate):
            assert one.member in dishonest or not one.jailed_until, one
        for name, host in self.hosts.items():
            status = host.folder / "core" / "status.json"
            if name not in dishonest and status.exists():
                assert not json.loads(status.read_bytes())["halted"], (name, status.read_text())
        self._check_models()

    def _check_models(self) -> None:
        """Compute again, from what one honest seat has written down, every model that became final."""
        exact, states, checked = Exact(self.procedure), {}, 0
        states[Blob.of(self.state).id] = self.state
        recorder = next(name for name, kind in self.kinds.items() if kind == "recording")
        model = Blob.of(self.state).id
        for one in self.done:
            assert one.round.model == model, "a final round begins with the last one's model"
            model = one.round.result
            file = self.hosts[recorder].folder / "core" / f"record-{one.round.number}-{one.round.attempt}"
            state = states.get(one.round.model)
            if not file.exists() or state is None:
                continue
            plains = dict(zip(one.round.members, codec.decode(file.read_bytes(), limit=1 << 30), strict=True))
            for member, plain in plains.items():
                update = one.updates[member]
                digest = tx.update_digest(
                    self.genesis.digest, update.origin, member, plain[:SALT], Blob.of(plain[SALT:]).id
                )
                assert digest == update.digest, "what was computed from is what was committed to"
            after = exact.aggregate(state, [plain[SALT:] for plain in plains.values()])
            assert Blob.of(after).id == one.round.result
            states[one.round.result] = after
            checked += 1
        assert checked, "no final round was computed again"

    def said(self) -> str:
        """Return how the last rounds went, and the ends of all logs."""
        lines = [
            f"{number}: {one.round.phase} of {sorted(one.updates)}, in {one.round.members}"
            for number, one in sorted(self.settled.items())[-5:]
        ]
        lines.append(f"now {self.phases.get(self.follower.height)} at {self.follower.height}")
        for file in sorted(self.folder.glob("*.log")):
            lines += [file.name, *file.read_text(errors="replace").splitlines()[-6:]]
        return "\n".join(lines)


@contextlib.contextmanager
def federation(seats: int = 4, others: int = 1, cls: type = Federation, **options) -> Iterator[Any]:
    """Give a federation that runs: members `a`, `b`, ..., the first of which hold seats; all processes end after it."""
    folder = Path(tempfile.mkdtemp(prefix="fm", dir="/tmp"))
    before = os.environ.get("PYTHONPATH")
    # Nodes change their folder: what they import must not depend on it.
    os.environ["PYTHONPATH"] = f"{Path(fm.__file__).parents[1]}:{ROOT}"
    try:
        names = [chr(ord("a") + at) for at in range(seats + others)]
        clients = fm.data.load("digits").client_ids
        data = {
            name: {"paths": ("digits",), "clients": tuple(clients[at * CLIENTS : (at + 1) * CLIENTS])}
            for at, name in enumerate(names)
        }
        made = options.pop("procedure", None) or procedure()
        state = Exact(made).initial()
        windows = {f"{phase}_blocks": WINDOW for phase in ("deliver", "compute", "reveal")}
        options["parameters"] = windows | dict(options.get("parameters", {}))
        with cls(folder / "f", made, state, data, names[:seats], **options) as found:
            yield found
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before
        if os.environ.get("FEDMETA_KEEP") is None:
            shutil.rmtree(folder)


def kill_ledger(found: Federation) -> None:
    """Kill the ledger's process as a power cut would."""
    found.stop_ledger(signal.SIGKILL)
