"""What the ledger has of a node's own words and its journal lacks ends it; what a recovery explains does not."""

from dataclasses import replace

import pytest

from fedmeta.govern.state.records import Attestation, Round, Seal, Update
from fedmeta.govern.wire import transactions as tx
from fedmeta.node.reducer import Memory, View, step
from fedmeta.node.reducer.actions import Halt
from fedmeta.node.reducer.events import Seen, Start
from fedmeta.node.reducer.history import ADVICE, forgotten
from fedmeta.node.reducer.promises import ResultPromise, SealPromise, Silence, Started, UpdatePromise

GENESIS, SALT, CONTENT, RESULT, HEADER = (bytes([number]) * 32 for number in range(1, 6))
NUMBER, ATTEMPT, SCHEDULED = 7, 2, 500
UPDATE = UpdatePromise(NUMBER, b"m" * 32, CONTENT, 100, SALT)
SEAL = SealPromise(NUMBER, HEADER)
RESULT_OF = ResultPromise(NUMBER, ATTEMPT, ("a", "me"), RESULT, (3, 0), SALT)
KEPT = (Started(1), UPDATE, SEAL, RESULT_OF)


def round_(**changed):
    usual = {
        "number": NUMBER,
        "recipe": b"r" * 32,
        "model": b"m" * 32,
        "term": 1,
        "pool": 0,
        "cohort": (),
        "seats": (),
        "windows": (),
        "stretch": 0,
        "attempt": ATTEMPT,
        "phase": "reveal",
        "scheduled": SCHEDULED,
        "opened": SCHEDULED + 3,
        "opened_time": 0,
        "committed": SCHEDULED + 1,
        "smallest": 3,
        "exposed": False,
        "seen": True,
        "members": ("a", "me"),
        "result": b"",
        "settled": 0,
    }
    return Round(**{**usual, **changed})


def update(promise=UPDATE, round=NUMBER):
    digest = tx.update_digest(GENESIS, promise.round, "me", promise.salt, promise.content)
    return Update(round, "me", "org", digest, promise.round, SCHEDULED, False)


def attestation(promise=RESULT_OF):
    said = tx.commitment(GENESIS, NUMBER, ATTEMPT, "me", promise.result, promise.scores, promise.salt)
    return Attestation(NUMBER, "me", SCHEDULED + 4, said, 0, b"", (), b"")


def view(height=SCHEDULED + 5, round=None, **said):
    words = {name: {} if one is None else {"me": one, "a": one} for name, one in said.items()}
    return View(
        genesis=GENESIS,
        height=height,
        time=0,
        me="me",
        organisation="org",
        round=round or round_(),
        previous=None,
        opened_before=frozenset(),
        committed_before=False,
        closes=0,
        closing=HEADER,
        **{"updates": {}, "seals": {}, "attestations": {}, **words},
        holds={},
        recipes={},
        registrations={},
        peers={},
        seated=frozenset(),
    )


WORDS = {
    "updates": update(),
    "seals": Seal(NUMBER, "me", HEADER, bytes(32)),
    "attestations": attestation(),
}
NAMES = {"updates": "an update", "seals": "a seal", "attestations": "a result"}
PROMISES = {"updates": UPDATE, "seals": SEAL, "attestations": RESULT_OF}
OTHERS = {
    "updates": update(replace(UPDATE, salt=CONTENT)),
    "seals": Seal(NUMBER, "me", RESULT, bytes(32)),
    "attestations": attestation(replace(RESULT_OF, salt=CONTENT)),
}


def seen(promises, shown):
    """Return what a node does that starts with a journal and sees the ledger."""
    memory, _ = step(Memory("me"), Start(2, tuple(promises), frozenset(), frozenset(), ()))
    return step(memory, Seen(shown))


def halts(promises, shown):
    return [one.duty.why for one in seen(promises, shown)[1] if isinstance(one.duty, Halt)]


def test_a_journal_with_every_word_that_the_ledger_has_is_gone_on_from():
    assert halts(KEPT, view(**WORDS)) == []


@pytest.mark.parametrize("name", WORDS)
def test_a_word_that_the_journal_lacks_ends_the_node_and_says_what_to_do(name):
    (why,) = halts([one for one in KEPT if one != PROMISES[name]], view(**WORDS))
    assert f"{NAMES[name]} of round {NUMBER}" in why
    assert why.endswith(ADVICE)
    assert "fedmeta node recover" in ADVICE


@pytest.mark.parametrize("name", WORDS)
def test_another_word_than_the_journals_ends_it_too(name):
    (why,) = halts(KEPT, view(**{**WORDS, name: OTHERS[name]}))
    assert NAMES[name] in why


def test_it_does_nothing_any_more_once_it_has_halted():
    memory, actions = seen((Started(1),), view(**WORDS))
    assert [type(one.duty) for one in actions] == [Halt]
    assert memory.halted
    _, after = step(memory, Seen(view(height=SCHEDULED + 50, round=round_(number=NUMBER + 1))))
    assert not [one for one in after if not isinstance(one.duty, Halt)]


def test_a_promise_of_another_attempt_is_none():
    other = replace(RESULT_OF, attempt=ATTEMPT - 1)
    assert halts((Started(1), UPDATE, SEAL, other), view(**WORDS))


@pytest.mark.parametrize(("until", "ends"), [(SCHEDULED + 1, False), (SCHEDULED, True), (0, True)])
def test_words_of_a_round_that_began_before_the_silence_ended_are_the_machines_before(until, ends):
    assert bool(halts((Silence(until), Started(1)), view(**WORDS))) is ends


def test_nothing_is_said_of_it_during_the_silence():
    assert halts((Silence(SCHEDULED + 100), Started(1)), view(height=SCHEDULED + 50, **WORDS)) == []


def test_an_update_that_a_void_round_left_over_is_no_sign_after_a_recovery():
    before = replace(UPDATE, round=NUMBER - 1)
    carried = view(updates=update(before, NUMBER))
    assert halts((Silence(SCHEDULED - 10), Started(1)), carried) == []
    assert halts((Started(1), before), carried) == []
    assert halts((Started(1),), carried)


def test_before_the_first_round_there_is_nothing_to_miss():
    assert forgotten(Memory("me"), replace(view(), round=None)) == ""
