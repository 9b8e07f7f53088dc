"""The load that `cometbft.py` puts on a network: as much as it takes, or ten transactions a second.

Both go to CometBFT's RPC, as calls that were encoded before, so that `kvstore` and the ledger are asked in one way.
"""

import base64
import json
import random
import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import ledger as embedded
from comet_network import LEDGER, Call, Ledger, Node

from fedmeta.govern.wire import transactions as tx

CANDIDATES = 50
BATCH = 10
"""Calls in a request: CometBFT takes no more."""
WINDOW = 3_000
"""Transactions that are under way at most, for CometBFT's pool holds 4,000."""
FEWER = {(LEDGER, 4): 1_200}
"""By system and validators, where more give no higher rate."""
FEWEST = 6
"""Blocks with transactions that a rate is made of, at least: there is load until they are there."""
LOOK = 0.004
"""Seconds between two looks at the height, where latency is measured."""


def transactions(ledger: Ledger, members: int, count: int) -> list[bytes]:
    """Return so many transactions as `ledger.py` measures, each member's in turn."""
    keys = [embedded.key(f"m{at:06d}") for at in range(min(members, count))]
    genesis = ledger.genesis.digest

    def signed(number: int) -> bytes:
        turn, at = divmod(number, members)
        return tx.sign(keys[at], genesis, f"m{at:06d}", turn, embedded.bodies(at, turn, CANDIDATES))

    return [signed(number) for number in range(count)]


def profiles(ledger: Ledger, members: int, count: int, size: int) -> list[bytes]:
    """Return so many transactions of some `size` bytes each: profiles, with a text of the length that is due."""
    keys = [embedded.key(f"m{at:06d}") for at in range(min(members, count))]

    def signed(number: int, length: int) -> bytes:
        turn, at = divmod(number, members)
        body = tx.SetProfile("t" * length, "", b"")
        return tx.sign(keys[at], ledger.genesis.digest, f"m{at:06d}", turn, body)

    length = max(size - len(signed(0, 0)), 0)
    return [signed(number, length) for number in range(count)]


def pairs(size: int, count: int) -> list[bytes]:
    """Return so many transactions of `kvstore`, each of `size` bytes."""
    return [f"{number:x}={'v' * size}".encode()[:size] for number in range(count)]


class Feeding:
    """Hands transactions to the nodes, each node its own, while not too many are under way."""

    def __init__(self, nodes: Sequence[Node], raws: Sequence[bytes], members: int):
        self.sent = 0
        self.failed = ""
        """What CometBFT said last where it did not take one."""
        self.committed = 0
        self._window = FEWER.get((nodes[0].system, len(nodes)), WINDOW)
        self._stopped = False
        self._room = threading.Condition()
        """Guards the counts, and says when there may be room for more."""
        places = [[] for _ in nodes]
        # A member's transactions all go to one node, so that they come there in order.
        for number, raw in enumerate(raws):
            places[number % members % len(nodes)].append(raw)
        self._threads = [
            threading.Thread(target=self._feed, args=(node, _batches(place)))
            for node, place in zip(nodes, places, strict=True)
        ]

    def __enter__(self) -> "Feeding":
        for one in self._threads:
            one.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._room:
            self._stopped = True
            self._room.notify_all()
        for one in self._threads:
            one.join()

    def seen(self, more: int) -> None:
        """Be told by whoever looks at the blocks that more are in one."""
        if more:
            with self._room:
                self.committed += more
                self._room.notify_all()

    @property
    def over(self) -> bool:
        """Whether all were handed over."""
        return not any(one.is_alive() for one in self._threads)

    def _feed(self, node: Node, batches: Sequence[bytes]) -> None:
        with node.call() as call:
            for body in batches:
                with self._room:
                    # What is being handed over counts: all threads together stay within the window.
                    self._room.wait_for(lambda: self._stopped or self.sent - self.committed <= self._window - BATCH)
                    if self._stopped:
                        return
                    self.sent += BATCH
                answer = call.post(body)
                if b'"error"' in answer:
                    self.failed = answer.decode()[:200]


