"""Games of rounds against an adversary that plays what gains it most: `python -m tests.govern.adversary --games 10000`.

A game is a federation of 4 to 64 seats of unequal power and some contributors, of whom an adversary controls seats with
less than a third of the power and any number of contributors. Messages are late at random; proposers follow one another
by power, as in CometBFT, and the adversary's leave out what it likes. Each game is played once honestly and once with
each strategy, or pair of strategies, on the same chances, and what the adversary's organisations earn is compared.
"""

import argparse
import itertools
import sys
import time
from dataclasses import dataclass, field
from functools import cache
from hashlib import blake2b
from random import Random
from statistics import NormalDist, fmean

from fedmeta.govern.errors import Refused
from fedmeta.govern.machine.execute import ENDINGS, RULES
from fedmeta.govern.machine.genesis import start
from fedmeta.govern.rules.context import Context
from fedmeta.govern.rules.stake import accrued
from fedmeta.govern.state.parameters import MILLION
from fedmeta.govern.state.records import (
    Attestation,
    Candidate,
    Chain,
    Delegation,
    Fault,
    Hold,
    Member,
    Registration,
    Round,
    Seal,
    Term,
    Update,
)
from fedmeta.govern.wire import transactions as tx
from fedmeta.govern.wire.signatures import digest
from tests.govern import playing

NOISE = 0.1
"""The deviation of what honest seats measure of one update, in parts of its worth."""

DELAYS = (0, 0, 0, 1, 1, 2, 3)
"""Blocks that a message is late."""

SIZES = (4, 7, 16, 64)
OUTSIDE = ("p0", "p1", "p2")
"""Contributors that hold no seat; some of those that hold one contribute too."""

OF_SEATS = {
    "silent": "say nothing at all",
    "withhold": "commit, and open nothing",
    "lie": "commit to another result, and open it",
    "copy": "commit to the commitment of another seat",
    "refuse": "hold no update of a rival",
    "phantom": "say to hold updates that nobody has delivered",
    "zero": "give rivals no score",
    "praise": "give the whole budget to accomplices",
    "omit-commits": "leave rivals' commitments out of one's blocks",
    "omit-holds": "leave out what honest seats hold",
    "omit-attests": "leave out what honest seats commit to",
    "omit-reveals": "leave out what honest seats open",
    "empty": "leave everything of others out of one's blocks",
}
OF_CONTRIBUTORS = {
    "idle": "commit to nothing",
    "undelivered": "commit, and deliver to nobody",
    "partial": "deliver to accomplices alone",
    "some": "deliver to honest seats with a third of the power",
    "late": "deliver as late as may be",
    "same-digest": "commit to a rival's digest",
    "insider": "commit again what accomplices have seen, in a later attempt or round",
}
STRATEGIES = {**OF_SEATS, **OF_CONTRIBUTORS}


@dataclass(frozen=True)
class Setting:
    """Who plays: seats with their stakes, those that contribute, and whom the adversary controls."""

    stakes: tuple[tuple[str, int], ...]
    contributors: tuple[str, ...]
    bad: frozenset[str]
    crashed: str
    """An honest seat that is down all the time; empty if there is none."""


@dataclass
class Outcome:
    """What came of a game."""

    earned: dict[str, int]
    rounds: list[str]
    blocks: int
    faults: list[str]
    flaws: list[str] = field(default_factory=list)
    """What must not be."""


@cache
def genesis_of(stakes, contributors):
    """Return the state that a federation begins with."""
    windows = {f"{one}_blocks": 2 * len(stakes) + 10 for one in ("commit", "deliver", "compute", "reveal")}
    made = playing.federation(
        stakes=dict(stakes),
        delegations=(),
        members=OUTSIDE,
        contributors=contributors,
        treasury=10**9,
        super_nodes=len(stakes),
        standbys=0,
        max_seat_changes=100,
        cohort_size=500,
        round_pool=1_000_000,
        term_budget=10**12,
        term_length=100_000,
        unbonding_blocks=10**7,
        duty_misses=64,
        duty_window=64,
        **windows,
    )
    return made, start(made).state


