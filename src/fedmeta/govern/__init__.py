"""The ledger of a federation: who its members are, whom they elect, what a round did, and who is paid why.

What a program needs stands here; it is imported when it is asked for, so that nothing waits for what it does not use.

| to                                          | there is                                                         |
|---------------------------------------------|------------------------------------------------------------------|
| ask a node, and send transactions to it     | `Client`, `Outcome`, `Said`, `transactions`                      |
| sign                                        | `Key`, `load_key`, `save_key`                                    |
| check what a node says                      | `LightClient`, `verify_record`, `verify_transaction`,            |
|                                             | `verify_event`                                                   |
| begin a ledger                              | `Genesis`, `FirstMember`, `FirstCandidate`, `FirstDelegation`,   |
|                                             | `FirstRecipe`, `Parameters`                                      |
| keep it in a file, and audit that           | `EmbeddedEngine`, `verify_ledger`                                |
| run a node                                  | `create_app`, `Limits`, `listen`, `serve`                        |
| execute blocks by oneself                   | `start`, `execute`, `Block`, `Execution`, `State`, `query`,      |
|                                             | `explain`                                                        |
| tell errors apart                           | `errors`, with every exception and `REFUSALS`; the root          |
|                                             | `GovernError`, and of its branches `Refused`, `NodeError`,       |
|                                             | `Unacknowledged`, `ProofError`, `StoreError`                     |
"""

import importlib
import importlib.util
import sys
import types
import typing

from fedmeta import _extras

if typing.TYPE_CHECKING:
    from fedmeta.govern import errors, transactions
    from fedmeta.govern.audit import verify_ledger
    from fedmeta.govern.block import Block
    from fedmeta.govern.client import Client, Outcome, Said
    from fedmeta.govern.engines.embedded import EmbeddedEngine
    from fedmeta.govern.errors import GovernError, NodeError, ProofError, Refused, StoreError, Unacknowledged
    from fedmeta.govern.execute import Execution, execute
    from fedmeta.govern.genesis import FirstCandidate, FirstDelegation, FirstMember, FirstRecipe, Genesis, start
    from fedmeta.govern.http import Limits, create_app
    from fedmeta.govern.keyfile import load as load_key
    from fedmeta.govern.keyfile import save as save_key
    from fedmeta.govern.light import LightClient, verify_event, verify_record, verify_transaction
    from fedmeta.govern.parameters import Parameters
    from fedmeta.govern.serve import listen, serve
    from fedmeta.govern.signatures import Key
    from fedmeta.govern.state import State
    from fedmeta.govern.views.explain import explain
    from fedmeta.govern.views.queries import query

_extras.need_extra("ledger", "the ledger")

__all__ = [
    "Client",
    "Outcome",
    "Said",
    "transactions",
    "Key",
    "load_key",
    "save_key",
    "LightClient",
    "verify_record",
    "verify_transaction",
    "verify_event",
    "Genesis",
    "FirstMember",
    "FirstCandidate",
    "FirstDelegation",
    "FirstRecipe",
    "Parameters",
    "EmbeddedEngine",
    "verify_ledger",
    "create_app",
    "Limits",
    "listen",
    "serve",
    "start",
    "execute",
    "Block",
    "Execution",
    "State",
    "query",
    "explain",
    "errors",
    "GovernError",
    "Refused",
    "NodeError",
    "Unacknowledged",
    "ProofError",
    "StoreError",
]

_HOMES = {
    "Client": "client",
    "Outcome": "client",
    "Said": "client",
    "Key": "signatures",
    "load_key": "keyfile:load",
    "save_key": "keyfile:save",
    "LightClient": "light",
    "verify_record": "light",
    "verify_transaction": "light",
    "verify_event": "light",
    "Genesis": "genesis",
    "FirstMember": "genesis",
    "FirstCandidate": "genesis",
    "FirstDelegation": "genesis",
    "FirstRecipe": "genesis",
    "Parameters": "parameters",
    "EmbeddedEngine": "engines.embedded",
    "verify_ledger": "audit",
    "create_app": "http",
    "Limits": "http",
    "listen": "serve",
    "serve": "serve",
    "start": "genesis",
    "execute": "execute",
    "Block": "block",
    "Execution": "execute",
    "State": "state",
    "query": "views.queries",
    "explain": "views.explain",
    "GovernError": "errors",
    "Refused": "errors",
    "NodeError": "errors",
    "Unacknowledged": "errors",
    "ProofError": "errors",
    "StoreError": "errors",
}


def __getattr__(name: str) -> typing.Any:
    """Import what is asked for: whoever needs a key only does not wait for a web server."""
    if name in _HOMES:
        home, _, own = _HOMES[name].partition(":")
        value = getattr(importlib.import_module(f"{__name__}.{home}"), own or name)
    elif not name.startswith("_") and importlib.util.find_spec(f"{__name__}.{name}"):
        value = importlib.import_module(f"{__name__}.{name}")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


class _Face(types.ModuleType):
    def __setattr__(self, name: str, value: object) -> None:
        # An import of fedmeta.govern.execute would put the module where the function of the same name belongs.
        if isinstance(value, types.ModuleType) and name in _HOMES and value.__name__ == f"{__name__}.{name}":
            value = getattr(value, name)
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Face
