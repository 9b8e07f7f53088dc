"""A node of the ledger over HTTP."""

from fedmeta.govern.http.app import create_app
from fedmeta.govern.http.limits import Limits

__all__ = ["Limits", "create_app"]
