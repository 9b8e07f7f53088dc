"""A federation in memory: it signs, makes blocks, plays whole rounds, and checks the invariants after every block."""

from fedmeta.govern.machine.execute import ENDINGS, Execution, execute
from fedmeta.govern.machine.genesis import (
    FirstCandidate,
    FirstDelegation,
    FirstMember,
    FirstRecipe,
    FirstRegistration,
    Genesis,
    start,
)
from fedmeta.govern.rules.context import Context
from fedmeta.govern.state.parameters import MILLION, Parameters
from fedmeta.govern.state.records import Attestation, Chain, Member, Round, Term, Update
from fedmeta.govern.views.invariants import check_invariants
from fedmeta.govern.wire import transactions as tx
from fedmeta.govern.wire.block import Block
from fedmeta.govern.wire.event import Event
from fedmeta.govern.wire.events import TransactionRefused
from fedmeta.govern.wire.signatures import Key, digest

CHAIN = "play"
TIME = 1_700_000_000_000
YEAR = 365 * 24 * 3600 * 1000
RECIPE, MODEL = digest(b"recipe"), digest(b"model")

STAKES = {"ann": 5_000, "bob": 4_000, "cat": 3_000, "dan": 2_500, "eve": 2_000, "fay": 1_500, "gil": 1_200}
"""The candidates and their own stakes: the first four are elected, the last three are standbys."""

DELEGATIONS = (("hal", "ann", 1_000), ("ivy", "bob", 500), ("ivy", "cat", 500), ("joy", "dan", 700))

CONTRIBUTORS = ("ann", "bob", "hal", "ivy", "joy")
"""Those that are registered for the recipe from the start: two of them also hold a seat."""

PARAMETERS = {
    "term_length": 40,
    "super_nodes": 4,
    "standbys": 3,
    "min_self_stake": 1_000,
    "unbonding_blocks": 2_000,
    "unbonding_seconds": 0,
    "cohort_size": 6,
    "commit_blocks": 18,
    "commit_seconds": 0,
    "deliver_blocks": 18,
    "deliver_seconds": 0,
    "compute_blocks": 18,
    "compute_seconds": 0,
    "reveal_blocks": 18,
    "reveal_seconds": 0,
    "jail_blocks": 20,
    "voting_blocks": 6,
    "voting_seconds": 0,
    "delay_blocks": 3,
    "delay_seconds": 0,
}

SHORT = {"term_length": 4, "unbonding_blocks": 1_450}
"""Parameters with which terms are over soon, and the ledger forgets as early as it can."""


def key(name: str) -> Key:
    """Return a member's first key: always the same for the same name."""
    return Key.from_seed(digest(name.encode()))


def federation(
    stakes=None,
    delegations=None,
    members=(),
    organisations=None,
    treasury=1_000_000,
    free=10_000,
    contributors=CONTRIBUTORS,
    interval=1,
    validators=False,
    **parameters,
) -> Genesis:
    """Return the genesis of a small federation; everyone is its own organisation unless `organisations` says else.

    With `validators` the super nodes decide the blocks, each by the key of `first_consensus_key`.
    """
    stakes = STAKES if stakes is None else stakes
    delegations = DELEGATIONS if delegations is None else delegations
    organisations = organisations or {}
    names = sorted({*stakes, *members, *(one[0] for one in delegations)})
    return Genesis(
        chain_id=CHAIN,
        time=TIME,
        sequencer=b"" if validators else key("sequencer").public,
        treasury=treasury,
        parameters={**PARAMETERS, **({"unbonding_seconds": 600} if validators else {}), **parameters},
        members=tuple(
            FirstMember(name, organisations.get(name, f"org-{name}"), key(name).public, free, name.title(), "")
            for name in names
        ),
        candidates=tuple(
            FirstCandidate(name, 100_000, stake, first_consensus_key(name).public if validators else b"")
            for name, stake in stakes.items()
        ),
        delegations=tuple(FirstDelegation(*one) for one in delegations),
        recipes=(FirstRecipe(RECIPE, "digits", MODEL, interval),),
        registrations=tuple(FirstRegistration(name, RECIPE) for name in contributors if name in names),
    )


def first_consensus_key(name: str) -> Key:
    """Return the key by which a candidate of the genesis decides blocks."""
    return key(f"{name}'s consensus 0")


def consensus_key(name: str, genesis: Genesis, number: int = 1) -> tx.SetConsensusKey:
    """Return the transaction by which a candidate decides blocks by another key, always the same for the number."""
    new = key(f"{name}'s consensus {number}")
    return tx.SetConsensusKey(new.public, new.sign(tx.possession(genesis.digest, name, new.public)))


