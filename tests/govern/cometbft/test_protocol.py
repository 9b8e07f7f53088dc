"""The socket: requests in any pieces, in order, whatever else comes; real ones unless pieces are chosen one by one."""

import asyncio
import contextlib
import logging
import socket
import stat
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmeta.govern.engines.cometbft import abci, protocol
from fedmeta.govern.errors import EngineError
from tests.examples import examples
from tests.govern.cometbft.protobuf import decode, encode, framed, unframed
from tests.govern.cometbft.recorder import Recorder

LIMIT = 1 << 20
PATIENCE = 30
REQUESTS = [encode((1, [(1, "x" * 200)])), encode((8, [(1, b"tx" * 80)])), encode((11, [])), encode((2, []))]
"""One of them is longer than a length of one byte says."""
ANSWERED = [encode((2, [(1, "x" * 200)])), encode((9, [])), encode((12, [])), encode((3, []))]


class Transport(asyncio.Transport):
    """Takes all that is written, at once."""

    def __init__(self):
        super().__init__()
        self.written, self.closed = b"", False

    def write(self, data):
        assert not self.closed
        self.written += data

    def close(self):
        self.closed = True

    def pause_reading(self):
        pass

    def resume_reading(self):
        pass


def fed(pieces, handler=None):
    """Return what a connection answers to pieces of bytes, and whether it is closed; those after that are not read."""

    async def run():
        transport, ended = Transport(), []
        connection = protocol.Connection(handler or Recorder(), ended.append, LIMIT)
        connection.connection_made(transport)
        for piece in pieces:
            if not transport.closed:
                connection.data_received(piece)
                await asyncio.sleep(0)
        connection.connection_lost(None)
        assert ended == [connection]
        return transport.written, transport.closed

    return asyncio.run(run())


def served(talk, handler, max_message=LIMIT):
    """Run `talk(path)` beside a server of `handler`, on a socket with a short path."""

    async def run():
        with tempfile.TemporaryDirectory(prefix="abci-") as folder:
            path = Path(folder) / "app.sock"
            async with protocol.listening(handler, path, max_message):
                result = await asyncio.wait_for(talk(path), PATIENCE)
            assert not path.exists()
            return result

    return asyncio.run(run())


@contextlib.asynccontextmanager
async def connected(path):
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def ask(path, *pieces):
    """Send pieces, say that no more come, and return all that is answered."""
    async with connected(path) as (reader, writer):
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        writer.write_eof()
        return await reader.read()


async def works(path):
    """Say whether a connection that is opened now is answered."""
    return unframed(await ask(path, framed(*REQUESTS))) == ANSWERED


async def until(condition):
    while not condition():
        await asyncio.sleep(0.001)


def test_requests_cut_in_two_anywhere_are_answered_as_whole_ones():
    raw = framed(*REQUESTS)
    for place in range(len(raw) + 1):
        assert fed([raw[:place], raw[place:]]) == (framed(*ANSWERED), False)


