"""Four hospitals as processes on one machine: a ledger, and for each hospital a node with its own patients' table."""

import itertools
import os
import pwd
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import fedmeta
from fedmeta.consortium import hospitals
from fedmeta.consortium.hospitals import Hospitals
from fedmeta.consortium.processes.wire import Counter
from fedmeta.govern.machine.genesis import FirstMember, Genesis
from fedmeta.govern.wire import transactions as tx
from fedmeta.govern.wire.signatures import Key
from fedmeta.node.member import config as configs
from fedmeta.node.member.config import Config
from fedmeta.node.member.folder import Folder
from fedmeta.node.process import apart, walls
from fedmeta.node.process.federation import LocalFederation

FREE = 100_000
"""Units that each hospital has at the beginning."""

OWN = (60_000, 56_000, 52_000, 48_000)
"""What each stakes on itself to be elected, in the order of the hospitals."""

VOTE = 8_000
"""What each stakes on the next one: its vote."""

COMMISSION = 100_000
"""Of a super node's pay, in parts per million: the rest is its voters'."""

TERM = 40
"""Blocks of a term: at its end it is elected who holds a seat in the term after the next."""

PARAMETERS = {
    "term_length": TERM,
    "contributor_share": 600_000,
    "super_node_share": 300_000,
    # The first round compiles; later ones wait so long for who is away.
    "commit_blocks": 120,
    "deliver_blocks": 40,
    "compute_blocks": 100,
    "reveal_blocks": 40,
}
"""Of the ledger, where they differ from those of any federation of this kind."""

TABLES = "patients"
"""The folder with a folder for each hospital's table: beside the nodes' folders, for a core may read all of its own."""

USERS = 52_000
"""Where the search for users begins that nobody has."""


@dataclass
class Consortium(LocalFederation):
    """As `LocalFederation`; seats are elected on the ledger, and all that leaves a hospital is counted.

    Args:
        patients: The hospitals' patients.
        counter: What counts; running.
        users: Of each hospital, its gate's, core's and trainer's user; empty where there are no users of their own.
        dishonest: Which hospital's node runs `fedmeta.consortium.processes.dishonest`; "" for none.
    """

    patients: Hospitals = field(default_factory=hospitals.load)
    counter: Counter = field(default_factory=Counter)
    users: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)
    dishonest: str = ""

    def values(self, name: str, port: int) -> dict[str, Any]:
        """Return what a hospital's node.toml sets: all its ways out lead through what counts."""
        ledger = self.counter.relay(name, self.ledgers.address(name))
        values = super().values(name, port)
        values["ledger.addresses"] = (f"http://{self.host}:{ledger}",)
        values["data.paths"] = (str(self.table(name)),)
        values["network.proxy"] = f"http://{self.host}:{self.counter.proxy(name)}"
        if name in self.users:
            gate, core, trainer = map(str, self.users[name])
            values |= {"users.gate": gate, "users.core": core, "users.trainer": trainer}
        return values

    def first(self, keys: Mapping[str, Key], model: bytes) -> Genesis:
        """Return the genesis: the first hospital alone has a seat, nobody contributes, and all have units to stake."""
        founder, *others = self.data
        members = tuple(
            FirstMember(
                name, f"{name}-hospital", keys[name].public, FREE + OWN[0] * bool(at), self.patients[name].title, ""
            )
            for at, name in enumerate((founder, *others))
        )
        alone = (self.candidate(founder, COMMISSION, OWN[0]),)
        genesis = super().first(keys, model)
        return replace(genesis, chain_id="consortium", members=members, candidates=alone, registrations=())

    def make(self, model: bytes) -> None:
        """Make the ledger, and every hospital's folder and its table; `model` is the first state's digest."""
        super().make(model)
        # Users of their own pass through to their own files, and can list nothing.
        for place in (self.folder, self.folder / TABLES):
            place.mkdir(exist_ok=True)
            place.chmod(0o711)
        for one in self.patients:
            table = hospitals.write(one, self.folder / TABLES)
            table.chmod(0o600)
            if one.name in self.users:
                trainer = self.users[one.name][2]
                for place in (table, table.parent):
                    os.chown(place, trainer, trainer)

    def elect(self) -> None:
        """Let each hospital stand for election, stake on itself, and vote for the next one, by its account."""
        names = list(self.data)
        for name, own in list(zip(names, OWN, strict=True))[1:]:
            with self.client(name) as client:
                client.send(tx.Register(COMMISSION), wait=False)
                if self.validators:
                    key = self.consensus[name]
                    proof = key.sign(tx.possession(self.genesis.digest, name, key.public))
                    client.send(tx.SetConsensusKey(key.public, proof), wait=False)
                client.send(tx.Bond(own))
        for at, name in enumerate(names):
            with self.client(name) as client:
                client.send(tx.Delegate(names[(at + 1) % len(names)], VOTE))

    def program(self, name: str) -> list[str]:
        """Return what starts a hospital's node, or the ledger."""
        *before, program = super().program(name)
        if name and name == self.dishonest:
            program = f"from fedmeta.consortium.processes import dishonest; dishonest.arrange()\n{program}"
        return [*before, program]

    def command(self, *arguments: str, log: str) -> subprocess.Popen:
        """Start a command of `fedmeta`, such as `node recover`; it writes to a log in the federation's folder."""
        return self._spawn(log, *arguments)

    # A lost disk.

    def lose_disk(self, name: str) -> None:
        """Take away what a hospital's core had on its disk: journal, updates, models, the ledger's state."""
        core = Folder(self.hosts[name].folder).core
        owner = core.stat()
        shutil.rmtree(core)
        core.mkdir(mode=0o700)
        if os.geteuid() == 0:
            os.chown(core, owner.st_uid, owner.st_gid)

    def recover(self, name: str) -> subprocess.Popen:
        """Start `fedmeta node recover` for a hospital, by its account's key."""
        self.serve_again(name)
        account = self.folder / "ledger" / "keys" / f"{name}.pem"
        folder = str(self.hosts[name].folder)
        return self.command("node", "recover", "--folder", folder, "--account", str(account), log=f"{name}-recover")

    # Walls.

    def config(self, name: str) -> Config:
        """Return a hospital's configuration."""
        return configs.read(self.hosts[name].folder)

    def table(self, name: str) -> Path:
        """Return the file with a hospital's patients."""
        return self.folder / TABLES / name / hospitals.TABLE


