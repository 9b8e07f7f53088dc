"""A block as the state machine sees it; who orders and signs blocks is the engines' business."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Block:
    """A height, a time and the transactions in their order.

    `height` is one more than the state's; `time`, in milliseconds since 1970, never goes back.
    """

    height: int
    time: int
    transactions: tuple[bytes, ...] = ()
