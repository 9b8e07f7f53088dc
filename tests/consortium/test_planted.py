"""What planted contributors are paid: closed forms and invariants, and that the scores are those of a node."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmeta import pytrees, random
from fedmeta.consortium import hospitals, methods, said
from fedmeta.consortium.hospitals import TITLES
from fedmeta.consortium.planted import measured
from fedmeta.consortium.planted.cases import CASES, Sight
from fedmeta.consortium.planted.payments import RULES, paid
from fedmeta.consortium.planted.rounds import GAMES, SENT, Scene, play
from fedmeta.consortium.results import Comparison
from fedmeta.consortium.scores import Interval
from fedmeta.errors import UsageError
from fedmeta.federation import Message
from fedmeta.node import scoring
from fedmeta.node.aggregation import Exact
from fedmeta.node.scoring import Round
from fedmeta.transforms import identity
from tests.consortium import made
from tests.examples import examples

HUNDREDTH = 1_000_000 // 5 * 4 // scoring.STEPS
"""The points of a step of a seat that scores four others."""


@pytest.fixture(scope="module")
def drawn():
    return hospitals.drawn(3)


@pytest.fixture(scope="module")
def scene(drawn):
    return Scene(drawn, methods.procedure(members=5), 1)


def sight(seed=0, count=6, **changed):
    """Return what a contributor sees in the third round, of updates that are drawn."""
    draw = np.random.default_rng(seed)
    values = {
        "round": 3,
        "steps": list(draw.normal(size=(2, count))),
        "others": list(draw.normal(size=(2, 4, count))),
        "now": draw.normal(size=(4, count)),
        "honest": lambda labels=None: np.full(count, 0.25),
        "labels": np.array([0, 1]),
        "shuffled": np.array([1, 0]),
        "own": [],
        "draw": draw,
        "copied": 2,
        "longest": 1.5,
    }
    return Sight(**(values | changed))


def test_zeros_are_paid_exactly_nothing_by_every_rule(scene):
    found = play(scene, "zeros", 2)
    for seats in found:
        for one in seats:
            assert {name: values[-1] for name, values in one.items()} == dict.fromkeys(one, 0.0)
    for rule in RULES.values():
        assert not paid(found, rule).shares[:, -1].any()


def test_a_duplicate_pair_is_paid_alike_by_whoever_owns_neither(scene):
    found = play(scene, "duplicate", 2)
    copied = scene.seed % 4
    for number in range(1, len(found) + 1):
        for seat in set(range(4)) - {copied}:
            seen = [one[seat] for one in found[:number]]
            for values in seen[-1].values():
                assert values[copied] == pytest.approx(values[-1], abs=1e-6)
            for rule in RULES.values():
                points = rule(seen, tuple(at == seat for at in range(5)))
                assert abs(points[copied] - points[-1]) <= HUNDREDTH


def test_a_replay_is_paid_nothing_and_would_be_if_the_rule_took_no_account_of_news(scene, monkeypatch):
    found = play(scene, "last-step", 3)
    shares = {name: paid(found, rule).shares[:, -1] for name, rule in RULES.items()}
    np.testing.assert_array_equal(shares["node"], 0.0)
    assert shares["exact Shapley"][1:].mean() > 0.1
    monkeypatch.setattr(scoring, "news", lambda updates, before: updates)
    sabotaged = paid(play(scene, "last-step", 3), RULES["node"]).shares[:, -1]
    assert sabotaged[1:].mean() > 0.1


def test_who_turns_the_sign_earns_less_than_any_hospital_unless_harm_counts_as_news(scene, monkeypatch):
    found = play(scene, "sign-flip", 4)
    shares = paid(found, RULES["node"]).shares.mean(0)
    assert shares[-1] < shares[:-1].min()
    monkeypatch.setattr(scoring, "points", lambda worth, new, own, budget: _whatever_is_new(new, own, budget))
    assert paid(found, RULES["node"]).shares[:, -1].mean() > shares[-1]


def _whatever_is_new(new, own, budget):
    size = np.where(own, 0.0, np.abs(new))
    return tuple((int((~np.array(own)).sum()) * budget * size / size.sum()).astype(int).tolist())


@given(seed=st.integers(0, 10_000), count=st.integers(1, 4))
@examples(30)
def test_shares_are_never_negative_nor_more_than_the_pool(seed, count):
    draw = np.random.default_rng(seed)
    names = (*SENT, *GAMES, "without")
    found = [[{name: draw.normal(size=5) for name in names} for _ in range(4)] for _ in range(count)]
    for rule in RULES.values():
        shares, distance = paid(found, rule)
        assert shares.shape == (count, 5)
        assert shares.min() >= 0
        assert shares.sum(1).max() <= 1 + 1e-12
        assert 0 <= distance <= 1


def test_a_seat_alone_lifts_nobody_above_what_an_honest_seat_gives():
    """Three seats find the same; the fourth finds that the planted one alone is worth anything."""
    alike = dict.fromkeys((*SENT, *GAMES, "without"), np.array([0.2, 0.3, 0.1, 0.4, 0.1]))
    friend = dict.fromkeys(alike, np.array([0.0, 0.0, 0.0, 0.0, 9.0]))
    for rule in RULES.values():
        for praising in range(4):
            seats = [friend if seat == praising else alike for seat in range(4)]
            honest = [rule([alike], tuple(at == seat for at in range(5)))[-1] for seat in range(4) if seat != praising]
            assert 0 < paid([seats], rule).shares[0, -1] <= max(honest) / 1_000_000


def test_a_seat_comes_to_the_points_that_a_node_does(scene):
    """By `scoring.score`, from the messages' bytes and its memory, in place of the updates and what was found."""
    sent = []
    spy = {"spied": lambda updates, past: sent.append(updates) or updates}
    found = play(scene, "noise", 2, spy | GAMES)
    exact, names = Exact(scene.procedure), ("a", "b", "c", "d", "e")
    state, memory, seat = scene.state, b"", 2
    own, given = tuple(at == seat for at in range(5)), 0
    for number, updates in enumerate(sent, 1):
        messages = [_message(scene, update) for update in updates]
        round = Round(number, names, own, 200_000)
        scores, memory = scoring.score(exact, pytrees.to_bytes(state), messages, round, scene._held[seat], memory)
        expected = RULES["node"]([one[seat] for one in found[:number]], own)
        assert max(abs(one - other) for one, other in zip(scores, expected, strict=True)) <= HUNDREDTH
        assert sum(scores) == sum(expected)
        given += sum(scores)
        state = scene.federation.step(state, scene.tree_of(updates.mean(0).astype(np.float32)))
    assert given >= 800_000


