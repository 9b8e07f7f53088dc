"""Chains that are decided in this process, each beside a play of the same chain that signs for its members."""

from fedmeta.govern.engines.cometbft import abci
from fedmeta.govern.engines.cometbft.home import address_of
from fedmeta.govern.wire import transactions as tx
from fedmeta.govern.wire.block import Block
from tests.govern.cometbft.consensus import Consensus, Ledger
from tests.govern.playing import TIME, Play, federation, first_consensus_key


def consensus_of(folder, nodes=2, **options):
    """Return nodes that decide the blocks of a small federation, and a play of the same chain that signs for them."""
    genesis = federation(validators=True, **options)
    made = Consensus(genesis, [Ledger.made(folder / f"{number}.db", genesis) for number in range(nodes)])
    return made, Play(genesis)


def step(chain, *pairs, **options):
    """Submit what members do, let it be decided, and let the play follow; return the answer."""
    consensus, play = chain
    waiting = {}
    for name, body in pairs:
        raw = play.sign(name, body, waiting.get(name, 0))
        waiting[name] = waiting.get(name, 0) + (tx.kind_of(body) not in tx.OF_ROUNDS)
        assert consensus.submit(raw) == ""
    answer = consensus.step(**options)
    follow(chain)
    return answer


def follow(chain):
    """Let the play execute the last block."""
    consensus, play = chain
    request, _ = consensus.decided[-1]
    play.take(Block.of(request.height, request.time // 10**6, request.transactions))
    assert [one.handler.application.app_hash for one in consensus.nodes] == [play.state.root] * len(consensus.nodes)


def key_of(name):
    return first_consensus_key(name).public


def raws_of(play, number, name="hal", body=None):
    return [play.sign(name, body or tx.Delegate("bob", 1), at) for at in range(number)]


def play_round(chain):
    """Decide blocks until a round has begun."""
    while not chain[1].chain.round:
        step(chain)


def misbehaviour(name, consensus, height=1, kind=abci.Fault.DUPLICATE_VOTE):
    validator = abci.Validator(address_of(key_of(name)), consensus.sets[height].get(key_of(name), 1))
    return abci.Misbehaviour(kind, validator, height, TIME * 10**6, sum(consensus.sets[height].values()))
