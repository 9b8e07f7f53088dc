"""How a core moves blobs: updates sealed to seats, and models, between its own store, its gate and others' gates."""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from fedmeta.govern.errors import Malformed
from fedmeta.govern.wire import codec
from fedmeta.govern.wire import transactions as tx
from fedmeta.govern.wire.signatures import Key, digest, tagged
from fedmeta.node.errors import (
    MemberError,
    MessageRefused,
    NotKept,
    RequestRefused,
    SealError,
    Unreachable,
)
from fedmeta.node.process.shared import SharedStore
from fedmeta.node.reducer import View
from fedmeta.node.reducer.view import Peer
from fedmeta.node.transport.gate import OFFER, WRAPS, procedure_name, update_name
from fedmeta.node.transport.local import LocalGate
from fedmeta.node.transport.peer import Client, Target, pull, pull_model, push
from fedmeta.node.wire.cards import Card
from fedmeta.node.wire.chunks import CHUNK, Blob, check_chunk, leaves
from fedmeta.node.wire.offers import Offer, check_wraps
from fedmeta.node.wire.sealing import SealKey, rewrap, seal, unseal

SALT = 32
"""Bytes of the salt before an update's bytes, in the store and under the seal."""

SCORING = "scoring/"
"""What begins the store's names of what scoring keeps."""

ASKED = 10.0
"""Seconds in which the seats' cards are asked for before an update is sealed to those who have answered."""

Record = Callable[[str, str, str, int, bytes, int | None, str], None]
"""Notes what is about to leave: to whom, what, detail, bytes, digest, round, why."""


def own_name(round: int, member: str) -> str:
    """Return the store's name of an update that is opened, under the round that its commitment is bound to."""
    return f"update/{round}/{member}"


def model_name(model: bytes) -> str:
    """Return the store's name of a model."""
    return f"model/{model.hex()}"


def scoring_name(recipe: bytes) -> str:
    """Return the store's name of what the scoring of a recipe's rounds keeps for the next."""
    return f"{SCORING}{recipe.hex()}"


def context(genesis: bytes, round: int, member: str) -> bytes:
    """Return what an update is sealed for, 32 bytes: it opens as no other's, and for no other round."""
    return tagged("update-seal", genesis, round.to_bytes(8, "big"), member.encode())


class Opened(NamedTuple):
    """Another's update, opened."""

    offer: Offer
    plain: bytes
    """Salt and message."""
    wrap: bytes
    """The wrap by which it opened."""
    pieces: Mapping[int, bytes]
    """The chunks of the ciphertext, by their numbers."""


