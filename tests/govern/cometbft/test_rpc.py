"""Asking CometBFT: answers in their one form, errors with their names. It is asked itself in test_network."""

import base64
import contextlib
import json
import socket
import socketserver
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler

import pytest

from fedmeta.govern.engines.cometbft.rpc import Broadcast, PeerStatus, Rpc, Status
from fedmeta.govern.errors import EngineError, NodeBusy, Unacknowledged
from fedmeta.govern.wire.signatures import digest

STATUS = {
    "node_info": {"id": "ab" * 20},
    "sync_info": {
        "latest_block_height": "12",
        "earliest_block_height": "3",
        "latest_app_hash": "0AFF",
        "catching_up": False,
    },
    "validator_info": {"address": "0B" * 20, "voting_power": "7"},
}
PEER = {"node_info": {"id": "cd" * 20, "moniker": "north"}, "remote_ip": "127.0.0.2", "is_outbound": True}
ACCEPTED = {"code": 0, "data": "", "log": "", "codespace": "", "hash": "AB"}


@contextlib.contextmanager
def answering(path, answer, hurried=False):
    """Listen on a socket; `answer(method, parameters)` gives bytes, or parts of an answer, or None to hang up.

    Who is `hurried` closes each connection after an answer, without a word.
    """
    asked = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            call = json.loads(self.rfile.read(int(self.headers["content-length"])))
            asked.append((call["method"], call["params"]))
            said = answer(call["method"], call["params"])
            if said is None:
                self.close_connection = True
                return
            body = (
                said if isinstance(said, bytes) else json.dumps({"jsonrpc": "2.0", "id": call["id"], **said}).encode()
            )
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            self.close_connection = hurried

        def log_message(self, *_):
            pass

    class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
        daemon_threads = True

    with Server(str(path), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            with Rpc(path, timeout=5) as rpc:
                yield rpc, asked
        finally:
            server.shutdown()
            thread.join()


def result(value):
    return lambda method, parameters: {"result": value}


def failure(data):
    return lambda method, parameters: {"error": {"code": -32603, "message": "Internal error", "data": data}}


def test_a_transaction_is_handed_over_in_base64(tmp_path):
    refused = {"code": 4, "data": "0A", "log": "no", "codespace": "c", "hash": "AB"}
    with answering(tmp_path / "s", result(refused)) as (rpc, asked):
        assert rpc.broadcast_tx_sync(b"\x00tx") == Broadcast(4, b"\x0a", "no", "c")
    assert asked == [("broadcast_tx_sync", {"tx": base64.b64encode(b"\x00tx").decode()})]


def test_one_that_is_known_is_no_error(tmp_path):
    with answering(tmp_path / "s", failure("tx already exists in cache")) as (rpc, _):
        assert rpc.broadcast_tx_sync(b"tx").known


@pytest.mark.parametrize(
    "words", ["mempool is full: number of txs 4000 (max: 4000)", "mempool is still rechecking after"]
)
def test_a_full_pool_says_when_to_come_again(tmp_path, words):
    with answering(tmp_path / "s", failure(words)) as (rpc, _), pytest.raises(NodeBusy, match=words[:15]) as error:
        rpc.broadcast_tx_sync(b"tx")
    assert error.value.seconds > 0


def test_a_transaction_without_an_answer_is_not_acknowledged(tmp_path):
    with answering(tmp_path / "s", lambda *_: None) as (rpc, _), pytest.raises(Unacknowledged) as error:
        rpc.broadcast_tx_sync(b"tx")
    assert (error.value.raw, error.value.digest) == (b"tx", digest(b"tx"))


def test_one_that_was_not_sent_is_another_error(tmp_path):
    with Rpc(tmp_path / "none") as rpc, pytest.raises(EngineError, match="does not listen"):
        rpc.broadcast_tx_sync(b"tx")
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "left"))
    with Rpc(tmp_path / "left") as rpc, pytest.raises(EngineError, match="does not listen"):
        rpc.broadcast_tx_sync(b"tx")


