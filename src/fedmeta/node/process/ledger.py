"""The core's way to the ledger: a thread that follows its blocks, and one that sends transactions."""

import contextlib
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from fedmeta._files import write_atomically
from fedmeta.govern.client.client import Client
from fedmeta.govern.client.follower import Follower
from fedmeta.govern.errors import GovernError, NodeBusy, NodeError, ProofError, Refused
from fedmeta.govern.machine.genesis import Genesis
from fedmeta.govern.wire.signatures import Key
from fedmeta.node.errors import Unreachable
from fedmeta.node.member import reaching
from fedmeta.node.member.config import Config, told
from fedmeta.node.reducer import View, look

log = logging.getLogger("fedmeta.node")

Before = Callable[[bytes, str], None]
Answer = Callable[[Exception | None], None]

POLL = 0.25
"""Seconds between two questions for the next block, where there is none yet."""

LARGEST_BLOCK = 1 << 32

SAVED = 200
"""Blocks after which the state is kept, so that a start need not execute them again."""

LONGEST_POLL = 2.0
"""Seconds between them where blocks are far apart."""

IN_A_ROW = 3
"""Blocks that were there when they were asked for, one after the other, after which there may be many more."""

BUSY = 3
"""How often what the ledger has no time for is sent again when it says."""

QUIET = 1.0
"""Seconds without a block, after which a ledger whose quiet blocks leave no header is asked how far it is."""

STALE = 60
"""Seconds without a new block after which another of the addresses is asked."""

WAIT = 15
"""Seconds that the ledger has for an answer."""

STATE = "ledger.state"
"""The file in the core's folder."""


