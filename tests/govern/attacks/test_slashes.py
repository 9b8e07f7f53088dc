"""Attempts to escape a slash, to be slashed twice, or to have another slashed."""

import pytest

from fedmeta.govern.machine.execute import execute
from fedmeta.govern.rules import members
from fedmeta.govern.state.records import Fault, KeyOwner, Term
from fedmeta.govern.wire import transactions as tx
from fedmeta.govern.wire.block import Block, DoubleSignature
from fedmeta.govern.wire.events import SuperNodePaid
from tests.govern.attacks.means import LIE, pool, prove, rotate, wealth
from tests.govern.playing import Play, key

# Escaping a slash. Hal has 1,000 behind ann when she is elected; a tenth of it is at stake for what she does.


def stay(play):
    play.wait()


def undelegate(play):
    play.must(("hal", tx.Undelegate("ann", 1_000)))


def undelegate_in_parts(play):
    for amount in (100, 200, 300, 400):
        play.must(("hal", tx.Undelegate("ann", amount)))


def cancel(play):
    undelegate(play)
    play.must(("hal", tx.CancelUnbonding("ann", play.height, 1_000)))


def redelegate(play):
    play.must(("hal", tx.Redelegate("ann", "bob", 1_000)))


def hop(play):
    redelegate(play)
    assert play.refusal("hal", tx.Redelegate("bob", "cat", 1_000)) == "redelegation-hop"


def hop_with_stake_of_ones_own_in_between(play):
    play.must(("hal", tx.Delegate("bob", 1_000)))
    redelegate(play)
    assert play.refusal("hal", tx.Redelegate("bob", "cat", 1_000)) == "redelegation-hop"
    play.must(("hal", tx.Undelegate("bob", 1_000)))


def redelegate_in_parts(play):
    for to in ("bob", "cat", "dan", "eve"):
        play.must(("hal", tx.Redelegate("ann", to, 250)))


def redelegate_and_undelegate(play):
    redelegate(play)
    play.must(("hal", tx.Undelegate("bob", 1_000)))


def redelegate_undelegate_and_cancel(play):
    redelegate_and_undelegate(play)
    play.must(("hal", tx.CancelUnbonding("bob", play.height, 1_000)))


def half_and_half(play):
    play.must(("hal", tx.Redelegate("ann", "bob", 500)), ("hal", tx.Undelegate("ann", 500)))
    play.must(("hal", tx.Undelegate("bob", 250)))


def new_key(play):
    undelegate(play)
    rotate(play, "hal", key("hal, later"))


@pytest.mark.parametrize(
    "escape",
    [
        stay,
        undelegate,
        undelegate_in_parts,
        cancel,
        redelegate,
        hop,
        hop_with_stake_of_ones_own_in_between,
        redelegate_in_parts,
        redelegate_and_undelegate,
        redelegate_undelegate_and_cancel,
        half_and_half,
        new_key,
    ],
)
def test_stake_that_elected_an_offender_pays_for_the_deed_wherever_it_has_gone(escape):
    play = Play()
    escape(play)
    before, others = wealth(play, "hal"), {name: wealth(play, name) for name in ("bob", "cat", "ivy", "joy")}
    prove(play, "ann")
    assert before - wealth(play, "hal") == 100
    assert {name: wealth(play, name) for name in others} == others


def test_what_was_taken_back_before_the_election_does_not_answer_for_the_term_and_what_stayed_for_it_does():
    play = Play(contributors=())
    play.wait_until(39)
    play.must(("hal", tx.Undelegate("ann", 500)))
    play.must(("hal", tx.Undelegate("ann", 300)))
    play.wait_until(81)
    assert (play.chain.term, play.state.need(Term, 3).snapshot) == (3, 40)
    before = wealth(play, "hal")
    prove(play, "ann", infraction=81, term=3)
    assert before - wealth(play, "hal") == (200 + 300) // 10


def test_many_small_pieces_save_less_than_a_unit_each():
    play = Play(max_unbonding=10)
    for _ in range(9):
        play.must(("hal", tx.Undelegate("ann", 9)))
    play.must(("hal", tx.Redelegate("ann", "bob", 9)))
    assert play.refusal("hal", tx.Undelegate("ann", 9)) == "limit-reached"
    assert play.refusal("hal", tx.Redelegate("ann", "cat", 9)) == "limit-reached"
    before = wealth(play, "hal")
    prove(play, "ann")
    assert 100 - 10 < before - wealth(play, "hal") <= 100


def signs_twice(play, public, height):
    """Execute a block whose engine shows two signatures of a height."""
    block = Block(play.height + 1, play.chain.time + 1_000, (), (DoubleSignature(public, height),))
    play.blocks.append(block)
    play._take(execute(play.state, block))


