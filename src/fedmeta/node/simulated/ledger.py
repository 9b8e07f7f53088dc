"""The ledger of a simulated federation: the real rules, and a sequencer that can be stopped."""

from collections.abc import Sequence

from fedmeta.govern.engines.memory import MemoryEngine
from fedmeta.govern.errors import Refused
from fedmeta.govern.machine.genesis import (
    FirstCandidate,
    FirstMember,
    FirstRecipe,
    FirstRegistration,
    Genesis,
)
from fedmeta.govern.state.state import State
from fedmeta.govern.wire import codec
from fedmeta.govern.wire.signatures import Key, digest

RECIPE = digest(b"recipe of a simulated federation")
TIME = 1_700_000_000_000


def key_of(name: str, generation: int = 0) -> Key:
    """Return a member's key, of the account (0) or of its machine (from 1 on): always the same."""
    return Key.from_seed(digest(f"{name} {generation}".encode()))


def genesis_of(seats: Sequence[str], others: Sequence[str], model: bytes, **parameters: int) -> Genesis:
    """Return the genesis of organisations of one member each: some are elected, and all of them contribute."""
    names = sorted({*seats, *others})
    window = 2 * len(seats) + 10
    values = {
        "super_nodes": len(seats),
        "standbys": 0,
        "max_seat_changes": 10,
        "smallest": 3,
        "cohort_size": len(names),
        "term_length": 10_000,
        "unbonding_blocks": 100_000,
        "round_pool": 1_000,
        "term_budget": 10**9,
        "min_self_stake": 100,
        "jail_blocks": 10,
        "duty_window": 64,
        "duty_misses": 64,
        **{f"{phase}_blocks": window for phase in ("commit", "deliver", "compute", "reveal")},
        **{f"{phase}_seconds": 0 for phase in ("commit", "deliver", "compute", "reveal")},
        **parameters,
    }
    return Genesis(
        chain_id="simulated",
        time=TIME,
        sequencer=key_of("sequencer").public,
        treasury=10**8,
        parameters=values,
        members=tuple(FirstMember(one, f"org-{one}", key_of(one).public, 10_000, one.title(), "") for one in names),
        candidates=tuple(FirstCandidate(one, 100_000, 10_000 + 7 * at) for at, one in enumerate(sorted(seats))),
        recipes=(FirstRecipe(RECIPE, "numbers", model, 1),),
        registrations=tuple(FirstRegistration(one, RECIPE) for one in names),
    )


class SimulatedLedger:
    """Blocks in memory, one after another; what waits for a block is lost when it is stopped."""

    def __init__(self, genesis: Genesis):
        self.name = genesis.digest
        """The digest of the genesis."""
        self.engine = MemoryEngine(genesis, nodes=1)
        self.up = True
        self.skew = 0
        """Milliseconds by which the sequencer's clock is wrong."""
        self.hashes: list[bytes] = [self.name]
        """The hash of each block's header, by height; that of the genesis is its digest."""

    @property
    def state(self) -> State:
        """The committed state."""
        return self.engine.nodes[0].state

    @property
    def height(self) -> int:
        """The height of the last block."""
        return self.engine.height

    def header_hash(self, height: int) -> bytes:
        """Return the hash of a header."""
        return self.hashes[height]

    def submit(self, raw: bytes) -> Refused | None:
        """Take a transaction for the next block, or return why not."""
        try:
            self.engine.submit(raw)
        except Refused as refusal:
            return refusal
        return None

    def produce(self, time: int) -> bool:
        """Make a block if the sequencer is up, also an empty one: windows close by blocks."""
        if not self.up:
            return False
        block = self.engine.produce(TIME + time + self.skew, empty=True)
        assert block is not None
        # What a header is a digest of, as far as a simulation needs it.
        self.hashes.append(digest(codec.encode([self.hashes[-1], block.height, block.time, self.engine.app_hash])))
        return True

    def stop(self) -> None:
        """Stop the sequencer: what waits for a block is forgotten."""
        self.up = False
        self.engine._pool.clear()
        self.engine.nodes[0].recheck(())
