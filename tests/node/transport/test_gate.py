"""A gate asked by its clients, over sockets and TLS."""

import asyncio
import ssl
from dataclasses import replace

import pytest

from fedmeta.govern.wire.signatures import digest
from fedmeta.node.errors import BadChunk, RequestRefused, SealError, Unreachable
from fedmeta.node.transport import gate as gates
from fedmeta.node.transport.pace import MAX_BODY, Limits
from fedmeta.node.transport.peer import Target, pull, pull_model, push
from fedmeta.node.transport.standing import Peer
from fedmeta.node.wire.chunks import CHUNK, Blob, leaves
from fedmeta.node.wire.offers import Offer
from fedmeta.node.wire.sealing import seal, unseal
from tests.node.transport.gates import (
    CERTIFICATES,
    CONTEXT,
    KEYS,
    MESSAGE,
    PEERS,
    SEATS,
    client,
    offer,
    pem,
    running,
)

SEALED, OFFER = offer()
NAME = "update/7/alice"


def chunk(number: int, data: bytes = SEALED) -> bytes:
    return data[number * CHUNK : (number + 1) * CHUNK]


def reader(data: bytes = SEALED):
    async def read(number: int) -> bytes:
        return chunk(number, data)

    return read


def does(folder, act, name: str = "alice", **changes):
    """Return what `act(session, gate)` gives against a running gate."""

    async def run():
        async with running(folder, **changes) as gate, client(folder, name).session(gate.target()) as session:
            return await act(session, gate)

    return asyncio.run(run())


def refused(folder, act, name: str = "alice", **changes) -> str:
    with pytest.raises(RequestRefused) as caught:
        does(folder, act, name, **changes)
    return caught.value.code


def test_an_update_comes_whole_to_a_seat_which_opens_it(tmp_path):
    async def run():
        async with running(tmp_path) as gate:
            await push(client(tmp_path), gate.target(), OFFER, reader())
            assert gate.store.complete(NAME)
            gate.store.attach(NAME, "wraps", b"wrapped again")
            got: dict[int, bytes] = {}
            bob = client(tmp_path, "bob")
            async with bob.session(gate.target()) as session:
                kept = await session.update(7, "alice")
            assert kept == (OFFER, [], b"wrapped again")
            kept.offer.check(KEYS["alice"].public)
            assert await pull(bob, gate.target(), kept.offer, range(kept.offer.blob.chunks), _into(got)) == []
            return b"".join(got[number] for number in sorted(got)), kept.offer.wraps["bob"]

    sealed, wrap = asyncio.run(run())
    assert unseal(sealed, wrap, SEATS["bob"], CONTEXT) == MESSAGE


def _into(got: dict[int, bytes]):
    async def write(number: int, data: bytes) -> None:
        got[number] = data

    return write


def test_what_is_there_is_not_sent_again(tmp_path):
    async def act(session, gate):
        assert await session.offer(OFFER.to_bytes()) == [0, 1, 2]
        assert not await session.put(7, "alice", 1, chunk(1))
        assert not await session.put(7, "alice", 1, chunk(1))
        read = []

        async def reading(number: int) -> bytes:
            read.append(number)
            return chunk(number)

        await push(client(tmp_path), gate.target(), OFFER, reading)
        assert await session.offer(OFFER.to_bytes()) == []
        return read

    assert does(tmp_path, act) == [0, 2]


def test_another_member_may_pass_it_on(tmp_path):
    async def act(session, gate):
        await session.offer(OFFER.to_bytes())
        return [await session.put(7, "alice", number, chunk(number)) for number in (2, 0, 1)]

    assert does(tmp_path, act, "bob") == [False, False, True]


def test_seats_and_the_member_itself_read_an_update_and_nobody_else(tmp_path):
    dora = {**PEERS, "mallory": Peer(KEYS["mallory"].public, (CERTIFICATES["mallory"].fingerprint,))}

    async def act(session, gate):
        async with client(tmp_path).session(gate.target()) as alice:
            await alice.offer(OFFER.to_bytes())
            await alice.put(7, "alice", 0, chunk(0))
            assert await alice.chunk(7, "alice", 0) == chunk(0)
        return await session.chunk(7, "alice", 0)

    assert does(tmp_path, act, "bob") == chunk(0)
    assert refused(tmp_path / "2", act, "mallory", peers=dora) == "not-yours"
    assert refused(tmp_path / "3", lambda session, _: session.update(7, "alice"), "mallory", peers=dora) == "not-yours"


