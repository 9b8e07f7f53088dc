"""CSV and its kin: lines of cells, all of them as text."""

import csv
import io
import re
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv

from fedmeta.data.kinds_of_files import unpacked_name
from fedmeta.data.tables import text
from fedmeta.data.tables.compute import pc
from fedmeta.data.tables.problems import Findings, counted, listed, quoted
from fedmeta.data.tables.raw import RawTable
from fedmeta.data.wanted import Reading
from fedmeta.errors import DataError, UsageError

SEPARATORS = {",": "a comma", ";": "a semicolon", "\t": "a tab", "|": "a bar"}
WORDS = {"comma": ",", "semicolon": ";", "tab": "\t", "\\t": "\t", "bar": "|", "space": " "}
LOOKED_AT = 2000
"""The separator is recognised by so many lines; a line that then does not fit is an error, wherever it is."""
COMMENT = "#"
NUMBER = re.compile(r"[+-]?[\d.,]*\d[\d.,]*([eE][+-]?\d+)?")


class Lines:
    """The lines of a file that may be rows, each with its number.

    Args:
        content: of the file.
        how: what was told.
        findings: where to say what was guessed.
    """

    def __init__(self, content: str, how: Reading, findings: Findings):
        lines = content.split("\n")
        skipped = set(how.skip_lines)
        if over := [number for number in skipped if not 1 <= number <= len(lines)]:
            raise UsageError(f"--skip-lines names line {over[0]}, but {findings.name} has {len(lines)}")
        kept = [(number, line) for number, line in enumerate(lines, 1) if number not in skipped]
        self.separator = None
        if how.comment is not None:
            kept = [(number, line) for number, line in kept if not line.startswith(how.comment)]
        else:
            first = 0
            while first < len(kept) and (not kept[first][1].strip() or kept[first][1].startswith(COMMENT)):
                first += 1
            said = [f"line {number}" for number, line in kept[:first] if line.strip()]
            if said and first < len(kept):
                findings.note(
                    f"{listed(said)} {'begins' if len(said) == 1 else 'begin'} with # and "
                    f"{'is' if len(said) == 1 else 'are'} left out as a comment; --comment says what begins one"
                )
                kept = kept[first:]
        # A spreadsheet's own way to say the separator.
        if kept and (match := re.fullmatch(r'"?sep=(.)"?', kept[0][1].strip("\r\n "))):
            self.separator, kept = match[1], kept[1:]
        while kept and not kept[-1][1].strip():
            kept.pop()
        self.numbers = [number for number, line in kept if line.strip()]
        self.lines = [line for _, line in kept if line.strip()]
        if self.has_breaks:
            # Cells with line breaks, inside which a blank line counts.
            self.numbers, self.lines = [number for number, _ in kept], [line for _, line in kept]

    def records(self, separator: str, count: int | None = None) -> list[tuple[int, list[str]]]:
        """Return the number of the first line of each record, and its cells."""
        found, begun = [], 0
        reader = csv.reader((line + "\n" for line in self.lines), delimiter=separator, strict=False)
        for cells in reader:
            if any(cell.strip() for cell in cells):
                found.append((self.numbers[begun], cells))
            begun = min(reader.line_num, len(self.lines) - 1)
            if count is not None and len(found) == count:
                break
        return found

    @cached_property
    def has_breaks(self) -> bool:
        """Whether a cell goes on in another line, for a line has an odd number of quotes."""
        return any(line.count('"') % 2 for line in self.lines)


def read_delimited(path: Path, how: Reading, findings: Findings) -> RawTable:
    """Return the cells of a file as text, by column.

    Raises:
        DataError: a line has more or fewer cells than the names, a quote is never closed, two columns have one name,
            or the first row is not the names; all of it in one message.
    """
    lines = Lines(text.decode(text.read_bytes(path), how.encoding, findings), how, findings)
    if not lines.lines:
        raise DataError(f"{path} is empty")
    separator = _separator(lines, how, findings)
    _refuse_open_quotes(lines, separator, findings)
    findings.check()
    head, names = _names(lines, separator, how, findings)
    findings.check()
    width = len(names)
    table = _cells(lines, head, separator, width, findings)
    findings.check()
    columns = dict(enumerate(table.columns))
    if table.num_rows == 0:
        raise DataError(f"{path} has no rows")
    columns, kept = _without_blank_rows(columns, findings)
    places = _Places(lines, separator, head, kept)
    named = name_columns(names, columns, findings)
    findings.check()
    return RawTable(named, Path(unpacked_name(path)).stem, findings, places, separator)


class _Places:
    """Says in which line a row begins."""

    def __init__(self, lines: Lines, separator: str, head: int, kept: Sequence[int] | None):
        self._lines, self._separator, self._head, self._kept = lines, separator, head, kept

    @cached_property
    def _numbers(self) -> list[int]:
        if not self._lines.has_breaks:
            return self._lines.numbers[self._head :]
        return [number for number, _ in self._lines.records(self._separator)][self._head :]

    def __call__(self, row: int) -> str:
        return f"line {self._numbers[row if self._kept is None else self._kept[row]]}"


