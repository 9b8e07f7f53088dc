"""A core asks its own gate, over a unix socket."""

import asyncio
import contextlib
import os
import stat
from dataclasses import replace

import pytest

from fedmeta.govern.errors import Malformed
from fedmeta.govern.wire import codec
from fedmeta.node.errors import BadChunk, NotKept, OverQuota, RequestRefused, Unreachable
from fedmeta.node.transport.frames import MAX_FRAME
from fedmeta.node.transport.gate import OFFER as LABEL
from fedmeta.node.transport.local import MAX_ATTACHMENT, Arrival, LocalGate, LocalServer
from fedmeta.node.transport.peer import push
from fedmeta.node.transport.standing import Peer, Standing
from fedmeta.node.wire.chunks import CHUNK, Blob, leaves
from tests.node.transport.gates import MESSAGE, STANDING, client, offer, running

SEALED, OFFER = offer()
BLOB = Blob.of(MESSAGE)


@contextlib.asynccontextmanager
async def opened(folder, uids=(), **changes):
    """Give a running gate, and the connection of its core."""
    path = folder / "gate.sock"
    async with running(folder, **changes) as gate:
        server = LocalServer(gate.gate, uids)
        await server.start(path)
        core = await LocalGate.open(path)
        try:
            yield gate, core
        finally:
            core.close()
            await server.close()


def does(folder, act):
    async def run():
        async with opened(folder) as (gate, core):
            return await act(gate, core)

    return asyncio.run(run())


async def read(number: int) -> bytes:
    return SEALED[number * CHUNK : (number + 1) * CHUNK]


def test_a_core_tells_what_it_knows_as_a_whole(tmp_path):
    new = replace(STANDING, height=200, expected={(9, "bob"): 1, (8, "alice"): 2**40})

    async def act(gate, core):
        await core.stand(new)
        return gate.gate.standing

    assert does(tmp_path, act) == new


def test_a_core_learns_what_came_and_reads_it(tmp_path):
    async def act(gate, core):
        version, none = await core.arrivals()
        assert none == []
        waiting = asyncio.ensure_future(core.arrivals(version, 10))
        await asyncio.sleep(0)
        async with client(tmp_path).session(gate.target()) as session:
            await session.offer(OFFER.to_bytes())
        second, begun = await waiting
        assert (second > version, begun) == (True, [Arrival(7, "alice", 3)])
        await push(client(tmp_path), gate.target(), OFFER, read)
        third, whole = await core.arrivals(second, 10)
        assert (third > second, whole) == (True, [Arrival(7, "alice", 0)])
        assert await core.attachment("update/7/alice", LABEL) == OFFER.to_bytes()
        assert await core.blob("update/7/alice") == (OFFER.blob, OFFER.leaves, [])
        return b"".join([await core.chunk("update/7/alice", number) for number in range(3)])

    assert does(tmp_path, act) == SEALED


def test_a_wait_ends_without_news(tmp_path):
    async def act(gate, core):
        version, _ = await core.arrivals()
        return (await core.arrivals(version, 0))[0] == version

    assert does(tmp_path, act)


def test_what_a_core_wraps_again_and_its_card_reach_others(tmp_path):
    async def act(gate, core):
        await core.stand(replace(STANDING, card=b"a card"))
        await push(client(tmp_path), gate.target(), OFFER, read)
        await core.rewrap(7, "alice", b"wraps")
        async with client(tmp_path, "bob").session(gate.target()) as session:
            return await session.card(), (await session.update(7, "alice")).wraps

    assert does(tmp_path, act) == (b"a card", b"wraps")


def test_a_core_puts_models_and_deletes_them(tmp_path):
    name = f"model/{BLOB.id.hex()}"

    async def act(gate, core):
        assert await core.begin(name, BLOB, leaves(MESSAGE)) == [0, 1, 2]
        assert not await core.put(name, 0, MESSAGE[:CHUNK])
        assert await core.begin(name, BLOB, leaves(MESSAGE)) == [1, 2]
        assert not await core.put(name, 2, MESSAGE[2 * CHUNK :])
        assert await core.put(name, 1, MESSAGE[CHUNK : 2 * CHUNK])
        names, used, free = await core.room()
        assert (names, used + free) == ([name], 50_000_000)
        async with client(tmp_path).session(gate.target()) as session:
            assert await session.model_chunk(BLOB.id, 1) == MESSAGE[CHUNK : 2 * CHUNK]
        await core.delete(name)
        return await core.blob(name)

    assert does(tmp_path, act) is None


def test_old_rounds_are_dropped_and_nothing_else(tmp_path):
    async def act(gate, core):
        for name in ("update/9/bob", "update/10/bob", "update/11/alice", "model/1"):
            gate.store.write(name, b"x")
        assert await core.drop(11) == ["update/10/bob", "update/9/bob"]
        return (await core.room())[0]

    assert does(tmp_path, act) == ["model/1", "update/11/alice"]


