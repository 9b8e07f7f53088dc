from dataclasses import replace

import pytest

from fedmeta.govern.errors import Refused
from fedmeta.govern.machine.execute import execute
from fedmeta.govern.rules import faults
from fedmeta.govern.state.parameters import MILLION
from fedmeta.govern.state.records import Candidate, Delegation, Fault, Member, Term, Unbonding
from fedmeta.govern.wire import transactions as tx
from fedmeta.govern.wire.block import Block, DoubleSignature, LightClientAttack
from fedmeta.govern.wire.events import CandidateJailed, SlashAnnulled
from fedmeta.govern.wire.round_events import DutyMissed, FaultProven
from fedmeta.govern.wire.signatures import digest
from tests.govern.attacks.means import LIE, rotate
from tests.govern.playing import Play, key
from tests.govern.small import context, later

FLAT = {"ann": 100_000, "bob": 100_000, "cat": 5_000, "dan": 5_000}


def prove(play, offender, kind, infraction=None, term=1, round=0):
    """Prove a fault in a block of its own; return it."""
    done = []

    def step(context):
        height = context.height if infraction is None else infraction
        done.append(faults.prove(context, offender, kind, term, height, round))

    play.by_hand(step)
    return done[0]


def tokens(play, name):
    return play.state.need(Candidate, name).tokens


def taken(fault):
    return sum(one.amount for one in fault.cuts)


def shown(play, *found):
    """Execute a block with what its engine has found of signers."""
    attacks = tuple(one for one in found if isinstance(one, LightClientAttack))
    twice = tuple(one for one in found if one not in attacks)
    block = Block(play.height + 1, play.state.time + 1_000, (), twice, attacks=attacks)
    play.blocks.append(block)
    return play._take(execute(play.state, block))


# What a proven fault costs


@pytest.mark.parametrize(
    ("kind", "ppm"), [("double-signature", 100_000), ("light-client-attack", 100_000), ("false-result", 50_000)]
)
def test_each_kind_costs_what_its_parameter_says_and_a_seat(kind, ppm):
    play = Play()
    fault = prove(play, "bob", kind)
    assert fault.fraction == ppm
    assert tokens(play, "bob") == 4_500 - 4_500 * ppm // MILLION
    assert play.chain.treasury == 1_000_000 + 4_500 * ppm // MILLION
    candidate = play.state.need(Candidate, "bob")
    assert (candidate.jailed, candidate.absent) == (True, False)
    assert candidate.tombstoned == (kind != "false-result")
    term = play.state.need(Term, 1)
    assert [seat.candidate for seat in term.seats] == ["ann", "eve", "cat", "dan"]


def test_there_are_no_other_kinds_than_those_that_only_the_offender_can_commit():
    assert list(faults.KINDS) == ["false-result", "double-signature", "light-client-attack"]


@pytest.mark.parametrize(
    ("kinds", "left"),
    [
        (["false-result", "double-signature"], 90_000),
        (["double-signature", "false-result"], 90_000),
        (["false-result", "false-result"], 95_000),
        (["false-result", "double-signature", "double-signature"], 90_000),
    ],
)
def test_within_a_term_the_highest_fault_counts_and_not_the_sum(kinds, left):
    play = Play(stakes=FLAT, delegations=())
    for kind in kinds:
        prove(play, "bob", kind)
    assert tokens(play, "bob") == left


def test_a_fault_of_another_term_counts_anew():
    play = Play(stakes=FLAT, delegations=())
    prove(play, "bob", "false-result")
    prove(play, "bob", "false-result", term=2)
    assert tokens(play, "bob") == 95_000 * 95 // 100


def test_what_it_costs_is_what_the_parameter_says_when_it_is_proven():
    play = Play(stakes=FLAT, delegations=())
    prove(play, "bob", "false-result")
    play.by_hand(lambda now: now.draft.put(replace(now.parameters, slash_false_result=80_000)))
    prove(play, "bob", "false-result")
    assert tokens(play, "bob") == 92_000
    play.by_hand(lambda now: now.draft.put(replace(now.parameters, slash_false_result=10_000)))
    prove(play, "bob", "false-result")
    assert tokens(play, "bob") == 92_000