@examples(60)
@given(st.data())
def test_requests_in_any_pieces_are_answered_in_their_order(data):
    order = data.draw(st.lists(st.integers(0, len(REQUESTS) - 1), max_size=200))
    raw = framed(*[REQUESTS[one] for one in order])
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=20)))
    pieces = [raw[start:end] for start, end in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    expected = framed(*[ANSWERED[one] for one in order])
    written, closed = fed([*pieces, *[b""] * (len(order) // protocol.TURN)])
    assert (written, closed) == (expected, False)


def test_bytes_that_come_one_by_one_through_a_socket_are_answered():
    raw = framed(*REQUESTS)

    async def talk(path):
        return await ask(path, *[raw[place : place + 1] for place in range(len(raw))])

    assert unframed(served(talk, Recorder())) == ANSWERED


def test_many_messages_at_once_are_answered_in_order():
    handler = Recorder(check_tx=lambda raw, recheck: abci.TxResult(data=raw))
    sent = [str(number).encode() for number in range(2_000)]
    answers = served(lambda path: ask(path, framed(*[encode((8, [(1, one)])) for one in sent])), handler)
    assert [call[1] for call in handler.calls] == sent
    assert unframed(answers) == [encode((9, [(2, one)])) for one in sent]


def test_a_flood_on_one_connection_lets_the_others_have_their_turn():
    handler = Recorder()
    count = 5_000

    async def talk(path):
        async with connected(path) as (_, flooding), connected(path) as (reader, writer):
            flooding.write(framed(*[encode((8, []))] * count))
            await until(lambda: handler.calls)
            before = len(handler.calls)
            writer.write(framed(encode((3, []))))
            await reader.readexactly(1)
            return before, handler.calls.index(("info", abci.InfoRequest("", 0, 0, "")))

    before, place = served(talk, handler)
    assert place - before <= 10 * protocol.TURN < count


def test_whoever_does_not_read_is_answered_no_further_until_it_does():
    handler = Recorder(load_snapshot_chunk=lambda height, format, chunk: bytes([chunk]) * 100_000)
    count = 200

    async def talk(path):
        async with connected(path) as (reader, writer):
            writer.write(framed(*[encode((14, [(3, chunk)])) for chunk in range(count)]))
            await until(lambda: handler.calls)
            assert await works(path)
            held = len(handler.calls)
            for _ in range(20):
                assert await works(path)
            own = [call for call in handler.calls if call[0] == "load_snapshot_chunk"]
            assert len(own) < held
            writer.write_eof()
            return len(own), await reader.read()

    answered, raw = served(talk, handler)
    assert answered < count / 4
    assert unframed(raw) == [encode((15, [(1, bytes([chunk]) * 100_000)])) for chunk in range(count)]


def test_a_peer_can_write_while_others_of_its_requests_wait_up_to_a_limit(monkeypatch):
    """CometBFT's client spins where it cannot write."""
    monkeypatch.setattr(protocol, "AHEAD", 10_000)
    one = framed(encode((8, [(1, b"x" * 900)])))
    paused = []

    async def run():
        transport = Transport()
        transport.pause_reading = lambda: paused.append(True)
        transport.resume_reading = lambda: paused.append(False)
        connection = protocol.Connection(Recorder(), lambda _: None, LIMIT)
        connection.connection_made(transport)
        connection.data_received(one * (protocol.TURN + 5))
        assert not any(paused)
        connection.data_received(one * 20)
        assert paused[-1]
        assert connection.eof_received()
        await asyncio.sleep(0)
        assert not paused[-1]
        while not transport.closed:
            await asyncio.sleep(0)
        return transport.written

    assert unframed(asyncio.run(run())) == [encode((9, []))] * (protocol.TURN + 25)


HOSTILE = {
    "an endless length": b"\x80" * 5,
    "a length over the limit": framed(bytes(LIMIT + 1))[:3],
    "a length of 4 GiB": b"\xff\xff\xff\xff\x0f",
    "nothing asked": b"\x00",
    "an unknown kind": framed(encode((99, []))),
    "no protobuf": framed(b"\xff\xff"),
    "text": b"GET / HTTP/1.1\r\n\r\n",
    "a wrong value": framed(encode((8, [(2, 9)]))),
}


@pytest.mark.parametrize("raw", HOSTILE.values(), ids=HOSTILE.keys())
def test_what_is_no_request_closes_its_connection_with_one_line_and_harms_no_other(raw, caplog):
    handler = Recorder()

    async def talk(path):
        async with connected(path) as (reader, writer):
            writer.write(framed(*REQUESTS) + raw + framed(*REQUESTS))
            answers = await reader.read()
        return answers, await works(path)

    with caplog.at_level(logging.WARNING, "fedmeta.ledger"):
        answers, others = served(talk, handler)
    assert unframed(answers) == ANSWERED
    assert others
    assert [record.getMessage().count("\n") for record in caplog.records] == [0]
    assert "is closed" in caplog.text


@examples(100)
@given(st.lists(st.binary(max_size=40), max_size=5), st.booleans())
def test_no_bytes_raise_and_none_are_answered_with_what_is_no_message(pieces, begun):
    written, _ = fed([framed(*REQUESTS), *pieces] if begun else pieces)
    for message in unframed(written):
        assert len(decode(message)) == 1


def test_a_message_as_large_as_may_be_is_answered_and_one_byte_more_is_not():
    room = LIMIT - len(encode((8, [(1, bytes(LIMIT - 20))]))) + LIMIT - 20
    largest = encode((8, [(1, bytes(room))]))
    assert len(largest) == LIMIT
    handler = Recorder()
    assert unframed(served(lambda path: ask(path, framed(largest)), handler)) == [encode((9, []))]
    assert len(handler.calls[0][1]) == room
    assert fed([framed(encode((8, [(1, bytes(room + 1))])))]) == (b"", True)


@pytest.mark.parametrize("end", ["half-open", "gone", "in the length"])
def test_a_message_that_ends_early_reaches_nobody(end, caplog):
    handler = Recorder()
    cut = framed(encode((8, [(1, bytes(300))])))[: 1 if end == "in the length" else 200]

    async def talk(path):
        if end == "gone":
            async with connected(path) as (_, writer):
                writer.write(cut)
                await writer.drain()
                writer.transport.abort()
            await until(lambda: caplog.records)
            answered = b""
        else:
            answered = await ask(path, cut)
        return answered, list(handler.calls), await works(path)

    with caplog.at_level(logging.WARNING, "fedmeta.ledger"):
        assert served(talk, handler) == (b"", [], True)
    assert f"ended after {len(cut)} bytes of a message" in caplog.text


def test_what_a_handler_raises_is_answered_and_ends_its_connection(caplog):
    handler = Recorder(finalize_block=RuntimeError("the disk is full"))

    async def talk(path):
        async with connected(path) as (other_reader, other_writer):
            answers = await ask(path, framed(REQUESTS[0], encode((20, [])), REQUESTS[0]))
            other_writer.write(framed(*REQUESTS))
            other_writer.write_eof()
            return answers, await other_reader.read()

    answers, others = served(talk, handler)
    assert unframed(answers) == [ANSWERED[0], encode((1, [(1, "RuntimeError: the disk is full")]))]
    assert unframed(others) == ANSWERED
    assert "failed at finalize_block" in caplog.text


def test_an_answer_that_cannot_be_sent_is_an_exception_as_well():
    written, closed = fed([framed(encode((8, [])))], Recorder(check_tx=abci.TxResult(code=-1)))
    assert closed
    ((kind, _),) = decode(unframed(written)[0])
    assert kind == 1


def test_the_socket_is_for_its_user_alone():
    async def talk(path):
        return stat.S_IMODE(path.stat().st_mode)

    assert served(talk, Recorder()) == 0o600


def test_a_socket_that_a_killed_process_left_is_taken_over(tmp_path):
    async def run():
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(str(tmp_path / "app.sock"))
        async with protocol.listening(Recorder(), tmp_path / "app.sock"):
            return await works(tmp_path / "app.sock")

    assert asyncio.run(run())


@pytest.mark.parametrize(("name", "words"), [("a" * 120, "at most 107"), ("none/app.sock", "no socket can be made")])
def test_a_socket_that_cannot_be_is_named(tmp_path, name, words):
    async def run():
        async with protocol.listening(Recorder(), tmp_path / name):
            pass

    with pytest.raises(EngineError, match=words):
        asyncio.run(run())
