"""Beside a federation in network namespaces: a proxy that takes CONNECT only, and an end of TLS before a ledger."""

import asyncio
import ssl
import sys


async def carry(source, sink):
    try:
        while data := await source.read(1 << 16):
            sink.write(data)
            await sink.drain()
        sink.write_eof()
    except (OSError, NotImplementedError):
        sink.transport.abort()


async def join(reader, writer, place):
    host, _, port = place.rpartition(":")
    try:
        far_reader, far = await asyncio.open_connection(host, int(port))
    except OSError:
        writer.transport.abort()
        return
    await asyncio.gather(carry(reader, far), carry(far_reader, writer))
    for one in (writer, far):
        one.transport.abort()


def connecting(names):
    """Return what answers to CONNECT, and to nothing else; it knows some names that nobody else knows."""

    async def serve(reader, writer):
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, OSError):
            return
        method, target = head.split(b" ")[:2]
        print(method.decode(), target.decode(), flush=True)
        if method != b"CONNECT":
            writer.write(b"HTTP/1.1 405 Method Not Allowed\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            await writer.drain()
            writer.close()
            return
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await join(reader, writer, names.get(target.decode(), target.decode()))

    return serve


def ending(place):
    """Return what passes on to a place what comes over TLS."""

    async def serve(reader, writer):
        await join(reader, writer, place)

    return serve


async def main(kind, host, port, *rest):
    if kind == "proxy":
        server = await asyncio.start_server(connecting(dict(one.split("=") for one in rest)), host, int(port))
    else:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(rest[0])
        server = await asyncio.start_server(ending(rest[1]), host, int(port), ssl=context)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