@dataclass(frozen=True)
class Readable:
    """Who can open which file, as processes behind each hospital's walls have tried it.

    Args:
        user: as whom each hospital's trainer ran.
        opened: the hospitals whose table each hospital's trainer could open.
        elsewhere: the hospitals whose table a hospital's core or gate could open; none, if all is well.
        keys: the hospitals whose trainer could open its own member's keys; none, if all is well.
        why: why it could not be tried, if it could not.
    """

    user: Mapping[str, str] = field(default_factory=dict)
    opened: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    elsewhere: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    why: str = ""

    @property
    def holds(self) -> bool:
        """Whether each trainer can open its own hospital's table, nobody else any, and no trainer any keys."""
        own = all(opened == (name,) for name, opened in self.opened.items())
        return own and not (self.elsewhere or self.keys or self.why)


def try_walls(found: Consortium) -> Readable:
    """Try, behind the walls of each hospital's processes, to open every hospital's table; nodes must not run yet."""
    tables = {found.table(name): name for name in found.hosts}
    with ThreadPoolExecutor(2) as pool:
        tried = dict(
            zip(found.hosts, pool.map(lambda name: _tried(found.config(name), tables), found.hosts), strict=True)
        )
    if wrong := [one for one in tried.values() if isinstance(one, str)]:
        return Readable(why="; ".join(wrong))
    right = {name: one for name, one in tried.items() if not isinstance(one, str)}
    return Readable(
        user={name: one.user for name, one in right.items()},
        opened={name: one.opened for name, one in right.items()},
        elsewhere=tuple(name for name, one in right.items() if one.elsewhere),
        keys=tuple(name for name, one in right.items() if one.keys),
    )


class _Tried(NamedTuple):
    user: str
    opened: tuple[str, ...]
    elsewhere: bool
    keys: bool


def _tried(config: Config, tables: Mapping[Path, str]) -> _Tried | str:
    apart.arrange(config)
    keys = apart.keys_of(config)
    said, users = [], []
    for wall in (apart.trainer_wall, apart.core_wall, apart.gate_wall):
        answer = apart.try_wall(wall(config), [*tables, *keys])
        if isinstance(answer, str):
            return answer
        said.append([Path(one) for one in answer["opened"]])
        users.append(answer["user"])
    trainer, *others = said
    return _Tried(
        users[0],
        tuple(tables[one] for one in trainer if one in tables),
        any(one in tables for other in others for one in other),
        any(one in keys for one in trainer),
    )


def own_users(names: Iterable[str]) -> tuple[dict[str, tuple[int, int, int]], str]:
    """Return users for each hospital's gate, core and trainer that nobody has, or none and why there can be none."""
    if os.geteuid() != 0:
        return {}, "only root can start processes under other users"
    taken = {one.pw_uid for one in pwd.getpwall()}
    free = (number for number in itertools.count(USERS) if number not in taken)
    found = {name: (next(free), next(free), next(free)) for name in names}
    first = next(iter(found.values()))[2]
    # Whoever may not read these could import nothing more.
    needed = [Path(one) for one in (os.__file__, np.__file__, fedmeta.__file__)]
    said = apart.try_wall(walls.Wall("a trial", str(first), network=False), needed)
    if isinstance(said, str):
        return {}, said
    if closed := [one.parent for one in needed if str(one) not in said["opened"]]:
        return {}, f"{closed[0]} cannot be read by other users"
    return found, ""
