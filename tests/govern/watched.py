"""A chain that is followed by a naive reference, event by event, and compared with it after every block."""

from collections import Counter
from dataclasses import asdict
from fractions import Fraction

from fedmeta.govern.machine.genesis import start
from fedmeta.govern.rules.stake import INDEX_SCALE
from fedmeta.govern.state.parameters import Parameters
from fedmeta.govern.state.records import (
    Candidate,
    Chain,
    Delegation,
    Fault,
    KeyOwner,
    Member,
    Proposal,
    Recipe,
    Redelegation,
    Round,
    Term,
    Unbonding,
    Update,
)
from fedmeta.govern.views.holdings import holdings
from fedmeta.govern.wire import codec, round_events
from fedmeta.govern.wire import events as ev
from fedmeta.govern.wire import transactions as tx
from tests.govern.playing import Play
from tests.oracles.election import Standing, elect, powers
from tests.oracles.ledger import Economy


class Watched(Play):
    """A chain beside which the reference does the same; they are compared after every block."""

    def __init__(self, genesis):
        parameters = asdict(start(genesis).state.need(Parameters))
        self.reference = Economy(genesis.treasury, genesis.supply, parameters)
        self.reference.ends = parameters["term_length"]
        self.snapshots = {}
        """The height at which each term was elected."""
        self.seats = {}
        """The (name, weight, power) of those that have seats in each term, as of the event that is being followed."""
        self.seats_of = {}
        self.caps = {}
        """The organisations' cap under which each term got its powers."""
        self.jailed = set()
        self.live = None
        """What the live round began with, and what it paid."""
        self.over = {}
        """When each round was over that the ledger still knows."""
        self.faults = {}
        """When each fault was proven that the ledger still knows."""
        self.due = []
        """What signers did that must be punished next."""
        for one in genesis.members:
            self.reference.admit(one.name, one.organisation, one.free)
        for one in genesis.candidates:
            self.reference.register(one.member, one.commission)
        super().__init__(genesis)

    def _take(self, done):
        self.agrees = False
        before = self.state if self.log else None
        events = super()._take(done)
        self.reference.height, self.reference.time = self.height, self.state.time
        self.forgot, self.term_before = None, self.chain.term if before is None else before.need(Chain).term
        said = before is not None and self.blocks and self.blocks[-1].height == self.height
        self.due = self.punishable(before) if said else []
        self.doing, self.dropped = None, []
        for event in events:
            follow = FOLLOW.get(type(event))
            if follow is not None:
                follow(self, event)
        assert not self.due, f"{self.due} must be punished"
        self.reference.end_block(self.looked_at_again())
        self.forget()
        # Where nothing was said there is hardly anything to compare.
        if len(events) > 1 or self.height % 10 == 0:
            self.compare()
        self.agrees = True
        return events

    def punishable(self, before):
        """Return the (kind, offender, term, height) of what signers did by this block, if it must be punished."""
        found, barred = [], {one.member for one in before.all(Candidate) if one.tombstoned}
        candidates = {one.member for one in before.all(Candidate)}
        block = self.blocks[-1]
        shown = [("double-signature", one) for one in block.double_signatures]
        for kind, one in shown + [("light-client-attack", one) for one in block.attacks]:
            owner, term = before.get(KeyOwner, one.public), self.reference.punishable(one.height)
            if owner and owner.member in candidates - barred and term is not None:
                barred.add(owner.member)
                found.append((kind, owner.member, term, one.height))
        return found

    def forget(self):
        """Judge what the ledger has forgotten: at the end of a term all that no longer counts, and nothing else."""
        oldest, state = self.reference.horizon(), self.state
        rounds, terms, faults = ({one.number for one in state.all(cls)} for cls in (Round, Term, Fault))
        gone = self.over.keys() - rounds, self.reference.terms.keys() - terms, self.faults.keys() - faults
        if self.chain.term > self.term_before:
            kept = {one.round for one in state.all(Recipe)} | {self.chain.round}
            named = {one.term for one in state.all(Round)}
            open_ = [codec.decode(one.action) for one in state.all(Proposal) if one.status in ("voting", "passed")]
            disputed = {one["fault"] for one in open_ if one["kind"] == "annul-slash"}
            assert gone == (
                {number for number, height in self.over.items() if height < oldest} - kept,
                set(self.reference.outdated()) - named,
                {number for number, height in self.faults.items() if height < oldest} - disputed,
            )
        else:
            assert not any(gone)
        if any(gone):
            said = self.forgot
            assert (said.oldest, said.rounds, said.terms, said.faults) == (oldest, *map(len, gone))
        for known, numbers in zip((self.over, self.reference.terms, self.faults), gone, strict=True):
            for number in numbers:
                del known[number]

    # What the reference is told: who did what, and what the ledger rounded. Amounts are those of the transactions.

    def applied(self, event):
        self.doing = event.member, tx.decode(self.blocks[-1].transactions[event.index]).body

    def ending(self, event):
        self.doing = None
        self.reference.note_bound()

    def staked(self, event):
        if self.height == 0:
            self.reference.accounts[event.member].free += event.amount
            self.reference.stake(event.member, event.candidate, event.amount)
            return
        name, body = self.doing
        self.reference.stake(name, name if isinstance(body, tx.Bond) else body.candidate, body.amount)

    def unstaked(self, event):
        if self.doing is None:
            # A member that was removed.
            assert event.held == 0
            self.reference.undelegate(event.member, event.candidate, event.amount, True)
        else:
            name, body = self.doing
            self.reference.undelegate(name, body.candidate, body.amount, event.held == 0)

    def redelegated(self, event):
        name, body = self.doing
        self.reference.redelegate(name, body.source, body.destination, body.amount, event.source_held == 0)

    def cancelled(self, event):
        name, body = self.doing
        self.reference.cancel(name, body.candidate, body.created, body.amount)

    def completed(self, event):
        self.reference.mature(event.candidate, event.member, event.created)

    def let_go(self, event):
        self.reference.let_go((event.member, event.source, event.destination, event.created))

    def shares_dropped(self, event):
        self.dropped.append(event)

    def _drop_worthless(self):
        for one in self.dropped:
            assert (one.held, one.amount) == (0, 0)
            self.reference.drop(one.member, one.candidate)
        self.dropped = []

    def claimed(self, event):
        self._drop_worthless()
        self.reference.claim(self.doing[0], event.amount)

    def removed(self, event):
        self._drop_worthless()

    def settled(self, event):
        self.reference.settle(event.member, event.candidate, event.amount)

    def admitted(self, event):
        if event.member not in self.reference.accounts:
            self.reference.admit(event.member, event.organisation, 0)

    def registered(self, event):
        if self.doing is not None:
            name, body = self.doing
            self.reference.register(name, body.commission)

    def commission(self, event):
        name, body = self.doing
        self.reference.register(name, body.commission)

    def jail(self, event):
        self.jailed.add(event.candidate)

    def unjail(self, event):
        self.jailed.discard(event.candidate)

    def scheduled(self, event):
        assert event.pool == self.reference.schedule(event.term)
        assert event.seats == self.seats_of[event.term]
        self.live = event
        self.paid = 0
        self.reference.seated = self.snapshots[event.term], {seat.candidate for seat in event.seats}

    def round_over(self, event):
        self.reference.close(self.live.term, self.live.pool, self.paid)
        self.reference.seated = None
        self.over[event.round] = self.height

    def shared(self, event):
        round = self.state.need(Round, event.round)
        assert (round.seats, round.cohort) == (self.live.seats, self.live.cohort)
        agreed = [one for one in self.attestations(event.round) if one.revealed and one.result == round.result]
        self.paid = self.reference.pay(
            self.live.pool,
            {seat.candidate: seat.power for seat in self.live.seats},
            {name: account.organisation for name, account in self.reference.accounts.items()},
            {one.candidate: one.scores for one in agreed},
            {one.member for one in self.state.where(Update, "round", event.round) if one.unpaid},
            self.jailed,
            round.members,
        )

    def fault(self, event):
        gone = {(one.member, one.candidate) for one in self.dropped if one.held == 0}
        self.dropped = []
        term = self.state.need(Fault, event.fault).term
        self.faults[event.fault] = self.height
        if event.fault_kind != "false-result":
            assert (event.fault_kind, event.offender, term, event.infraction) == self.due.pop(0)
        cuts = [(one.place, one.member, one.candidate, one.amount) for one in event.cuts]
        self.reference.slash(event.fault, event.offender, event.fault_kind, term, self.snapshots[term], cuts, gone)

    def annulled(self, event):
        self.reference.annul(event.fault, [(one.place, one.member, one.candidate, one.amount) for one in event.cuts])

    def deposited(self, event):
        self.reference.deposit(self.doing[0], event.proposal, self.reference.parameters["proposal_deposit"])

    def returned(self, event):
        self.reference.release(event.proposal, event.status == "vetoed")

    def spent(self, event):
        self.reference.spend(max(self.reference.serving) - 1, event.member, event.amount)

    def parameter(self, event):
        self.reference.parameters[event.name] = event.after

    def elected(self, event):
        before = self.seats.get(event.term - 1)
        incumbents = None if before is None else {name for name, _, _ in before}
        seats, standbys = elect(self.standing(), incumbents, self.reference.parameters)
        self.seated(event)
        # Where nobody can be elected, those who have the seats keep them.
        assert self.seats[event.term] == (seats or before)
        assert [(one.candidate, one.weight, one.power) for one in event.standbys] == standbys
        # Whoever stays on answers with the stake that elected it.
        self.snapshots[event.term] = self.snapshots[event.term - 1] if before is not None and not seats else self.height
        places = {one.candidate for one in (*event.seats, *event.standbys)}
        self.reference.serving[event.term] = self.snapshots[event.term], places

    def started(self, event):
        del self.reference.serving[event.term - 1]
        self.reference.start(event.term)
        self.reference.ends = event.ends

    def forgotten(self, event):
        self.forgot = event

    def replaced(self, event):
        self.seated(event)
        self.dropped_standby(event)

    def dropped_standby(self, event):
        self.reference.serving[event.term][1].discard(event.candidate)

    def seated(self, event):
        self.seats_of[event.term] = event.seats
        self.caps[event.term] = self.reference.parameters["organisation_cap"]
        self.seats[event.term] = [(one.candidate, one.weight, one.power) for one in event.seats]

    def standing(self):
        """Return who might be elected after the block that is being followed."""
        found = []
        for one in self.state.all(Candidate):
            standing = one.active and self.member(one.member).active and not one.tombstoned
            own = self.state.get(Delegation, one.member, one.member)
            worth = own.shares * one.tokens // one.shares if own else 0
            able = standing and not one.jailed, standing and one.jailed and one.absent
            found.append(Standing(one.member, one.organisation, one.tokens, worth, one.registered, *able))
        return found

    # What must agree.

    def looked_at_again(self):
        """Return when the ledger will look again at each entry of stake that leaves or has moved."""
        out = {(one.candidate, one.member, one.created): one.completes for one in self.state.all(Unbonding)}
        moved = self.state.all(Redelegation)
        return out | {(one.member, one.source, one.destination, one.created): one.completes for one in moved}

    def compare(self):
        state, reference = self.state, self.reference
        assert self.chain.treasury == reference.treasury
        candidates = {one.member: one for one in state.all(Candidate)}
        for name, one in candidates.items():
            pool = reference.pools[name]
            found = one.tokens, one.outstanding, one.commission
            assert found == (pool.units, pool.outstanding, pool.commission)
        delegations = state.all(Delegation)
        self._compare_stakes(candidates, delegations)
        due = Counter()
        for one in delegations:
            grown = one.rest + one.shares * (candidates[one.candidate].reward_index - one.index)
            reference.check_due(one.member, one.candidate, grown // INDEX_SCALE)
            due[one.candidate] += grown // INDEX_SCALE
        assert all(amount <= reference.pools[name].outstanding for name, amount in due.items())
        for one in state.all(Member):
            account = reference.accounts[one.name]
            assert (one.free, one.owed, one.organisation) == (account.free, account.owed, account.organisation)
        entries = {(one.candidate, one.member, one.created): one.amount for one in state.all(Unbonding)}
        assert entries == {key: one.amount for key, one in reference.unbonding.items()}
        moved = {(one.member, one.source, one.destination, one.created): one.amount for one in state.all(Redelegation)}
        assert moved == {key: one.amount for key, one in reference.moved.items()}
        for term in state.all(Term):
            assert term.snapshot == self.snapshots[term.number]
            begun = self.reference.terms.get(term.number)
            assert (term.start, term.ended) == ((begun.start, begun.ended) if begun else (0, 0))
            assert (term.paid, term.spent) == tuple(of.get(term.number, 0) for of in (reference.paid, reference.spent))
        self._compare_powers()

    def _compare_stakes(self, candidates, delegations):
        pools = self.reference.pools
        assert {(one.candidate, one.member) for one in delegations} == {
            (name, member) for name, pool in pools.items() for member in pool.parts
        }
        for one in delegations:
            pool, candidate = pools[one.candidate], candidates[one.candidate]
            worth = Fraction(one.shares * candidate.tokens, candidate.shares)
            assert abs(worth - pool.parts[one.member]) <= pool.dust < Fraction(1, 10)

    def _compare_powers(self):
        for number in (self.chain.term, self.chain.term + 1):
            term = self.state.need(Term, number)
            assert [seat.power for seat in term.seats] == powers([one.weight for one in term.seats], self.caps[number])
            assert not any(seat.power for seat in term.standbys)

    def compare_holdings(self):
        """What members are told that they hold is whole, and never more than it should be."""
        for one in self.state.all(Member):
            held = holdings(self.state, one.name)
            for bond in held.bonded:
                pool = self.reference.pools[bond.candidate]
                assert not pool.off(bond.value, pool.parts[one.name])
                self.reference.check_due(one.name, bond.candidate, bond.accrued)


FOLLOW = {
    ev.TransactionApplied: Watched.applied,
    ev.BlockEnding: Watched.ending,
    ev.Staked: Watched.staked,
    ev.Unstaked: Watched.unstaked,
    ev.Redelegated: Watched.redelegated,
    ev.UnbondingCancelled: Watched.cancelled,
    ev.UnbondingCompleted: Watched.completed,
    ev.RedelegationEnded: Watched.let_go,
    ev.SharesDropped: Watched.shares_dropped,
    ev.RewardsClaimed: Watched.claimed,
    ev.RewardsSettled: Watched.settled,
    ev.MemberRemoved: Watched.removed,
    ev.MemberAdmitted: Watched.admitted,
    ev.CandidateRegistered: Watched.registered,
    ev.CommissionSet: Watched.commission,
    round_events.PoolShared: Watched.shared,
    round_events.FaultProven: Watched.fault,
    ev.SlashAnnulled: Watched.annulled,
    ev.ProposalOpened: Watched.deposited,
    ev.ProposalClosed: Watched.returned,
    ev.TreasurySpent: Watched.spent,
    ev.ParameterSet: Watched.parameter,
    ev.TermElected: Watched.elected,
    ev.TermStarted: Watched.started,
    ev.SeatReplaced: Watched.replaced,
    ev.StandbyDropped: Watched.dropped_standby,
    ev.CandidateJailed: Watched.jail,
    ev.CandidateTombstoned: Watched.jail,
    ev.CandidateUnjailed: Watched.unjail,
    round_events.RoundScheduled: Watched.scheduled,
    round_events.RoundSettled: Watched.round_over,
    ev.RecordsForgotten: Watched.forgotten,
}
