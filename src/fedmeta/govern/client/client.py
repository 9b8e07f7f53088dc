"""A client of a node: it builds, signs and sends transactions, asks, follows the events, and checks proofs."""

import time
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple
from urllib.parse import quote

import httpx

from fedmeta.govern.client.answers import NOT_NOW, REFUSED, Answers
from fedmeta.govern.client.proving import FIRST, Prover
from fedmeta.govern.errors import (
    InvalidGenesis,
    Malformed,
    NodeBusy,
    NodeError,
    ProofError,
    Refused,
    Unacknowledged,
)
from fedmeta.govern.machine.genesis import Genesis, decode_genesis
from fedmeta.govern.machine.header import Header, SignedHeader
from fedmeta.govern.machine.trust import Checkpoint
from fedmeta.govern.wire.signatures import Key, digest
from fedmeta.govern.wire.transactions import OF_ROUNDS, kind_of, sign

CBOR = "application/cbor"
"""The media type of what is signed, hashed or proven."""

_THIS_MACHINE = ("127.0.0.1", "localhost", "::1")
_SENDS = 5
_PROOFS = 10
_NOTHING_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


class LedgerEvent(NamedTuple):
    """An event: the height of its block, its kind, and its fields, bytes in hex."""

    height: int
    kind: str
    fields: dict[str, Any]


class Outcome(NamedTuple):
    """What a transaction did: the height of its block, its digest, and its events."""

    height: int
    digest: bytes
    events: tuple[LedgerEvent, ...]


