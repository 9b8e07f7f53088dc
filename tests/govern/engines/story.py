"""A chain to drive engines with: rounds, a fault, a change of keys and of stakes, over three terms."""

from functools import lru_cache

from fedmeta.govern.wire import transactions as tx
from fedmeta.govern.wire.signatures import digest
from tests.govern.playing import CHAIN, Play, key


@lru_cache(maxsize=1)
def story() -> Play:
    """Return the chain once it has been played; nothing in it was refused."""
    play = Play()
    play.must(("hal", tx.Delegate("eve", 4_000)), ("ivy", tx.Redelegate("bob", "cat", 200)))
    play.round()
    rotate(play, "ann")
    play.must(("hal", tx.Undelegate("ann", 300)), ("joy", tx.Claim()))
    equivocate(play)
    play.round()
    play.wait_until(85)
    return play


def rotate(play: Play, name: str) -> None:
    """Let a member sign with a new key from the next block on."""
    new = key(f"{name}, later")
    proof = new.sign(tx.possession(CHAIN, name, new.public))
    play.must((name, tx.RotateKey(new.public, proof)))
    play.keys[name] = new


def equivocate(play: Play) -> None:
    """Let the leader of the latest round sign two manifests, and be reported."""
    play.to_commit()
    leader, body = play.manifest()
    first = next(raw for raw in play.blocks[-1].transactions)
    other = tx.PostManifest(body.round, body.attempt, body.members, body.aggregate, digest(b"another model"))
    play.must(("joy", tx.ReportManifests(*sorted([first, play.sign(leader, other)]))))
