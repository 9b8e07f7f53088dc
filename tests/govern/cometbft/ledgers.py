"""Networks of ledgers whose super nodes decide the blocks: one validator for each seat of the genesis."""

import sys

import httpx

from fedmeta.govern.client.client import Client
from fedmeta.govern.engines.cometbft import home as homes
from fedmeta.govern.engines.cometbft.bridge import consensus_parameters
from fedmeta.govern.machine.application import seats_of
from fedmeta.govern.machine.genesis import encode_genesis, start
from fedmeta.govern.state.parameters import Parameters
from fedmeta.govern.wire.commits import chain_id_of
from tests.govern.cometbft.ledger_serving import HTTP
from tests.govern.cometbft.network import Network
from tests.govern.playing import key


class Ledgers(Network):
    """As many validators as the genesis has seats, in their order, and perhaps nodes that are none.

    `others` are more nodes, each with a candidate's consensus key: its name, and the number of the key.
    `acting` says for some nodes as what of `acting` they serve.
    """

    def __init__(self, genesis, more=0, others=(), acting=None, **options):
        self.ledger = genesis
        self._acting = acting or {}
        state = start(genesis).state
        owners = [(one.candidate, 0) for one in seats_of(state)] + list(others)
        self.names = [name for name, _ in owners]
        parameters = consensus_parameters(state.need(Parameters))
        keys = [key(f"{name}'s consensus {at}") for name, at in owners] + [
            key(f"no validator {at}") for at in range(more)
        ]
        text = homes.genesis_json(chain_id_of(genesis.digest), genesis.time, parameters)
        super().__init__(len(keys), command=self._serving, genesis=text, keys=keys, **options)
        for node in self.nodes:
            (node.folder / "genesis.cbor").write_bytes(encode_genesis(genesis))

    def url(self, number):
        return f"http://{self.nodes[number].host}:{HTTP}"

    def client(self, number, member="", **options):
        """Return a client of a node, with a member's key."""
        return Client(self.url(number), key(member) if member else None, member, genesis=self.ledger, **options)

    def status(self, number):
        """Return what a node says of itself, or nothing while it does not answer."""
        try:
            return httpx.get(f"{self.url(number)}/status", timeout=5).json()
        except httpx.HTTPError:
            return {}

    def _serving(self, node):
        module = "acting" if node.number in self._acting else "ledger_serving"
        more = [self._acting[node.number]] if node.number in self._acting else []
        return [sys.executable, "-m", f"tests.govern.cometbft.{module}", str(node.folder), *more]
