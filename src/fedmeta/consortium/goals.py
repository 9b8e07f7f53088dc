"""What was to be shown, and whether it was: goals that were set before anything was measured."""

from collections.abc import Mapping

from fedmeta.consortium.methods import HEADLINE, TITLES
from fedmeta.consortium.results import Goal, Row, Table
from fedmeta.consortium.scores import DASH, Interval

POINTS = 0.03
"""How far a newcomer's accuracy must be above what it has alone."""

PATIENTS = 10
ADAPTED = tuple(name for name in TITLES if name != "fedavg")


def goals(titles: Mapping[str, str], members: Table, newcomer: Table) -> tuple[Goal, ...]:
    """Return the three goals, each with its figures.

    Args:
        titles: the hospitals' names for people, by name.
        members: what the four have together.
        newcomer: what a newcomer has with `PATIENTS` patients.
    """
    return _accuracy(titles, newcomer), _auroc(titles, newcomer), _members(titles, members)


def points(figure: Interval, sign: bool = True) -> str:
    """Return a share, or a difference of shares, in points, with its interval."""
    one, low, high = (f"{100 * part:{'+' if sign else ''}.1f}" for part in figure)
    return f"{one} ({low} to {high})"


def hundredths(figure: Interval) -> str:
    """Return a difference of AUROC with its interval; a dash where it is not defined."""
    return DASH if figure.value != figure.value else "{:+.3f} ({:+.3f} to {:+.3f})".format(*figure)


def _accuracy(titles: Mapping[str, str], table: Table) -> Goal:
    alone, row = table[table.reference], table[HEADLINE]
    ahead = row.ahead[table.reference]
    each = ", ".join(f"{title} {points(ahead[name]['accuracy'])}" for name, title in titles.items())
    rest = ", ".join(f"{one.title} {points(one.ahead[table.reference]['mean']['accuracy'])}" for one in _others(table))
    value, usual = ahead["mean"]["accuracy"], table["alone"].mean["accuracy"].value
    less = row.mean["accuracy"].value - usual
    beside = "" if alone.name == "alone" else f"Cross-validated, it has {100 * usual:.1f} % alone ({100 * less:+.1f}). "
    return Goal(
        f"A newcomer with {PATIENTS} patients: accuracy at least {100 * POINTS:.0f} points above what it has alone, in "
        "the mean of the four",
        value.value >= POINTS,
        f"{row.title} {100 * row.mean['accuracy'].value:.1f} %, best alone ({alone.title}) "
        f"{100 * alone.mean['accuracy'].value:.1f} %: {points(value)} points. {beside}{each}. "
        f"The other algorithms: {rest or DASH}.",
    )


def _auroc(titles: Mapping[str, str], table: Table) -> Goal:
    others, row = table["others"], table[HEADLINE]
    ahead = row.ahead["others"]
    each = ", ".join(f"{title} {hundredths(ahead[name]['auroc'])}" for name, title in titles.items())
    rest = ", ".join(f"{one.title} {hundredths(one.ahead['others']['mean']['auroc'])}" for one in _others(table))
    value = ahead["mean"]["auroc"]
    return Goal(
        f"A newcomer with {PATIENTS} patients: AUROC not below that of the other three pooled, beyond the interval, in "
        "the mean of the four",
        value.high >= 0,
        f"{row.title} {row.mean['auroc'].value:.3f}, the other three pooled {others.mean['auroc'].value:.3f}: "
        f"{hundredths(value)}. {each}. The other algorithms: {rest or DASH}.",
    )


def _others(table: Table) -> list[Row]:
    """Return the rows of the other algorithms that adapt."""
    return [row for row in table.rows if row.name in ADAPTED and row.name != HEADLINE]


def _members(titles: Mapping[str, str], table: Table) -> Goal:
    ahead = table[HEADLINE].ahead["alone"]
    worse = [
        f"{title} in {words}"
        for name, title in titles.items()
        for metric, words in (("accuracy", "accuracy"), ("auroc", "AUROC"))
        if ahead[name][metric].high < 0
    ]
    each = "; ".join(
        f"{title} {points(ahead[name]['accuracy'])} points and AUROC {hundredths(ahead[name]['auroc'])}"
        for name, title in titles.items()
    )
    found = f"Worse off beyond the interval: {', '.join(worse)}" if worse else "Nobody is worse off beyond the interval"
    return Goal(
        "The four members: nobody worse off than alone, beyond the interval, in accuracy or in AUROC",
        not worse,
        f"{found}. {table[HEADLINE].title} against alone: {each}.",
    )
