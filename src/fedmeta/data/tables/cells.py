"""What the text of a cell can be read as: numbers, dates, truth values. Patterns are for whole cells."""

from typing import NamedTuple

import numpy as np
import pyarrow as pa

from fedmeta.data.tables.compute import pc

MARKERS = ("NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "NAN", "null", "NULL", "Null", "None", "?", "-", "--", ".")
"""Texts by which people mark a gap, where the rest of a column shows that they do."""

TRUE_FALSE = (("yes", "no"), ("true", "false"), ("y", "n"), ("t", "f"))
"""Words for a boolean feature, in any case."""

GROUPS = {None: "", ",": ",", ".": ".", " ": " \u00a0\u202f", "'": "'\u2019"}


class Number(NamedTuple):
    """A way to write numbers.

    Args:
        decimal: the sign before decimals.
        group: the sign between thousands, or None.
    """

    decimal: str
    group: str | None = None

    @property
    def pattern(self) -> str:
        """A regular expression for whole cells."""
        decimal = "\\" + self.decimal
        if self.group is None:
            return rf"^[+-]?(\d+{decimal}?\d*|{decimal}\d+)([eE][+-]?\d+)?$"
        return rf"^[+-]?[1-9]\d{{0,2}}([{GROUPS[self.group]}]\d{{3}})+({decimal}\d+)?$"

    def parse(self, text: pa.Array | pa.ChunkedArray) -> np.ndarray:
        """Return the cells as float64; a null is NaN."""
        if self.group is not None:
            text = pc.replace_substring_regex(text, f"[{GROUPS[self.group]}]", "")
        if self.decimal != ".":
            text = pc.replace_substring(text, self.decimal, ".")
        text = pc.replace_substring_regex(text, r"^\+", "")
        return text.cast(pa.float64()).to_numpy(zero_copy_only=False)

    def __str__(self) -> str:
        return f"decimal {self.decimal!r}" + (f", thousands {self.group!r}" if self.group else "")


PLAIN = (Number("."), Number(","))
GROUPED = tuple(Number(decimal, group) for decimal in (".", ",") for group in (",", ".", " ", "'") if group != decimal)

_DAY, _MONTH, _YEAR, _SHORT = r"(?P<d>0?[1-9]|[12]\d|3[01])", r"(?P<m>0?[1-9]|1[0-2])", r"(?P<y>\d{4})", r"(?P<y>\d{2})"
_NAME = r"(?P<b>[A-Za-z]{3,9})\.?"
_CLOCK = r"(?P<H>\d{1,2}):(?P<M>\d{2})(?::(?P<S>\d{2})(?P<f>\.\d+)?)?(?: ?(?P<p>[AaPp][Mm]))?"
_TIME = rf"(?:[ T]{_CLOCK}(?P<z>Z|[+-]\d{{2}}:?\d{{2}})?)?"
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")


class Date(NamedTuple):
    """A way to write dates.

    Args:
        format: in the letters of `datetime.strptime`; a time of day may follow.
        pattern: a regular expression for whole cells, its groups named y, m or b, d, H, M, S, f, p and z.
    """

    format: str
    pattern: str

    @classmethod
    def of(cls, format: str) -> "Date":
        """Return the way that a format says; raise a KeyError if a letter of it is not known."""
        letters = {"%Y": _YEAR, "%y": _SHORT, "%m": _MONTH, "%d": _DAY, "%b": _NAME, "%B": _NAME}
        parts, place = [], 0
        while place < len(format):
            if format[place] == "%":
                parts.append(letters[format[place : place + 2]])
                place += 2
            else:
                parts.append("\\" + format[place] if format[place] in ".+*?()[]{}|^$\\" else format[place])
                place += 1
        return cls(format, f"^{''.join(parts)}{_TIME}$")

    def parse(self, text: pa.Array | pa.ChunkedArray) -> np.ndarray:
        """Return the cells as days since 1970-01-01, float64 with the time of day as a fraction; NaN if there is none.

        A time zone is subtracted, so that days are those of UTC. Two digits of a year are 1969 to 2068.
        """
        found = pc.extract_regex(text, self.pattern)
        field = found.combine_chunks() if isinstance(found, pa.ChunkedArray) else found

        def part(name: str, default: float = np.nan) -> np.ndarray:
            place = field.type.get_field_index(name)
            if place < 0:
                return np.full(len(field), default)
            values = pc.struct_field(field, name)
            values = pc.if_else(pc.equal(values, ""), None, values)
            return np.nan_to_num(values.cast(pa.float64()).to_numpy(zero_copy_only=False), nan=default)

        year = part("y")
        if "%y" in self.format:
            year = np.where(year < 69, year + 2000, year + 1900)
        if field.type.get_field_index("b") >= 0:
            names = pc.utf8_lower(pc.utf8_slice_codeunits(pc.struct_field(field, "b"), 0, 3)).to_pylist()
            month = np.array([MONTHS.index(name) + 1 if name in MONTHS else np.nan for name in names])
        else:
            month = part("m")
        day = part("d")
        known = np.isfinite(year) & np.isfinite(month) & np.isfinite(day)
        days = np.full(len(field), np.nan)
        months = ((year[known] - 1970) * 12 + month[known] - 1).astype("datetime64[M]")
        first = months.astype("datetime64[D]")
        length = ((months + 1).astype("datetime64[D]") - first).astype(int)
        days[known] = np.where(day[known] <= length, first.astype(int) + day[known] - 1, np.nan)
        hour = part("H", 0.0)
        if field.type.get_field_index("p") >= 0:
            half = pc.utf8_lower(pc.struct_field(field, "p").fill_null("")).to_pylist()
            late = np.array([word == "pm" for word in half])
            hour = np.where(np.array([word != "" for word in half]), hour % 12 + 12 * late, hour)
        seconds = 3600 * hour + 60 * part("M", 0.0) + part("S", 0.0) + part("f", 0.0)
        zones = pc.struct_field(field, "z").fill_null("").to_pylist()
        shift = np.array([_minutes(zone) for zone in zones], float) if any(zones) else 0.0
        return days + (seconds / 60 - shift) / 1440


def _minutes(zone: str) -> int:
    digits = zone[1:].replace(":", "")
    return (-1 if zone.startswith("-") else 1) * (60 * int(digits[:2]) + int(digits[2:])) if digits else 0


DATES = tuple(
    Date.of(format)
    for format in (
        *(f"%Y{sign}%m{sign}%d" for sign in "-/."),
        *(f"%d{sign}%m{sign}%Y" for sign in "./-"),
        *(f"%m{sign}%d{sign}%Y" for sign in "/-."),
        *(f"%d{sign}%m{sign}%y" for sign in "./-"),
        *(f"%m{sign}%d{sign}%y" for sign in "/-."),
        *(f"%y{sign}%m{sign}%d" for sign in "./-"),
        "%d %b %Y",
        "%d-%b-%Y",
        "%d%b%Y",
        "%b %d, %Y",
        "%b %d %Y",
    )
)
"""Ways to write dates that are recognised."""
