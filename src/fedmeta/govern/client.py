"""A client of a node: it builds, signs and sends transactions, asks, follows the events, and checks proofs."""

import json
import time
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, Self

import httpx

from fedmeta.govern import codec, merkle
from fedmeta.govern.errors import REFUSALS, Malformed, NodeError, ProofError, Refused
from fedmeta.govern.genesis import Genesis, decode_genesis
from fedmeta.govern.header import decode_signed
from fedmeta.govern.light import LightClient, verify_record
from fedmeta.govern.record import key_of, layout
from fedmeta.govern.signatures import Key, digest
from fedmeta.govern.transactions import sign

CBOR = "application/cbor"
"""The media type of what is signed, hashed or proven."""

_THIS_MACHINE = ("127.0.0.1", "localhost", "::1")
_LARGEST = 1 << 28
_SENDS = 5


class Said(NamedTuple):
    """An event: the height of its block, its kind, and its fields, bytes in hex."""

    height: int
    kind: str
    fields: dict[str, Any]


class Outcome(NamedTuple):
    """What a transaction did: the height of its block, its digest, and its events."""

    height: int
    digest: bytes
    events: tuple[Said, ...]


class Client:
    """A member's, or with neither key nor member anyone's, way to a node; for one thread at a time.

    Args:
        node: The node's address, such as `http://127.0.0.1:7878`.
        key: What transactions are signed by.
        member: As whom they are signed.
        genesis: What proofs are checked against; the node's own word where it is not given.
        transport: Takes the place of the network, for tests.
        timeout: Seconds that the node has for an answer.
    """

    def __init__(
        self,
        node: str,
        key: Key | None = None,
        member: str = "",
        *,
        genesis: Genesis | None = None,
        transport: httpx.BaseTransport | None = None,
        timeout: int = 60,
    ):
        self.node = node.rstrip("/")
        self.key = key
        self.member = member
        try:
            address = httpx.URL(self.node)
            if address.scheme not in ("http", "https") or not address.host:
                raise NodeError(f"{node!r} is not a node's address: it must be such as http://127.0.0.1:7878")
            self._http = httpx.Client(
                base_url=address,
                transport=transport,
                timeout=httpx.Timeout(timeout, connect=min(timeout, 10)),
                # What the environment says of proxies is never meant for this machine itself.
                trust_env=address.host not in _THIS_MACHINE,
            )
        except httpx.InvalidURL as error:
            raise NodeError(f"{node!r} is not a node's address, such as http://127.0.0.1:7878: {error}") from error
        self._timeout = timeout
        self._genesis = genesis
        self._light: LightClient | None = None
        self._chain_id = "" if genesis is None else genesis.chain_id
        self._next: int | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let the connection go."""
        self._http.close()

    @property
    def chain_id(self) -> str:
        """The chain that transactions are signed for: that of the genesis, or else of the node."""
        if not self._chain_id:
            self._chain_id = self.status()["chain_id"]
        return self._chain_id

    def send(self, body: object, *, wait: bool = True) -> Outcome:
        """Sign a transaction, such as `transactions.Bond(amount=5)`, send it, and return what it did.

        It is done once at most, also where the connection breaks: then the same bytes are sent again. Without `wait`
        it is not in a block yet, and the outcome has height 0 and no events.

        Raises:
            Refused: the ledger refuses it.
            NodeError: the node cannot be reached, or takes no transactions now.
        """
        if self.key is None or not self.member:
            raise NodeError("a client without a key and a member cannot send transactions")
        for first in (True, False):
            if self._next is None:
                self._next = self._sequence()
            raw = sign(self.key, self.chain_id, self.member, self._next, body)
            try:
                outcome = self.submit(raw, wait=wait)
            except Refused as refusal:
                self._next = None
                if first and refusal.code in ("stale-sequence", "future-sequence"):
                    continue
                raise
            except NodeError:
                self._next = None
                raise
            self._next += 1
            return outcome
        raise AssertionError

    def submit(self, raw: bytes, *, wait: bool = True) -> Outcome:
        """Send a signed transaction as it is; see `send`."""
        name = digest(raw)
        answer = self._post(raw, name, {} if wait else {"wait": "false"})
        value = self._value(answer)
        if answer.status_code == 202 and wait:
            raise NodeError(f"{self.node} has transaction {name.hex()}, but no block with it yet: ask for it later")
        return _outcome(value, name)

    def _post(self, raw: bytes, name: bytes, params: dict[str, str]) -> httpx.Response:
        """Send the bytes, again where the connection breaks: the node does them once."""
        attempt = 0
        while True:
            try:
                return self._http.post("/transactions", params=params, content=raw, headers={"content-type": CBOR})
            except httpx.TransportError as error:
                if not attempt and isinstance(error, httpx.ConnectError):
                    # Nothing was sent.
                    raise NodeError(self._unreachable(error)) from error
                attempt += 1
                if attempt == _SENDS or isinstance(error, httpx.TimeoutException):
                    said = f"ask for transaction {name.hex()} before it is signed anew"
                    raise NodeError(f"{self._unreachable(error)}; {said}") from error
                time.sleep(0.1 * 2**attempt)

    def status(self) -> dict[str, Any]:
        """Return the chain's id, height, time, term and round, and the node's own state."""
        return self._get("/status")

    def genesis(self) -> Genesis:
        """Return the genesis that the client trusts: the one it was given, or else the node's."""
        if self._genesis is None:
            self._genesis = decode_genesis(self._raw("/genesis"))
        return self._genesis

    def block(self, height: int) -> dict[str, Any]:
        """Return a block: its header, its transactions and their events."""
        return self._get(f"/blocks/{height}")

    def header(self, height: int) -> dict[str, Any]:
        """Return the signed header of a block."""
        return self._get(f"/headers/{height}")

    def transaction(self, digest: bytes) -> dict[str, Any]:
        """Return a transaction that is in a block, and what it did."""
        return self._get(f"/transactions/{digest.hex()}")

    def query(self, name: str, **arguments: object) -> Any:
        """Return the answer to one of `queries.QUERIES`."""
        given = {key: value for key, value in arguments.items() if value is not None}
        return self._get(f"/query/{name}", {key: _text(value) for key, value in given.items()})

    def explain(self, member: str, term: int | None = None) -> dict[str, Any]:
        """Return why a member was paid what it was paid, in one term or in all."""
        return self._get(f"/explain/{member}", {} if term is None else {"term": str(term)})

    def proof(self, kind: str, *key: str | int | bytes) -> Any:
        """Return a record that is proven to be in the ledger: its inclusion is checked against the signed header.

        Args:
            kind: The kind of record, such as `member`.
            key: The values of its key.

        Raises:
            ProofError: the proof or the header does not convince.
            NodeError: there is no such record, or no answer.
        """
        raw = self._raw(f"/proof/{kind}", [("key", _text(one)) for one in key])
        try:
            value = codec.decode(raw, limit=_LARGEST)
            if type(value) is not list or len(value) != 2 or type(value[0]) is not bytes:
                raise Malformed("a proof comes as a list of a signed header's bytes and the proof")
            signed, proof = decode_signed(value[0]), merkle.Proof.from_value(value[1])
        except Malformed as error:
            raise ProofError(f"the answer of {self.node} is no proof: {error}") from error
        if self._light is None:
            self._light = LightClient.of(self.genesis())
        record = verify_record(proof, self._light.jump(signed))
        if layout(type(record)).kind != kind or key_of(record) != key:
            raise ProofError(f"the proof is of another record: {layout(type(record)).kind} {key_of(record)}")
        return record

    def events(self, from_height: int | None = None, *, patience: int = 60) -> Iterator[Said]:
        """Yield every event from a height on, or from the next block on, for ever; each once, blocks as a whole.

        Where the connection breaks it is made anew, and the stream goes on where it was.

        Args:
            from_height: The first height.
            patience: Seconds without any connection after which to give up.

        Raises:
            NodeError: the node was silent for too long, or has pruned the height.
        """
        following, since = from_height, time.monotonic()
        while True:
            try:
                for height, said in self._stream(following):
                    following, since = height + 1, time.monotonic()
                    yield from said
            except httpx.TransportError as error:
                if time.monotonic() - since > patience:
                    raise NodeError(self._unreachable(error)) from error
            time.sleep(min(1, patience))

    def _stream(self, from_height: int | None) -> Iterator[tuple[int, list[Said]]]:
        """Yield the height and the events of each block that comes whole over one connection."""
        params = {} if from_height is None else {"from_height": str(from_height)}
        with self._http.stream("GET", "/events", params=params, headers={"accept": "text/event-stream"}) as answer:
            if answer.status_code == 503:
                return
            if answer.is_error:
                answer.read()
                self._value(answer)
            block: list[Said] = []
            for kind, data in _messages(answer.iter_lines()):
                value = self._json(data)
                if kind == "block":
                    yield value["height"], block
                    block = []
                else:
                    block.append(Said(value["height"], kind, value["fields"]))

    def _sequence(self) -> int:
        return self._get(f"/sequence/{self.member}")["sequence"]

    def _get(self, path: str, params: Any = None) -> Any:
        return self._value(self._ask(path, params, "application/json"))

    def _raw(self, path: str, params: Any = None) -> bytes:
        answer = self._ask(path, params, CBOR)
        if answer.is_error:
            self._value(answer)
        return answer.content

    def _ask(self, path: str, params: Any, accept: str) -> httpx.Response:
        try:
            return self._http.get(path, params=params, headers={"accept": accept})
        except httpx.TransportError as error:
            raise NodeError(self._unreachable(error)) from error

    def _value(self, answer: httpx.Response) -> Any:
        """Return what an answer holds, or raise what it says."""
        value = self._json(answer.text)
        if not answer.is_error:
            return value
        if not isinstance(value, dict) or not isinstance(value.get("message"), str):
            raise NodeError(f"{self.node} answers {answer.status_code} to {answer.request.url.path}")
        code, message = value.get("code"), value["message"]
        if answer.status_code in (400, 404, 413, 422) and code in REFUSALS:
            raise Refused(code, message)
        raise NodeError(f"{self.node}: {message}")

    def _json(self, text: str) -> Any:
        try:
            return json.loads(text)
        except ValueError as error:
            raise NodeError(f"{self.node} does not answer as a node does: {text[:60]!r} is not JSON") from error

    def _unreachable(self, error: httpx.TransportError) -> str:
        if isinstance(error, httpx.TimeoutException):
            return f"{self.node} gave no answer within {self._timeout} seconds"
        return f"{self.node} cannot be reached: {error or type(error).__name__}"


def _outcome(value: Any, name: bytes) -> Outcome:
    height, events = value.get("height", 0), value.get("events", [])
    return Outcome(height, name, tuple(Said(height, one["kind"], one["fields"]) for one in events))


def _text(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)


def _messages(lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield kind and data of each whole server-sent event."""
    kind = data = ""
    for line in lines:
        if line.startswith("event: "):
            kind = line.removeprefix("event: ")
        elif line.startswith("data: "):
            data = line.removeprefix("data: ")
        elif not line and data:
            yield kind, data
            kind = data = ""
