import asyncio
import gzip
import ssl
from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from fedmeta.govern.wire import codec
from fedmeta.node.transport.certificates import Certificate
from fedmeta.node.transport.pace import MAX_BODY, Limits
from fedmeta.node.transport.standing import Peer
from fedmeta.node.wire.chunks import CHUNK
from tests.node.transport import gates
from tests.node.transport.gates import (
    CERTIFICATES,
    HEIGHT,
    KEYS,
    PEERS,
    everything,
    exchange,
    pem,
    raw,
    running,
    signed,
    tls,
)

CARD = raw("GET", "/card", signed("GET", "/card"))
QUICK = Limits(handshake_seconds=0.3, header_seconds=0.3, idle_seconds=0.3, grace_seconds=0.3)


def code(answer: bytes) -> tuple[int, str]:
    """Return status and code of the last answer in what came."""
    head, _, body = answer.rpartition(b"\r\n\r\n")
    value = codec.decode(body)
    return int(head.rpartition(b"HTTP/1.1 ")[2][:3]), value["code"] if value else ""


def asked(folder, data: bytes, certificate: str = "alice", limits: Limits = QUICK, **changes) -> bytes:
    async def run():
        async with running(folder, limits, **changes) as gate:
            return await exchange(folder, gate.port, data, certificate)

    return asyncio.run(run())


def made(path, begin: int, end: int, key=None) -> Certificate:
    key = key or ec.generate_private_key(ec.SECP256R1())
    who = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, path)])
    first, last = (datetime(year, 1, 1, tzinfo=UTC) for year in (begin, end))
    builder = x509.CertificateBuilder(who, who, key.public_key(), 1, first, last)
    return Certificate(builder.sign(key, SHA256()), key)


@pytest.mark.parametrize("certificate", ["alice", "next"])
def test_a_member_is_answered_with_its_current_and_its_next_certificate(tmp_path, certificate):
    assert code(asked(tmp_path, CARD, certificate)) == (200, "")


@pytest.mark.parametrize(("begin", "end"), [(2000, 2001), (2090, 2100)])
def test_dates_mean_nothing(tmp_path, monkeypatch, begin, end):
    other = made("alice", begin, end)
    monkeypatch.setitem(CERTIFICATES, "dated", other)
    peers = {**PEERS, "alice": Peer(KEYS["alice"].public, (other.fingerprint,))}
    assert code(asked(tmp_path, CARD, "dated", peers=peers)) == (200, "")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_strangers_certificate_ends_the_handshake(tmp_path, version):
    async def run():
        async with running(tmp_path) as gate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            context.minimum_version = context.maximum_version = version
            context.load_cert_chain(pem(tmp_path, CERTIFICATES["mallory"]))
            with pytest.raises(ssl.SSLError, match="alert"):  # noqa: PT012
                reader, writer = await asyncio.open_connection("127.0.0.1", gate.port, ssl=context)
                try:
                    await reader.read(1)
                finally:
                    writer.transport.abort()

    asyncio.run(run())


def test_a_certificate_of_another_kind_of_key_is_a_strangers(tmp_path, monkeypatch):
    key = rsa.generate_private_key(65537, 2048)
    who = x509.Name([])
    first, last = (datetime(year, 1, 1, tzinfo=UTC) for year in (2000, 2100))
    certificate = x509.CertificateBuilder(who, who, key.public_key(), 1, first, last).sign(key, SHA256())
    path = tmp_path / "rsa.pem"
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(certificate.public_bytes(Encoding.PEM) + secret)
    monkeypatch.setattr(gates, "pem", lambda _folder, _certificate: path)
    assert asked(tmp_path, CARD) == b""


def test_old_tls_is_refused(tmp_path):
    async def run():
        async with running(tmp_path) as gate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            context.set_ciphers("ALL:@SECLEVEL=0")
            with pytest.warns(DeprecationWarning, match="TLSv1_1"):
                context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await asyncio.open_connection("127.0.0.1", gate.port, ssl=context)

    asyncio.run(run())


def test_anothers_certificate_does_not_carry_ones_requests(tmp_path):
    assert code(asked(tmp_path, CARD, "bob")) == (403, "wrong-certificate")
    assert code(asked(tmp_path, CARD, "")) == (403, "wrong-certificate")


def test_a_member_without_a_fingerprint_comes_without_a_certificate_only(tmp_path):
    card = raw("GET", "/card", signed("GET", "/card", name="carol"))
    assert code(asked(tmp_path, card, "")) == (200, "")
    assert code(asked(tmp_path, card, "alice")) == (403, "wrong-certificate")


