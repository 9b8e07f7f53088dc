"""A client of CometBFT's RPC, JSON-RPC 2.0 over HTTP, on the socket in its folder."""

import base64
import binascii
import collections
import http.client
import json
import select
import socket
import time
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from fedmeta.govern.errors import EngineError, NodeBusy, Unacknowledged
from fedmeta.govern.wire.signatures import digest

PAGE = 100
"""Validators in an answer, at most."""
BUSY_SECONDS = 5
"""When to come again where the pool is full: after a block."""

_KNOWN = "tx already exists in cache"
_FULL = ("mempool is full", "mempool is still rechecking")
_IDLE = 8
"""Connections that are kept for the next question."""
_QUEUED = 0.01
"""Seconds until a connection is tried again that too many others stand before."""

T = TypeVar("T")


class Broadcast(NamedTuple):
    """What CheckTx said of a transaction that was handed over."""

    code: int
    """0: it waits for a block, here and at the peers."""
    data: bytes
    log: str
    codespace: str
    known: bool = False
    """It was handed over before, or was in a block: CheckTx was not asked."""


class Status(NamedTuple):
    """Where a node stands."""

    node_id: str
    height: int
    """Of the last block; 0 before the first."""
    first_height: int
    """Of the oldest block that is kept."""
    app_hash: bytes
    """After the block before the last one: what the last header says."""
    catching_up: bool
    """Blocks or a state come from peers still: it does not vote."""
    address: bytes
    """Of its consensus key, 20 bytes."""
    power: int
    """0 where it is no validator now."""


class PeerStatus(NamedTuple):
    """A peer that is connected."""

    node_id: str
    name: str
    address: str
    """From which it connected, or where it was dialled."""
    outbound: bool


