"""The ledger of a federation: who its members are, whom they elect, what a round did, and who is paid why.

What a program needs stands here; it is imported when it is asked for, so that nothing waits for what it does not use.

| to                                          | there is                                                         |
|---------------------------------------------|------------------------------------------------------------------|
| ask a node, and send transactions to it     | `Client`, `Outcome`, `LedgerEvent`, `transactions`               |
| sign                                        | `Key`, `load_key`, `save_key`                                    |
| check what a node says                      | `LightClient`, `verify_record`, `verify_transaction`,            |
|                                             | `verify_event`, `is_sealed`                                      |
| begin a ledger                              | `Genesis`, `FirstMember`, `FirstCandidate`, `FirstDelegation`,   |
|                                             | `FirstRecipe`, `FirstRegistration`, `Parameters`                 |
| keep it in a file, and audit that           | `EmbeddedEngine`, `verify_ledger`                                |
| run a node                                  | `create_app`, `Limits`, `listen`, `serve`                        |
| execute blocks by oneself                   | `start`, `execute`, `Block`, `Execution`, `State`, `query`,      |
|                                             | `explain`                                                        |
| tell errors apart                           | `errors`, with every exception and `REFUSALS`; the root          |
|                                             | `GovernError`, and of its branches `Refused`, `NodeError`,       |
|                                             | `Unacknowledged`, `ProofError`, `StoreError`                     |
"""

import importlib
import typing

from fedmeta import _extras

if typing.TYPE_CHECKING:
    from fedmeta.govern import errors
    from fedmeta.govern.client.audit import verify_ledger
    from fedmeta.govern.client.client import Client, LedgerEvent, Outcome
    from fedmeta.govern.client.keyfile import load as load_key
    from fedmeta.govern.client.keyfile import save as save_key
    from fedmeta.govern.client.light import LightClient, is_sealed, verify_event, verify_record, verify_transaction
    from fedmeta.govern.engines.embedded import EmbeddedEngine
    from fedmeta.govern.errors import GovernError, NodeError, ProofError, Refused, StoreError, Unacknowledged
    from fedmeta.govern.machine.execute import Execution, execute
    from fedmeta.govern.machine.genesis import (
        FirstCandidate,
        FirstDelegation,
        FirstMember,
        FirstRecipe,
        FirstRegistration,
        Genesis,
        start,
    )
    from fedmeta.govern.server import Limits, create_app
    from fedmeta.govern.server.serve import listen, serve
    from fedmeta.govern.state.parameters import Parameters
    from fedmeta.govern.state.state import State
    from fedmeta.govern.views.explain import explain
    from fedmeta.govern.views.queries import query
    from fedmeta.govern.wire import transactions
    from fedmeta.govern.wire.block import Block
    from fedmeta.govern.wire.signatures import Key

_extras.need_extra("ledger", "the ledger")

__all__ = [
    "Client",
    "Outcome",
    "LedgerEvent",
    "transactions",
    "Key",
    "load_key",
    "save_key",
    "LightClient",
    "verify_record",
    "verify_transaction",
    "verify_event",
    "is_sealed",
    "Genesis",
    "FirstMember",
    "FirstCandidate",
    "FirstDelegation",
    "FirstRecipe",
    "FirstRegistration",
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

_MODULES = {"errors": "errors", "transactions": "wire.transactions"}
_HOMES = {
    "Client": "client.client",
    "Outcome": "client.client",
    "LedgerEvent": "client.client",
    "Key": "wire.signatures",
    "load_key": "client.keyfile:load",
    "save_key": "client.keyfile:save",
    "LightClient": "client.light",
    "verify_record": "client.light",
    "verify_transaction": "client.light",
    "verify_event": "client.light",
    "is_sealed": "client.light",
    "Genesis": "machine.genesis",
    "FirstMember": "machine.genesis",
    "FirstCandidate": "machine.genesis",
    "FirstDelegation": "machine.genesis",
    "FirstRecipe": "machine.genesis",
    "FirstRegistration": "machine.genesis",
    "Parameters": "state.parameters",
    "EmbeddedEngine": "engines.embedded",
    "verify_ledger": "client.audit",
    "create_app": "server",
    "Limits": "server",
    "listen": "server.serve",
    "serve": "server.serve",
    "start": "machine.genesis",
    "execute": "machine.execute",
    "Block": "wire.block",
    "Execution": "machine.execute",
    "State": "state.state",
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
    if name in _MODULES:
        value = importlib.import_module(f"{__name__}.{_MODULES[name]}")
    elif name in _HOMES:
        home, _, own = _HOMES[name].partition(":")
        value = getattr(importlib.import_module(f"{__name__}.{home}"), own or name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
