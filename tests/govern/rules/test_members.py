from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmeta.govern.errors import Refused
from fedmeta.govern.rules import members, proposals
from fedmeta.govern.state.records import (
    Candidate,
    Challenge,
    Delegation,
    KeyOwner,
    KeyPeriod,
    Member,
    Redelegation,
    Unbonding,
)
from fedmeta.govern.wire import transactions as tx
from fedmeta.govern.wire.signatures import Key, digest
from tests.govern.playing import CHAIN, key
from tests.govern.small import context, later, refuses


def rotation(name, new, chain_id=CHAIN):
    return tx.RotateKey(new.public, new.sign(tx.possession(chain_id, name, new.public)))


def member_with(*since):
    keys = tuple(KeyPeriod(digest(bytes([at])), height) for at, height in enumerate(since))
    return Member("ada", "org", True, 0, keys, 0, 0, 0, "", "", b"")


def test_a_rotated_key_signs_from_the_next_height_on():
    now = context(height=7)
    new = key("ada-2")
    members.rotate_key(now, "ada", rotation("ada", new))
    member = now.member("ada")
    assert members.key_at(member, 7) == key("ada").public
    assert members.key_at(member, 8) == new.public
    assert now.events[-1].since == 8


def test_a_height_before_the_first_key_has_none():
    with refuses("not-active", "from 3"):
        members.key_at(member_with(3, 9), 2)


@given(st.lists(st.integers(1, 12), unique=True, min_size=1, max_size=5), st.integers(0, 14), st.integers(0, 14))
def test_the_keys_of_a_span_are_those_of_its_heights(since, first, last):
    member = member_with(*sorted(since))
    found = []
    for height in range(first, last + 1):
        try:
            found.append(members.key_at(member, height))
        except Refused:
            continue
    assert members.keys_between(member, first, last) == tuple(dict.fromkeys(found))


def test_one_rotation_a_height():
    now = context(height=7)
    members.rotate_key(now, "ada", rotation("ada", key("ada-2")))
    with refuses("limit-reached"):
        members.rotate_key(now, "ada", rotation("ada", key("ada-3")))
    after = later(now)
    members.rotate_key(after, "ada", rotation("ada", key("ada-3")))
    assert members.keys_between(after.member("ada"), 1, 9) == tuple(
        key(one).public for one in ("ada", "ada-2", "ada-3")
    )


@pytest.mark.parametrize("owner", ["bern", "ada"])
def test_a_key_is_used_once_by_anyone(owner):
    with refuses("already-done", owner):
        members.rotate_key(context(), "ada", rotation("ada", key(owner)))


def test_a_key_that_was_given_up_is_not_free_for_others():
    now = context(height=7)
    members.rotate_key(now, "ada", rotation("ada", key("ada-2")))
    with refuses("already-done", "ada"):
        members.rotate_key(later(now), "bern", rotation("bern", key("ada")))


@pytest.mark.parametrize(
    "body",
    [
        rotation("bern", key("new")),
        rotation("ada", key("new"), chain_id="other"),
        tx.RotateKey(key("new").public, key("ada").sign(tx.possession(CHAIN, "ada", key("new").public))),
    ],
    ids=["for another member", "for another chain", "by the old key"],
)
def test_a_new_key_must_be_held(body):
    with refuses("bad-signature"):
        members.rotate_key(context(), "ada", body)


def test_a_key_of_small_order_is_refused():
    with refuses("bad-value", "small order"):
        members.rotate_key(context(), "ada", tx.RotateKey(bytes(32), bytes(64)))


def test_keys_are_kept_while_evidence_lives_and_forgotten_after():
    now = context(height=1)
    for step in range(members.MAX_KEYS - 1):
        members.rotate_key(now, "ada", rotation("ada", key(f"ada-{step}")))
        now = later(now)
    with refuses("limit-reached", "16 keys"):
        members.rotate_key(now, "ada", rotation("ada", key("one too many")))
    assert members.key_at(now.member("ada"), 1) == key("ada").public
    # The first key's last height was 1: with an unbonding period of 2,200, nothing can be proven of it from 2,202 on.
    now = later(now, blocks=2_202 - now.height)
    members.rotate_key(now, "ada", rotation("ada", key("in its place")))
    assert key("ada").public not in [period.public for period in now.member("ada").keys]
    assert now.draft.need(KeyOwner, key("ada").public).member == "ada"


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
    "on its way out": lambda now: now.draft.put(Unbonding("ada", "free", 1, 41, 5)),
    "moved stake": lambda now: now.draft.put(Redelegation("free", "ada", "bern", 1, 41, 5, 5)),
    "open challenge": lambda now: now.draft.put(
        Challenge(1, 1, "ada", "free", bytes(32), 100, 1, 6, (), status="open"),
    ),
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


def test_who_holds_a_seat_does_not_leave():
    now = context()
    now.draft.delete(Delegation, "ada", "ada")
    now.draft.put(replace(now.candidate("ada"), active=False))
    with refuses("not-allowed", "seat"):
        members.leave(now, "ada", tx.Leave())


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
    assert members.keys_between(member, 1, 7) == (key("free").public, key("free-2").public)


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
