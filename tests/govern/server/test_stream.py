"""The event stream: every event once and in order, from a height on, for as long as a reader keeps up."""

import json
import socket
import sys
import time
from collections import Counter
from contextlib import closing, contextmanager
from itertools import islice
from typing import NamedTuple

import httpx
import pytest

from fedmeta.govern.server import Limits
from fedmeta.govern.server.json import json_form
from tests.govern.server.nodes import Live, live, played, refused, replayed, sign
from tests.waiting import until

PLAY = played()


class Message(NamedTuple):
    """One server-sent event, or a comment if it has no kind."""

    id: int | None
    kind: str
    data: dict


def messages(stream):
    """Yield the messages of a stream, read as the standard for server-sent events says."""
    said: dict[str, str] = {}
    for line in stream.iter_lines():
        if not line:
            if said:
                yield Message(
                    int(said["id"]) if "id" in said else None, said.get("event", ""), json.loads(said.get("data", "{}"))
                )
            said = {}
            continue
        name, _, value = line.partition(":")
        said[name] = value.removeprefix(" ")


def events(stream):
    return (one for one in messages(stream) if one.kind)


def blocks(stream):
    """Yield for each block its height and its events."""
    found = []
    for one in events(stream):
        if one.kind == "block":
            yield one.id, found
            found = []
        else:
            assert one.id is None
            assert (one.data["height"], one.data["number"]) == (one.data["height"], len(found))
            found.append({"kind": one.kind, "fields": one.data["fields"]})


@contextmanager
def follow(node, params=None, headers=None):
    with node.http() as client, client.stream("GET", "/events", params=params, headers=headers or {}) as stream:
        yield stream


def take(stream, count):
    return list(islice(blocks(stream), count))


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    """A node with a chain that was played, which goes on when something is sent."""
    path = tmp_path_factory.mktemp("stream") / "ledger.db"
    with live(path, engine=replayed(path)) as made:
        yield made


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.db"


DUE = [(height, [json_form(one) for one in log]) for height, log in enumerate(PLAY.log)]


def test_every_event_since_genesis_comes_in_order(node):
    with follow(node, {"from_height": 0}) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        assert stream.headers["cache-control"] == "no-store"
        assert take(stream, len(DUE)) == DUE


@pytest.mark.parametrize("height", [1, 5, PLAY.height])
def test_it_begins_with_the_height_that_is_asked_for(node, height):
    with follow(node, {"from_height": height}) as stream:
        assert take(stream, 1) == DUE[height : height + 1]


@pytest.mark.parametrize("height", [0, 4, PLAY.height - 1])
def test_it_goes_on_after_the_last_block_that_came_whole(node, height):
    """As a browser asks that has lost the connection; what it asked for at first does not count then."""
    with follow(node, {"from_height": 2}, {"last-event-id": str(height)}) as stream:
        assert take(stream, 1) == DUE[height + 1 : height + 2]


def test_only_the_end_of_a_block_can_be_gone_on_from(node):
    with follow(node, {"from_height": 3}) as stream:
        for one in events(stream):
            assert (one.id is not None) == (one.kind == "block")
            if one.id == 5:
                break


def test_the_end_of_a_block_has_its_header(node):
    with follow(node, {"from_height": 3}) as stream:
        end = next(one for one in events(stream) if one.kind == "block").data
    assert (end["height"], end["app_hash"], end["events"]) == (3, PLAY.hashes[3].hex(), len(PLAY.log[3]))


def test_without_a_height_it_begins_with_the_next_block(path):
    with live(path) as node:
        node.send(sign("hal", 0))
        with follow(node) as stream:
            found = messages(stream)
            assert next(found).kind == ""
            node.send(sign("hal", 1))
            assert next(one for one in found if one.kind == "block").id == 2


def test_a_reader_that_waits_is_told_of_a_block_once_it_is_there(path):
    with live(path) as node, follow(node, {"from_height": 1}) as stream:
        found = blocks(stream)
        for at in range(5):
            said = node.send(sign("hal", at)).json()
            height, told = next(found)
            assert height == said["height"] == at + 1
            assert told[: len(said["events"])] == said["events"]


@pytest.mark.parametrize("value", ["x", "-1", "1.5", "9" * 17, "%00"])
def test_a_last_id_that_is_none_of_ours_is_refused(node, value):
    with node.http() as client:
        assert refused(client.get("/events", headers={"last-event-id": value})) == (400, "bad-value")


