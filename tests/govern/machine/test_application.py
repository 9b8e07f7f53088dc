import importlib

import pytest

from fedmeta.govern.errors import InvalidBlock, Refused, StateError, WrongProtocol
from fedmeta.govern.machine import application
from fedmeta.govern.machine.application import Application
from fedmeta.govern.machine.execute import execute
from fedmeta.govern.machine.genesis import start
from fedmeta.govern.rules.members import key_at, machine_key_at
from fedmeta.govern.state.records import Member, Term
from fedmeta.govern.state.state import State
from fedmeta.govern.wire import merkle
from fedmeta.govern.wire import transactions as tx
from fedmeta.govern.wire.block import Block, DoubleSignature
from fedmeta.govern.wire.events import ProtocolChanged, TermElected
from fedmeta.govern.wire.signatures import digest
from tests.govern.engines.story import set_machine_key, story
from tests.govern.playing import SHORT, TIME, Play, federation, key

GENESIS = federation().digest


EXECUTE = importlib.import_module("fedmeta.govern.machine.execute")
"""The module: the name in the package is the function."""


def begin(**options):
    return Application(start(federation(**options)).state)


def sign(name, sequence, body=None, genesis=GENESIS, by=None):
    return tx.sign(key(by or name), genesis, name, sequence, body or tx.Delegate("ann", 1))


def of(play):
    """Return an application with a copy of a chain's state."""
    return Application(State.load(play.state.dump(), play.height, play.state.time))


def held(app):
    """Return all that is committed."""
    return app.app_hash, app.height, list(app.state.dump())


# The pool's check


def test_several_transactions_of_one_member_in_a_row_pass_and_none_passes_twice():
    app = begin()
    raws = [sign("hal", at) for at in range(5)]
    assert [app.check_tx(raw) for raw in raws] == [None] * 5
    assert [app.check_tx(raw).code for raw in raws] == ["stale-sequence"] * 5
    assert app.check_tx(sign("hal", 6)).code == "future-sequence"
    assert app.check_tx(sign("ivy", 0)) is None


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"", "malformed"),
        (b"\x00" * 70_000, "too-large"),
        (sign("hal", 0)[:-1], "malformed"),
        (sign("hal", 0, genesis=federation(free=1).digest), "wrong-chain"),
        (sign("nobody", 0), "unknown-member"),
        (sign("hal", 0, by="ivy"), "bad-signature"),
        (sign("hal", 1), "future-sequence"),
    ],
)
def test_what_the_pool_refuses_does_not_count_as_pending(raw, code):
    app = begin()
    before = held(app)
    assert app.check_tx(raw).code == code
    assert app.check_tx(sign("hal", 0)) is None
    assert held(app) == before


def test_what_a_rule_refuses_does_not_enter_the_pool_and_its_number_is_free():
    app = begin()
    before = held(app)
    assert app.check_tx(sign("hal", 0, tx.Delegate("ann", 10**9))).code == "insufficient-funds"
    assert app.check_tx(sign("hal", 0, tx.Delegate("nobody", 1))).code == "not-found"
    assert app.check_tx(sign("hal", 0)) is None
    assert held(app) == before


def test_what_waits_is_judged_after_what_waited_before():
    app = begin()
    back = tx.Undelegate("dan", 6_000)
    assert app.check_tx(sign("hal", 0, back)).code == "insufficient-funds"
    assert app.check_tx(sign("hal", 0, tx.Delegate("dan", 6_000))) is None
    assert app.check_tx(sign("hal", 1, tx.Delegate("dan", 6_000))).code == "insufficient-funds"
    assert app.check_tx(sign("hal", 1, back)) is None
    raws = [sign("hal", 0, tx.Delegate("dan", 6_000)), sign("hal", 1, back)]
    assert app.prepare(Block(1, TIME), raws) == (tuple(raws), {})
    assert app.recheck(raws) == {}
    assert {refusal.code for refusal in app.recheck(raws[1:]).values()} == {"future-sequence"}