def _separator(lines: Lines, how: Reading, findings: Findings) -> str:
    """Return the separator under which most lines are of one width, and that of more cells if that does not decide."""
    if how.separator is not None:
        separator = WORDS.get(how.separator.lower(), how.separator)
        if len(separator) != 1:
            raise UsageError(f"--separator is one character, or one of {', '.join(WORDS)}, not {how.separator!r}")
        return separator
    if lines.separator is not None:
        return lines.separator
    scores = {}
    for separator in SEPARATORS:
        widths = Counter(len(cells) for _, cells in lines.records(separator, LOOKED_AT))
        scores[separator] = max(((count, width) for width, count in widths.items() if width > 1), default=(0, 0))
    best = max(SEPARATORS, key=lambda separator: scores[separator])
    if scores[best] == (0, 0):
        raise DataError(
            f"{findings.name}: no line has a comma, a semicolon, a tab or a bar between cells; say what stands there "
            "with --separator"
        )
    if best != {".tsv": "\t", ".tab": "\t"}.get(Path(unpacked_name(Path(findings.name))).suffix.lower(), ","):
        findings.note(f"the cells are separated by {SEPARATORS[best]}; --separator says otherwise")
    return best


def _refuse_open_quotes(lines: Lines, separator: str, findings: Findings) -> None:
    """Find quotes that swallow lines: never closed, or closed by one that belongs to another cell."""
    if not lines.has_breaks:
        return
    reader = csv.reader((line + "\n" for line in lines.lines), delimiter=separator, strict=True)
    begun, widths = 0, Counter()
    try:
        for cells in reader:
            swallowed = [cell for cell in cells if "\n" in cell and cell.count(separator) >= len(cells) - 1 > 0]
            if swallowed and widths and widths.most_common(1)[0][0] > 1:
                findings.problem(
                    f"the quotes in line {lines.numbers[begun]} hold {swallowed[0].count(chr(10)) + 1} lines that "
                    "look like "
                    "rows: a quote is missing or one too many"
                )
            widths[len(cells)] += 1
            begun = min(reader.line_num, len(lines.numbers) - 1)
    except csv.Error:
        findings.problem(f"line {lines.numbers[begun]} opens a quote that nothing closes; close it or take it out")


def _names(lines: Lines, separator: str, how: Reading, findings: Findings) -> tuple[int, list[str]]:
    """Return how many records stand before the first row, and the names of the columns."""
    records = lines.records(separator, LOOKED_AT)
    if how.names is not None:
        return 0, list(how.names)
    widths = Counter(len(cells) for _, cells in records[1:]) or Counter([len(records[0][1])])
    usual = widths.most_common(1)[0][0]
    first = next((place for place, (_, cells) in enumerate(records) if len(cells) in (usual, usual - 1)), 0)
    if first and len(records[0][1]) < usual:
        numbers = [number for number, _ in records[:first]]
        said = str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]}-{numbers[-1]}"
        findings.problem(
            f"line {numbers[0]} ({records[0][1][0]!r:.50}) has {counted(len(records[0][1]), 'cell')}, but most lines "
            f"have {usual}: if "
            f"it is a title, say --skip-lines {said}"
        )
        return first + 1, list(records[first][1])
    number, names = records[0]
    body = records[1:]
    if _looks_like_a_row(names, [cells for _, cells in body]):
        findings.problem(
            f"line {number} ({separator.join(names)[:60]!r}) looks like a row, not like the names of the columns: "
            "give the names "
            "with --names, or add a line with them"
        )
    if len(names) == usual - 1 and body and sum(len(cells) == usual for _, cells in body) > len(body) / 2:
        whole = [cells for _, cells in body if len(cells) == usual]
        if all(not cells[-1].strip() for cells in whole):
            names = [*names, ""]
        elif len({cells[0] for cells in whole}) == len(whole):
            names = ["", *names]
    return 1, names


