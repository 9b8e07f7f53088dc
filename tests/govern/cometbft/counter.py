"""An application to try CometBFT with: it adds up the numbers that transactions are, and knows of no seats."""

import json
import os
from pathlib import Path

from fedmeta.govern.engines.cometbft import abci
from fedmeta.govern.wire.signatures import digest
from tests.waiting import until

SNAPSHOT_EVERY = 5
"""Blocks."""


class Counter(abci.Handler):
    """Keeps height and total in a file, and begins with `validators`. The app hash is that of the total alone.

    A file `fail` beside it makes it fail at the next block, once.
    """

    def __init__(self, folder: Path, validators=()):
        self.file = folder / "total.json"
        self.validators = tuple(validators)
        self.height, self.total = json.loads(self.file.read_text()) if self.file.exists() else (0, 0)
        self.next = self.height, self.total
        self.snapshots = {}
        self.offered, self.chunks = None, {}

    def app_hash(self, total):
        return digest(str(total).encode())

    def info(self, request):
        return abci.InfoAnswer(self.height, self.app_hash(self.total) if self.height else b"", 1)

    def init_chain(self, request):
        return abci.ChainAnswer(self.app_hash(0), tuple(abci.ValidatorUpdate(key, 10) for key in self.validators))

    def check_tx(self, raw, recheck):
        return abci.TxResult() if raw.isdigit() else abci.TxResult(1, log=f"{raw!r} is no number")

    def prepare_proposal(self, request):
        return request.transactions

    def process_proposal(self, request):
        return all(raw.isdigit() for raw in request.transactions)

    def finalize_block(self, request):
        if (fail := self.file.with_name("fail")).exists():
            fail.unlink()
            raise RuntimeError("the counter was told to fail")
        with self.file.with_name("faults.jsonl").open("a") as file:
            for one in request.misbehaviour:
                who = [one.validator.address.hex(), one.validator.power]
                print(json.dumps([one.kind, who, one.height, one.time, one.total_power]), file=file)
        total = self.total + sum(map(int, request.transactions))
        self.next = request.height, total
        return abci.BlockAnswer(self.app_hash(total), tuple(abci.TxResult() for _ in request.transactions))

    def commit(self):
        self.height, self.total = self.next
        aside = self.file.with_suffix(".new")
        aside.write_text(json.dumps(self.next))
        os.replace(aside, self.file)
        if self.height % SNAPSHOT_EVERY == 0:
            # A chunk for each digit, so that there are some.
            chunks = [digit.encode() for digit in str(self.total)]
            self.snapshots[self.height] = abci.Snapshot(self.height, 1, len(chunks), self.app_hash(self.total)), chunks
        return 0

    def query(self, request):
        return abci.QueryAnswer(value=str(self.total).encode(), height=self.height)

    def list_snapshots(self):
        return [snapshot for snapshot, _ in self.snapshots.values()]

    def offer_snapshot(self, snapshot, app_hash):
        self.offered = snapshot, app_hash
        return abci.Offer.ACCEPT

    def load_snapshot_chunk(self, height, format, chunk):
        return self.snapshots[height][1][chunk]

    def apply_snapshot_chunk(self, index, chunk, sender):
        snapshot, app_hash = self.offered
        self.chunks[index] = chunk
        if len(self.chunks) == snapshot.chunks:
            total = int(b"".join(self.chunks[index] for index in range(snapshot.chunks)))
            if self.app_hash(total) != app_hash:
                return abci.ChunkAnswer(abci.Applied.REJECT_SNAPSHOT, reject_senders=(sender,))
            self.next = snapshot.height, total
            self.commit()
        return abci.ChunkAnswer(abci.Applied.ACCEPT)


def add(node, *numbers):
    """Hand transactions over to a node; each is another one, for a number may have zeros before it."""
    with node.rpc() as rpc:
        for number in numbers:
            assert rpc.broadcast_tx_sync(number.encode()).code == 0


def total(node):
    """What the application of a node has on its disk: the sum, once it is the one of a block."""
    return node.folder.joinpath("total.json").read_text()


def header(node, height):
    with node.rpc() as rpc:
        return rpc.commit(height)["signed_header"]["header"]


def counted(nodes, value):
    until(lambda: all(total(node).endswith(f" {value}]") for node in nodes))


def faults(node):
    """The misbehaviour of which the application of a node was told, as lists."""
    return [json.loads(line) for line in node.folder.joinpath("faults.jsonl").read_text().splitlines()]
