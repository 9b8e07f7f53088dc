"""Hosts that can be cut from each other: network namespaces (`ip netns`), joined by a router that forgets packets."""

import contextlib
import itertools

from tests.govern.cometbft.network import Place
from tests.node.process.networks import WORLD, Networks

_PREFERENCE = "100"


class Partitions:
    """`places` for a `Network`, and the router between them."""

    def __init__(self, made, count):
        self._made = made
        self._rules = []
        made.space(WORLD)
        made.forward(WORLD)
        self.places = []
        for number in range(count):
            space = made.space(f"fm-v{number}")
            made.cable(
                (WORLD, f"fm-wv{number}", f"10.78.{number}.1/24"), (space, f"fm-vw{number}", f"10.78.{number}.2/24")
            )
            made.route(space, "default", "via", f"10.78.{number}.1")
            self.places.append(Place(f"10.78.{number}.2", ("ip", "netns", "exec", space)))

    def cut(self, *sides):
        """Let no packet pass between any two sides, each a list of numbers of places."""
        for one, other in itertools.permutations(sides, 2):
            for here, there in itertools.product(one, other):
                rule = ("pref", _PREFERENCE, "iif", f"fm-wv{here}", "to", f"10.78.{there}.0/24", "blackhole")
                self._made.inside(WORLD, "ip", "rule", "add", *rule)
                self._rules.append(rule)

    def heal(self):
        """Let all packets pass again."""
        while self._rules:
            self._made.inside(WORLD, "ip", "rule", "del", *self._rules.pop())


@contextlib.contextmanager
def parted(count):
    """Yield `Partitions` for so many hosts; afterwards nothing of them is left. Only root can have them."""
    with Networks() as made:
        yield Partitions(made, count)