class Play:
    """A chain that is being played; `log` and `hashes` hold the events and the app hash of every height."""

    def __init__(self, genesis: Genesis | None = None, **options):
        self.genesis = federation(**options) if genesis is None else genesis
        self.keys: dict[str, Key] = {}
        """The present key of those that have rotated theirs."""
        self.machines: dict[str, Key] = {}
        """The machine key of those that have one: it signs what is a part of a round."""
        self.blocks: list[Block] = []
        self.log: list[tuple[Event, ...]] = []
        self.hashes: list[bytes] = []
        self._take(start(self.genesis))

    def _take(self, done: Execution) -> tuple[Event, ...]:
        self.state = done.state
        check_invariants(done.state)
        self.log.append(done.events)
        self.hashes.append(done.app_hash)
        return done.events

    # What is there.

    @property
    def chain(self) -> Chain:
        return self.state.need(Chain)

    @property
    def height(self) -> int:
        return self.state.height

    @property
    def parameters(self) -> Parameters:
        return self.state.need(Parameters)

    @property
    def latest(self) -> Round:
        return self.state.need(Round, self.chain.round)

    def member(self, name: str) -> Member:
        return self.state.need(Member, name)

    def super_nodes(self, number: int | None = None) -> list[str]:
        """Return those who hold the seats of a round, the latest by default, by rank; before the first the term's."""
        found = self.state.get(Round, self.chain.round if number is None else number)
        seats = found.seats if found else self.state.need(Term, self.chain.term).seats
        return [seat.candidate for seat in seats]

    def standbys(self) -> list[str]:
        return [seat.candidate for seat in self.state.need(Term, self.chain.term).standbys]

    def events(self, kind: type, since: int = 0) -> list:
        """Return all events of a kind from a height on."""
        return [one for events in self.log[since:] for one in events if isinstance(one, kind)]

    # Blocks.

    def key(self, name: str) -> Key:
        return self.keys.get(name) or key(name)

    def sign(self, name: str, body: object, ahead: int = 0) -> bytes:
        """Return a member's next transaction, or one that is `ahead` of it."""
        signer = self.machines.get(name) if tx.kind_of(body) in tx.OF_ROUNDS else None
        sequence = self.member(name).sequence + ahead
        return tx.sign(signer or self.key(name), self.genesis.digest, name, sequence, body)

    def next_block(self, raws=(), time: int = 1_000) -> Block:
        return Block(self.height + 1, self.state.time + time, tuple(raws))

    def run(self, *raws: bytes, time: int = 1_000) -> tuple[Event, ...]:
        """Execute one block of signed transactions; return its events."""
        return self.take(self.next_block(raws, time))

    def take(self, block: Block) -> tuple[Event, ...]:
        """Execute a block; return its events."""
        self.blocks.append(block)
        return self._take(execute(self.state, block))

    def block(self, *pairs: tuple[str, object], time: int = 1_000) -> tuple[Event, ...]:
        """Execute one block of (name, body), of which any may be refused."""
        waiting: dict[str, int] = {}
        raws = []
        for name, body in pairs:
            raws.append(self.sign(name, body, waiting.get(name, 0)))
            waiting[name] = waiting.get(name, 0) + (tx.kind_of(body) not in tx.OF_ROUNDS)
        return self.run(*raws, time=time)

    def must(self, *pairs: tuple[str, object], time: int = 1_000) -> tuple[Event, ...]:
        """Execute one block of (name, body), none of which may be refused."""
        events = self.block(*pairs, time=time)
        refused = [one for one in events if isinstance(one, TransactionRefused)]
        assert not refused, refused
        return events

    def refusal(self, name: str, body: object) -> str:
        """Return the code by which a transaction is refused; the state is as after a block without it."""
        return self.refusal_of(self.sign(name, body))

    def refusal_of(self, raw: bytes) -> str:
        before = self.state.root
        without, done = execute(self.state, self.next_block()), execute(self.state, self.next_block([raw]))
        first = done.events[0]
        assert isinstance(first, TransactionRefused), first
        assert without.app_hash == done.app_hash
        assert without.events == done.events[1:]
        assert self.state.root == before
        return first.code

    def wait(self, blocks: int = 1, time: int = 1_000) -> None:
        """Execute blocks without transactions."""
        for _ in range(blocks):
            self.run(time=time)

    def wait_until(self, height: int) -> None:
        """Execute blocks without transactions up to and including a height."""
        self.wait(height - self.height)

    def by_hand(self, *steps) -> tuple[Event, ...]:
        """Execute a block in which `step(context)` is called for each step, in the place of transactions."""
        context = Context(self.state, self.height + 1, self.state.time + 1_000)
        for step in (*steps, *ENDINGS):
            step(context)
        after = context.draft.finish()
        return self._take(Execution(after, tuple(context.events), after.root))

    # Rounds.

    def salt(self, name: str) -> bytes:
        return digest(f"salt of {name} in {self.chain.round}".encode())

    def content(self, name: str, number: int | None = None) -> bytes:
        """Return the digest of the bytes of a member's update."""
        return digest(f"update of {name} in {number or self.chain.round}".encode())

    def update(self, name: str, content: bytes | None = None) -> tuple[str, tx.CommitUpdate]:
        """Return a member's commitment to its update in the latest round."""
        number = self.chain.round
        opened = self.content(name) if content is None else content
        return name, tx.CommitUpdate(
            number, tx.update_digest(self.genesis.digest, number, name, self.salt(name), opened)
        )

    def committed(self) -> tuple[str, ...]:
        """Return those that have committed to an update in the latest round, sorted."""
        return tuple(one.member for one in self.state.where(Update, "round", self.chain.round))

    def hold(self, name: str, members=None) -> tuple[str, tx.Hold]:
        """Return what a seat says that it holds: by default all updates."""
        latest = self.latest
        return name, tx.Hold(latest.number, latest.attempt, self.committed() if members is None else tuple(members))

    def result(self) -> bytes:
        """Return the digest of the next model that honest seats come to."""
        latest = self.latest
        return digest(b"model of %d out of %s" % (latest.number, ",".join(latest.members).encode()))

    def fair(self, name: str) -> tuple[int, ...]:
        """Return the scores of a seat that spends its budget on all updates of others alike."""
        latest = self.latest
        return tuple(0 if self._own(name, one) else MILLION // len(latest.cohort) for one in latest.members)

    def _own(self, seat: str, member: str) -> bool:
        return self.member(seat).organisation == self.member(member).organisation

    def opening(self, name: str, result: bytes | None = None, scores=None) -> tx.Reveal:
        """Return what a seat commits to and reveals in the latest round: by default the honest result, fair scores."""
        latest = self.latest
        return tx.Reveal(
            round=latest.number,
            attempt=latest.attempt,
            result=self.result() if result is None else result,
            scores=self.fair(name) if scores is None else tuple(scores),
            salt=self.salt(name),
        )

    def attestation(self, name: str, opening: tx.Reveal) -> tuple[str, tx.Attest]:
        parts = opening.round, opening.attempt, name, opening.result, opening.scores, opening.salt
        return name, tx.Attest(opening.round, opening.attempt, tx.commitment(self.genesis.digest, *parts))

    def to_commit(self) -> None:
        """Wait until a round has begun."""
        for _ in range(100):
            if self.chain.round and not self.latest.settled:
                return
            self.wait()
        raise AssertionError("no round begins")

    def wait_while(self, phase: str, attempt: int | None = None) -> None:
        number, attempt = self.chain.round, attempt or self.latest.attempt
        for _ in range(2_000):
            if (self.chain.round, self.latest.phase, self.latest.attempt) != (number, phase, attempt):
                return
            self.wait()
        raise AssertionError(f"round {number} stays in phase {phase}")

    def to_deliver(self, idle=()) -> None:
        """Play the latest round up to its deliver phase; the `idle` of the cohort commit to nothing."""
        self.to_commit()
        if self.latest.phase == "commit":
            able = [one.member for one in self.latest.cohort if one.member not in (*idle, *self.committed())]
            self.must(*(self.update(name) for name in able if self.member(name).active))
            self.wait_while("commit")

    def to_compute(self, holds=None, absent=(), **before) -> None:
        """Play the latest round up to its compute phase; `holds` says for some seats whose updates they hold."""
        self.to_deliver(**before)
        if self.latest.phase == "deliver":
            holds = holds or {}
            able = [name for name in self.super_nodes() if name not in absent and holds.get(name, "all")]
            self.must(*(self.hold(name, holds.get(name)) for name in able))
            self.wait_while("deliver")

    def to_reveal(self, silent=(), results=None, scores=None, **before) -> dict[str, tx.Reveal]:
        """Play the latest round up to its reveal phase; return what each seat but the `silent` committed to."""
        self.to_compute(**before)
        results, scores = results or {}, scores or {}
        openings = {
            name: self.opening(name, results.get(name), scores.get(name))
            for name in self.super_nodes()
            if name not in (*silent, *before.get("absent", ())) and self.member(name).active
        }
        self.must(*(self.attestation(name, one) for name, one in openings.items()))
        self.wait_while("compute")
        return openings

    def round(self, withhold=(), **before) -> Round:
        """Play the latest round to the end of an attempt and return it; see `to_reveal` for how it can go otherwise."""
        self.to_commit()
        number = self.chain.round
        openings = self.to_reveal(**before)
        self.must(*((name, one) for name, one in openings.items() if name not in withhold))
        self.wait_while("reveal")
        return self.state.need(Round, number)

    def attestations(self, number: int) -> list[Attestation]:
        return self.state.where(Attestation, "round", number)
