"""Which settings are tried: scores and operations are made up here, by formulas."""

import json
import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmeta.study.grid import tuning
from fedmeta.study.grid.entries import Tuning
from fedmeta.study.grid.file import Study
from fedmeta.study.grid.procedures import Spec
from fedmeta.study.grid.tuning import Chosen, Tried, Try
from tests.examples import examples

RATES = {"inner_lr": [0.03, 0.1, 0.3], "inner_steps": [1, 3]}
SERVERS = {"server": ["adam:0.01", "adam:0.03"]}


(DIGITS,) = Study.parse('[data.digits]\nsource = "digits"\n[procedures.maml]', "a.toml").entries


def subject(grid, rounds=400, floor=0.25, twins=False):
    """MAML with a grid, or the twins."""
    grid = {name: tuple(values) for name, values in grid.items()}
    specs = {"maml": Spec({"algorithm": "maml"}, grid=grid)}
    if twins:
        specs = {"fedavg": Spec({"algorithm": "fedavg"}), "fedavg-meta": Spec({"algorithm": "fedavg-meta"}, grid=grid)}
    entry = replace(
        DIGITS,
        chosen=dict(DIGITS.chosen) | {"rounds": rounds},
        tuning=Tuning(tflops=1.0, floor=floor),
        procedures=specs,
    )
    (found,) = tuning.subjects(entry)
    return found


def named(settings):
    return json.dumps(settings, sort_keys=True)


class Played:
    """Tunes with scores and a cost for each round that are given by formulas of the settings."""

    def __init__(self, one, budget, score, cost=lambda settings: 1.0):
        self.asked: list[list[Try]] = []
        self.spent: dict[str, float] = {}
        plan = tuning.tune(one, float(budget))
        tries = next(plan)
        while True:
            assert len(self.asked) < 500
            self.asked.append(tries)
            assert len({named(each.settings) for each in tries}) == len(tries)
            results = [self._tried(each, score, cost) for each in tries]
            try:
                tries = plan.send(results)
            except StopIteration as ended:
                self.found = ended.value
                return

    def _tried(self, one, score, cost):
        self.spent[named(one.settings)] = cost(one.settings) * one.rounds
        value = score(one.settings)
        scores = value if isinstance(value, dict) else {"before": value, "after": value}
        return Tried(one.settings, one.rounds, scores, None, self.spent[named(one.settings)])

    @property
    def total(self):
        return sum(self.spent.values())

    @property
    def rounds(self):
        """By settings, for how many rounds they were tried, in order."""
        found: dict[str, list[int]] = {}
        for tries in self.asked:
            for one in tries:
                found.setdefault(named(one.settings), []).append(one.rounds)
        return found


def bowl(*, at, steps=1, server="adam:0.01"):
    """The best is at a rate, a number of steps and a server's rate; the curve is a parabola in their logarithms."""

    def score(settings):
        off = [settings["inner_lr"] / at, settings["inner_steps"] / steps]
        if "server" in settings:
            off.append(float(settings["server"].partition(":")[2]) / float(server.partition(":")[2]))
        return -sum(math.log(each) ** 2 for each in off)

    return score


@pytest.mark.parametrize(
    ("rounds", "floor", "found"),
    [
        (400, 0.25, [100, 200, 400]),
        (400, 1.0, [400]),
        (400, 0.5, [200, 400]),
        (10, 0.25, [3, 6, 10]),
        (1, 0.01, [1]),
        (7, 0.1, [1, 2, 4, 7]),
    ],
)
def test_candidates_are_looked_at_from_the_floor_on_after_twice_as_many_rounds_each_time(rounds, floor, found):
    assert tuning.rungs(rounds, floor) == found


@given(st.integers(1, 5000), st.floats(0.01, 1.0))
def test_no_rung_is_below_the_floor_and_the_last_one_is_whole(rounds, floor):
    found = tuning.rungs(rounds, floor)
    assert found[-1] == rounds
    assert found[0] >= floor * rounds or rounds == 1
    assert all(before < after <= 2 * before for before, after in pairwise(found))