def test_a_height_that_is_not_due_is_refused_rather_than_waited_for_in_silence(node):
    """Or whoever followed another chain, that was longer, would never hear of this one."""
    with node.http() as client:
        height = client.get("/status").json()["height"]
        assert refused(client.get("/events", params={"from_height": height + 2})) == (404, "not-found")
        with client.stream("GET", "/events", params={"from_height": height + 1}) as stream:
            assert stream.status_code == 200


def test_a_silent_stream_says_that_it_lives(path):
    began = time.monotonic()
    with live(path, Limits(heartbeat_seconds=1)) as node, follow(node) as stream:
        found = messages(stream)
        assert [next(found).kind for _ in range(2)] == ["", ""]
        assert time.monotonic() - began > 0.9


def test_it_ends_in_order_when_the_node_stops(path):
    with live(path) as node, follow(node, {"from_height": 0}) as stream:
        node.send(sign("hal", 0))
        found = blocks(stream)
        assert [next(found)[0], next(found)[0]] == [0, 1]
        node.server.stop()
        # No error, as it would be once the grace is over: the last piece says that there are no more.
        assert list(found) == []


def test_streams_to_one_address_are_limited_and_counted_back(path):
    with live(path, Limits(peer_streams=2, heartbeat_seconds=7)) as node, node.http() as client:
        with follow(node), follow(node):
            answer = client.get("/events")
            assert refused(answer) == (503, "busy")
            assert answer.headers["retry-after"] == "7"
            assert client.get("/status").status_code == 200
        until(lambda: not node.node.streams.total())
        assert dict(node.node.streams.taken) == {}
        with follow(node) as stream:
            assert stream.status_code == 200


def test_streams_are_limited_in_all(path):
    with live(path, Limits(streams=1)) as node, node.http() as client, follow(node):
        assert refused(client.get("/events")) == (503, "busy")


class Most(Counter):
    """A count that knows the most that there ever was."""

    most = 0

    def __setitem__(self, key, value):
        super().__setitem__(key, value)
        self.most = max(self.most, self.total())


def test_a_reader_that_takes_nothing_is_cut_off_and_the_others_go_on(tmp_path, monkeypatch, capfd):
    # The system does not do it in the node's place.
    monkeypatch.setattr(sys.modules["fedmeta.govern.server.serve"], "STALL", 3600)
    engine = replayed(tmp_path / "ledger.db")
    node = Live(engine, Limits(stall_seconds=1))
    streams = node.node.streams.taken = Most()
    # Small buffers in the system, and below in the server, so that a chain of this size fills them.
    node.listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    node.start()
    try:
        with closing(socket.socket()) as slow, follow(node, {"from_height": 0}) as stream:
            found = blocks(stream)
            assert len(list(islice(found, len(DUE)))) == len(DUE)
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            slow.connect(("127.0.0.1", node.port))
            connections = node.server.server_state.connections
            until(lambda: len(connections) == 2)
            for one in list(connections):
                one.loop.call_soon_threadsafe(one.transport.set_write_buffer_limits, 4096)
            slow.sendall(b"GET /events?from_height=0 HTTP/1.1\r\nhost: node\r\n\r\n")
            until(lambda: streams.most == 2 and streams.total() < 2)
            # It is dropped, and not merely asked to close once all was taken.
            until(lambda: len(connections) == 1)
            assert node.send(sign("hal", PLAY.member("hal").sequence)).status_code == 200
            assert next(found)[0] == len(DUE)
            assert (streams.most, streams.total()) == (2, 1)
    finally:
        node.stop()
        engine.close()
    assert capfd.readouterr().err == ""


def test_a_reader_that_leaves_is_forgotten(path, capfd):
    with live(path) as node:
        with follow(node):
            assert node.node.streams.total() == 1

        def forgotten():
            assert node.send(sign("hal", node.engine.height)).status_code == 200
            return not node.node.streams.total()

        until(forgotten)
    assert capfd.readouterr().err == ""


def test_the_stream_of_a_node_that_breaks_off_is_not_taken_for_whole(path):
    """A block without its end was not seen: whoever goes on after the last one gets it again."""
    with live(path) as node:
        node.send(sign("hal", 0))
        with follow(node, {"from_height": 0}) as stream:
            seen = next(one for one in events(stream) if one.id is not None)
        with follow(node, None, {"last-event-id": str(seen.id)}) as stream:
            assert take(stream, 1)[0][0] == seen.id + 1


def test_a_client_for_browsers_can_read_it(node):
    """Line by line with the names of the standard, and nothing else."""
    with httpx.Client(base_url=node.url) as client, client.stream("GET", "/events?from_height=0") as stream:
        for line in islice(stream.iter_lines(), 500):
            assert line == "" or line.split(":")[0] in ("", "id", "event", "data")
