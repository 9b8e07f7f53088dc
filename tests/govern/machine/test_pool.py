"""What waits is judged after each block as if it came anew, however little of it is executed again."""

from random import Random

import pytest

from fedmeta.govern.machine import pool as pools
from fedmeta.govern.machine.application import Application
from fedmeta.govern.machine.genesis import start
from fedmeta.govern.state.records import Member
from fedmeta.govern.wire import transactions as tx
from fedmeta.govern.wire.block import Block
from tests.govern.playing import TIME, federation, key

GENESIS = federation()


def begin():
    return Application(start(GENESIS).state)


def sign(name, sequence, body=None):
    return tx.sign(key(name), GENESIS.digest, name, sequence, body or tx.Delegate("ann", 1))


def propose(app, *raws, later=0):
    """Let the application vote for the next block, and look ahead."""
    block = Block(app.height + 1, TIME + app.height + later, raws)
    assert app.process(block)
    app.look_ahead()
    return block


def decide(app, block):
    found = app.finalize(block)
    app.look_ahead()
    app.commit()
    return found


def pending(app):
    """Return what all that waits changes, and how much of each member's waits."""
    context = app._pool._begun()
    changes = context.draft.finish().changes
    return changes, {name: count for name, count in app._pool._counts.items() if count}, context.height, context.time


def code(refusal):
    return "" if refusal is None else refusal.code


@pytest.fixture
def executed(monkeypatch):
    """The transactions that the pool executes, in order."""
    found, whole = [], pools.attempt
    monkeypatch.setattr(pools, "attempt", lambda context, at, raw: found.append(raw) or whole(context, at, raw))
    return found


def test_what_passed_after_the_block_that_was_awaited_is_not_executed_again(executed):
    app = begin()
    first, left, late = sign("hal", 0), sign("ivy", 0), sign("joy", 0)
    assert app.check_tx(first) is app.check_tx(left) is None
    block = propose(app, first)
    assert app.check_tx(late) is None
    assert executed == [first, left, left, late]
    decide(app, block)
    assert app.check_tx(left, again=True) is app.check_tx(late, again=True) is None
    assert app.check_tx(sign("ivy", 1)) is None
    assert executed[4:] == [sign("ivy", 1)]
    assert app.check_tx(left).code == app.check_tx(late).code == app.check_tx(first).code == "stale-sequence"


def test_what_a_block_makes_impossible_is_refused_as_soon_as_it_is_checked_again():
    app = begin()
    everything = app.state.need(Member, "hal").free
    rest = sign("hal", 1, tx.Delegate("ann", everything - 1))
    assert app.check_tx(sign("hal", 0)) is app.check_tx(rest) is None
    block = propose(app, sign("hal", 0, tx.Delegate("ann", 2)))
    follows = sign("hal", 2)
    assert app.check_tx(follows).code == "future-sequence"
    decide(app, block)
    assert app.check_tx(sign("hal", 0), again=True).code == "stale-sequence"
    assert app.check_tx(rest, again=True).code == "insufficient-funds"
    assert app.check_tx(sign("hal", 1)) is None


def test_what_comes_late_and_is_in_the_block_that_is_awaited_passes_and_waits_if_that_is_not_decided():
    app = begin()
    late, other = sign("hal", 0), sign("ivy", 0)
    propose(app, late)
    assert app.check_tx(late) is None
    assert app.check_tx(sign("hal", 1)) is None
    assert app.check_tx(late).code == "stale-sequence"
    decide(app, propose(app, other, later=1))
    assert app.check_tx(late, again=True) is None
    assert app.check_tx(sign("hal", 1), again=True) is None
    assert app.check_tx(sign("hal", 2)) is None
    assert app.check_tx(other).code == "stale-sequence"


def test_nothing_counts_on_what_has_left_the_engines_pool(executed):
    app = begin()
    raws = [sign("hal", at) for at in range(4)]
    assert [app.check_tx(raw) for raw in raws[:3]] == [None] * 3
    block = propose(app, raws[0])
    assert app.check_tx(raws[3]) is None
    decide(app, block)
    # The engine had no room for the second one.
    assert code(app.check_tx(raws[2], again=True)) == code(app.check_tx(raws[3], again=True)) == "future-sequence"
    assert app.check_tx(raws[1]) is None
    decide(app, propose(app, raws[1]))
    assert app.check_tx(sign("ivy", 0)) is None
    block = propose(app, raws[2])
    assert app.check_tx(sign("ivy", 1)) is None
    decide(app, block)
    # Nor for the last ones, and none is left to be checked again.
    assert app.check_tx(sign("ivy", 0)) is None
    assert executed[-1] == sign("ivy", 0)


