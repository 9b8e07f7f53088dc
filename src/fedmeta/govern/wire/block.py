"""A block as the state machine sees it; who orders and signs blocks is the engines' business."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DoubleSignature:
    """That a key signed two blocks of one height, which an engine with several signers has found and checked."""

    public: bytes
    height: int


@dataclass(frozen=True, slots=True)
class Block:
    """A height, a time and the transactions in their order.

    `height` is one more than the state's; `time`, in milliseconds since 1970, never goes back.
    """

    height: int
    time: int
    transactions: tuple[bytes, ...] = ()
    double_signatures: tuple[DoubleSignature, ...] = ()