def test_an_offer_is_only_taken_if_it_is_expected_and_signed_and_small_enough(tmp_path):
    def offered(made: Offer | bytes):
        return lambda session, _: session.offer(made if isinstance(made, bytes) else made.to_bytes())

    bob = replace(OFFER, signature=b"").signed(KEYS["bob"])
    cases = [
        (replace(OFFER, round=8).signed(KEYS["alice"]), "not-expected"),
        (replace(OFFER, member="bob").signed(KEYS["bob"]), "not-expected"),
        (replace(OFFER, genesis=digest(b"another")).signed(KEYS["alice"]), "not-expected"),
        (bob, "bad-offer"),
        (replace(OFFER, leaves=OFFER.leaves[:-32]), "bad-offer"),
        (replace(OFFER, leaves=bytes(96)), "bad-offer"),
        (replace(OFFER, signature=bytes(63)), "bad-offer"),
        (replace(OFFER, wraps={"Bob": b""}), "bad-offer"),
        (replace(OFFER, wraps={"bob": bytes(2000)}), "bad-offer"),
        (OFFER.to_bytes() + b"\x00", "bad-offer"),
        (b"", "bad-offer"),
    ]
    for number, (made, code) in enumerate(cases):
        assert refused(tmp_path / str(number), offered(made)) == code
    small = {(7, "alice"): len(SEALED) - 1}
    assert refused(tmp_path / "small", offered(OFFER), expected=small) == "too-large"
    assert refused(tmp_path / "full", offered(OFFER), quota=len(SEALED) - 1) == "over-quota"
    with pytest.raises(RequestRefused):
        OFFER.check(KEYS["bob"].public)


def test_the_first_ciphertext_stays_and_may_be_sealed_to_more_seats_later(tmp_path):
    other = offer()[1]
    again = replace(OFFER, wraps={**OFFER.wraps, "late": b"w" * 80}).signed(KEYS["alice"])

    async def act(session, gate):
        await session.offer(OFFER.to_bytes())
        with pytest.raises(RequestRefused, match="another offer") as caught:
            await session.offer(other.to_bytes())
        assert caught.value.code == "other-offer"
        missing = await session.offer(again.to_bytes())
        return missing, gate.store.attachment("update/7/alice", "offer")

    assert does(tmp_path, act) == ([0, 1, 2], again.to_bytes())


def test_chunks_that_are_not_the_offers_are_refused(tmp_path):
    async def act(session, gate):
        await session.offer(OFFER.to_bytes())
        codes = []
        for number, data in ((0, chunk(1)), (0, chunk(0)[:-1]), (3, chunk(0)), (2, b"")):
            with pytest.raises(RequestRefused) as caught:
                await session.put(7, "alice", number, data)
            codes.append(caught.value.code)
        assert gate.store.missing(NAME) == [0, 1, 2]
        return codes

    assert does(tmp_path, act) == ["bad-chunk"] * 4


def test_chunks_without_an_offer_or_after_its_time_are_refused(tmp_path):
    assert refused(tmp_path, lambda session, _: session.put(7, "alice", 0, chunk(0))) == "not-found"

    async def late(session, gate):
        await session.offer(OFFER.to_bytes())
        gate.gate.standing = replace(gate.gate.standing, expected={})
        await session.put(7, "alice", 0, chunk(0))

    assert refused(tmp_path / "2", late) == "not-expected"


def test_what_is_not_there_is_said(tmp_path):
    async def lacking(session, gate):
        await session.offer(OFFER.to_bytes())
        await session.chunk(7, "alice", 0)

    assert refused(tmp_path, lacking) == "not-found"
    assert refused(tmp_path / "2", lambda session, _: session.update(7, "bob"), "bob") == "not-found"
    assert refused(tmp_path / "3", lambda session, _: session.model(bytes(32))) == "not-found"
    assert refused(tmp_path / "4", lambda session, _: session.model_chunk(bytes(32), 0)) == "not-found"
    assert refused(tmp_path / "5", lambda session, _: session.card(), card=b"") == "not-found"


def test_a_chunk_that_the_disk_damaged_is_not_given_away(tmp_path):
    async def act(session, gate):
        await session.offer(OFFER.to_bytes())
        await session.put(7, "alice", 0, chunk(0))
        [path] = [one for one in (tmp_path / "store").iterdir() if one.name.endswith("~data")]
        with path.open("r+b") as file:
            file.write(b"\xff\x00\xff")
        await session.chunk(7, "alice", 0)

    assert refused(tmp_path, act) in ("disk", "not-found")


