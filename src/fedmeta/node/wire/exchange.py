"""Who sends what to whom, so that every seat comes to hold every update, without anybody who decides.

A contributor pushes its update to some seats with more than a third of the power. Less than a third may be dishonest,
so an honest one is among them, and from it the others pull what they lack. Contributors begin at seats that are spread
evenly, from one that the round draws; whom a seat asks is drawn by hashes. So the load spreads, and everyone can work
it out. Nothing here is a promise: who deviates costs the others time only.
"""

from collections.abc import Collection, Iterable, Mapping

from fedmeta.govern.wire.signatures import tagged


def pushes(contributor: str, round: int, cohort: Collection[str], powers: Mapping[str, int]) -> tuple[str, ...]:
    """Return the seats to which a contributor pushes first, in order: as many as have more than a third of the power.

    Args:
        contributor: Its name. If it has a seat itself, that seat comes first: it has the update already.
        round: The round's number.
        cohort: The names of all contributors, of which it is one, in any order.
        powers: The power of each of the round's seats, above 0, by name.
    """
    total, reached, chosen = sum(powers.values()), 0, []
    for seat in _order(contributor, round, cohort, powers):
        if 3 * reached > total:
            break
        chosen.append(seat)
        reached += powers[seat]
    return tuple(chosen)


def top_up(
    contributor: str, round: int, cohort: Collection[str], powers: Mapping[str, int], holders: Collection[str]
) -> tuple[str, ...]:
    """Return the seats that lack an update, in the order in which its contributor should push it to them.

    It begins where its pushes ended. A seat that is pulling the update from another may be left out by the caller.

    Args:
        contributor: Its name.
        round: The round's number.
        cohort: The names of all contributors, of which it is one, in any order.
        powers: The power of each of the round's seats, by name.
        holders: The seats that have said that they hold it.
    """
    order = _order(contributor, round, cohort, powers)
    first = len(pushes(contributor, round, cohort, powers))
    return tuple(seat for seat in order[first:] + order[:first] if seat not in holders)


def pulls(seat: str, round: int, lacking: Iterable[str]) -> tuple[str, ...]:
    """Return the contributors whose updates a seat lacks, in the order in which it should pull them: each seat its own.

    Args:
        seat: The seat's name.
        round: The round's number.
        lacking: The contributors' names.
    """
    return tuple(sorted(lacking, key=lambda contributor: _draw("pull", round, seat, contributor)))


def sources(seat: str, contributor: str, round: int, holders: Iterable[str]) -> tuple[str, ...]:
    """Return the seats from which a seat should pull an update, the first one first, and the next where that one fails.

    Args:
        seat: The seat that lacks it; it is not among them.
        contributor: Whose update it is.
        round: The round's number.
        holders: The seats that have said that they hold it.
    """
    others = (holder for holder in holders if holder != seat)
    return tuple(sorted(others, key=lambda holder: _draw("source", round, seat, contributor, holder)))


def _order(contributor: str, round: int, cohort: Collection[str], powers: Mapping[str, int]) -> list[str]:
    """Return all seats: by name, from the contributor's share on, and its own before the others."""
    seats = sorted(powers)
    share = sorted(cohort).index(contributor) * len(seats) // len(cohort)
    first = (int.from_bytes(_draw("push", round), "big") + share) % len(seats)
    turned = seats[first:] + seats[:first]
    return sorted(turned, key=lambda seat: seat != contributor)


def _draw(purpose: str, round: int, *names: str) -> bytes:
    return tagged("exchange", purpose.encode(), round.to_bytes(8, "big"), *(name.encode() for name in names))