@pytest.mark.parametrize(
    ("at", "steps", "server"), [(0.1, 1, "adam:0.03"), (0.9, 6, "adam:0.01"), (0.0027, 3, "adam:0.27")]
)
def test_the_bottom_of_a_bowl_is_found_also_outside_of_the_grid(at, steps, server):
    # The grid's ratios are 10/3 downwards and 3 upwards.
    played = Played(subject(RATES | SERVERS), 40_000, bowl(at=at, steps=steps, server=server))
    assert dict(played.found["maml"].best.settings) == {"inner_lr": at, "inner_steps": steps, "server": server}
    assert played.found["maml"].best.rounds == 400
    assert played.found["maml"].at_edge == ()


def test_the_edge_that_is_left_is_named():
    # Enough for all candidates and one step beyond.
    short = Played(subject(RATES), 7 * 400, bowl(at=1e-5, steps=2))
    assert short.total <= 7 * 400
    assert short.found["maml"].best.settings["inner_lr"] < 0.03
    assert "inner_lr" in short.found["maml"].at_edge
    # A value inside of the grid has no edge.
    assert Played(subject(RATES), 40_000, bowl(at=0.1, steps=3)).found["maml"].at_edge == ()


grids = st.fixed_dictionaries(
    {
        "inner_lr": st.lists(st.sampled_from([0.01, 0.03, 0.1, 0.3, 1.0]), min_size=1, max_size=4, unique=True),
        "inner_steps": st.lists(st.sampled_from([1, 2, 3, 5]), min_size=1, max_size=3, unique=True),
    }
)


@examples(30)
@given(grids, st.integers(8, 200), st.floats(0.001, 10.0), st.integers(1, 8), st.sampled_from([0.1, 0.25, 0.5, 1.0]))
def test_the_operations_stay_within_the_budget_and_nobody_is_dropped_before_the_floor(grid, times, at, steps, floor):
    # Each candidate costs the same, and the budget is for the ladder of four of them at least.
    played = Played(subject(grid, floor=floor), times * 400, bowl(at=at, steps=steps))
    assert played.total <= times * 400
    ladder = tuning.rungs(400, floor)
    for rounds in played.rounds.values():
        assert rounds[0] >= floor * 400
        assert set(rounds) <= set(ladder)
        assert rounds == sorted(set(rounds))
    # Of each rung the better half goes on.
    rungs = [tries for tries in played.asked if tries[0].rounds < 400]
    last = [one for tries in rungs if tries[0].rounds == ladder[0] for one in tries]
    best = max((bowl(at=at, steps=steps)(one.settings) for one in last), default=None)
    if best is not None:
        assert bowl(at=at, steps=steps)(played.found["maml"].best.settings) >= best


@examples(16)
@given(st.integers(20, 120), st.integers(1, 64), st.booleans())
def test_steps_beyond_the_edge_are_not_begun_where_they_may_cost_too_much(times, steps, twins):
    """A candidate costs as its steps: beyond the edge they double, and so does the cost."""
    name = "inner_epochs" if twins else "inner_steps"
    one = subject({"inner_lr": [0.03, 0.1, 0.3], name: [1, 2]}, twins=twins)

    def score(settings):
        after = -(math.log(settings[name] / steps) ** 2) - math.log(settings["inner_lr"] / 0.1) ** 2
        return {"before": -after, "after": after}

    played = Played(one, times * 400, score, lambda settings: float(settings[name]))
    assert played.total <= times * 400


def test_what_may_cost_at_most_grows_with_what_is_counted():
    best = Tried({"inner_lr": 0.1, "inner_steps": 3, "rates": "layer"}, 400, {}, None, 30.0)
    assert tuning.at_most(best, {"inner_lr": 0.3, "inner_steps": 3, "rates": "layer"}) == 30
    assert tuning.at_most(best, {"inner_lr": 0.1, "inner_steps": 6, "rates": "layer"}) == 60
    assert tuning.at_most(best, {"inner_lr": 0.1, "inner_steps": 1, "rates": "layer"}) == 30
    assert tuning.at_most(best, {"inner_lr": 0.1, "inner_steps": 3, "rates": "filter"}) == 30