def test_refusals_say_why_and_leave_the_connection(tmp_path):
    async def act(gate, core):
        asked = [
            (core.begin("model/1", BLOB, leaves(MESSAGE)[:-32]), BadChunk),
            (core.begin("model/1", Blob(bytes(31), 1), b""), BadChunk),
            (core.begin("../1", BLOB, leaves(MESSAGE)), NotKept),
            (core.begin("model/1", Blob(bytes(32), 10**12), b""), BadChunk),
            (core.put("model/2", 0, b"x"), NotKept),
            (core.chunk("model/2", 0), NotKept),
            (core.attach("model/2", "a", b"x"), NotKept),
            (core.attach("model/2", "a", bytes(MAX_ATTACHMENT + 1)), RequestRefused),
            (core._ask("nothing"), RequestRefused),
            (core._ask("drop", "1", []), RequestRefused),
            (core._ask("drop"), RequestRefused),
            (core._ask("stand", {}), RequestRefused),
        ]
        for one, kind in asked:
            with pytest.raises(kind):
                await one
        await core.room()

    does(tmp_path, act)


def test_a_full_gate_says_so(tmp_path):
    async def run():
        async with opened(tmp_path, quota=1000) as (_, core):
            await core.begin("model/1", BLOB, leaves(MESSAGE))

    with pytest.raises(OverQuota):
        asyncio.run(run())


def test_another_blob_under_a_name_is_refused(tmp_path):
    async def act(gate, core):
        gate.store.write("model/1", b"x")
        with pytest.raises(RequestRefused, match="another blob is kept as model/1"):
            await core.begin("model/1", BLOB, leaves(MESSAGE))

    does(tmp_path, act)


def test_only_its_own_user_opens_it(tmp_path):
    async def run():
        async with opened(tmp_path, [os.geteuid() + 1]) as (_, core):
            assert stat.S_IMODE((tmp_path / "gate.sock").stat().st_mode) == 0o600
            await core.room()

    with pytest.raises(Unreachable, match="the gate is gone"):
        asyncio.run(run())


def test_without_a_gate_it_is_said_where_one_should_be(tmp_path):
    with pytest.raises(Unreachable, match=r"no gate listens at .*none\.sock"):
        asyncio.run(LocalGate.open(tmp_path / "none.sock"))


@pytest.mark.parametrize(
    "data",
    [
        (MAX_FRAME + 1).to_bytes(4, "big"),
        b"\x00\x00\x00\x01\xff",
        b"\x00\x00\x00\x02\x18\x01",
        b"\x00\x00",
    ],
)
def test_what_is_no_frame_ends_the_connection(tmp_path, data):
    async def act(gate, core):
        reader, writer = await asyncio.open_unix_connection(str(tmp_path / "gate.sock"))
        writer.write(data)
        writer.write_eof()
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        writer.transport.abort()
        await core.room()

    does(tmp_path, act)


def test_a_frame_that_is_no_request_is_refused(tmp_path):
    async def act(gate, core):
        reader, writer = await asyncio.open_unix_connection(str(tmp_path / "gate.sock"))
        data = codec.encode(["room"])
        writer.write(len(data).to_bytes(4, "big") + data)
        size = int.from_bytes(await reader.readexactly(4), "big")
        answer = codec.decode(await reader.readexactly(size))
        writer.transport.abort()
        return answer[:2]

    assert does(tmp_path, act) == [False, "bad-request"]


def test_a_wait_that_was_given_up_leaves_no_answer_for_another(tmp_path):
    async def act(gate, core):
        version, _ = await core.arrivals()
        waiting = asyncio.ensure_future(core.arrivals(version, 60))
        await asyncio.sleep(0.05)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        with pytest.raises(Unreachable):
            await core.room()

    does(tmp_path, act)


def test_too_large_a_frame_is_not_sent(tmp_path):
    async def act(gate, core):
        with pytest.raises(Malformed, match="too large"):
            await core.put("model/1", 0, bytes(MAX_FRAME))
        await core.room()

    does(tmp_path, act)


GOOD = STANDING.to_value()


@pytest.mark.parametrize(
    "value",
    [
        None,
        {},
        {**GOOD, "more": 1},
        {**GOOD, "height": True},
        {**GOOD, "height": -1},
        {**GOOD, "window": 2**53},
        {**GOOD, "genesis": bytes(31)},
        {**GOOD, "name": "Hub"},
        {**GOOD, "card": bytes(1 << 17)},
        {**GOOD, "peers": {"Bob": GOOD["peers"]["bob"]}},
        {**GOOD, "peers": {"bob": []}},
        {**GOOD, "peers": {"bob": [bytes(31), [], "seat"]}},
        {**GOOD, "peers": {"bob": [bytes(32), [bytes(31)], "seat"]}},
        {**GOOD, "peers": {"bob": [bytes(32), [], "king"]}},
        {**GOOD, "expected": [[7, "alice"]]},
        {**GOOD, "expected": [[7, "Alice", 1]]},
        {**GOOD, "expected": [[-1, "alice", 1]]},
        {**GOOD, "expected": [[7, "alice", 0]]},
    ],
)
def test_a_standing_that_is_none_is_refused(value):
    with pytest.raises(Malformed):
        Standing.from_value(value)


def test_a_standing_comes_back_from_its_bytes():
    assert Standing.from_value(codec.decode(codec.encode(GOOD))) == STANDING
    assert Peer.from_value(Peer(bytes(32)).to_value()) == Peer(bytes(32))
