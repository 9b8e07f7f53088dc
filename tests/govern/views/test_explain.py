import json
import re
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmeta.govern.errors import Refused, StateError
from fedmeta.govern.rules import faults, rewards, stake
from fedmeta.govern.state.records import Candidate, Delegation, Fault, Member, Round, Unbonding
from fedmeta.govern.views.explain import explain
from fedmeta.govern.views.explanation import WHYS, mixed
from fedmeta.govern.views.holdings import holdings
from fedmeta.govern.wire import transactions as tx
from fedmeta.govern.wire.round_events import SuperNodePaid
from fedmeta.govern.wire.signatures import Key
from tests.govern.engines.story import LIE
from tests.govern.playing import CONTRIBUTORS, RECIPE, TIME, Play


class Witness(Play):
    """A chain that also keeps the state of every height, and what each voter was given, in exact fractions."""

    def _take(self, done):
        self.states = [*getattr(self, "states", []), done.state]
        self.given = getattr(self, "given", {})
        return super()._take(done)

    def fair(self, name):
        """Give the k-th update 3 k percent of all, whoever has the seat."""
        own = (self.member(name).organisation == self.member(one).organisation for one in self.latest.members)
        return tuple(0 if mine else 30_000 * rank for rank, mine in enumerate(own, 1))

    def told(self):
        """Return the blocks as they are stored: kinds and maps of fields."""
        return [(at, TIME, [[one.kind, one.fields()] for one in events]) for at, events in enumerate(self.log)]

    def explain(self, member, term=None, since=0):
        return explain(self.told(), member, term, before=self.states[since], after=self.state)


@pytest.fixture(scope="module")
def play():
    """A chain of several terms with all that can happen to a member's units."""
    play = Witness()
    play.round()
    spend = {"kind": "spend", "member": "joy", "amount": 5}
    play.must(
        ("hal", tx.Undelegate("ann", 300)),
        ("ivy", tx.Redelegate("bob", "cat", 300)),
        ("joy", tx.Propose("spend", spend)),
        ("hal", tx.Propose("vetoed", spend)),
    )
    left = play.height
    voters = ("ann", "bob", "cat", "dan")
    play.must(*((name, tx.CastVote(1, "yes")) for name in voters), *((name, tx.CastVote(2, "veto")) for name in voters))
    play.wait(9)
    play.round(results={"dan": LIE})
    # These deeds were before hal's and ivy's stake left: it answers for them wherever it has gone.
    play.by_hand(lambda now: faults.prove(now, "bob", "double-signature", 1, 1))
    play.by_hand(lambda now: faults.prove(now, "ann", "false-result", 1, 1))
    play.round()
    play.must(("hal", tx.CancelUnbonding("ann", left, 100)), ("ivy", tx.Claim()))
    play.must(("joy", tx.Propose("annul", {"kind": "annul-slash", "fault": play.chain.faults})))
    play.must(*((name, tx.CastVote(3, "yes")) for name in ("ann", "cat", "dan", "joy", "hal")))
    play.round()
    play.wait(40)
    contribute(play)
    play.round()
    play.must(("hal", tx.Claim()))
    play.round()
    return play


def contribute(play):
    """Let those register again who have waited through a round without an update."""
    play.wait(40)
    play.block(*((name, tx.JoinRecipe(RECIPE)) for name in CONTRIBUTORS))


def names(play):
    return [one.name for one in play.state.all(Member)]


def test_the_chain_has_all_that_can_happen(play):
    found = {line.why for name in names(play) for line in play.explain(name).lines}
    assert found == set(WHYS)
    assert play.chain.term >= 3


def test_every_members_lines_add_up_to_the_unit(play):
    for name in names(play):
        told = play.explain(name)
        assert told.check.holds, told.render()
        assert told.check.before == holdings(play.states[0], name).total
        assert told.check.after == holdings(play.state, name).total
        assert told.total == told.check.change == sum(total for _, total in told.terms)


def test_they_add_up_from_any_height_on(play):
    for since in range(0, play.height, 3):
        for name in ("hal", "ivy", "joy", "bob", "ann"):
            told = play.explain(name, since=since)
            assert told.first == since + 1
            assert told.check.holds, told.render()