class Rpc:
    """Asks the CometBFT of one folder. Threads may share it; it must not be used in the thread that answers ABCI.

    Every method raises `EngineError` where CometBFT does not answer, or answers that it cannot.
    """

    def __init__(self, path: Path, timeout: int | float = 10):
        self._socket = path
        self._timeout = timeout
        self._idle: collections.deque[_Connection] = collections.deque()

    def __enter__(self) -> "Rpc":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let the connections go."""
        while self._idle:
            self._idle.pop().close()

    def broadcast_tx_sync(self, raw: bytes) -> Broadcast:
        """Hand a transaction over, and return what CheckTx says; that it is in a block must be seen there.

        Raises:
            NodeBusy: the pool is full.
            Unacknowledged: it was sent, but no answer came.
        """
        try:
            found = self._ask("broadcast_tx_sync", tx=base64.b64encode(raw).decode())
        except _UnansweredError as error:
            raise Unacknowledged(f"{error}: it may have the transaction", digest(raw), raw) from error
        except _AnsweredError as error:
            if _KNOWN in str(error):
                return Broadcast(0, b"", _KNOWN, "", known=True)
            if any(words in str(error) for words in _FULL):
                raise NodeBusy(str(error), BUSY_SECONDS) from error
            raise
        return Broadcast(
            _part(found, "code", int),
            _hex(_part(found, "data", str)),
            _part(found, "log", str),
            _part(found, "codespace", str),
        )

    def commit(self, height: int) -> dict[str, Any]:
        """Return the `result` of `/commit`: the signed header of a height."""
        return self._ask("commit", height=str(height))

    def validators(self, height: int) -> dict[str, Any]:
        """Return the `result` of `/validators`: the set of a height, all its pages as one."""
        found = self._ask("validators", height=str(height), page="1", per_page=str(PAGE))
        every = list(_part(found, "validators", list))
        total = _number(_part(found, "total", str))
        for page in range(2, -(-total // PAGE) + 1):
            more = self._ask("validators", height=str(height), page=str(page), per_page=str(PAGE))
            every += _part(more, "validators", list)
        if len(every) != total:
            raise EngineError(f"CometBFT names {len(every)} validators of height {height}, but says {total}")
        return {**found, "validators": every, "count": str(total)}

    def block_results(self, height: int) -> dict[str, Any]:
        """Return the `result` of `/block_results`; an error where CometBFT keeps none, as our settings say."""
        return self._ask("block_results", height=str(height))

    def block(self, height: int) -> dict[str, Any]:
        """Return the `result` of `/block`: a block, with its transactions in base64."""
        return self._ask("block", height=str(height))

    def light(self, method: str, parameters: dict[str, str]) -> dict[str, Any]:
        """Return the `result` of any method, as a light client of another node has asked for it."""
        return self._ask(method, **parameters)

    def status(self) -> Status:
        """Return where this node stands."""
        found = self._ask("status")
        sync, own = _part(found, "sync_info", dict), _part(found, "validator_info", dict)
        return Status(
            node_id=_part(_part(found, "node_info", dict), "id", str),
            height=_number(_part(sync, "latest_block_height", str)),
            first_height=_number(_part(sync, "earliest_block_height", str)),
            app_hash=_hex(_part(sync, "latest_app_hash", str)),
            catching_up=_part(sync, "catching_up", bool),
            address=_hex(_part(own, "address", str)),
            power=_number(_part(own, "voting_power", str)),
        )

    def net_info(self) -> tuple[PeerStatus, ...]:
        """Return the peers that are connected now."""
        found = _part(self._ask("net_info"), "peers", list)
        peers = []
        for one in found:
            info = _part(one, "node_info", dict)
            peers.append(
                PeerStatus(
                    _part(info, "id", str),
                    _part(info, "moniker", str),
                    _part(one, "remote_ip", str),
                    _part(one, "is_outbound", bool),
                )
            )
        return tuple(peers)

    def _ask(self, method: str, **parameters: str) -> dict[str, Any]:
        call = {"jsonrpc": "2.0", "id": 0, "method": method, "params": parameters}
        answer = self._post(method, json.dumps(call).encode())
        try:
            found = json.loads(answer)
        except ValueError as error:
            raise EngineError(f"CometBFT answered {method} with {answer[:80]!r}, which is no JSON") from error
        if isinstance(found, dict) and isinstance(failed := found.get("error"), dict):
            words = " ".join(str(failed[key]) for key in ("message", "data") if failed.get(key))
            raise _AnsweredError(f"CometBFT refuses {method}: {words[:400]}")
        return _part(found, "result", dict)

    def _post(self, method: str, body: bytes) -> bytes:
        connection = self._connection()
        try:
            connection.request("POST", "/", body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            answer = response.read()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise _UnansweredError(f"CometBFT gave no answer to {method} on {self._socket}: {error!r}") from error
        if response.will_close or len(self._idle) >= _IDLE:
            connection.close()
        else:
            self._idle.append(connection)
        return answer

    def _connection(self) -> "_Connection":
        """Return a connection that is open: one that was kept, unless CometBFT has closed it since, or a new one."""
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                break
            if connection.open:
                return connection
            connection.close()
        connection = _Connection(str(self._socket), self._timeout)
        try:
            connection.connect()
        except OSError as error:
            connection.close()
            raise EngineError(f"CometBFT does not listen on {self._socket}: {error.strerror or error}") from error
        return connection


class _Connection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str, timeout: int | float):
        super().__init__("cometbft", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        until = time.monotonic() + (self.timeout or 0)
        while True:
            try:
                self.sock.connect(self._path)
                return
            except BlockingIOError:
                # Too many wait to be accepted; a unix socket with a timeout says so at once.
                if time.monotonic() > until:
                    raise
                time.sleep(_QUEUED)

    @property
    def open(self) -> bool:
        """Whether nothing has come unasked, such as the end."""
        poll = select.poll()
        poll.register(self.sock, select.POLLIN)
        return not poll.poll(0)


class _AnsweredError(EngineError):
    """CometBFT answered with an error."""


class _UnansweredError(EngineError):
    """CometBFT was asked, and it is not known what it did."""


def _part(value: Any, name: str, kind: type[T]) -> T:
    found = value.get(name) if isinstance(value, dict) else None
    if type(found) is not kind:
        raise EngineError(f"an answer of CometBFT must have {name!r}, of type {kind.__name__}: {str(value)[:80]!r}")
    return found


def _number(text: str) -> int:
    if not (text.isascii() and text.removeprefix("-").isdecimal()):
        raise EngineError(f"{text[:40]!r} in an answer of CometBFT must be a whole number, as text")
    return int(text)


def _hex(text: str) -> bytes:
    try:
        return binascii.unhexlify(text)
    except ValueError as error:
        raise EngineError(f"{text[:80]!r} in an answer of CometBFT must be hex") from error
