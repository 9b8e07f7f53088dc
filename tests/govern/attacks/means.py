"""What an attacker does and what it has: forged transactions, faults of its own, all its units."""

from fedmeta.govern.rules import faults
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
