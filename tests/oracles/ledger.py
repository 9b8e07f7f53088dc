"""What the ledger owes to whom, by the rules of `docs/ledger.md`, computed naively.

Stakes are exact fractions of a unit, and voters are paid at once, in fractions, by their part of the pool. There are no
shares, no index and no settling here. Amounts that the rules make whole are whole: pays to contributors and pools,
commissions, slashes. Where the ledger rounds something that is a fraction here, it says what it did: that is judged,
and then taken over.
"""

from dataclasses import dataclass, field
from fractions import Fraction
from math import floor

MILLION = 1_000_000

GRAIN = Fraction(1, 100_000)
"""More than one share is worth: shares are whole, so whoever buys or takes back is off by less, and so are the rest."""

INDEX_GRAIN = Fraction(1, 2**80)
"""More than a pay to a pool gains in the index, which counts 2**-128 of a unit for each of less than 2**48 shares."""

LOOK_AGAIN = 20
"""Blocks after which stake is looked at again whose block time has not come."""

COSTS = {
    "false-result": "slash_false_result",
    "double-signature": "slash_double_signature",
    "light-client-attack": "slash_double_signature",
}


@dataclass
class Account:
    organisation: str
    free: int = 0
    owed: int = 0


@dataclass
class Earned:
    """What a voter has earned in a pool since it came there."""

    exact: Fraction = Fraction(0)
    counted: int = 0
    """What the ledger has made of it, in whole units."""
    slack: Fraction = Fraction(0)
    """How far whole shares can make the ledger's exact amount differ from this."""
    gain: Fraction = Fraction(0)
    """How much more than that the index can make it."""


@dataclass
class Pool:
    commission: int
    units: int = 0
    parts: dict[str, Fraction] = field(default_factory=dict)
    """Each voter's part; together they are `units`."""
    earned: dict[str, Earned] = field(default_factory=dict)
    outstanding: int = 0
    """Units that went to the voters, and that the ledger has not yet counted."""
    dust: Fraction = Fraction(0)
    """How far the ledger's parts, in whole shares, can be from these, all together: not at all before any slash."""
    slashed: bool = False
    """Whether a unit may be worth something else than a million shares."""
    entered: dict[str, int] = field(default_factory=dict)
    """When each last added to its part."""

    def off(self, said, exact):
        """Whether an amount is not `exact` rounded down, give or take the dust."""
        return not exact - 1 - self.dust < said <= exact + self.dust


@dataclass
class Leaving:
    """Stake on its way out; it is looked at again at the height `completes`, and goes if it answers for nothing."""

    completes: int
    time: int
    """The block time before which it does not go."""
    amount: int = 0


@dataclass
class Moved:
    completes: int
    time: int
    amount: int
    part: Fraction
    """What it is worth in the pool that it went to."""
    stale: bool = False
    """That pool was closed since."""


@dataclass
class Fault:
    offender: str
    term: int
    fraction: int
    cuts: list
    lost: dict[str, Fraction]
    """What each of the pool's voters has lost with what it has kept there since; without those who came or added."""
    dust: Fraction = Fraction(0)
    annulled: bool = False


@dataclass
class Term:
    start: int
    ends: int = 0
    """Its last height, once that is over."""
    ended: int = 0
    """The block time then."""


