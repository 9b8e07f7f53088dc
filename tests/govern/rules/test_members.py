from dataclasses import replace

import pytest

from fedmeta.govern.errors import Refused
from fedmeta.govern.machine.execute import authenticate
from fedmeta.govern.rules import members, proposals, registrations, rounds
from fedmeta.govern.state.records import (
    Candidate,
    Delegation,
    KeyOwner,
    KeyPeriod,
    Member,
    Redelegation,
    Registration,
    Round,
    Term,
    Unbonding,
)
from fedmeta.govern.wire import transactions as tx
from fedmeta.govern.wire.signatures import Key, digest
from tests.govern.playing import RECIPE, key
from tests.govern.small import context, genesis, later, refuses

LEDGER = genesis().digest


def proof(name, new, ledger=LEDGER):
    return new.sign(tx.possession(ledger, name, new.public))


def rotation(name, new, ledger=LEDGER):
    return tx.RotateKey(new.public, proof(name, new, ledger))


def machine_key(name, new, ledger=LEDGER):
    return tx.SetMachineKey(new.public, proof(name, new, ledger))


def member_with(*since):
    keys = tuple(KeyPeriod(digest(bytes([at])), height) for at, height in enumerate(since))
    return Member("ada", "org", True, 0, keys, None, 0, 0, 0, "", "", b"")


def test_a_rotated_key_signs_from_the_next_height_on():
    now = context(height=7)
    new = key("ada-2")
    members.rotate_key(now, "ada", rotation("ada", new))
    member = now.member("ada")
    assert members.key_at(member, 7) == key("ada").public
    assert members.key_at(member, 8) == new.public
    assert now.events[-1].since == 8


def test_a_height_before_the_first_key_has_none():
    assert members.key_at(member_with(3, 9), 3) == digest(bytes([0]))
    with refuses("not-active", "from 3"):
        members.key_at(member_with(3, 9), 2)


def test_one_rotation_a_height():
    now = context(height=7)
    members.rotate_key(now, "ada", rotation("ada", key("ada-2")))
    with refuses("limit-reached"):
        members.rotate_key(now, "ada", rotation("ada", key("ada-3")))
    after = later(now)
    members.rotate_key(after, "ada", rotation("ada", key("ada-3")))
    assert members.key_at(after.member("ada"), 9) == key("ada-3").public


def test_however_often_a_key_is_rotated_the_member_holds_two_at_most_and_owns_them_all():
    now = context(height=1)
    keys = [key("ada"), *(key(f"ada-{at}") for at in range(20))]
    for new in keys[1:]:
        members.rotate_key(now, "ada", rotation("ada", new))
        assert len(now.member("ada").keys) == 2
        now = later(now)
    assert [now.draft.need(KeyOwner, one.public).member for one in keys] == ["ada"] * 21
    assert members.key_at(now.member("ada"), now.height) == keys[-1].public


TAKERS = {"an account": (members.rotate_key, rotation), "a machine": (members.set_machine_key, machine_key)}


@pytest.mark.parametrize("taker", TAKERS)
@pytest.mark.parametrize("owner", ["bern", "ada"])
def test_a_key_is_used_once_by_anyone(owner, taker):
    rule, made = TAKERS[taker]
    with refuses("already-done", owner):
        rule(context(), "ada", made("ada", key(owner)))


@pytest.mark.parametrize("taker", TAKERS)
@pytest.mark.parametrize("given_up", TAKERS)
def test_a_key_that_was_given_up_is_not_free_for_others(given_up, taker):
    now = context(height=7)
    for old in ("ada-2", "ada-3"):
        rule, made = TAKERS[given_up]
        rule(now, "ada", made("ada", key(old)))
        now = later(now)
    rule, made = TAKERS[taker]
    with refuses("already-done", "ada"):
        rule(now, "bern", made("bern", key("ada-2")))