def test_twins_are_one_training_that_is_judged_twice():
    one = subject({"inner_lr": [0.03, 0.1, 0.3]}, twins=True)
    assert (one.trained, dict(one.judged)) == ("fedavg-meta", {"fedavg": "before", "fedavg-meta": "after"})
    # FedAvg's best rate is below the grid, FedAvg(Meta)'s above it.
    played = Played(
        one,
        20_000,
        lambda settings: {
            "before": -(math.log(settings["inner_lr"] / 0.009) ** 2),
            "after": -(math.log(settings["inner_lr"] / 0.9) ** 2),
        },
    )
    rates = {name: chosen.best.settings["inner_lr"] for name, chosen in played.found.items()}
    assert rates == {"fedavg": 0.009, "fedavg-meta": 0.9}


def test_of_twins_both_have_their_best_among_those_that_go_on():
    field = [Tried({"inner_lr": rate}, 1, {"before": -rate, "after": rate}, None, 1.0) for rate in np.arange(6.0)]
    kept = tuning.survivors(field, ["before", "after"], 3)
    assert [one.settings["inner_lr"] for one in kept] == [0, 5, 1]


def test_a_procedure_with_a_grid_of_its_own_is_tuned_on_its_own():
    text = """
    [data.digits]
    source = "digits"
    tuning = { tflops = 1 }
    [procedures.fedavg]
    grid = { inner_lr = [0.1] }
    [procedures.fedavg-meta]
    grid = { inner_lr = [0.1] }
    [procedures.maml]
    [procedures.majority]
    baseline = "majority"
    """
    found = tuning.subjects(Study.parse(text, "a.toml").entries[0])
    assert [dict(one.judged) for one in found] == [{"fedavg": "after"}, {"fedavg-meta": "after"}]


def test_what_diverged_does_not_go_on():
    # Only rates up to 0.1 do not diverge.
    played = Played(subject(RATES | SERVERS), 40_000, lambda one: None if one["inner_lr"] > 0.1 else bowl(at=10.0)(one))
    assert played.found["maml"].best.settings["inner_lr"] == 0.1
    assert all(json.loads(name)["inner_lr"] <= 0.1 for name, rounds in played.rounds.items() if len(rounds) > 1)
    assert Tried({}, 1, {"after": math.nan}, None, 0.0).score("after") == -math.inf


@pytest.mark.parametrize("floor", [0.25, 1.0])
@pytest.mark.parametrize("score", [lambda settings: None, lambda settings: -math.inf], ids=["diverged", "not finite"])
def test_nothing_is_chosen_where_all_diverged(score, floor):
    assert Played(subject(RATES, floor=floor), 10_000, score).found == {}


def test_what_diverged_in_the_last_rounds_is_not_chosen():
    one, seen = subject(RATES), []

    def score(settings):
        seen.append(named(settings))
        return None if seen.count(named(settings)) == 3 else 0.5

    assert Played(one, 8 * 400, score).found == {}


def test_of_twins_one_may_be_lost():
    played = Played(subject({"inner_lr": [0.1]}, twins=True), 4000, lambda settings: {"before": 0.3, "after": None})
    assert list(played.found) == ["fedavg"]


def test_what_an_algorithm_refuses_beyond_the_grid_is_left_out():
    # A tenth of the smallest rate is no number above 0.
    one = subject({"inner_lr": [1e-320, 1e-319]})
    played = Played(one, 40_000, lambda settings: -settings["inner_lr"])
    assert played.found["maml"].at_edge == ()
    assert all(json.loads(name)["inner_lr"] > 0 for name in played.rounds)


def test_all_settings_of_a_grid_are_candidates_in_an_order_that_is_drawn_by_name():
    one, other = (list(tuning.candidates(RATES, name)) for name in ("maml", "fomaml"))
    assert sorted(map(named, one)) == sorted(map(named, other))
    assert len({named(each) for each in one}) == 6
    assert one != other
    assert one == list(tuning.candidates(RATES, "maml"))


