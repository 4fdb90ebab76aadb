"""A CSV file that grows by whole rows, and that a later run goes on with."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from utils.errors import UserError, printable
from utils.files import atomic_write


class CsvLog:
    """A CSV file of ``columns``, written anew with the ``rows`` of an earlier one that are to stay.

    Cells are written as `printable` shows them, whatever a file is called, and None as nothing.

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
    """The rows of a `CsvLog`, without one that a killed run left unfinished; none where there is no file.

    Raises:
        UserError: the file cannot be read or has other columns.
    """
    if not path.exists():
        return []
    try:
        text = path.read_bytes().decode()
        header, *rows = csv.reader(io.StringIO(text[:text.rfind("\n") + 1], newline=""))
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read as a table ({error}); choose another --out") from error
    if header != list(columns):
        raise UserError(f"{path}: has the columns {', '.join(header)}, expected {', '.join(columns)}; choose "
                        "another --out")
    return [row for row in rows if len(row) == len(columns)]


def _lines(rows: Iterable[Iterable]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(
        ["" if cell is None else printable(cell) for cell in row] for row in rows)
    return text.getvalue().encode()
