"""A table that grows by a row for everything that is done, by which a later run knows what is left."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Callable

from utils.errors import UserError, printable
from utils.files import atomic_write


class Journal:
    """A CSV file of ``columns``; a row that a killed run left unfinished is dropped.

    Cells are written as `printable` shows them, whatever a file is called.

    Args:
        keep: says of an earlier row whether it still holds.

    Attributes:
        rows: what was there at the beginning and still holds, by the first cell.

    Raises:
        UserError: the file cannot be read or written, or has other columns.
    """

    def __init__(self, path: Path, columns: list[str], keep: Callable[[list[str]], bool]):
        self.path, self.columns = path, columns
        self.rows = {row[0]: row for row in self._read() if keep(row)} if path.exists() else {}
        with atomic_write(path) as file:
            file.write(_lines([columns, *self.rows.values()]))

    def _read(self) -> list[list[str]]:
        try:
            text = self.path.read_bytes().decode()
            header, *rows = csv.reader(io.StringIO(text[:text.rfind("\n") + 1], newline=""))
        except (OSError, ValueError, csv.Error) as error:
            raise UserError(f"{self.path}: cannot be read as a table ({error}); choose another "
                            "--out") from error
        if header != self.columns:
            raise UserError(f"{self.path}: has the columns {', '.join(header)}, expected "
                            f"{', '.join(self.columns)}; choose another --out")
        return [row for row in rows if len(row) == len(self.columns)]

    def add(self, row: list) -> None:
        """Appends a row. Raises UserError when the disk is full."""
        try:
            with open(self.path, "ab") as file:
                file.write(_lines([row]))
        except OSError as error:
            raise UserError(f"{self.path}: cannot be written ({error.strerror}); free some room") from error


def _lines(rows: list[list]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([printable(cell) for cell in row] for row in rows)
    return text.getvalue().encode()
