"""Logs that a resumed run goes on with as if it had never stopped."""

from __future__ import annotations

from pathlib import Path

from utils.csv_log import CsvLog
from utils.errors import UserError

STEP = "step"


class StepLog(CsvLog):
    """A log of numbers; the first column is the step.

    Columns of an earlier file that are no longer written stay, behind the others.

    Attributes:
        rows: what the file holds, {column: number, or None where there is none}.

    Raises:
        UserError: the earlier file is no log, or the new one cannot be written.
    """

    def __init__(self, path: Path, columns: tuple[str, ...], step: int):
        """Keeps of an earlier file the rows up to ``step``, those beyond being made again."""
        earlier, rows = _read(path) if step else ([], [])
        columns = (*columns, *(name for name in earlier if name not in columns))
        self.rows = [{name: row.get(name) for name in columns} for row in rows if row[STEP] <= step]
        super().__init__(path, columns, (row.values() for row in self.rows),
                         f"free some room and go on with --resume {path.parent}")

    def record(self, **row) -> None:
        """Appends numbers by column. Raises UserError when the disk is full."""
        self.rows.append({name: row.get(name) for name in self.columns})
        self.add(self.rows[-1].values())


def _read(path: Path) -> tuple[list[str], list[dict]]:
    """Columns and rows of an earlier run; broken lines, as the last after a crash may be, are left out."""
    text = path.read_text(errors="replace") if path.exists() else ""
    header, *lines = text.splitlines() or [STEP]
    columns = header.split(",")
    if columns[0] != STEP:
        raise UserError(f"{path}: is no log of a training, whose first column is {STEP}; move it away")
    rows = []
    for line in lines:
        try:
            values = [_number(text) for text in line.split(",")]
        except ValueError:
            continue
        if len(values) == len(columns) and isinstance(values[0], int):
            rows.append(dict(zip(columns, values)))
    return columns, rows


def _number(text: str) -> int | float | None:
    if text == "":
        return None
    return int(text) if text.isdecimal() else float(text)
