"""A chain that is followed by a naive reference, event by event, and compared with it after every block."""

from collections import Counter
from dataclasses import asdict
from fractions import Fraction

from fedmeta.govern.machine.genesis import start
from fedmeta.govern.rules.stake import INDEX_SCALE
from fedmeta.govern.state.parameters import Parameters
from fedmeta.govern.state.records import (
    Candidate,
    Delegation,
    Fault,
    Manifest,
    Member,
    Redelegation,
    Round,
    Term,
    Unbonding,
)
from fedmeta.govern.views.holdings import holdings
from fedmeta.govern.wire import events as ev
from fedmeta.govern.wire import transactions as tx
from tests.govern.playing import Play
from tests.oracles.election import Standing, elect, powers
from tests.oracles.ledger import Economy


class Watched(Play):
    """A chain beside which the reference does the same; they are compared after every block."""

    def __init__(self, genesis):
        self.reference = Economy(genesis.treasury, asdict(start(genesis).state.need(Parameters)))
        self.snapshots = {}
        """The height at which each term was elected."""
        self.seats = {}
        """The (name, weight, power) of those that have seats in each term, as of the event that is being followed."""
        for one in genesis.members:
            self.reference.admit(one.name, one.organisation, one.free)
        for one in genesis.candidates:
            self.reference.register(one.member, one.commission)
        super().__init__(genesis)

    def _take(self, done):
        self.agrees = False
        events = super()._take(done)
        self.reference.height = self.height
        self.doing, self.dropped = None, []
        for event in events:
            follow = FOLLOW.get(type(event))
            if follow is not None:
                follow(self, event)
        self.reference.end_block()
        self.compare()
        self.agrees = True
        return events

    # What the reference is told: who did what, and what the ledger rounded. Amounts are those of the transactions.

    def applied(self, event):
        self.doing = event.member, tx.decode(self.blocks[-1].transactions[event.index]).body

    def ending(self, event):
        self.doing = None

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

    def shared(self, event):
        round = self.state.need(Round, event.round)
        manifest = self.state.need(Manifest, event.round)
        revealed = [one for one in self.attestations(event.round) if one.revealed and one.result == round.result]
        reveals = {one.candidate: one.scores for one in revealed}
        powers = {name: power for name, _, power in self.seats[event.term]}
        self.reference.pay(manifest.leader, powers, reveals, manifest.members)

    def fault(self, event):
        gone = {(one.member, one.candidate) for one in self.dropped if one.held == 0}
        self.dropped = []
        term = self.state.need(Fault, event.fault).term
        cuts = [(one.place, one.member, one.candidate, one.amount) for one in event.cuts]
        who = event.offender, event.fault_kind, term, self.snapshots[term], event.reporter
        self.reference.slash(event.fault, *who, cuts, gone)

    def annulled(self, event):
        self.reference.annul(event.fault, [(one.place, one.member, one.candidate, one.amount) for one in event.cuts])

    def deposited(self, event):
        kind = "proposal_deposit" if isinstance(event, ev.ProposalOpened) else "challenge_deposit"
        self.reference.deposit(self.doing[0], (type(event), event_number(event)), self.reference.parameters[kind])
        if isinstance(event, ev.ChallengeOpened):
            closes = self.height + self.reference.parameters["challenge_blocks"]
            self.reference.challenges[event.challenge] = self.doing[1].accused, closes

    def returned(self, event):
        opened = ev.ProposalOpened if isinstance(event, ev.ProposalClosed) else ev.ChallengeOpened
        lost = event.status in ("vetoed", "rejected") and (event.status == "vetoed") == (opened is ev.ProposalOpened)
        self.reference.release((opened, event_number(event)), lost)
        if opened is ev.ChallengeOpened:
            del self.reference.challenges[event.challenge]

    def spent(self, event):
        self.reference.treasury -= event.amount
        self.reference.accounts[event.member].free += event.amount

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
        self.snapshots[event.term] = self.height

    def seated(self, event):
        self.seats[event.term] = [(one.candidate, one.weight, one.power) for one in event.seats]

    def standing(self):
        """Return who might be elected after the block that is being followed."""
        found = []
        for one in self.state.all(Candidate):
            able = one.active and not one.jailed and not one.tombstoned and self.member(one.member).active
            own = self.state.get(Delegation, one.member, one.member)
            worth = own.shares * one.tokens // one.shares if own else 0
            found.append(Standing(one.member, one.organisation, one.tokens, worth, one.registered, able))
        return found

    # What must agree.

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
        entries = {
            (one.candidate, one.member, one.created): [one.completes, one.amount] for one in state.all(Unbonding)
        }
        assert entries == reference.unbonding
        moved = {(one.member, one.source, one.destination, one.created): one for one in state.all(Redelegation)}
        assert {key: (one.completes, one.amount) for key, one in moved.items()} == {
            key: (one.completes, one.amount) for key, one in reference.moved.items()
        }
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
            for seats in (term.seats, term.standbys):
                names = [seat.candidate for seat in seats]
                weights = {seat.candidate: seat.weight for seat in seats}
                of = {seat.candidate: seat.organisation for seat in seats}
                cap = self.reference.parameters["organisation_cap"]
                assert [seat.power for seat in seats] == powers(names, of, weights, cap)

    def compare_holdings(self):
        """What members are told that they hold is whole, and never more than it should be."""
        for one in self.state.all(Member):
            held = holdings(self.state, one.name)
            for bond in held.bonded:
                pool = self.reference.pools[bond.candidate]
                assert not pool.off(bond.value, pool.parts[one.name])
                self.reference.check_due(one.name, bond.candidate, bond.accrued)


def event_number(event):
    return event.proposal if hasattr(event, "proposal") else event.challenge


FOLLOW = {
    ev.TransactionApplied: Watched.applied,
    ev.BlockEnding: Watched.ending,
    ev.Staked: Watched.staked,
    ev.Unstaked: Watched.unstaked,
    ev.Redelegated: Watched.redelegated,
    ev.UnbondingCancelled: Watched.cancelled,
    ev.UnbondingCompleted: Watched.completed,
    ev.SharesDropped: Watched.shares_dropped,
    ev.RewardsClaimed: Watched.claimed,
    ev.RewardsSettled: Watched.settled,
    ev.MemberRemoved: Watched.removed,
    ev.MemberAdmitted: Watched.admitted,
    ev.CandidateRegistered: Watched.registered,
    ev.CommissionSet: Watched.commission,
    ev.PoolShared: Watched.shared,
    ev.FaultProven: Watched.fault,
    ev.SlashAnnulled: Watched.annulled,
    ev.ProposalOpened: Watched.deposited,
    ev.ChallengeOpened: Watched.deposited,
    ev.ProposalClosed: Watched.returned,
    ev.ChallengeDecided: Watched.returned,
    ev.TreasurySpent: Watched.spent,
    ev.ParameterSet: Watched.parameter,
    ev.TermElected: Watched.elected,
    ev.SeatReplaced: Watched.seated,
}
