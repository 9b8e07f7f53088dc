"""Numbers as text, the same in the terminal, the picture and the report."""

import math
import unicodedata

from fedmeta.evaluation.figures import Difference

NAMES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "auroc": "AUROC",
    "log_loss": "log loss",
    "calibration_error": "calibration error",
    "mae": "MAE",
    "rmse": "RMSE",
    "r2": "R²",
}
"""The figures' names for people."""

SHARES = ("accuracy", "balanced_accuracy", "macro_f1", "calibration_error")
"""The figures that are shown in percent."""


def titled(name: str) -> str:
    """Return the name of a figure as a title begins with it, for example "Accuracy" or "RMSE"."""
    return f"{NAMES[name][0].upper()}{NAMES[name][1:]}"


def percent(value: float) -> str:
    """Return a share as percent with one digit, for example "93.4 %"."""
    return f"{100 * value:.1f} %"


def score(name: str, value: float, *, unit: bool = True) -> str:
    """Return the value of a figure; a share in percent, anything else with four digits.

    Args:
        name: one of `NAMES`.
        value: the value; NaN where it is not defined.
        unit: whether a share has its sign.
    """
    if math.isnan(value):
        return "-"
    if name in SHARES:
        return percent(value) if unit else f"{100 * value:.1f}"
    return digits(value)


def difference(name: str, gap: Difference, *, signed: bool = True) -> str:
    """Return a mean and its interval, for example "+2.1 points (0.4 to 3.8)"."""
    scale, unit = (100, " points") if name in SHARES else (1, "")
    show = "{:.1f}".format if name in SHARES else digits
    interval = "" if math.isnan(gap.low) else f" ({show(scale * gap.low)} to {show(scale * gap.high)})"
    return f"{'+' if gap.mean > 0 and signed else ''}{show(scale * gap.mean)}{unit}{interval}"


def interval(name: str, mean: Difference, *, unit: bool = True) -> str:
    """Return the interval of a figure's mean, for example "93.1 % to 97.0 %"; one of shares ends at 0 and 100 %."""
    if math.isnan(mean.low):
        return "-"
    low, high = (max(mean.low, 0.0), min(mean.high, 1.0)) if name in SHARES else (mean.low, mean.high)
    return f"{score(name, low, unit=unit)} to {score(name, high, unit=unit)}"


def digits(value: float) -> str:
    """Return a number with four digits; a large one whole, with commas, a very large one with its power of ten."""
    if not math.isfinite(value):
        return str(value)
    if abs(value) >= 1e9:
        return f"{value:.3e}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:#.4g}".rstrip(".")


def amount(support: float) -> str:
    """Return a size of support: a share of a client's examples, or from 1 on a number of them."""
    return f"{100 * support:g} %" if support < 1 else f"{support:g}"


def megabytes(count: int) -> str:
    """Return bytes as megabytes (10^6 bytes)."""
    value = count / 1e6
    if 0 < value < 0.01:
        return f"{value:.1g}"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 1 else f"{value:.2f}"


def gigaflops(count: int | None) -> str:
    """Return floating-point operations in units of 10^9, or that they could not be counted."""
    if count is None:
        return "not counted"
    return f"{count / 1e9:,.3g}" if count < 1e12 else f"{count / 1e9:,.0f}"


def duration(seconds: float) -> str:
    """Return a time in words, for example "1.2 s", "3 min 20 s" or "2 h 5 min"."""
    if seconds < 60:
        return f"{seconds:.2g} s" if seconds < 9.95 else f"{seconds:.0f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600:,} h {whole % 3600 // 60} min"


def counted(count: int, noun: str) -> str:
    """Return a number of things, for example "1 client" or "1,200 clients"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def listed(words: list[str]) -> str:
    """Return words as a list in a sentence: "a", "a and b", "a, b and c"."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def short(name: object, length: int = 60) -> str:
    """Return a name of the data's as one line that can be shown: what is long loses its middle, signs that have no
    picture become �."""
    text = str(name)
    if len(text) > length:
        text = f"{text[: length * 2 // 3 - 1]}…{text[-(length // 3) :]}"
    return "".join("�" if unicodedata.category(sign) in ("Cc", "Cs", "Co", "Cn") else sign for sign in text)
