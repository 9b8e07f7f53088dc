"""The short TOML that `fedmeta ledger init` makes a ledger of."""

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedmeta.errors import DataError, UnknownName
from fedmeta.govern.engines.cometbft.config import Peer
from fedmeta.govern.engines.cometbft.home import node_id
from fedmeta.govern.engines.disk import read_file
from fedmeta.govern.errors import EngineError
from fedmeta.govern.machine.genesis import (
    FirstCandidate,
    FirstDelegation,
    FirstMember,
    FirstRecipe,
    FirstRegistration,
    Genesis,
    start,
)
from fedmeta.govern.state.parameters import TABLE
from fedmeta.govern.wire.signatures import Key, digest

SEQUENCER = "sequencer"
"""What the sequencer's key file is named; no member can be named so."""

ENGINES = ("embedded", "cometbft")
"""Who orders the blocks: a sequencer, or the super nodes."""

KEYS = "keys"
"""The folder of the keys that `init` makes."""

PORT = 26656
"""Where the first validator's CometBFT listens for others, if the file does not say."""

EXAMPLE = f"""\
# Four organisations that train together, and their five members. Amounts are in units, shares and rates in parts per
# million. Heights are counted in blocks: at a block a second a term takes two minutes here.
chain_id = "four-hospitals"
treasury = 1_000_000
# engine = "cometbft"      # the super nodes decide the blocks; otherwise one sequencer orders them

# Whoever has the file keys/NAME.pem that `init` makes can sign as NAME. A member that made its own key
# gives the public half instead, as `public = "..."` in hex.

[[members]]
name = "north"
organisation = "north-hospital"
title = "North Hospital"
stake = 40_000             # makes it a candidate: it can be elected as a super node
commission = 50_000        # its part of what those earn who stake on it
free = 10_000
delegations = {{ east = 5_000 }}

[[members]]
name = "coast"             # has no stake: it contributes, for the organisation that it is of
organisation = "north-hospital"
title = "Coast Practice"
free = 1_000

[[members]]
name = "east"
organisation = "east-clinic"
title = "East Clinic"
stake = 30_000
commission = 100_000
free = 10_000

[[members]]
name = "south"
organisation = "south-hospital"
title = "South Hospital"
stake = 20_000
commission = 100_000
free = 10_000

[[members]]
name = "west"
organisation = "west-hospital"
title = "West Hospital"
stake = 20_000
free = 10_000

# What is trained, and who contributes to it from the start: one member of an organisation.
[[recipes]]
title = "Readmission within 30 days, MAML"
digest = "{digest(b"the recipe of the example").hex()}"   # or file = "recipe.toml"
model = "{digest(b"the first model of the example").hex()}"    # or model_file = "model.safetensors"
interval = 60              # blocks from one of its rounds to the next, at least
contributors = ["coast", "east", "south", "west"]

# Those that differ from the defaults; `fedmeta ledger parameters` says what each means. A phase of a round is over once
# all have done their part, so that its window may be long: an hour here. Votes take seconds here, so that one can be
# tried: where others count on this ledger let them take days, as the defaults do.
[parameters]
term_length = 120
super_nodes = 4
standbys = 2
cohort_size = 4
commit_blocks = 3_600
deliver_blocks = 3_600
compute_blocks = 3_600
reveal_blocks = 3_600
unbonding_blocks = 300_000
jail_blocks = 60
voting_blocks = 20
voting_seconds = 10
delay_blocks = 5
delay_seconds = 2
"""
"""What `init` takes where no file is given."""

_TOP = ("chain_id", "time", "treasury", "engine", "sequencer", "members", "recipes", "parameters")
_MEMBER = (
    *("name", "organisation", "title", "address", "free", "stake", "commission", "delegations"),
    *("public", "consensus", "nodes"),
)
_RECIPE = ("title", "digest", "file", "model", "model_file", "interval", "contributors")


@dataclass(frozen=True, slots=True)
class Validator:
    """A candidate of a ledger whose super nodes decide the blocks: the keys that were made for it, and its nodes."""

    consensus: Key | None
    """The key by which it decides blocks; None if it made its own."""
    node: Key | None
    """The key by which its CometBFT shows itself to others; None likewise."""
    nodes: tuple[Peer, ...]
    """Where others reach it: its CometBFT, or the sentries before it."""


@dataclass(frozen=True, slots=True)
class Federation:
    """A genesis, and the private keys that were made for it, by the name of whom they belong to."""

    genesis: Genesis
    keys: dict[str, Key]
    validators: dict[str, Validator] = field(default_factory=dict)
    """By name, in the order of the file; empty if a sequencer orders the blocks."""

    def peers(self, name: str) -> tuple[Peer, ...]:
        """Return where a validator, or anybody else, reaches the others."""
        return tuple(peer for other, one in self.validators.items() if other != name for peer in one.nodes)