def _message(scene, update):
    """Return an update as bytes; it is clipped and on the grid already."""
    body, _ = scene._grid.encode(scene.tree_of(update.astype(np.float32)), (), random.default_key())
    return pytrees.to_bytes(Message(body, np.float32(1)))


def test_what_is_sent_is_as_long_as_its_case_says():
    one = sight()
    median = np.median(np.linalg.norm(one.now, axis=1))
    for name in ("noise", "last-five", "others-recent", "half-step"):
        assert np.linalg.norm(CASES[name].send(one)) == pytest.approx(median), name
    for name in ("long-noise", "scaling"):
        assert np.linalg.norm(CASES[name].send(one)) == pytest.approx(1.5), name
    np.testing.assert_array_equal(CASES["last-step"].send(one), one.steps[-1])
    np.testing.assert_array_equal(CASES["duplicate"].send(one), one.now[2])
    np.testing.assert_array_equal(CASES["sign-flip"].send(one), np.full(6, -0.25))


def test_who_knows_nothing_yet_sends_zeros():
    first = sight(round=1, steps=[], others=[])
    for name in ("zeros", "last-step", "last-five", "older-steps", "others-recent", "others-older", "half-step"):
        assert not CASES[name].send(first).any(), name


def test_mixes_are_of_what_was_seen_and_of_nothing_else():
    """A mix of the steps lies in their span, one of others' updates in theirs."""
    one = sight(count=40)
    for name, known in (("last-five", one.steps), ("others-recent", np.concatenate(one.others))):
        known = np.array(known)
        found = CASES[name].send(one)
        rest = found - known.T @ np.linalg.lstsq(known.T, found, rcond=None)[0]
        assert np.linalg.norm(rest) < 1e-9 * np.linalg.norm(found), name


