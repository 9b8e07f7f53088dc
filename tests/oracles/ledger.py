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

COSTS = {
    "two-manifests": "slash_equivocation",
    "false-result": "slash_false_result",
    "withheld-reveal": "slash_withheld_reveal",
    "left-out": "slash_left_out",
    "missed-duties": "slash_missed_duties",
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
class Moved:
    completes: int
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


class Economy:
    def __init__(self, treasury, parameters):
        self.treasury = treasury
        self.parameters = dict(parameters)
        self.height = 0
        self.accounts: dict[str, Account] = {}
        self.pools: dict[str, Pool] = {}
        self.unbonding: dict[tuple, list[int]] = {}
        """(candidate, member, created) to when it is paid, and how much."""
        self.moved: dict[tuple, Moved] = {}
        """By (member, source, destination, created)."""
        self.faults: dict[int, Fault] = {}
        self.challenges: dict[int, tuple[str, int]] = {}
        """The accused, and the height at which it closes, of those that are open."""
        self.deposits: dict[tuple, tuple[str, int]] = {}

    def admit(self, member, organisation, free):
        self.accounts[member] = Account(organisation, free)

    def register(self, candidate, commission):
        """Stand for election, or change the commission."""
        self.pools.setdefault(candidate, Pool(commission)).commission = commission

    def deposit(self, member, purpose, amount):
        self.accounts[member].free -= amount
        self.deposits[purpose] = member, amount

    def release(self, purpose, lost):
        """Give a deposit back, or to the treasury if it is lost."""
        member, amount = self.deposits.pop(purpose)
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
        entry = self.unbonding.setdefault((candidate, member, self.height), [0, 0])
        entry[0] = self._answers_until(candidate)
        entry[1] += amount

    def _answers_until(self, candidate):
        """Return until when stake that leaves a candidate answers for it."""
        closes = [height for accused, height in self.challenges.values() if accused == candidate]
        return max([self.height + self.parameters["unbonding_period"], *closes])

    def redelegate(self, member, source, destination, amount, everything):
        self._leave(member, source, amount, everything)
        self._enter(member, destination, amount)
        entry = self.moved.setdefault((member, source, destination, self.height), Moved(0, 0, Fraction(0)))
        entry.completes = self._answers_until(source)
        entry.amount += amount
        entry.part += amount

    def cancel(self, member, candidate, created, amount):
        self._reduce((candidate, member, created), amount)
        self._enter(member, candidate, amount)

    def _reduce(self, key, amount):
        assert 0 < amount <= self.unbonding[key][1]
        self.unbonding[key][1] -= amount
        if not self.unbonding[key][1]:
            del self.unbonding[key]

    def drop(self, member, candidate):
        """Let a member leave a pool in which it has less than a unit."""
        self._leave(member, candidate, 0, True)

    def mature(self, candidate, member, created):
        """Pay stake whose time is over."""
        completes, amount = self.unbonding.pop((candidate, member, created))
        assert completes == self.height
        self.accounts[member].free += amount

    def end_block(self):
        """Nothing that is due may be left."""
        assert all(completes > self.height for completes, _ in self.unbonding.values())
        self.moved = {key: one for key, one in self.moved.items() if one.completes > self.height}

    # Rewards.

    def owe(self, member, amount):
        self.accounts[member].owed += amount

    def pay(self, leader, powers, reveals, contributors):
        """Share the pool of a final round.

        Args:
            leader: Who posted the manifest.
            powers: Of those who have seats.
            reveals: The scores that each of those who revealed the round's result revealed.
            contributors: Whose updates are in the manifest, in the order of the scores.
        """
        share = self.parameters
        pool = min(share["round_pool"], self.treasury)
        for_contributors = pool * share["contributor_share"] // MILLION
        for_super_nodes = pool * share["super_node_share"] // MILLION
        scores = [
            weighted_lower_median([(reveals[name][at], powers[name]) for name in powers if name in reveals])
            for at in range(len(contributors))
        ]
        for name, score in zip(contributors, scores, strict=True):
            if sum(scores):
                self._spend(for_contributors * score // sum(scores), name)
        points = {name: (name in reveals) + share["leader_points"] * (name == leader) for name in powers}
        for name, point in points.items():
            if point:
                self._pay_pool(name, for_super_nodes * point // sum(points.values()))

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

    def slash(self, number, offender, kind, term, snapshot, reporter, cuts, gone):
        """Judge a slash and take it over.

        Args:
            number: Of the fault.
            offender: Who did it.
            kind: One of `COSTS`.
            term: The term of its round.
            snapshot: The height at which that term was elected: stake that was there then answers for it.
            reporter: Who is to have a part; empty if the ledger saw it itself.
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
        amount = sum(cut[3] for cut in cuts)
        reward = 0
        if reporter and self.accounts[reporter].organisation != self.accounts[offender].organisation:
            share = self.parameters["reporter_share"], self.parameters["reporter_cap"]
            reward = min(amount * share[0] // MILLION, share[1])
            self.owe(reporter, reward)
        self.treasury += amount - reward

    def _cut(self, offender, snapshot, rate, left, gone):
        pool = self.pools[offender]
        cut = _take(left, floor(pool.units * rate), "pool", "", offender)
        pool.units -= cut
        self._fit(offender)
        for key in sorted(self.unbonding):
            candidate, member, created = key
            due = floor(self.unbonding[key][1] * rate)
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
            amount = min(missing, self.unbonding[entry][1])
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
