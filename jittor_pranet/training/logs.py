"""Logs that a resumed run goes on with as if it had never stopped."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from utils.errors import UserError
from utils.files import write_whole


class Log:
    """A CSV file that grows by whole rows; the first column is the step.

    Attributes:
        rows: what the file holds, {column: number}.
    """

    def __init__(self, path: Path, columns: tuple[str, ...], step: int):
        """Keeps of an earlier file the rows up to ``step``, those beyond being made again."""
        self.path, self.columns = path, columns
        self.rows = [row for row in _read(path, columns) if row["step"] <= step] if step else []
        with write_whole(path, "w", newline="") as file:
            file.write(_line(columns))
            file.writelines(_line(row.values()) for row in self.rows)
        self._file = open(path, "ab", buffering=0)  # noqa: SIM115 - for as long as the run lasts

    def add(self, **row) -> None:
        """Appends a row at once. Raises UserError when the disk is full."""
        self.rows.append({name: row[name] for name in self.columns})
        line = _line(self.rows[-1].values()).encode()
        try:
            if self._file.write(line) != len(line):
                raise OSError("no space left")
        except OSError as error:
            raise UserError(f"{self.path}: cannot be written ({error.strerror or error}); free some room and "
                            f"go on with --resume {self.path.parent}") from error

    def close(self) -> None:
        self._file.close()


def _line(values) -> str:
    text = io.StringIO(newline="")
    csv.writer(text).writerow(values)
    return text.getvalue()


def _read(path: Path, columns: tuple[str, ...]) -> list[dict]:
    """The rows of an earlier run; what is not whole, as the last line of a killed one may be, is left out."""
    if not path.exists():
        return []
    rows = []
    with open(path, newline="") as file:
        for row in csv.DictReader(file):
            values = [row.get(name) for name in columns]
            if None not in values:
                rows.append(dict(zip(columns, map(_number, values))))
    return rows


def _number(text: str) -> int | float | None:
    if text == "":
        return None
    return int(text) if text.isdecimal() else float(text)