def test_a_block_that_was_not_awaited_leaves_nothing_of_what_was_judged_after_another_one():
    app = begin()
    assert app.check_tx(sign("hal", 0)) is None
    propose(app, sign("hal", 0))
    assert app.check_tx(sign("hal", 1)) is None
    app.finalize(Block(1, TIME, (sign("hal", 0, tx.Delegate("bob", 5)),)))
    app.commit()
    assert app.check_tx(sign("hal", 0), again=True).code == "stale-sequence"
    assert app.check_tx(sign("hal", 1), again=True) is None


class Both:
    """An engine's pool before two applications: one looks ahead, the other executes everything after each block."""

    def __init__(self, seed):
        self.chance = Random(seed)
        self.ahead, self.plain = begin(), begin()
        self.waits = []
        self.seen = set()
        """The codes with which what waited was refused."""

    def some(self, here=True):
        """Return a transaction that may be good, or come too early or late, or want more than there is.

        Where it is not from here, it knows nothing of what waits here.
        """
        chance, name = self.chance, self.chance.choice(("hal", "ivy", "joy"))
        member = self.ahead.state.need(Member, name)
        mine = sum(tx.decode(raw).member == name for raw in self.waits) if here else 0
        number = max(member.sequence + mine + chance.choice((0, 0, 0, 0, 0, 1, -1)), 0)
        body = chance.choice((tx.Delegate, tx.Delegate, tx.Undelegate))
        return sign(
            name, number, body(chance.choice(("ann", "bob")), chance.choice((1, 7, member.free // 2 + 1, member.free)))
        )

    def submit(self, *apps):
        """Hand some transactions to the first application, and to the others, which must say the same."""
        for raw in (self.some() for _ in range(self.chance.randrange(7))):
            if raw not in self.waits:
                (found,) = {code(app.check_tx(raw)) for app in apps}
                if not found:
                    self.waits.append(raw)

    def block(self):
        """Return a block of a part of what waits, or of that and another node's."""
        some = [raw for raw in self.waits if self.chance.random() < 0.6]
        at = Block(self.plain.height + 1, TIME + self.plain.height + self.chance.randrange(2))
        more = [self.some(here=False) for _ in range(self.chance.randrange(3))]
        chosen = begin_at(self.plain).prepare(at, [*more, *some]).transactions
        return Block(at.height, at.time, chosen)

    def step(self):
        chance = self.chance
        self.submit(self.ahead, self.plain)
        for _ in range(chance.randrange(3)):
            assert self.ahead.process(self.block())
            self.ahead.look_ahead()
            self.submit(self.ahead)
        block = self.block()
        assert self.ahead.finalize(block) == self.plain.finalize(block)
        self.ahead.look_ahead()
        self.submit(self.ahead)
        self.ahead.commit()
        self.plain.commit()
        self.waits = [raw for raw in self.waits if raw not in block.transactions and chance.random() < 0.95]
        self.plain.recheck(())
        due = {}
        for raw in self.waits:
            due[raw] = code(self.plain.check_tx(raw))
            assert code(self.ahead.check_tx(raw, again=True)) == due[raw]
        self.seen |= {found for found in due.values() if found}
        self.waits = [raw for raw in self.waits if not due[raw]]
        if self.chance.random() < 0.5:
            assert self.ahead.check_tx(b"").code == self.plain.check_tx(b"").code
            self.submit(self.ahead, self.plain)
            assert pending(self.ahead) == pending(self.plain)


def begin_at(app):
    """Return an application with the state of another one."""
    return Application(app.state.load(app.state.dump(), app.height, app.time))


def test_whatever_is_proposed_and_decided_all_that_waits_is_judged_as_if_it_came_after_the_block():
    codes = set()
    for seed in range(5):
        both = Both(seed)
        for _ in range(15):
            both.step()
        codes |= both.seen
    assert codes >= {"stale-sequence", "future-sequence", "insufficient-funds"}