@pytest.mark.parametrize("taker", TAKERS)
@pytest.mark.parametrize(
    "proven",
    [
        proof("bern", key("new")),
        proof("ada", key("new"), ledger=digest(b"another genesis")),
        key("ada").sign(tx.possession(LEDGER, "ada", key("new").public)),
        bytes(64),
    ],
    ids=["for another member", "for another ledger", "by the old key", "none"],
)
def test_a_new_key_must_be_held(proven, taker):
    rule, made = TAKERS[taker]
    with refuses("bad-signature"):
        rule(context(), "ada", replace(made("ada", key("new")), proof=proven))


@pytest.mark.parametrize("taker", TAKERS)
def test_a_key_of_small_order_is_refused(taker):
    rule, made = TAKERS[taker]
    with refuses("bad-value", "small order"):
        rule(context(), "ada", replace(made("ada", key("new")), public=bytes(32), proof=bytes(64)))


# A machine's key


def with_machine(name="ada", height=7):
    now = context(height=height)
    members.set_machine_key(now, name, machine_key(name, key("machine")))
    return now


def test_a_machine_s_key_signs_in_rounds_from_the_next_height_on():
    now = with_machine()
    member = now.member("ada")
    assert members.machine_key_at(member, 7) == key("ada").public
    assert members.machine_key_at(member, 8) == key("machine").public
    assert members.key_at(member, 8) == key("ada").public
    assert now.draft.need(KeyOwner, key("machine").public).member == "ada"
    assert now.events[-1].since == 8


@pytest.mark.parametrize("signer", ["ada", "machine"])
def test_either_key_of_a_member_joins_a_recipe_and_only_the_account_s_does_more(signer):
    now = later(with_machine())
    raw = tx.sign(key(signer), LEDGER, "ada", 0, tx.JoinRecipe(bytes(32)))
    assert authenticate(now, raw).kind == "join-recipe"
    assert now.member("ada").sequence == 1
    more = tx.sign(key(signer), LEDGER, "ada", 1, tx.Claim())
    if signer == "ada":
        assert authenticate(now, more).kind == "claim"
    else:
        with refuses("bad-signature"):
            authenticate(now, more)


def test_one_machine_s_key_a_height_taken_back_or_not():
    now = with_machine()
    for body in (machine_key("ada", key("another")), tx.SetMachineKey(b"", b"")):
        with refuses("limit-reached"):
            members.set_machine_key(now, "ada", body)
    after = later(now)
    members.set_machine_key(after, "ada", tx.SetMachineKey(b"", b""))
    members.set_machine_key(after, "ada", machine_key("ada", key("another")))
    with refuses("limit-reached"):
        members.set_machine_key(after, "ada", tx.SetMachineKey(b"", b""))
    assert after.draft.count(KeyOwner) == context().draft.count(KeyOwner) + 2


def test_without_a_machine_s_key_the_account_s_signs_in_rounds_also_after_it_was_rotated():
    now = context(height=7)
    members.rotate_key(now, "ada", rotation("ada", key("ada-2")))
    assert members.machine_key_at(now.member("ada"), 8) == key("ada-2").public


def test_a_machine_s_key_is_taken_back_and_stays_the_member_s():
    now = later(with_machine())
    members.set_machine_key(now, "ada", tx.SetMachineKey(b"", b""))
    assert members.machine_key_at(now.member("ada"), now.height) == key("ada").public
    assert now.draft.need(KeyOwner, key("machine").public).member == "ada"
    with refuses("bad-value", "no machine key"):
        members.set_machine_key(now, "ada", tx.SetMachineKey(b"", b""))


def test_taking_a_machine_s_key_back_needs_no_proof_and_takes_none():
    with refuses("bad-value"):
        members.set_machine_key(later(with_machine()), "ada", tx.SetMachineKey(b"", bytes(64)))


def test_who_has_left_sets_no_machine_s_key():
    now = context()
    now.draft.put(replace(now.member("ada"), active=False))
    with refuses("not-active"):
        members.set_machine_key(now, "ada", machine_key("ada", key("machine")))


