"""A node whose application is not as it should be: `python -m tests.govern.cometbft.acting NODE HOW`.

"lies" says another app hash than its own after a block with a transaction; "refuses" votes against every block of
others, and takes no transaction; "proposes" puts what any rule refuses, and what waits twice, into its blocks. "dies"
kills itself once it has taken the last chunk of a snapshot, "fails" raises then, which ends CometBFT; both do it once.
"""

import os
import signal
import sys
from pathlib import Path

from fedmeta.govern.engines.cometbft import abci, bridge
from tests.govern.cometbft import ledger_serving


def acted():
    """Leave `acted` in the node's folder."""
    Path(sys.argv[1], "acted").touch()


class _Lies(bridge.Bridge):
    def finalize_block(self, request):
        answer = super().finalize_block(request)
        return answer._replace(app_hash=bytes(32)) if request.transactions else answer


class _Refuses(bridge.Bridge):
    def check_tx(self, raw, recheck):
        return abci.TxResult(1, codespace="bad-value")

    def process_proposal(self, request):
        acted()
        return False


class _Proposes(bridge.Bridge):
    def prepare_proposal(self, request):
        acted()
        return [*super().prepare_proposal(request), *request.transactions, b"junk"]


class _Dies(bridge.Bridge):
    def apply_snapshot_chunk(self, index, chunk, sender):
        answer = super().apply_snapshot_chunk(index, chunk, sender)
        if self._store.tip and not Path(sys.argv[1], "acted").exists():
            acted()
            self.end()
        return answer

    def end(self):
        os.kill(os.getpid(), signal.SIGKILL)


class _Fails(_Dies):
    def end(self):
        raise RuntimeError("the last chunk is there")


if __name__ == "__main__":
    ledger_serving.log()
    made = {"lies": _Lies, "refuses": _Refuses, "proposes": _Proposes, "dies": _Dies, "fails": _Fails}[sys.argv[2]]
    sys.modules["fedmeta.govern.engines.cometbft.engine"].Bridge = made
    ledger_serving.main(Path(sys.argv[1]))
