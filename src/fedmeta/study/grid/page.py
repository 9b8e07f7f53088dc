"""The report of a study as Markdown: what was declared, what was found, and what is only exploratory."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from fedmeta.evaluation.figures import MORE_IS_BETTER
from fedmeta.study.answers import TOP
from fedmeta.study.formatting import SHARES, amount, counted, digits, gigaflops, megabytes, score, titled
from fedmeta.study.grid.cells import Key
from fedmeta.study.grid.results import Finding, Measured, Results
from fedmeta.study.grid.tries import Spent
from fedmeta.study.statistics import LEVEL, LOOKS, Interval, Ratio, Reached


def page(
    results: Results, pictures: Mapping[str, Sequence[tuple[str, str]]], tuned: Mapping[str, Sequence[Spent]]
) -> str:
    """Return the page.

    Args:
        results: of a table.
        pictures: by data set, (path relative to the page, what it shows) of each.
        tuned: by data set, what tuning spent on each procedure.
    """
    parts = [f"# {results.table.name}", _facts(results)]
    for data in results.data:
        parts += [f"## {data}", *_data(results, data), *_tuning(tuned.get(data, ()))]
        parts += [f"![{words}]({path})" for path, words in pictures.get(data, ())]
    parts.append(_how())
    return "\n\n".join(parts) + "\n"


def _facts(results: Results) -> str:
    cells = len(results.table.keys) or len(results.cells)
    seeds = sorted({key.seed for key in results.cells})
    # One that is tested with several numbers of examples is one cell.
    lost = {(key.data, key.procedure, key.support * (key.support < 1), key.seed): key for key in results.diverged()}
    said = f"{counted(cells, 'finished cell')}, with {counted(len(seeds), 'seed')}."
    if lost:
        named = "; ".join(_lost(results, key) for key in lost.values())
        are = "is" if len(lost) == 1 else "are"
        said += f" {len(lost)} of them diverged, and {are} left out of all comparisons: {named}."
    return said


def _lost(results: Results, key: Key) -> str:
    name = str(key) if key.support < 1 else f"{key.data}, {key.procedure}, seed {key.seed}"
    return f"{name} in round {results.cells[key].totals['diverged']:.0f}"


def _data(results: Results, data: str) -> list[str]:
    findings = results.findings(data)
    declared = [each for each in findings if each.declared]
    others = [each for each in findings if not each.declared]
    told = results.declared(data)
    judged = results.judged_by(data)
    parts = ["### After adaptation", _levels(results, data)]
    smallest = _amount(judged, told["smallest_effect"])
    if declared:
        note = f"Declared before the first cell was finished. The smallest effect that matters is {smallest}."
        parts += ["### Declared comparisons", note, _findings(results, data, declared)]
    missing = len(told["comparisons"]) - len(declared)
    if missing:
        parts.append(f"{counted(missing, 'declared comparison')} cannot be made: no seed has both cells.")
    if told["targets"]:
        parts += ["### Bytes to a target", _targets(results, data)]
        curves = [each for each in findings if each.bytes_to and results.has_own_training(data, each.support)]
        curves = [each for each in curves if each.declared or _beside_averaging(results, each)]
        parts += [_ratios(judged, curves)] if curves else []
    parts += _ended(results, data)
    parts += _spent_alike(results, declared)
    if others:
        note = "Not declared before: exploratory. They suggest, and show nothing, so there is no test."
        parts += ["### Exploratory comparisons", note, _findings(results, data, others)]
    doses = _doses(results, data)
    if doses:
        note = "How much clients adapt in the test, chosen on validation clients."
        parts += ["### Dose of adaptation", note, doses]
    parts += ["### Over clients", _deciles(results, data)]
    steps = _steps(results, data)
    return [*parts, "### Step by step", steps] if steps else parts


def _levels(results: Results, data: str) -> str:
    judged = results.judged_by(data)
    rows, top = [], f"top_{TOP}_after"
    groups = list(_groups(results, data))
    # Where there are only so many classes, it says nothing and was not measured.
    has_top = any(top in cell.totals for *_, cells in groups for cell in cells)
    for support, procedure, cells in groups:
        level = results.level(data, procedure, support)

        def mean(measure: str, cells: Sequence[Measured] = cells) -> str:
            return score(judged, float(np.mean([cell.totals[measure] for cell in cells])), unit=False)

        rows.append(
            [
                procedure,
                amount(support),
                str(len(cells)),
                mean("points_before"),
                mean("points_after"),
                mean("clients_before"),
                _interval(judged, level),
                mean("worst_tenth_after"),
                *([mean(top)] if has_top else []),
                *_spent(cells),
            ]
        )
    unit = ", %" if judged in SHARES else ""
    over = results.over(data)
    headings = ["procedure", "support", "seeds", "points before", "points after", "clients before", f"{over} after"]
    headings += ["worst tenth", *([f"among {TOP}"] if has_top else []), "rounds", "MB", "GFLOP"]
    return f"{titled(judged)}{unit}.\n\n" + _table(headings, rows)


def _spent(cells: Sequence[Measured]) -> list[str]:
    """Return rounds, megabytes and operations; a dash each where nothing was trained."""
    if not any(cell.trained for cell in cells):
        return ["-", "-", "-"]
    flops = float(np.mean([cell.last("flops") for cell in cells]))
    return [
        f"{np.mean([cell.trained for cell in cells]):,.0f}",
        megabytes(int(np.mean([cell.last("bytes") for cell in cells]))),
        gigaflops(None if math.isnan(flops) else round(flops)),
    ]


def _beside_averaging(results: Results, finding: Finding) -> bool:
    """Return whether one of the two is a federated average, before or after it adapts."""
    pair = [results.of(finding.data, name, finding.support)[0].algorithm for name in (finding.one, finding.other)]
    return not {"fedavg", "fedavg-meta"}.isdisjoint(pair)


def _findings(results: Results, data: str, findings: Iterable[Finding]) -> str:
    judged, rows = results.judged_by(data), []
    for each in findings:
        row = [
            f"{each.one} against {each.other}",
            amount(each.support),
            f"{each.seeds} x {each.clients}",
            _gap(judged, each.effect.value, each.effect.low, each.effect.high),
            _gap(judged, each.corrected.value, each.corrected.low, each.corrected.high),
        ]
        rows.append([*row, _p(each.p), _p(each.adjusted), each.verdict] if each.declared else row)
    headings = ["", "support", f"seeds x {results.over(data)}", "by (bootstrap)", "by (corrected t)"]
    return _table([*headings, *["Wilcoxon's p", "Holm's p", "verdict"][: len(rows[0]) - len(headings)]], rows)


def _targets(results: Results, data: str) -> str:
    judged, rows = results.judged_by(data), []
    targets = results.declared(data)["targets"]
    for support, procedure, cells in _groups(results, data):
        if not any(cell.has_curve for cell in cells) or not results.has_own_training(data, support):
            continue
        row = [procedure, amount(support)]
        for target in targets:
            row.append(_came(results.reached(cells, target, "bytes"), results.reached(cells, target, "rounds")))
        rows.append(row)
    return _table(["procedure", "support", *(f"to {score(judged, target)}" for target in targets)], rows)


def _came(sent: Sequence[Reached], rounds: Sequence[Reached]) -> str:
    arrived = [place for place, each in enumerate(sent) if each.arrived]
    said = f"{len(arrived)} of {len(sent)} seeds"
    if arrived:
        middle = megabytes(int(np.median([sent[place].cost for place in arrived])))
        said += f"; {middle} MB, round {np.median([rounds[place].cost for place in arrived]):.0f}"
    return said


def _ended(results: Results, data: str) -> list[str]:
    """Return the part on the bytes to where FedAvg ended; nothing where it was not run."""
    algorithm, trained = results.procedures(data), results.trained(data)
    plain = next((name for name in trained if algorithm[name] == "fedavg"), None)
    if plain is None:
        return []
    rows = [
        [one, amount(support), _came(found.sent, found.rounds), _ratio(found.saved)]
        for support in results.supports(data)
        if results.has_own_training(data, support)
        for one in trained
        if one != plain and (found := results.to_end_of(data, plain, one, support))
    ]
    note = (
        f"Exploratory. Where it ended is the mean of its last {LOOKS} looks at the validation clients, with each seed; "
        f"it is reached as a target is. What {plain} needed itself counts until it stayed there, and is all of its "
        "bytes where it came there at its end."
    )
    heads = ["procedure", "support", f"to where {plain} ended", f"times the bytes that {plain} needed"]
    return [f"### Bytes to where {plain} ended", note, _table(heads, rows)] if rows else []


def _spent_alike(results: Results, declared: Sequence[Finding]) -> list[str]:
    """Return the part on declared comparisons of which one spends more in a round; nothing where none does."""
    rows = []
    for each in declared:
        pair = [results.of(each.data, name, each.support) for name in (each.one, each.other)]
        if not all(cells[0].has_curve for cells in pair):
            continue
        times, leads = [], []
        for spent in ("bytes", "flops"):
            one, other = (float(np.mean([cell.last(spent) / cell.trained for cell in cells])) for cells in pair)
            times.append(one / other)
        for spent in ("rounds", "bytes", "flops"):
            lead = results.lead(each.data, each.one, each.other, each.support, spent)
            leads.append("-" if math.isnan(lead) else _gap(results.judged_by(each.data), lead, math.nan, math.nan))
        if not all(math.isclose(ratio, 1, rel_tol=0.01) for ratio in times):
            said = ("-" if math.isnan(ratio) else f"{ratio:.2f}" for ratio in times)
            rows.append([f"{each.one} against {each.other}", amount(each.support), *said, *leads])
    note = (
        f"Exploratory. Of the validation clients, the mean of {LOOKS} looks: what the first is better by once both "
        "have spent what the one with less spent in all."
    )
    heads = ["", "support", "times the bytes of a round", "times the operations", "with as many rounds", "bytes"]
    return ["### With as much spent", note, _table([*heads, "operations"], rows)] if rows else []


def _ratios(judged: str, findings: Sequence[Finding]) -> str:
    rows = [
        [
            f"{each.other} over {each.one}",
            amount(each.support),
            "declared" if each.declared else "exploratory",
            *(_ratio(found) for found in each.bytes_to.values()),
        ]
        for each in findings
    ]
    heads = [f"times the bytes to {score(judged, target)}" for target in findings[0].bytes_to]
    return _table(["", "support", "", *heads], rows)


def _doses(results: Results, data: str) -> str:
    judged, rows = results.judged_by(data), []
    for support, procedure, cells in _groups(results, data):
        dosed = [cell for cell in cells if "dose_steps" in cell.totals]
        if dosed:
            told = [_dose(cell.totals) for cell in dosed]
            gained = [cell.totals["dose_validation"] - cell.totals["dose_validation_none"] for cell in dosed]
            sign = 1 if judged in MORE_IS_BETTER else -1
            gap = _gap(judged, sign * float(np.mean(gained)), math.nan, math.nan)
            rows.append([procedure, amount(support), "; ".join(dict.fromkeys(told)), gap])
    return _table(["procedure", "support", "doses of the seeds", "over none, validation"], rows) if rows else ""


def _dose(totals: Mapping[str, float]) -> str:
    if not totals["dose_steps"]:
        return "none"
    part = ", the head" if totals["dose_head"] else ""
    return f"{counted(round(totals['dose_steps']), 'step')} at {totals['dose_rate']:g} times the rate{part}"


def _tuning(tuned: Sequence[Spent]) -> list[str]:
    """Return the part on what tuning spent; nothing where that is not known."""
    if not tuned:
        return []
    note = (
        "Candidates that were begun, those that were trained to the last round, and operations of all. At the edge: "
        "the best stands there, and what lies beyond was not tried."
    )
    rows = [
        [
            one.procedure,
            str(one.begun),
            str(one.finished),
            f"{one.flops / 1e12:.3g} of {one.budget / 1e12:.3g}",
            ", ".join(f"{name} {value}" for name, value in one.settings.items()) or "all diverged",
            ", ".join(one.at_edge) or "-",
        ]
        for one in tuned
    ]
    return ["### Tuning", note, _table(["procedure", "begun", "finished", "TFLOP", "best", "at the edge"], rows)]


def _deciles(results: Results, data: str) -> str:
    judged, rows = results.judged_by(data), []
    for support, procedure, cells in _groups(results, data):
        values = [np.mean([cell.totals[f"decile_{place:02}_after"] for cell in cells]) for place in range(0, 101, 10)]
        rows.append([procedure, amount(support), *(score(judged, float(v), unit=False) for v in values)])
    return "Deciles after adaptation, the mean over seeds.\n\n" + _table(
        ["procedure", "support", *(f"{place} %" for place in range(0, 101, 10))], rows
    )


def _steps(results: Results, data: str) -> str:
    judged = results.judged_by(data)
    groups = [group for group in _groups(results, data) if len(group[2][0].steps.get("points_at_step", ())) > 1]
    longest = max((len(cell.steps["points_at_step"]) for *_, cells in groups for cell in cells), default=0)
    rows = []
    for support, procedure, cells in groups:
        row = [procedure, amount(support)]
        for step in range(longest):
            values = [cell.steps["points_at_step"].get(step, math.nan) for cell in cells]
            row.append(score(judged, float(np.mean(values)), unit=False))
        rows.append(row)
    return _table(["procedure", "support", *map(str, range(longest))], rows) if rows else ""


def _how() -> str:
    return (
        f"Intervals are of {100 * LEVEL:g} %. By (bootstrap): the mean over clients of what the first is better by, "
        "resampled over seeds and clients at once. By (corrected t): the same by seed, with Nadeau and Bengio's "
        "correction for training clients that seeds share. A verdict is that of both. "
        "Of a pool of few clients, both are over their examples in place of clients. "
        "Wilcoxon's signed ranks are over the same, each the mean of its seeds; "
        "Holm's p is among the declared comparisons of a data set. A target is reached where the mean of "
        f"{LOOKS} looks at the validation clients stays there for {LOOKS} looks; a curve that never does is censored, "
        "and its ratio is a bound. Bytes are those of the arrays, up and down."
    )


def _groups(results: Results, data: str) -> Iterable[tuple[float, str, list[Measured]]]:
    for support in results.supports(data):
        for procedure in results.procedures(data):
            if cells := results.of(data, procedure, support):
                yield support, procedure, cells


def _interval(judged: str, level: Interval | None) -> str:
    if level is None:
        return "-"
    value, low, high = (score(judged, each, unit=False) for each in level)
    return f"{value} ({low} to {high})"


def _gap(judged: str, value: float, low: float, high: float) -> str:
    show = _in_points if judged in SHARES else digits
    interval = "" if math.isnan(low) else f" ({show(low)} to {show(high)})"
    return f"{'+' if value > 0 else ''}{show(value)}{interval}"


def _in_points(value: float) -> str:
    return f"{100 * value:.1f}"


def _amount(judged: str, value: float) -> str:
    return f"{100 * value:g} point{'' if value == 0.01 else 's'}" if judged in SHARES else f"{value:g}"


def _ratio(found: Ratio) -> str:
    if found.bound == "unknown":
        return "unknown: both have seeds that did not arrive"
    words = "" if found.bound == "exact" else f"{found.bound} "
    interval = "" if math.isnan(found.low) else f" ({found.low:.2f} to {found.high:.2f})"
    return f"{words}{found.value:.2f}{interval}"


def _p(value: float) -> str:
    return "-" if math.isnan(value) else "< 0.001" if value < 0.001 else f"{value:.3f}"


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    escape: Callable[[str], str] = lambda text: text.replace("|", "\\|")  # noqa: E731 (short)
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(escape(cell) for cell in line) + " |" for line in lines)
