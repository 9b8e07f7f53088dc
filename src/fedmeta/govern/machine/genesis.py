"""Genesis: who and what a ledger starts with, and the state and the terms that it gives."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from fedmeta.govern.errors import BadSignature, InvalidGenesis, Malformed, OlderProtocol, Refused
from fedmeta.govern.machine.execute import PROTOCOL, Execution
from fedmeta.govern.rules import candidates, election, members, registrations, stake
from fedmeta.govern.rules.context import Context
from fedmeta.govern.state.parameters import check_parameters
from fedmeta.govern.state.records import Candidate, Chain, Recipe
from fedmeta.govern.state.state import State
from fedmeta.govern.wire import codec
from fedmeta.govern.wire.events import CandidateRegistered, RecipeRegistered, Staked
from fedmeta.govern.wire.schema import (
    MAX_AMOUNT,
    Amount,
    Count,
    Fingerprint,
    Hash,
    Name,
    PublicKey,
    Share,
    Text,
    checker,
)
from fedmeta.govern.wire.signatures import check_public_key, digest
from fedmeta.govern.wire.transactions import JoinRecipe, SetProfile


@dataclass(frozen=True, slots=True)
class FirstMember:
    """A member from the start, with free units."""

    name: Name
    organisation: Name
    public: PublicKey
    free: Count
    title: Text
    address: Text


@dataclass(frozen=True, slots=True)
class FirstCandidate:
    """A member that stands for the first election, with its own stake."""

    member: Name
    commission: Share
    stake: Amount
    consensus: Fingerprint = b""
    """The public key by which it decides blocks as a super node; empty on a ledger with a sequencer."""


@dataclass(frozen=True, slots=True)
class FirstDelegation:
    """Stake of a member on a candidate from the start."""

    member: Name
    candidate: Name
    amount: Amount


@dataclass(frozen=True, slots=True)
class FirstRecipe:
    """A recipe that may be trained from the start."""

    digest: Hash
    title: Text
    model: Hash
    interval: Count
    """The fewest blocks from one of its rounds to the next."""


@dataclass(frozen=True, slots=True)
class FirstRegistration:
    """A member that contributes to a recipe from the start, for its organisation."""

    member: Name
    recipe: Hash


@dataclass(frozen=True, slots=True)
class Origin:
    """What a genesis says of the chain itself: all that is needed of it once the chain goes on."""

    chain_id: str
    time: int
    """Milliseconds since 1970."""
    sequencer: bytes
    digest: bytes
    """SHA-256 of the genesis."""


@dataclass(frozen=True, slots=True)
class Genesis:
    """All that a ledger starts with; stakes and delegations are units besides the members' free ones.

    Raises:
        InvalidGenesis: a value that breaks a rule, named with what would be right.
    """

    chain_id: str
    time: int
    """Milliseconds since 1970; no block is earlier."""
    sequencer: bytes
    """The public key by which blocks of the embedded engine are signed; empty where the super nodes decide them."""
    treasury: int
    parameters: Mapping[str, int]
    """Those that differ from the defaults."""
    members: tuple[FirstMember, ...]
    candidates: tuple[FirstCandidate, ...]
    delegations: tuple[FirstDelegation, ...] = ()
    recipes: tuple[FirstRecipe, ...] = ()
    registrations: tuple[FirstRegistration, ...] = ()
    protocol: int = PROTOCOL
    """The version of the rules by which blocks are executed."""

    def __post_init__(self) -> None:
        try:
            self._check()
        except (Refused, BadSignature) as error:
            raise InvalidGenesis(f"genesis: {error}") from error

    def _check(self) -> None:
        _CHECK_HEAD({field.name: getattr(self, field.name) for field in fields(_Head)})
        if self.protocol != PROTOCOL:
            raise InvalidGenesis(
                f"genesis: the protocol is {self.protocol}: this version of fedmeta executes protocol {PROTOCOL}"
            )
        if self.sequencer:
            check_public_key(self.sequencer)
        for name, one in _LISTS.items():
            for entry in getattr(self, name):
                one(_values(entry))
        if not self.candidates:
            raise InvalidGenesis("genesis: candidates is empty: at least one is needed, or nobody can be elected")
        if self.supply > MAX_AMOUNT:
            raise InvalidGenesis(f"genesis: the supply is {self.supply}: it must be at most {MAX_AMOUNT}")
        check_parameters(self.parameters, self.supply, self.validators)

    @property
    def validators(self) -> bool:
        """Whether the super nodes decide the blocks, and no sequencer does."""
        return not self.sequencer

    @property
    def supply(self) -> int:
        """All units there will be."""
        return (
            self.treasury
            + sum(one.free for one in self.members)
            + sum(one.stake for one in self.candidates)
            + sum(one.amount for one in self.delegations)
        )

    @property
    def digest(self) -> bytes:
        """SHA-256 of the encoding: the ledger's true name."""
        return digest(encode_genesis(self))


@dataclass(frozen=True, slots=True)
class _Head:
    chain_id: Name
    time: Count
    sequencer: Fingerprint
    treasury: Count
    protocol: Count


_CHECK_HEAD = checker(_Head)
_LISTS = {
    "members": checker(FirstMember),
    "candidates": checker(FirstCandidate),
    "delegations": checker(FirstDelegation),
    "recipes": checker(FirstRecipe),
    "registrations": checker(FirstRegistration),
}


def _values(one: Any) -> dict[str, Any]:
    return {field.name: getattr(one, field.name) for field in fields(one)}


def origin_of(genesis: Genesis) -> Origin:
    """Return what a genesis says of the chain itself."""
    return Origin(genesis.chain_id, genesis.time, genesis.sequencer, genesis.digest)