def _looks_like_a_row(names: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
    """Whether the first line is of the kind of those below: numbers over numbers, and words that come again."""
    rows = [cells for cells in rows if len(cells) == len(names)]
    if not rows:
        return False
    numeric = [all(NUMBER.fullmatch(cells[place].strip() or "0") for cells in rows) for place in range(len(names))]
    over = [bool(NUMBER.fullmatch(name.strip())) for name in names]
    if not any(numeric) or any(number and not name for number, name in zip(numeric, over, strict=True)):
        return False
    words = [place for place, number in enumerate(numeric) if not number]
    return all(names[place] in {cells[place] for cells in rows} for place in words)


def _cells(lines: Lines, head: int, separator: str, width: int, findings: Findings) -> pa.Table:
    """Return all cells as text without blanks around them; a line that does not fit is a problem."""
    ragged = []

    def skip(row: Any) -> str:
        ragged.append(row)
        return "skip"

    content = "\n".join(lines.lines) + "\n"
    names = [str(place) for place in range(width)]
    try:
        table = pyarrow.csv.read_csv(
            io.BytesIO(content.encode()),
            read_options=pyarrow.csv.ReadOptions(column_names=names, skip_rows_after_names=head, use_threads=True),
            parse_options=pyarrow.csv.ParseOptions(
                delimiter=separator, newlines_in_values=lines.has_breaks, invalid_row_handler=skip
            ),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False
            ),
        )
    except (pa.ArrowException, ValueError) as error:
        raise DataError(f"{findings.name} cannot be read: {' '.join(str(error).split())}") from error
    if ragged:
        wrong = [(number, len(cells)) for number, cells in lines.records(separator)[head:] if len(cells) != width]
        said = [f"line {number} ({found})" for number, found in wrong]
        findings.problem(
            f"{counted(width, 'column has a name', 'columns have names')}, but "
            f"{counted(len(wrong), 'line has', 'lines have')} more "
            f"or fewer cells: {listed(said)}; put a cell that holds {separator!r} in quotes, or leave the line out "
            f"with --skip-lines {','.join(str(number) for number, _ in wrong[:5])}"
        )
        return table
    trimmed, touched = [], []
    for column in table.columns:
        clean = pc.utf8_trim_whitespace(column)
        if not clean.equals(column):
            touched.append(len(trimmed))
        trimmed.append(clean)
    if touched:
        findings.note("blanks around cells are not part of them")
    return pa.table(trimmed, names=names)


def _without_blank_rows(
    columns: dict[int, pa.ChunkedArray], findings: Findings
) -> tuple[dict[int, pa.ChunkedArray], list[int] | None]:
    """Leave out rows whose cells are all blank, and return the numbers of those that are kept, unless that is all."""
    held: Any = pc.not_equal(columns[0], "")
    for column in columns.values():
        held = pc.or_(held, pc.not_equal(column, ""))
    blank = pc.sum(pc.invert(held)).as_py()
    if not blank:
        return columns, None
    findings.note(f"{counted(blank, 'row')} without a value left out")
    kept = pc.indices_nonzero(held.combine_chunks())
    return {name: column.filter(held) for name, column in columns.items()}, kept.to_pylist()


UNNAMED = re.compile(r"|Unnamed: \d+|\.\.\.\d+|rownames|row\.names|__index_level_\d+__")
BY_R = "X"
"""What R calls a column without a name when it reads one; people have columns of this name, too."""
INTEGER = r"^-?\d{1,18}$"


def name_columns(
    names: Sequence[str], columns: dict[int, pa.ChunkedArray], findings: Findings
) -> dict[str, pa.ChunkedArray]:
    """Return the columns by name, without what a spreadsheet or a data frame left behind.

    Problems are names that come twice, and a column without a name that holds something.
    """
    clean = [name.strip().lstrip("\ufeff") for name in names]
    if changed := [name for name, was in zip(clean, names, strict=True) if name != was]:
        findings.note(f"blanks around the names {quoted(changed)} are not part of them")
    named: dict[str, pa.ChunkedArray] = {}
    for place, name in enumerate(clean):
        column = columns[place]
        if (UNNAMED.fullmatch(name) or (name == BY_R and place == 0)) and (what := _left_behind(name, place, column)):
            findings.note(f"column {place + 1} {f'({name!r}) ' if name else ''}left out: {what}")
        elif not name:
            findings.problem(f"column {place + 1} has no name; give names with --names, or take it out")
        elif name in named:
            places = listed([str(other + 1) for other, known in enumerate(clean) if known == name])
            findings.problem(f"the columns {places} are all called {name!r}; give each a name of its own")
        else:
            named[name] = column
    return named


def _left_behind(name: str, place: int, column: pa.ChunkedArray) -> str | None:
    """Say what a column without a proper name is, if it is nothing that anyone measured."""
    text = column.cast(pa.string()) if not pa.types.is_string(column.type) else column
    text = text.fill_null("")
    if not name and pc.all(pc.equal(text, "")).as_py():
        return "it has neither a name nor values"
    if pc.all(pc.match_substring_regex(text, INTEGER)).as_py():
        numbers = text.cast(pa.int64()).to_numpy()
        rising = numbers[1:] - numbers[:-1] == 1 if name == BY_R else numbers[1:] > numbers[:-1]
        if rising.all():
            return "a running number, as data frames write it"
        return "an index, as data frames write it" if name.startswith("__index_level_") else None
    if place == 0 and name != BY_R and pc.count_distinct(text).as_py() == len(text):
        return "names of rows, as data frames write them"
    return None
