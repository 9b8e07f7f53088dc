"""What the figures say, in words, where a reader must not miss it."""

import math
from collections.abc import Sequence

from fedmeta.evaluation.figures import MORE_IS_BETTER, Difference
from fedmeta.evaluation.scores import Report
from fedmeta.study.baselines import FREE, TITLES, meaning
from fedmeta.study.compare import Comparison, FinishedRun, Repeats
from fedmeta.study.formatting import NAMES, counted, difference, interval, listed, score


def verdict(run: FinishedRun) -> list[str]:
    """Return a sentence for each way in which a model is of no use.

    It is no better than one of the baselines that cost nothing, or clients are worse off after they have adapted.
    """
    figures, name = run.report.figures, run.measure
    sentences = [
        _no_better(run.title, name, figures.over_points[name], run.baselines[beside], beside)
        for beside in FREE
        if beside in run.baselines
        and not _ahead(name, figures.over_points[name], run.baselines[beside].figures.over_points[name])
    ]
    gain = run.report.gain
    if run.adapts and math.isfinite(gain.mean) and (gain.mean < 0) == (name in MORE_IS_BETTER) and gain.mean != 0:
        sure = "" if gain.beyond_chance else ", which may be chance"
        by = difference(name, _size(gain), signed=False)
        sentences.append(
            f"{run.title}: adapting makes clients worse, by {by} of {NAMES[name]} in the mean over clients{sure}."
        )
    return sentences


def chosen(runs: Sequence[FinishedRun]) -> list[str]:
    """Return a sentence about the rounds that were selected by the validation clients, if any were."""
    rounds = [f"{run.best}{f' ({run.title})' if len(runs) > 1 else ''}" for run in runs if run.best is not None]
    return [f"Tested as after round {listed(rounds)}, the best by the validation clients."] if rounds else []


def verdicts(runs: Sequence[FinishedRun]) -> list[str]:
    """Return the sentences about several runs."""
    return [sentence for run in runs for sentence in verdict(run)]


def result(found: FinishedRun | Comparison | Repeats) -> list[str]:
    """Return the result in one to three sentences: who is best, and by how much."""
    if isinstance(found, FinishedRun):
        return [*_of_one(found), *_beside(found)]
    return _of_seeds(found) if isinstance(found, Repeats) else _of_several(found)


def leaders(runs: Sequence[FinishedRun]) -> list[FinishedRun]:
    """Return the runs with the best figure over data points: one, or several that are equal; none if none is finite."""
    values = [run.report.figures.over_points[run.measure] for run in runs]
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return []
    best = (max if runs[0].measure in MORE_IS_BETTER else min)(finite)
    return [run for run, value in zip(runs, values, strict=True) if value == best]


def _ahead(name: str, value: float, other: float) -> bool:
    return value > other if name in MORE_IS_BETTER else value < other


def _no_better(title: str, name: str, value: float, beside: Report, kind: str) -> str:
    other = beside.figures.over_points[name]
    return f"{_always(title, name, kind)}: {NAMES[name]} {score(name, value)} against {score(name, other)}."


def _always(title: str, name: str, kind: str) -> str:
    return f"{title} is no better than always answering {meaning(kind, numbers=name == 'rmse')}"


def _size(gap: Difference) -> Difference:
    """Return the difference without its sign, its interval turned round with it."""
    if gap.mean >= 0:
        return gap
    return Difference(-gap.mean, -gap.high, -gap.low, gap.count)


def _of_one(run: FinishedRun) -> list[str]:
    name = run.measure
    before, after = (part.over_points[name] for part in (run.report.figures_before, run.report.figures))
    where = f"on {_tested(run)}"
    if not run.adapts:
        return [f"{run.title} has {NAMES[name]} {score(name, after)} {where}; it does not adapt."]
    sentences = [
        f"{run.title} has {NAMES[name]} {score(name, after)} {where} after they adapt, {score(name, before)} before."
    ]
    if run.report.gain.count > 1:
        sentences.append(
            f"Adapting changes a client's {NAMES[name]} by {difference(name, run.report.gain)} in the mean."
        )
    return sentences


