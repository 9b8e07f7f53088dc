"""A chain that super nodes decided, certified as by CometBFT: a header for each block in which something happened.

The blocks are those of a play; their signatures are by the seats' consensus keys.
"""

from typing import Any, NamedTuple

from fedmeta.govern.engines.store import Store
from fedmeta.govern.machine.application import Application
from fedmeta.govern.machine.genesis import Genesis, encode_genesis, start
from fedmeta.govern.machine.header import Header, SignedHeader, encode_signed, event_leaves
from fedmeta.govern.state.records import Candidate
from fedmeta.govern.wire import codec, merkle
from fedmeta.govern.wire import transactions as tx
from fedmeta.govern.wire.block import Block
from fedmeta.govern.wire.commits import chain_id_of, encode_certificate, validator_set
from tests.govern.committee import certify, comet_header
from tests.govern.playing import Play, consensus_key

OPTIONS = {"validators": True, "unbonding_seconds": 3_000, "term_length": 10, "standbys": 3}
PERIOD = 2_000_000
"""How long trust lasts there, in milliseconds."""


class Link(NamedTuple):
    """A block in which something happened: all that a server keeps of it."""

    signed: SignedHeader
    block: Block
    leaves: list[bytes]
    codes: tuple[str, ...]
    changes: Any

    @property
    def encoded(self) -> bytes:
        return codec.encode([encode_signed(self.signed), list(self.block.items)])


def story() -> Play:
    """Play a chain with heights at which nothing happens, whose validators change by an election and by a new key."""
    play = Play(**OPTIONS)
    play.wait(2)
    play.must(("hal", tx.Delegate("eve", 5)))
    play.wait(3)
    play.must(("ann", consensus_key("ann", play.genesis)))
    play.must(("ivy", tx.Delegate("fay", 9_000)), ("joy", tx.Delegate("gil", 9_000)))
    play.wait_until(38)
    play.must(("hal", tx.Delegate("eve", 7)))
    play.wait(4)
    return play


def chain(play: Play) -> list[Link]:
    """Return the headers of a play's chain, and what belongs to each."""
    signers = [f"{one.member}'s consensus {number}" for one in play.state.all(Candidate) for number in (0, 1)]
    application, links = Application(start(play.genesis).state), []
    now = {seat.public: seat.power for seat in application.seats}
    following, previous = now, play.genesis.digest
    for block in play.blocks:
        # The set of this block, and of the next; what this one changes is the set of the one after.
        now, found = following, application.finalize(block)
        following = {**now, **{one.public: one.power for one in found.seat_updates}}
        following = {public: power for public, power in following.items() if power}
        commit = application.commit()
        if not found.eventful:
            continue
        leaves = event_leaves(found.events)
        roots = merkle.root(block.items), merkle.root(leaves)
        header = Header(play.genesis.digest, block.height, block.time, previous, *roots, found.app_hash)
        sets = validator_set(now), validator_set(following)
        other = sets[1] if sets[1] != sets[0] else ()
        over = comet_header(
            sets[0], other, block.height + 1, block.time + 1_000, header.hash, chain_id_of(play.genesis.digest)
        )
        signed = SignedHeader(header, encode_certificate(certify(over, sets[0], other, signers)))
        links.append(Link(signed, block, leaves, found.codes, commit.changes))
        previous = header.hash
    return links


def keep(path, genesis: Genesis, links: list[Link], certified: int | None = None) -> None:
    """Make a database of a chain; after the height `certified` no header has a certificate yet."""
    begun = start(genesis)
    Store.create(path, encode_genesis(genesis), begun.state.dump(), event_leaves(begun.events))
    with Store.probe(path) as (_, lock):
        store = Store.open(path, lock)
    for one in links:
        signed = one.signed
        if certified is not None and signed.header.height > certified:
            signed = SignedHeader(signed.header, b"")
        store.append(signed, one.block, one.leaves, one.codes, one.changes)
    store.close()