def test_a_term_has_its_own_lines_and_no_others(play):
    whole = play.explain("hal")
    terms = [play.explain("hal", term) for term, _ in whole.terms]
    assert sorted((line for told in terms for line in told.lines), key=lambda line: line.height) == list(whole.lines)
    for told, (term, total) in zip(terms, whole.terms, strict=True):
        assert told.total == total
        assert {line.term for line in told.lines} == {term}


def value(formula):
    """Evaluate the left side of a formula, which is nothing but numbers and signs."""
    left, right = formula.split(" = ")
    assert re.fullmatch(r"[-0-9 */()+]+", left), formula
    return eval(left, {}), int(right)


def test_every_formula_gives_its_amount(play):
    for name in names(play):
        told = play.explain(name)
        for line in told.lines:
            if line.why in ("contributor", "slash") and line.formula:
                left, right = value(line.formula)
                assert left == right == line.amount
            if line.why == "super-node":
                *_, last = [value(one) for one in line.formula.split("; ")]
                assert last == (line.amount, line.amount)
        for one in told.settlements:
            left, right = value(one.formula)
            assert left == right == one.amount


def test_a_voters_line_carries_what_is_left_over_to_the_next(play):
    pattern = re.compile(
        r"(\d+) \* (\d+) / (\d+) = ([^;]+); (?:([^;]+) was left over before; )?(\d+) counted, (.+) left over"
    )
    seen = 0
    for name in names(play):
        for line in play.explain(name).lines:
            if line.why != "voter":
                continue
            voters, held, shares, exact, over, counted, rest = pattern.fullmatch(line.formula).groups()
            assert number(exact) == Fraction(int(voters) * int(held), int(shares))
            assert int(counted) == line.amount
            assert number(over or "0") + number(exact) == line.amount + number(rest)
            assert 0 <= number(rest) < 1
            seen += 1
    assert seen > 10


def number(text):
    return sum(Fraction(one) for one in text.split())


def test_a_contributor_can_follow_its_pay_by_hand(play):
    # The pool of 1,000 gives half to contributors; the k-th update, by name, scores 3 k percent, and no sum is below 1.
    paid = [line for line in play.explain("joy").lines if line.why == "contributor"]
    for line in paid:
        rank = play.states[line.height].need(Round, line.round).members.index("joy") + 1
        assert line.amount == 15 * rank
        assert line.formula == f"500 * {30_000 * rank} // 1000000 = {15 * rank}"
    assert paid


def test_what_was_settled_is_what_the_member_was_ever_paid(play):
    for name in names(play):
        told = play.explain(name)
        pay = sum(line.amount for line in told.lines if line.why in ("contributor", "super-node"))
        settled = sum(one.amount for one in told.settlements if one.settled)
        assert pay + settled == play.member(name).earned
        open_now = sum(one.amount for one in told.settlements if not one.settled)
        assert open_now == sum(one.accrued for one in holdings(play.state, name).bonded)


def test_a_settlement_that_spans_terms_is_divided_by_them_exactly(play):
    spanning = [one for name in names(play) for one in play.explain(name).settlements if len(one.terms()) > 1]
    assert spanning
    for one in spanning:
        assert sum(one.terms().values()) == one.exact == one.amount + one.left
        assert 0 <= one.left < 1
        assert sum(part.counted for part in one.parts) == one.amount


def test_what_a_settlement_leaves_over_is_the_first_part_of_the_next():
    play = Witness()
    play.to_commit()
    for amount in (101, 102, 103, 107):
        act(play, ("pay", "ann", amount))
        act(play, ("delegate", "hal", "ann", 1))
    told = play.explain("hal")
    assert told.check.holds
    first, *later = told.settlements
    assert [part.round for part in first.parts] == [1]
    for before, one in zip([first, *later], later, strict=False):
        carried, paid = one.parts
        assert (carried.round, carried.counted, carried.exact) == (0, 0, before.left)
        assert carried.formula == f"left over at block {before.height}"
        assert paid.round == 1
        assert one.amount + one.left == before.left + paid.exact
        rest = re.match(r"\((\d+) \+ ", one.formula)
        assert rest
        assert abs(Fraction(int(rest[1]), stake.INDEX_SCALE) - before.left) < Fraction(1, 2**60)
    assert len(later) == 3
    assert all(0 < one.left < 1 for one in told.settlements)
    given = sum(part.exact for one in told.settlements for part in one.parts if part.round)
    assert sum(one.amount for one in told.settlements) + told.settlements[-1].left == given
    # What is left over is in the sum that goes on from a state, too.
    for since in range(play.height):
        assert play.explain("hal", since=since).check.holds


