"""A member's process: it trains on data that never leave, and answers for its promises on the ledger."""

from fedmeta import _extras

_extras.need_extra("ledger", "a node")