def test_the_card_is_the_cores(tmp_path):
    assert does(tmp_path, lambda session, _: session.card(), card=b"the card") == b"the card"


MODEL = MESSAGE[::-1]
MODEL_BLOB = Blob.of(MODEL)


def test_every_member_gets_the_model(tmp_path):
    async def run():
        async with running(tmp_path) as gate:
            gate.store.write(f"model/{MODEL_BLOB.id.hex()}", MODEL)
            got: dict[int, bytes] = {0: MODEL[:CHUNK]}

            async def begin(blob: Blob, hashes: bytes) -> list[int]:
                assert (blob, hashes) == (MODEL_BLOB, leaves(MODEL))
                return [number for number in range(blob.chunks) if number not in got]

            alice = client(tmp_path)
            assert await pull_model(alice, gate.target(), MODEL_BLOB.id, begin, _into(got)) == MODEL_BLOB
            return b"".join(got[number] for number in sorted(got))

    assert asyncio.run(run()) == MODEL


def test_a_model_is_only_sent_sealed(tmp_path):
    async def act(session, gate):
        gate.store.write(f"model/{MODEL_BLOB.id.hex()}", MODEL)
        await session.ask("GET", f"/models/{MODEL_BLOB.id.hex()}/0")

    assert refused(tmp_path, act) == "bad-request"


def test_another_model_is_not_taken_for_it(tmp_path):
    async def act(session, gate):
        gate.store.write(f"model/{bytes(32).hex()}", MODEL)
        with pytest.raises(BadChunk, match="another blob than the model"):
            await session.model(bytes(32))

    does(tmp_path, act)


def test_a_reply_key_of_small_order_is_refused(tmp_path):
    async def act(session, gate):
        gate.store.write(f"model/{MODEL_BLOB.id.hex()}", MODEL)
        await session.ask("GET", f"/models/{MODEL_BLOB.id.hex()}/0", reply=bytes(32))

    assert refused(tmp_path, act) == "bad-chunk"


def test_heights_apart_do_not_meet(tmp_path):
    async def run(height: int):
        async with running(tmp_path) as gate, client(tmp_path, height=height).session(gate.target()) as session:
            await session.card()

    for height in (94, 106):
        with pytest.raises(RequestRefused, match="heights 95 to 105 are accepted"):
            asyncio.run(run(height))


def test_a_transfer_goes_on_after_the_connection_breaks(tmp_path):
    async def run():
        async with running(tmp_path) as gate:
            read = []

            async def reading(number: int) -> bytes:
                read.append(number)
                if read == [0, 1]:
                    await gate.server.close()
                    await gate.server.start("127.0.0.1", gate.port)
                return chunk(number)

            await push(client(tmp_path), gate.target(), OFFER, reading, pause=0.0)
            assert gate.store.complete(NAME)
            return read

    assert asyncio.run(run()) == [0, 1, 1, 2]


def test_it_gives_up_where_nothing_gets_through(tmp_path):
    async def run():
        async with running(tmp_path) as gate:
            await gate.server.close()
            await push(client(tmp_path), gate.target(), OFFER, reader(), tries=2, pause=0.0)

    with pytest.raises(Unreachable, match=r"'hub' cannot be reached: 127\.0\.0\.1:"):
        asyncio.run(run())


def test_addresses_are_tried_in_turn(tmp_path):
    async def run():
        async with running(tmp_path) as gate:
            addresses = ("nonsense", "127.0.0.1:1", f"127.0.0.1:{gate.port}")
            async with client(tmp_path).session(gate.target(addresses=addresses)) as session:
                return await session.card()

    assert asyncio.run(run()) == b"\x80"


def unreachable(folder, approved=("127.0.0.0/8:*",), **changes) -> str:
    async def run():
        async with running(folder) as gate:
            target = gate.target(**changes)
            addresses = tuple(one.replace("PORT", str(gate.port)) for one in target.addresses)
            chosen = client(folder, approved=approved)
            async with chosen.session(target._replace(addresses=addresses)):
                pass

    with pytest.raises(Unreachable) as caught:
        asyncio.run(run())
    return str(caught.value)


def test_another_server_is_not_spoken_to(tmp_path):
    assert "the ledger says" in unreachable(tmp_path, fingerprints=(CERTIFICATES["bob"].fingerprint,))
    assert "the ledger says none" in unreachable(tmp_path, fingerprints=())