def test_what_a_commit_has_overtaken_is_refused_at_the_recheck_and_what_needs_it_as_well():
    app = begin()
    rotated = tx.RotateKey(key("new").public, key("new").sign(tx.possession(GENESIS, "hal", key("new").public)))
    raws = [sign("hal", 0, rotated), sign("hal", 1), sign("hal", 2), sign("ivy", 0)]
    assert [app.check_tx(raw) for raw in raws] == [None] * 4
    app.finalize(Block(1, TIME, (raws[0],)))
    app.commit()
    refused = app.recheck(raws[1:])
    # The old key signs until the block in which it was changed.
    assert {one: refusal.code for one, refusal in refused.items()} == {
        digest(raws[1]): "bad-signature",
        digest(raws[2]): "future-sequence",
    }
    assert app.check_tx(sign("hal", 1, by="new")) is None
    assert app.check_tx(sign("ivy", 1)) is None


def test_what_is_checked_leaves_nothing_behind_but_its_effect():
    app = begin()
    for at in range(50):
        assert app.check_tx(sign("hal", 0, tx.Redelegate("ann", "bob", 10**9 + at))) is not None
        assert app.check_tx(sign("hal", 0, tx.Propose("", {"kind": "nonsense", "at": at}))) is not None
    assert app.check_tx(sign("ivy", 0)) is None
    other = begin()
    assert other.check_tx(sign("ivy", 0)) is None
    pending, due = app._pool._context, other._pool._context
    assert pending.events == due.events == []
    assert pending.draft._log == due.draft._log
    assert pending.draft.finish().changes == due.draft.finish().changes


def test_a_commit_forgets_what_was_pending_and_the_recheck_counts_what_is_left():
    app = begin()
    raws = [sign("hal", at) for at in range(3)]
    for raw in raws:
        assert app.check_tx(raw) is None
    app.finalize(Block(1, TIME, (raws[0],)))
    app.commit()
    refused = app.recheck(raws)
    assert {one: refusal.code for one, refusal in refused.items()} == {digest(raws[0]): "stale-sequence"}
    assert app.check_tx(sign("hal", 3)) is None


# Blocks


def test_all_of_a_story_s_blocks_give_what_the_pure_function_gave():
    play = story()
    app = Application(start(play.genesis).state)
    for block, events, app_hash in zip(play.blocks, play.log[1:], play.hashes[1:], strict=True):
        assert app.process(block)
        found = app.finalize(block)
        assert (found.app_hash, found.events, set(found.codes)) == (app_hash, events, {""} if found.codes else set())
        assert app.commit().app_hash == app.app_hash == app_hash
    assert app.height == len(play.blocks)


def test_nothing_but_a_commit_changes_what_is_committed():
    app = begin()
    before = held(app)
    raws = [sign("hal", 0), sign("hal", 1, tx.Delegate("ann", 10**9)), sign("ivy", 0)]
    prepared = app.prepare(Block(1, TIME), raws)
    assert held(app) == before
    assert app.process(Block(1, TIME, (raws[2],)))
    assert held(app) == before
    block = Block(1, TIME, prepared.transactions)
    found = app.finalize(block)
    assert held(app) == before
    assert found[:2] == execute(app.state, block)[:0:-1]
    app.commit()
    assert app.app_hash == found.app_hash != before[0]


def test_a_refused_transaction_is_left_out_of_the_block_and_leaves_no_trace_in_it():
    app, other = begin(), begin()
    good = [sign("hal", 0), sign("ivy", 0), sign("hal", 1)]
    poor = sign("joy", 0, tx.Delegate("ann", 10**9))
    prepared = app.prepare(Block(1, TIME), [good[0], poor, b"junk", good[1], good[0], good[2]])
    assert prepared.transactions == tuple(good)
    assert {one: refusal.code for one, refusal in prepared.refused.items()} == {
        digest(poor): "insufficient-funds",
        digest(b"junk"): "malformed",
        digest(good[0]): "stale-sequence",
    }
    block = Block(1, TIME, tuple(good))
    found, due = app.finalize(block), execute(other.state, block)
    assert (found.app_hash, found.events) == (due.app_hash, due.events)
    assert app.commit().changes == due.state.changes