def test_an_annulled_fault_counts_no_more_towards_the_highest():
    play = Play(stakes=FLAT, delegations=())
    prove(play, "bob", "double-signature")
    play.by_hand(lambda context: faults.annul(context, 1, 1))
    assert (tokens(play, "bob"), play.member("bob").free) == (90_000, 20_000)
    prove(play, "bob", "false-result")
    assert tokens(play, "bob") == 90_000 - 4_500


def test_who_takes_its_stake_out_after_the_snapshot_is_slashed_for_what_it_does_in_the_term_that_it_elected():
    play = Play()
    while play.state.get(Term, 3) is None:
        play.round()
    assert "ann" in [seat.candidate for seat in play.state.need(Term, 3).seats]
    play.must(("ann", tx.Undelegate("ann", 5_000)), ("hal", tx.Undelegate("ann", 1_000)))
    while not (play.chain.round and play.latest.term == 3):
        play.round()
        play.to_commit()
    assert tokens(play, "ann") == 0
    play.round(results={"ann": LIE})
    (fault,) = play.state.all(Fault)
    assert [(one.place, one.member, one.amount) for one in fault.cuts] == [
        ("unbonding", "ann", 250),
        ("unbonding", "hal", 50),
    ]


def test_what_had_left_by_the_snapshot_does_not_answer_for_the_term():
    play = Play()
    play.wait_until(39)
    play.must(("hal", tx.Undelegate("ann", 1_000)))
    assert play.state.need(Term, 3).snapshot == play.height == 40
    fault = prove(play, "ann", "double-signature", term=3)
    assert [one.place for one in fault.cuts] == ["pool"]
    assert play.state.need(Unbonding, "ann", "hal", 40).amount == 1_000


def test_an_offender_with_no_stake_left_is_jailed_all_the_same():
    play = Play()
    play.must(("gil", tx.Undelegate("gil", 1_200)))
    play.by_hand(lambda now: now.draft.delete(Unbonding, "gil", "gil", 1), lambda now: now.free("gil", 1_200))
    assert prove(play, "gil", "false-result").cuts == ()
    assert play.state.need(Candidate, "gil").jailed
    assert all(seat.candidate != "gil" for seat in play.state.need(Term, play.chain.term).standbys)


def test_jail_keeps_a_candidate_out_until_it_asks_to_come_out():
    play = Play(jail_blocks=5)
    prove(play, "bob", "false-result")
    assert play.refusal("bob", tx.Unjail()) == "jailed"
    play.wait_until(5)
    assert play.refusal("bob", tx.Unjail()) == "jailed"
    play.wait_until(6)
    play.must(("bob", tx.Unjail()))
    assert not play.state.need(Candidate, "bob").jailed


def test_the_barred_never_come_back():
    play = Play(jail_blocks=1)
    prove(play, "bob", "double-signature")
    play.wait(5)
    assert play.refusal("bob", tx.Unjail()) == "tombstoned"
    play.must(("bob", tx.Retire()))
    assert play.refusal("bob", tx.Register(0)) == "tombstoned"
    assert play.refusal("hal", tx.Delegate("bob", 1)) == "tombstoned"
    play.must(("ivy", tx.Undelegate("bob", 450)))


