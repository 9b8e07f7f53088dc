"""CometBFT as an application knows it, in this process: it asks in CometBFT's order, and stops at what stops that.

    nodes = [Ledger.made(folder / "a.db", genesis), Ledger.made(folder / "b.db", genesis)]
    consensus = Consensus(genesis, nodes)
    consensus.submit(raw)
    consensus.step()

Rules are those of CometBFT 0.38: `state/validation.go`, `state/execution.go`, `types/validator_set.go`,
`consensus/replay.go`.
"""

import sqlite3
import threading
from contextlib import closing
from dataclasses import dataclass, field

from fedmeta.govern.engines.cometbft import abci
from fedmeta.govern.engines.cometbft.bridge import Bridge, Told, consensus_parameters
from fedmeta.govern.engines.cometbft.home import address_of
from fedmeta.govern.engines.replay import resume
from fedmeta.govern.engines.store import Store
from fedmeta.govern.machine.application import Application
from fedmeta.govern.machine.genesis import encode_genesis, start
from fedmeta.govern.machine.header import event_leaves
from fedmeta.govern.state.parameters import Parameters
from fedmeta.govern.wire import merkle
from fedmeta.govern.wire.block import Block
from fedmeta.govern.wire.commits import chain_id_of

MOST_POWER = (2**63 - 1) // 8
"""`MaxTotalVotingPower`."""

SECOND = 10**9


class Ear(Told):
    """Writes down what it is told."""

    def __init__(self):
        self.blocks, self.refusals, self.beginnings = [], {}, []

    def committed(self, block, codes, header):
        self.blocks.append((block, tuple(codes), header))

    def begun(self, header):
        self.beginnings.append(header)

    def refused(self, name, refusal):
        self.refusals[name] = refusal.code


class Ledger(Bridge):
    """A bridge with its store, and an ear for what it tells."""

    def __init__(self, path):
        with Store.probe(path) as (found, lock):
            resumed = resume(found)
            self.store = Store.open(path, lock, durable=None)
        self.application, self.ear = Application(resumed.state, self.store), Ear()
        self.lock = threading.RLock()
        super().__init__(resumed.origin, self.application, self.store, resumed.head, self.lock, self.ear)

    @staticmethod
    def made(path, genesis):
        """Return the ledger of a genesis, at its beginning."""
        begun = start(genesis)
        Store.create(path, encode_genesis(genesis), begun.state.dump(), event_leaves(begun.events))
        return Ledger(path)

    def copied(self, path):
        """Return this ledger as a process would find it that begins now: what is in memory alone is lost."""
        with closing(sqlite3.connect(self.store.path)) as here, closing(sqlite3.connect(path)) as there:
            here.backup(there)
        return Ledger(path)


@dataclass
class Node:
    """A handler, and what CometBFT keeps beside it."""

    handler: abci.Handler
    pool: list[bytes] = field(default_factory=list)
    refused: dict[bytes, str] = field(default_factory=dict)
    """The codes of what left the pool at a recheck."""
    first: int = 1
    """The first block that is kept."""