def test_who_takes_everything_out_and_comes_back_has_nothing_left_over():
    play = Witness()
    play.to_commit()
    act(play, ("pay", "ann", 101))
    act(play, ("undelegate", "hal", "ann", 1_000))
    act(play, ("delegate", "hal", "ann", 1_000))
    act(play, ("pay", "ann", 101))
    told = play.explain("hal")
    assert told.check.holds
    assert [one.amount for one in told.settlements] == [15, 15]
    # A sixth of the 91 that the commission leaves.
    assert {one.left for one in told.settlements} == {Fraction(1, 6)}
    assert [len(one.parts) for one in told.settlements] == [1, 1]


def test_without_the_states_the_lines_are_the_same_but_nothing_is_checked(play):
    for name in ("hal", "bob"):
        alone, checked = explain(play.told(), name), play.explain(name)
        assert alone.lines == checked.lines
        assert alone.settlements == checked.settlements
        assert alone.check is None
        assert "Not checked" in alone.render()


def test_events_that_lie_do_not_add_up(play):
    told = play.told()
    for _, _, events in told:
        for kind, fields in events:
            if kind == "contributor-paid" and fields["member"] == "joy":
                fields["amount"] += 1
    lied = explain(told, "joy", before=play.states[0], after=play.state)
    assert not lied.check.holds
    assert "DO NOT AGREE" in lied.render()


def test_a_missing_block_and_a_state_of_another_height_are_errors(play):
    told = play.told()
    with pytest.raises(StateError, match="block 5 is missing"):
        explain([*told[:5], *told[6:]], "hal")
    with pytest.raises(StateError, match="block 0 is missing"):
        explain(told[1:], "hal")
    with pytest.raises(StateError, match="height 9"):
        explain(told, "hal", after=play.states[9])


def test_an_unknown_member_is_refused(play):
    with pytest.raises(Refused, match="unknown-member"):
        play.explain("nobody")


def test_who_was_admitted_later_began_with_nothing():
    play = Witness()
    key = Key.from_seed(bytes([77]) * 32).public
    admit = {"kind": "admit", "member": "zoe", "title": "", "public": key, "organisation": "zoe-clinic"}
    play.must(("joy", tx.Propose("a newcomer", admit)))
    play.must(*((name, tx.CastVote(1, "yes")) for name in ("ann", "bob", "cat", "dan")))
    play.wait(9)
    told = play.explain("zoe")
    assert (told.check.before, told.check.after, told.lines) == (0, 0, ())
    play.must(("joy", tx.Propose("a gift", {"kind": "spend", "member": "zoe", "amount": 5})))
    play.must(*((name, tx.CastVote(2, "yes")) for name in ("ann", "bob", "cat", "dan")))
    play.wait(9)
    told = play.explain("zoe")
    assert told.check.holds
    assert (told.check.before, told.check.after, told.total) == (0, 5, 5)


def test_the_value_is_json_and_the_text_has_every_amount(play):
    for name in names(play):
        told = play.explain(name)
        shown = json.loads(json.dumps(told.to_value()))
        assert shown["total"] == sum(line["amount"] for line in shown["lines"])
        assert shown["check"]["holds"] is True
        text = told.render()
        for line in told.lines:
            assert f"{line.amount:+} {WHYS[line.why]}" in text
            assert line.formula in text
        assert f"Sum for all terms: {told.total:+}" in text
        assert "agree to the unit" in text


def test_a_term_in_which_nothing_happened_has_an_empty_sum(play):
    told = play.explain("hal", 99)
    assert (told.total, told.lines) == (0, ())
    assert "Sum for term 99: +0" in told.render()


@pytest.mark.parametrize(
    ("fraction", "text"),
    [
        (Fraction(0), "0"),
        (Fraction(5), "5"),
        (Fraction(2, 3), "2/3"),
        (Fraction(152, 3), "50 2/3"),
        (Fraction(-7, 2), "-3 1/2"),
    ],
)
def test_fractions_are_written_as_people_write_them(fraction, text):
    assert mixed(fraction) == text