def test_the_events_of_a_fault_say_what_was_taken_from_where():
    play = Play()
    prove(play, "bob", "false-result")
    prove(play, "bob", "double-signature")
    first, second = play.events(FaultProven)
    assert (first.already, first.amount) == (0, 225)
    assert (second.already, second.fraction, second.amount) == (50_000, 100_000, 4_275 * 50_000 // 950_000)
    assert second.amount == sum(one.amount for one in second.cuts)


# Another result than the final one


def test_another_result_than_the_final_one_is_a_fault_of_the_round_s_term():
    play = Play(term_length=5, unbonding_blocks=5_000)
    play.to_compute()
    openings = {name: play.opening(name, LIE if name == "dan" else None) for name in play.super_nodes()}
    play.must(*(play.attestation(name, one) for name, one in openings.items()))
    committed = play.height
    play.wait(6)
    assert play.chain.term == 3
    play.must(("joy", tx.Undelegate("dan", 300)))
    play.must(*openings.items())
    (fault,) = play.state.all(Fault)
    assert (fault.offender, fault.kind, fault.round, fault.term) == ("dan", "false-result", 1, 1)
    assert (fault.infraction, fault.fraction) == (committed, 50_000)
    assert [(one.place, one.amount) for one in fault.cuts] == [("pool", 2_900 // 20), ("unbonding", 300 // 20)]


def test_several_liars_are_each_at_fault():
    stakes = {f"node{at}": 2_000 for at in range(7)}
    windows = {f"{phase}_blocks": 24 for phase in ("commit", "deliver", "compute", "reveal")}
    names = ("hal", "ivy", "joy")
    play = Play(stakes=stakes, delegations=(), super_nodes=7, members=names, contributors=names, **windows)
    play.round(results={"node1": LIE, "node4": digest(b"another lie")})
    assert [one.offender for one in play.state.all(Fault)] == ["node1", "node4"]
    assert [tokens(play, f"node{at}") for at in range(7)] == [2_000, 1_900, 2_000, 2_000, 1_900, 2_000, 2_000]


# What signers do


@pytest.mark.parametrize(
    ("deed", "kind"), [(DoubleSignature, "double-signature"), (LightClientAttack, "light-client-attack")]
)
def test_to_sign_twice_or_against_light_clients_costs_a_tenth_and_the_seat_for_good(deed, kind):
    play = Play()
    play.wait(3)
    shown(play, deed(key("cat").public, 2))
    (fault,) = play.state.all(Fault)
    assert (fault.offender, fault.kind, fault.round, fault.term) == ("cat", kind, 0, 1)
    assert (fault.infraction, fault.height, fault.fraction) == (2, 4, 100_000)
    assert tokens(play, "cat") == 3_500 - 350
    assert play.state.need(Candidate, "cat").tombstoned


def test_one_shown_again_or_of_another_height_costs_nothing_more():
    play = Play()
    play.wait(3)
    found = DoubleSignature(key("cat").public, 2)
    shown(play, found, found)
    shown(play, found)
    shown(play, DoubleSignature(key("cat").public, 3), LightClientAttack(key("cat").public, 2))
    shown(play, LightClientAttack(key("cat").public, 3))
    assert [one.kind for one in play.state.all(Fault)] == ["double-signature"]
    assert tokens(play, "cat") == 3_500 - 350


@pytest.mark.parametrize("whose", ["nobody", "a contributor"])
def test_a_key_that_is_no_candidate_s_has_no_stake_to_lose(whose):
    play = Play()
    play.wait(3)
    before = play.state.all(Delegation)
    shown(play, DoubleSignature(key("hal" if whose == "a contributor" else whose).public, 2))
    assert not play.state.all(Fault)
    assert play.state.all(Delegation) == before


@pytest.mark.parametrize("which", ["the first", "the machine's", "a machine's that was given up"])
def test_whatever_key_signed_twice_it_is_its_owner_s_fault_also_after_it_was_changed(which):
    play = Play()
    signing = key("cat")
    if which != "the first":
        signing = key("cat's machine")
        proof = signing.sign(tx.possession(play.genesis.digest, "cat", signing.public))
        play.must(("cat", tx.SetMachineKey(signing.public, proof)))
    if which == "a machine's that was given up":
        play.must(("cat", tx.SetMachineKey(b"", b"")))
    for at in range(3):
        rotate(play, "cat", key(f"cat {at}"))
    shown(play, DoubleSignature(signing.public, 2))
    assert [one.offender for one in play.state.all(Fault)] == ["cat"]


@pytest.mark.parametrize(("height", "term"), [(1, 1), (40, 1), (41, 2), (80, 2), (81, 3)])
def test_it_is_a_fault_of_the_term_of_its_height(height, term):
    play = Play(contributors=())
    play.wait_until(85)
    shown(play, DoubleSignature(key("cat").public, height))
    assert play.state.all(Fault)[0].term == term


def test_one_of_a_term_that_is_forgotten_or_of_no_term_is_too_old_to_be_a_fault():
    play = Play(contributors=(), term_length=4, unbonding_blocks=1_450)
    play.wait(3)
    for height in (0, 10**6):
        shown(play, DoubleSignature(key("cat").public, height))
    play.by_hand(lambda now: now.draft.delete(Term, 1))
    shown(play, DoubleSignature(key("cat").public, 2))
    assert not play.state.all(Fault)
    assert tokens(play, "cat") == 3_500


@pytest.mark.parametrize(
    ("height", "ago", "counts"),
    [(159, 500_000, False), (160, 500_000, True), (159, 499_999, True), (1, 499_999, True)],
)
def test_one_that_is_older_than_all_that_stake_answers_for_costs_nothing(height, ago, counts):
    now = later(context(unbonding_seconds=500), 160 + 3_440 - 1, 1_000_000)
    now.draft.put(replace(now.term, ended=now.time - ago))
    now.draft.put(replace(now.draft.need(Term, 2), start=1_001, ends=10**6))
    now.change_chain(term=2)
    assert now.term.start <= now.height
    # The first term is still there, as while a round names it.
    assert now.draft.need(Term, 1).start <= height <= now.draft.need(Term, 1).ends
    before, treasury = now.candidate("ada"), now.chain.treasury
    faults.misconduct(now, DoubleSignature(key("ada").public, height))
    assert now.draft.count(Fault) == int(counts)
    slashed = before.tokens * now.parameters.slash_double_signature // MILLION if counts else 0
    assert slashed == (150 if counts else 0)
    assert now.candidate("ada").tokens == before.tokens - slashed
    assert now.candidate("ada").tombstoned == counts
    assert now.chain.treasury - treasury == slashed
    if not counts:
        assert now.candidate("ada") == before
        assert now.events == []


def test_a_candidate_answers_for_its_key_whether_or_not_it_had_a_seat_at_that_height():
    play = Play(contributors=())
    play.wait(3)
    play.must(("hal", tx.Register(0)))
    play.must(("hal", tx.Bond(2_000)))
    shown(play, DoubleSignature(key("hal").public, 2))
    (fault,) = play.state.all(Fault)
    assert fault.fraction == 100_000
    assert taken(fault) == 200


# Undoing a slash


def test_an_annulled_slash_is_given_back_out_of_the_treasury_once():
    play = Play()
    play.must(("ivy", tx.Undelegate("bob", 100)))
    prove(play, "bob", "double-signature", infraction=1)
    assert play.chain.treasury == 1_000_450
    play.by_hand(lambda context: faults.annul(context, 1, 9))
    # Of the pool's 440 bob had 4,000 parts of 4,400, and ivy 400; of ivy's 100 on their way out 10 were taken.
    assert tokens(play, "bob") == 4_400 - 440
    assert (play.member("bob").free, play.member("ivy").free) == (10_400, 10_050)
    assert play.chain.treasury == 1_000_000
    (event,) = play.events(SlashAnnulled)
    assert (event.fault, event.amount, event.proposal) == (1, 450, 9)
    assert play.state.need(Candidate, "bob").tombstoned
    with pytest.raises(Refused, match="already-done"):
        play.by_hand(lambda context: faults.annul(context, 1, 9))
    with pytest.raises(Refused, match="not-found"):
        play.by_hand(lambda context: faults.annul(context, 2, 9))


def test_a_slash_is_not_annulled_beyond_what_the_treasury_holds():
    play = Play(treasury=100, term_budget=1_000)
    prove(play, "bob", "double-signature")
    play.by_hand(lambda context: (context.treasury(-110), context.free("hal", 110)))
    with pytest.raises(Refused, match="insufficient-funds"):
        play.by_hand(lambda context: faults.annul(context, 1, 9))


# Absence


def absent(play, name, rounds):
    for _ in range(rounds):
        play.round(absent=[name])


def test_too_many_misses_cost_the_seat_and_no_stake_and_the_window_starts_anew():
    play = Play(duty_window=4, duty_misses=2)
    wealth = tokens(play, "cat"), play.member("cat").free
    absent(play, "cat", 1)
    assert not play.state.need(Candidate, "cat").jailed
    play.round()
    absent(play, "cat", 1)
    jailed = play.state.need(Candidate, "cat")
    assert (jailed.jailed, jailed.absent, jailed.window) == (True, True, 0)
    assert play.events(CandidateJailed) == [CandidateJailed("cat", play.height + 20, True)]
    assert not play.state.all(Fault)
    # Its own and its voters' stake is as it was.
    assert (tokens(play, "cat"), play.member("cat").free) == wealth
    assert [one.candidate for one in play.state.need(Term, play.chain.term).seats] == ["ann", "bob", "eve", "dan"]


def test_misses_that_have_left_the_window_do_not_count():
    play = Play(duty_window=3, duty_misses=2)
    for missing in (["cat"], [], [], ["cat"], []):
        play.round(absent=missing)
    assert not play.state.need(Candidate, "cat").jailed
    assert [one.misses for one in play.events(DutyMissed)] == [1, 1]


@pytest.mark.parametrize(("window", "misses"), [(1, 1), (4, 3), (20, 6), (64, 5)])
def test_as_many_misses_as_the_parameter_says_and_not_one_fewer(window, misses):
    play = Play(duty_window=window, duty_misses=misses, term_length=5_000, unbonding_blocks=12_000)
    absent(play, "cat", misses - 1)
    assert not play.state.need(Candidate, "cat").jailed
    absent(play, "cat", 1)
    assert play.state.need(Candidate, "cat").jailed


def test_while_fewer_than_four_would_remain_who_was_absent_stays_unpaid_and_comes_back_when_it_asks():
    play = Play(stakes=dict(list(FOUR.items())), duty_misses=1, duty_window=1, jail_blocks=2)
    absent(play, "cat", 1)
    assert play.state.need(Candidate, "cat").absent
    assert "cat" in [one.candidate for one in play.state.need(Term, play.chain.term).seats]
    play.round()
    paid = [one.candidate for one in play.log[-1] if one.kind == "super-node-paid"]
    assert paid == ["ann", "bob", "dan"]
    play.must(("cat", tx.Unjail()))
    play.round()
    assert "cat" in [one.candidate for one in play.log[-1] if one.kind == "super-node-paid"]


FOUR = {"ann": 5_000, "bob": 4_000, "cat": 3_000, "dan": 2_500}


def test_with_five_the_absent_one_goes():
    windows = {f"{phase}_blocks": 20 for phase in ("commit", "deliver", "compute", "reveal")}
    play = Play(stakes={**FOUR, "eve": 2_400}, super_nodes=5, duty_misses=1, duty_window=1, **windows)
    absent(play, "cat", 1)
    assert "cat" not in [one.candidate for one in play.state.need(Term, play.chain.term).seats]


def test_who_was_elected_for_want_of_others_goes_on_in_the_next_terms():
    play = Play(stakes=FOUR, duty_misses=1, duty_window=1, jail_blocks=10_000)
    absent(play, "cat", 1)
    while play.chain.term < 4:
        play.round()
        play.to_commit()
    assert "cat" in [one.candidate for one in play.state.need(Term, 4).seats]


def test_all_units_are_still_there_after_every_way_to_be_absent():
    for how in ({"absent": ["cat"]}, {"silent": ["cat"]}, {"withhold": ["cat"]}):
        play = Play(stakes=FOUR, duty_misses=1, duty_window=1)
        play.round(**how)
        assert play.state.need(Candidate, "cat").absent
        assert tokens(play, "cat") == 3_500
        assert play.state.need(Member, "cat").free == 10_000