def test_without_a_core_nobody_is_known(tmp_path):
    async def run():
        async with running(tmp_path, QUICK) as gate:
            gate.gate.standing = None
            assert await exchange(tmp_path, gate.port, CARD) == b""
            return await exchange(tmp_path, gate.port, CARD, "")

    assert code(asyncio.run(run())) == (503, "not-ready")


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        (raw("GET", "/card"), (401, "unsigned")),
        (raw("GET", "/card", signed("GET", "/card"), signed("GET", "/card")), (401, "unsigned")),
        (raw("GET", "/card", signed("GET", "/offers")), (401, "bad-signature")),
        (raw("POST", "/card", signed("GET", "/card")), (401, "bad-signature")),
        (raw("GET", "/card", signed("GET", "/card", receiver="bob")), (401, "bad-signature")),
        (raw("GET", "/card", signed("GET", "/card", genesis=bytes(32))), (401, "bad-signature")),
        (raw("GET", "/card", signed("GET", "/card", height=HEIGHT + 6)), (409, "bad-height")),
        (raw("GET", "/card", signed("GET", "/card", height=HEIGHT - 6)), (409, "bad-height")),
        (raw("GET", "/card", signed("GET", "/card", name="mallory")), (403, "stranger")),
        (raw("GET", "/card", signed("GET", "/card"), ("content-length", "1"), body=b"x"), (422, "bad-body")),
        (raw("PUT", "/card", signed("PUT", "/card")), (405, "bad-method")),
        (raw("GET", "/cards", signed("GET", "/cards")), (404, "not-found")),
        (raw("GET", "/updates/07/alice", signed("GET", "/updates/07/alice")), (404, "not-found")),
        (raw("GET", "/updates/7/..", signed("GET", "/updates/7/..")), (404, "not-found")),
        (b"\x16\x03\x01 nonsense\r\n\r\n", (400, "bad-request")),
        (raw("GET", "/card", ("a", "x" * 17_000)), (431, "large-head")),
        (raw("GET", "/card", ("content-length", "1"), ("content-length", "2")), (400, "bad-request")),
        (raw("GET", "/card", ("transfer-encoding", "gzip, chunked")), (415, "encoded")),
        (raw("GET", "/card", ("transfer-encoding", "gzip")), (415, "encoded")),
    ],
)
def test_what_is_wrong_is_said(tmp_path, request_, answer):
    assert code(asked(tmp_path, request_)) == answer


def test_a_request_that_comes_again_is_answered_again(tmp_path):
    answers = asked(tmp_path, CARD + CARD)
    assert answers.count(b"HTTP/1.1 200") == 2


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "identity, gzip"])
def test_encoded_bodies_are_refused(tmp_path, encoding):
    body = gzip.compress(b"offer")
    headers = [("content-length", str(len(body))), ("content-encoding", encoding), signed("POST", "/offers", body)]
    assert code(asked(tmp_path, raw("POST", "/offers", *headers, body=body))) == (415, "encoded")


def test_a_body_may_come_in_pieces(tmp_path):
    header = signed("GET", "/card", b"abc")
    chunked = raw("GET", "/card", header, ("transfer-encoding", "chunked"), body=b"1\r\na\r\n2\r\nbc\r\n0\r\n\r\n")
    assert code(asked(tmp_path, chunked)) == (200, "")


def test_a_body_that_says_it_is_too_large_is_not_read(tmp_path):
    header = signed("POST", "/offers")
    request = raw("POST", "/offers", header, ("content-length", str(MAX_BODY + 1)))
    assert code(asked(tmp_path, request)) == (413, "too-large")


def test_a_body_that_does_not_say_so_is_cut_off(tmp_path):
    size = CHUNK + 5000
    body = f"{size:x}\r\n".encode() + bytes(size) + b"\r\n0\r\n\r\n"
    request = raw("POST", "/offers", signed("POST", "/offers"), ("transfer-encoding", "chunked"), body=body)
    assert code(asked(tmp_path, request)) == (413, "too-large")


def test_a_strangers_body_is_not_waited_for(tmp_path):
    request = raw("POST", "/offers", ("content-length", "1000"))
    assert code(asked(tmp_path, request)) == (401, "unsigned")


def test_a_client_that_waits_to_be_asked_is_asked(tmp_path):
    async def run():
        async with running(tmp_path) as gate, tls(tmp_path, gate.port) as (reader, writer):
            header = signed("GET", "/card", b"abc")
            writer.write(raw("GET", "/card", header, ("content-length", "3"), ("expect", "100-continue")))
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100")
            writer.write(b"abc")
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")

    asyncio.run(run())


