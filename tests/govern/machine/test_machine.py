"""Random ledgers beside a naive reference, which pays voters at once in exact fractions and elects from scratch."""

from dataclasses import replace

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from fedmeta.govern.rules import round_phases
from fedmeta.govern.state import parameters
from fedmeta.govern.state.parameters import MILLION
from fedmeta.govern.state.records import (
    Candidate,
    Delegation,
    Fault,
    Proposal,
    Recipe,
    Redelegation,
    Term,
    Unbonding,
)
from fedmeta.govern.wire import transactions as tx
from fedmeta.govern.wire.block import DoubleSignature, LightClientAttack
from fedmeta.govern.wire.round_events import FaultProven
from fedmeta.govern.wire.signatures import digest
from tests.examples import examples, in_soak
from tests.govern.playing import DELEGATIONS, MODEL, RECIPE, SHORT, STAKES, consensus_key, federation, key
from tests.govern.recorded import record
from tests.govern.watched import Watched


def test_the_reference_agrees_with_the_recorded_chain_which_is_what_its_script_makes():
    recorded, play = record.read(), record.play(Watched)
    # Signatures, keys and times are the script's own, so that it can be made again to the byte.
    assert play.blocks == recorded.blocks
    assert play.hashes == recorded.hashes
    play.compare_holdings()


def sign_twice(play, name, height):
    """Let the engine show that a member's key signed two blocks of a height; return the faults that it made."""
    found = DoubleSignature(play.key(name).public, height)
    events = play.take(replace(play.next_block(), double_signatures=(found,)))
    return [one for one in events if isinstance(one, FaultProven)]


