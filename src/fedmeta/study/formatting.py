"""Numbers as text, the same in the terminal, the picture and the report."""


def percent(value: float) -> str:
    """Return a share as percent with one digit, for example "93.4 %"."""
    return f"{100 * value:.1f} %"


def megabytes(count: int) -> str:
    """Return bytes as megabytes (10^6 bytes)."""
    value = count / 1e6
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 1 else f"{value:.2f}"


def gigaflops(count: int | None) -> str:
    """Return floating-point operations in units of 10^9, or that they could not be counted."""
    if count is None:
        return "not counted"
    return f"{count / 1e9:,.3g}" if count < 1e12 else f"{count / 1e9:,.0f}"