@pytest.mark.parametrize(
    "begun",
    [
        b"",
        b"G",
        b"GET /card HTTP/1.1\r\nhost: hub\r\n",
        raw("GET", "/card", signed("GET", "/card", bytes(9)), ("content-length", "9"), body=b"abc"),
    ],
)
def test_who_says_no_more_is_closed(tmp_path, begun):
    async def run():
        async with running(tmp_path, QUICK) as gate, tls(tmp_path, gate.port) as (reader, writer):
            writer.write(begun)
            assert await everything(reader) == b""
            assert gate.server.connections == 0

    asyncio.run(run())


@pytest.mark.parametrize(
    "begun",
    [b"", raw("POST", "/offers", signed("POST", "/offers", bytes(9000)), ("content-length", "9000"))],
)
def test_who_drips_is_closed(tmp_path, begun):
    async def run():
        async with running(tmp_path, QUICK) as gate, tls(tmp_path, gate.port) as (reader, writer):
            writer.write(begun)
            reading = asyncio.ensure_future(everything(reader))
            for number in range(9000):
                if reading.done():
                    break
                writer.write(b"GET /card HTTP/1.1\r\nhost: hub\r\na: "[number : number + 1] or b"a")
                await asyncio.sleep(0.01)
            assert reading.done()
            assert await reading == b""

    asyncio.run(run())


def test_who_takes_nothing_is_closed(tmp_path):
    async def run():
        async with running(tmp_path, QUICK) as gate, tls(tmp_path, gate.port, "bob") as (reader, writer):
            gate.store.write("update/7/alice", bytes(CHUNK))
            path = "/updates/7/alice/0"
            for _ in range(30):
                writer.write(raw("GET", path, signed("GET", path, name="bob")))
            await reader.read(1)  # and no more: the reader's buffer fills, then the kernel's
            await _until(lambda: gate.server.connections == 0)

    asyncio.run(run())


def test_who_never_begins_tls_is_closed(tmp_path):
    async def run():
        async with running(tmp_path, QUICK) as gate:
            reader, writer = await asyncio.open_connection("127.0.0.1", gate.port)
            assert await everything(reader) == b""
            writer.transport.abort()

    asyncio.run(run())


async def _is_served(folder, port, certificate, name) -> bool:
    return b"HTTP/1.1 200" in await exchange(
        folder, port, raw("GET", "/card", signed("GET", "/card", name=name), ("connection", "close")), certificate
    )


def test_places_are_kept_for_seats(tmp_path):
    async def run():
        limits = Limits(connections=3, seats=1)
        async with running(tmp_path, limits) as gate:
            async with tls(tmp_path, gate.port), tls(tmp_path, gate.port):
                await _until(lambda: gate.server._others == 2)
                assert not await _is_served(tmp_path, gate.port, "alice", "alice")
                assert not await _is_served(tmp_path, gate.port, "", "carol")
                assert await _is_served(tmp_path, gate.port, "bob", "bob")
            await _until(lambda: gate.server.connections == 0)
            assert await _is_served(tmp_path, gate.port, "alice", "alice")

    asyncio.run(run())


def test_who_shows_no_certificate_leaves_places_to_members(tmp_path):
    async def run():
        async with running(tmp_path, Limits(strangers=2)) as gate:
            async with tls(tmp_path, gate.port, ""), tls(tmp_path, gate.port, ""):
                await _until(lambda: gate.server._others == 2)
                assert not await _is_served(tmp_path, gate.port, "", "carol")
                assert await _is_served(tmp_path, gate.port, "alice", "alice")
            await _until(lambda: gate.server.connections == 0)
            assert await _is_served(tmp_path, gate.port, "", "carol")

    asyncio.run(run())


def test_one_certificate_and_one_address_have_so_many_places(tmp_path):
    async def run():
        async with running(tmp_path, Limits(member_connections=1)) as gate, tls(tmp_path, gate.port, "alice"):
            await _until(lambda: gate.server._others == 1)
            assert not await _is_served(tmp_path, gate.port, "alice", "alice")
            assert await _is_served(tmp_path, gate.port, "bob", "bob")
        async with running(tmp_path, Limits(address_connections=1)) as gate, tls(tmp_path, gate.port, "alice"):
            with pytest.raises(OSError):
                await _is_served(tmp_path, gate.port, "bob", "bob")

    asyncio.run(run())


def test_the_oldest_handshake_gives_way(tmp_path):
    async def run():
        async with running(tmp_path, Limits(handshakes=2)) as gate:
            idle = [await asyncio.open_connection("127.0.0.1", gate.port) for _ in range(2)]
            await _until(lambda: gate.server.connections == 2)
            assert await _is_served(tmp_path, gate.port, "alice", "alice")
            assert await everything(idle[0][0]) == b""
            for _, writer in idle:
                writer.transport.abort()

    asyncio.run(run())


async def _until(true) -> None:
    async with asyncio.timeout(10):
        while not true():
            await asyncio.sleep(0.01)
