"""Seats with gates and stores of their own, and a contributor, whose requests need no network."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fedmeta.govern.wire import codec
from fedmeta.govern.wire import transactions as tx
from fedmeta.govern.wire.signatures import digest
from fedmeta.node.disk.store import BlobStore
from fedmeta.node.errors import Unreachable
from fedmeta.node.process.gate import SOCKET
from fedmeta.node.process.moves import SALT, Moves, context
from fedmeta.node.process.shared import SharedStore
from fedmeta.node.reducer import View
from fedmeta.node.simulated.ledger import key_of
from fedmeta.node.simulated.world import World
from fedmeta.node.transport.gate import Gate
from fedmeta.node.transport.local import LocalServer
from fedmeta.node.transport.peer import Client, Session, Target
from fedmeta.node.transport.standing import Peer, Standing
from fedmeta.node.wire.chunks import CHUNK, Blob, leaves
from fedmeta.node.wire.offers import Offer
from fedmeta.node.wire.requests import Request
from fedmeta.node.wire.sealing import SealKey, seal

SENDER = "c0"
PLAIN = b"s" * SALT + bytes(range(256)) * 5_000  # 1.2 chunks
SEALING = {name: SealKey.from_seed(digest(f"seal {name}".encode())) for name in ("s0", "s1", "s2", "s3", "c0")}


class Direct(Session):
    """A session that asks a gate without a connection."""

    def __init__(self, asks: Any, name: str, gate: Gate, view: View):
        self._client, self._name, self._gate, self._view = asks, name, gate, view
        self._receiver = name

    async def ask(self, method: str, path: str, body: bytes = b"", reply: bytes = b"") -> bytes:
        view = self._view
        asked = Request(view.genesis, self._client.name, self._name, method, path, digest(body), view.height, reply)
        return (await self._gate.answer(asked, body)).body

    async def _value(self, method: str, path: str, body: bytes = b"", reply: bytes = b"") -> Any:
        return codec.decode(await self.ask(method, path, body, reply), limit=1 << 24)


class Asks(Client):
    """The `Client` of a member: it reaches those gates that are not away."""

    def __init__(self, name: str, genesis: bytes, members: "dict[str, Member]", away: set[str]):
        self.name, self.genesis = name, genesis
        self._members, self._away = members, away

    @contextlib.asynccontextmanager
    async def session(self, target: Target) -> AsyncIterator[Direct]:
        if target.name in self._away or target.name not in self._members:
            raise Unreachable(f"{target.name} is away")
        other = self._members[target.name]
        yield Direct(self, target.name, other.gate, other.view)


@dataclass
class Member:
    view: View
    store: SharedStore
    gate: Gate
    moves: Moves
    left: list[tuple]


def view_of(name: str) -> View:
    world = World(seed=2)
    assert world.run(lambda: world.round is not None and world.round.phase == "deliver")
    world.run(lambda: world.hosts[name].seen >= world.ledger.height)
    view = world.hosts[name].memory.view
    assert view is not None
    update = replace(
        view.updates[SENDER], digest=tx.update_digest(view.genesis, 1, SENDER, PLAIN[:SALT], Blob.of(PLAIN[SALT:]).id)
    )
    return replace(view, updates={**view.updates, SENDER: update})


@contextlib.asynccontextmanager
async def federation(folder: Path, away: set[str]) -> AsyncIterator[dict[str, Member]]:
    """Give four seats and a contributor; those in `away` are not reached, as long as they are there."""
    members: dict[str, Member] = {}
    async with contextlib.AsyncExitStack() as stack:
        for name in SEALING:
            view = view_of(name)
            place = folder / name
            place.mkdir()
            store = SharedStore(BlobStore(place / "core", 1 << 30))
            kept = stack.enter_context(BlobStore(place / "gate", 1 << 30))
            gate = Gate(kept)
            stack.callback(gate.close)
            stack.callback(store.close)
            local = LocalServer(gate)
            await local.start(place / SOCKET)
            stack.push_async_callback(local.close)
            left: list[tuple] = []
            asks = Asks(name, view.genesis, members, away)
            moves = Moves(
                view.genesis,
                name,
                key_of(name),
                SEALING[name],
                store,
                asks,
                place / SOCKET,
                lambda *what, left=left: left.append(what),
            )
            peers = {
                one: Peer(peer.key, (), "seat" if one in view.seated else "member") for one, peer in view.peers.items()
            }
            expected = {(view.round.number, one): 1 << 24 for one in view.updates} if view.round else {}
            gate.standing = Standing(view.genesis, name, view.height, 100, peers, expected, moves.card)
            members[name] = Member(view, store, gate, moves, left)
        yield members


def offered(view: View, publics: dict[str, bytes], plain: bytes = PLAIN) -> tuple[Offer, bytes]:
    """Return the contributor's signed offer of an update sealed to these keys, and its ciphertext."""
    assert view.round is not None
    number = view.round.number
    sealed = seal(plain, publics, context(view.genesis, number, SENDER))
    made = leaves(sealed.ciphertext)
    offer = Offer(view.genesis, number, SENDER, Blob.of(sealed.ciphertext), made, sealed.wraps)
    return offer.signed(key_of(SENDER)), sealed.ciphertext


async def bring(member: Member, offer: Offer, ciphertext: bytes, chunks: int | None = None) -> None:
    """Bring a sealed update to a member's gate, or some chunks of it."""
    session = Direct(Asks(SENDER, member.view.genesis, {}, set()), member.view.me, member.gate, member.view)
    for number in (await session.offer(offer.to_bytes()))[:chunks]:
        await session.put(offer.round, SENDER, number, ciphertext[number * CHUNK : (number + 1) * CHUNK])
