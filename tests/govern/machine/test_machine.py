"""Random ledgers beside a naive reference, which pays voters at once in exact fractions and elects from scratch."""

from dataclasses import replace

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from fedmeta.govern.machine.execute import execute
from fedmeta.govern.state.records import (
    Attestation,
    Candidate,
    Challenge,
    Delegation,
    Fault,
    Manifest,
    Proposal,
    Recipe,
    Unbonding,
    Update,
)
from fedmeta.govern.wire import transactions as tx
from fedmeta.govern.wire.signatures import digest
from tests.examples import examples
from tests.govern.playing import DELEGATIONS, STAKES, federation
from tests.govern.recorded import record
from tests.govern.watched import Watched


def test_the_reference_agrees_with_a_chain_of_every_transaction_fault_and_action():
    recorded = record.read()
    play = Watched(recorded.genesis)
    for block in recorded.blocks:
        play.blocks.append(block)
        play._take(execute(play.state, block))
    assert play.hashes == recorded.hashes
    play.compare_holdings()


CANDIDATES = tuple(STAKES)
MEMBERS = (*CANDIDATES, "hal", "ivy", "joy", "kim")
ORGANISATIONS = {"eve": "org-ann", "gil": "org-fay", "ivy": "org-ann", "kim": "org-bob"}
RULES = {
    "term_length": 8,
    "self_stake_factor": 2,
    "max_seat_changes": 1,
    "unbonding_period": 96,
    "evidence_age": 38,
    "challenge_blocks": 4,
    "update_blocks": 2,
    "manifest_blocks": 2,
    "commit_blocks": 4,
    "reveal_blocks": 3,
    "jail_blocks": 6,
    "open_blocks": 10,
    "round_pool": 997,
    "leader_points": 2,
    "duty_window": 8,
    "duty_misses": 3,
    "voting_blocks": 2,
    "execution_delay": 1,
    "max_delegations": 6,
    "max_unbonding": 6,
}

eighths = st.integers(1, 8)
"""Parts of what there is; all of it is the likeliest."""
some = st.one_of(st.just(0), st.sampled_from([1 << at for at in range(8)]), st.integers(0, 255))
"""A subset, by its bits: nobody, one, or any."""
which = st.integers(0, 10**6)
"""One of however many there are."""


def among(names, bits):
    """Return those of the names whose bits are set."""
    return [name for at, name in enumerate(sorted(names)) if bits >> at & 1]


def pick(found, at):
    return found[at % len(found)] if found else None


stakes = st.tuples(st.just("stake"), st.sampled_from(MEMBERS), st.sampled_from(CANDIDATES), st.integers(1, 2_500))
steps = st.one_of(
    stakes,
    st.tuples(st.just("undelegate"), which, st.none(), eighths),
    st.tuples(st.just("redelegate"), which, st.sampled_from(CANDIDATES), eighths),
    st.tuples(st.just("cancel"), which, st.none(), eighths),
    st.tuples(st.just("claim"), which, st.none(), st.none()),
)


