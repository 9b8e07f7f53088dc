"""What a report says in words, from its figures; the page and the terminal say the same."""

from collections.abc import Mapping, Sequence

from fedmeta.consortium.federation import FederationPart
from fedmeta.consortium.hospitals import SCHEMA
from fedmeta.consortium.methods import HEADLINE
from fedmeta.consortium.results import Comparison, Described, Planted, PlantedCase, Table
from fedmeta.consortium.scores import Interval

ADVICE = (
    "These are research figures about methods, on patients of the 1980s. Nothing here may be used to examine, advise "
    "or treat anybody."
)

KINDS = {
    "alone": "needs nobody",
    "pooled": "needs patients in one place",
    "federated": "federated: patients stay",
}
"""What a method needs, for a legend."""

PAYMENTS = (
    "For contributing: a round's pool is shared by what the super nodes found each update to be worth, on patients of "
    "their own that they hold out. For duties: those that held a seat and opened the right result share a fixed part."
)
SENT = (
    "The outbox is what a node says that it has sent, and the wire is what was captured outside of it. On the wire "
    "there are also TLS, headers and questions to the ledger."
)
FEW = 10
NUMBERS = {2: "Two", 3: "Three", 4: "Four"}


def titles(found: Comparison) -> dict[str, str]:
    """Return the hospitals' names for people, by name."""
    return {one.name: one.title for one in found.hospitals}


def lead(found: Comparison) -> str:
    """Return what the report is about."""
    patients = sum(one.patients for one in found.hospitals)
    return (
        f"{NUMBERS.get(len(found.hospitals), len(found.hospitals))} hospitals want to tell from ten findings whether a "
        f"patient has coronary heart disease. They have {patients} patients in all and may not pool them. What each "
        "has alone is set beside what it has where all are pooled, and by algorithms that send updates of a model and "
        "no patient. Each in turn also joins later, with a handful of its patients. Intervals hold 95 % of bootstrap "
        "draws of patients and of splits."
    )


def gaps(one: Described) -> str:
    """Return the columns in which patients of a hospital have no value."""
    words = [
        f"{name.replace('_', ' ')} {'throughout' if count == one.patients else count}"
        for name, count in sorted(one.gaps.items(), key=lambda pair: -pair[1])
        if count
    ]
    return ", ".join(words) or "none"


def members(found: Comparison) -> str:
    """Return how the members were tested."""
    splits, table = found.settings["splits"], found.members
    tested = ", ".join(f"{title} {table.tested[name]}" for name, title in titles(found).items())
    return (
        f"Each hospital's patients are split {splits} times: two thirds train, the others test ({tested} patients a "
        "split). A hospital adapts on those of its own patients that train. How an algorithm trains was chosen, for "
        "each hospital, on the other three; by how many steps it adapts, on its own training patients."
    )


def newcomer(found: Comparison) -> str:
    """Return how the newcomers were tested."""
    draws, table = found.settings["draws"], next(iter(found.newcomer.values()))
    most = max(found.newcomer)
    tested = ", ".join(f"{title} {table.tested[name]}" for name, title in titles(found).items())
    return (
        f"Each hospital in turn takes no part in training. Then it adapts on its first patients in a random order, "
        f"{draws} orders, and is tested on those after the first {most} ({tested}). Nothing was fitted on those. How "
        "an algorithm trains was chosen on the other three hospitals; by how many steps the newcomer adapts, on the "
        "same few patients. Set beside it: what it can do with these alone, and the other three pooled, as they are."
    )


def limits(found: Comparison) -> list[str]:
    """Return what the figures cannot show."""
    lines = []
    for one in found.hospitals:
        healthy = one.patients - one.ill
        least, kind = min((healthy, "healthy"), (one.ill, "ill"))
        if least < 2 * FEW:
            tests = _round_third(least)
            lines.append(
                f"{one.title}'s AUROC and balanced accuracy rest on {least} {kind} patients, about {tests} in a test: "
                f"one of them moves its AUROC by up to {100 / max(tests, 1):.0f} points. Its accuracy hardly says more "
                f"than the share that is ill, {100 * one.ill / one.patients:.0f} %."
            )
        for name, count in one.gaps.items():
            if count == one.patients:
                lines.append(
                    f"{one.title} has no value of {name.replace('_', ' ')} for anybody (the files have 0, which means "
                    "missing): what that column is worth there cannot be shown."
                )
    gone = {one.title: sum(one.gaps.values()) / (one.patients * len(SCHEMA.used)) for one in found.hospitals}
    most = max(gone, key=lambda title: gone[title])
    planted = (
        "Planted contributors are those that somebody thought of, one at a time and without a seat, in few rounds: "
        "another one may earn more."
    )
    return [
        *lines,
        f"Gaps are filled with the middle of a public range. {most} lacks {100 * gone[most]:.0f} % of its values; who "
        "lacks which is no accident, and another way to fill them would give other figures.",
        "Four hospitals are four: their mean says nothing about a fifth. The intervals are about patients and splits "
        "of these hospitals, not about other hospitals.",
        "Many figures stand beside each other. Of twenty intervals of 95 % about one misses.",
        "The calibration error of few patients is too large even where a model is perfectly calibrated; compare it "
        "between methods, and not with zero.",
        "The methods are compared without clipping and rounding of updates. A federation on the ledger has both.",
        *([] if found.planted is None else [planted]),
    ]


def _round_third(count: int) -> int:
    return round(count / 3)


def settings(found: Comparison) -> str:
    """Return by which settings the figures were made."""
    given = found.settings
    return (
        f"{given['splits']} splits of each member, {given['draws']} orders of each newcomer's patients, "
        f"{given['bootstrap']} bootstrap draws, seed {given['seed']}"
    )