def test_proposing_or_judging_a_block_and_deciding_it_take_one_execution(monkeypatch):
    calls = []
    whole = application.attempt
    monkeypatch.setattr(application, "attempt", lambda *values: calls.append(values) or whole(*values))
    app = begin()
    raws = tuple(sign("hal", at) for at in range(4))
    block = Block(1, TIME, app.prepare(Block(1, TIME), raws).transactions)
    app.finalize(block)
    app.finalize(block)
    app.commit()
    assert len(calls) == 4
    block = Block(2, TIME, tuple(sign("hal", at) for at in range(4, 8)))
    assert app.process(block)
    app.finalize(block)
    assert len(calls) == 8
    app.finalize(Block(2, TIME + 1, block.transactions))
    assert len(calls) == 12


def test_a_block_is_filled_in_order_up_to_its_size():
    app = begin()
    raws = [sign("hal", at) for at in range(6)]
    size = len(raws[0])
    assert app.prepare(Block(1, TIME), raws, max_bytes=3 * size).transactions == tuple(raws[:3])
    assert app.prepare(Block(1, TIME), raws, max_bytes=3 * size - 1).transactions == tuple(raws[:2])
    assert app.prepare(Block(1, TIME), raws).transactions == tuple(raws)
    small = begin(max_block_bytes=65_536)
    whose = federation(max_block_bytes=65_536).digest
    many = [sign("hal", at, tx.SetProfile("x" * 200, "y" * 200, b""), whose) for at in range(200)]
    chosen = small.prepare(Block(1, TIME), many).transactions
    assert chosen == tuple(many[: 65_536 // len(many[-1])])
    assert not small.process(Block(1, TIME, tuple(many)))


def test_a_block_is_not_accepted_with_a_refused_transaction_or_at_a_wrong_height_or_time():
    app = begin()
    good = sign("hal", 0)
    assert app.process(Block(1, TIME, (good,)))
    for block in (
        Block(1, TIME, (good, good)),
        Block(1, TIME, (b"",)),
        Block(2, TIME, (good,)),
        Block(0, TIME, (good,)),
        Block(1, TIME - 1, (good,)),
    ):
        assert not app.process(block), block
    for height, time in ((2, TIME), (1, TIME - 1)):
        with pytest.raises(InvalidBlock):
            app.prepare(Block(height, time), [])
        with pytest.raises(InvalidBlock):
            app.finalize(Block(height, time))


def test_a_decided_block_with_a_refused_transaction_says_so_and_goes_on():
    app = begin()
    found = app.finalize(Block(1, TIME, (sign("hal", 0), b"junk", sign("hal", 1))))
    assert found.codes == ("", "malformed", "")


def test_a_commit_that_cannot_be_saved_commits_nothing_and_can_be_done_later():
    app = begin()
    before, saved = held(app), []
    found = app.finalize(Block(1, TIME, (sign("hal", 0),)))

    def fail(commit):
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        app.commit(fail)
    assert held(app) == before
    commit = app.commit(saved.append)
    assert saved == [commit]
    assert app.app_hash == found.app_hash
    with pytest.raises(InvalidBlock, match="finalize block 2 first"):
        app.commit()


def test_the_changes_of_a_commit_turn_the_rows_before_into_the_rows_after():
    play = story()
    app = Application(start(play.genesis).state)
    rows = dict(app.state.dump())
    for block in play.blocks:
        app.finalize(block)
        commit = app.commit()
        for change in commit.changes:
            rows[change.slot] = change.data or b""
        assert rows == dict(app.state.dump())
        assert app.state.slots == len(rows)


def test_blocks_are_retained_for_the_unbonding_period():
    app = Application(start(federation(**SHORT)).state.draft(1_447, TIME).finish())
    for height in range(1_448, 1_455):
        app.finalize(Block(height, TIME))
        assert app.commit().retain_height == app.retain_height == max(1, height - 1_450)


# Limits of a block


def test_a_member_has_so_many_transactions_in_a_block_and_no_more_wait():
    genesis = federation(member_transactions=3)
    app = Application(start(genesis).state)
    raws = [tx.sign(key("hal"), genesis.digest, "hal", at, tx.Delegate("ann", 1)) for at in range(5)]
    other = tx.sign(key("ivy"), genesis.digest, "ivy", 0, tx.Delegate("ann", 1))
    assert [app.check_tx(raw) for raw in raws[:3]] == [None] * 3
    assert app.check_tx(raws[3]).code == "limit-reached"
    assert app.check_tx(other) is None
    prepared = app.prepare(Block(1, TIME), [*raws, other])
    assert prepared == ((*raws[:3], other), {})
    assert app.process(Block(1, TIME, prepared.transactions))
    assert not app.process(Block(1, TIME, tuple(raws[:4])))
    app.finalize(Block(1, TIME, prepared.transactions))
    app.commit()
    assert app.recheck(raws[3:]) == {}
    assert app.check_tx(tx.sign(key("hal"), genesis.digest, "hal", 5, tx.Delegate("ann", 1))) is None


def test_parts_of_rounds_do_not_count_as_a_member_s_transactions():
    play = Play(federation(member_transactions=1))
    play.to_commit()
    app = of(play)
    name = play.latest.cohort[0].member
    part, more = play.sign(*play.update(name)), play.sign(name, tx.SetProfile("x", "", b""))
    assert app.check_tx(part) is app.check_tx(more) is None
    block = Block(play.height + 1, play.state.time)
    assert app.prepare(block, [more, part]).transactions == (part, more)


@pytest.mark.parametrize("more", [0, -1])
def test_a_block_is_filled_to_the_byte_by_the_engine_s_own_count(more):
    play = Play()
    app = of(play)
    raws = [play.sign("hal", tx.Delegate("bob", 1), ahead=at) for at in range(9)]
    twice = (DoubleSignature(key("ann").public, 1),)
    empty = Block(1, TIME, double_signatures=twice)

    def size(item):
        return len(item) + 7

    room = sum(map(size, (*empty.items, *raws[:5])))
    chosen = app.prepare(empty, raws, max_bytes=room + more, size=size).transactions
    assert len(chosen) == (5 if more == 0 else 4)


# Voting powers


def test_the_updates_of_voting_power_add_up_to_the_seats_of_the_term_and_their_present_keys():
    play = story()
    app = Application(start(play.genesis).state)
    powers = {seat.public: (seat.candidate, seat.power) for seat in app.seats}
    assert [name for name, _ in powers.values()] == ["ann", "bob", "cat", "dan"]
    touched = []
    for block in play.blocks:
        updates = app.finalize(block).seat_updates
        app.commit()
        for one in updates:
            assert powers.get(one.public) != (one.candidate, one.power)
            powers[one.public] = one.candidate, one.power
            if not one.power:
                del powers[one.public]
        touched += [block.height] * bool(updates)
        seats = app.state.need(Term, app.chain.term).seats
        assert {power[0]: (public, power[1]) for public, power in powers.items()} == {
            seat.candidate: (machine_key_at(app.state.need(Member, seat.candidate), app.height + 1), seat.power)
            for seat in seats
        }
        assert powers == {seat.public: (seat.candidate, seat.power) for seat in app.seats}
    assert {name for name, _ in powers.values()} == {"ann", "cat", "dan", "eve"}
    for kind in (b"rotate-key", b"set-machine-key"):
        change = next(at for at, block in enumerate(play.blocks, 1) if kind in b"".join(block.transactions))
        assert change in touched
    assert any(isinstance(event, TermElected) for event in play.log[40])
    assert len(touched) < 8


def test_a_machine_s_key_signs_parts_of_rounds_and_votes_with_the_seat_s_power_and_the_account_s_does_not():
    play = Play()
    play.to_commit()
    set_machine_key(play, "ann")
    account, machine = key("ann"), play.machines["ann"]
    app = of(play)
    seat = next(one for one in app.seats if one.candidate == "ann")
    assert seat.public == machine.public == machine_key_at(play.member("ann"), play.height + 1)
    assert account.public == key_at(play.member("ann"), play.height + 1) not in {one.public for one in app.seats}
    name, body = play.update("ann")
    for signer, refused in ((account, "bad-signature"), (machine, None)):
        refusal = app.check_tx(tx.sign(signer, play.genesis.digest, name, 0, body))
        assert (refusal and refusal.code) == refused
    for signer, refused in ((machine, "bad-signature"), (account, None)):
        claim = tx.sign(signer, play.genesis.digest, name, play.member(name).sequence, tx.Bond(1))
        refusal = app.check_tx(claim)
        assert (refusal and refusal.code) == refused
    play.must((name, tx.SetMachineKey(b"", b"")))
    play.machines.clear()
    assert account.public in {one.public for one in of(play).seats}
    play.must((name, body))


# Parts of rounds


def in_a_round(**options):
    """Return a chain in whose first round the cohort may commit, and an application with its state."""
    play = Play(**options)
    play.to_commit()
    return play, of(play)


def test_parts_of_rounds_are_put_first_in_a_block_and_otherwise_the_order_is_kept():
    play, app = in_a_round()
    parts = [play.sign(*play.update(name)) for name in ("joy", "ann", "hal")]
    others = [sign("hal", 0), sign("ivy", 0), sign("hal", 1)]
    mixed = [others[0], parts[0], others[1], b"junk", parts[1], others[2], parts[2]]
    prepared = app.prepare(Block(2, play.state.time), mixed)
    assert prepared.transactions == (*parts, *others)
    assert list(prepared.refused) == [digest(b"junk")]


def test_parts_of_rounds_have_room_in_a_block_whatever_else_waits():
    play, app = in_a_round()
    others = [sign("hal", at) for at in range(20)]
    part = play.sign(*play.update("joy"))
    chosen = app.prepare(Block(2, play.state.time), [*others, part], max_bytes=len(part) + len(others[0]))
    assert chosen.transactions == (part, others[0])


def test_a_block_with_a_part_of_a_round_after_another_transaction_is_not_accepted():
    play, app = in_a_round()
    parts = [play.sign(*play.update(name)) for name in ("joy", "ann")]
    other = sign("hal", 0)
    for order, accepted in (
        ((*parts, other), True),
        ((*parts[::-1], other), True),
        ((other, *parts), False),
        ((parts[0], other, parts[1]), False),
        ((parts[0], other), True),
        ((parts[0], b"junk"), False),
    ):
        assert app.process(Block(2, play.state.time, order)) == accepted


def test_a_part_of_a_round_passes_the_pool_s_check_in_any_order_with_the_member_s_own_transactions():
    play, app = in_a_round()
    part = play.sign(*play.update("hal"))
    raws = [sign("hal", 0), part, sign("hal", 1)]
    assert [app.check_tx(raw) for raw in raws] == [None] * 3
    assert app.check_tx(sign("hal", 2)) is None
    assert app.recheck([part]) == {}
    name, body = play.update("hal")
    other = tx.sign(key("hal"), federation(free=1).digest, name, 0, body)
    assert app.check_tx(other).code == "wrong-chain"
    assert app.check_tx(tx.sign(key("ivy"), GENESIS, name, 0, body)).code == "bad-signature"


def test_a_part_of_a_round_leaves_the_member_s_sequence_as_it_is_and_comes_once():
    play, _ = in_a_round()
    before = play.member("hal").sequence
    play.must(play.update("hal"))
    assert play.member("hal").sequence == before
    assert play.refusal(*play.update("hal")) == "already-done"


# Upgrades


def upgrading(height):
    """Return a chain that has decided to go on by the next protocol from a height on, and stands before it."""
    play = Play()
    play.must(("ann", tx.Propose("Upgrade", {"kind": "upgrade", "protocol": EXECUTE.PROTOCOL + 1, "height": height})))
    play.must(*((name, tx.CastVote(1, "yes")) for name in ("ann", "bob", "cat")))
    play.wait_until(height - 2)
    assert (play.chain.upgrade_to, play.chain.upgrade_at) == (EXECUTE.PROTOCOL + 1, height)
    return play


def test_an_upgrade_stops_this_version_at_its_height_in_one_line_that_says_what_to_do():
    play = upgrading(20)
    app = of(play)
    last = Block(19, TIME + 10**6)
    app.finalize(last)
    app.commit()
    for ask in (app.finalize, lambda block: app.prepare(block, [])):
        with pytest.raises(WrongProtocol, match=r"from height 20 on .* protocol 4: .* install one that .* 4") as one:
            ask(Block(20, TIME + 10**6))
        assert "\n" not in str(one.value)
    assert not app.process(Block(20, TIME + 10**6))
    assert app.check_tx(sign("hal", 0)).code == "wrong-protocol"
    assert (app.height, app.chain.protocol) == (19, EXECUTE.PROTOCOL + 1)


def test_a_version_that_executes_the_next_protocol_goes_on_from_there(monkeypatch):
    play = upgrading(20)
    play.wait()
    assert [one.protocol for one in play.events(ProtocolChanged)] == [EXECUTE.PROTOCOL + 1]
    before = play.hashes[-1]
    with pytest.raises(WrongProtocol):
        play.wait()
    assert play.hashes[-1] == before
    monkeypatch.setattr(EXECUTE, "PROTOCOL", EXECUTE.PROTOCOL + 1)
    play.wait()
    assert (play.height, play.chain.protocol, play.chain.upgrade_to) == (20, EXECUTE.PROTOCOL, 0)
    earlier = start(federation()).state
    with pytest.raises(WrongProtocol, match="protocol 3"):
        execute(earlier, Block(1, TIME))


# Questions


def test_a_record_comes_with_a_proof_that_leads_to_the_app_hash():
    app = begin()
    for height in (1, 2):
        app.finalize(Block(height, TIME, (sign("hal", height - 1),)))
        app.commit()
    record, proof, height = app.prove("member", "hal")
    assert (record.name, record.sequence, height) == ("hal", 2, 2)
    assert merkle.verify(proof, app.app_hash)
    with pytest.raises(StateError, match="no member nobody"):
        app.prove("member", "nobody")
    with pytest.raises(StateError, match="no record is of kind 'ghost'"):
        app.prove("ghost")


def test_a_query_is_answered_from_the_committed_state():
    app = begin()
    app.finalize(Block(1, TIME, (sign("hal", 0, tx.SetProfile("Hal's", "", b"")),)))
    assert app.query("member", {"name": "hal"})["title"] == "Hal"
    app.commit()
    assert app.query("member", {"name": "hal"})["title"] == "Hal's"
    with pytest.raises(Refused, match="not-found"):
        app.query("nonsense", {})


# Snapshots


def behind():
    """Return an application after some blocks, with a snapshot, and a new one of the same genesis."""
    play = Play()
    play.must(("hal", tx.Delegate("eve", 5)))
    source = Application(start(play.genesis).state)
    source.finalize(play.blocks[0])
    source.commit()
    source.snapshot()
    return source, Application(start(play.genesis).state)


def test_a_snapshot_restores_the_state_and_the_chain_goes_on_from_it():
    source, target = behind()
    (manifest,) = source.snapshots()
    assert target.offer(manifest, source.app_hash, source.time)
    for number in range(len(manifest.chunks)):
        assert target.apply(number, source.chunk(manifest.height, number))
    assert held(target) == held(source)
    for app in (source, target):
        app.finalize(Block(2, TIME + 9_000, (sign("hal", 1),)))
        app.commit()
    assert held(target) == held(source)
    assert target.state.height == 2


def test_an_offer_is_declined_unless_it_is_later_and_of_this_chain_and_of_the_trusted_app_hash():
    source, target = behind()
    (manifest,) = source.snapshots()
    assert not target.offer(manifest, b"\x01" * 32, source.time)
    assert not source.offer(manifest, source.app_hash, source.time)
    other = Application(start(federation(free=1)).state)
    assert other.offer(manifest, source.app_hash, source.time)
    with pytest.raises(StateError, match="no snapshot was offered"):
        target.apply(0, b"")


def test_a_damaged_chunk_is_not_taken_and_changes_nothing():
    source, target = behind()
    (manifest,) = source.snapshots()
    before = held(target)
    chunk = source.chunk(1, 0)
    assert target.offer(manifest, source.app_hash, source.time)
    for bad in (b"", chunk[:-1], chunk + b"\0", bytes([chunk[0] ^ 1]) + chunk[1:]):
        assert not target.apply(0, bad)
    assert not target.apply(1, chunk)
    assert not target.apply(-1, chunk)
    assert held(target) == before
    assert target.apply(0, chunk)
    assert held(target) == held(source)
    assert source.chunk(1, 1) is source.chunk(7, 0) is None
