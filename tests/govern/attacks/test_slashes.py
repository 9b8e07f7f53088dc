"""Attempts to escape a slash, to be slashed twice, or to have another slashed."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmeta.govern.machine.execute import ENDINGS, execute
from fedmeta.govern.rules import candidates, faults, members, proposals
from fedmeta.govern.state.parameters import MILLION, TABLE
from fedmeta.govern.state.records import Fault, KeyOwner, Proposal, Term
from fedmeta.govern.wire import transactions as tx
from fedmeta.govern.wire.block import Block, DoubleSignature
from fedmeta.govern.wire.round_events import SuperNodePaid
from tests.govern.attacks.means import LIE, pool, prove, rotate, wealth
from tests.govern.playing import SHORT, Play, key
from tests.govern.small import HOSPITALS, context, later

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
    block = Block(play.height + 1, play.state.time + 1_000, (), (DoubleSignature(public, height),))
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
    values = {"unbonding_blocks": 1_521, "term_length": 41}
    assert play.refusal("hal", tx.Propose("Out sooner", {"kind": "set-parameters", "values": values})) == "bad-value"
    # Two terms, and 1,440 blocks of a round.
    for length in (40, 41):
        values = {"term_length": length, "unbonding_blocks": 2 * length + 1_440}
        play.must(("hal", tx.Propose("Just enough", {"kind": "set-parameters", "values": values})))


def test_seats_that_stay_on_because_nobody_can_be_elected_answer_with_the_stake_that_elected_them():
    stakes = dict.fromkeys(("bob", "cat", "dan", "ann"), 5_000)
    play = Play(stakes=stakes, delegations=(("hal", "ann", 1_000),), contributors=(), **SHORT)
    play.by_hand(*(lambda now, name=name: candidates.jail(now, name, 10**6, absent=False) for name in stakes))
    play.must(("hal", tx.Undelegate("ann", 600)), ("hal", tx.Redelegate("ann", "bob", 400)))
    left = play.height
    before = wealth(play, "hal")
    # All the elections since then saw it leave, but elected nobody.
    play.wait_until(left + play.parameters.unbonding_blocks + 9)
    assert play.chain.term == 1 + (play.height // 4)
    assert play.super_nodes() == ["ann"]
    assert play.state.need(Term, play.chain.term).snapshot == 0 < left
    prove(play, "ann", infraction=play.height, term=play.chain.term)
    assert before - wealth(play, "hal") == 1_000 * play.parameters.slash_double_signature // MILLION == 100


DEFAULTS = {name: row.default for name, row in TABLE.items()}


def annulled(paces, wait):
    """Prove a fault, and propose to annul it `wait` seconds later; return the context of its end, and the days it took.

    The ledger has the default parameters. Of each term, whose blocks all take one of the `paces`, in seconds, its last
    block is executed; the last pace goes on.
    """
    now = context(contributors=(), height=500, **DEFAULTS)
    faults.prove(now, "bern", "false-result", 1, 500)
    began, paces, last, proposed = now.time, iter(paces), 1, False
    for _ in range(2_000):
        if not proposed and now.time - began >= wait * 1_000:
            proposals.propose(now, "evora", tx.Propose("It was none", {"kind": "annul-slash", "fault": 1}))
            for name in HOSPITALS:
                proposals.cast_vote(now, name, tx.CastVote(1, "yes"))
            proposed = True
        if proposed and now.draft.need(Proposal, 1).status not in ("voting", "passed"):
            break
        last = next(paces, last)
        blocks = now.term.ends - now.height or now.parameters.term_length
        now = later(now, blocks, blocks * last * 1_000)
        for ending in ENDINGS:
            ending(now)
    return now, (now.time - began) / 86_400_000


def check_annulled(now):
    assert now.draft.need(Proposal, 1).status == "executed"
    taken = 1_000 * DEFAULTS["slash_false_result"] // MILLION
    assert taken == 50
    assert now.candidate("bern").tokens == 1_000 - taken
    assert now.member("bern").free == 10_000 + taken
    assert now.draft.need(Fault, 1).annulled


@pytest.mark.parametrize("pace", [1, 2, 5, 15, 30, 60])
@pytest.mark.parametrize("days", [0, 7])
def test_a_slash_can_be_annulled_with_the_default_periods_at_any_pace_of_blocks(pace, days):
    now, took = annulled([pace], days * 86_400)
    check_annulled(now)
    # Three days of voting, one of delay, and each time a term at most until the next one's end.
    assert days + 4 <= took <= days + 4 + 3 * 1_000 * pace / 86_400


@given(st.lists(st.integers(1, 60), min_size=1, max_size=60), st.integers(0, 7))
@settings(max_examples=20, deadline=None)
def test_a_slash_can_be_annulled_also_when_the_pace_changes(paces, days):
    now, took = annulled([*paces, 10], days * 86_400)
    check_annulled(now)
    assert took >= days + 4


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
