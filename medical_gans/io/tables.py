"""Tables as people and their spreadsheets save them: any separator, byte order mark, blank rows, decimal commas.

What cannot be read is named by its column and line.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from medical_gans.errors import InputError

_SEPARATORS = (",", ";", "\t", "|")
_FOR_EXCEL = re.compile(r"\A[^\S\r\n]*\"?sep=.\"?(?=[\r\n])")  # a line that names the separator
_ENCODINGS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))


@dataclass(frozen=True)
class Row:
    """A line of a table: its cells by the names of the columns in lower case."""

    cells: Mapping[str, str]
    where: str  # "annotations.csv, line 3"

    def text(self, column: str) -> str:
        """The cell of a column; nothing where the table has no such column."""
        return self.cells.get(column.lower(), "")

    def number(self, column: str, empty: float | None = None) -> float:
        """The number in a column, with a decimal point or comma.

        Raises:
            InputError: it is none, or not finite.
        """
        text = self.text(column).replace("\u2212", "-")  # the minus sign of typographers
        if not text and empty is not None:
            return empty
        try:
            value = float(text if text.count(",") != 1 or "." in text else text.replace(",", "."))
        except ValueError as error:
            raise InputError(f"{self.where}: {column} is {text!r}, which is no number. Correct the line.") from error
        if not math.isfinite(value):
            raise InputError(f"{self.where}: {column} is {text}, which is not finite. Correct the line.")
        return value


def read_table(table: Path, columns: Sequence[str], what: str = "") -> list[Row]:
    """All rows of a table that has these columns, letter case aside; blank rows are passed over.

    Args:
        table: its path.
        columns: that there must be.
        what: more about what is needed, as a sentence.

    Raises:
        InputError: the file is no text, a column is missing, or a row has more or fewer cells than there are columns.
    """
    separator, header, lines = _split(table, columns)
    if missing := [name for name in columns if name.lower() not in header]:
        there = ", ".join(name for name in header if name) or "none"
        raise InputError(
            f"{table} lacks the column{'s' * (len(missing) > 1)} {', '.join(missing)}; it has {there}. {what}".strip()
        )
    rows = []
    for number, cells in lines:
        where = f"{table.name}, line {number}"
        while len(cells) > len(header) and not cells[-1]:  # separators that spreadsheets add
            cells.pop()
        if len(cells) > len(header):
            raise InputError(
                f"{where}: {len(cells)} cells in a table of {len(header)} columns. Put texts that hold "
                f"{'a comma' if separator == ',' else repr(separator)} in quotes."
            )
        needed = max(header.index(name.lower()) for name in columns)
        if len(cells) <= needed:
            raise InputError(f"{where}: there is no {header[len(cells)]}. Complete the line, or remove it.")
        rows.append(Row(dict(zip(header, cells, strict=False)), where))
    return rows


def columns_of(table: Path, columns: Sequence[str]) -> list[str]:
    """Names of the columns of a table in lower case, by the separator that finds most of those given.

    Raises:
        InputError: the file is no text.
    """
    return _split(table, columns)[1]


def _split(table: Path, columns: Sequence[str]) -> tuple[str, list[str], Iterator[tuple[int, list[str]]]]:
    text = _text(table)
    wanted = {name.lower() for name in columns}
    found: list[tuple[int, str, list[str]]] = []
    for separator in _SEPARATORS:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
        try:
            header = next((row for row in reader if _is_filled(row)), [])
        except csv.Error:
            continue
        names = [name.strip().strip('"').lower() for name in header]
        found.append((len(wanted & set(names)), separator, names))
    if not found:
        raise InputError(f"{table} cannot be read as CSV. Save it as comma-separated text.")
    _, separator, names = max(found, key=lambda one: one[0])
    return separator, names, _rows(table, text, separator)


def _rows(table: Path, text: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    is_header = True
    try:
        for row in reader:
            if _is_filled(row):
                if not is_header:
                    yield reader.line_num, [cell.strip() for cell in row]
                is_header = False
    except csv.Error as error:
        raise InputError(f"{table.name}, line {reader.line_num}: {error}. Correct the line.") from error


def _is_filled(row: Sequence[str]) -> bool:
    return any(cell.strip() for cell in row) and not row[0].lstrip().startswith("#")


def _text(table: Path) -> str:
    try:
        content = table.read_bytes()
    except OSError as error:
        raise InputError(f"{table} cannot be read: {error.strerror}.") from error
    encoding = next((name for mark, name in _ENCODINGS if content.startswith(mark)), "utf-8")
    if b"\0" in content and encoding != "utf-16":
        raise InputError(f"{table} cannot be read as CSV: it is no text. Save it as comma-separated text.")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError:
        text = content.decode("cp1252", errors="replace")  # of a spreadsheet; names of columns are ASCII
    return _FOR_EXCEL.sub("", text)