class Ledger:
    """Follows a ledger from any of its addresses, and sends transactions to it.

    Args:
        config: The node's.
        key: What transactions are signed by.
        folder: The core's folder.
        seen: Is called, in a thread of its own, with what a node looks at after each block that is the latest.
        failed: Is called, in that thread, with what the ledger shows that cannot be.
    """

    def __init__(
        self,
        config: Config,
        key: Key,
        folder: Path,
        seen: Callable[[View], None],
        failed: Callable[[str], None],
    ):
        self.config, self.key, self._folder = config, key, folder
        self._seen, self._failed = seen, failed
        self._ended = threading.Event()
        self._saved = 0
        self._genesis: Genesis | None = None
        self._sends: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._sender: Client | None = None
        self._turn = 0
        """Which of the addresses is asked first: another one, where one has failed."""
        self._sender_turn = 0
        """The same for sending: another one also where a transaction was taken, and is to be sent again."""
        self._taken: deque[object] = deque(maxlen=64)
        """What was taken lately."""
        self.trouble = ""
        """Why the ledger cannot be reached now; empty if it can."""
        self._threads = [
            threading.Thread(target=self._follow, name="ledger", daemon=True),
            threading.Thread(target=self._send, name="sender", daemon=True),
        ]

    def start(self) -> None:
        """Begin to follow."""
        for one in self._threads:
            one.start()

    def stop(self) -> None:
        """End both threads, soon."""
        self._ended.set()
        self._sends.put(None)

    def submit(self, body: object, before: Before, answer: Answer) -> None:
        """Sign and send a transaction from the sender's thread.

        `before` is called there with the bytes and the address before they leave; `answer` with what came of it: None
        if the ledger has taken it, else why not, or that nobody knows.
        """

        def send() -> None:
            if body in self._taken:
                # Who has taken it may be too slow, or keep it to itself.
                self._taken.clear()
                self._elsewhere()
            try:
                client = self._sender or reaching.first(self.config, self.key, timeout=WAIT, turn=self._sender_turn)
                self._sender = client
                raw = client.sign(body)
                before(raw, client.node)
                self._submit(client, raw)
            except Refused as refusal:
                answer(refusal)
            except Exception as error:  # noqa: BLE001 (whatever it is, the core must hear of it)
                self._elsewhere()
                answer(error)
            else:
                self._taken.append(body)
                answer(None)

        self._sends.put(send)

    def _elsewhere(self) -> None:
        """Send the next one to another of the addresses."""
        if self._sender is not None:
            self._sender.close()
        self._sender, self._sender_turn = None, self._sender_turn + 1

    def _submit(self, client: Client, raw: bytes) -> None:
        for left in reversed(range(BUSY)):
            try:
                client.submit(raw, wait=False)
            except NodeBusy as busy:
                # It was not taken: later is soon enough, and all addresses need not be tried.
                if not left or self._ended.wait(busy.seconds):
                    raise
            else:
                return

    def _send(self) -> None:
        while (work := self._sends.get()) is not None:
            work()

    def _follow(self) -> None:
        follower: Follower | None = None
        while not self._ended.is_set():
            try:
                client = reaching.first(self.config, timeout=WAIT, turn=self._turn)
            except (Unreachable, GovernError) as error:
                self.trouble = str(error)
                self._ended.wait(2.0)
                continue
            with client:
                try:
                    if follower is None:
                        follower = self._begin(client.genesis())
                    self._read(client, follower)
                except ProofError as error:
                    self._failed(f"the ledger shows what cannot be: {error}")
                    return
                except (NodeError, Refused) as error:
                    self.trouble = str(error)
                    self._turn += 1
                    self._ended.wait(1.0)
                except Exception as error:
                    # An answer that nobody has foreseen, a disk that is full for a while: the node must not go blind.
                    log.exception("the ledger cannot be followed")
                    self.trouble, follower = f"{type(error).__name__}: {error}", None
                    self._turn += 1
                    self._ended.wait(1.0)
        if follower is not None:
            with contextlib.suppress(OSError):
                self._save(follower)

    def _begin(self, genesis: Genesis) -> Follower:
        file = self._folder / STATE
        if file.exists():
            try:
                follower = Follower.load(genesis, file.read_bytes(), told(self.config))
                self._saved = follower.height
                return follower
            except ProofError:
                # It is executed anew: what was kept is only a shorter way.
                file.unlink()
        return Follower(genesis, told(self.config))

    def _read(self, client: Client, follower: Follower) -> None:
        shown, poll, behind, at_once = 0, POLL, 0, IN_A_ROW
        heard = asked = time.monotonic()
        quiet = (0, 0)
        while not self._ended.is_set():
            before = _time(follower)
            try:
                if at_once >= IN_A_ROW:
                    # At first, and after the way was cut: duties of what is long over are not begun.
                    behind, at_once = client.status()["height"], 0
                block = client.encoded_block(follower.height + 1)
            except NodeBusy as busy:
                self.trouble = str(busy)
                self._ended.wait(busy.seconds)
                continue
            if block is not None:
                self._check_signed(client, block, follower)
                follower.apply(block, _now())
                heard = asked = time.monotonic()
                poll = min(LONGEST_POLL, max(POLL, (_time(follower) - before) / 4_000))
                if follower.height >= self._saved + SAVED:
                    # Also on the way: whoever is killed while it catches up need not begin anew.
                    self._saved = follower.height
                    # It is only a shorter way at the next start.
                    with contextlib.suppress(OSError):
                        self._save(follower)
            elif follower.gaps and time.monotonic() - asked > QUIET:
                asked, before_quiet = time.monotonic(), quiet
                quiet = _decided(client)
                heard = asked if quiet > before_quiet else heard
            elif time.monotonic() - heard > STALE and len(self.config.ledger.addresses) > 1:
                raise NodeError(f"{client.node} has given no new block after {follower.height} for {STALE} s")
            self.trouble = ""
            if block is not None and follower.height < behind:
                continue
            at_once = 0 if block is None else at_once + 1
            if max(follower.height, quiet[0]) > shown:
                self._show(follower, quiet)
                shown = max(follower.height, quiet[0])
            # One question for each block, where it has come by then: a server bounds them.
            self._ended.wait(poll if block is None else poll / 2)

    def _check_signed(self, client: Client, encoded: bytes, follower: Follower) -> None:
        """Raise `NodeError` unless who orders the blocks has signed the next one, with these transactions.

        Anyone on the way can give other bytes, and that is no reason to end: only what is signed and cannot be, is.
        """
        try:
            if len(encoded) > LARGEST_BLOCK:
                raise ProofError(f"{len(encoded)} bytes are too many: at most {LARGEST_BLOCK} are read")
            follower.check(encoded, _now())
        except ProofError as error:
            raise NodeError(
                f"{client.node} gives for block {follower.height + 1} what nobody has signed: {error}"
            ) from error

    def _show(self, follower: Follower, quiet: tuple[int, int]) -> None:
        if not follower.height:
            return
        view = look(follower.state, self.config.member, follower.header_hash)
        if quiet[0] > view.height:
            # Nothing has happened since: this is the ledger's word alone, and only deadlines go by it.
            view = replace(view, height=quiet[0], time=max(view.time, quiet[1]))
        self._seen(view)

    def _save(self, follower: Follower) -> None:
        if not follower.height:
            return
        self._saved = follower.height
        # It is only a shorter way at the next start: a full disk keeps nobody from following.
        with contextlib.suppress(OSError):
            write_atomically(self._folder / STATE, follower.save())


def _now() -> int:
    return time.time_ns() // 1_000_000


def _decided(client: Client) -> tuple[int, int]:
    """Return height and time of the last block, as the ledger's server says, which may have left no header."""
    found = client.status().get("decided")
    if not isinstance(found, dict) or [type(found.get(one)) for one in ("height", "time")] != [int, int]:
        raise NodeError(f"{client.node} does not say which block was decided last: {str(found)[:80]!r}")
    return found["height"], found["time"]


def _time(follower: Follower) -> int:
    return follower.state.time
