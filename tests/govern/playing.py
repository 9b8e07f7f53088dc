"""A federation in memory: it signs, makes blocks, plays whole rounds, and checks the invariants after every block."""

from fedmeta.govern.machine.execute import ENDINGS, Execution, execute
from fedmeta.govern.machine.genesis import FirstCandidate, FirstDelegation, FirstMember, FirstRecipe, Genesis, start
from fedmeta.govern.rules.context import Context
from fedmeta.govern.state.parameters import Parameters
from fedmeta.govern.state.records import Attestation, Chain, Manifest, Member, Recipe, Round, Term, Update
from fedmeta.govern.views.invariants import check_invariants
from fedmeta.govern.wire import transactions as tx
from fedmeta.govern.wire.block import Block
from fedmeta.govern.wire.events import Event, TransactionRefused
from fedmeta.govern.wire.signatures import Key, digest

CHAIN = "play"
TIME = 1_700_000_000_000
YEAR = 365 * 24 * 3600 * 1000
RECIPE, MODEL = digest(b"recipe"), digest(b"model")

STAKES = {"ann": 5_000, "bob": 4_000, "cat": 3_000, "dan": 2_500, "eve": 2_000, "fay": 1_500, "gil": 1_200}
"""The candidates and their own stakes: the first four are elected, the last three are standbys."""

DELEGATIONS = (("hal", "ann", 1_000), ("ivy", "bob", 500), ("ivy", "cat", 500), ("joy", "dan", 700))

PARAMETERS = {
    "term_length": 40,
    "super_nodes": 4,
    "standbys": 3,
    "min_self_stake": 1_000,
    "unbonding_period": 200,
    "evidence_age": 56,
    "challenge_blocks": 8,
    "open_blocks": 4,
    "update_blocks": 4,
    "manifest_blocks": 4,
    "commit_blocks": 4,
    "reveal_blocks": 4,
    "jail_blocks": 20,
    "voting_blocks": 6,
    "execution_delay": 3,
}


SHORT = {
    "term_length": 4,
    "open_blocks": 2,
    "update_blocks": 1,
    "manifest_blocks": 1,
    "commit_blocks": 1,
    "reveal_blocks": 1,
    "challenge_blocks": 1,
    "evidence_age": 13,
    "unbonding_period": 35,
}
"""Parameters with which the ledger soon forgets what is over."""


def key(name: str) -> Key:
    """Return a member's first key: always the same for the same name."""
    return Key.from_seed(digest(name.encode()))


def federation(
    stakes=None, delegations=None, members=(), organisations=None, treasury=1_000_000, free=10_000, **parameters
) -> Genesis:
    """Return the genesis of a small federation; everyone is its own organisation unless `organisations` says else."""
    stakes = STAKES if stakes is None else stakes
    delegations = DELEGATIONS if delegations is None else delegations
    organisations = organisations or {}
    names = sorted({*stakes, *members, *(one[0] for one in delegations)})
    return Genesis(
        chain_id=CHAIN,
        time=TIME,
        sequencer=key("sequencer").public,
        treasury=treasury,
        parameters={**PARAMETERS, **parameters},
        members=tuple(
            FirstMember(name, organisations.get(name, f"org-{name}"), key(name).public, free, name.title(), "")
            for name in names
        ),
        candidates=tuple(FirstCandidate(name, 100_000, stake) for name, stake in stakes.items()),
        delegations=tuple(FirstDelegation(*one) for one in delegations),
        recipes=(FirstRecipe(RECIPE, "digits", MODEL),),
    )


