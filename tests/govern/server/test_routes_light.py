"""What a light client of CometBFT may ask: three methods, whole numbers as text, and nothing else."""

import json

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmeta.govern.errors import EngineError, NodeBusy
from fedmeta.govern.server.limits import Limits
from fedmeta.govern.server.making import Maker
from fedmeta.govern.server.routes_light import LARGEST, METHODS
from tests.govern.server.nodes import Asked, replayed


class Showing(Maker):
    """Keeps what it was asked, and answers with it."""

    shows_blocks = True

    def __init__(self):
        self.asked = []
        self.fault = None

    def light(self, method, parameters):
        self.asked.append((method, parameters))
        if self.fault:
            raise self.fault
        return {"method": method, **parameters}

    async def run(self, node):
        await node.stopped.wait()


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    with replayed(tmp_path_factory.mktemp("light") / "ledger.db") as engine:
        asked = Asked(engine, Limits(peer_rate=10**6, peer_burst=10**6))
        yield asked
        asked.close()


@pytest.fixture
def showing(node, monkeypatch):
    maker = Showing()
    monkeypatch.setattr(node.node, "maker", maker)
    return maker


def ask(node, method, parameters=None, name=7):
    call = {"jsonrpc": "2.0", "id": name, "method": method, "params": parameters or {}}
    answer = node.ask("POST", "/light", content=json.dumps(call), headers={"content-type": "application/json"})
    assert answer.status_code == 200
    return answer.json()


@pytest.mark.parametrize("method", METHODS)
def test_what_a_light_client_needs_is_handed_on_with_its_id(node, showing, method):
    parameters = dict.fromkeys(METHODS[method], "12")
    assert ask(node, method, parameters, -1) == {
        "jsonrpc": "2.0",
        "id": -1,
        "result": {"method": method, **parameters},
    }
    assert "result" in ask(node, method, dict.fromkeys(METHODS[method]))
    assert showing.asked == [(method, parameters), (method, {})]


@pytest.mark.parametrize(
    "method",
    [
        "broadcast_tx_sync",
        "broadcast_evidence",
        "dump_consensus_state",
        "unsafe_flush_mempool",
        "status",
        "",
        None,
        5,
        [],
    ],
)
def test_nothing_else_reaches_cometbft(node, showing, method):
    assert ask(node, method)["error"]["code"] == -32601
    assert showing.asked == []


@pytest.mark.parametrize(
    "parameters",
    [
        {"height": 5},
        {"height": "-5"},
        {"height": "1" * 20},
        {"height": "five"},
        {"hash": "1"},
        ["1"],
        {"height": ["1"]},
    ],
)
def test_arguments_that_are_no_whole_numbers_do_not_reach_it_either(node, showing, parameters):
    assert ask(node, "commit", parameters)["error"]["code"] == -32600
    assert showing.asked == []


@given(st.binary(max_size=200))
def test_bytes_that_are_no_call_are_answered(node, body):
    answer = node.ask("POST", "/light", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 200
    assert "error" in answer.json()


def test_what_is_no_json_or_too_large_is_refused(node):
    assert node.ask("POST", "/light", content=b"{}", headers={"content-type": "text/html"}).status_code == 415
    assert node.ask("POST", "/light", content=b" " * (LARGEST + 1)).status_code == 413


def test_what_cometbft_says_no_to_is_told_in_its_words(node, showing):
    showing.fault = EngineError("CometBFT refuses commit: height 9 must be less than or equal to the current height 5")
    # By these words CometBFT's light client knows that the block is not there yet.
    assert "must be less than or equal to" in ask(node, "commit", {"height": "9"})["error"]["message"]


def test_a_node_with_a_sequencer_knows_no_such_method(node):
    assert ask(node, "commit", {"height": "1"})["error"]["code"] == -32601


def test_a_maker_that_has_no_time_is_answered_by_503(node, showing):
    showing.fault = NodeBusy("too many ask", 2)
    call = {"id": 1, "method": "commit"}
    answer = node.ask("POST", "/light", content=json.dumps(call))
    assert isinstance(answer, httpx.Response)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
