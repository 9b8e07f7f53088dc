"""How a member reaches the ledger: each of its addresses in turn, through the proxy, trusting the private authority."""

import ssl

import httpx

from fedmeta.govern.client.client import Client
from fedmeta.govern.errors import NodeError
from fedmeta.govern.machine.genesis import Genesis
from fedmeta.govern.wire.signatures import Key
from fedmeta.node.errors import ConfigError, Unreachable
from fedmeta.node.member.config import Config, told

_THIS_MACHINE = ("127.0.0.1", "localhost", "::1")


def trust(config: Config) -> ssl.SSLContext:
    """Return whom TLS trusts: the system's authorities, and the private one; raises `ConfigError`."""
    context = ssl.create_default_context()
    if config.network.ca:
        file = config.path(config.network.ca)
        try:
            context.load_verify_locations(file)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(
                f"network.ca is {config.network.ca}: no certificates can be read of it ({error})"
            ) from error
    return context


def client(
    config: Config, address: str, key: Key | None = None, *, genesis: Genesis | None = None, timeout: int = 20
) -> Client:
    """Return a client of the ledger's node at an address; it signs as this member if it has a key.

    Raises:
        ConfigError: the authority's file cannot be read.
        NodeError: the address is none.
    """
    host = httpx.URL(address).host
    proxy = config.network.proxy if config.network.proxy and host not in _THIS_MACHINE else None
    transport = httpx.HTTPTransport(verify=trust(config), proxy=proxy)
    member = config.member if key is not None else ""
    return Client(address, key, member, genesis=genesis, checkpoint=told(config), transport=transport, timeout=timeout)


def first(config: Config, key: Key | None = None, *, timeout: int = 20, turn: int = 0) -> Client:
    """Return a client of the first address that answers with the configured genesis.

    Args:
        config: The node's.
        key: What signs.
        timeout: Seconds for an answer.
        turn: How many of the addresses come last that would be the first.

    Raises:
        Unreachable: none does; the message says why of each.
    """
    said, addresses = [], config.ledger.addresses
    turn %= len(addresses)
    for address in (*addresses[turn:], *addresses[:turn]):
        found = client(config, address, key, timeout=timeout)
        try:
            genesis = found.genesis()
            if genesis.digest == config.ledger.genesis:
                # From here on what is signed and proven is bound to it.
                found.close()
                return client(config, address, key, genesis=genesis, timeout=timeout)
            said.append(f"{address} has another genesis, {genesis.digest.hex()}")
        except NodeError as error:
            said.append(str(error))
        found.close()
    raise Unreachable(f"no address of the ledger can be used: {'; '.join(said)}")
