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
from tests.govern.playing import first_consensus_key, key


class Ledgers(Network):
    """As many validators as the genesis has seats, in their order, and perhaps nodes that are none.

    `others` are more nodes: each has the consensus key of the candidate of this name, who may have a node already.
    `acting` says for some nodes as what of `acting` they serve.
    """

    def __init__(self, genesis, more=0, others=(), acting=None, **options):
        self.ledger = genesis
        self._acting = acting or {}
        state = start(genesis).state
        self.names = [one.candidate for one in seats_of(state)] + list(others)
        parameters = consensus_parameters(state.need(Parameters))
        keys = [first_consensus_key(name) for name in self.names] + [key(f"no validator {n}") for n in range(more)]
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
