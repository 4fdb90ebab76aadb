"""Logs that a resumed run goes on with as if it had never stopped."""

from __future__ import annotations

from pathlib import Path

from utils.csv_log import CsvLog


class StepLog(CsvLog):
    """A log of numbers; the first column is the step.

    Attributes:
        rows: what the file holds, {column: number, or None where there is none}.
    """

    def __init__(self, path: Path, columns: tuple[str, ...], step: int):
        """Keeps of an earlier file the rows up to ``step``, those beyond being made again."""
        self.rows = [row for row in _read(path, columns) if row["step"] <= step] if step else []
        super().__init__(path, columns, (row.values() for row in self.rows),
                         f"free some room and go on with --resume {path.parent}")

    def record(self, **row) -> None:
        """Appends numbers by column. Raises UserError when the disk is full."""
        self.rows.append({name: row[name] for name in self.columns})
        self.add(self.rows[-1].values())


def _read(path: Path, columns: tuple[str, ...]) -> list[dict]:
    """The rows of an earlier run; broken lines, as the last after a crash may be, are left out."""
    lines = path.read_text(errors="replace").splitlines() if path.exists() else []
    if lines[:1] != [",".join(columns)]:
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
