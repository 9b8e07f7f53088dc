"""What an adversary gains that plays the strategies of `tests.govern.adversary`: a few games, in `make soak` many."""

import pytest

from tests.examples import cells
from tests.govern.adversary import (
    OF_CONTRIBUTORS,
    OF_SEATS,
    SIZES,
    STRATEGIES,
    Game,
    Setting,
    gain,
    games,
    genesis_of,
    term_seats,
)

MOST = 0.12
"""What docs/ledger.md admits that manipulated scores can gain, where honest seats differ by a tenth."""


@pytest.mark.parametrize("seed", cells(range(2), range(200)))
def test_nothing_is_final_that_is_wrong_nobody_honest_pays_every_round_ends_and_little_is_gained(seed):
    for strategies, outcome, gained in games(seed, pairs=4):
        assert not outcome.flaws, (seed, strategies)
        assert max(gained) <= MOST, (seed, strategies, gained)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_no_strategy_alone_pays_more_than_the_few_per_cent_that_the_documentation_admits(strategy):
    """Four hospitals that aggregate and contribute; one of them, and a practice that is its accomplice, play it."""
    stakes = (("s00", 9_000), ("s01", 8_000), ("s02", 7_500), ("s03", 7_000))
    made = Setting(stakes, ("p0", "p1", "s00", "s01", "s02", "s03"), frozenset({"s01", "p0"}), "")
    plain, played = Game(made, 7).play(), Game(made, 7, (strategy,)).play()
    assert not plain.flaws
    assert not played.flaws
    assert plain.rounds == ["final"] * 3
    assert max(gain({one}, plain, played) for one in made.bad) <= MOST
    # What is played is noticed: a lie costs stake, and who is not there is not paid.
    if strategy == "lie":
        assert set(played.faults) == {"s01"}
    if strategy in ("silent", "withhold", "copy", "idle", "undelivered", "partial", "same-digest"):
        assert gain(made.bad, plain, played) < -0.2


def test_the_games_have_seats_of_all_numbers_and_the_adversary_less_than_a_third():
    assert SIZES == (4, 7, 16, 64)
    assert not set(OF_SEATS) & set(OF_CONTRIBUTORS)
    for number in SIZES:
        stakes = tuple((f"s{at:02}", 5_000 + at) for at in range(number))
        seats = term_seats(genesis_of(stakes, ("p0", "p1", "p2"))[1])
        assert len(seats) == number