def setting(rng):
    """Return a setting; the adversary's seats, and the one that is down, have less than a third of the power."""
    number = rng.choices(SIZES, (8, 5, 2, 1))[0]
    stakes = tuple((f"s{at:02}", rng.randrange(5_000, 15_000)) for at in range(number))
    seated = tuple(name for name, _ in stakes)[: rng.choice((0, 2, min(number, 6)))]
    contributors = (*OUTSIDE, *seated)
    _, state = genesis_of(stakes, contributors)
    powers = {seat.candidate: seat.power for seat in term_seats(state)}
    total, held, bad = sum(powers.values()), 0, set()
    for name in rng.sample(list(powers), number):
        if (held + powers[name]) * 3 < total and rng.random() < 0.8:
            held += powers[name]
            bad.add(name)
    left = [name for name in powers if name not in bad and (held + powers[name]) * 3 < total]
    crashed = rng.choice(left) if left and rng.random() < 0.3 else ""
    accomplices = {name for name in contributors if rng.random() < 0.4 and name not in powers}
    return Setting(stakes, contributors, frozenset(bad | accomplices), crashed)


def term_seats(state):
    return state.need(Term, state.need(Chain).term).seats


class Game:
    """One game: `play` gives its outcome. All chances come from the seed, whatever the strategies are."""

    ROUNDS = 3

    def __init__(self, setting, seed, strategies=(), noise=NOISE):
        self.setting, self.seed, self.strategies, self.noise = setting, seed, frozenset(strategies), noise
        genesis, self.state = genesis_of(setting.stakes, setting.contributors)
        self.ledger = genesis.digest
        self.seats = {seat.candidate: seat.power for seat in term_seats(self.state)}
        self.total = sum(self.seats.values())
        self.priorities = dict.fromkeys(self.seats, 0)
        for name in self.seats:
            self.priorities[name] = int((2 * self.chance("priority", name) - 1) * self.total)
        self.pool: list[tuple[int, str, object]] = []
        """What waits for a block: from which height on, whose it is, and what."""
        self.sent: set = set()
        self.delivered: dict[tuple[int, str, str], int] = {}
        """The height at which an update, of a round and a member, has reached a seat."""
        self.salts: dict = {}
        self.flaws: list[str] = []

    # Chances.

    def chance(self, *what):
        """Return a number from 0 to 1 that depends on the seed and on what it is for, and on nothing else."""
        return int.from_bytes(blake2b(repr((self.seed, what)).encode(), digest_size=7).digest(), "big") / 2**56

    def delay(self, *what):
        """Return after how many blocks a message is there."""
        return DELAYS[int(self.chance("delay", *what) * len(DELAYS))]

    def is_bad(self, name):
        return name in self.setting.bad

    def does(self, strategy):
        return strategy in self.strategies

    # What everybody knows.

    @property
    def chain(self):
        return self.state.need(Chain)

    def latest(self):
        return self.state.get(Round, self.chain.round)

    def updates(self, number):
        return {one.member: one for one in self.state.where(Update, "round", number)}

    def organisation(self, name):
        return self.state.need(Member, name).organisation

    # Blocks.

    def proposer(self):
        """Return who proposes the next block: CometBFT's weighted round-robin."""
        for name, power in self.seats.items():
            self.priorities[name] += power
        first = max(self.seats, key=lambda name: (self.priorities[name], name))
        self.priorities[first] -= self.total
        return first

    def omitted(self, name, body):
        """Return whether the adversary's proposers leave a transaction out."""
        if self.is_bad(name):
            return False
        kinds = {
            "omit-commits": tx.CommitUpdate,
            "omit-holds": tx.Hold,
            "omit-attests": tx.Attest,
            "omit-reveals": tx.Reveal,
            "empty": object,
        }
        return any(self.does(strategy) and isinstance(body, kind) for strategy, kind in kinds.items())

    def block(self):
        proposer = self.proposer()
        context = Context(self.state, self.state.height + 1, self.state.time + 1_000)
        waiting = []
        for due, name, body in self.pool:
            if due > context.height or (self.is_bad(proposer) and self.omitted(name, body)):
                waiting.append((due, name, body))
                continue
            mark, said = context.draft.mark(), len(context.events)
            try:
                RULES[type(body)](context, name, body)
            except Refused as refusal:
                context.draft.undo(mark)
                del context.events[said:]
                # What comes too late is refused; an honest part of a round is never refused for what it says.
                if not self.is_bad(name) and refusal.code not in ("wrong-phase", "wrong-attempt", "already-done"):
                    self.flaws.append(f"{name}: {type(body).__name__} is refused: {refusal}")
        self.pool = waiting
        for ending in ENDINGS:
            ending(context)
        self.state = context.draft.finish()

    def say(self, name, body, once):
        """Send a transaction, the first time that it is asked for."""
        if once not in self.sent:
            self.sent.add(once)
            self.pool.append((self.state.height + 1 + self.delay(once), name, body))

    # What contributors do.

    def content(self, number, name):
        return digest(f"update of {name} in {number}".encode())

    def digest_of(self, number, name):
        salt = digest(f"{self.seed} salt {name} {number}".encode())
        return tx.update_digest(self.ledger, number, name, salt, self.content(number, name))

    def contribute(self, round):
        updates = self.updates(round.number)
        for place in round.cohort:
            name = place.member
            bad = self.is_bad(name)
            if round.phase == "commit" and not (bad and self.does("idle")):
                made = self.digest_of(round.number, name)
                if bad and self.does("same-digest"):
                    rivals = [one.digest for one in updates.values() if not self.is_bad(one.member)]
                    if not rivals:
                        continue
                    made = rivals[0]
                self.say(name, tx.CommitUpdate(round.number, made), ("commit", round.number, name))
            elif round.phase == "deliver" and name in updates:
                self.deliver(round, name, updates[name])
            if bad and self.does("insider") and round.phase != "commit":
                # Accomplices know the bytes by now: too late for this round, whatever the attempt.
                stolen = digest(b"stolen" + self.content(round.number, name))
                self.say(name, tx.CommitUpdate(round.number, stolen), ("steal", round.number, round.attempt, name))

    def sealed(self, round):
        signed = {one.candidate for one in self.state.where(Seal, "round", round.number)}
        return sum(self.seats[name] for name in signed) * 3 > 2 * self.total

    def deliver(self, round, name, update):
        """Let an update go to seats, where it opens what was committed to; honest ones wait for the seals."""
        bad = self.is_bad(name)
        if not bad and not self.sealed(round):
            return
        if bad and (self.does("same-digest") or self.does("undelivered")):
            return
        targets = list(self.seats)
        if bad and self.does("partial"):
            targets = [seat for seat in targets if self.is_bad(seat)]
        elif bad and self.does("some"):
            honest, held = [seat for seat in targets if not self.is_bad(seat)], 0
            targets = [seat for seat in targets if self.is_bad(seat)]
            for seat in honest:
                if held * 3 <= self.total:
                    held += self.seats[seat]
                    targets.append(seat)
        due = self.state.height + 1
        if bad and self.does("late"):
            due = max(due, round.opened + (round.windows[1].blocks << round.stretch) - 3)
        for seat in targets:
            key = update.origin, name, seat
            self.delivered.setdefault(key, due + self.delay("deliver", *key, round.attempt))

    # What seats do.

    def held(self, round, seat):
        """Return whose updates a seat has."""
        height, found = self.state.height, []
        for name, update in self.updates(round.number).items():
            if self.delivered.get((update.origin, name, seat), height + 1) <= height:
                found.append(name)
        return found

    def serve(self, round):
        for seat in self.seats:
            if seat == self.setting.crashed or (self.is_bad(seat) and self.does("silent")):
                continue
            if round.phase == "deliver":
                # An honest seat follows one history, and signs its header; so does the adversary's, to no avail.
                header = digest(b"header of %d" % round.committed)
                self.say(seat, tx.Seal(round.number, header), ("seal", round.number, seat))
                self.hold(round, seat)
            elif round.phase == "compute":
                self.attest(round, seat)
            elif round.phase == "reveal":
                self.reveal(round, seat)

    def hold(self, round, seat):
        members = self.held(round, seat)
        if self.is_bad(seat):
            if self.does("phantom"):
                members = list(self.updates(round.number))
            if self.does("refuse"):
                members = [one for one in members if self.is_bad(one)]
        before = self.state.get(Hold, round.number, seat)
        new = sorted(set(members) - set(before.members if before else ()))
        if new:
            self.say(
                seat,
                tx.Hold(round.number, round.attempt, tuple(new)),
                ("hold", round.number, round.attempt, seat, *new),
            )

    def result(self, round):
        return digest(b"model after %d of %s" % (round.number, ",".join(round.members).encode()))

    def fetched(self, round, seat):
        """Return whether a seat has all updates that are in: honest holders have given it what it lacked."""
        held = set(self.held(round, seat))
        for name in round.members:
            if name in held:
                continue
            origin = self.updates(round.number)[name].origin
            givers = [
                one
                for one in self.seats
                if one != self.setting.crashed
                and not self.is_bad(one)
                and self.delivered.get((origin, name, one), self.state.height + 1) <= self.state.height
            ]
            if not givers:
                self.flaws.append(f"round {round.number}: no honest seat has the update of {name}, which is in")
                return False
            self.delivered[origin, name, seat] = self.state.height + 1 + self.delay("fetch", origin, name, seat)
            held.add(name)
        return set(round.members) <= set(self.held(round, seat))

    def opening(self, round, seat):
        result, scores = self.result(round), self.scores(round, seat)
        if self.is_bad(seat) and self.does("lie"):
            result = digest(b"a lie" + result)
        salt = digest(f"{self.seed} salt {seat} {round.number} {round.attempt}".encode())
        return tx.Reveal(round.number, round.attempt, result, scores, salt)

    def committed_to(self, seat, opening):
        parts = opening.round, opening.attempt, seat, opening.result, opening.scores, opening.salt
        return tx.commitment(self.ledger, *parts)

    def scores(self, round, seat):
        """Return the scores of a seat: its share of the budget for the worth that it measures, in steps of 0.1 %."""
        own = self.organisation(seat)
        others = [one for one in round.members if self.organisation(one) != own]
        budget = len(others) * MILLION // len(round.cohort)
        worth = {one: self.worth(round, seat, one) for one in others}
        if self.is_bad(seat):
            friends = [one for one in others if self.is_bad(one)]
            if self.does("zero"):
                worth = {one: value if one in friends else 0 for one, value in worth.items()}
            if self.does("praise") and friends:
                worth = {one: 1_000 if one in friends else 0 for one in worth}
        whole = sum(worth.values())
        given = {one: budget * value // whole // 1_000 * 1_000 if whole else 0 for one, value in worth.items()}
        return tuple(given.get(one, 0) for one in round.members)

    def worth(self, round, seat, name):
        """Return what a seat measures of an update on its own examples: its worth, and noise."""
        true = 0.5 + 0.5 * self.chance("worth", name)
        noise = NormalDist(1.0, self.noise).inv_cdf(self.chance("noise", round.number, seat, name) or 0.5)
        return max(0, int(10_000 * true * noise))

    def attest(self, round, seat):
        once = "attest", round.number, round.attempt, seat
        if once in self.sent or (not self.is_bad(seat) and not self.fetched(round, seat)):
            return
        made = self.committed_to(seat, self.opening(round, seat))
        if self.is_bad(seat) and self.does("copy"):
            rivals = self.state.where(Attestation, "round", round.number)
            made = next((one.commitment for one in rivals if not self.is_bad(one.candidate)), None)
            if made is None:
                return
        self.say(seat, tx.Attest(round.number, round.attempt, made), once)

    def reveal(self, round, seat):
        once = "reveal", round.number, round.attempt, seat
        if once in self.sent or (self.is_bad(seat) and self.does("withhold")):
            return
        if self.state.get(Attestation, round.number, seat) is None:
            return
        body = self.opening(round, seat)
        if self.is_bad(seat) and self.does("copy"):
            rivals = self.state.where(Attestation, "round", round.number)
            copied = next((one for one in rivals if one.revealed and not self.is_bad(one.candidate)), None)
            if copied is None:
                return
            body = tx.Reveal(round.number, round.attempt, copied.result, copied.scores, copied.salt)
        self.say(seat, body, once)

    # The whole.

    def play(self):
        before = {one.candidate: one.shares for one in self.state.all(Delegation)}
        patience = 10 * 8 * (2 * len(self.seats) + 10)
        outcomes: dict[int, str] = {}
        while len(outcomes) < self.ROUNDS and self.state.height < patience * self.ROUNDS:
            self.block()
            round = self.latest()
            for number in range(len(outcomes) + 1, self.chain.round + 1):
                over = self.state.need(Round, number)
                if over.settled:
                    self.check(over)
                    outcomes[number] = over.phase
            self.register()
            if round is not None and not round.settled:
                self.contribute(round)
                self.serve(round)
                if self.state.height - round.scheduled > patience:
                    self.flaws.append(f"round {round.number} does not end")
                    break
        offenders = [one.offender for one in self.state.all(Fault)]
        self.flaws += [f"{name} is slashed, and is honest" for name in offenders if not self.is_bad(name)]
        after = {one.candidate: one.shares for one in self.state.all(Delegation)}
        assert before == after
        earned = {one.name: one.earned for one in self.state.all(Member)}
        for name in self.seats:
            earned[name] = earned.get(name, 0) + self.voters_share(name)
        return Outcome(earned, list(outcomes.values()), self.state.height, offenders, self.flaws)

    def voters_share(self, name):
        held = self.state.need(Delegation, name, name)
        return accrued(held, self.state.need(Candidate, name))

    def register(self):
        """Let those that were left out register again."""
        for one in self.state.where(Registration, "recipe", playing.RECIPE):
            if not one.active:
                self.say(one.member, tx.JoinRecipe(playing.RECIPE), ("join", one.member, one.until))

    def check(self, round):
        """Note what must not be in a round that is over."""
        if round.phase == "final" and round.result != self.result(round):
            self.flaws.append(f"round {round.number}: a result is final that honest seats did not compute")
        honest = {place.member for place in round.cohort if not self.is_bad(place.member)}
        missing = honest - set(round.members)
        if missing and len(honest) >= round.smallest:
            self.flaws.append(
                f"round {round.number}, {round.phase}: {', '.join(sorted(missing))} are honest, and not in"
            )
        if round.phase != "final" and len(honest) >= round.smallest:
            self.flaws.append(f"round {round.number} is void, though honest members could have had it")


def games(seed, pairs=6, noise=NOISE):
    """Play one game honestly, and with some strategies and pairs of them; yield (strategies, outcome, gains).

    The gains are those of the adversary's organisations, all together and the luckiest of them, in parts of what they
    earn where they are honest.
    """
    rng = Random(seed)
    made = setting(rng)
    plain = Game(made, seed, noise=noise).play()
    yield (), plain, (0.0, 0.0)
    options = [(one,) for one in STRATEGIES] + list(itertools.combinations(STRATEGIES, 2))
    for chosen in rng.sample(options, pairs):
        played = Game(made, seed, chosen, noise).play()
        yield chosen, played, (gain(made.bad, plain, played), max(gain({one}, plain, played) for one in made.bad))


def gain(names, plain, played):
    """Return how much more some earn in one game than in another, in parts of that; 0 where they earn nothing there."""
    before, after = (sum(one.earned[name] for name in names) for one in (plain, played))
    return (after - before) / before if before else 0.0


def main():
    """Play so many games, and say what the best strategies gained: on average, and where they had most luck.

    What one of the adversary's organisations gained counts where all of them together lost nothing.
    """
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--games", type=int, default=1_000)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument(
        "--noise", type=float, default=NOISE, help="by how much honest seats differ in what they measure"
    )
    options = parser.parse_args()
    gained: dict[tuple[str, ...], list[tuple[float, float]]] = {}
    played = flaws = 0
    began = time.monotonic()
    for seed in itertools.count(options.first):
        if played >= options.games:
            break
        for strategies, outcome, gains in games(seed, noise=options.noise):
            played += 1
            gained.setdefault(strategies, []).append(gains)
            flaws += len(outcome.flaws)
            for flaw in outcome.flaws:
                print(f"seed {seed}, {' and '.join(strategies) or 'honest'}: {flaw}", flush=True)
    print(f"{played} games in {time.monotonic() - began:.0f} s, {flaws} flaws; gains of the adversary in per cent:")
    print("games   mean of all   most of all   most of one")
    shown = sorted(gained.items(), key=lambda found: -fmean(all_ for all_, _ in found[1]))
    for strategies, found in shown[:12]:
        alone = [one for all_, one in found if all_ >= 0]
        figures = fmean(all_ for all_, _ in found), max(all_ for all_, _ in found), max(alone, default=0.0)
        print(f"{len(found):5}", *(f"{100 * one:13.2f}" for one in figures), "  ", " and ".join(strategies) or "honest")
    return bool(flaws)


if __name__ == "__main__":
    sys.exit(main())
