"""CSV files: cells that are safe for a spreadsheet, and a file that grows by whole rows.

Names of files come from strangers. A spreadsheet runs a cell that begins with =, +, - or @, so an apostrophe
goes before it. A line break or what is no character is escaped as in Python's strings, and so is the
backslash. `text_of` takes both back.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from utils.errors import UserError, printable
from utils.files import atomic_write

# Of formulas, in the wide letters of East Asia as well; and the mark itself, so that it can be taken off.
FORMULA_STARTS = tuple("=+-@\uff1d\uff0b\uff0d\uff20'")
NUMBER = re.compile(r"[+-](\d+\.?\d*|\.\d+)(e[+-]?\d+)?|[+-](inf|nan)", re.ASCII | re.IGNORECASE)
ESCAPE = re.compile(r"\\(\\|[nrt]|x[0-9a-f]{2}|u[0-9a-f]{4}|U000[0-9a-f]{5}|U0010[0-9a-f]{4})")


class CsvLog:
    """A CSV file of ``columns``, written anew with the ``rows`` of an earlier one that are to stay.

    Cells are written by `cell_of`.

    Args:
        advice: what to do when the disk is full.

    Raises:
        UserError: the file cannot be written.
    """

    def __init__(self, path: Path, columns: Sequence[str], rows: Iterable[Iterable],
                 advice: str = "free some room"):
        self.path, self.columns, self.advice = path, columns, advice
        with atomic_write(path) as file:
            file.write(_lines([columns, *rows]))

    def add(self, row: Iterable) -> None:
        """Appends a row. Raises UserError when the disk is full."""
        try:
            with open(self.path, "ab") as file:
                file.write(_lines([row]))
        except OSError as error:
            raise UserError(f"{self.path}: cannot be written ({error.strerror or error}); "
                            f"{self.advice}") from error


def read_rows(path: Path, columns: Sequence[str]) -> list[list[str]]:
    """The rows of a `CsvLog`, as the texts that were written.

    A line that a killed run left unfinished is left out. Without a file or a whole line there are none.

    Raises:
        UserError: the file cannot be read or has other columns.
    """
    if not path.exists():
        return []
    try:
        whole, end, _ = path.read_bytes().rpartition(b"\n")  # cut perhaps inside of a character
        rows = list(csv.reader(io.StringIO((whole + end).decode(), newline="")))
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read as a table ({error}); choose another --out") from error
    if not rows:
        return []
    header, *rows = [[text_of(cell) for cell in row] for row in rows]
    if header != list(columns):
        raise UserError(f"{path}: has the columns {', '.join(header)}, expected {', '.join(columns)}; choose "
                        "another --out")
    return [row for row in rows if len(row) == len(columns)]


def cell_of(value: object) -> str:
    """A value as it is written into a CSV file, None as nothing; numbers stay numbers."""
    text = "" if value is None else printable(str(value).replace("\\", "\\\\"))
    return f"'{text}" if text.startswith(FORMULA_STARTS) and not NUMBER.fullmatch(text) else text


def text_of(cell: str) -> str:
    """The text that `cell_of` made a cell of."""
    if cell[:1] == "'" and cell[1:].startswith(FORMULA_STARTS):
        cell = cell[1:]
    return ESCAPE.sub(lambda match: match[0].encode().decode("unicode_escape"), cell)


def _lines(rows: Iterable[Iterable]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(map(cell_of, row) for row in rows)
    return text.getvalue().encode()