@in_soak
def test_seats_that_nobody_can_take_answer_with_the_stake_that_elected_them():
    play = Watched(federation(**SHORT))
    play.must(*((name, tx.Retire()) for name in STAKES))
    play.wait_until(6)
    play.must(("hal", tx.Undelegate("ann", 400)))
    play.wait_until(play.height + play.parameters.unbonding_blocks + 10)
    terms = [play.state.need(Term, number) for number in (play.chain.term, play.chain.term + 1)]
    assert [one.snapshot for one in terms] == [0, 0]
    (fault,) = sign_twice(play, "ann", play.height)
    rate = play.parameters.slash_double_signature
    assert ("unbonding", "hal", 400 * rate // MILLION) in [(one.place, one.member, one.amount) for one in fault.cuts]
    # Her seats are gone, and nothing answers for them any more.
    play.wait(play.parameters.term_length + 1)
    assert not play.state.all(Unbonding)


def test_what_is_old_in_blocks_alone_still_counts_while_its_block_time_has_not_come():
    play = Watched(federation(**SHORT, unbonding_seconds=20))
    play.must(("hal", tx.Undelegate("ann", 400)), ("ivy", tx.Redelegate("bob", "cat", 100)), time=10)
    play.wait(play.parameters.unbonding_blocks + 5, time=10)
    assert play.state.get(Term, 2)
    assert [play.state.count(cls) for cls in (Unbonding, Redelegation)] == [1, 1]
    (fault,) = sign_twice(play, "ann", 3)
    assert fault.infraction == 3
    play.wait(60)
    assert [play.state.count(cls) for cls in (Unbonding, Redelegation)] == [0, 0]
    # The first term is still known, since the recipe's last round was of it, but too long ago.
    assert play.state.get(Term, 1)
    assert not play.state.get(Term, 2)
    assert not sign_twice(play, "bob", 3)
    assert sign_twice(play, "cat", play.height - 10)


CANDIDATES = tuple(STAKES)
MEMBERS = (*CANDIDATES, "hal", "ivy", "joy", "kim")
ORGANISATIONS = {"eve": "org-ann", "gil": "org-fay", "ivy": "org-ann", "kim": "org-bob"}
RULES = {
    "term_length": 8,
    "self_stake_factor": 2,
    "max_seat_changes": 1,
    "unbonding_blocks": 40,
    "commit_blocks": 4,
    "deliver_blocks": 3,
    "compute_blocks": 3,
    "reveal_blocks": 3,
    "cohort_size": 5,
    "jail_blocks": 6,
    "round_pool": 997,
    "term_budget": 2_500,
    "duty_window": 8,
    "duty_misses": 3,
    "voting_blocks": 2,
    "delay_blocks": 1,
    "max_delegations": 6,
    "max_unbonding": 6,
}
"""Windows are shorter than a ledger's may be, and stake is paid after 40 blocks: it waits as long as it answers."""

eighths = st.integers(1, 8)
"""Parts of what there is; all of it is the likeliest."""
some = st.one_of(st.just(0), st.sampled_from([1 << at for at in range(8)]), st.integers(0, 255))
"""A subset, by its bits: nobody, one, or any."""
few = st.sampled_from([0] * 8 + [1 << at for at in range(8)] + [0b11, 0b101, 0b1100, 0b110000, 255])
"""The same, but rarely more than one."""
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

    validators = False
    """Whether the super nodes decide the blocks."""

    def __init__(self):
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(parameters, "_check_together", lambda _: None)
        self.patch.setattr(round_phases, "shortest_window", lambda _: 1)
        for phase in parameters.PHASES:
            row = parameters.TABLE[f"{phase}_blocks"]
            self.patch.setitem(parameters.TABLE, row.name, replace(row, low=1))
        self.keys = 0

    def teardown(self):
        self.patch.undo()
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
            contributors=DEFAULT,
            validators=self.validators,
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

    @rule(blocks=st.one_of(st.integers(1, 9), st.just(35)), time=st.sampled_from([0, 1_000, 1_000, 20_000]))
    def wait(self, blocks, time):
        self.play.wait(blocks, time=time)

    @rule(name=st.sampled_from(MEMBERS), back=st.booleans())
    def machine(self, name, back):
        """Let another key sign for a member in rounds, or the account's again."""
        play, self.keys = self.play, self.keys + 1
        new = key(f"{name}'s machine {self.keys}")
        proof = new.sign(tx.possession(play.genesis.digest, name, new.public))
        play.block((name, tx.SetMachineKey(b"", b"") if back else tx.SetMachineKey(new.public, proof)))
        machine = play.member(name).machine
        if machine is None:
            play.machines.pop(name, None)
        elif machine.public == new.public:
            play.machines[name] = new

    @rule(name=st.sampled_from(CANDIDATES), number=st.integers(1, 3))
    def consensus(self, name, number):
        """Let a candidate name a key for blocks, perhaps one that it has or had."""
        self.play.block((name, consensus_key(name, self.play.genesis, number)))

    @rule(joining=some, leaving=some)
    def register(self, joining, leaving):
        self.play.block(*((name, tx.LeaveRecipe(RECIPE)) for name in among(MEMBERS, leaving)))
        self.play.block(*((name, tx.JoinRecipe(RECIPE)) for name in among(MEMBERS, joining)))

    @rule(
        idle=few,
        undelivered=few,
        denying=few,
        absent=few,
        silent=few,
        withheld=few,
        wrong=few,
        failing=st.sampled_from([0, 0, 0, 0, 1, 2, 3]),
        scores=st.lists(st.integers(0, MILLION), min_size=4, max_size=4),
        between=st.lists(steps, max_size=5),
        leaving=st.booleans(),
        joining=some,
        claiming=some,
    )
    def round(self, idle, undelivered, failing, between, leaving, joining, claiming, **seats):
        """Play a round: some commit to nothing or deliver nothing, some seats do not do their duty, and stakes move."""
        play = self.play
        play.block(*((one.member, tx.Unjail()) for one in play.state.all(Candidate) if one.jailed))
        play.block(*((name, tx.JoinRecipe(RECIPE)) for name in (*DEFAULT, *among(MEMBERS, joining))))
        play.wait()
        if not play.chain.round or play.latest.settled:
            return
        number, done, self.openings = play.chain.round, set(), {}
        for _ in range(100):
            if play.chain.round != number or play.latest.settled:
                break
            latest = play.latest
            now = latest.phase, latest.attempt
            if now in done:
                play.wait()
                continue
            done.add(now)
            if latest.phase == "commit":
                able = [one.member for one in latest.cohort if one.member not in among(MEMBERS, idle)]
                play.block(*(play.update(name) for name in able))
            elif latest.phase == "deliver":
                self.deliver(among(MEMBERS, undelivered), latest.attempt, **seats)
            elif latest.phase == "compute":
                self.compute(latest.attempt <= failing, **seats)
                self.stake(between)
                for name in among(CANDIDATES, seats["wrong"])[: leaving and latest.phase == "compute"]:
                    self.leave(name)
            else:
                kept_back = among(CANDIDATES, seats["withheld"] if latest.attempt == 1 else 0)
                play.block(*((name, one) for name, one in self.openings.items() if name not in kept_back))
        play.block(*((name, tx.Claim()) for name in among(MEMBERS, claiming)))

    def deliver(self, undelivered, attempt, denying, absent, **_):
        """Let the seats say whose updates they hold; in the first attempt some say nothing, or leave others out."""
        play = self.play
        everything, late = play.committed(), attempt > 1
        said = []
        for name in play.super_nodes():
            held = [one for one in everything if late or one not in undelivered]
            if name in among(CANDIDATES, denying) and not late:
                held = held[:1]
            if held and (late or name not in among(CANDIDATES, absent)):
                said.append(play.hold(name, held))
        play.block(*said)

    def compute(self, fails, scores, silent, wrong, absent, **_):
        """Let the seats commit to their results; where the attempt is to fail, each to another one."""
        play, self.openings = self.play, {}
        latest = play.latest
        gone = among(CANDIDATES, silent | absent if latest.attempt == 1 else 0)
        for at, name in enumerate(play.super_nodes()):
            if name in gone or not play.member(name).active:
                continue
            given = [
                scores[(at + place) % 4] // len(latest.cohort) if score else 0
                for place, score in enumerate(play.fair(name))
            ]
            lie = digest(name.encode()) if fails else digest(b"another") if name in among(CANDIDATES, wrong) else None
            self.openings[name] = play.opening(name, lie, given)
        play.block(*(play.attestation(*one) for one in self.openings.items()))

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

    @rule(name=st.sampled_from(CANDIDATES), ago=st.integers(0, 90), leaving=st.booleans(), attack=st.booleans())
    def sign_twice(self, name, ago, leaving, attack):
        """Let an engine show that a key signed what it must not; two candidates must be left to go on."""
        play = self.play
        barred = [one for one in play.state.all(Candidate) if one.tombstoned]
        if len(barred) >= len(CANDIDATES) - 5:
            return
        if leaving:
            self.leave(name)
        public = play.state.need(Candidate, name).consensus or play.key(name).public
        height = max(1, play.height - ago)
        twice, attacked = DoubleSignature(public, height), LightClientAttack(public, height)
        play.take(replace(play.next_block(), double_signatures=(twice,) * (not attack), attacks=(attacked, attacked)))

    @rule(
        at=which,
        name=st.sampled_from(MEMBERS),
        kind=st.sampled_from(["spend", "annul-slash", "set-parameter", "remove", "admit", "recipe", "upgrade"]),
        choices=st.lists(st.sampled_from(["yes", "yes", "yes", "veto"]), min_size=4, max_size=4),
    )
    def propose(self, at, name, kind, choices):
        play = self.play
        faults = [one.number for one in play.state.all(Fault) if not one.annulled]
        parameter = pick(list(VALUES), at)
        model = pick([digest(b"another model"), play.state.need(Recipe, RECIPE).model, MODEL], at)
        public = play.key(name).public
        action = {
            "spend": {"member": name, "amount": 1 + at % 12_000},
            "annul-slash": {"fault": pick(faults, at)},
            "set-parameter": {"name": parameter, "value": VALUES[parameter] + at % 3},
            "remove": {"member": name},
            "admit": {"member": name, "organisation": play.member(name).organisation, "public": public, "title": ""},
            "recipe": {"digest": RECIPE, "title": "", "model": model, "active": at % 3 > 0, "interval": at % 5},
            "upgrade": {"protocol": 3, "height": 10**6 * (at % 2)},
        }[kind]
        if None in action.values():
            return
        play.block(("joy", tx.Propose("a proposal", {"kind": kind, **action})))
        for proposal in play.state.where(Proposal, "status", "voting"):
            voters = zip(play.super_nodes(), choices, strict=False)
            play.block(*((voter, tx.CastVote(proposal.number, choice)) for voter, choice in voters))
        play.wait(4)


DEFAULT = ("ann", "bob", "cat", "dan", "hal")
"""Those who register again whenever they can."""

VALUES = {
    "round_pool": 800,
    "term_budget": 1_000,
    "unbonding_blocks": 38,
    "unbonding_seconds": 90,
    "self_stake_factor": 3,
    "commission_cap": 100_000,
    "organisation_cap": 250_001,
    "cohort_size": 3,
    "spending": 0,
    "super_nodes": 2,
}


class TestLedger(Ledger.TestCase):
    """The ledger agrees with the reference, and its invariants hold, after every block of any history."""

    settings = examples(12, stateful_step_count=30)
