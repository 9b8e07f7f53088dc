"""The trainer's jobs: the result is the exact one whatever the scores are, and who cannot score says so."""

from dataclasses import asdict

import numpy as np
import pytest

from fedmeta import data as sets
from fedmeta.node import scoring, training
from fedmeta.node.aggregation import Exact
from fedmeta.node.member.data import examples
from fedmeta.node.member.policy import Policy
from fedmeta.node.process.trainer import JOBS
from tests.node.member.made import configured, procedure, table

SECRET = bytes(range(32))
BUDGET = 250_000
NAMES = ["coast", "north", "south", "west"]


@pytest.fixture(scope="module")
def federation(tmp_path_factory):
    """A procedure with named classes, a state, and four members' updates."""
    folder = tmp_path_factory.mktemp("federation")
    made = procedure(folder)
    exact = Exact(made)
    state = exact.initial()
    sent = []
    for number, _ in enumerate(NAMES):
        draw = np.random.default_rng(number)
        x = np.stack([draw.integers(30, 80, 40), draw.integers(0, 2, 40)], axis=1).astype(np.float32)
        y = (x[:, 0] + 20 * x[:, 1] > 60).astype(np.int32)
        own = sets.from_arrays(x, y, np.zeros(40, int), classes=2)
        sent.append(training.train(made, own, state, 1, SECRET))
    return exact, state, sent


def member(folder, rows=120):
    table(folder / "visits.csv", rows)
    return configured(folder, data__paths=["visits.csv"], data__target="ill")


def aggregate(config, federation, memory=b"", **changed):
    exact, state, sent = federation
    own = [True, False, False, False]
    head = {
        "round": 1,
        "members": NAMES,
        "own": own,
        "budget": BUDGET,
        "score": True,
        "milliseconds": 60_000,
        **changed,
    }
    answer, (after, kept) = JOBS["aggregate"](config, head, [exact.procedure.to_bytes(), state, memory, *sent])
    assert after == exact.aggregate(state, sent)
    return answer, kept


def test_updates_are_scored_by_the_members_held_out_examples(tmp_path, federation):
    exact, state, sent = federation
    config = member(tmp_path)
    answer, kept = aggregate(config, federation)
    x, y = examples(config, exact.procedure.inputs)
    held = scoring.held_out(y, int(exact.procedure.digest[:16], 16))
    assert held.sum() == 30
    one = sets.from_arrays(x[held], y[held], np.zeros(30, int), classes=2)
    asked = scoring.Round(1, tuple(NAMES), (True, False, False, False), BUDGET)
    scores, memory = scoring.score(exact, state, sent, asked, one)
    assert answer == {"scores": list(scores), "unscored": ""}
    assert kept == memory
    assert sum(scores) == 3 * BUDGET


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (0, "this member has no examples to score by"),
        (30, "of 30 examples too few can be held out"),
        (-1, "absent.csv"),
    ],
)
def test_who_cannot_score_gives_all_others_the_same_and_says_why(tmp_path, federation, rows, says):
    config = member(tmp_path, rows) if rows > 0 else configured(tmp_path)
    if rows < 0:
        config = configured(tmp_path, data__paths=["absent.csv"])
    answer, kept = aggregate(config, federation, b"before")
    assert says in answer["unscored"]
    assert answer["scores"] == [0, BUDGET, BUDGET, BUDGET]
    assert kept == b"before"


def test_scores_that_take_too_long_keep_nobody_from_the_result(tmp_path, federation):
    answer, kept = aggregate(member(tmp_path), federation, b"memory", milliseconds=0)
    assert answer["scores"] == [0, BUDGET, BUDGET, BUDGET]
    assert "longer than this round has time" in answer["unscored"]
    assert kept == b"memory"


def test_what_was_kept_is_given_on_and_a_damaged_one_is_begun_anew(tmp_path, federation):
    config = member(tmp_path)
    first, kept = aggregate(config, federation)
    assert aggregate(config, federation, b"damaged") == (first, kept)
    # The same updates once more are no news.
    again, _ = aggregate(config, federation, kept, round=2)
    assert again == {"scores": [0, 0, 0, 0], "unscored": ""}


def test_what_is_computed_once_more_is_not_scored_again(tmp_path, federation):
    answer, kept = aggregate(member(tmp_path), federation, b"before", score=False)
    assert (answer["scores"], kept) == ([0, BUDGET, BUDGET, BUDGET], b"before")


def test_who_may_have_a_seat_trains_on_what_is_not_held_out(tmp_path, federation, monkeypatch):
    exact, state, _ = federation
    config = member(tmp_path)
    made = exact.procedure
    x, y = examples(config, made.inputs)
    held = scoring.held_out(y, int(made.digest[:16], 16))
    monkeypatch.setattr(Policy, "reasons", lambda policy, described, count: [f"{count} examples"])
    for seat, rows in ((True, ~held), (False, np.ones(len(y), bool))):
        _, (message,) = JOBS["train"](config, {"round": 4, "seat": seat}, [made.to_bytes(), state, SECRET])
        own = sets.from_arrays(x[rows], y[rows], np.zeros(rows.sum(), int), classes=2, name="coast")
        assert message == training.train(made, own, state, 4, SECRET)
        plain = {name: list(one) if isinstance(one, tuple) else one for name, one in asdict(Policy()).items()}
        asked = {"contributes": True, "seat": seat, "policy": plain}
        found, _ = JOBS["describe"](config, asked, [made.to_bytes()])
        assert (found["examples"], found["reasons"]) == (rows.sum(), [f"{rows.sum()} examples"])
        assert found["message"] == len(message)
