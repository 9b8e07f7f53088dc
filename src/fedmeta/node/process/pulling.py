"""The latest final model, and procedures, fetched for a person: from this node's own disk, or from others' gates.

It works beside a running node. Its store is locked by the core, but to read it needs no lock: every chunk is checked,
and the whole by the digest that the ledger has. Others' gates are asked in the member's name, by its machine's key.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, TypeVar

from fedmeta.errors import UsageError
from fedmeta.govern.client import keyfile
from fedmeta.govern.client.follower import Follower
from fedmeta.govern.state.records import Recipe, Round
from fedmeta.node.disk.peek import peek
from fedmeta.node.errors import MemberError, NotApproved, NothingFinal, Unreachable
from fedmeta.node.member import reaching
from fedmeta.node.member.approvals import Approvals
from fedmeta.node.member.config import Config
from fedmeta.node.member.folder import Folder
from fedmeta.node.member.outbox import Outbox
from fedmeta.node.process.following import catch_up
from fedmeta.node.process.moves import model_name
from fedmeta.node.reducer import View, look
from fedmeta.node.transport.dialling import Dialler
from fedmeta.node.transport.peer import Client, Target, pull_model
from fedmeta.node.wire.chunks import CHUNK, Blob

T = TypeVar("T")

TRIES = 2
"""How often a gate is tried before the next one is."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """A model's bytes as the ledger has it: the latest of its recipe."""

    recipe: bytes
    procedure: bytes
    """The procedure's bytes."""
    model: bytes
    """Its digest, the id of the blob of `state`."""
    state: bytes
    height: int
    """Of the block after which it was the latest."""
    source: str
    """From where it came: `this node`, or a member."""


def fetch_latest(config: Config, recipe: bytes | None) -> Fetched:
    """Return the latest final model of a recipe: of the one that is approved here, if none is named.

    Raises:
        UsageError: none is named, and there is not exactly one that is approved.
        NotApproved: the ledger has no such recipe.
        NothingFinal: no round of it is final yet.
        Unreachable: neither the ledger nor anyone who has the model can be reached; the message says why of each.
        ProofError: the ledger shows what cannot be.
    """
    with reaching.first(config) as client:
        follower = catch_up(config, client)
        digest, said = recipe, None
        while True:
            view = look(follower.state, config.member, follower.header_hash)
            digest = digest or _approved(config, view)
            found = view.recipes.get(digest)
            if found is None:
                known = ", ".join(one.hex() for one in view.recipes) or "none"
                raise NotApproved(f"the ledger has no recipe {digest.hex()}: it has {known}")
            if said is not None and said[0] == found.model:
                raise said[1]
            _check_final(follower, found)
            try:
                state, source = _state(config, view, found.model)
                return Fetched(digest, procedure_of(config, digest, view), found.model, state, view.height, source)
            except Unreachable as error:
                # Gates keep the latest model alone, and a round may have become final in the meantime.
                said = found.model, error
                follower = catch_up(config, client, follower)


def _state(config: Config, view: View, model: bytes) -> tuple[bytes, str]:
    """Return a model's bytes, and from where they came."""
    own = peek(Folder(config.folder).core / "blobs", model_name(model))
    if own is not None and Blob.of(own).id == model:
        return own, "this node"
    return _ask_all(config, view, f"model {model.hex()}", model, _Model(model).fetch)


def procedure_of(config: Config, digest: bytes, view: View | None = None) -> bytes:
    """Return the bytes of a procedure: those that are kept here, or what a seat's gate gives, checked by its digest.

    Raises:
        Unreachable: nobody who has it can be reached; the message says why of each.
        ProofError: the ledger shows what cannot be.
    """
    file = Folder(config.folder).procedure(digest)
    if file.is_file():
        return file.read_bytes()
    if view is None:
        with reaching.first(config) as client:
            follower = catch_up(config, client)
        view = look(follower.state, config.member, follower.header_hash)

    async def fetch(client: Client, target: Target) -> bytes:
        async with client.session(target) as session:
            return await session.procedure(digest)

    return _ask_all(config, view, f"procedure {digest.hex()}", digest, fetch)[0]


def _approved(config: Config, view: View) -> bytes:
    latest = Approvals(Folder(config.folder).approvals).latest()
    found = [one for one, approval in latest.items() if approval.holds(date.today()) and one in view.recipes]
    if len(found) != 1:
        said = (
            f"{len(found)} recipes of the ledger are approved here" if found else "no recipe of the ledger is approved"
        )
        raise UsageError(
            f"{said}: say which with --recipe, of {', '.join(one.hex() for one in view.recipes) or 'none'}"
        )
    return found[0]


