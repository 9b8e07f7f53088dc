"""Whatever is asked, the answer is one of a node's: never an error within, never a trace of one."""

import socket

import pytest
from hypothesis import HealthCheck, assume, example, given
from hypothesis import strategies as st

from fedmeta.govern.engines.embedded import EmbeddedEngine
from fedmeta.govern.server import Limits
from fedmeta.govern.views.queries import QUERIES
from fedmeta.govern.wire import codec
from fedmeta.govern.wire import transactions as tx
from fedmeta.govern.wire.layout import LAYOUTS
from tests.examples import examples
from tests.govern.playing import federation
from tests.govern.server.nodes import GENESIS, SEQUENCER, Asked, live, sign

FREE = Limits(peer_rate=10**6, peer_burst=10**6, member_rate=10**6, member_burst=10**6)
SETTINGS = examples(80, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    """A node without streams: one of them would not end here."""
    path = tmp_path_factory.mktemp("hostile") / "ledger.db"
    with EmbeddedEngine.create(path, federation(), SEQUENCER) as engine:
        engine.submit(sign("hal", 0))
        engine.produce(federation().time)
        asked = Asked(engine, Limits(streams=0, **{name: getattr(FREE, name) for name in ("peer_rate", "peer_burst")}))
        yield asked
        asked.close()


def sound(answer):
    """Check an answer: it is what was asked for, or a no with code and message, and not the node's fault."""
    assert answer.status_code < 500 or (answer.status_code == 503 and answer.json()["code"] == "busy")
    if answer.is_error:
        said = answer.json()
        assert set(said) == {"code", "message"}
        assert "Traceback" not in said["message"]
        assert 'File "' not in said["message"]
        assert len(answer.content) < 4_000
    return answer


text = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
words = st.sampled_from(
    ["ann", "hal", "1", "0", "-1", "²", "1e9", "9" * 16, "9" * 17, "true", "null", "..", ".", "%00", "\x00", "a" * 500]
)
kinds = st.sampled_from([*QUERIES, *LAYOUTS])
piece = st.one_of(text, words, kinds)
roots = st.sampled_from(
    ["status", "genesis", "blocks", "headers", "transactions", "query", "explain", "proof", "events", "sequence", ""]
)
names = st.one_of(st.sampled_from(["name", "number", "limit", "after", "term", "key", "from_height", "wait"]), text)


def quoted(value):
    return "".join(f"%{byte:02x}" for byte in value.encode())


@SETTINGS
@given(roots, st.lists(piece, max_size=3), st.lists(st.tuples(names, piece), max_size=4), st.booleans())
@example("query", ["members"], [("limit", "9" * 16)], False)
@example("blocks", ["9" * 400], [], False)
@example("proof", ["member"], [("key", "\x00")], True)
@example("proof", ["recipe"], [("key", "0")], False)
@example("events", [], [("from_height", "0")], False)
def test_no_address_makes_a_node_fail(node, root, path, params, binary):
    url = "/" + "/".join([root, *map(quoted, path)])
    # What begins so is no path to the client, but a host.
    assume(not url.startswith("//"))
    query = "&".join(f"{quoted(name)}={quoted(value)}" for name, value in params)
    accept = "application/cbor" if binary else "application/json"
    sound(node.get(f"{url}?{query}" if query else url, headers={"accept": accept}))


@SETTINGS
@given(
    st.sampled_from(["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "X"]), roots, st.binary(max_size=80)
)
def test_no_method_and_no_query_in_bytes_makes_a_node_fail(node, method, root, query):
    answer = node.ask(method, f"/{root}?" + "".join(f"%{byte:02x}" for byte in query))
    if method != "HEAD":
        sound(answer)


headers = st.dictionaries(
    st.sampled_from(["host", "accept", "last-event-id", "content-type", "content-length", "x-forwarded-for", "origin"]),
    st.binary(max_size=40).map(lambda value: value.replace(b"\n", b" ").replace(b"\r", b" ").replace(b"\x00", b" ")),
    max_size=4,
)


@SETTINGS
@given(roots, headers)
@example("nothing", {"host": b"["})
@example("status/", {"host": b"[::1"})
@example("events", {"last-event-id": b"\xb2"})
@example("genesis", {"accept": b"application/cbor;\xff"})
def test_no_header_makes_a_node_fail(node, root, given_headers):
    sound(node.get(f"/{root}", headers=given_headers))


def likely():
    """Return values that look like a transaction, with anything in any place."""
    scalar = st.one_of(
        st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.binary(max_size=70), text, st.just(b"\x00" * 64)
    )
    values = st.recursive(
        scalar, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4), max_leaves=12
    )
    kind = st.one_of(st.sampled_from(list(tx.TRANSACTIONS)), values)
    whole = st.tuples(
        st.one_of(st.just(GENESIS), values),
        st.one_of(st.just("hal"), values),
        st.one_of(st.just(1), values),
        kind,
        st.one_of(st.dictionaries(st.sampled_from(["amount", "candidate", "action", "title"]), values), values),
        st.one_of(st.just(b"\x00" * 64), values),
    )
    return st.one_of(whole.map(list), values)


@SETTINGS
@given(st.one_of(st.binary(max_size=200), likely().map(codec.encode)), headers)
def test_no_body_makes_a_node_fail_or_is_taken(node, body, given_headers):
    given_headers.pop("content-length", None)
    answer = sound(node.ask("POST", "/transactions?wait=false", content=body, headers=given_headers))
    assert answer.status_code in (400, 413, 415, 422)
    assert node.node.engine.pending == 0


@SETTINGS
@given(st.data())
def test_no_byte_of_a_signed_transaction_can_be_changed(node, data):
    raw = bytearray(sign("hal", 1))
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] ^= data.draw(st.integers(1, 255))
    answer = sound(node.ask("POST", "/transactions?wait=false", content=bytes(raw)))
    assert answer.status_code in (400, 422)
    assert node.node.engine.pending == 0


@pytest.fixture(scope="module")
def wire(tmp_path_factory):
    with live(tmp_path_factory.mktemp("wire") / "ledger.db", FREE) as made:
        yield made


def shout(node, data, shut=True):
    """Send bytes to a node, and return what comes back until it closes the connection."""
    with socket.create_connection(("127.0.0.1", node.port), timeout=10) as connection:
        try:
            connection.sendall(data)
            if shut:
                connection.shutdown(socket.SHUT_WR)
            found = b""
            while piece := connection.recv(65_536):
                found += piece
        except OSError:
            return b""
        return found


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /status HTTP/1.1\r\n\r\n",
        b"GET /status HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
        b"GET /status HTTP/1.1\r\nhost: [\r\n\r\n",
        b"GET /\xff?\xff HTTP/1.1\r\nhost: a\r\n\r\n",
        b"GET /query/member?name=\xff HTTP/1.1\r\nhost: a\r\n\r\n",
        b"GET http://other/nothing HTTP/1.1\r\nhost: a\r\n\r\n",
        b"GET //nothing HTTP/1.1\r\nhost: a\r\n\r\n",
        b"GET /nothing?\xff\xfe HTTP/1.1\r\nhost: a\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n",
        b"CONNECT a:1 HTTP/1.1\r\nhost: a\r\n\r\n",
        b"GET /status HTTP/1.1\r\nhost: a\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n",
        b"GET /status HTTP/1.1\r\nhost: a\r\nx: " + b"y" * 100_000 + b"\r\n\r\n",
        b"GET /" + b"y" * 100_000 + b" HTTP/1.1\r\nhost: a\r\n\r\n",
        b"POST /transactions HTTP/1.1\r\nhost: a\r\ncontent-length: -1\r\n\r\n",
        b"POST /transactions HTTP/1.1\r\nhost: a\r\ncontent-length: 9999999999999999999999\r\n\r\n",
        b"POST /transactions HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
        b"POST /transactions HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /transactions HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffff\r\n",
        b"POST /transactions HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip\r\n\r\n0\r\n\r\n",
        b"POST /transactions HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\nhello",
        b"GET /status HTTP/1.1\r\nhost: a\r\n\r\n" * 20,
        b"GET /genesis HTTP/1.0\r\n\r\n",
    ],
    ids=lambda data: repr(data[:30]),
)
def test_what_is_no_request_is_refused_and_the_node_goes_on(wire, data, capfd):
    answer = shout(wire, data)
    assert answer == b"" or answer.startswith((b"HTTP/1.1 200", b"HTTP/1.1 4", b"HTTP/1.1 100"))
    assert b"Traceback" not in answer
    with wire.http() as client:
        assert client.get("/status").status_code == 200
    assert "Traceback" not in capfd.readouterr().err


@examples(40, suppress_health_check=list(HealthCheck))
@given(st.binary(max_size=300))
def test_no_bytes_at_all_make_a_node_fail(wire, data):
    assert b" 500 " not in shout(wire, b"GET /" + data)
    assert b" 500 " not in shout(wire, data)
    with wire.http() as client:
        assert client.get("/status").status_code == 200