@pytest.mark.parametrize(
    ("value", "values", "found"),
    [
        (0.1, [0.03, 0.1, 0.3], [0.03, 0.3]),
        (0.3, [0.3, 0.1, 0.03], [0.1, 0.9]),
        (0.03, [0.03, 0.1, 0.3], [0.009, 0.1]),
        (0.009, [0.03, 0.1, 0.3], [0.0027, 0.03]),
        (0.1, [0.1], []),
        (3, [1, 3], [1, 6]),
        (1, [1, 3], [3]),
        (4, [4, 8], [2, 8]),
        ("adam:0.03", ["adam:0.01", "adam:0.03", "sgd:1.0"], ["adam:0.01", "adam:0.09"]),
        ("sgd:1.0", ["adam:0.01", "adam:0.03", "sgd:1.0"], []),
        ("adam:0.010", ["adam:0.010", "adam:0.1"], ["adam:0.001", "adam:0.1"]),
        ("filter", ["filter", "layer"], ["layer"]),
        (True, [True, False], [False]),
        (-1.0, [-1.0, 1.0], [1.0]),
    ],
)
def test_the_values_next_to_one(value, values, found):
    assert tuning.beside(value, values) == found


def test_neighbours_beyond_the_grid_come_first_and_those_that_were_not_tried_are_its_edges():
    grid = {"inner_lr": (0.1, 0.3), "inner_steps": (1, 3)}
    best = {"inner_lr": 0.3, "inner_steps": 1}
    found = tuning.neighbours(best, grid)
    assert found == [
        {"inner_lr": 0.9, "inner_steps": 1},
        {"inner_lr": 0.1, "inner_steps": 1},
        {"inner_lr": 0.3, "inner_steps": 3},
    ]
    assert tuning.edges(best, grid, set()) == ("inner_lr",)
    assert tuning.edges(best, grid, {tuning.named(found[0])}) == ()


def chosen(settings, dose=None):
    return Chosen(Tried(settings, 400, {"after": 1.0}, dose, 1.0), ())


THRICE = {"rate": 3.0, "steps": 4, "part": "all"}


@pytest.mark.parametrize(
    ("told", "settings", "dose", "found"),
    [
        ({"algorithm": "maml"}, {"inner_lr": 0.1}, None, {"inner_lr": 0.1}),
        ({"algorithm": "maml"}, {"inner_lr": 0.1}, THRICE, {"inner_lr": 0.1, "adapt_steps": 4, "adapt_lr": 0.3}),
        ({"algorithm": "maml"}, {"inner_lr": 0.1}, THRICE | {"rate": 1.0}, {"inner_lr": 0.1, "adapt_steps": 4}),
        ({"algorithm": "maml"}, {"inner_lr": 0.1}, THRICE | {"steps": 0}, {"inner_lr": 0.1}),
        ({"algorithm": "meta-sgd"}, {"inner_lr": 0.1}, THRICE, {"inner_lr": 0.1, "adapt_steps": 4}),
        ({"algorithm": "per-fedavg"}, {"inner_lr": 0.1}, THRICE, {"inner_lr": 0.1}),
        # What the file says of the rate, and of passes instead of steps.
        (
            {"algorithm": "maml", "algorithm_options": {"inner_lr": 0.2}},
            {"inner_steps": 2},
            THRICE,
            {"inner_steps": 2, "adapt_steps": 4, "adapt_lr": 0.6},
        ),
        (
            {"algorithm": "maml", "algorithm_options": {"adapt_lr": 0.01}},
            {"inner_lr": 0.1},
            THRICE,
            {"inner_lr": 0.1, "adapt_steps": 4, "adapt_lr": 0.03},
        ),
        (
            {"algorithm": "maml", "algorithm_options": {"adapt_epochs": 2}},
            {"inner_lr": 0.1},
            THRICE,
            {"inner_lr": 0.1, "adapt_lr": 0.3},
        ),
        # FedAvg does not adapt, and was trained as one that does.
        ({"algorithm": "fedavg"}, {"inner_lr": 0.1, "adapt_steps": 2, "adapt_lr": 0.5}, THRICE, {"inner_lr": 0.1}),
    ],
)
def test_what_is_chosen_is_written_as_options(told, settings, dose, found):
    assert tuning.tuned(Spec(told), chosen(settings, dose)) == {"options": found}


def test_a_server_is_written_as_its_name_and_rate():
    found = tuning.tuned(Spec({"algorithm": "maml"}), chosen({"server": "adam:0.03"}))
    assert found == {"server": "adam", "server_lr": 0.03, "options": {}}
