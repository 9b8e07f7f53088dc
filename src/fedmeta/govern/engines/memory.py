"""An engine in memory, made as one that tolerates faults is: nodes that propose in turn, judge, decide and compare."""

from collections.abc import Mapping
from typing import Any

from fedmeta.govern.errors import InvalidBlock, Refused
from fedmeta.govern.machine.application import Application, Finalized
from fedmeta.govern.machine.genesis import Genesis, start
from fedmeta.govern.wire.block import Block
from fedmeta.govern.wire.signatures import digest


class MemoryEngine:
    """A ledger of several nodes in one process, each with an application of its own; nothing outlasts the process."""

    def __init__(self, genesis: Genesis, nodes: int = 2):
        self.genesis = genesis
        self.nodes = [Application(start(genesis).state) for _ in range(nodes)]
        self.blocks: list[Block] = []
        self.results: list[Finalized] = []
        """What each block gave."""
        self.refused: dict[bytes, Refused] = {}
        """Why a transaction that had been submitted came into no block, by its digest."""
        self.powers: dict[bytes, int] = {seat.public: seat.power for seat in self.nodes[0].seats}
        """The voting powers by public key, kept from the updates alone, as an engine does."""
        self._pool: list[bytes] = []

    @property
    def height(self) -> int:
        """The height of the last block; 0 after genesis."""
        return len(self.blocks)

    @property
    def app_hash(self) -> bytes:
        """The root of the state, 32 bytes."""
        return self.nodes[0].app_hash

    def submit(self, raw: bytes) -> bytes:
        """Let a transaction wait for the next block, and return its digest; raises `Refused` if any node refuses it."""
        for node in self.nodes:
            if refusal := node.check_tx(raw):
                for other in self.nodes:
                    other.recheck(self._pool)
                raise refusal
        self._pool.append(raw)
        return digest(raw)

    def produce(self, time: int, empty: bool = False) -> Block | None:
        """Let the node whose turn it is propose a block, and commit it; None if it would be empty and may not be."""
        time = max(time, self.nodes[0].time)
        proposer = self.nodes[self.height % len(self.nodes)]
        prepared = proposer.prepare(Block(self.height + 1, time), self._pool)
        block = Block(self.height + 1, time, prepared.transactions) if prepared.transactions or empty else None
        if block is not None:
            self.decide(block, proposer)
        self.refused |= prepared.refused
        done = {*prepared.transactions}
        self._pool = [raw for raw in self._pool if raw not in done and digest(raw) not in prepared.refused]
        for node in self.nodes:
            for one, refusal in node.recheck(self._pool).items():
                self.refused[one] = refusal
        self._pool = [raw for raw in self._pool if digest(raw) not in self.refused]
        return block

    def decide(self, block: Block, proposer: Application | None = None) -> Finalized:
        """Commit a block on all nodes.

        Raises:
            InvalidBlock: a node does not accept it, or two nodes do not come to the same; nothing is committed then.
        """
        for number, node in enumerate(self.nodes):
            if node is not proposer and not node.process(block):
                raise InvalidBlock(f"node {number} does not accept block {block.height}")
        found = [node.finalize(block) for node in self.nodes]
        for number, one in enumerate(found):
            if one != found[0]:
                raise InvalidBlock(
                    f"node {number} gives block {block.height} the app hash {one.app_hash.hex()}: "
                    f"node 0 gives it {found[0].app_hash.hex()}"
                )
        for node in self.nodes:
            node.commit()
        for public, power in ((one.public, one.power) for one in found[0].seat_updates):
            self.powers[public] = power
        self.powers = {public: power for public, power in self.powers.items() if power}
        self.blocks.append(block)
        self.results.append(found[0])
        return found[0]

    def join(self) -> Application:
        """Let a new node in, from the latest snapshot that a node keeps and the blocks since, and return it."""
        source, node = self.nodes[0], Application(start(self.genesis).state)
        for manifest in source.snapshots()[-1:]:
            if node.offer(manifest, self.results[manifest.height - 1].app_hash, self.blocks[manifest.height - 1].time):
                for number in range(len(manifest.chunks)):
                    node.apply(number, source.chunk(manifest.height, number) or b"")
        for block in self.blocks[node.height :]:
            node.finalize(block)
            node.commit()
        self.nodes.append(node)
        return node

    def query(self, name: str, arguments: Mapping[str, Any]) -> Any:
        """Answer a question about the committed state."""
        return self.nodes[0].query(name, arguments)
