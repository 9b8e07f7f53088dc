"""Who asks too often is told when to come again, and who does not is not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmeta.govern.engines.embedded import EmbeddedEngine
from fedmeta.govern.server import Limits
from fedmeta.govern.server.limits import SECOND, Buckets, Places, peer_key
from tests.govern.playing import federation
from tests.govern.server.nodes import SEQUENCER, Asked, refused


class Clock:
    def __init__(self):
        self.now = 0

    def __call__(self):
        return self.now

    def wait(self, seconds, nanoseconds=0):
        self.now += seconds * SECOND + nanoseconds


@pytest.fixture
def clock():
    return Clock()


def test_a_burst_is_allowed_and_then_the_rate(clock):
    buckets = Buckets(2, 5, 10, clock)
    assert [buckets.take("a") for _ in range(6)] == [0, 0, 0, 0, 0, 1]
    clock.wait(0, SECOND // 2 - 1)
    assert buckets.take("a") == 1
    clock.wait(0, 1)
    assert [buckets.take("a") for _ in range(2)] == [0, 1]
    clock.wait(100)
    assert [buckets.take("a") for _ in range(6)] == [0, 0, 0, 0, 0, 1]


def test_keys_do_not_share_a_bucket(clock):
    buckets = Buckets(1, 1, 10, clock)
    assert [buckets.take(key) for key in ("a", "b", "a")] == [0, 0, 1]


def test_to_look_costs_nothing_and_is_not_remembered(clock):
    buckets = Buckets(1, 1, 2, clock)
    assert buckets.take("a") == 0
    assert [buckets.missing(key) for key in ("b", "c", "d", "a")] == [0, 0, 0, 1]


def test_what_was_spent_beyond_the_bucket_is_waited_for(clock):
    buckets = Buckets(1, 2, 10, clock)
    for _ in range(5):
        buckets.spend("a")
    assert buckets.missing("a") == 4
    clock.wait(4)
    assert [buckets.take("a"), buckets.take("a")] == [0, 1]


def test_as_many_keys_as_are_allowed_are_remembered_the_latest_ones(clock):
    buckets = Buckets(1, 1, 3, clock)
    for key in "abcab":
        buckets.take(key)
    buckets.take("d")
    assert [buckets.missing(key) for key in "abcd"] == [0, 1, 1, 1]


@given(
    st.lists(st.tuples(st.integers(0, 3 * SECOND), st.booleans()), max_size=60), st.integers(1, 9), st.integers(1, 9)
)
def test_nobody_ever_gets_more_than_the_burst_and_the_rate_in_any_stretch_of_time(steps, rate, burst):
    clock = Clock()
    buckets, taken = Buckets(rate, burst, 4, clock), []
    for wait, other in steps:
        clock.wait(0, wait)
        wanted = buckets.take("b" if other else "a")
        if not other and not wanted:
            taken.append(clock.now)
        if not other and wanted:
            later = Clock()
            later.now = clock.now + wanted * SECOND
            # Whoever comes when it was told to is not sent away again.
            copy = Buckets(rate, burst, 4, later)
            copy._levels.update(buckets._levels)
            assert copy.missing("a") == 0
    for first in range(len(taken)):
        for last in range(first, len(taken)):
            assert (last - first + 1 - burst) * SECOND <= (taken[last] - taken[first]) * rate


def test_places_are_limited_for_each_and_in_all_and_can_be_given_back():
    places = Places("readers", 3, 2)
    assert [bool(places.take(key)) for key in "aaabb"] == [False, False, True, False, True]
    assert places.take("a") == "there are 3 readers at once, 2 of them for this address: at most 3 and 2"
    assert places.total() == 3
    places.leave("a")
    assert [bool(places.take(key)) for key in "cb"] == [False, True]
    for key in "abc":
        places.leave(key)
    assert dict(places.taken) == {}


@pytest.mark.parametrize(
    ("host", "due"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("", ""),
        ("testclient", "testclient"),
    ],
)
def test_a_network_of_64_bits_counts_as_one_address(host, due):
    assert peer_key(host) == due


@pytest.fixture
def node(tmp_path, still):
    with EmbeddedEngine.create(tmp_path / "ledger.db", federation(), SEQUENCER) as engine:
        asked = Asked(engine, Limits(peer_rate=1, peer_burst=3))
        yield asked
        asked.close()


def test_an_address_that_asks_too_often_is_asked_to_wait_and_another_is_not(node):
    assert [node.get("/status").status_code for _ in range(4)] == [200, 200, 200, 429]
    answer = node.get("/status")
    assert refused(answer) == (429, "too-many-requests")
    assert int(answer.headers["retry-after"]) >= 1
    assert node.get("/status", peer="192.0.2.2").status_code == 200


def test_whatever_is_asked_counts_also_what_does_not_exist(node):
    for url in ("/nothing", "/openapi.json", "/query/nothing"):
        assert node.get(url).status_code != 429
    assert node.ask("POST", "/transactions", content=b"x").status_code == 429


def test_addresses_of_one_network_share_a_limit(node):
    for at in range(3):
        assert node.get("/status", peer=f"2001:db8::{at}").status_code == 200
    assert node.get("/status", peer="2001:db8::99").status_code == 429
    assert node.get("/status", peer="2001:db8:0:1::99").status_code == 200