def repeat(found: Comparison) -> str:
    """Return by which settings the figures were made, and how long it took."""
    return f"{settings(found)}; {found.seconds:.0f} seconds of processor time."


def federation(part: FederationPart) -> str:
    """Return what the federation was."""
    final = sum(one.outcome == "final" for one in part.rounds)
    words = f"{part.algorithm} was trained by processes of their own: {len(part.rounds)} rounds, {final} of them final"
    took = f", in {part.seconds:.0f} seconds" if part.seconds else ""
    return f"{words}{took}. {part.note}".strip()


def planted(found: Planted) -> str:
    """Return how planted contributors were paid."""
    return (
        f"Do the scores pay who they should? The four train {found.algorithm} for {found.rounds} rounds, as the "
        "demonstration does but without its ledger, and score each other's updates. A fifth contributor, without a "
        f"seat, sends what a row says; {found.seeds} seeds, each with other patients held out. Where it needs some, "
        "it has the patients of one of the four. Shares are of the contributors' pool, in %; what nobody earns stays "
        "in the treasury. Beside what the scores pay stands what leave-one-out would, and what exact Shapley values "
        "of whole updates would. Intervals are Student's, over seeds."
    )


def earned(found: Planted) -> list[str]:
    """Return what the figures of planted contributors say: what a free-rider earns, and whether one came out ahead."""
    cases = [one for one in found.cases if one.kind != "honest"]
    riders = [one for one in cases if one.kind == "free-rider"]
    lines = [_free_riders(riders), _ahead(cases), _in_single_seeds(found, cases), _than_honest(found["honest"], cases)]
    for rule, of in (
        ("Leave-one-out", lambda one: one.left_out),
        ("Exact Shapley values of whole updates", lambda one: one.shapley),
    ):
        most = max(riders, key=lambda one: of(one).value)
        lines.append(f"{rule} would pay a free-rider up to {_pool(of(most))}, for {most.title}.")
    return [*lines, f"In {100 * found.unpaid:.1f} % of the rounds nobody was paid for an update."]


def _free_riders(cases: Sequence[PlantedCase]) -> str:
    most = max(cases, key=lambda one: one.paid.value)
    nothing = [one.title for one in cases if one.paid.value == 0]
    return (
        f"What a free-rider still earns: at most {_pool(most.paid)} of the pool, for {most.title}, where a hospital "
        f"beside it earns {100 * most.beside:.1f} % on average. Nothing at all for: {'; '.join(nothing) or 'none'}."
    )


def _ahead(cases: Sequence[PlantedCase]) -> str:
    """Return in words which came out ahead of the hospital that was paid least beside them."""
    ahead = [f"{one.title} (by {_points(one.ahead)})" for one in cases if one.ahead.value > 0]
    unsure = [one.title for one in cases if one.ahead.value <= 0 and not one.ahead.high < 0]
    words = "In the mean over seeds"
    if ahead:
        words += f" these came out ahead of the hospital that was paid least beside them: {'; '.join(ahead)}."
    else:
        words += " none of the planted ones came out ahead of an honest hospital, not even of the one paid least."
    return f"{words} The interval does not rule it out for: {'; '.join(unsure)}." if unsure else words


def _in_single_seeds(found: Planted, cases: Sequence[PlantedCase]) -> str:
    some = [f"{one.title} ({one.ahead_in} of {found.seeds})" for one in cases if one.ahead_in]
    return (
        "In single seeds these came out ahead of the hospital that was paid least in that seed: "
        f"{'; '.join(some) or 'none'}. The least that a hospital was paid in a seed: {100 * found.smallest:.1f} %."
    )


def _than_honest(honest: PlantedCase, cases: Sequence[PlantedCase]) -> str:
    """Return in words which earned more than the same contributor does if it is honest."""
    more = [f"{one.title} (by {_points(one.than_honest)})" for one in cases if one.than_honest.value > 0]
    words = "Were the fifth one honest, with patients that one of the four has already, it would earn "
    return f"{words}{_pool(honest.paid)}. More than that is paid for: {'; '.join(more) or 'none of the others'}."


def _pool(share: Interval) -> str:
    """Return a share of the pool with its interval."""
    value, low, high = (f"{100 * one:.1f}" for one in share)
    return f"{value} %" if share.low != share.low else f"{value} % ({low} to {high})"


def _points(ahead: Interval) -> str:
    value, low, high = (f"{100 * one:.1f}" for one in ahead)
    return f"{value} points" if ahead.low != ahead.low else f"{value} points, {low} to {high}"


def picture(table: Table, hospital: str | None, title: str, metric: str) -> str:
    """Return a picture of a table in words, for those who do not see it."""
    words = {"accuracy": "accuracy", "auroc": "AUROC"}[metric]
    figures = {row.title: row.mean if hospital is None else row.hospitals[hospital] for row in table.rows}
    return f"{title}, {words}: " + "; ".join(f"{name} {_share(some[metric])}" for name, some in figures.items())


def curves(title: str, words: str, points: Mapping[str, Mapping[int, Interval]]) -> str:
    """Return a picture of curves in words."""
    lines = [
        f"{name} " + ", ".join(f"{_share(figure)} at {size}" for size, figure in some.items())
        for name, some in points.items()
    ]
    return f"{title}, {words} by number of patients: " + "; ".join(lines)


def _share(figure: Interval) -> str:
    return "not defined" if figure.value != figure.value else f"{100 * figure.value:.0f} %"


def headline(found: Comparison) -> str:
    """Return the result in a sentence, for a terminal."""
    met = sum(goal.met for goal in found.goals)
    row = found.newcomer[10][HEADLINE]
    return f"{met} of {len(found.goals)} goals met, by {row.title}."
