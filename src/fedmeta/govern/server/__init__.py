"""A node of the ledger over HTTP."""

from fedmeta.govern.server.app import create_app
from fedmeta.govern.server.limits import Limits

__all__ = ["Limits", "create_app"]
