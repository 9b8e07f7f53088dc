"""Connections for checks: through a CONNECT proxy if there is one, and the certificate that the other side shows."""

import base64
import socket
import ssl
from urllib.parse import unquote, urlsplit

from fedmeta.node.transport.destinations import Destinations, Place

_LARGEST = 1 << 14


def connect(host: str, port: int, proxy: str, timeout: float = 10.0) -> socket.socket:
    """Return a TCP connection, through an `http://` proxy if one is given; raises `OSError`."""
    if not proxy:
        return socket.create_connection((host, port), timeout)
    split = urlsplit(proxy)
    made = socket.create_connection((split.hostname or "", split.port or 80), timeout)
    try:
        target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}"]
        if split.username:
            word = f"{unquote(split.username)}:{unquote(split.password or '')}"
            lines.append(f"Proxy-Authorization: Basic {base64.b64encode(word.encode()).decode()}")
        made.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        answer = b""
        while b"\r\n\r\n" not in answer:
            part = made.recv(1)
            if not part or len(answer) > _LARGEST:
                raise OSError(f"the proxy {split.hostname} does not answer as a proxy does")
            answer += part
        status = answer.split(b"\r\n")[0].decode("latin-1")
        if status.split(" ")[1:2] != ["200"]:
            raise OSError(f"the proxy {split.hostname} does not connect to {target}: {status[:80]}")
    except BaseException:
        made.close()
        raise
    return made


def shown_certificate(place: Place, allowed: Destinations, proxy: str, timeout: float = 10.0) -> bytes:
    """Return the certificate that a place shows over TLS, in DER, whoever has made it.

    Raises:
        Unreachable: the place, or an address that its name leads to here, may not be dialled.
        OSError: it cannot be reached, or does not speak TLS.
    """
    allowed.check(place)
    host = place.host
    if not proxy:
        found = socket.getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM)
        host = str(found[0][4][0])
        allowed.check_address(place, host)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with (
        connect(host, place.port, proxy, timeout) as plain,
        context.wrap_socket(plain, server_hostname=place.host) as secured,
    ):
        return secured.getpeercert(binary_form=True) or b""
