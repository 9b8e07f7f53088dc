"""What an attacker does and what it has: forged transactions, faults of its own, all its units."""

from functools import cache

from fedmeta.govern.rules import faults
from fedmeta.govern.rules.election import powers
from fedmeta.govern.rules.stake import value_of
from fedmeta.govern.state.records import Candidate, Delegation, Member, Proposal, Unbonding
from fedmeta.govern.wire import codec
from fedmeta.govern.wire import transactions as tx
from fedmeta.govern.wire.events import TransactionRefused
from fedmeta.govern.wire.signatures import digest
from tests.govern.playing import federation

TRUTH, LIE = digest(b"the truth"), digest(b"a lie")


def pool(play, name):
    return play.state.need(Candidate, name)


def worth(play, member, candidate):
    found = play.state.get(Delegation, member, candidate)
    return value_of(pool(play, candidate), found.shares) if found else 0


def wealth(play, name):
    """Return all units that a member has, wherever they are, but rewards that are not settled."""
    state = play.state
    staked = sum(worth(play, name, one.candidate) for one in state.where(Delegation, "member", name))
    leaving = sum(one.amount for one in state.where(Unbonding, "member", name))
    deposits = sum(one.deposit for one in state.where(Proposal, "status", "voting") if one.proposer == name)
    return state.need(Member, name).free + state.need(Member, name).owed + staked + leaving + deposits


def prove(play, offender, kind="double-signature", infraction=1, term=1, round=0):
    """Prove a fault in a block of its own."""
    play.by_hand(lambda context: faults.prove(context, offender, kind, term, infraction, round))


def rotation(name, new, genesis=None):
    """Return the change to a new key, on the ledger of a genesis, by default of the plain federation."""
    return tx.RotateKey(new.public, new.sign(tx.possession((genesis or federation()).digest, name, new.public)))


def rotate(play, name, new):
    play.must((name, rotation(name, new, play.genesis)))
    play.keys[name] = new


def signed(content, signer):
    """Return a transaction of any content, whether the schema allows it or not."""
    message = b"fedmeta transaction\0" + codec.encode(content)
    return codec.encode([*content, signer.sign(message)])


def codes(events):
    return [one.code for one in events if isinstance(one, TransactionRefused)]


DISTRIBUTIONS = {
    "four alike": [1_000] * 4,
    "three large and one small": [3_300, 3_300, 3_300, 100],
    "five falling": [3_000, 2_500, 2_000, 1_500, 1_000],
    "seven alike": [1_000] * 7,
    "seven falling": [10_000, 7_000, 4_900, 3_430, 2_401, 1_680, 1_176],
    "ten of all sizes": [3_290, 3_280, 900, 800, 600, 500, 300, 200, 100, 30],
    "sixteen alike": [1_000] * 16,
    "sixteen falling": [100_000 * 4**at // 5**at for at in range(16)],
    "sixty-four alike": [1_000] * 64,
}
"""Weights of the seats of a term."""


def powers_of(name):
    return tuple(powers(DISTRIBUTIONS[name], 330_000))


@cache
def dishonest(held):
    """Return which seats an attacker takes that has as much as it can, and less than a third of the power."""
    if len(held) > 16:
        return tuple(range((len(held) - 1) // 3))
    best = max(
        (one for one in range(1 << len(held)) if 3 * _sum(held, one) < sum(held)), key=lambda one: _sum(held, one)
    )
    return tuple(at for at in range(len(held)) if best >> at & 1)


def _sum(held, chosen):
    return sum(power for at, power in enumerate(held) if chosen >> at & 1)