BODIES = (tx.CommitUpdate(1, LEDGER), tx.Seal(1, LEDGER), tx.Hold(1, 1, ()), tx.Attest(1, 1, LEDGER))


@pytest.mark.parametrize("body", [*BODIES, tx.Reveal(1, 1, LEDGER, (), LEDGER)], ids=tx.kind_of)
def test_parts_of_rounds_are_signed_by_the_machine_and_do_not_count_in_the_account(body):
    now = later(with_machine())
    raw = tx.sign(key("machine"), LEDGER, "ada", 7, body)
    assert authenticate(now, raw).sequence == 0
    assert now.member("ada").sequence == 0
    with refuses("bad-signature"):
        authenticate(now, tx.sign(key("ada"), LEDGER, "ada", 0, body))


@pytest.mark.parametrize("body", [tx.Claim(), tx.Undelegate("ada", 1), tx.SetMachineKey(b"", b"")], ids=tx.kind_of)
def test_everything_else_is_signed_by_the_account_alone_and_counted(body):
    now = later(with_machine())
    with refuses("bad-signature"):
        authenticate(now, tx.sign(key("machine"), LEDGER, "ada", 0, body))
    authenticate(now, tx.sign(key("ada"), LEDGER, "ada", 0, body))
    assert now.member("ada").sequence == 1


def test_a_member_that_comes_back_has_no_machine_until_it_says_so():
    now = context(members=("free",))
    members.set_machine_key(now, "free", tx.SetMachineKey(key("m").public, proof("free", key("m"), now.chain.genesis)))
    now = later(now)
    members.leave(now, "free", tx.Leave())
    members.admit(now, "free", "org-free", key("free").public)
    assert now.member("free").machine is None


def test_the_profile_is_what_was_said_last():
    now = context()
    members.set_profile(now, "ada", tx.SetProfile("Ada Hospital", "https://ada.example", b"t" * 32))
    member = now.member("ada")
    assert (member.title, member.address, member.tls) == ("Ada Hospital", "https://ada.example", b"t" * 32)


def test_a_member_without_ties_leaves_and_can_do_nothing_more():
    now = context(members=("free",))
    members.leave(now, "free", tx.Leave())
    assert not now.member("free").active
    assert now.member("free").free == 10_000
    with refuses("not-active"):
        members.set_profile(now, "free", tx.SetProfile("", "", b""))


def propose(now):
    proposals.propose(now, "free", tx.Propose("", {"kind": "remove", "member": "ada"}))


TIES = {
    "stake": lambda now: now.draft.put(Delegation("free", "ada", 5, 0)),
    "on its way out": lambda now: now.draft.put(Unbonding("ada", "free", 1, 41, 0, 5)),
    "moved stake": lambda now: now.draft.put(Redelegation("free", "ada", "bern", 1, 41, 0, 5, 5)),
    "owed 3": lambda now: now.owe("free", 3),
    "proposal": propose,
    "stands for election": lambda now: now.draft.put(replace(now.candidate("ada"), member="free", tokens=0, shares=0)),
}


@pytest.mark.parametrize("reason", TIES)
def test_a_member_with_a_tie_does_not_leave(reason):
    now = context(members=("free",))
    TIES[reason](now)
    with refuses("not-allowed", reason):
        members.leave(now, "free", tx.Leave())


def retired(now):
    now.draft.delete(Delegation, "ada", "ada")
    now.draft.put(replace(now.candidate("ada"), active=False))
    return now


def test_who_holds_a_seat_does_not_leave():
    with refuses("not-allowed", "seat"):
        members.leave(retired(context()), "ada", tx.Leave())


def test_who_holds_a_seat_in_a_live_round_of_an_earlier_term_does_not_leave():
    now = retired(context(members=("free",), contributors=("ada", "bern", "free"), delegations=()))
    rounds.end_block(now)
    for number in (1, 2):
        term = now.draft.need(Term, number)
        now.draft.put(replace(term, seats=tuple(one for one in term.seats if one.candidate != "ada")))
    with refuses("not-allowed", "seat"):
        members.leave(now, "ada", tx.Leave())
    live = now.draft.need(Round, 1)
    now.draft.put(replace(live, phase="void", settled=now.height))
    members.leave(now, "ada", tx.Leave())


