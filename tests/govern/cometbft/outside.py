"""A network as anyone sees it from outside: what CometBFT says of each block, and what a ledger's HTTP gives to follow.

They are asked for separately, and nothing of one is made of the other: what each says must be the same, on each node.
"""

import base64
import contextlib
import threading
import time
from typing import NamedTuple

from fedmeta.govern.client.follower import Follower
from fedmeta.govern.errors import NodeError, Refused
from fedmeta.govern.machine.application import seats_of
from fedmeta.govern.machine.header import decode_signed
from fedmeta.govern.wire import codec
from fedmeta.govern.wire import transactions as tx
from fedmeta.govern.wire.block import Block
from fedmeta.govern.wire.commit_json import timestamp_of
from fedmeta.govern.wire.signatures import digest
from tests.govern.playing import key
from tests.waiting import until


class View(NamedTuple):
    """What is said of a height."""

    app_hash: bytes
    """After the block before."""
    time: int
    """In milliseconds; of a quiet block only CometBFT says it, and it is 0 here."""
    validators: dict[bytes, int]
    items: tuple[bytes, ...]


def of_cometbft(node, first, last):
    """Return the views of the heights from `first` to `last`, by CometBFT's RPC."""
    views, eventful = [], []
    with node.rpc() as rpc:
        for height in range(first, last + 2):
            block = rpc.block(height)["block"]
            header = block["header"]
            assert (header["height"], header["chain_id"][:8]) == (str(height), "fedmeta-")
            at = timestamp_of(header["time"])
            power = {
                base64.b64decode(one["pub_key"]["value"]): int(one["voting_power"])
                for one in rpc.validators(height)["validators"]
            }
            items = tuple(base64.b64decode(raw) for raw in block["data"]["txs"] or ())
            app_hash = bytes.fromhex(header["app_hash"])
            if views and views[-1].app_hash != app_hash:
                eventful.append(height - 1)
            views.append(View(app_hash, at.seconds * 1_000 + at.nanos // 10**6, power, items))
    return [
        one if height in eventful else one._replace(time=0) for height, one in enumerate(views[:-1], first)
    ], eventful


def of_ledger(network, number, last, eventful):
    """Return the views of the heights up to `last` by a node's HTTP, and a follower that has executed every block.

    `eventful` are the heights for whose header it is waited.
    """
    follower, views = Follower(network.ledger), []
    seats = {one.public: one.power for one in seats_of(follower.state)}
    sets, app_hash = [seats, seats], network.ledger.digest
    with network.client(number) as client:
        given = None
        for height in range(1, last + 1):
            if given is None:
                given = client.encoded_block(height)
            if height in eventful:
                given = given or until(lambda height=height: client.encoded_block(height))
            header = None if given is None else decode_signed(codec.decode(given, limit=1 << 28)[0]).header
            at, items = 0, ()
            if header is not None and header.height == height:
                at, items = header.time, tuple(codec.decode(given, limit=1 << 28)[1])
                views.append(View(app_hash, at, sets[height - 1], items))
                follower.apply(given)
                app_hash, given = header.hash, None
            else:
                views.append(View(app_hash, at, sets[height - 1], items))
            sets.append({one.public: one.power for one in seats_of(follower.state)})
    return views, follower


def agree(network, nodes=None, first=None):
    """Check that every one of these nodes, or all, says the same of each block; return the views and a follower.

    `first` says for nodes that began late at which height.
    """
    nodes = range(len(network.nodes)) if nodes is None else nodes
    last = min(network[number].height for number in nodes) - 1
    truth = follower = None
    for number in nodes:
        begun = (first or {}).get(number, 1)
        said, eventful = of_cometbft(network[number], begun, last)
        if truth is None:
            truth, follower = of_ledger(network, number, last, eventful)
            found = truth
        elif begun == 1:
            found, other = of_ledger(network, number, last, eventful)
            assert other.state.root == follower.state.root
        assert found[begun - 1 :] == said, number
        assert truth == found
    return truth, follower


class Load:
    """Members that send transactions to nodes in turn, the same bytes until one of the nodes acknowledges them."""

    def __init__(self, network, nodes, members=("hal", "ivy", "joy"), candidates=("ann", "bob", "cat", "dan")):
        self._network, self._nodes, self._candidates = network, list(nodes), candidates
        self._over = threading.Event()
        self.acknowledged = {}
        """The heights that were told, by digest, in each one's order."""
        self.faults = []
        self._threads = [
            threading.Thread(target=self._send, args=(at, name), daemon=True) for at, name in enumerate(members)
        ]

    def __enter__(self):
        for one in self._threads:
            one.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        for one in self._threads:
            one.join(120)
        assert not any(one.is_alive() for one in self._threads)

    @property
    def count(self):
        return len(self.acknowledged)

    def further(self, transactions, seconds=90):
        """Wait until so many more have been acknowledged."""
        due = self.count + transactions
        until(lambda: self.count >= due or self.faults, seconds)
        assert not self.faults, self.faults

    def _send(self, turn, name):
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(self._network.client(number, timeout=10)) for number in self._nodes]
            self._send_by(clients, turn, name)

    def _send_by(self, clients, turn, name):
        sequence = 0
        while not self._over.is_set():
            body = tx.Delegate(self._candidates[sequence % len(self._candidates)], 1)
            raw = tx.sign(key(name), self._network.ledger.digest, name, sequence, body)
            tries = 0
            while True:
                client, turn, tries = clients[turn % len(clients)], turn + 1, tries + 1
                try:
                    outcome = client.submit(raw)
                except NodeError:
                    pass
                except Refused as refusal:
                    # Another node may have it in a block that this one has not had yet.
                    if refusal.code not in ("stale-sequence", "future-sequence") or tries > 200:
                        self.faults.append((name, sequence, str(refusal)))
                        return
                else:
                    self.acknowledged[digest(raw)] = outcome.height
                    break
                if self._over.is_set():
                    return
                time.sleep(0.1)
            sequence += 1


def nothing_lost(views, load):
    """Check that all that was acknowledged is in the block that was told, and that nothing is in two blocks."""
    found = [
        (digest(raw), height)
        for height, view in enumerate(views, 1)
        for raw in Block.of(height, 0, view.items).transactions
    ]
    heights = dict(found)
    assert len(heights) == len(found)
    known = {name: height for name, height in load.acknowledged.items() if height <= len(views)}
    assert known
    assert {name: heights.get(name) for name in known} == known
