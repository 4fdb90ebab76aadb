"""What `evaluate` has to know of a task; binary.py and multiclass.py beside this file are the two."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from utils.metrics.scoring import SetScores
from utils.metrics.tables import Table


class Task(Protocol):
    """Finds the test sets when it is made.

    Attributes:
        settings: what the summary says of how scores were made.
        folders: the folder of each test set.
    """

    settings: dict[str, Any]
    folders: dict[str, Path]

    def evaluate(self, methods: dict[str, Path], workers: int, allow_missing: bool) -> list[SetScores]:
        """The scores of every method's maps on every set."""

    def tables(self, scores: list[SetScores]) -> list[Table]:
        """The scores as the terminal and the report show them."""

    def paper_table(self, scores: list[SetScores], method: str) -> Table:
        """The paper's scores beside those of a method."""

    def notes(self, scores: list[SetScores]) -> list[str]:
        """What a reader of the tables has to know, a line each."""

    def set_summary(self, entry: SetScores) -> dict:
        """The scores of one set, for summary.json."""

    def files(self, scores: list[SetScores]) -> dict[str, Any]:
        """What further files hold, by name: .csv and .json rows, .npz arrays by name."""

    def report_section(self, entries: list[SetScores], colours: dict[str, str], limit: int) -> list[str]:
        """HTML of one set, with ``limit`` pictures of each method; ``colours`` are those of the methods."""
