"""Plays rounds on the small ledger by calling the rules, a block at a time; nothing is signed but receipts."""

from fedmeta.govern.rules import election, rounds
from fedmeta.govern.state.records import Attestation, Candidate, Manifest, Recipe, Round, Term
from fedmeta.govern.wire import transactions as tx
from fedmeta.govern.wire.signatures import digest
from tests.govern.playing import CHAIN, RECIPE, key
from tests.govern.small import context, later

AGGREGATE, NEXT_MODEL = digest(b"aggregate"), digest(b"next model")
PHASES = ("opening", "updates", "manifest", "commit", "reveal")
OPTIONS = {
    "open_blocks": 3,
    "update_blocks": 4,
    "manifest_blocks": 3,
    "commit_blocks": 3,
    "reveal_blocks": 3,
    "unbonding_period": 2_200,
    "evidence_age": 80,
    "challenge_blocks": 5,
    "term_length": 1_000,
    "duty_window": 20,
    "duty_misses": 6,
    "standbys": 0,
    "delegations": (),
}


class Game:
    """One ledger; `now` is the context of the block that is being made."""

    def __init__(self, members=(), **options):
        self.now = context(members=("evora", *members), **{**OPTIONS, **options})
        self.events = []
        self.plans = {}

    @property
    def number(self):
        return self.now.chain.round

    @property
    def round(self):
        return self.now.draft.need(Round, self.number)

    @property
    def seats(self):
        """The names of the round's super nodes, in the order of their seats."""
        return [seat.candidate for seat in self.now.draft.need(Term, self.round.term).seats]

    def manifest(self):
        return self.now.draft.get(Manifest, self.number)

    def attestation(self, name, number=None):
        return self.now.draft.get(Attestation, number or self.number, name)

    def candidate(self, name):
        return self.now.draft.need(Candidate, name)

    def said(self, kind):
        return [event for event in [*self.events, *self.now.events] if event.kind == kind]

    def end(self, blocks=1):
        """End the block, and so many in all."""
        for _ in range(blocks):
            rounds.end_block(self.now)
            election.end_block(self.now)
            self.events += self.now.events
            self.now = later(self.now)

    def open(self, name=None, recipe=RECIPE, model=None):
        model = model or self.now.draft.need(Recipe, RECIPE).model
        rounds.open_round(self.now, name or self.round.leader, tx.OpenRound(self.number, recipe, model))

    def receipts(self, member, signers, examples=10, digest_=None, signer_keys=None):
        message = tx.receipt(CHAIN, self.number, member, digest_ or digest(member.encode()), examples)
        keys = signer_keys or {}
        return tuple((name, keys.get(name, key(name)).sign(message)) for name in sorted(signers))

    def commit(self, *names, examples=10):
        for name in names:
            signers = self.seats[: (len(self.seats) - 1) // 3 + 1]
            body = tx.CommitUpdate(self.number, digest(name.encode()), examples, self.receipts(name, signers, examples))
            rounds.commit_update(self.now, name, body)

    def post(self, name=None, members=None, attempt=None, model=NEXT_MODEL):
        body = tx.PostManifest(
            self.number,
            self.round.attempt if attempt is None else attempt,
            self.round.cohort if members is None else members,
            AGGREGATE,
            model,
        )
        rounds.post_manifest(self.now, name or self.round.leader, body)

    def right(self):
        """The result of the manifest."""
        manifest = self.manifest()
        return tx.result(self.number, manifest.aggregate, manifest.model)

    def attest(self, *names, result=None, scores=None):
        for name in names:
            plan = (
                result or self.right(),
                scores or (500_000,) * len(self.manifest().members),
                digest(f"salt {self.number} {name}".encode()),
            )
            self.plans[self.number, name] = plan
            commitment = tx.commitment(CHAIN, self.number, name, *plan)
            rounds.attest(self.now, name, tx.Attest(self.number, commitment))

    def reveal(self, *names):
        for name in names:
            rounds.reveal(self.now, name, tx.Reveal(self.number, *self.plans[self.number, name]))

    def to(self, phase):
        """Go on to a phase of the live round; everyone does its part."""
        while self.round.phase != phase:
            match self.round.phase:
                case "opening":
                    self.open()
                case "updates":
                    self.commit(*self.round.cohort)
                    self.end()
                case "manifest":
                    self.post()
                case "commit":
                    self.attest(*self.seats)
                    self.end()
        return self

    def finish(self):
        """Play the live round to its end; return its number."""
        number = self.to("reveal").number
        self.reveal(*self.seats)
        self.end()
        return number