class Client:
    """A member's, or with neither key nor member anyone's, way to a node; for one thread at a time.

    Every method raises `NodeError` where the node cannot be reached or does not answer as a node does.

    Args:
        node: The node's address, such as `http://127.0.0.1:7878`.
        key: What transactions are signed by.
        member: As whom they are signed.
        genesis: What proofs are checked against; the node's own word where it is not given.
        checkpoint: A late header to begin from, where validators decide the blocks and one was away for long.
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
        checkpoint: Checkpoint | None = None,
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
        self._answers = Answers(self.node, timeout)
        self._genesis = genesis
        self._prover = Prover(self.node, self._raw, self.genesis, checkpoint)
        self._ledger = b"" if genesis is None else genesis.digest
        self._next: int | None = None

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let the connection go."""
        self._http.close()

    @property
    def ledger(self) -> bytes:
        """The digest of the genesis that transactions are signed for: the one it was given, or else the node's."""
        if not self._ledger:
            found = self._answers.part(self.status(), "genesis", str)
            try:
                self._ledger = bytes.fromhex(found)
            except ValueError as error:
                raise NodeError(f"the answer of {self.node} is no status: genesis is {found[:80]!r}") from error
        return self._ledger

    def send(self, body: object, *, wait: bool = True) -> Outcome:
        """Sign a transaction, such as `transactions.Bond(amount=5)`, send it, and return what it did.

        It is done once at most, also where the connection breaks: then the same bytes are sent again, some times. If
        even then no answer comes, it may still be done. `submit` the bytes that the error holds to find out; to call
        `send` again signs another transaction, and both may be done. Two clients of one member that send the same body
        with the same number make the same bytes, and may be told of one transaction.

        Without `wait` it is checked and waits for a block, but may still be refused there: then nobody is told, and
        those that this client sent after it are refused with it. The outcome has height 0 and no events.

        Raises:
            Refused: the ledger refuses it. Nothing was done.
            Unacknowledged: it was sent, and it is not known what became of it.
            NodeError: the node cannot be reached, or takes no transactions now. Nothing was sent, or taken.
        """
        of_round = kind_of(body) in OF_ROUNDS
        for first in (True, False):
            raw = self.sign(body)
            try:
                outcome = self.submit(raw, wait=wait)
            except Refused as refusal:
                self._next = None
                # Another client of this member was faster. The bytes were not taken, so that others may be.
                if first and refusal.code in ("stale-sequence", "future-sequence"):
                    continue
                raise
            except NodeError:
                self._next = None
                raise
            if not of_round:
                self._next = (self._next or 0) + 1
            return outcome
        raise AssertionError

    def sign(self, body: object) -> bytes:
        """Return a transaction that is signed with the member's next sequence number, and is not sent.

        Parts of rounds have no sequence number.

        Raises:
            Refused: `unknown-member`.
            NodeError: the client has no key or no member.
        """
        if self.key is None or not self.member:
            raise NodeError("a client without a key and a member cannot sign transactions")
        if kind_of(body) in OF_ROUNDS:
            return sign(self.key, self.ledger, self.member, 0, body)
        if self._next is None:
            self._next = self._sequence()
        return sign(self.key, self.ledger, self.member, self._next, body)

    def submit(self, raw: bytes, *, wait: bool = True) -> Outcome:
        """Send a signed transaction as it is; what is in a block already is not done again. See `send`."""
        name = digest(raw)
        answer = self._post(raw, name, {} if wait else {"wait": "false"})
        if answer.status_code == 202 and wait:
            said = f"{self.node} has transaction {name.hex()}, but no block with it yet: ask for it later"
            raise Unacknowledged(said, name, raw)
        try:
            return self._outcome(self._answers.value(answer), name)
        except NodeError as error:
            # It said no, and in a node's words: it has not taken it. Anything else may come from between.
            if answer.is_error and self._answers.problem(answer) is not None:
                raise
            raise self._lost(str(error), name, raw) from error

    def _post(self, raw: bytes, name: bytes, params: dict[str, str]) -> httpx.Response:
        """Send the bytes, again where the connection breaks: the node does them once."""
        broken: httpx.RequestError | None = None
        for attempt in range(_SENDS):
            if attempt:
                time.sleep(0.1 * 2**attempt)
            try:
                answer = self._http.post("/transactions", params=params, content=raw, headers={"content-type": CBOR})
                if broken is None or answer.is_success or answer.status_code in REFUSED:
                    return answer
            except httpx.RequestError as error:
                if broken is None and isinstance(error, _NOTHING_SENT):
                    raise NodeError(self._answers.unreachable(error)) from error
                broken = error
                if isinstance(error, httpx.ReadTimeout | httpx.WriteTimeout):
                    break
        assert broken is not None
        raise self._lost(self._answers.unreachable(broken), name, raw) from broken

    def _lost(self, why: str, name: bytes, raw: bytes) -> Unacknowledged:
        return Unacknowledged(f"{why}; ask for transaction {name.hex()} before it is signed anew", name, raw)

    def status(self) -> dict[str, Any]:
        """Return the chain's id, height, time, term and round, and the node's own state."""
        return self._map("/status")

    def genesis(self) -> Genesis:
        """Return the genesis that the client trusts: the one it was given, or else the node's."""
        if self._genesis is None:
            try:
                self._genesis = decode_genesis(self._raw("/genesis"))
            except (InvalidGenesis, Malformed) as error:
                raise NodeError(f"the answer of {self.node} is no genesis: {error}") from error
        return self._genesis

    def block(self, height: int) -> dict[str, Any]:
        """Return a block: its header, its transactions and their events."""
        return self._map(f"/blocks/{height}")

    def encoded_block(self, height: int) -> bytes | None:
        """Return the first block from a height on as `Follower.apply` takes it, or None if there is none yet.

        It is not checked here.

        Raises:
            NodeError: the block was pruned, or the node cannot be asked.
        """
        answer = self._ask(f"/blocks/{height}", FIRST, CBOR)
        if answer.status_code == 404 and (self._answers.problem(answer) or ("", ""))[0] == "not-found":
            return None
        if answer.status_code != 200:
            self._answers.value(answer)
            raise NodeError(f"{self.node} answers {answer.status_code} to /blocks/{height}")
        return answer.content

    def header(self, height: int) -> dict[str, Any]:
        """Return the signed header of a block."""
        return self._map(f"/headers/{height}")

    def checked_header(self, height: int) -> Header:
        """Return the header of a block; raises `ProofError` unless it is certified by whom the genesis has trusted."""
        return self._prover.header(height).header

    def signed_header(self, height: int) -> SignedHeader:
        """Return the header of a block with what certifies it, checked as by `checked_header`."""
        return self._prover.header(height)

    def transaction(self, digest: bytes) -> dict[str, Any]:
        """Return a transaction that is in a block, and what it did; raises `Refused`, `not-found`, if it is in none."""
        return self._map(f"/transactions/{digest.hex()}")

    def query(self, name: str, /, **arguments: object) -> Any:
        """Return the answer to one of `queries.QUERIES`; raises `Refused` as they do."""
        given = {key: value for key, value in arguments.items() if value is not None}
        return self._get(f"/query/{_quoted(name)}", {key: _text(value) for key, value in given.items()})

    def explain(self, member: str, term: int | None = None) -> dict[str, Any]:
        """Return why a member was paid what it was paid, in one term or in all; raises `Refused` for who is none."""
        return self._map(f"/explain/{_quoted(member)}", {} if term is None else {"term": str(term)})

    def explain_text(self, member: str, term: int | None = None) -> str:
        """Return what `explain` says as text for people."""
        answer = self._ask(f"/explain/{_quoted(member)}", {} if term is None else {"term": str(term)}, "text/plain")
        if answer.status_code != 200:
            self._answers.value(answer)
            raise NodeError(f"{self.node} answers {answer.status_code} to /explain")
        return answer.text

    def proof(self, kind: str, *key: str | int | bytes) -> Any:
        """Return a record that is proven to be in the ledger: its inclusion is checked against the signed header.

        Args:
            kind: The kind of record, such as `member`.
            key: The values of its key.

        Raises:
            ProofError: the proof or the header does not convince.
            Refused: `not-found` if there is no such record; `bad-value` for a key that cannot be.
        """
        return self._proven(kind, key)[0]

    def checkpoint(self) -> Checkpoint:
        """Return the latest header, checked, for others to begin from who trust whoever tells them.

        Raises:
            ProofError: it does not convince, or a sequencer signs headers: these need no checkpoint.
        """
        signed = self._proven("chain", ())[1]
        try:
            return Checkpoint.of(signed)
        except Malformed as error:
            raise ProofError(f"header {signed.header.height} is not certified by validators: {error}") from error

    def _proven(self, kind: str, key: tuple[str | int | bytes, ...]) -> tuple[Any, SignedHeader]:
        path, params = f"/proof/{_quoted(kind)}", [("key", _text(one)) for one in key]
        left = _PROOFS
        while True:
            try:
                return self._prover.record(self._raw(path, params), kind, key)
            except NodeBusy as busy:
                left -= 1
                if not left:
                    raise
                # What was just decided is certified by the next block.
                time.sleep(min(busy.seconds, 5))

    def events(
        self, from_height: int | None = None, until: int | None = None, *, patience: int = 60
    ) -> Iterator[LedgerEvent]:
        """Yield every event from a height on, or from the next block on; each once, blocks as a whole.

        Where the connection breaks it is made anew, and the stream goes on where it was.

        Args:
            from_height: The first height; 0 is genesis.
            until: The last height; without it there is no end.
            patience: Seconds without a word of the node after which to give up.

        Raises:
            Refused: `not-found` for a height beyond the next block's.
            NodeError: the node was silent for too long, or has pruned the height.
        """
        following = self._answers.part(self.status(), "height", int) + 1 if from_height is None else from_height
        heard = time.monotonic()
        while True:
            why = f"{self.node} has ended the stream of events"
            try:
                for block in self._stream(following):
                    heard = time.monotonic()
                    if block is not None:
                        yield from block
                        if following == until:
                            return
                        following += 1
            except _Later as later:
                why = str(later)
            except httpx.RequestError as error:
                why = self._answers.unreachable(error)
            if time.monotonic() - heard > patience:
                raise NodeError(why)
            time.sleep(min(1, patience))

    def _stream(self, from_height: int) -> Iterator[list[LedgerEvent] | None]:
        """Yield the events of each block that comes whole over one connection, and None for each sign of life."""
        accept = {"accept": "text/event-stream"}
        with self._http.stream("GET", "/events", params={"from_height": from_height}, headers=accept) as answer:
            if answer.status_code != 200:
                answer.read()
                if answer.status_code in NOT_NOW:
                    raise _Later(self._answers.no(answer))
                self._answers.value(answer)
                raise NodeError(f"{self.node} answers {answer.status_code} to /events")
            block: list[LedgerEvent] = []
            yield None
            for kind, data in _messages(answer.iter_bytes()):
                value = self._answers.json(data) if data else None
                if value is None:
                    yield None
                    continue
                height = self._answers.part(value, "height", int)
                if height != from_height:
                    raise NodeError(f"{self.node} sends block {height} where block {from_height} is due")
                if kind == "block":
                    yield block
                    block, from_height = [], from_height + 1
                else:
                    block.append(LedgerEvent(height, kind, self._answers.part(value, "fields", dict)))

    def _sequence(self) -> int:
        return self._answers.part(self._get(f"/sequence/{_quoted(self.member)}"), "sequence", int)

    def _get(self, path: str, params: Any = None) -> Any:
        return self._answers.value(self._ask(path, params, "application/json"))

    def _map(self, path: str, params: Any = None) -> dict[str, Any]:
        found = self._get(path, params)
        if not isinstance(found, dict):
            raise NodeError(f"{self.node} does not answer as a node does: {str(found)[:60]!r} is no map")
        return found

    def _raw(self, path: str, params: Any = None) -> bytes:
        answer = self._ask(path, params, CBOR)
        if answer.status_code != 200:
            self._answers.value(answer)
            raise NodeError(f"{self.node} answers {answer.status_code} to {path}")
        return answer.content

    def _ask(self, path: str, params: Any, accept: str) -> httpx.Response:
        try:
            return self._http.get(path, params=params, headers={"accept": accept})
        except (httpx.RequestError, httpx.InvalidURL) as error:
            raise NodeError(self._answers.unreachable(error)) from error

    def _outcome(self, value: Any, name: bytes) -> Outcome:
        if self._answers.part(value, "digest", str) != name.hex():
            raise NodeError(f"{self.node} answers for another transaction, {value['digest']:.80}")
        if "height" not in value:
            return Outcome(0, name, ())
        height, events = self._answers.part(value, "height", int), self._answers.part(value, "events", list)
        said = ((self._answers.part(one, "kind", str), self._answers.part(one, "fields", dict)) for one in events)
        return Outcome(height, name, tuple(LedgerEvent(height, kind, values) for kind, values in said))


class _Later(Exception):
    """The node has no stream to give now; its message says why."""


def _quoted(text: str) -> str:
    return quote(text, safe="")


def _text(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)


def _messages(pieces: Iterable[bytes]) -> Iterator[tuple[str, str]]:
    """Yield kind and data of each whole server-sent event; both are empty for a comment."""
    rest = b""
    for piece in pieces:
        *whole, rest = (rest + piece).split(b"\n\n")
        for one in whole:
            fields = dict(line.split(": ", 1) for line in one.decode(errors="replace").split("\n") if ": " in line)
            yield fields.get("event", ""), fields.get("data", "")
