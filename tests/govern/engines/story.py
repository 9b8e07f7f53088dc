"""A chain to drive engines with: rounds, a fault, a change of keys and of stakes, over three terms."""

from functools import lru_cache

from fedmeta.govern.wire import transactions as tx
from fedmeta.govern.wire.signatures import digest
from tests.govern.playing import Play, consensus_key, key

LIE = digest(b"a lie")


@lru_cache(maxsize=1)
def story() -> Play:
    """Return the chain once it has been played; nothing in it was refused."""
    play = Play()
    play.must(("hal", tx.Delegate("eve", 4_000)), ("ivy", tx.Redelegate("bob", "cat", 200)))
    play.round()
    rotate(play, "ann")
    set_machine_key(play, "cat")
    play.must(("ann", consensus_key("ann", play.genesis)))
    play.must(("hal", tx.Undelegate("ann", 300)), ("joy", tx.Claim()))
    lie(play, "bob")
    play.round()
    play.wait_until(85)
    return play


def rotate(play: Play, name: str) -> None:
    """Let a member sign with a new key from the next block on."""
    new = key(f"{name}, later")
    play.must((name, tx.RotateKey(new.public, new.sign(tx.possession(play.genesis.digest, name, new.public)))))
    play.keys[name] = new


def set_machine_key(play: Play, name: str) -> None:
    """Let a machine's key sign for a member in rounds from the next block on."""
    new = key(f"{name}'s machine")
    play.must((name, tx.SetMachineKey(new.public, new.sign(tx.possession(play.genesis.digest, name, new.public)))))
    play.machines[name] = new


def lie(play: Play, name: str) -> None:
    """Play a round in which a seat opens another result than all others."""
    play.round(results={name: LIE})
