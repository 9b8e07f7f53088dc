"""What a client makes of a node's proofs and headers: it believes what those certify whom it trusts."""

from collections.abc import Callable
from copy import copy
from time import time_ns
from typing import Any

from fedmeta.govern.client.light import LightClient, verify_record
from fedmeta.govern.errors import Malformed, ProofError, Refused
from fedmeta.govern.machine.genesis import Genesis
from fedmeta.govern.machine.header import SignedHeader, decode_signed
from fedmeta.govern.machine.trust import Checkpoint
from fedmeta.govern.wire import codec, merkle
from fedmeta.govern.wire.layout import key_of, layout

FIRST = {"first": "true"}
"""Asks for the first block or header from a height on: where nothing happened, there is none of a height."""

_LARGEST = 1 << 28


class Prover:
    """Checks what a node answers, by a light client that goes on with each answer.

    Args:
        node: The node's address, for messages.
        ask: Fetches what is signed: given a path and its parameters.
        genesis: Gives the genesis that is trusted, once it is needed.
        checkpoint: A late header to begin from, where there is one.
    """

    def __init__(
        self,
        node: str,
        ask: Callable[[str, Any], bytes],
        genesis: Callable[[], Genesis],
        checkpoint: Checkpoint | None,
    ):
        self._node = node
        self._ask = ask
        self._genesis = genesis
        self._checkpoint = checkpoint
        self._first: LightClient | None = None
        self._light: LightClient | None = None

    def header(self, height: int) -> SignedHeader:
        """Return the header of a block; raises `ProofError` unless it is certified by whom the genesis has trusted."""
        signed = self._signed(height, None)
        if signed.header.height != height:
            raise ProofError(f"{self._node} gives header {signed.header.height} where header {height} is asked for")
        first = self._begin()
        # The checkpoint's own was accepted already, if this is the header that its certificate is of.
        first.trust.check(signed)
        if self._checkpoint is None or not first.trust.gaps or Checkpoint.of(signed) != self._checkpoint:
            LightClient(first.trust).reach(signed, self._from, _now())
        return signed

    def record(self, raw: bytes, kind: str, key: tuple[Any, ...]) -> tuple[Any, SignedHeader]:
        """Return the record that an answer proves to be in the ledger, and the header that says so.

        Raises:
            ProofError: it does not convince, or is of another record than that of this kind and key.
        """
        try:
            value = codec.decode(raw, limit=_LARGEST)
            if type(value) is not list or len(value) != 2 or type(value[0]) is not bytes:
                raise Malformed("a proof comes as a list of a signed header's bytes and the proof")
            signed, proof = decode_signed(value[0]), merkle.Proof.from_value(value[1])
        except Malformed as error:
            raise ProofError(f"the answer of {self._node} is no proof: {error}") from error
        if self._light is None:
            self._light = copy(self._begin())
        record = verify_record(proof, self._light.reach(signed, self._from, _now()))
        if layout(type(record)).kind != kind or key_of(record) != key:
            raise ProofError(f"the proof is of another record: {layout(type(record)).kind} {key_of(record)}")
        return record, signed

    def _begin(self) -> LightClient:
        """Return a light client that has accepted the checkpoint, if there is one, and nothing else."""
        if self._first is None:
            first, point = LightClient.of(self._genesis(), self._checkpoint), self._checkpoint
            if point is not None and first.trust.gaps:
                first.jump(self._signed(point.height, None), _now())
            self._first = first
        return self._first

    def _from(self, height: int) -> SignedHeader | None:
        """Return the first header from a height on, not checked; None if there is none."""
        try:
            return self._signed(height, FIRST)
        except Refused as refusal:
            if refusal.code != "not-found":
                raise
            return None

    def _signed(self, height: int, params: Any) -> SignedHeader:
        try:
            return decode_signed(self._ask(f"/headers/{height}", params))
        except Malformed as error:
            raise ProofError(f"the answer of {self._node} is no header: {error}") from error


def _now() -> int:
    return time_ns() // 1_000_000