def _check_final(follower: Follower, recipe: Recipe) -> None:
    """Raise `NothingFinal` where the ledger shows that the recipe's model is still its first one."""
    rounds = follower.state.all(Round)
    # The ledger forgets rounds; then only the model itself says how many it is of.
    complete = not recipe.round or rounds[0].number == 1
    rounds = [one for one in rounds if one.recipe == recipe.digest]
    if complete and not any(one.phase == "final" for one in rounds):
        latest = next((one for one in rounds if one.number == recipe.round), None)
        now = f"round {latest.number} is in phase {latest.phase}" if latest else "no round was scheduled"
        raise NothingFinal(f"no round of recipe {recipe.digest.hex()} is final yet: {now}; try again later")


class _Model:
    """A model on its way; chunks that one gate gave are not asked of the next."""

    def __init__(self, model: bytes):
        self._model = model
        self._pieces: dict[int, bytes] = {}

    async def fetch(self, client: Client, target: Target) -> bytes:
        async def begin(blob: Blob, _: bytes) -> Iterable[int]:
            return [number for number in range(blob.chunks) if number not in self._pieces]

        async def write(number: int, data: bytes) -> None:
            self._pieces[number] = data

        blob = await pull_model(client, target, self._model, begin, write, tries=TRIES)
        state = b"".join(self._pieces[number] for number in range(blob.chunks))
        assert len(state) <= blob.chunks * CHUNK
        return state


def _ask_all(
    config: Config, view: View, what: str, digest: bytes, fetch: Callable[[Client, Target], Awaitable[T]]
) -> tuple[T, str]:
    """Return what the first gate gives that can, and whose it is: who has opened the latest result is asked first."""
    key = keyfile.load(config.path(config.keys.machine))
    dialler = Dialler(config.route, known=lambda: view.has_tls_key)
    client = Client(dialler, config.ledger.genesis, config.member, key, lambda: view.height)
    outbox = Outbox(Folder(config.folder).outbox)

    async def ask() -> tuple[T, str]:
        reasons = []
        for target in _targets(view):
            outbox.record(
                to=target.name, what="request", size=0, digest=digest, why="a person asked for it", detail=what
            )
            try:
                return await fetch(client, target), target.name
            except MemberError as error:
                reasons.append(f"{target.name}: {error}")
        raise Unreachable(f"{what} is at no gate that can be reached: {'; '.join(reasons) or 'no seat listens'}")

    return asyncio.run(ask())


def _targets(view: View) -> Sequence[Target]:
    opened = [name for name, one in view.attestations.items() if one.revealed]
    names = dict.fromkeys([*sorted(opened), *sorted(view.opened_before), *sorted(view.seated)])
    peers = [view.peers[one] for one in names if one in view.peers and one != view.me]
    return [
        Target(one.name, tuple(one.address.replace(",", " ").split()), one.fingerprints) for one in peers if one.address
    ]


def save_run(fetched: Fetched, genesis: bytes, out: Path) -> int:
    """Write a model as a run's folder, from which `fedmeta adapt` and `predict` go on; return its rounds.

    A folder that was pulled before takes the newer model in the place of the older one.

    Raises:
        NothingFinal: the model is one before any round.
        RunError, CheckpointError: the folder holds something else, or cannot be written.
        DataError: the state is not of the procedure's form.
    """
    from fedmeta.node.aggregation import Exact
    from fedmeta.runs.folder import RunFolder
    from fedmeta.runs.former import without_rounds
    from fedmeta.runs.procedure import Procedure

    procedure = Procedure.from_bytes(fetched.procedure)
    state = Exact(procedure).read_state(fetched.state)
    rounds = int(state.round)
    if not rounds:
        raise NothingFinal(f"no round of recipe {fetched.recipe.hex()} is final yet: its model is the first one")
    settings: dict[str, Any] = {
        "run": {
            "rounds": procedure.rounds,
            "cohort_size": procedure.cohort_size,
            "support": procedure.support,
            "seed": procedure.seed,
            "data_sha256": "",
        },
        "recipe": {"procedure": without_rounds(procedure)},
        "federation": {"genesis": genesis.hex(), "recipe": fetched.recipe.hex()},
    }
    said = f"pulled from a federation: model {fetched.model.hex()}, the latest at height {fetched.height}"
    with RunFolder(out, settings) as folder:
        folder.save_result(state.phi, rounds=rounds, stopped=said)
    return rounds
