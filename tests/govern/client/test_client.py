"""A client does what it is asked once, says what became of it, and believes nothing that is not proven."""

import itertools
import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from types import SimpleNamespace

import httpx
import pytest

from fedmeta.govern.client.client import Client
from fedmeta.govern.engines import embedded
from fedmeta.govern.engines.embedded import EmbeddedEngine
from fedmeta.govern.errors import GovernError, NodeError, ProofError, Refused, Unacknowledged
from fedmeta.govern.machine.application import Application
from fedmeta.govern.machine.header import Header, decode_signed, encode_signed, sign_header
from fedmeta.govern.server import Limits
from fedmeta.govern.state.records import Candidate, Member
from fedmeta.govern.wire import codec
from fedmeta.govern.wire import transactions as tx
from fedmeta.govern.wire.signatures import digest
from tests.govern.playing import TIME, federation, key
from tests.govern.server.nodes import GENESIS, SEQUENCER, Live, live, sign
from tests.waiting import PATIENCE, until


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    with live(tmp_path_factory.mktemp("client") / "ledger.db") as made:
        yield made


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.db"


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Let a client wait hardly at all before it tries again."""
    clock = SimpleNamespace(monotonic=time.monotonic, sleep=lambda seconds: time.sleep(min(seconds, 0.01)))
    monkeypatch.setattr("fedmeta.govern.client.client.time", clock)


def client_of(node, name="hal", **options):
    options.setdefault("transport", httpx.HTTPTransport(verify=False))
    return Client(node.url, key(name), name, **options)


def staked(node, name="hal"):
    return sum(one["value"] for one in node.engine.query("balance", {"name": name})["bonded"])


class Losing(httpx.HTTPTransport):
    """A network that loses the answers to the first transactions, after the node has them; or their requests."""

    def __init__(self, answers=0, requests=0, error=httpx.ReadError):
        super().__init__(verify=False)
        self.answers, self.requests, self.error = answers, requests, error
        self.sent = []

    def handle_request(self, request):
        if request.url.path != "/transactions":
            return super().handle_request(request)
        self.sent.append(request.read())
        if self.requests:
            self.requests -= 1
            raise self.error("lost on the way there")
        answer = super().handle_request(request)
        if self.answers:
            self.answers -= 1
            answer.read()
            answer.close()
            raise self.error("lost on the way back")
        return answer


class Turning(httpx.HTTPTransport):
    """A network behind which another node comes to stand: one that answers with `content`, once there is some."""

    content = b""

    def handle_request(self, request):
        return httpx.Response(200, content=self.content) if self.content else super().handle_request(request)


def answering(*answers):
    """Return a client of something that answers so, to whatever is asked, one after the other, the last for ever."""
    left = list(answers)

    def answer(request):
        one = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(one, Exception):
            raise one
        return one(request) if callable(one) else one

    return Client("http://node", key("hal"), "hal", transport=httpx.MockTransport(answer))


# Sending


def test_a_transaction_is_signed_sent_and_waited_for(node):
    with client_of(node) as client:
        outcome = client.send(tx.Delegate("ann", 5))
    place = node.engine.transaction(outcome.digest)
    assert place.height == outcome.height
    assert [one.kind for one in outcome.events] == ["transaction-applied", "staked"]
    assert outcome.events[1].fields["amount"] == 5
    assert {one.height for one in outcome.events} == {outcome.height}


def test_the_sequence_is_kept_without_asking_again(node):
    asked = []
    with client_of(node, "ivy") as client:
        client._http.event_hooks["request"].append(lambda request: asked.append(request.url.path))
        for _ in range(4):
            client.send(tx.Delegate("ann", 1))
    assert asked.count("/sequence/ivy") == 1
    assert asked.count("/transactions") == 4


def test_after_a_refusal_the_next_one_is_taken(node):
    with client_of(node, "joy") as client:
        before = staked(node, "joy")
        with pytest.raises(Refused) as caught:
            client.send(tx.Delegate("ann", 10**9))
        assert caught.value.code == "insufficient-funds"
        assert "1000000000" in caught.value.message
        client.send(tx.Delegate("ann", 3))
        assert staked(node, "joy") == before + 3


def test_two_clients_of_one_member_do_not_stand_in_each_others_way(path):
    with live(path) as node, client_of(node) as one, client_of(node) as other:
        before = staked(node)
        for _ in range(3):
            one.send(tx.Delegate("ann", 1))
            other.send(tx.Delegate("ann", 2))
        assert staked(node) == before + 9


def test_two_clients_of_one_member_that_say_the_same_may_be_told_of_one_transaction(path):
    """They make the same bytes: to take them for two would do twice what one client has sent twice."""
    with live(path) as node, client_of(node) as one, client_of(node) as other:
        before = staked(node)
        one.sign(tx.Claim()), other.sign(tx.Claim())
        assert one.send(tx.Delegate("ann", 1)) == other.send(tx.Delegate("ann", 1))
        assert staked(node) == before + 1


def test_many_can_be_sent_without_waiting_and_are_all_done_in_order(path):
    with live(path) as node, client_of(node) as client:
        node.hold(lambda: node.engine.pending == 21)
        before = staked(node)
        sent = [client.send(tx.Delegate("ann", at + 1), wait=False) for at in range(20)]
        assert {(one.height, one.events) for one in sent} == {(0, ())}
        last = client.send(tx.Delegate("ann", 21))
        assert staked(node) == before + sum(range(22))
        places = [node.engine.transaction(one.digest) for one in sent]
        assert sorted(places) == places
        assert client.transaction(sent[0].digest)["sequence"] == 0
        assert {last.height} == {one.height for one in places} == {1}


def test_what_is_refused_in_its_block_takes_what_was_sent_after_it_along_and_then_all_is_well(path, monkeypatch):
    with live(path) as node, client_of(node) as client:
        before = staked(node)
        node.hold(lambda: node.engine.pending == 2)
        with pytest.raises(Refused, match="insufficient-funds"):
            client.send(tx.Delegate("ann", 10**9), wait=False)
        with monkeypatch.context() as patch:
            patch.setattr(Application, "check_tx", lambda *_: None)
            lost = [client.send(tx.Delegate("ann", amount), wait=False) for amount in (10**9, 1)]
            until(lambda: not node.node.receipts)
        node.hold(lambda: True)
        for one in lost:
            with pytest.raises(Refused, match="not-found"):
                client.transaction(one.digest)
        client.send(tx.Delegate("ann", 2))
        assert staked(node) == before + 2


def test_a_client_without_a_key_asks_only(node):
    with Client(node.url) as client:
        assert client.query("member", name="ann")["name"] == "ann"
        with pytest.raises(NodeError, match="without a key"):
            client.send(tx.Claim())


def test_who_is_no_member_cannot_send(node):
    with Client(node.url, key("nobody"), "nobody") as client, pytest.raises(Refused, match="unknown-member"):
        client.send(tx.Claim())


def test_the_wrong_key_is_refused(node):
    with Client(node.url, key("ann"), "bob") as client, pytest.raises(Refused, match="bad-signature"):
        client.send(tx.Claim())


def test_a_client_of_another_chain_signs_nothing_for_this_one(node):
    # It is called the same: its digest is its name.
    other = federation(treasury=5_000_000)
    assert other.chain_id == federation().chain_id
    with client_of(node, genesis=other) as client, pytest.raises(Refused, match="wrong-chain"):
        client.send(tx.Claim())


# The connection breaks


@pytest.mark.parametrize("lost", [{"answers": 1}, {"requests": 1}, {"answers": 4}, {"requests": 2, "answers": 2}])
@pytest.mark.parametrize("error", [httpx.ReadError, httpx.RemoteProtocolError, httpx.WriteError])
def test_what_got_lost_is_sent_again_as_it_was_and_done_once(node, lost, error):
    before, network = staked(node, "bob"), Losing(**lost, error=error)
    with client_of(node, "bob", transport=network) as client:
        outcome = client.send(tx.Delegate("ann", 7))
        assert staked(node, "bob") == before + 7
        assert node.engine.transaction(outcome.digest).height == outcome.height
        assert len(network.sent) == 1 + sum(lost.values())
        assert len(set(network.sent)) == 1
        client.send(tx.Delegate("ann", 1))
    assert staked(node, "bob") == before + 8


def test_what_is_never_answered_is_neither_done_nor_not_done_and_can_be_found_out(node):
    """The transaction is in a block; the client cannot know. To send its bytes again tells, and does nothing."""
    before = staked(node, "cat")
    with client_of(node, "cat", transport=Losing(answers=5)) as client:
        with pytest.raises(Unacknowledged) as caught:
            client.send(tx.Delegate("ann", 7))
        lost = caught.value
        assert lost.digest == digest(lost.raw)
        assert lost.digest.hex() in str(lost)
        outcome = client.submit(lost.raw)
    assert outcome.digest == lost.digest
    assert staked(node, "cat") == before + 7


def test_to_sign_anew_what_was_not_answered_can_do_it_twice(node):
    """Why an unanswered transaction is an error of its own."""
    before = staked(node, "dan")
    with client_of(node, "dan", transport=Losing(answers=5)) as client:
        with pytest.raises(Unacknowledged):
            client.send(tx.Delegate("ann", 7))
        client.send(tx.Delegate("ann", 7))
    assert staked(node, "dan") == before + 14


def test_what_never_arrived_is_not_done_until_it_is_sent_again(node):
    before = staked(node, "eve")
    with client_of(node, "eve", transport=Losing(requests=5)) as client:
        with pytest.raises(Unacknowledged) as caught:
            client.send(tx.Delegate("ann", 7))
        assert staked(node, "eve") == before
        client.submit(caught.value.raw)
    assert staked(node, "eve") == before + 7


def test_a_node_that_takes_too_long_has_it_perhaps(path):
    with live(path) as node, client_of(node) as client, client_of(node, timeout=1) as hasty:
        before, go_on = staked(node), threading.Event()
        client.send(tx.Delegate("ann", 1))
        node.hold(go_on.is_set)
        raw = client.sign(tx.Delegate("ann", 7))
        with pytest.raises(Unacknowledged, match="gave no answer within 1 seconds") as caught:
            hasty.submit(raw)
        assert caught.value.raw == raw
        go_on.set()
        assert client.submit(raw).height == 2
        assert staked(node) == before + 8


def test_a_transaction_that_still_waits_is_not_acknowledged(path):
    with live(path, Limits(wait_seconds=0), block_interval=3600.0) as node, client_of(node) as client:
        with pytest.raises(Unacknowledged, match="no block with it yet") as caught:
            client.send(tx.Delegate("ann", 1))
        assert node.node.receipts.keys() == {caught.value.digest}


def test_a_node_that_is_restarted_meanwhile_does_it_once(path):
    """The block is on the disk, the node goes down before the answer: the next one knows."""
    engine = EmbeddedEngine.create(path, federation(), SEQUENCER)
    raw = sign("hal", 0, tx.Delegate("ann", 7))
    engine.submit(raw)
    engine.produce(TIME)
    engine.close()
    with live(path, engine=EmbeddedEngine.open(path, SEQUENCER)) as node, client_of(node) as client:
        before = staked(node)
        assert client.submit(raw).height == 1
        assert staked(node) == before == 1_007


def test_a_node_that_is_down_for_a_moment_is_waited_for_once_something_was_sent(path):
    with live(path) as node:
        network = Losing(answers=1)
        real, down = network.handle_request, iter([0, 1, 1, 0])

        def flaky(request):
            if request.url.path == "/transactions" and next(down, 0):
                raise httpx.ConnectError("refused")
            return real(request)

        network.handle_request = flaky
        before = staked(node)
        with client_of(node, transport=network) as client:
            client.send(tx.Delegate("ann", 7))
        assert staked(node) == before + 7


GARBAGE = [
    httpx.Response(200, text="<html>"),
    httpx.Response(200, json=[]),
    httpx.Response(200, json={}),
    httpx.Response(200, json={"digest": "00" * 32, "height": 1, "events": []}),
    httpx.Response(200, json={"digest": 5}),
    httpx.Response(200, content=b"\xff\xfe"),
    httpx.Response(200, text="[" * 100_000),
    httpx.Response(302, headers={"location": "http://elsewhere/"}),
    lambda _: httpx.Response(200, headers={"content-encoding": "gzip"}, stream=httpx.ByteStream(b"not gzip")),
]
BETWEEN = [
    httpx.Response(502, text="bad gateway"),
    httpx.Response(504, text="<html>gateway timeout</html>"),
    httpx.Response(500, text="Internal Server Error"),
    httpx.Response(503, text="Service Unavailable"),
    httpx.Response(404, text="no such page"),
    httpx.Response(422, json={"detail": "x"}),
    httpx.Response(422, json={"code": 5, "message": "x"}),
]


def numbers(response):
    """Return an answer that is fine for everything but transactions."""
    good = {"sequence": 0, "genesis": GENESIS.hex(), "height": 0}

    def answer(request):
        if request.url.path != "/transactions":
            return httpx.Response(200, json=good)
        return response(request) if callable(response) else response

    return answer


@pytest.mark.parametrize("response", GARBAGE + BETWEEN)
def test_an_answer_that_is_none_of_a_nodes_leaves_open_what_was_done(response):
    with answering(numbers(response)) as client, pytest.raises(Unacknowledged):
        client.send(tx.Claim())


@pytest.mark.parametrize(("status", "code"), [(503, "busy"), (429, "too-many-requests"), (415, "malformed")])
def test_a_node_that_says_no_has_not_taken_it(status, code):
    response = httpx.Response(status, json={"code": code, "message": "come again"})
    with answering(numbers(response)) as client, pytest.raises(NodeError, match="come again") as caught:
        client.send(tx.Claim())
    assert not isinstance(caught.value, Unacknowledged)


def test_a_node_that_says_later_after_something_got_lost_leaves_it_open():
    said = [httpx.ReadError("lost"), httpx.Response(503, json={"code": "busy", "message": "later"})]

    def answer(request):
        if request.url.path != "/transactions":
            return httpx.Response(200, json={"sequence": 0, "genesis": GENESIS.hex()})
        one = said.pop(0) if len(said) > 1 else said[0]
        if isinstance(one, Exception):
            raise one
        return one

    with answering(answer) as client, pytest.raises(Unacknowledged):
        client.send(tx.Claim())


def test_a_full_node_takes_it_later(path, monkeypatch):
    with live(path) as node, client_of(node) as client:
        monkeypatch.setattr(embedded, "POOL_COUNT", 0)
        with pytest.raises(NodeError, match="try later") as caught:
            client.send(tx.Delegate("ann", 1))
        assert not isinstance(caught.value, Unacknowledged | Refused)
        monkeypatch.undo()
        client.send(tx.Delegate("ann", 1))


# No node


@pytest.mark.parametrize("address", ["", "node", "ftp://node", "http://", "http://a:b:c", "http://\x00", "file:///x"])
def test_what_is_no_address_is_said_at_once(address):
    with pytest.raises(NodeError, match="not a node's address"):
        Client(address)


def test_where_no_node_is_nothing_was_sent():
    with socket.socket() as taken, ExitStack() as stack:
        # A port that is bound is nobody else's, and on this one nobody listens.
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        client = stack.enter_context(Client(url, key("hal"), "hal"))
        for ask in (client.status, client.genesis, lambda: client.send(tx.Claim()), lambda: next(client.events())):
            with pytest.raises(NodeError, match="cannot be reached") as caught:
                ask()
            assert not isinstance(caught.value, Unacknowledged)


ASKS = {
    "status": lambda client: client.ledger,
    "genesis": lambda client: client.genesis(),
    "proof": lambda client: client.proof("member", "ann"),
    "events": lambda client: next(client.events(0, patience=0)),
    "next events": lambda client: next(client.events(patience=0)),
    "sequence": lambda client: client.send(tx.Claim()),
}


@pytest.mark.parametrize("ask", ASKS.values(), ids=ASKS)
@pytest.mark.parametrize("response", GARBAGE + BETWEEN)
def test_nonsense_is_an_error_of_the_tree_and_nothing_else(ask, response):
    with answering(response) as client, pytest.raises((NodeError, ProofError)):
        ask(client)


@pytest.mark.parametrize("ask", [Client.status, lambda one: one.block(1), lambda one: one.header(1)])
def test_what_is_no_map_is_not_handed_on_as_one(ask):
    with answering(httpx.Response(200, json=[1])) as client, pytest.raises(NodeError, match=r"\[1\].* is no map"):
        ask(client)


@pytest.mark.parametrize("method", ["status", "genesis"])
@pytest.mark.parametrize("error", [httpx.ReadTimeout, httpx.ReadError, httpx.RemoteProtocolError, httpx.DecodingError])
def test_a_question_that_is_not_answered_is_an_error_of_the_tree(method, error):
    with answering(error("gone")) as client, pytest.raises(NodeError):
        getattr(client, method)()


# Asking


def test_what_is_asked_is_answered(node):
    with client_of(node) as client:
        assert client.ledger == GENESIS == bytes.fromhex(client.status()["genesis"])
        assert client.genesis() == federation()
        assert client.query("term", number=1)["number"] == 1
        assert client.query("members", after="ann", limit=1)[0]["name"] == "bob"
        height = client.send(tx.Delegate("ann", 1)).height
        assert client.block(height)["header"] == client.header(height)
        assert client.explain("hal", term=1)["check"]["holds"]
        with pytest.raises(Refused, match="not-found"):
            client.query("nothing")
        with pytest.raises(Refused, match="unknown-member"):
            client.explain("nobody")
        with pytest.raises(Refused, match="there is no block 1000000 yet"):
            client.block(10**6)
        assert "ann" in client.explain_text("ann")


@pytest.mark.parametrize("name", ["a/b", "../status", "?term=1", "#", "%2e", "a b", "ü", "\x00"])
def test_a_name_cannot_lead_to_another_address(node, name):
    with client_of(node) as client, pytest.raises(Refused):
        client.explain(name)


# Proofs


def test_a_proven_record_is_that_of_the_state(node):
    with client_of(node, genesis=federation()) as client:
        client.send(tx.Delegate("ann", 1))
        assert client.proof("member", "ann") == node.engine.prove("member", "ann")[0]
        assert isinstance(client.proof("candidate", "ann"), Candidate)
        with pytest.raises(Refused, match="not-found"):
            client.proof("member", "nobody")
        with pytest.raises(Refused, match="bad-value"):
            client.proof("member")


@pytest.fixture
def parts(node):
    """A true answer to the question for the proof of ann's membership: the header, and the proof."""
    with client_of(node) as client:
        for _ in range(2):
            client.send(tx.Delegate("ann", 1))
        return codec.decode(client._raw("/proof/member", [("key", "ann")]))


