"""Logs that a resumed run goes on with as if it had never stopped."""

from __future__ import annotations

from pathlib import Path

from utils.errors import UserError
from utils.files import atomic_write


class Log:
    """A CSV file of numbers that grows by whole rows; the first column is the step.

    Attributes:
        rows: what the file holds, {column: number, or None where there is none}.
    """

    def __init__(self, path: Path, columns: tuple[str, ...], step: int):
        """Keeps of an earlier file the rows up to ``step``, those beyond being made again."""
        self.path, self.columns = path, columns
        self.rows = [row for row in _read(path, columns) if row["step"] <= step] if step else []
        with atomic_write(path, "w") as file:
            file.writelines([_line(columns), *(_line(row.values()) for row in self.rows)])

    def add(self, **row) -> None:
        """Appends a row at once. Raises UserError when the disk is full."""
        self.rows.append({name: row[name] for name in self.columns})
        try:
            with open(self.path, "a") as file:
                file.write(_line(self.rows[-1].values()))
        except OSError as error:
            raise UserError(f"{self.path}: cannot be written ({error.strerror or error}); free some room and "
                            f"go on with --resume {self.path.parent}") from error


def _line(values) -> str:
    return ",".join("" if value is None else str(value) for value in values) + "\n"


def _read(path: Path, columns: tuple[str, ...]) -> list[dict]:
    """The rows of an earlier run; what is not whole, as the last line after a crash may be, is left out."""
    lines = path.read_text(errors="replace").splitlines() if path.exists() else []
    if lines[:1] != [_line(columns).strip()]:
        return []
    rows = []
    for line in lines[1:]:
        try:
            values = [_number(text) for text in line.split(",")]
        except ValueError:
            continue
        if len(values) == len(columns) and isinstance(values[0], int):
            rows.append(dict(zip(columns, values)))
    return rows


def _number(text: str) -> int | float | None:
    if text == "":
        return None
    return int(text) if text.isdecimal() else float(text)