@pytest.mark.parametrize("how", ["leaves", "is removed"])
def test_the_registrations_of_who_goes_end(how):
    now = context(members=("free",), contributors=("ada", "free"))
    if how == "leaves":
        members.leave(now, "free", tx.Leave())
    else:
        members.remove(now, "free", 1)
    assert {one.member: one.active for one in now.draft.all(Registration)} == {"ada": True, "free": False}
    assert [one.reason for one in now.events if one.kind == "recipe-left"] == ["no-member"]
    members.admit(now, "free", "org-free", key("free").public)
    assert not now.draft.need(Registration, RECIPE, "org-free").active
    registrations.join(now, "free", tx.JoinRecipe(RECIPE))


def test_an_admitted_member_has_nothing_and_signs_from_the_next_height_on():
    now = context(height=7)
    members.admit(now, "fulda", "org-f", key("fulda").public, "Fulda")
    member = now.member("fulda")
    assert (member.free, member.owed, member.sequence, member.admitted) == (0, 0, 0, 7)
    assert members.key_at(member, 8) == key("fulda").public
    with refuses("not-active"):
        members.key_at(member, 7)


def test_who_comes_back_has_its_account_and_its_sequence():
    now = context(members=("free",))
    now.draft.put(replace(now.member("free"), sequence=9))
    members.leave(now, "free", tx.Leave())
    now = later(now, 5)
    with refuses("not-allowed", "org-free"):
        members.admit(now, "free", "another", key("free-2").public)
    members.admit(now, "free", "org-free", key("free-2").public)
    member = now.member("free")
    assert (member.active, member.sequence, member.free, member.title) == (True, 9, 10_000, "Free")
    assert members.key_at(member, 6) == key("free").public
    assert members.key_at(member, 7) == key("free-2").public


def test_who_comes_back_may_keep_its_key():
    now = context(members=("free",))
    members.leave(now, "free", tx.Leave())
    members.admit(now, "free", "org-free", key("free").public)
    assert members.key_at(now.member("free"), 1) == key("free").public


def test_a_present_member_or_a_used_key_is_not_admitted():
    with refuses("already-done", "ada is a member"):
        members.admit(context(), "ada", "org-ada", key("new").public)
    with refuses("already-done", "ada"):
        members.admit(context(), "new", "org-new", key("ada").public)


def test_a_removed_candidate_loses_its_seat_but_not_its_stake():
    now = context()
    members.remove(now, "ada", 4)
    assert not now.member("ada").active
    assert not now.draft.need(Candidate, "ada").active
    assert now.draft.get(Delegation, "ada", "ada") is None
    assert [one.amount for one in now.draft.where(Unbonding, "member", "ada")] == [1_000]
    assert all(seat.candidate != "ada" for seat in now.term.seats)
    assert {"candidate-retired", "member-removed"} <= {event.kind for event in now.events}
    assert now.draft.need(Delegation, "evora", "ada").shares > 0
    with refuses("not-active"):
        members.remove(now, "ada", 5)


def test_keys_are_never_shared_whatever_is_tried():
    now = context(height=3)
    tried = [key("ada"), key("new"), key("new"), key("bern")]
    for name in ("ada", "bern", "cork"):
        for new in tried:
            try:
                members.rotate_key(now, name, rotation(name, new))
            except Refused:
                continue
    owners = {}
    for member in now.draft.all(Member):
        for period in member.keys:
            assert owners.setdefault(period.public, member.name) == member.name
            assert now.draft.need(KeyOwner, period.public).member == member.name


def test_a_fresh_key_can_always_be_taken():
    now = context()
    members.rotate_key(now, "ada", rotation("ada", Key.generate()))