class Consensus:
    """Nodes whose blocks are decided one after the other; every one of them must come to the same."""

    def __init__(self, genesis, handlers):
        self.genesis = genesis
        self.nodes = [Node(one) for one in handlers]
        self.decided = []
        """The blocks that were decided, and their answers."""
        self.hashes = []
        """The app hash that the header of each height has, from the first on, the next one among them."""
        self.parameters = consensus_parameters(start(genesis).state.need(Parameters))
        first = [self._begin(one) for one in handlers]
        assert all(one == first[0] for one in first)
        self.hashes.append(first[0].app_hash)
        self.sets = [{}, changed({}, first[0].validators), changed({}, first[0].validators)]
        """The validators and their powers by height, up to the one after the next."""
        self.adopt(first[0].parameters)

    def _begin(self, handler):
        found = handler.info(abci.InfoRequest("0.38.26", 11, 8, "2.0.0"))
        assert (found.height, found.app_hash) == (0, b"")
        return handler.init_chain(self.beginning())

    def beginning(self, **other):
        due = abci.ChainRequest(
            self.genesis.time * 10**6, chain_id_of(self.genesis.digest), self.parameters, (), b"", 1
        )
        return due._replace(**other)

    def adopt(self, parameters):
        """Take over what is said of the parameters, as far as CometBFT takes it."""
        if parameters is None:
            return
        given = {name: value for name, value in parameters._asdict().items() if value is not None}
        self.parameters = self.parameters._replace(**given)
        block, evidence, keys, _ = self.parameters
        assert 0 < block.max_bytes <= 100 << 20
        assert block.max_gas >= -1
        assert evidence.max_age_blocks > 0
        # A sequencer's ledger may have none: it is never given to a CometBFT that is one.
        assert evidence.max_age > 0 or self.genesis.sequencer
        assert 0 <= evidence.max_bytes <= block.max_bytes
        assert keys == ("ed25519",)

    @property
    def height(self):
        """Of the last block."""
        return len(self.decided)

    @property
    def validators(self):
        """The powers of those that decide the next block, by key."""
        return self.sets[self.height + 1]

    @property
    def time(self):
        return self.decided[-1][0].time if self.decided else self.genesis.time * 10**6

    def submit(self, raw):
        """Hand a transaction to every node; return the code with which they refuse it, or nothing."""
        found = [one.handler.check_tx(raw, False) for one in self.nodes]
        for node, one in zip(self.nodes, found, strict=True):
            assert bool(one.code) == bool(one.codespace)
            if not one.code:
                node.pool.append(raw)
        (code,) = {one.codespace for one in found}
        return code

    def request(self, transactions=(), after=SECOND + 123_456, absent=(), shown=()):
        """Return the next block with some transactions; `absent` did not sign the one before it."""
        last = ordered(self.sets[self.height]) if self.height else []
        votes = tuple(
            abci.Vote(
                abci.Validator(address_of(public), power),
                abci.VoteFlag.ABSENT if public in absent else abci.VoteFlag.COMMIT,
            )
            for public, power in last
        )
        return abci.BlockRequest(
            tuple(transactions),
            abci.LastCommit(0, votes),
            tuple(shown),
            b"\x01" * 32,
            self.height + 1,
            self.time + after,
            b"\x02" * 32,
            address_of(ordered(self.validators)[0][0]),
        )

    def room(self):
        """Return how many bytes a proposal's transactions may take, of which evidence has taken nothing."""
        return self.parameters.block.max_bytes - 11 - 626 - 94 - 111 * len(self.validators)

    def proposal(self, proposer=0, **options):
        """Return the block that a node proposes of its pool."""
        node, empty = self.nodes[proposer], self.request(**options)
        asked = abci.ProposalRequest(
            self.room(),
            tuple(node.pool),
            empty.last_commit,
            empty.misbehaviour,
            empty.height,
            empty.time,
            empty.next_validators_hash,
            empty.proposer,
        )
        chosen = tuple(node.handler.prepare_proposal(asked))
        # Over this limit CometBFT's proposer panics.
        assert sum(map(abci.proposed_size, chosen)) <= self.room()
        return empty._replace(transactions=chosen)

    def votes(self, block):
        """Return whether each node votes for a block."""
        return [one.handler.process_proposal(block) for one in self.nodes]

    def step(self, proposer=0, **options):
        """Let a node propose, all vote for that, and decide; return the answer."""
        block = self.proposal(proposer, **options)
        assert all(self.votes(block))
        return self.decide(block)

    def decide(self, block):
        """Let every node execute a block and keep it; return the answer."""
        answers = [one.handler.finalize_block(block) for one in self.nodes]
        assert all(one == answers[0] for one in answers)
        for node in self.nodes:
            node.first = max(node.first, node.handler.commit())
            self._recheck(node, set(block.transactions))
        self.keep(block, answers[0])
        return answers[0]

    def _recheck(self, node, done):
        waits, node.pool = [raw for raw in node.pool if raw not in done], []
        for raw in waits:
            found = node.handler.check_tx(raw, True)
            if found.code:
                node.refused[raw] = found.codespace
            else:
                node.pool.append(raw)

    def keep(self, block, answer):
        """Note a block that was decided, and what it changed."""
        assert block.height == self.height + 1
        assert len(answer.results) == len(block.transactions)
        self.sets.append(changed(self.sets[-1], answer.validators))
        self.decided.append((block, answer))
        self.hashes.append(answer.app_hash)
        self.adopt(answer.parameters)

    def handshake(self, number, handler=None):
        """Let CometBFT begin anew beside a node, or beside one that takes its place; its pool is lost."""
        node = self.nodes[number]
        node.handler, node.pool = handler or node.handler, []
        found = node.handler.info(abci.InfoRequest("0.38.26", 11, 8, "2.0.0"))
        height, app_hash = found.height, found.app_hash
        assert height <= self.height
        if height == 0:
            app_hash = node.handler.init_chain(self.beginning()).app_hash
        assert app_hash == self.hashes[height]
        # What CometBFT does not keep any more it could not show again.
        assert height + 1 >= node.first
        for block, answer in self.decided[height:]:
            assert node.handler.finalize_block(block) == answer
            node.handler.commit()


def ordered(validators):
    """Return a set in CometBFT's order: by power, then by address."""
    return sorted(validators.items(), key=lambda one: (-one[1], address_of(one[0])))


def changed(before, updates):
    """Return a set after an application's updates; each of them must be one that CometBFT can carry out."""
    keys = [one.public_key for one in updates]
    assert len(set(keys)) == len(keys), "a key is named twice"
    assert all(one.power >= 0 for one in updates)
    assert all(one.power or one.public_key in before for one in updates), "a key is removed that is none of the set's"
    after = {**before, **{one.public_key: one.power for one in updates}}
    after = {public: power for public, power in after.items() if power}
    assert after, "the set is empty"
    assert sum(after.values()) <= MOST_POWER
    return after


def check_headers(ledger, consensus):
    """Check that the headers which a ledger keeps are a chain, and are all that the app hashes say."""
    previous, head = consensus.genesis.digest, consensus.genesis.digest
    assert consensus.hashes[0] == head
    for height, (request, answer) in enumerate(consensus.decided, 1):
        signed = ledger.store.header(height)
        if signed is not None:
            header, block = signed.header, Block.of(height, request.time // 10**6, request.transactions)
            assert (header.genesis, header.height, header.time) == (consensus.genesis.digest, height, block.time)
            assert header.previous == previous
            assert header.transactions_root == merkle.root(list(block.items))
            assert header.events_root == merkle.root(ledger.store.events(height))
            previous = head = header.hash
        assert answer.app_hash == consensus.hashes[height] == head