class Ledger(RuleBasedStateMachine):
    """What members do, at random; most of it is possible, the rest is refused."""

    def teardown(self):
        if hasattr(self, "play") and self.play.agrees:
            self.play.compare_holdings()

    @initialize(commission=st.integers(0, 200_000), delegations=st.lists(stakes, max_size=6))
    def begin(self, commission, delegations):
        more = {(member, to): amount for _, member, to, amount in delegations if member != to}
        more = {(member, to): amount for member, to, amount in DELEGATIONS} | more
        genesis = federation(
            delegations=[(*pair, amount) for pair, amount in more.items()],
            members=MEMBERS,
            organisations=ORGANISATIONS,
            **RULES,
        )
        standing = tuple(
            replace(one, commission=(commission + at) % 200_000) for at, one in enumerate(genesis.candidates)
        )
        self.play = Watched(replace(genesis, candidates=standing))

    @rule(steps=st.lists(steps, min_size=1, max_size=8))
    def stake(self, steps):
        self.play.block(*filter(None, (self.transaction(*step) for step in steps)))

    def transaction(self, kind, who, to, amount):
        state = self.play.state
        if kind == "stake":
            return who, tx.Bond(amount) if who == to else tx.Delegate(to, amount)
        if kind == "claim":
            return MEMBERS[who % len(MEMBERS)], tx.Claim()
        if kind == "cancel":
            one = pick(state.all(Unbonding), who)
            return one and (
                one.member,
                tx.CancelUnbonding(one.candidate, one.created, max(1, one.amount * amount // 8)),
            )
        one = pick(state.all(Delegation), who)
        if one is None:
            return None
        pool = state.need(Candidate, one.candidate)
        units = max(1, one.shares * pool.tokens // pool.shares * amount // 8)
        if kind == "undelegate":
            return one.member, tx.Undelegate(one.candidate, units)
        return one.member, tx.Redelegate(one.candidate, to, units)

    @rule(name=st.sampled_from(CANDIDATES), commission=st.integers(0, 200_000), back=st.booleans())
    def candidate(self, name, commission, back):
        body = tx.SetCommission(commission) if commission % 2 else tx.Register(commission) if back else tx.Retire()
        self.play.block((name, body), time=10**9)

    @rule(blocks=st.one_of(st.integers(1, 9), st.integers(1, 9), st.just(50)))
    def wait(self, blocks):
        self.play.wait(blocks)

    @rule(
        idle=some,
        absent=some,
        withheld=some,
        wrong=some,
        scores=st.lists(st.integers(0, 1_000_000), min_size=4, max_size=4),
        between=st.lists(steps, max_size=5),
        deed=st.sampled_from([*["none"] * 6, "equivocate", "leave out", "leave out, late", "both"]),
        reporter=st.sampled_from(["joy", "ivy", "kim"]),
        claiming=some,
    )
    def round(self, idle, absent, withheld, wrong, scores, between, deed, reporter, claiming):
        """Play a round: some send no update, some super nodes do not attest, reveal or agree, and stakes move."""
        play, number, done = self.play, self.play.chain.round, set()
        play.block(*((one.member, tx.Unjail()) for one in play.state.all(Candidate) if one.jailed))
        absent, withheld, wrong = (among(CANDIDATES, bits) for bits in (absent, withheld, wrong))
        left_out = among(MEMBERS, 1 << idle % len(MEMBERS)) if deed not in ("none", "equivocate") else []
        openings = {}
        for _ in range(100):
            if play.chain.round != number:
                break
            latest = play.latest
            phase = latest.phase, latest.attempt
            if phase in done or not latest.leader:
                play.wait()
                continue
            done.add(phase)
            if latest.phase == "opening":
                recipe = play.state.all(Recipe)[0]
                play.block((latest.leader, tx.OpenRound(number, recipe.digest, recipe.model)))
            elif latest.phase == "updates":
                play.block(*(play.update(name) for name in latest.cohort if name not in among(MEMBERS, idle)))
            elif latest.phase == "manifest":
                updates = [one.member for one in play.state.where(Update, "round", number)]
                play.block(play.manifest(left_out if len(updates) > 1 else ()))
                self.report(deed, reporter, left_out)
            elif latest.phase == "commit":
                members = play.state.need(Manifest, number).members
                for at, name in enumerate(play.super_nodes()):
                    given = [scores[(at + member) % 4] for member in range(len(members))]
                    openings[name] = play.opening(name, digest(b"another") if name in wrong else None, given)
                play.block(*(play.attestation(*one) for one in openings.items() if one[0] not in absent))
                self.stake(between)
            else:
                play.block(*((name, one) for name, one in openings.items() if name not in withheld))
        if deed == "leave out, late":
            play.block(*((reporter, tx.ReportLeftOut(number, name)) for name in left_out))
        play.block(*((name, tx.Claim()) for name in among(MEMBERS, claiming)))

    def report(self, deed, reporter, left_out):
        """Report the leader for the manifest that it has just posted, after its voters have left it in part."""
        play, first = self.play, self.play.blocks[-1].transactions[0]
        leader, body = play.manifest()
        other = tx.PostManifest(body.round, body.attempt, body.members, body.aggregate, digest(b"another model"))
        second = play.sign(leader, other)
        if deed in ("leave out", "equivocate", "both"):
            self.leave(leader)
        if deed in ("leave out", "both"):
            play.block(*((reporter, tx.ReportLeftOut(play.chain.round, name)) for name in left_out))
        if deed in ("equivocate", "both"):
            play.block((reporter, tx.ReportManifests(first, second)))

    def leave(self, candidate):
        """Let all that is staked on a candidate go elsewhere in part, and from there on its way out in part."""
        others = [name for name in CANDIDATES if name != candidate]
        moves, leaves, further = [], [], []
        for at, one in enumerate(self.play.state.all(Delegation)):
            if one.candidate == candidate:
                pool, to = self.play.state.need(Candidate, candidate), others[at % len(others)]
                worth = one.shares * pool.tokens // pool.shares
                moves.append((one.member, tx.Redelegate(candidate, to, max(1, worth // 2))))
                leaves.append((one.member, tx.Undelegate(candidate, max(1, worth // 3))))
                further.append((one.member, tx.Undelegate(to, max(1, worth // (at + 2)))))
        for block in (moves, leaves, further):
            self.play.block(*block)

    @rule(at=which, challenger=st.sampled_from(MEMBERS), right=st.booleans(), silent=some, wait=st.booleans())
    def challenge(self, at, challenger, right, silent, wait):
        play = self.play
        one = pick([one for one in play.state.all(Attestation) if one.revealed], at)
        if one is None:
            return
        result = digest(b"right")
        play.block((challenger, tx.OpenChallenge(one.round, one.candidate, result)))
        for challenge in play.state.where(Challenge, "status", "open"):
            judges = [seat.candidate for seat in challenge.panel if seat.candidate not in among(CANDIDATES, silent)]
            found = result if right else one.result
            play.block(*((name, tx.Judge(challenge.number, found)) for name in judges))
        if wait:
            play.wait(6)

    @rule(
        at=which,
        name=st.sampled_from(MEMBERS),
        kind=st.sampled_from(["spend", "annul-slash", "set-parameter", "remove", "admit"]),
        choices=st.lists(st.sampled_from(["yes", "yes", "yes", "veto"]), min_size=4, max_size=4),
    )
    def propose(self, at, name, kind, choices):
        play = self.play
        faults = [one.number for one in play.state.all(Fault) if not one.annulled]
        parameter = pick(["round_pool", "unbonding_period", "leader_points", "self_stake_factor", "commission_cap"], at)
        value = {"round_pool": 800, "unbonding_period": 98, "leader_points": 0, "self_stake_factor": 3}
        key = play.key(name).public
        action = {
            "spend": {"member": name, "amount": 1 + at % 5_000},
            "annul-slash": {"fault": pick(faults, at)},
            "set-parameter": {"name": parameter, "value": value.get(parameter, 100_000) + at % 3},
            "remove": {"member": name},
            "admit": {"member": name, "organisation": play.member(name).organisation, "public": key, "title": ""},
        }[kind]
        if None in action.values():
            return
        play.block(("joy", tx.Propose("a proposal", {"kind": kind, **action})))
        for proposal in play.state.where(Proposal, "status", "voting"):
            voters = zip(play.super_nodes(), choices, strict=False)
            play.block(*((voter, tx.CastVote(proposal.number, choice)) for voter, choice in voters))
        play.wait(4)


class TestLedger(Ledger.TestCase):
    """The ledger agrees with the reference, and its invariants hold, after every block of any history."""

    settings = examples(12, stateful_step_count=30)