class Play:
    """A chain that is being played; `log` and `hashes` hold the events and the app hash of every height."""

    def __init__(self, genesis: Genesis | None = None, **options):
        self.genesis = federation(**options) if genesis is None else genesis
        self.keys: dict[str, Key] = {}
        """The present key of those that have rotated theirs."""
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
        return self.chain.height

    @property
    def parameters(self) -> Parameters:
        return self.state.need(Parameters)

    @property
    def latest(self) -> Round:
        return self.state.need(Round, self.chain.round)

    def member(self, name: str) -> Member:
        return self.state.need(Member, name)

    def super_nodes(self, number: int | None = None) -> list[str]:
        """Return those who answer for a round, the latest by default, by rank."""
        found = self.latest if number is None else self.state.need(Round, number)
        return [seat.candidate for seat in self.state.need(Term, found.term).seats]

    def standbys(self) -> list[str]:
        return [seat.candidate for seat in self.state.need(Term, self.latest.term).standbys]

    def events(self, kind: type, since: int = 0) -> list:
        """Return all events of a kind from a height on."""
        return [one for events in self.log[since:] for one in events if isinstance(one, kind)]

    # Blocks.

    def key(self, name: str) -> Key:
        return self.keys.get(name) or key(name)

    def sign(self, name: str, body: object, ahead: int = 0) -> bytes:
        """Return a member's next transaction, or one that is `ahead` of it."""
        return tx.sign(self.key(name), self.genesis.chain_id, name, self.member(name).sequence + ahead, body)

    def next_block(self, raws=(), time: int = 1_000) -> Block:
        return Block(self.height + 1, self.chain.time + time, tuple(raws))

    def run(self, *raws: bytes, time: int = 1_000) -> tuple[Event, ...]:
        """Execute one block of signed transactions; return its events."""
        block = self.next_block(raws, time)
        self.blocks.append(block)
        return self._take(execute(self.state, block))

    def block(self, *pairs: tuple[str, object], time: int = 1_000) -> tuple[Event, ...]:
        """Execute one block of (name, body), of which any may be refused."""
        waiting: dict[str, int] = {}
        raws = []
        for name, body in pairs:
            raws.append(self.sign(name, body, waiting.get(name, 0)))
            waiting[name] = waiting.get(name, 0) + 1
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
        context = Context(self.state, self.height + 1, self.chain.time + 1_000)
        context.change_chain(height=context.height, time=context.time)
        for step in (*steps, *ENDINGS):
            step(context)
        after = context.draft.finish()
        return self._take(Execution(after, tuple(context.events), after.root))

    # Rounds.

    def open(self) -> None:
        """Let the leader open the latest round."""
        latest = self.latest
        recipe = next(one for one in self.state.all(Recipe) if one.active)
        self.must((latest.leader, tx.OpenRound(latest.number, recipe.digest, recipe.model)))

    def update(self, name: str) -> tuple[str, tx.CommitUpdate]:
        """Return a member's update for the latest round, with the receipts of all super nodes."""
        number, content, examples = self.latest.number, digest(f"update {name}".encode()), 20
        message = tx.receipt(self.genesis.chain_id, number, name, content, examples)
        receipts = tuple((one, self.key(one).sign(message)) for one in sorted(self.super_nodes()))
        return name, tx.CommitUpdate(number, content, examples, receipts)

    def manifest(self, left_out=(), model: bytes | None = None) -> tuple[str, tx.PostManifest]:
        """Return the leader's manifest of the latest round: all updates but those that are left out."""
        latest = self.latest
        names = tuple(
            one.member for one in self.state.where(Update, "round", latest.number) if one.member not in left_out
        )
        next_model = digest(b"model after %d" % latest.number) if model is None else model
        return latest.leader, tx.PostManifest(
            latest.number, latest.attempt, names, digest(b"aggregate %d" % latest.number), next_model
        )

    def result(self, number: int | None = None) -> bytes:
        """Return the result that a round's manifest says."""
        manifest = self.state.need(Manifest, self.chain.round if number is None else number)
        return tx.result(manifest.round, manifest.aggregate, manifest.model)

    def opening(self, name: str, result: bytes | None = None, scores=None) -> tx.Reveal:
        """Return what a super node commits to and reveals in the latest round: by default the manifest's result."""
        number = self.chain.round
        names = self.state.need(Manifest, number).members
        scores = tuple(100_000 * (at + 1) for at in range(len(names))) if scores is None else tuple(scores)
        salt = digest(f"salt {name} {number}".encode())
        return tx.Reveal(number, self.result() if result is None else result, scores, salt)

    def attestation(self, name: str, opening: tx.Reveal) -> tuple[str, tx.Attest]:
        parts = opening.result, opening.scores, opening.salt
        return name, tx.Attest(opening.round, tx.commitment(self.genesis.chain_id, opening.round, name, *parts))

    def to_updates(self) -> None:
        if self.latest.phase == "opening":
            self.open()

    def to_manifest(self, idle=()) -> None:
        """Play the latest round up to its manifest phase; the `idle` of the cohort commit no update."""
        self.to_updates()
        if self.latest.phase == "updates":
            able = [name for name in self.latest.cohort if name not in idle and self.member(name).active]
            self.must(*(self.update(name) for name in able))
            while self.latest.phase == "updates":
                self.wait()

    def to_commit(self, idle=(), left_out=(), model: bytes | None = None) -> None:
        """Play the latest round up to its commit phase."""
        self.to_manifest(idle)
        if self.latest.phase == "manifest":
            self.must(self.manifest(left_out, model))

    def to_reveal(self, absent=(), results=None, scores=None, **before) -> dict[str, tx.Reveal]:
        """Play the latest round up to its reveal phase; return what each super node but the `absent` committed to."""
        self.to_commit(**before)
        results, scores = results or {}, scores or {}
        openings = {
            name: self.opening(name, results.get(name), scores.get(name))
            for name in self.super_nodes()
            if name not in absent
        }
        self.must(*(self.attestation(name, one) for name, one in openings.items()))
        while self.latest.phase == "commit":
            self.wait()
        return openings

    def round(self, withhold=(), **before) -> Round:
        """Play the latest round to its end and return it; see `to_reveal` for how it can go otherwise."""
        number = self.chain.round
        openings = self.to_reveal(**before)
        self.must(*((name, one) for name, one in openings.items() if name not in withhold))
        while self.chain.round == number:
            self.wait()
        return self.state.need(Round, number)

    def attestations(self, number: int) -> list[Attestation]:
        return self.state.where(Attestation, "round", number)
