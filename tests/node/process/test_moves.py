"""Sealed updates between seats: what a dishonest sender gives to one seat and not to another reaches all the same."""

import asyncio

import pytest

from fedmeta.node.errors import BlobCorrupt, MessageRefused, NotKept, Unreachable
from fedmeta.node.process.moves import opens, own_name
from fedmeta.node.transport.gate import update_name
from tests.node.process.moving import PLAIN, SEALING, SENDER, bring, federation, offered

SEATS = ("s0", "s1", "s2", "s3")
NUMBER = 1


def run(work, folder, away=()):
    """Do something with a federation of gates."""

    async def inside():
        async with federation(folder, away := set(gone)) as members:
            await work(members, away)

    gone = away
    asyncio.run(inside())


def publics(*names, **wrong):
    """Return the keys of some seats; of the others named by `wrong`, the key of another one."""
    return {name: SEALING[name].public for name in names} | {name: SEALING[one].public for name, one in wrong.items()}


async def hold(member):
    """Take an update from the own gate, as a core does."""
    opened = await member.moves.take(member.view, NUMBER, SENDER)
    opens(member.view, NUMBER, SENDER, member.view.updates[SENDER].digest, opened.plain)
    member.moves.opened(opened)
    return opened


async def fetch(member, source):
    """Pull an update from another seat, as a core does."""
    opened = await member.moves.pull(member.view, NUMBER, SENDER, source)
    opens(member.view, NUMBER, SENDER, member.view.updates[SENDER].digest, opened.plain)
    await member.moves.keep(opened)
    return opened


def test_an_update_is_opened_by_the_seats_that_it_was_sealed_to(tmp_path):
    async def work(members, away):
        offer, ciphertext = offered(members["s0"].view, publics(*SEATS))
        await bring(members["s0"], offer, ciphertext)
        assert (await hold(members["s0"])).plain == PLAIN
        assert (await fetch(members["s1"], "s0")).plain == PLAIN
        assert (await fetch(members["s2"], "s1")).plain == PLAIN

    run(work, tmp_path)


def test_an_update_at_the_own_gate_that_was_not_sealed_to_the_seat_is_bad_there(tmp_path):
    async def work(members, away):
        offer, ciphertext = offered(members["s0"].view, publics("s0"))
        await bring(members["s1"], offer, ciphertext)
        with pytest.raises(MessageRefused, match="not sealed to this seat"):
            await members["s1"].moves.take(members["s1"].view, NUMBER, SENDER)

    run(work, tmp_path)


@pytest.mark.parametrize("keys", [publics("s0"), publics("s0", s1="s2", s2="s3", s3="s1")], ids=["lacking", "wrong"])
def test_a_holder_wraps_again_for_all_and_so_does_who_has_it_from_a_holder(keys, tmp_path):
    async def work(members, away):
        offer, ciphertext = offered(members["s0"].view, keys)
        await bring(members["s0"], offer, ciphertext)
        await hold(members["s0"])
        with pytest.raises(Unreachable, match="has not wrapped"):
            await fetch(members["s1"], "s0")
        await members["s0"].moves.pass_on(members["s0"].view, [SENDER])
        assert (await fetch(members["s1"], "s0")).plain == PLAIN
        await members["s1"].moves.pass_on(members["s1"].view, [SENDER])
        assert (await fetch(members["s2"], "s1")).plain == PLAIN

    run(work, tmp_path)


def test_who_was_away_when_it_was_passed_on_is_given_it_later(tmp_path):
    async def work(members, away):
        offer, ciphertext = offered(members["s0"].view, publics("s0"))
        await bring(members["s0"], offer, ciphertext)
        await hold(members["s0"])
        await members["s0"].moves.pass_on(members["s0"].view, [SENDER])
        away.clear()
        with pytest.raises(Unreachable, match="has not wrapped"):
            await fetch(members["s3"], "s0")
        await members["s0"].moves.pass_on(members["s0"].view, [SENDER])
        assert (await fetch(members["s3"], "s0")).plain == PLAIN

    run(work, tmp_path, {"s3"})


def test_after_a_start_the_wrap_for_oneself_is_found_at_the_gate(tmp_path):
    async def work(members, away):
        offer, ciphertext = offered(members["s0"].view, publics("s0"))
        await bring(members["s0"], offer, ciphertext)
        await hold(members["s0"])
        await members["s0"].moves.pass_on(members["s0"].view, [SENDER])
        await fetch(members["s1"], "s0")
        await members["s1"].moves.pass_on(members["s1"].view, [SENDER])
        members["s1"].moves._wraps.clear()
        members["s1"].moves._wrapped.clear()
        away.clear()
        await members["s1"].moves.pass_on(members["s1"].view, [SENDER])
        assert (await fetch(members["s3"], "s1")).plain == PLAIN

    run(work, tmp_path, {"s3"})


@pytest.mark.parametrize("chunks", [1, None], ids=["begun", "whole"])
def test_what_opens_the_commitment_takes_the_place_of_another_offer(chunks, tmp_path):
    async def work(members, away):
        offer, ciphertext = offered(members["s0"].view, publics(*SEATS))
        other, garbage = offered(members["s0"].view, publics(*SEATS), bytes(len(PLAIN)))
        await bring(members["s0"], offer, ciphertext)
        await bring(members["s1"], other, garbage, chunks)
        await hold(members["s0"])
        assert (await fetch(members["s1"], "s0")).plain == PLAIN
        assert (await fetch(members["s2"], "s1")).plain == PLAIN

    run(work, tmp_path)


def test_what_does_not_open_the_commitment_is_not_kept(tmp_path):
    async def work(members, away):
        other, garbage = offered(members["s0"].view, publics(*SEATS), bytes(len(PLAIN)))
        await bring(members["s0"], other, garbage)
        with pytest.raises(MessageRefused, match="committed"):
            await fetch(members["s1"], "s0")
        assert members["s1"].gate.store.blob(update_name(NUMBER, SENDER)) is None

    run(work, tmp_path)


def test_what_the_gates_disk_has_damaged_is_said_to_be(tmp_path):
    async def work(members, away):
        with pytest.raises(NotKept):
            await hold(members["s1"])
        offer, ciphertext = offered(members["s0"].view, publics(*SEATS))
        await bring(members["s0"], offer, ciphertext)
        (file,) = (tmp_path / "s0" / "gate").glob("*~data")
        data = bytearray(file.read_bytes())
        data[7] ^= 1
        file.write_bytes(data)
        with pytest.raises(BlobCorrupt):
            await hold(members["s0"])

    run(work, tmp_path)


def test_ones_own_update_at_ones_own_gate_is_in_the_outbox(tmp_path):
    async def work(members, away):
        member = members["s0"]
        member.store.write(own_name(NUMBER, "s0"), PLAIN)
        await member.moves.push(member.view, NUMBER, NUMBER, "s0")
        assert [(to, what) for to, what, *_ in member.left] == [
            ("seats that come to s0", "offer"),
            ("seats that come to s0", "chunks"),
        ]
        assert member.gate.store.complete(update_name(NUMBER, "s0"))

    run(work, tmp_path)