class Moves:
    """Everything that goes out of or comes into a core in pieces.

    Args:
        genesis: The genesis' digest.
        name: The member.
        key: The machine's key.
        sealing: The key that blobs are sealed to.
        store: The core's own blobs.
        client: Asks others' gates.
        gate: The socket of the node's own gate; None for who has none.
        record: Notes what leaves.
    """

    def __init__(
        self,
        genesis: bytes,
        name: str,
        key: Key,
        sealing: SealKey,
        store: SharedStore,
        client: Client,
        gate: Path | None,
        record: Record,
    ):
        self.genesis, self.name = genesis, name
        self._key, self._sealing, self._store, self._client = key, sealing, store, client
        self._gate, self._record = gate, record
        self._cards: dict[tuple[str, bytes], Card] = {}
        self._sealed: dict[int, asyncio.Lock] = {}
        self._wraps: dict[tuple[int, str], bytes] = {}
        """By which wrap each update has opened, by the round that it is bound to and its member."""
        self._wrapped: dict[tuple[int, str], frozenset[str]] = {}
        """For which seats the key of each update was wrapped again."""

    @property
    def card(self) -> bytes:
        """What the node says of itself."""
        return Card(self.genesis, self.name, self._sealing.public).signed(self._key).to_bytes()

    # An update goes out.

    async def push(self, view: View, round: int, origin: int, seat: str) -> None:
        """Bring one's update to a seat's gate, sealed to the round's seats."""
        offer, ciphertext = await self._sealed_update(view, round, origin)
        why = f"the update of {self.name} for round {round}, sealed to its seats"
        size = offer.blob.length
        # What lies at one's own gate leaves when seats come for it.
        to = f"seats that come to {self.name}" if seat == self.name else seat
        self._record(to, "offer", f"to {len(offer.wraps)} seats", len(offer.to_bytes()), offer.digest(), round, why)
        self._record(to, "chunks", f"0-{offer.blob.chunks - 1}", size, offer.blob.root, round, why)
        if seat == self.name:
            await self._keep(offer, {at: ciphertext[at * CHUNK : (at + 1) * CHUNK] for at in range(offer.blob.chunks)})
            return

        async def read(number: int) -> bytes:
            return ciphertext[number * CHUNK : (number + 1) * CHUNK]

        await push(self._client, self._target(view, seat), offer, read)

    async def _sealed_update(self, view: View, round: int, origin: int) -> tuple[Offer, bytes]:
        """Return the offer and the ciphertext of one's update for a round: made once, and kept."""
        assert view.round is not None
        name, bound = f"sealed/{origin}", context(self.genesis, origin, self.name)
        seats = [one.candidate for one in view.round.seats]
        async with self._sealed.setdefault(origin, asyncio.Lock()):
            if self._store.complete(name):
                kept = self._store.attachment(name, OFFER)
                if kept is not None:
                    offer = await self._for_all(view, Offer.from_bytes(kept), name, seats)
                    return offer, await asyncio.to_thread(self._store.read, name)
                self._store.delete(name)
            plain = await asyncio.to_thread(self._store.read, own_name(origin, self.name))
            publics = await self._publics(view, seats)
            if not publics:
                raise Unreachable("no seat of the round shows a card that its update could be sealed to")
            # Also to oneself, so that it can be sealed later to seats that cannot be asked now, or that come later.
            publics[self.name] = self._sealing.public
            sealed = await asyncio.to_thread(seal, plain, publics, bound)
            made = await asyncio.to_thread(leaves, sealed.ciphertext)
            blob = await asyncio.to_thread(self._store.write, name, sealed.ciphertext)
            offer = Offer(self.genesis, origin, self.name, blob, made, sealed.wraps)
            self._store.attach(name, OFFER, offer.signed(self._key).to_bytes())
            return offer.signed(self._key), sealed.ciphertext

    async def _for_all(self, view: View, offer: Offer, name: str, seats: list[str]) -> Offer:
        """Return an offer with wraps for all seats that can be asked now; the ciphertext stays as it is."""
        lacking = [one for one in seats if one not in offer.wraps]
        publics = await self._publics(view, lacking) if lacking else {}
        if publics:
            bound = context(self.genesis, offer.round, self.name)
            more = rewrap(offer.wraps[self.name], self._sealing, publics, bound)
            offer = replace(offer, wraps={**offer.wraps, **more})
            self._store.attach(name, OFFER, offer.signed(self._key).to_bytes())
        # A new machine key signs anew.
        return offer.signed(self._key)

    async def _publics(self, view: View, seats: list[str]) -> dict[str, bytes]:
        """Return the keys of those seats that can be asked for their cards now, or were before."""
        found: dict[str, bytes] = {}

        async def ask(seat: str) -> None:
            with contextlib.suppress(MemberError):
                found[seat] = (await self.card_of(view, seat)).public

        await asyncio.gather(*(asyncio.wait_for(ask(seat), ASKED) for seat in seats), return_exceptions=True)
        return found

    async def card_of(self, view: View, member: str) -> Card:
        """Return a member's card, checked by its machine's key on the ledger."""
        if member == self.name:
            return Card(self.genesis, self.name, self._sealing.public)
        peer = self._peer(view, member)
        key = member, peer.key
        if key not in self._cards:
            async with self._client.session(self._target(view, member)) as session:
                data = await session.card()
            self._cards[key] = Card.read(data, self.genesis, member, peer.key)
        return self._cards[key]

    # Updates come in.

    async def take(self, view: View, round: int, member: str) -> Opened:
        """Return an update that lies at one's gate, opened.

        Raises:
            MessageRefused: what lies there does not open here: another seat may have it as it must be.
            BlobCorrupt, NotKept: it does not lie there as it came.
        """
        name = update_name(round, member)
        async with self._own_gate() as gate:
            kept = await gate.attachment(name, OFFER)
            if kept is None:
                raise MessageRefused(f"no offer of {member} for round {round} is at the gate")
            offer = Offer.from_bytes(kept)
            offer.check(self._peer(view, member).key)
            pieces = {number: await gate.chunk(name, number) for number in range(offer.blob.chunks)}
        for number, piece in pieces.items():
            await asyncio.to_thread(check_chunk, offer.blob, offer.leaves, number, piece)
        found = await asyncio.to_thread(self._open, offer, pieces, {})
        if found is None:
            # Who has sealed it otherwise to others must not keep this seat from it: a holder wraps it again.
            raise MessageRefused(f"the update of {member} at the gate is not sealed to this seat")
        return found

    async def pull(self, view: View, round: int, member: str, source: str) -> Opened:
        """Fetch a sealed update from another seat's gate, and return it opened."""
        target = self._target(view, source)
        async with self._client.session(target) as session:
            kept = await session.update(round, member)
        offer = kept.offer
        if (offer.genesis, offer.round, offer.member) != (self.genesis, round, member):
            raise MessageRefused(f"{source} gives the offer of another update")
        offer.check(self._peer(view, member).key)
        if kept.missing:
            raise Unreachable(f"{source} has not all of the update of {member} yet")
        pieces: dict[int, bytes] = {}

        async def write(number: int, data: bytes) -> None:
            pieces[number] = data

        left = await pull(self._client, target, offer, range(offer.blob.chunks), write)
        if left:
            raise Unreachable(f"{source} has not all of the update of {member} yet")
        found = await asyncio.to_thread(self._open, offer, pieces, _wraps(kept.wraps))
        if found is None:
            raise Unreachable(f"{source} has not wrapped the update of {member} for this seat yet")
        return found

    async def keep(self, opened: Opened) -> None:
        """Keep a sealed update at one's own gate, from where others pull it.

        What the gate has under its name and is another ciphertext gives way: this one opens what was committed to.
        """
        await self._keep(opened.offer, opened.pieces)
        self.opened(opened)

    def opened(self, opened: Opened) -> None:
        """Remember by which wrap an update has opened as it must, so that it is passed on."""
        key = opened.offer.round, opened.offer.member
        self._wraps[key] = opened.wrap
        self._wrapped.pop(key, None)

    async def _keep(self, offer: Offer, pieces: Mapping[int, bytes]) -> None:
        async with self._own_gate() as gate:
            name = update_name(offer.round, offer.member)
            try:
                missing = await gate.begin(name, offer.blob, offer.leaves)
            except RequestRefused as refusal:
                if refusal.code != "other-offer":
                    raise
                await gate.delete(name)
                missing = await gate.begin(name, offer.blob, offer.leaves)
            await gate.attach(name, OFFER, offer.to_bytes())
            for number in missing:
                await gate.put(name, number, pieces[number])

    def _open(self, offer: Offer, pieces: Mapping[int, bytes], others: Mapping[str, bytes]) -> Opened | None:
        """Return an update opened by another holder's wrap or its sender's, or None where none of them opens it."""
        bound = context(self.genesis, offer.round, offer.member)
        ciphertext = b"".join(pieces[number] for number in range(offer.blob.chunks))
        for wrap in (one[self.name] for one in (others, offer.wraps) if self.name in one):
            with contextlib.suppress(SealError):
                return Opened(offer, unseal(ciphertext, wrap, self._sealing, bound), wrap, pieces)
        return None

    async def pass_on(self, view: View, held: Mapping[str, int]) -> None:
        """Wrap the keys of updates that are held again for the round's seats, as far as their cards can be had now.

        `held` has the round that each update is bound to, by its member.

        Also for those to whom its sender has sealed it: whether their wraps open, only they can tell. To be called
        again and again: who cannot be asked now may be there later.
        """
        round = view.live
        if round is None:
            return
        live = {(one.origin, member) for member, one in view.updates.items()}
        self._wraps = {key: wrap for key, wrap in self._wraps.items() if key in live}
        seats = {one.candidate for one in round.seats}
        # What was wrapped for the seats of an earlier round may not be for these.
        self._wrapped = {key: done & seats for key, done in self._wrapped.items() if key in live}
        open_ = [one for one in sorted(held) if self._wrapped.get((held[one], one)) != seats - {one}]
        if not open_:
            return
        publics = await self._publics(view, sorted(seats))
        async with self._own_gate() as gate:
            for member in open_:
                to = {name: public for name, public in publics.items() if name != member}
                if frozenset(to) - self._wrapped.get((held[member], member), frozenset()):
                    await self._wrap_again(gate, held[member], member, to)

    async def _wrap_again(self, gate: LocalGate, round: int, member: str, publics: Mapping[str, bytes]) -> None:
        name = update_name(round, member)
        if await gate.blob(name) is None or (kept := await gate.attachment(name, OFFER)) is None:
            return
        offer, bound = Offer.from_bytes(kept), context(self.genesis, round, member)
        # Also by the wrap that this seat has made for itself, of the one by which the update opened.
        known = self._wraps.get((round, member)), _wraps(await gate.attachment(name, WRAPS) or b"").get(self.name)
        for wrap in (*known, offer.wraps.get(self.name)):
            if wrap is not None:
                with contextlib.suppress(SealError):
                    made = rewrap(wrap, self._sealing, publics, bound)
                    why = f"the update of {member}"
                    self._record("gate", "wraps", f"{len(made)} seats", 0, offer.digest(), round, why)
                    await gate.rewrap(round, member, codec.encode(made))
                    self._wrapped[round, member] = frozenset(made)
                    return

    # Models.

    async def fetch_model(self, view: View, model: bytes, source: str) -> None:
        """Fetch a model from a member's gate into one's store; chunks that came before are not fetched again."""
        name = model_name(model)

        async def begin(blob: Blob, found: bytes) -> list[int]:
            if self._store.blob(name) is None:
                self._store.begin(name, blob, found)
            return self._store.missing(name)

        async def write(number: int, data: bytes) -> None:
            await asyncio.to_thread(self._store.put, name, number, data)

        await pull_model(self._client, self._target(view, source), model, begin, write)

    async def publish(self, model: bytes) -> None:
        """Give a model to one's gate, for those who fetch it."""
        if self._gate is None:
            return
        name = model_name(model)
        blob = self._store.blob(name)
        if blob is None:
            raise NotKept(f"there is no model {model.hex()}")
        async with self._own_gate() as gate:
            for number in await gate.begin(name, blob, self._store.leaves(name)):
                await gate.put(name, number, await asyncio.to_thread(self._store.chunk, name, number))

    async def publish_procedure(self, content: bytes) -> None:
        """Give the bytes of a procedure that was approved here to one's gate, for those who are to approve it, too."""
        if self._gate is None or len(content) > CHUNK:
            return
        async with self._own_gate() as gate:
            name = procedure_name(digest(content).hex())
            for number in await gate.begin(name, Blob.of(content), leaves(content)):
                await gate.put(name, number, content)

    async def forget_models(self, keep: frozenset[bytes]) -> None:
        """Take all models but these from store and gate."""
        kept = {model_name(one) for one in keep}
        for name in self._store.names():
            if name.startswith("model/") and name not in kept:
                self._store.delete(name)
        if self._gate is not None:
            async with self._own_gate() as gate:
                names, _, _ = await gate.room()
                for name in names:
                    if name.startswith("model/") and name not in kept:
                        await gate.delete(name)

    async def forget_rounds(self, before: int, keep: frozenset[int]) -> None:
        """Take the updates of rounds before one from store and gate, but for one's own of some rounds."""
        for name in self._store.names():
            kind, _, rest = name.partition("/")
            if kind not in ("update", "sealed"):
                continue
            round = int(rest.partition("/")[0])
            if round < before and round not in keep:
                self._store.delete(name)
        self._sealed = {round: lock for round, lock in self._sealed.items() if round >= before}
        if self._gate is not None:
            async with self._own_gate() as gate:
                await gate.drop(before, keep)

    # Where others are.

    def _peer(self, view: View, member: str) -> Peer:
        peer = view.peers.get(member)
        if peer is None:
            raise Unreachable(f"{member!r} is no member of the ledger any more")
        return peer

    def _target(self, view: View, member: str) -> Target:
        peer = self._peer(view, member)
        return Target(member, tuple(peer.address.replace(",", " ").split()), peer.fingerprints)

    def _own_gate(self) -> "_Opened":
        if self._gate is None:
            raise Unreachable("this node has no gate: its role in node.toml is contributor")
        return _Opened(self._gate)


class _Opened:
    """A connection to the own gate, for as long as it is needed."""

    def __init__(self, path: Path):
        self._path = path
        self._gate: LocalGate | None = None

    async def __aenter__(self) -> LocalGate:
        self._gate = await LocalGate.open(self._path)
        return self._gate

    async def __aexit__(self, *_: object) -> None:
        assert self._gate is not None
        self._gate.close()


def _wraps(data: bytes) -> dict[str, bytes]:
    if not data:
        return {}
    try:
        found = codec.decode(data)
        check_wraps(found)
    except Malformed:
        return {}
    return found


def opens(view: View, origin: int, member: str, commitment: bytes, plain: bytes) -> None:
    """Raise `MessageRefused` unless salt and message are what a member has committed to."""
    if len(plain) <= SALT:
        raise MessageRefused(f"the update of {member} has {len(plain)} bytes")
    found = tx.update_digest(view.genesis, origin, member, plain[:SALT], Blob.of(plain[SALT:]).id)
    if found != commitment:
        raise MessageRefused(f"what came is not what {member} has committed to")
