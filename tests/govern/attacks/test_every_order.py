"""One round in all its courses: four seats, three contributors, every order of messages, one dishonest seat.

The search goes through the rules themselves. A state is left by any transaction that somebody may send, or because the
phase's window closes; whether a message comes, and when, is anybody's choice. Honest seats hold what has been delivered
to them, commit to what is right, and open it, or are cut off; the dishonest one does what it likes. What a seat has not
said yet, it may say at any later time of the phase, so that all orders are covered by all sets.
"""

from functools import cache
from itertools import permutations

from fedmeta.govern.errors import Refused
from fedmeta.govern.machine.execute import RULES
from fedmeta.govern.rules import rounds
from fedmeta.govern.rules.context import Context
from fedmeta.govern.rules.round_phases import window
from fedmeta.govern.state.records import Attestation, Fault, Hold, Round
from fedmeta.govern.wire import transactions as tx
from fedmeta.govern.wire.signatures import digest
from tests.examples import TIMES, in_soak
from tests.govern.playing import Play

SEATS = ("ann", "bob", "cat", "dan")
LIAR, HONEST = SEATS[0], SEATS[1:]
CONTRIBUTORS = ("hal", "ivy", "joy")
RIGHT, WRONG = digest(b"right"), digest(b"wrong")
SCORES = (333_333, 333_333, 333_333)


def begun():
    """Return the chain with the three commitments made; each seat has a quarter of the power."""
    play = Play(stakes=dict.fromkeys(SEATS, 5_000), contributors=CONTRIBUTORS, standbys=0)
    play.to_deliver()
    return play


PLAY = begun()
GENESIS, NUMBER = PLAY.genesis.digest, PLAY.chain.round


def round_of(state):
    return state.need(Round, NUMBER)


def holds(state):
    return {one.candidate: one.members for one in state.where(Hold, "round", NUMBER)}


def attestations(state):
    return {one.candidate: one for one in state.where(Attestation, "round", NUMBER)}


def opening(name, attempt, result):
    return tx.Reveal(NUMBER, attempt, result, SCORES, digest(f"salt {name} {result.hex()}".encode()))


def commitment(name, attempt, result):
    one = opening(name, attempt, result)
    return tx.commitment(GENESIS, NUMBER, attempt, name, one.result, one.scores, one.salt)


def moves(state):
    """Yield who may send what in a state."""
    round, said = round_of(state), attestations(state)
    if round.phase == "deliver":
        for name in SEATS:
            for member in CONTRIBUTORS:
                if member not in holds(state).get(name, ()):
                    yield name, tx.Hold(NUMBER, round.attempt, (member,))
    elif round.phase == "compute":
        for name in HONEST:
            if name not in said:
                yield name, tx.Attest(NUMBER, round.attempt, commitment(name, round.attempt, RIGHT))
        if LIAR not in said:
            # A result of its own, the right one, and another seat's commitment as its own.
            for name, result in ((LIAR, WRONG), (LIAR, RIGHT), (HONEST[0], RIGHT)):
                yield LIAR, tx.Attest(NUMBER, round.attempt, commitment(name, round.attempt, result))
    elif round.phase == "reveal":
        for name, one in said.items():
            if not one.revealed:
                for result in (RIGHT, WRONG) if name == LIAR else (RIGHT,):
                    yield name, opening(name, round.attempt, result)
                if name == LIAR:
                    yield name, opening(HONEST[0], round.attempt, RIGHT)


def sent(state, name, body):
    """Return the state with a transaction, or None if it is refused; nothing else of the block happens."""
    context = Context(state, state_height(state), PLAY.state.time)
    try:
        RULES[type(body)](context, name, body)
    except Refused:
        return None
    return context.draft.finish()


def state_height(state):
    round = round_of(state)
    return round.opened + 1


def closed(state):
    """Return the state at the end of the block with which the phase's window closes."""
    round = round_of(state)
    height = round.opened + window(round).blocks
    context = Context(state, height, PLAY.state.time)
    rounds.end_block(context)
    return context.draft.finish()


def key(state):
    """Return all of a state that what may come of it depends on.

    Honest seats have equal power, and contributors nothing that tells them apart: which of them is which makes no
    difference. `make soak` takes none of this for granted.
    """
    round, held = round_of(state), holds(state)
    said = {
        name: (one.commitment if name == LIAR else b"", bool(one.revealed)) for name, one in attestations(state).items()
    }
    if TIMES:
        return round.phase, round.attempt, round.members, tuple(held.items()), tuple(said.items())
    if round.phase == "deliver":
        alike = min(
            (
                tuple(sorted(order[one] for one in held.get(LIAR, ()))),
                tuple(sorted(tuple(sorted(order[one] for one in held.get(name, ()))) for name in HONEST)),
            )
            for order in ORDERS
        )
    else:
        alike = said.get(LIAR), tuple(sorted((name in said, said.get(name)) for name in HONEST))
    return round.phase, round.attempt, len(round.members), alike


ORDERS = [dict(zip(CONTRIBUTORS, order, strict=True)) for order in permutations(range(len(CONTRIBUTORS)))]


@cache
def explored():
    """Return every state that can be reached, each once."""
    start = PLAY.state
    seen, found, waiting = {key(start)}, [], [start]
    while waiting:
        state = waiting.pop()
        found.append(state)
        if round_of(state).settled:
            continue
        following = [sent(state, name, body) for name, body in moves(state)]
        for one in (*following, closed(state)):
            if one is not None and key(one) not in seen:
                seen.add(key(one))
                waiting.append(one)
    return found


def to_the_end(state):
    """Return the state once every honest seat has done all it can, as when the network is whole again."""
    for _ in range(20):
        round = round_of(state)
        if round.settled:
            return state
        for name, body in list(moves(state)):
            if name in HONEST:
                state = sent(state, name, body) or state
        state = closed(state)
    raise AssertionError("the round never ends")


def test_whatever_comes_in_whatever_order_honest_seats_agree_and_none_is_punished():
    phases, outcomes = set(), set()
    for state in explored():
        round, said = round_of(state), attestations(state)
        phases.add((round.attempt, round.phase))
        # No framing: whoever is at fault has opened another result than the final one, and no honest seat has.
        assert {one.offender for one in state.all(Fault)} <= {LIAR}
        if round.phase in ("compute", "reveal"):
            # Whatever others claim, an honest seat holds what is in, and can give it to the rest.
            held = holds(state)
            assert all(any(one in held.get(name, ()) for name in HONEST) for one in round.members)
        if not round.settled:
            continue
        outcomes.add((round.phase, round.attempt))
        if round.phase == "final":
            # Validity: what is final, honest seats have computed. Agreement: the liar has not opened another for free.
            assert round.result == RIGHT
            opened = said[LIAR].result if LIAR in said and said[LIAR].revealed else RIGHT
            assert [one.offender for one in state.all(Fault)] == ([LIAR] if opened == WRONG else [])
        else:
            assert not state.all(Fault)
    assert phases >= {(attempt, phase) for attempt in (1, 2, 3) for phase in ("deliver", "compute", "reveal")}
    assert outcomes == {("final", 1), ("final", 2), ("final", 3), ("void", 3)}


@in_soak
def test_once_the_network_is_whole_every_course_ends_in_the_right_result():
    for state in explored():
        round = round_of(state)
        if not round.settled:
            # Whom the last attempt has not had to commit in time, it cannot have to reveal.
            assert round_of(to_the_end(state)).phase == "final" or (round.attempt, round.phase) == (3, "reveal")