class Economy:
    def __init__(self, treasury, supply, parameters):
        self.treasury = treasury
        self.supply = supply
        self.parameters = dict(parameters)
        self.height = self.time = 0
        self.accounts: dict[str, Account] = {}
        self.pools: dict[str, Pool] = {}
        self.unbonding: dict[tuple, Leaving] = {}
        """By (candidate, member, created)."""
        self.moved: dict[tuple, Moved] = {}
        """By (member, source, destination, created)."""
        self.faults: dict[int, Fault] = {}
        self.serving: dict[int, tuple[int, set[str]]] = {}
        """The present term and the next one: the height of the election's snapshot, and who has a place."""
        self.seated: tuple[int, set[str]] | None = None
        """The snapshot by which the seats of the round that is live were elected, and who has one."""
        self.ends = 0
        """The last height of the present term."""
        self.terms: dict[int, Term] = {1: Term(1)}
        """Those that have begun, until the ledger has forgotten them."""
        self.may_wait: set[tuple] = set()
        self.paid: dict[int, int] = {}
        """What the rounds of each term were paid, and what the one that is live may be."""
        self.spent: dict[int, int] = {}
        """What proposals spent in each term."""
        self.deposits: dict[int, tuple[str, int]] = {}

    def admit(self, member, organisation, free):
        self.accounts[member] = Account(organisation, free)

    def register(self, candidate, commission):
        """Stand for election, or change the commission."""
        self.pools.setdefault(candidate, Pool(commission)).commission = commission

    def deposit(self, member, proposal, amount):
        self.accounts[member].free -= amount
        self.deposits[proposal] = member, amount

    def release(self, proposal, lost):
        """Give a deposit back, or to the treasury if it is lost."""
        member, amount = self.deposits.pop(proposal)
        if lost:
            self.treasury += amount
        else:
            self.accounts[member].free += amount

    # Stake.

    def stake(self, member, candidate, amount):
        self.accounts[member].free -= amount
        self._enter(member, candidate, amount)

    def _enter(self, member, candidate, amount):
        pool = self.pools[candidate]
        pool.parts[member] = pool.parts.get(member, Fraction(0)) + amount
        pool.entered[member] = self.height
        pool.earned.setdefault(member, Earned())
        self._keep(candidate, member, 0)
        pool.units += amount
        pool.dust += 2 * GRAIN * pool.slashed

    def _leave(self, member, candidate, amount, everything):
        """Take units out of a pool; whoever takes `everything` leaves a fraction of a unit to the others."""
        pool = self.pools[candidate]
        part = pool.parts[member]
        if everything:
            assert not pool.off(amount, part), f"{member} took {amount} of {float(part)} with {candidate}"
        assert everything or amount < part + pool.dust, f"{member} took {amount} of {float(part)} with {candidate}"
        pool.units -= amount
        self._shrink(candidate, member, part if everything else Fraction(amount), everything)

    def _shrink(self, candidate, member, part, gone):
        """Take off a member's part, after its units; the others' parts grow or shrink to what there is."""
        pool = self.pools[candidate]
        self._keep(candidate, member, 0 if gone else 1 - part / pool.parts[member])
        pool.parts[member] -= part
        pool.slashed |= part.denominator != 1
        pool.dust += 2 * GRAIN * pool.slashed
        if gone:
            assert pool.parts.pop(member) <= pool.dust
            self.check_due(member, candidate, 0)
            # A fraction of a unit is lost here, and nowhere else.
            del pool.earned[member]
        else:
            assert pool.parts[member] > 0
        if not pool.parts:
            self.treasury += pool.units + pool.outstanding
            self.pools[candidate] = Pool(pool.commission)
            for key, moved in self.moved.items():
                moved.stale |= key[2] == candidate
        self._fit(candidate)

    def _keep(self, candidate, member, kept):
        """Note that a member has kept so much of its part, for when a slash is annulled."""
        for fault in self.faults.values():
            if fault.offender == candidate and member in fault.lost:
                fault.lost[member] *= kept
                fault.dust += GRAIN

    def _fit(self, candidate):
        """Scale all parts of a pool to its units, as after a slash."""
        pool = self.pools[candidate]
        if not pool.parts:
            return
        factor = pool.units / sum(pool.parts.values())
        pool.slashed |= factor != 1
        pool.parts = {name: part * factor for name, part in pool.parts.items()}
        pool.dust *= max(1, factor)
        for key, moved in self.moved.items():
            if key[2] == candidate:
                moved.part *= factor

    def undelegate(self, member, candidate, amount, everything):
        self._leave(member, candidate, amount, everything)
        entry = self.unbonding.setdefault((candidate, member, self.height), Leaving(*self._periods()))
        entry.completes, entry.time = self._periods()
        entry.amount += amount

    def _periods(self):
        seconds = self.parameters["unbonding_seconds"]
        return self.height + self.parameters["unbonding_blocks"], self.time + 1_000 * seconds

    def redelegate(self, member, source, destination, amount, everything):
        self._leave(member, source, amount, everything)
        self._enter(member, destination, amount)
        entry = self.moved.setdefault((member, source, destination, self.height), Moved(0, 0, 0, Fraction(0)))
        entry.completes, entry.time = self._periods()
        entry.amount += amount
        entry.part += amount

    def cancel(self, member, candidate, created, amount):
        self._reduce((candidate, member, created), amount)
        self._enter(member, candidate, amount)

    def _reduce(self, key, amount):
        assert 0 < amount <= self.unbonding[key].amount
        self.unbonding[key].amount -= amount
        if not self.unbonding[key].amount:
            del self.unbonding[key]

    def drop(self, member, candidate):
        """Let a member leave a pool in which it has less than a unit."""
        self._leave(member, candidate, 0, True)

    def mature(self, candidate, member, created):
        """Pay stake whose time has come."""
        entry = self.unbonding.pop((candidate, member, created))
        assert entry.completes == self.height
        assert not self._bound(candidate, created, entry.time)
        assert not self._moved_here(candidate, member, created)
        self.accounts[member].free += entry.amount

    def let_go(self, key):
        """Forget that stake moved, once its time has come."""
        moved = self.moved.pop(key)
        assert moved.completes == self.height
        assert not self._bound(key[1], key[3], moved.time)

    def _bound(self, candidate, created, time):
        """Whether stake that left then must wait: for its time, or for those whom it had helped to elect."""
        serving = [*self.serving.values(), *([self.seated] if self.seated else [])]
        return self.time < time or any(snapshot < created and candidate in there for snapshot, there in serving)

    def _moved_here(self, candidate, member, created):
        """Whether stake moved to where this was taken from, before that and by the same member, and still answers."""
        return any((one[0], one[2]) == (member, candidate) and one[3] <= created for one in self.moved)

    def note_bound(self):
        """Note, before the rules do their own, which of what is due may have to wait."""
        due = {key: key[:1] + key[2:] for key, one in self.unbonding.items() if one.completes == self.height}
        due |= {key: (key[1], key[3]) for key, one in self.moved.items() if one.completes == self.height}
        self.may_wait = {
            key
            for key, (candidate, created) in due.items()
            if self._bound(candidate, created, {**self.unbonding, **self.moved}[key].time)
            or (key in self.unbonding and self._moved_here(*key))
        }

    def end_block(self, completes):
        """What is due and still there must be what waits, and is looked at again before it would serve another term.

        What waits for its block time is looked at now and then.

        Args:
            completes: When the ledger means to look at each entry again.
        """
        present = {**self.unbonding, **self.moved}
        assert completes.keys() == present.keys()
        for key, one in present.items():
            if one.completes == self.height:
                assert key in self.may_wait, f"{key} was due and is still there"
                longest = max(self.ends, self.height, *(other.completes for other in self.moved.values()))
                if self.time < one.time:
                    assert completes[key] == self.height + LOOK_AGAIN
                else:
                    assert self.height < completes[key] <= longest + 1
                one.completes = completes[key]
            assert one.completes == completes[key] > self.height

    # What still counts.

    def start(self, number):
        """Let the next term begin after this block."""
        last = self.terms[number - 1]
        last.ends, last.ended = self.height, self.time
        self.terms[number] = Term(self.height + 1)

    def horizon(self):
        """The oldest height that counts: an unbonding period ago, in blocks, and in the time of whole terms."""
        blocks, seconds = self.parameters["unbonding_blocks"], self.parameters["unbonding_seconds"]
        over = [one for one in self.terms.values() if one.ends and one.ended + 1_000 * seconds <= self.time]
        return min([self.height - blocks, *(one.start for one in self.terms.values() if one not in over)])

    def punishable(self, height):
        """The term in which a double signature of a height is punished, or None where it is too old, or to come."""
        ends = {number: one.ends or self.ends for number, one in self.terms.items()}
        there = [number for number, one in self.terms.items() if one.start <= height <= ends[number]]
        return there[0] if there and height >= self.horizon() else None

    def outdated(self):
        """The terms that were over before all that counts."""
        oldest = self.horizon()
        return [number for number, one in self.terms.items() if 0 < one.ends < oldest]

    # Rewards.

    def spend(self, term, member, amount):
        """Pay a member out of the treasury, within what proposals may spend in a term."""
        self.treasury -= amount
        self.accounts[member].free += amount
        self.spent[term] = self.spent.get(term, 0) + amount
        assert self.spent[term] * MILLION <= self.supply * self.parameters["spending"]

    def owe(self, member, amount):
        self.accounts[member].owed += amount

    def schedule(self, term):
        """Return what a round may pay, of what the treasury and the term have left for it."""
        pool = min(self.parameters["round_pool"], self.treasury)
        self.paid[term] = self.paid.get(term, 0) + pool
        assert self.paid[term] <= self.parameters["term_budget"]
        return pool

    def pay(self, pool, seats, organisations, reveals, unpaid, jailed, contributors):
        """Share the pool of a final round, and return what was paid.

        Args:
            pool: What it may pay.
            seats: The power of each seat.
            organisations: Of the members.
            reveals: The scores of each seat that opened the round's result.
            unpaid: Contributors that are paid nothing, whatever their scores.
            jailed: Super nodes that are paid nothing.
            contributors: Whose updates are in, in the order of the scores.
        """
        before, share = self.treasury, self.parameters
        pool = min(pool, self.treasury)
        for_contributors = pool * share["contributor_share"] // MILLION
        for_super_nodes = pool * share["super_node_share"] // MILLION
        scores = [
            weighted_lower_median(
                [
                    (reveals[seat][at], power)
                    for seat, power in seats.items()
                    if seat in reveals and organisations[seat] != organisations[name]
                ]
            )
            for at, name in enumerate(contributors)
        ]
        for name, score in zip(contributors, scores, strict=True):
            if name not in unpaid:
                self._spend(for_contributors * score // max(MILLION, sum(scores)), name)
        for name in seats:
            if name in reveals and name not in jailed:
                self._pay_pool(name, for_super_nodes // len(seats))
        return before - self.treasury

    def close(self, term, pool, paid):
        """Let what a round did not pay be another's."""
        self.paid[term] += paid - pool

    def _spend(self, amount, member):
        self.treasury -= amount
        self.owe(member, amount)

    def _pay_pool(self, name, amount):
        pool = self.pools[name]
        commission = amount * min(pool.commission, self.parameters["commission_cap"]) // MILLION
        voters = amount - commission if pool.parts else 0
        self._spend(amount - voters, name)
        self.treasury -= voters
        pool.outstanding += voters
        for member, part in pool.parts.items():
            if voters:
                earned = pool.earned[member]
                earned.exact += voters * part / pool.units
                earned.slack += voters * pool.dust / pool.units
                earned.gain += INDEX_GRAIN

    def settle(self, member, candidate, amount):
        """Judge what the ledger counted for a voter, and all that it has counted for it there."""
        pool = self.pools[candidate]
        assert amount >= 0
        self.check_due(member, candidate, amount)
        pool.earned[member].counted += amount
        pool.outstanding -= amount
        assert pool.outstanding >= 0, f"{candidate}'s pool has paid more than came in"
        self.accounts[member].owed += amount

    def claim(self, member, amount):
        """Judge a claim: all that is owed, and no whole unit is left behind anywhere."""
        account = self.accounts[member]
        assert amount == account.owed
        for candidate, pool in self.pools.items():
            if member in pool.parts:
                self.check_due(member, candidate, 0)
        account.free += amount
        account.owed = 0

    def check_due(self, member, candidate, amount):
        """Judge what a voter would have had of a pool with so much more, since it came there and however often paid.

        That is never more than it has earned, and less than one unit below it.
        """
        earned = self.pools[candidate].earned[member]
        whole = earned.counted + amount
        said = f"{member} has {whole} of {candidate}: {float(earned.exact)} is due"
        assert earned.gain < Fraction(1, 2**16)
        assert whole <= earned.exact + earned.slack + earned.gain, said
        assert earned.exact - earned.slack < whole + 1, said

    # Faults.

    def slash(self, number, offender, kind, term, snapshot, cuts, gone):
        """Judge a slash and take it over.

        Args:
            number: Of the fault.
            offender: Who did it.
            kind: One of `COSTS`.
            term: The term of the deed.
            snapshot: The height at which that term was elected: stake that was there then answers for it.
            cuts: The (place, member, candidate, amount) that the ledger took.
            gone: The (member, candidate) that have nothing left after it.
        """
        fraction = self.parameters[COSTS[kind]]
        before = [one for one in self.faults.values() if (one.offender, one.term) == (offender, term)]
        already = max((one.fraction for one in before if not one.annulled), default=0)
        pool = self.pools[offender]
        taken = sum(cut[3] for cut in cuts[:1] if cut[0] == "pool")
        lost = {
            name: taken * part / pool.units for name, part in pool.parts.items() if pool.entered[name] < self.height
        }
        left = list(cuts)
        self.faults[number] = Fault(offender, term, fraction, left[:], lost, pool.dust)
        if fraction > already:
            self._cut(offender, snapshot, Fraction(fraction - already, MILLION - already), left, gone)
        assert not left, f"{left} of the slash of {offender} is too much"
        self.treasury += sum(cut[3] for cut in cuts)

    def _cut(self, offender, snapshot, rate, left, gone):
        pool = self.pools[offender]
        cut = _take(left, floor(pool.units * rate), "pool", "", offender)
        pool.units -= cut
        self._fit(offender)
        for key in sorted(self.unbonding):
            candidate, member, created = key
            due = floor(self.unbonding[key].amount * rate)
            if candidate == offender and created > snapshot and due:
                self._reduce(key, _take(left, due, "unbonding", member, offender))
        for key in sorted(self.moved):
            if key[1] == offender and key[3] > snapshot:
                self._cut_moved(key, rate, left, gone)

    def _cut_moved(self, key, rate, left, gone):
        """Take from stake that moved what is still there, and the rest from what is on its way out of there."""
        moved, (member, _, destination, created) = self.moved[key], key
        pool = self.pools[destination]
        due, wanted = floor(moved.amount * rate), moved.part * rate
        if moved.stale or floor(wanted) > due:
            wanted = Fraction(due)
        found = min(wanted, pool.parts.get(member, Fraction(0)))
        moved.amount -= due
        moved.part -= wanted
        if found:
            cut = _take(left, None, "redelegation", member, destination)
            assert not pool.off(cut, found), f"{cut} of {float(found)} was taken of what {member} moved"
            pool.units -= cut
            self._shrink(destination, member, found, (member, destination) in gone)
        missing = floor(due * (wanted - found) / wanted) if wanted else 0
        for entry in sorted(self.unbonding):
            amount = min(missing, self.unbonding[entry].amount)
            if entry[:2] == (destination, member) and entry[2] >= created and amount:
                cut = _take(left, None, "unbonding", member, destination)
                assert abs(cut - amount) <= 1
                missing -= amount
                if cut:
                    self._reduce(entry, cut)

    def annul(self, number, given):
        """Judge what was given back: all that was taken elsewhere, and to the pool's voters what they lost by it."""
        fault = self.faults[number]
        assert not fault.annulled
        fault.annulled = True
        back = {cut[1]: cut[3] for cut in given if cut[0] == "pool"}
        assert sorted(cut for cut in given if cut[0] != "pool") == sorted(cut for cut in fault.cuts if cut[0] != "pool")
        assert set(back) <= set(fault.lost)
        for member, lost in fault.lost.items():
            amount = back.get(member, 0)
            assert lost - 1 - fault.dust < amount <= lost + fault.dust, f"{member} gets {amount} back of {float(lost)}"
        for _, member, _, amount in given:
            self.treasury -= amount
            self.accounts[member].free += amount


def _take(left, amount, *place):
    """Take the next of the cuts that the ledger made if it is of this place, and of this amount; return its amount."""
    if amount != 0 and left and left[0][:3] == place:
        cut = left.pop(0)[3]
        assert amount in (None, cut), f"{cut} was slashed from {place}: {amount} is due"
        return cut
    assert not amount, f"nothing was slashed from {place}: {amount} is due"
    return 0


def weighted_lower_median(pairs):
    """The smallest value such that those up to it have half of the weight."""
    total = sum(weight for _, weight in pairs)
    enough = [value for value, _ in pairs if 2 * sum(weight for other, weight in pairs if other <= value) >= total]
    return min(enough, default=0)