def test_labels_are_those_that_the_case_says():
    asked = []
    one = sight(honest=lambda labels=None: asked.append(labels) or np.zeros(6))
    for name in ("label-flip", "shuffled", "honest"):
        CASES[name].send(one)
    assert [None if labels is None else labels.tolist() for labels in asked] == [[1, 0], [1, 0], None]


def test_an_honest_update_is_kept_as_long_as_the_case_says():
    made_anew = []
    for name, expected in (("once", 1), ("every-third", 2)):
        own = []
        made_anew.clear()
        for number in range(1, 6):
            CASES[name].send(sight(round=number, own=own, honest=lambda: made_anew.append(0) or np.zeros(6)))
        assert len(made_anew) == expected, name


def test_what_is_measured_comes_back_through_json(drawn):
    told = []
    found = measured.measure(drawn, 2, 5, told.append, ("honest", "zeros"), 2)
    assert told == ["seed 1 of 2", "seed 2 of 2"]
    assert (found.rounds, found.seeds) == (2, 2)
    honest, zeros = found["honest"], found["zeros"]
    assert zeros.ahead_in == 0
    assert found.smallest <= min(share.value for one in found.cases for share in one.hospitals.values())
    assert honest.than_honest == Interval(0, 0, 0)
    assert zeros.paid == zeros.shapley == zeros.left_out == Interval(0, 0, 0)
    for one in found.cases:
        assert set(one.hospitals) == set(TITLES)
        smallest = min(share.value for share in one.hospitals.values())
        assert one.hospitals[one.least].value == smallest
        assert one.ahead.value == pytest.approx(one.paid.value - smallest)
        assert one.than_honest.value == pytest.approx(one.paid.value - honest.paid.value)
        for share in (one.paid, one.shapley, one.left_out, *one.hospitals.values()):
            assert 0 <= share.low <= share.value <= share.high <= 1
    whole = replace(made.comparison(), planted=found)
    content = json.loads(json.dumps(whole.to_dict()))
    assert set(content["planted"]) == {"algorithm", "rounds", "seeds", "cases", "unpaid", "smallest"}
    assert set(content["planted"]["cases"][0]) == {
        "name", "title", "kind", "paid", "shapley", "left_out", "hospitals", "least", "ahead", "ahead_in",
        "than_honest",
    }  # fmt: skip
    assert Comparison.from_dict(content).planted == found


def test_every_case_of_the_report_is_one_and_honest_is_among_them():
    assert set(measured.REPORTED) <= set(CASES)
    assert measured.REPORTED[0] == measured.HONEST


def test_a_hospital_that_can_hold_out_too_few_is_named(drawn):
    small = hospitals.Hospital("zurich", drawn["zurich"].patients.of(np.arange(60)))
    with pytest.raises(UsageError, match="Zurich/Basel has 60 patients; to hold out 20 it needs 80"):
        Scene(replace(drawn, members=(drawn["budapest"], small)), methods.procedure(), 0)


def test_updates_that_are_not_clipped_and_rounded_are_refused(drawn):
    made_otherwise = replace(methods.procedure(), transform=identity())
    with pytest.raises(UsageError, match="clipped and sent on a grid, not by identity"):
        Scene(drawn, made_otherwise, 0)


def test_what_came_out_ahead_is_said_and_what_the_interval_leaves_open():
    none = " ".join(said.earned(made.planted(ahead=-0.05, than_honest=-0.01)))
    assert "none of the planted ones came out ahead of an honest hospital" in none
    assert "rule it out" not in none
    assert "More than that is paid for: none of the others." in none
    unsure = " ".join(said.earned(made.planted(ahead=-0.01)))
    assert "none of the planted ones came out ahead" in unsure
    assert "The interval does not rule it out for: zeros; noise; " in unsure
    assert "paid least in that seed: none. The least that a hospital was paid in a seed: 1.1 %." in unsure
    some = " ".join(said.earned(made.planted(ahead=0.03, than_honest=0.02, ahead_in=3)))
    assert "paid least in that seed: zeros (3 of 4); noise (3 of 4); " in some
    assert "none of the planted ones" not in some
    assert (
        "these came out ahead of the hospital that was paid least beside them: zeros (by 3.0 points, 1.0 to 5.0); "
        in some
    )
    assert "More than that is paid for: zeros (by 2.0 points, 0.0 to 4.0); " in some
