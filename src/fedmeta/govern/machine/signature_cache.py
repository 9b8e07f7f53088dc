"""Transactions whose signature was found right: the pool's check, the proposal and the execution take one check."""

from collections import OrderedDict

from fedmeta.govern.wire.transactions import Signed

MAX_BYTES = 1 << 22
"""How many bytes of transactions are remembered, the latest ones: more than two of the usual blocks."""


class SignatureCache:
    """Remembers transactions by their bytes, with the public key that had signed; nothing unsigned comes in here."""

    def __init__(self, max_bytes: int = MAX_BYTES):
        self._max_bytes = max_bytes
        self._bytes = 0
        self._found: OrderedDict[bytes, tuple[Signed, bytes]] = OrderedDict()

    def get(self, raw: bytes) -> tuple[Signed, bytes] | None:
        """Return the transaction that the bytes encode and the key that had signed it, or None."""
        return self._found.get(raw)

    def put(self, raw: bytes, signed: Signed, public: bytes) -> None:
        """Remember a transaction whose signature by the key is right."""
        if raw not in self._found:
            self._bytes += len(raw)
        self._found[raw] = signed, public
        while self._bytes > self._max_bytes:
            old, _ = self._found.popitem(last=False)
            self._bytes -= len(old)
