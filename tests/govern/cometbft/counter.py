"""An application to try CometBFT with: it adds up the numbers that transactions are, and names no seats."""

import json
import os
from pathlib import Path

from fedmeta.govern.engines.cometbft import abci
from fedmeta.govern.wire.signatures import digest

PARAMETERS = abci.ConsensusParameters(
    abci.BlockParameters(1 << 20), abci.EvidenceParameters(1_000, 3_600_000_000_000, 1 << 16), ("ed25519",), 1
)


class Counter(abci.Handler):
    """Keeps height and total in a file, and begins with `validators`. The app hash is that of the total alone."""

    def __init__(self, folder: Path, validators=()):
        self.file = folder / "total.json"
        self.validators = tuple(validators)
        self.height, self.total = json.loads(self.file.read_text()) if self.file.exists() else (0, 0)
        self.next = self.height, self.total

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
        total = self.total + sum(map(int, request.transactions))
        self.next = request.height, total
        return abci.BlockAnswer(self.app_hash(total), tuple(abci.TxResult() for _ in request.transactions))

    def commit(self):
        self.height, self.total = self.next
        aside = self.file.with_suffix(".new")
        aside.write_text(json.dumps(self.next))
        os.replace(aside, self.file)
        return 0

    def query(self, request):
        return abci.QueryAnswer(value=str(self.total).encode(), height=self.height)

    def list_snapshots(self):
        return []

    def offer_snapshot(self, snapshot, app_hash):
        return abci.Offer.REJECT

    def load_snapshot_chunk(self, height, format, chunk):
        return b""

    def apply_snapshot_chunk(self, index, chunk, sender):
        return abci.ChunkAnswer(abci.Applied.ABORT)