def shown(value, genesis=None):
    """Let a client, which knows the genesis, be shown this for the proof of ann's membership."""
    response = httpx.Response(200, content=codec.encode(value))
    transport = httpx.MockTransport(lambda request: response)
    with Client("http://node", genesis=genesis or federation(), transport=transport) as client:
        return client.proof("member", "ann")


def test_the_true_answer_convinces(parts):
    assert isinstance(shown(parts), Member)


def signed_by(name, parts, **changes):
    """Return the header with other values, signed by someone."""
    header = decode_signed(parts[0]).header
    values = {name: getattr(header, name) for name in header.__slots__}
    return encode_signed(sign_header(key(name), Header(**{**values, **changes})))


LIES = {
    "another signer": lambda parts: [signed_by("ann", parts), parts[1]],
    "another chain": lambda parts: [signed_by("sequencer", parts, genesis=bytes(32)), parts[1]],
    "another root": lambda parts: [signed_by("sequencer", parts, app_hash=b"\x01" * 32), parts[1]],
    "no signature": lambda parts: [parts[0][:-64] + b"\x00" * 64, parts[1]],
    "another leaf": lambda parts: [parts[0], [parts[1][0] + b"\x00", *parts[1][1:]]],
    "another place": lambda parts: [parts[0], [parts[1][0], parts[1][1] + 1, *parts[1][2:]]],
    "no path": lambda parts: [parts[0], [*parts[1][:3], []]],
    "no proof": lambda parts: [parts[0], []],
    "no header": lambda parts: [b"", parts[1]],
    "too little": lambda parts: [parts[0]],
    "nothing": lambda parts: None,
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
def test_a_lie_does_not_convince(parts, lie):
    with pytest.raises(ProofError):
        shown(lie(parts))


def test_the_proof_of_another_record_does_not_convince(node, parts):
    with client_of(node) as client:
        other = codec.decode(client._raw("/proof/member", [("key", "bob")]))
        kin = codec.decode(client._raw("/proof/candidate", [("key", "ann")]))
    for one in (other, kin):
        with pytest.raises(ProofError, match="another record"):
            shown(one)


def test_a_client_that_knows_another_genesis_is_not_convinced(parts):
    other = federation(members=("kim",))
    stranger = type(other)(**{**{name: getattr(other, name) for name in other.__slots__}, "sequencer": key("x").public})
    with pytest.raises(ProofError):
        shown(parts, stranger)


def test_a_node_that_goes_back_in_time_is_noticed(node):
    network = Turning()
    with client_of(node, transport=network) as client:
        old = client._raw("/proof/member", [("key", "ann")])
        client.send(tx.Delegate("ann", 1))
        client.proof("member", "ann")
        network.content = old
        with pytest.raises(ProofError, match="goes back"):
            client.proof("member", "ann")


def test_two_histories_of_one_height_are_noticed(node, parts):
    header = decode_signed(parts[0]).header
    network = Turning()
    with client_of(node, genesis=federation(), transport=network) as client:
        client.proof("member", "ann")
        values = {name: getattr(header, name) for name in header.__slots__}
        forged = sign_header(SEQUENCER, Header(**{**values, "previous": b"\x07" * 32}))
        network.content = codec.encode([encode_signed(forged), parts[1]])
        with pytest.raises(ProofError, match="two headers"):
            client.proof("member", "ann")


# Events


def test_events_come_from_a_height_on_each_once(node):
    with client_of(node) as client:
        height = client.send(tx.Delegate("ann", 1)).height
        due = [(at, kind) for at, said in node.engine.events(0, height) for kind, _ in said]
        found = itertools.takewhile(lambda one: one.height <= height, followed(node, 0))
        assert [(one.height, one.kind) for one in itertools.islice(found, len(due))] == due


def followed(node, height=None, **options):
    with client_of(node) as client:
        yield from client.events(height, **options)


def test_without_a_height_they_begin_with_the_next_block(path):
    with live(path) as node, client_of(node) as client, ThreadPoolExecutor(1) as pool:
        client.send(tx.Delegate("ann", 1))
        first = pool.submit(lambda: next(followed(node)))
        until(node.node.streams.total)
        assert client.send(tx.Delegate("ann", 1)).height == first.result(PATIENCE).height == 2


def test_a_height_beyond_the_next_block_is_refused(node):
    with pytest.raises(Refused, match="not-found"):
        next(followed(node, 10**6))


class Moved(httpx.HTTPTransport):
    """A network that leads to whichever node there is now; one that was started anew may have another port."""

    node = None

    def handle_request(self, request):
        if self.node is None:
            raise httpx.ConnectError("refused")
        request.url = request.url.copy_with(port=self.node.port)
        return super().handle_request(request)


def test_where_the_node_is_started_anew_they_go_on_without_a_gap_and_without_one_twice(path):
    engine = EmbeddedEngine.create(path, federation(), SEQUENCER)
    seen, network = [], Moved()

    def follow():
        with Client("http://127.0.0.1", transport=network) as client:
            seen.extend((one.height, one.kind) for one in client.events(0, until=6, patience=PATIENCE))

    def three(node):
        network.node = node
        with client_of(node) as client:
            for _ in range(3):
                client.send(tx.Delegate("ann", 1))

    first = Live(engine).start()
    with ThreadPoolExecutor(1) as pool:
        network.node = first
        reader = pool.submit(follow)
        until(first.node.streams.total)
        three(first)
        network.node = None
        first.stop()
        second = Live(engine).start()
        three(second)
        reader.result(PATIENCE)
        due = [(height, kind) for height, said in engine.events(0, 6) for kind, _ in said]
        second.stop()
    engine.close()
    assert seen == due


def said(*messages):
    """Return an answer that streams these: pairs of kind and data."""
    text = "".join(f"event: {kind}\ndata: {json.dumps(data)}\n\n" for kind, data in messages)
    return httpx.Response(200, headers={"content-type": "text/event-stream"}, content=text.encode())


def test_a_block_that_breaks_off_is_read_again_from_its_begin():
    a, b = {"height": 4, "fields": {"n": 1}}, {"height": 4, "fields": {"n": 2}}
    end = ("block", {"height": 4})
    asked = []
    answers = [said(("a", a)), said(("a", a), ("b", b), end)]

    def answer(request):
        asked.append(request.url.params["from_height"])
        return answers.pop(0) if len(answers) > 1 else answers[0]

    with answering(answer) as client:
        found = list(itertools.islice(client.events(4, patience=PATIENCE), 2))
    assert [(one.kind, one.fields["n"]) for one in found] == [("a", 1), ("b", 2)]
    assert asked == ["4", "4"]


def test_a_break_goes_on_after_the_last_whole_block():
    one = lambda height: [("a", {"height": height, "fields": {}}), ("block", {"height": height})]  # noqa: E731
    asked = []

    def answer(request):
        asked.append(int(request.url.params["from_height"]))
        return said(*one(asked[-1]), *one(asked[-1] + 1), one(asked[-1] + 2)[0])

    with answering(answer) as client:
        found = list(itertools.islice(client.events(0, patience=PATIENCE), 7))
    assert [event.height for event in found] == list(range(7))
    assert asked == [0, 2, 4, 6]


def test_a_block_that_is_left_out_is_noticed():
    answer = said(("block", {"height": 1}), ("a", {"height": 3, "fields": {}}), ("block", {"height": 3}))
    with answering(answer) as client, pytest.raises(NodeError, match="sends block 3 where block 2 is due"):
        next(client.events(1, patience=PATIENCE))


def test_text_with_other_line_ends_does_not_break_an_event():
    fields = {"title": "a\u2028b\x85c\x0bd\re: f"}
    raw = f"event: a\ndata: {json.dumps({'height': 1, 'fields': fields}, ensure_ascii=False)}\n\n"
    raw += 'event: block\ndata: {"height": 1}\n\n'
    answer = httpx.Response(200, content=raw.encode())
    with answering(answer) as client:
        assert next(client.events(1)).fields == fields


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_node_that_has_no_stream_now_is_asked_again_for_a_while(status):
    later = httpx.Response(status, json={"code": "busy", "message": "too many streams"})
    fine = said(("a", {"height": 1, "fields": {}}), ("block", {"height": 1}))
    with answering(later, later, fine) as client:
        assert next(client.events(1, patience=PATIENCE)).kind == "a"
    with answering(later) as client, pytest.raises(NodeError, match="too many streams"):
        next(client.events(1, patience=0))


def test_pruned_blocks_end_the_reading():
    gone = httpx.Response(410, json={"code": "pruned", "message": "block 1 was pruned"})
    with answering(gone) as client, pytest.raises(NodeError, match="was pruned"):
        next(client.events(1))


def test_every_error_is_one_of_the_tree():
    assert issubclass(Unacknowledged, NodeError)
    assert issubclass(NodeError, GovernError)