def test_an_offender_escapes_neither_by_keys_nor_by_retiring_nor_by_taking_all_back():
    play = Play()
    play.wait(2)
    before = wealth(play, "ann")
    deed, signing = play.height, key("ann").public
    rotate(play, "ann", key("ann, later"))
    play.must(("ann", tx.Retire()), ("ann", tx.Undelegate("ann", 5_000)))
    rotate(play, "ann", key("ann, last"))
    assert play.refusal("ann", tx.Leave()) == "not-allowed"
    signs_twice(play, signing, deed)
    assert before - wealth(play, "ann") == 500
    assert pool(play, "ann").tombstoned
    assert play.refusal("ann", tx.Register(100_000)) == "tombstoned"
    assert play.refusal("ann", tx.Unjail()) == "tombstoned"
    assert play.refusal("ann", tx.Bond(100)) == "tombstoned"


def test_a_removed_offender_pays_out_of_what_is_on_its_way_out():
    play = Play()
    openings = play.to_reveal(results={"dan": LIE})
    play.must(("dan", openings["dan"]))
    before = wealth(play, "dan")
    play.by_hand(lambda context: members.remove(context, "dan", 1))
    play.must(*((name, one) for name, one in openings.items() if name != "dan"))
    (fault,) = play.state.all(Fault)
    assert [(cut.place, cut.amount) for cut in fault.cuts] == [("pool", 700 // 20), ("unbonding", 2_500 // 20)]
    assert before - wealth(play, "dan") == 125


def test_no_number_of_new_keys_makes_the_ledger_forget_the_one_that_signed():
    play = Play()
    for at in range(40):
        rotate(play, "ann", key(f"ann {at}"))
    assert play.state.need(KeyOwner, key("ann").public).member == "ann"
    signs_twice(play, key("ann").public, 1)
    assert [one.offender for one in play.state.all(Fault)] == ["ann"]


def test_a_liar_escapes_neither_by_taking_its_stake_back_nor_by_a_new_key_before_it_is_found_out():
    play = Play()
    openings = play.to_reveal(results={"dan": LIE})
    play.must(("dan", openings["dan"]))
    play.must(("dan", tx.Undelegate("dan", 1_000)), ("dan", tx.Redelegate("dan", "ann", 1_000)))
    rotate(play, "dan", key("dan, later"))
    play.must(*((name, one) for name, one in openings.items() if name != "dan"))
    (fault,) = play.state.all(Fault)
    assert (fault.offender, fault.kind) == ("dan", "false-result")
    # Of its 500 and joy's 700 that are left in the pool, of 1,000 on their way out and of 1,000 that moved.
    assert [(cut.place, cut.amount) for cut in fault.cuts] == [("pool", 60), ("unbonding", 50), ("redelegation", 50)]
    assert "dan" not in [one.candidate for one in play.events(SuperNodePaid)]


def test_no_vote_makes_the_unbonding_period_shorter_than_what_stake_can_answer_for():
    play = Play()
    action = {"kind": "set-parameter", "name": "unbonding_blocks", "value": 1_519}
    assert play.refusal("hal", tx.Propose("Out sooner", action)) == "bad-value"
    values = {"unbonding_blocks": 1_519, "term_length": 40}
    assert play.refusal("hal", tx.Propose("Out sooner", {"kind": "set-parameters", "values": values})) == "bad-value"
    action = {"kind": "set-parameters", "values": {"term_length": 39, "unbonding_blocks": 1_518}}
    play.must(("hal", tx.Propose("Just enough", action)))


def test_for_several_faults_of_one_term_only_the_highest_counts_in_any_order():
    for kinds in (("false-result", "double-signature"), ("double-signature", "false-result", "double-signature")):
        play = Play()
        before = pool(play, "ann").tokens
        for kind in kinds:
            prove(play, "ann", kind)
        # As much as for the gravest alone, but for what two roundings down leave.
        assert 0 <= pool(play, "ann").tokens - (before - before // 10) <= 1


def test_a_slash_pays_nobody_so_that_nobody_has_an_interest_in_it():
    play = Play()
    others = {name: wealth(play, name) for name in ("ann", "bob", "cat", "hal", "joy")}
    treasury = play.chain.treasury
    prove(play, "dan")
    # Joy had 700 behind dan.
    assert {name: wealth(play, name) - units for name, units in others.items() if wealth(play, name) != units} == {
        "joy": -70
    }
    assert play.chain.treasury - treasury == 320


@pytest.mark.parametrize("kind", tx.TRANSACTIONS)
def test_no_transaction_names_an_offender_or_carries_another_s_signature(kind):
    names = set(tx.TRANSACTIONS[kind].__dataclass_fields__)
    assert not names & {"offender", "accused", "reporter", "evidence", "signature", "first", "second", "receipts"}
