"""The four hospitals as real processes on one machine: what runs, what befalls it, what is seen of it."""

from fedmeta import _extras

_extras.need_extra("ledger", "a demonstration with a ledger")