def _of_several(comparison: Comparison) -> list[str]:
    runs, name = comparison.runs, comparison.runs[0].measure
    if len(runs) == 1:
        return result(runs[0])
    best = leaders(runs)
    if not best:
        return [f"No algorithm has a finite {NAMES[name]} on {_tested(runs[0])}."]
    value = best[0].report.figures.over_points[name]
    first = (
        f"{listed([run.title for run in best])} {'is' if len(best) == 1 else 'are'} best: {NAMES[name]} "
        f"{score(name, value)} on {_tested(runs[0])}"
    )
    sentences = []
    sign = 1 if name in MORE_IS_BETTER else -1
    others = [run for run in runs if run not in best and math.isfinite(run.report.figures.over_points[name])]
    others.sort(key=lambda run: -sign * run.report.figures.over_points[name])
    if others:
        shown = [f"{run.title} with {score(name, run.report.figures.over_points[name])}" for run in others]
        last = f", last {shown[-1]}" if len(others) > 1 else ""
        first += f"; next is {shown[0]}{last}"
        pair = [best[0], others[0]]
        gap = Difference.between(*[run.report.figures.each[name] for run in pair][::sign])
        but = ""
        if gap.mean < 0:
            # Large clients may decide the mean over examples.
            pair, gap, but = pair[::-1], Difference(-gap.mean, -gap.high, -gap.low, gap.count), "But client"
        if gap.count > 1 and math.isfinite(gap.low):
            sure = "beyond chance for these clients" if gap.beyond_chance else "which may be chance"
            sentences.append(
                f"{but or 'Client'} by client, {pair[0].title} is ahead of {pair[1].title} by {difference(name, gap)} "
                f"in the mean, {sure}; this is one seed."
            )
    return [f"{first}.", *sentences, *_beside(runs[0])]


def _of_seeds(repeats: Repeats) -> list[str]:
    name, count = repeats.measure, len(repeats.comparisons)
    titles = [run.title for run in repeats.comparisons[0].runs]
    means = {title: repeats.intervals[title] for title in titles if math.isfinite(repeats.intervals[title].mean)}
    if not means:
        return [f"No algorithm has a finite {NAMES[name]} with every seed."]
    best = (max if name in MORE_IS_BETTER else min)(means, key=lambda title: means[title].mean)
    mean = means[best]
    between = f" ({interval(name, mean)})" if mean.count > 1 else ""
    ahead = f"has {NAMES[name]}" if len(titles) == 1 else f"is best, with {NAMES[name]}"
    sentences = [f"{best} {ahead} {score(name, mean.mean)}{between} in the mean over {counted(count, 'seed')}."]
    trained = {*titles, *(TITLES[kind] for kind in TITLES if kind not in FREE)}
    gaps = {other: gap for one, other, gap in repeats.differences() if one == best and other in trained}
    sure = [f"{other} ({difference(name, gap)})" for other, gap in gaps.items() if gap.beyond_chance]
    unsure = [f"{other} ({difference(name, gap)})" for other, gap in gaps.items() if not gap.beyond_chance]
    if sure:
        sentences.append(f"Seed by seed it is better than {listed(sure)}.")
    if unsure:
        sentences.append(f"It is not shown to be better than {listed(unsure)}.")
    for title in titles:
        for kind in FREE:
            free = repeats.intervals.get(TITLES[kind])
            if free is not None and not _ahead(name, repeats.intervals[title].mean, free.mean):
                values = f"{score(name, repeats.intervals[title].mean)} against {score(name, free.mean)}"
                sentences.append(f"{_always(title, name, kind)}: {NAMES[name]} {values} in the mean over seeds.")
    return sentences


def _beside(run: FinishedRun) -> list[str]:
    """Return which of the baselines is best."""
    name = run.measure
    values = {kind: report.figures.over_points[name] for kind, report in run.baselines.items()}
    values = {kind: value for kind, value in values.items() if math.isfinite(value)}
    if not values:
        return []
    best = (max if name in MORE_IS_BETTER else min)(values, key=lambda kind: values[kind])
    return [f"The best baseline is “{TITLES[best]}” with {score(name, values[best])}."]


def _tested(run: FinishedRun) -> str:
    report = run.report
    examples = counted(int(report.after.examples.sum()), "query example")
    return f"{counted(len(report.clients), 'unseen client')} ({examples})"
