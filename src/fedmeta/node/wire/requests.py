"""What a member asks of a gate, signed: no clock, no session, and bound to this one receiver and this one request.

The signature is over the digest of (genesis, sender, receiver, method, path, digest of the body, height, reply). So a
request that was overheard opens nothing at another gate, under another path, with another body, or at a height that the
gate no longer accepts. Within the gate's window the same request may come twice: what a request writes, it writes once.

The header's value is the base64 (RFC 4648, section 5, without padding) of the canonical CBOR of a list
[sender, digest of the body, height, reply, signature]; the rest is known to both sides.
"""

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass

from fedmeta.govern.errors import Malformed
from fedmeta.govern.wire import codec
from fedmeta.govern.wire.schema import MAX_COUNT, is_name
from fedmeta.govern.wire.signatures import Key, digest, tagged, verify
from fedmeta.node.errors import RequestRefused

HEADER = "fedmeta-request"
"""The header that carries the signature."""

MAX_HEADER = 512
"""The most characters of the header's value; the longest that `sign_request` makes is below."""


@dataclass(frozen=True, slots=True)
class Request:
    """What is signed: the genesis' digest, who asks whom, what, at which height of the ledger.

    `body` is the SHA-256 of the body, also of the empty one. `reply` is an X25519 public key, 32 bytes, to which the
    answer is sealed, or empty.
    """

    genesis: bytes
    sender: str
    receiver: str
    method: str
    path: str
    body: bytes
    height: int
    reply: bytes = b""

    def digest(self) -> bytes:
        """Return what the signature is over, 32 bytes."""
        return tagged(
            "node-request",
            self.genesis,
            self.sender.encode(),
            self.receiver.encode(),
            self.method.encode(),
            self.path.encode(),
            self.body,
            self.height.to_bytes(8, "big"),
            self.reply,
        )


@dataclass(frozen=True, slots=True)
class Receiver:
    """What a gate holds a request against: genesis, its own name, and the heights `low` to `high` that it accepts."""

    genesis: bytes
    name: str
    low: int
    high: int


def sign_request(key: Key, request: Request) -> str:
    """Return the header's value for a request; `key` is the sender's machine key."""
    fields = [request.sender, request.body, request.height, request.reply, key.sign(request.digest())]
    return urlsafe_b64encode(codec.encode(fields)).rstrip(b"=").decode()


def check_request(value: str | None, receiver: Receiver, method: str, path: str, keys: Mapping[str, bytes]) -> Request:
    """Return the request that a header's value signs; its body must still be compared by `check_body`.

    Args:
        value: the header's value; None where there was none.
        receiver: whom the request reached.
        method: of the request that carried the header.
        path: of the same.
        keys: the machine's public key of each member who may ask, 32 bytes each.

    Raises:
        RequestRefused: "unsigned" without a header or with one that cannot be read; "stranger" for a name without a
            key; "bad-signature" for another key, receiver, genesis, method or path; "bad-height" outside the window.
    """
    sender, body, height, reply, signature = _fields(value)
    public = keys.get(sender)
    if public is None:
        raise RequestRefused("stranger", f"no member {sender!r} may ask {receiver.name!r}")
    request = Request(receiver.genesis, sender, receiver.name, method, path, body, height, reply)
    if not verify(public, request.digest(), signature):
        raise RequestRefused(
            "bad-signature",
            f"{sender!r} did not sign {method} {path} to {receiver.name!r} of this genesis at height {height}",
        )
    if not receiver.low <= height <= receiver.high:
        raise RequestRefused(
            "bad-height", f"the request is of height {height}: heights {receiver.low} to {receiver.high} are accepted"
        )
    return request


def check_body(request: Request, body: bytes) -> None:
    """Raise `RequestRefused`, "bad-body", unless the body is the one that was signed."""
    if digest(body) != request.body:
        raise RequestRefused("bad-body", f"the body of {len(body)} bytes is not the one that {request.sender!r} signed")


def _fields(value: str | None) -> tuple[str, bytes, int, bytes, bytes]:
    if value is None:
        raise RequestRefused("unsigned", f"the request has no header {HEADER!r}")
    if len(value) > MAX_HEADER:
        raise RequestRefused("unsigned", f"the header {HEADER!r} has {len(value)} characters: at most {MAX_HEADER}")
    try:
        fields = codec.decode(urlsafe_b64decode(value.encode("ascii") + b"=" * (-len(value) % 4)))
    except (binascii.Error, UnicodeEncodeError, Malformed) as error:
        raise RequestRefused("unsigned", f"the header {HEADER!r} cannot be read: {error}") from error
    if type(fields) is not list or [type(field) for field in fields] != [str, bytes, int, bytes, bytes]:
        raise RequestRefused(
            "unsigned", f"the header {HEADER!r} must hold sender, digest of the body, height, reply and signature"
        )
    sender, body, height, reply, signature = fields
    if not is_name(sender) or len(body) != 32 or not 0 <= height <= MAX_COUNT or len(reply) not in (0, 32):
        raise RequestRefused(
            "unsigned", "the sender must be a name, the digest 32 bytes, the height a count, the reply 32 bytes or none"
        )
    return sender, body, height, reply, signature