VOTERS = ("hal", "ivy", "joy", "ann")
POOLS = ("ann", "bob", "cat")
KINDS = ("false-result", "false-result", "double-signature")

amounts = st.integers(1, 2_000)
steps = st.one_of(
    st.tuples(st.just("delegate"), st.sampled_from(VOTERS), st.sampled_from(POOLS), amounts),
    st.tuples(st.just("undelegate"), st.sampled_from(VOTERS), st.sampled_from(POOLS), amounts),
    st.tuples(st.just("redelegate"), st.sampled_from(VOTERS), st.permutations(POOLS), amounts),
    st.tuples(st.just("cancel"), st.sampled_from(VOTERS), st.integers(0, 3), amounts),
    st.tuples(st.just("claim"), st.sampled_from(VOTERS)),
    st.tuples(st.just("pay"), st.sampled_from(POOLS), st.integers(0, 997)),
    st.tuples(st.just("pay"), st.sampled_from(POOLS), st.integers(0, 997)),
    st.tuples(st.just("slash"), st.sampled_from(POOLS), st.sampled_from(KINDS)),
    st.tuples(st.just("annul"), st.integers(1, 3)),
    st.tuples(st.just("wait"), st.integers(1, 30)),
)


def act(play, step):
    """Do one step in a block of its own; what is refused leaves nothing behind."""
    kind, *rest = step

    def rule(now):
        mark, said = now.draft.mark(), len(now.events)
        try:
            do(now)
        except Refused:
            now.draft.undo(mark)
            del now.events[said:]

    def do(now):
        if kind == "delegate":
            name, pool, amount = rest
            if name == pool:
                stake.bond(now, name, tx.Bond(amount))
            else:
                stake.delegate(now, name, tx.Delegate(pool, amount))
        elif kind == "undelegate":
            stake.undelegate(now, rest[0], tx.Undelegate(*rest[1:]))
        elif kind == "redelegate":
            name, pools, amount = rest
            stake.redelegate(now, name, tx.Redelegate(pools[0], pools[1], amount))
        elif kind == "cancel":
            name, at, amount = rest
            entries = now.draft.where(Unbonding, "member", name)
            if entries:
                entry = entries[at % len(entries)]
                stake.cancel_unbonding(now, name, tx.CancelUnbonding(entry.candidate, entry.created, amount))
        elif kind == "claim":
            stake.claim(now, rest[0], tx.Claim())
        elif kind == "pay":
            pay(now, *rest)
        elif kind == "slash":
            faults.prove(now, *rest, now.chain.term, max(now.height - 20, 0))
        else:
            if now.draft.get(Fault, rest[0]):
                faults.annul(now, rest[0], 0)

    def pay(now, name, pool):
        round, candidate = now.draft.need(Round, now.chain.round), now.candidate(name)
        now.treasury(-rewards._pay_super_node(now, round, name, pool * len(round.seats)))
        paid = now.events[-1]
        assert isinstance(paid, SuperNodePaid)
        if candidate.shares and paid.voters:
            for voter in VOTERS:
                held = now.draft.get(Delegation, voter, name)
                if held:
                    key = voter, name, paid.term
                    part = Fraction(paid.voters * held.shares, candidate.shares)
                    play.given[key] = play.given.get(key, Fraction(0)) + part

    if kind == "wait":
        play.wait(rest[0])
    else:
        play.by_hand(rule)


@settings(max_examples=30)
@given(st.lists(steps, min_size=5, max_size=25))
def test_whatever_happens_it_adds_up_and_agrees_with_naive_fractions(course):
    play = Witness(slash_false_result=333_333, slash_double_signature=500_000, max_delegations=9)
    play.to_commit()
    for step in course:
        act(play, step)
    for name in VOTERS:
        told = play.explain(name)
        assert told.check.holds, told.render()
        parts = {}
        for one in told.settlements:
            assert 0 <= one.left < 1
            for part in one.parts:
                if part.round:
                    key = name, one.candidate, part.term
                    parts[key] = parts.get(key, Fraction(0)) + part.exact
            left, right = value(one.formula)
            assert left == right == one.amount
        assert parts == {key: part for key, part in play.given.items() if key[0] == name}
        for middle in (len(play.states) // 3, len(play.states) // 2):
            assert play.explain(name, since=middle).check.holds
    for candidate in play.state.all(Candidate):
        assert candidate.outstanding >= 0