def encode_genesis(genesis: Genesis) -> bytes:
    """Return the genesis in its one encoding."""
    values = _values(genesis)
    values["parameters"] = dict(genesis.parameters)
    for name in _LISTS:
        values[name] = [_values(one) for one in values[name]]
    return codec.encode(values)


def decode_genesis(raw: bytes) -> Genesis:
    """Return the genesis that the bytes encode.

    Raises:
        InvalidGenesis: they are not the one encoding of a genesis that keeps the rules; `OlderProtocol` if they are of
            rules that this version no longer executes.
    """
    try:
        return genesis_of(codec.decode(raw, limit=1 << 28))
    except Malformed as error:
        raise InvalidGenesis(f"genesis: {error}") from error


def genesis_of(values: Any) -> Genesis:
    """Return the genesis of a map of its fields; raises `InvalidGenesis` for an unknown field or a wrong value."""
    names = [field.name for field in fields(Genesis)]
    if type(values) is dict and "protocol" not in values and "chain_id" in values:
        raise OlderProtocol(
            "genesis: it is of protocol 1, with a leader in each round: this version of fedmeta executes protocol "
            f"{PROTOCOL}; the version that made the ledger reads it"
        )
    if type(values) is dict and values.get("protocol") == 2:
        raise OlderProtocol(
            "genesis: it is of protocol 2, whose root changed where nothing happened: this version of fedmeta executes "
            f"protocol {PROTOCOL}; the version that made the ledger reads it"
        )
    if type(values) is not dict or set(values) != set(names):
        unknown = sorted(set(values) - set(names)) if type(values) is dict else []
        raise InvalidGenesis(
            f"genesis: {f'unknown field {unknown[0]!r}: ' if unknown else ''}it has {', '.join(names)}"
        )
    given = values["parameters"]
    if type(given) is not dict or any(type(one) is not int for one in given.values()):
        raise InvalidGenesis("genesis: parameters must be a map of names to whole numbers")
    try:
        _CHECK_HEAD({field.name: values[field.name] for field in fields(_Head)})
        lists = {name: tuple(check(one) for one in _maps(name, values[name])) for name, check in _LISTS.items()}
    except Refused as error:
        raise InvalidGenesis(f"genesis: {error}") from error
    return Genesis(**{**values, **lists})


def _maps(name: str, values: Any) -> list[dict[str, Any]]:
    if type(values) is not list or not all(type(one) is dict for one in values):
        raise InvalidGenesis(f"genesis: {name} must be a list of maps")
    return values


def start(genesis: Genesis) -> Execution:
    """Return the state at height 0, its events and its hash: terms 1 and 2 are elected.

    Raises:
        InvalidGenesis: somebody is listed twice, is unknown, or nobody can be elected.
    """
    context = Context(State.empty(), 0, genesis.time)
    parameters = check_parameters(genesis.parameters, genesis.supply, genesis.validators)
    context.draft.put(parameters)
    context.draft.put(
        Chain(
            chain_id=genesis.chain_id,
            genesis=genesis.digest,
            protocol=genesis.protocol,
            upgrade_to=0,
            upgrade_at=0,
            supply=genesis.supply,
            treasury=genesis.treasury,
            term=1,
            round=0,
            stretch=0,
            proposals=0,
            faults=0,
            voting_seconds=parameters.voting_seconds,
            delay_seconds=parameters.delay_seconds,
            term_length=parameters.term_length,
            validators=genesis.validators,
        )
    )
    try:
        _populate(context, genesis)
    except (Refused, BadSignature) as error:
        raise InvalidGenesis(f"genesis: {error}") from error
    for number in (1, 2):
        election.elect(context, number)
    if not context.term.seats:
        raise InvalidGenesis("genesis: no candidate has the own stake that min_self_stake asks for")
    state = context.draft.finish()
    return Execution(state, tuple(context.events), state.root)


def _populate(context: Context, genesis: Genesis) -> None:
    for one in genesis.members:
        members.admit(context, one.name, one.organisation, one.public)
        members.set_profile(context, one.name, SetProfile(one.title, one.address, b""))
        context.free(one.name, one.free)
    for one in genesis.candidates:
        _stand(context, one)
    for one in genesis.delegations:
        if one.member == one.candidate:
            raise Refused("not-allowed", f"{one.member} delegates to itself: that is its stake as a candidate")
        context.active_member(one.member)
        _stake(context, one.member, one.candidate, one.amount)
    for one in genesis.recipes:
        if context.draft.get(Recipe, one.digest):
            raise Refused("already-done", f"recipe {one.digest.hex()} is listed twice")
        context.draft.put(Recipe(one.digest, one.title, one.model, True, one.interval, 0, 0, False))
        context.emit(RecipeRegistered(one.digest, one.title, one.model, True, one.interval))
    for one in genesis.registrations:
        registrations.join(context, one.member, JoinRecipe(one.recipe))


def _stand(context: Context, one: FirstCandidate) -> None:
    member = context.active_member(one.member)
    if context.draft.get(Candidate, one.member):
        raise Refused("already-done", f"candidate {one.member!r} is listed twice")
    cap = context.parameters.commission_cap
    if one.commission > cap:
        raise Refused("commission-cap", f"the commission of {one.member} is {one.commission} ppm: at most {cap}")
    candidate = candidates.new(context, member, one.commission)
    if one.consensus:
        members.own_key(context, one.member, one.consensus)
        candidate = candidates.with_consensus_key(context, candidate, one.consensus)
    context.draft.put(candidate)
    context.emit(CandidateRegistered(one.member, member.organisation, one.commission))
    _stake(context, one.member, one.member, one.stake)


def _stake(context: Context, name: str, candidate: str, amount: int) -> None:
    shares, held = stake.enter(context, name, candidate, amount)
    context.emit(Staked(name, candidate, amount, shares, held))