def _batches(raws: Sequence[bytes]) -> list[bytes]:
    return [batch(raws[at : at + BATCH]) for at in range(0, len(raws) // BATCH * BATCH, BATCH)]


def batch(raws: Sequence[bytes]) -> bytes:
    """Return one request that hands all of these over, without waiting for what becomes of them."""
    calls = [
        {
            "jsonrpc": "2.0",
            "id": number,
            "method": "broadcast_tx_async",
            "params": {"tx": base64.b64encode(raw).decode()},
        }
        for number, raw in enumerate(raws)
    ]
    return json.dumps(calls).encode()


class Seen:
    """Counts the transactions of new blocks."""

    def __init__(self, call: Call, height: int):
        self.height = height
        self.full = 0
        """Blocks that had some."""
        self._call = call

    def more(self) -> int:
        """Return the transactions of the blocks since the last time."""
        last = self._call.applied()
        blocks = self._call.blocks(self.height + 1, last)
        self.height = last
        self.full += sum(count > 0 for _, _, count in blocks)
        return sum(count for _, _, count in blocks)


def speed(nodes: Sequence[Node], raws: Sequence[bytes], members: int, seconds: float) -> dict[str, Any]:
    """Return how many transactions a second get into blocks under load, and what a transaction costs each process.

    The rate is that of the blocks that were decided while there was load, but the first of them; a block's time is
    when the one before was decided. Processor time is counted from the load's beginning to its last transaction.
    """
    with nodes[0].call() as call:
        begun = call.applied()
        seen = Seen(call, begun)
        before = [node.cpu() for node in nodes]
        end = time.monotonic() + seconds
        with Feeding(nodes, raws, members) as feeding:
            while not feeding.over and (time.monotonic() < end or seen.full < FEWEST):
                time.sleep(0.05)
                feeding.seen(seen.more())
            loaded = seen.height
        still = time.monotonic()
        while feeding.committed < feeding.sent and time.monotonic() < still + 5:
            time.sleep(0.05)
            if news := seen.more():
                feeding.seen(news)
                still = time.monotonic()
        after = [node.cpu() for node in nodes]
        # The block after the last one says when that was decided.
        while call.applied() < loaded + 1:
            time.sleep(0.05)
        blocks = call.blocks(begun + 1, loaded + 1)
    counts = feeding.committed
    full = [place for place, (_, _, count) in enumerate(blocks[:-1]) if count]
    if len(full) < 2:
        raise RuntimeError(f"{counts} transactions are in blocks, too few for a rate: {feeding.failed}")
    first, last = full[0] + 1, full[-1]
    taken = sum(count for _, _, count in blocks[first : last + 1])
    lasted = blocks[last + 1][1] - blocks[first][1]
    application, engine = (
        sum(two[at] - one[at] for one, two in zip(before, after, strict=True)) / len(nodes) / counts for at in (0, 1)
    )
    return {
        "rate": taken / lasted,
        "transactions": counts,
        "lost": feeding.sent - counts,
        "said": feeding.failed,
        "blocks": last + 1 - first,
        "block": taken / (last + 1 - first),
        "application": application,
        "engine": engine,
        "seconds": lasted,
        "bytes": statistics.fmean(map(len, raws[:1_000])),
    }


def latency(nodes: Sequence[Node], raws: Sequence[bytes], seconds: float, rate: float = 10) -> dict[str, Any]:
    """Return the seconds from handing a transaction over to its block, executed at the node that was asked first.

    Transactions come at any moment of their tenth of a second; each node has its turn.
    """
    moment = random.Random(1)
    count = min(int(seconds * rate), len(raws))
    sent: dict[bytes, float] = {}
    decided: dict[int, float] = {}
    over = threading.Event()

    def look() -> None:
        with nodes[0].call() as call:
            while not over.wait(LOOK):
                decided.setdefault(call.applied(), time.monotonic())

    with nodes[0].call() as call:
        begun = call.applied()
        looking = threading.Thread(target=look)
        looking.start()
        try:
            calls = [node.call() for node in nodes]
            start = time.monotonic()
            for number, raw in enumerate(raws[:count]):
                time.sleep(max(start + (number + moment.random()) / rate - time.monotonic(), 0))
                sent[raw] = time.monotonic()
                hand_over(calls[number % len(calls)], raw)
            found: dict[bytes, float] = {}
            known = begun
            end = time.monotonic() + 30
            while len(found) < count and time.monotonic() < end:
                time.sleep(0.2)
                for height in range(known + 1, max(decided, default=0) + 1):
                    when = min(moment for at, moment in decided.items() if at >= height)
                    items = call("block", height=str(height))["block"]["data"]["txs"]
                    found |= {raw: when for raw in map(base64.b64decode, items) if raw in sent}
                    known = height
        finally:
            over.set()
            looking.join()
    times = sorted(found[raw] - sent[raw] for raw in found)
    if len(times) < count:
        raise RuntimeError(f"{count - len(times)} of {count} transactions are in no block after 30 s")
    percentiles = statistics.quantiles(times, n=100, method="inclusive")
    return {"p50": percentiles[49], "p99": percentiles[98], "transactions": count, "blocks": known - begun}


def hand_over(call: Call, raw: bytes) -> None:
    """Hand a transaction to a node; raises `RuntimeError` if it refuses it."""
    answer = call("broadcast_tx_sync", tx=base64.b64encode(raw).decode())
    if answer["code"]:
        raise RuntimeError(f"a transaction is refused: {answer['codespace']}: {answer['log']}")


def drip(call: Call, raws: Iterator[bytes], stop: threading.Event, rate: float = 10) -> None:
    """Hand transactions over at a rate until `stop`."""
    while not stop.wait(1 / rate):
        hand_over(call, next(raws))
