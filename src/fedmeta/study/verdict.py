"""What the figures say, in words, where a reader must not miss it."""

from collections.abc import Sequence

from fedmeta.evaluation.figures import MORE_IS_BETTER, Difference
from fedmeta.evaluation.scores import Report
from fedmeta.study.compare import FinishedRun, Repeats
from fedmeta.study.formatting import NAMES, difference, score

BESIDE = {
    "constant": ("the same answer to all", "the most frequent class of the training clients", "their mean target"),
    "support": ("nothing but a client's own support", "its most frequent class", "its mean target"),
}
"""Of each baseline that costs nothing: what it is, and its answer of classes and of numbers."""


def verdict(run: FinishedRun) -> list[str]:
    """Return a sentence for each way in which a model is of no use.

    It is no better than one of the baselines that cost nothing, or clients are worse off after they have adapted.
    """
    figures, name = run.report.figures, run.measure
    sentences = [
        _no_better(run.title, name, figures.over_points[name], run.baselines[beside], beside)
        for beside in BESIDE
        if beside in run.baselines and not _better(name, figures.over_points[name], run.baselines[beside])
    ]
    gain = run.report.gain
    if run.adapts and gain.count and (gain.mean < 0) == (name in MORE_IS_BETTER) and gain.mean != 0:
        sure = "" if gain.beyond_chance else ", which may be chance"
        sentences.append(
            f"{run.title}: adapting makes clients worse, by {difference(name, _size(gain))} of {NAMES[name]} in the "
            f"mean over clients{sure}."
        )
    return sentences


def verdicts(runs: Sequence[FinishedRun]) -> list[str]:
    """Return the sentences about several runs."""
    return [sentence for run in runs for sentence in verdict(run)]


def told(repeats: Repeats) -> list[str]:
    """Return a sentence for each two algorithms: which is better, and whether that is beyond the interval."""
    titles = {run.title for run in repeats.comparisons[0].runs}
    name, seeds = repeats.measure, len(repeats.comparisons)
    return [
        f"{one} is {'' if gap.beyond_chance else 'not shown to be '}better than {other}: "
        f"{difference(name, _size(gap))} of {NAMES[name]}, seed by seed ({seeds} seeds)."
        for one, other, gap in repeats.differences()
        if titles & {one, other}
    ]


def _better(name: str, value: float, beside: Report) -> bool:
    other = beside.figures.over_points[name]
    return value > other if name in MORE_IS_BETTER else value < other


def _no_better(title: str, name: str, value: float, beside: Report, kind: str) -> str:
    what, of_classes, of_numbers = BESIDE[kind]
    answer = of_classes if beside.figures.confusion is not None else of_numbers
    return (
        f"{title} is no better than {what} ({answer}): {NAMES[name]} {score(name, value)} against "
        f"{score(name, beside.figures.over_points[name])} over the query examples."
    )


def _size(gap: Difference) -> Difference:
    """Return the difference without its sign, its interval turned round with it."""
    if gap.mean >= 0:
        return gap
    return Difference(-gap.mean, -gap.high, -gap.low, gap.count)