def parse(text: bytes, path: Path, now: int, engine: str | None = None) -> Federation:
    """Return the ledger that a TOML text describes, with new keys where it gives no public one.

    Args:
        text: The text, in UTF-8.
        path: The file that it is of: errors name it, and the files that it names lie beside it.
        now: The time that the ledger begins at where the file gives none, in milliseconds since 1970.
        engine: One of `ENGINES`; what the file says if None, and the embedded one if that says nothing.

    Raises:
        DataError: it is no TOML, a value is missing or of a wrong type, or it names another engine.
        UnknownName: a field that is not known.
        InvalidGenesis: what it describes breaks a rule of the ledger.
    """
    try:
        table = tomllib.loads(text.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not a TOML file: {error}") from error
    return _Reader(path, now).federation(table, engine)


class _Reader:
    """Reads the tables of one file; every error names the file and the place."""

    def __init__(self, path: Path, now: int):
        self.path = path
        self.now = now
        self.keys: dict[str, Key] = {}
        self.validators: dict[str, Validator] = {}
        self.comet = False

    def federation(self, table: dict[str, Any], engine: str | None) -> Federation:
        self.known(table, _TOP, "field")
        self.comet = self.engine(table, engine) == "cometbft"
        members = [self.member(at, one) for at, one in enumerate(self.tables(table, "members"), 1)]
        self.check_time(table)
        parameters = self.value(table, "parameters", dict, {}, "the file")
        for name, value in parameters.items():
            if name not in TABLE:
                raise UnknownName(f"parameter in {self.path}:", name, TABLE)
            self.whole(value, f"parameter {name}")
        recipes = [self.recipe(at, one) for at, one in enumerate(self.tables(table, "recipes"), 1)]
        genesis = Genesis(
            chain_id=self.value(table, "chain_id", str, None, "the file"),
            time=self.value(table, "time", int, self.now, "the file"),
            sequencer=b"" if self.comet else self.public(table, SEQUENCER, SEQUENCER, "the file"),
            treasury=self.value(table, "treasury", int, 0, "the file"),
            parameters=parameters,
            members=tuple(member for member, _, _ in members),
            candidates=tuple(candidate for _, candidate, _ in members if candidate),
            delegations=tuple(one for _, _, delegations in members for one in delegations),
            recipes=tuple(recipe for recipe, _ in recipes),
            registrations=tuple(FirstRegistration(name, recipe.digest) for recipe, names in recipes for name in names),
        )
        start(genesis)
        return Federation(genesis, self.keys, self.validators)

    def engine(self, table: dict[str, Any], asked: str | None) -> str:
        """Return who orders the blocks, by the file and by what was asked for."""
        said = self.value(table, "engine", str, asked or ENGINES[0], "the file")
        if said not in ENGINES:
            raise UnknownName(f"engine in {self.path}:", said, ENGINES)
        if asked not in (None, said):
            raise DataError(f"{self.path} has engine {said}: it cannot be {asked}")
        if said == "cometbft" and SEQUENCER in table:
            raise DataError(f"{self.path} names a sequencer: with engine cometbft the super nodes decide the blocks")
        return said

    def check_time(self, table: dict[str, Any]) -> None:
        """See that every host makes the same genesis, where each makes it by itself."""
        own = [name for name, one in self.validators.items() if one.consensus is None]
        if own and "time" not in table:
            raise DataError(
                f"{self.path}: the file has no time, and each host would begin with another one: "
                f"write time = {self.now} at its top, in milliseconds since 1970"
            )

    def member(
        self, at: int, table: dict[str, Any]
    ) -> tuple[FirstMember, FirstCandidate | None, list[FirstDelegation]]:
        where = f"member {at}"
        name = self.value(table, "name", str, None, where)
        where = f"member {name!r}"
        self.known(table, _MEMBER, f"field of {where}")
        if name == SEQUENCER:
            raise DataError(f"{self.path}: no member can be named {SEQUENCER!r}: its key file would be the sequencer's")
        if self.comet and name == KEYS:
            raise DataError(
                f"{self.path}: no member can be named {KEYS!r}: the members' keys are in a folder of that name"
            )
        stake = self.value(table, "stake", int, 0, where)
        commission = self.value(table, "commission", int, 0, where)
        if commission and not stake:
            raise DataError(f"{self.path}: {where} has a commission but no stake: only a candidate has both")
        if not (stake and self.comet) and ("consensus" in table or "nodes" in table):
            raise DataError(
                f"{self.path}: {where} has a consensus key or nodes: only candidates have, with engine cometbft"
            )
        delegations = self.value(table, "delegations", dict, {}, where)
        consensus = self.validator(table, name, where) if stake and self.comet else b""
        member = FirstMember(
            name=name,
            organisation=self.value(table, "organisation", str, name, where),
            public=self.public(table, "public", name, where),
            free=self.value(table, "free", int, 0, where),
            title=self.value(table, "title", str, "", where),
            address=self.value(table, "address", str, "", where),
        )
        return (
            member,
            FirstCandidate(name, commission, stake, consensus) if stake else None,
            [
                FirstDelegation(name, candidate, self.whole(amount, f"the delegation of {name} to {candidate}"))
                for candidate, amount in delegations.items()
            ],
        )

    def validator(self, table: dict[str, Any], name: str, where: str) -> bytes:
        """Keep what is known of a validator, and return its consensus key."""
        nodes = self.value(table, "nodes", list, [], where)
        if "consensus" in table:
            if not nodes:
                raise DataError(f"{self.path}: {where} has no nodes: the others must know where they reach it")
            self.validators[name] = Validator(None, None, tuple(self.peer(one, where) for one in nodes))
            return self.hex(self.value(table, "consensus", str, None, where), f"consensus of {where}")
        if "public" in table:
            raise DataError(
                f"{self.path}: {where} has a public key, but no consensus key: "
                "`fedmeta ledger validators new` makes both, and says what to write here"
            )
        consensus, node = Key.generate(), Key.generate()
        addresses = nodes or [f"127.0.0.1:{PORT + len(self.validators)}"]
        if len(addresses) != 1:
            raise DataError(f"{self.path}: {where} has {len(addresses)} nodes: whose keys are made here has one")
        own = self.peer(f"{node_id(node.public)}@{addresses[0]}", where)
        self.validators[name] = Validator(consensus, node, (own,))
        return consensus.public

    def peer(self, text: Any, where: str) -> Peer:
        try:
            return Peer.read(text)
        except EngineError as error:
            raise DataError(f"{self.path}: nodes of {where}: {error}") from error

    def recipe(self, at: int, table: dict[str, Any]) -> tuple[FirstRecipe, list[str]]:
        """Return a recipe, and who contributes to it."""
        where = f"recipe {at}"
        self.known(table, _RECIPE, f"field of {where}")
        names = self.value(table, "contributors", list, [], where)
        for name in names:
            if type(name) is not str:
                raise DataError(
                    f"{self.path}: contributors of {where} has {name!r}: it must be a list of members' names"
                )
        recipe = FirstRecipe(
            digest=self.hash(table, "digest", "file", where),
            title=self.value(table, "title", str, "", where),
            model=self.hash(table, "model", "model_file", where),
            interval=self.value(table, "interval", int, 0, where),
        )
        return recipe, names

    def hash(self, table: dict[str, Any], name: str, file: str, where: str) -> bytes:
        """Return 32 bytes that are given in hex, or the digest of a file beside this one."""
        if (name in table) == (file in table):
            raise DataError(f"{self.path}: {where} must have {name} or {file}, one of the two")
        if file in table:
            return digest(read_file(self.path.parent / self.value(table, file, str, None, where)))
        return self.hex(self.value(table, name, str, None, where), f"{name} of {where}")

    def hex(self, text: str, what: str) -> bytes:
        try:
            found = bytes.fromhex(text)
        except ValueError:
            found = b""
        if len(found) != 32:
            raise DataError(f"{self.path}: {what} is {text[:80]!r}: it must be 32 bytes in hex")
        return found

    def public(self, table: dict[str, Any], field: str, name: str, where: str) -> bytes:
        text = self.value(table, field, str, "", where)
        if not text:
            self.keys[name] = Key.generate()
            return self.keys[name].public
        return self.hex(text, f"{field} of {where}")

    def tables(self, table: dict[str, Any], name: str) -> list[dict[str, Any]]:
        found = self.value(table, name, list, [], "the file")
        if not all(isinstance(one, dict) for one in found):
            raise DataError(f"{self.path}: {name} must be a list of tables, each under [[{name}]]")
        return found

    def known(self, table: dict[str, Any], names: tuple[str, ...], what: str) -> None:
        for name in table:
            if name not in names:
                raise UnknownName(f"{what} in {self.path}:", name, names)

    def value(self, table: dict[str, Any], name: str, kind: type, default: Any, where: str) -> Any:
        if name not in table:
            if default is None:
                raise DataError(f"{self.path}: {where} has no {name}")
            return default
        value = table[name]
        if type(value) is not kind:
            raise DataError(f"{self.path}: {name} of {where} is {value!r}: it must be {_KINDS[kind]}")
        return value

    def whole(self, value: Any, what: str) -> int:
        if type(value) is not int:
            raise DataError(f"{self.path}: {what} is {value!r}: it must be a whole number")
        return value


_KINDS = {str: "text", int: "a whole number", list: "a list", dict: "a table"}