@pytest.mark.parametrize("count", [0, 1, 99, 100, 101, 250])
def test_a_set_of_validators_is_asked_for_page_by_page(tmp_path, count):
    every = [{"number": number} for number in range(count)]

    def answer(method, parameters):
        start = (int(parameters["page"]) - 1) * 100
        found = every[start : start + int(parameters["per_page"])]
        return {"result": {"block_height": "8", "validators": found, "count": str(len(found)), "total": str(count)}}

    with answering(tmp_path / "s", answer) as (rpc, asked):
        found = rpc.validators(8)
    assert found == {"block_height": "8", "validators": every, "count": str(count), "total": str(count)}
    assert {parameters["height"] for _, parameters in asked} == {"8"}
    assert len(asked) == max(1, -(-count // 100))


def test_a_set_that_changes_between_pages_is_not_taken(tmp_path):
    def answer(method, parameters):
        return {"result": {"validators": [1] * (100 if parameters["page"] == "1" else 49), "total": "150"}}

    with answering(tmp_path / "s", answer) as (rpc, _), pytest.raises(EngineError, match="149 validators"):
        rpc.validators(8)


def test_status_and_peers_are_read(tmp_path):
    def answer(method, parameters):
        return {"result": STATUS if method == "status" else {"peers": [PEER]}}

    with answering(tmp_path / "s", answer) as (rpc, asked):
        assert rpc.status() == Status("ab" * 20, 12, 3, b"\x0a\xff", False, b"\x0b" * 20, 7)
        assert rpc.net_info() == (PeerStatus("cd" * 20, "north", "127.0.0.2", True),)
    assert asked == [("status", {}), ("net_info", {})]


@pytest.mark.parametrize("method", ["commit", "block_results", "block"])
def test_what_belongs_to_a_height_is_given_as_it_came(tmp_path, method):
    with answering(tmp_path / "s", result({"any": ["thing"]})) as (rpc, asked):
        assert getattr(rpc, method)(7) == {"any": ["thing"]}
    assert asked == [(method, {"height": "7"})]


def test_an_error_is_told_with_its_words(tmp_path):
    with (
        answering(tmp_path / "s", failure("height 9 must be less than or equal to 3")) as (rpc, _),
        pytest.raises(EngineError, match="refuses commit: Internal error height 9 must"),
    ):
        rpc.commit(9)


def changed(place, value):
    """Return the status with one value changed."""
    found = json.loads(json.dumps(STATUS))
    found[place[0]][place[1]] = value
    return {"result": found}


@pytest.mark.parametrize(
    "said",
    [
        b"<html>",
        b"\xff\xfe",
        b"[]",
        b"{}",
        b'{"result": 3}',
        {"result": {}},
        changed(("sync_info", "latest_block_height"), 12),
        changed(("sync_info", "latest_block_height"), "many"),
        changed(("sync_info", "latest_block_height"), "²"),
        changed(("sync_info", "latest_app_hash"), "0"),
        changed(("sync_info", "catching_up"), "no"),
        changed(("validator_info", "address"), None),
    ],
)
def test_an_answer_of_another_form_is_an_error_and_no_other(tmp_path, said):
    with answering(tmp_path / "s", lambda *_: said) as (rpc, _), pytest.raises(EngineError):
        rpc.status()


def test_a_connection_that_was_closed_meanwhile_is_not_used_again(tmp_path):
    with answering(tmp_path / "s", result(STATUS), hurried=True) as (rpc, asked):
        for _ in range(5):
            assert rpc.status().height == 12
            time.sleep(0.02)
    assert len(asked) == 5


def test_threads_may_share_it(tmp_path):
    def answer(method, parameters):
        return {"result": {"height": parameters["height"]}}

    with answering(tmp_path / "s", answer) as (rpc, _), ThreadPoolExecutor(16) as pool:
        assert list(pool.map(rpc.commit, range(400))) == [{"height": str(number)} for number in range(400)]


def test_it_waits_while_too_many_wait_to_be_accepted(tmp_path):
    with contextlib.ExitStack() as stack:
        busy = stack.enter_context(socket.socket(socket.AF_UNIX))
        busy.bind(str(tmp_path / "s"))
        busy.listen(0)
        waiting = []
        while True:
            one = stack.enter_context(socket.socket(socket.AF_UNIX))
            one.setblocking(False)
            try:
                one.connect(str(tmp_path / "s"))
            except BlockingIOError:
                break
            waiting.append(one)
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(Rpc(tmp_path / "s").status)
            time.sleep(0.1)
            assert not asked.done()
            for _ in range(len(waiting) + 1):
                accepted, _ = busy.accept()
                accepted.close()
            with pytest.raises(EngineError, match="no answer to status"):
                asked.result()


def test_a_node_that_hangs_up_is_an_error_and_one_that_is_back_is_asked(tmp_path):
    times = iter([None, {"result": STATUS}])
    with answering(tmp_path / "s", lambda *_: next(times)) as (rpc, _):
        with pytest.raises(EngineError, match="no answer to status"):
            rpc.status()
        assert rpc.status().height == 12