def test_the_next_certificate_is_as_good(tmp_path):
    async def run():
        async with running(tmp_path) as gate:
            pins = (CERTIFICATES["bob"].fingerprint, CERTIFICATES["hub"].fingerprint)
            async with client(tmp_path).session(gate.target(fingerprints=pins)) as session:
                return await session.card()

    assert asyncio.run(run()) == b"\x80"


def test_who_has_no_certificate_on_the_ledger_shows_none(tmp_path):
    async def card(**options):
        async with running(tmp_path) as gate, client(tmp_path, "carol", **options).session(gate.target()) as session:
            return await session.card()

    assert asyncio.run(card(known=lambda: False)) == b"\x80"
    with pytest.raises(Unreachable):
        asyncio.run(card(known=lambda: True))


def test_an_address_on_the_ledger_does_not_lead_inside(tmp_path):
    assert "not approved here" in unreachable(tmp_path, ("gate.example.org:*",))
    aimed = ("localhost:PORT",)
    assert "which is not a public address" in unreachable(tmp_path, ("localhost:*",), addresses=aimed)


def test_a_name_may_lead_inside_where_a_person_says_so(tmp_path):
    async def run():
        async with running(tmp_path) as gate:
            approved = (f"localhost:{gate.port}", f"127.0.0.1:{gate.port}", f"[::1]:{gate.port}")
            target = gate.target(addresses=(f"localhost:{gate.port}",))
            async with client(tmp_path, approved=approved).session(target) as session:
                return await session.card()

    assert asyncio.run(run()) == b"\x80"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 1\r\n\r\nx", "encoded as b'gzip'"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % (MAX_BODY + 1), "is too large"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n200000\r\n" + bytes(1 << 21), "more than"),
        (b"HTTP/1.1 200 OK\r\na: " + b"x" * 100_000, "failed"),
        (b"HTTP/1.1 502 Bad\r\ncontent-length: 4\r\n\r\noops", "the answer is 502, not by a gate"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nx", "too slow"),
        (b"", "too slow"),
        (b"SSH-2.0\r\n\r\n", "failed"),
    ],
)
def test_answers_that_are_not_as_agreed_are_not_taken(tmp_path, answer, said):
    async def run():
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem(tmp_path, CERTIFICATES["hub"]))
        writers = []

        async def serve(reader, writer):
            writers.append(writer)
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)

        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
        port = server.sockets[0].getsockname()[1]
        limits = Limits(answer_seconds=0.3, grace_seconds=0.3)
        target = Target("hub", (f"127.0.0.1:{port}",), (CERTIFICATES["hub"].fingerprint,))
        try:
            async with client(tmp_path, limits=limits).session(target) as session:
                await session.card()
        finally:
            server.close()
            for writer in writers:
                writer.transport.abort()

    with pytest.raises(Unreachable, match=said):
        asyncio.run(run())


def test_a_sealed_answer_for_another_does_not_open(tmp_path, monkeypatch):
    monkeypatch.setattr(gates, "seal", lambda data, publics, context: seal(data, publics, digest(context)))

    async def act(session, gate):
        gate.store.write(f"model/{MODEL_BLOB.id.hex()}", MODEL)
        with pytest.raises(SealError):
            await session.model_chunk(MODEL_BLOB.id, 0)

    does(tmp_path, act)


PROCEDURE = b'{"a": "procedure"}'


def test_every_member_gets_a_procedure_and_only_sealed(tmp_path):
    name = gates.procedure_name(digest(PROCEDURE).hex())

    async def act(session, gate):
        gate.store.write(name, PROCEDURE)
        assert await session.procedure(digest(PROCEDURE)) == PROCEDURE
        assert PROCEDURE not in await session.ask(
            "GET", f"/procedures/{digest(PROCEDURE).hex()}", reply=SEATS["bob"].public
        )
        await session.ask("GET", f"/procedures/{digest(PROCEDURE).hex()}")

    assert refused(tmp_path, act) == "bad-request"
    assert refused(tmp_path / "2", lambda session, _: session.procedure(bytes(32))) == "not-found"


def test_another_procedure_is_not_taken_for_it(tmp_path):
    async def act(session, gate):
        gate.store.write(gates.procedure_name(bytes(32).hex()), PROCEDURE)
        with pytest.raises(BadChunk, match="other bytes than those of procedure"):
            await session.procedure(bytes(32))

    does(tmp_path, act)
