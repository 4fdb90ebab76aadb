"""Tables of scores, for the terminal and for the report, and the paper's to compare with."""

from __future__ import annotations

from dataclasses import dataclass

from utils.metrics.binary import UNDEFINED
from utils.metrics.scoring import SetScores

COLUMNS = {"meanDic": "mDice", "meanIoU": "mIoU", "wFm": "wFm", "Sm": "Sm", "meanEm": "mEm", "mae": "MAE"}
"""The six metrics of the paper's tables by their name in `METRICS`."""

PAPER = {
    "CVC-300": {
        "PraNet-V1": (87.06, 79.61, 84.32, 92.55, 94.97, 0.99),
        "PVT-PraNet-V1": (86.59, 78.92, 83.15, 91.84, 94.45, 1.03),
        "PraNet-V2": (89.83, 82.66, 87.79, 93.70, 97.47, 0.59),
        "PVT-PraNet-V2": (89.89, 83.11, 88.48, 93.96, 97.04, 0.73),
    },
    "CVC-ClinicDB": {
        "PraNet-V1": (89.84, 84.83, 89.63, 93.67, 96.22, 0.94),
        "PVT-PraNet-V1": (90.96, 85.42, 89.90, 94.34, 96.49, 1.02),
        "PraNet-V2": (92.28, 87.22, 91.97, 94.87, 97.38, 0.91),
        "PVT-PraNet-V2": (93.09, 88.06, 92.80, 94.45, 98.23, 0.84),
    },
    "Kvasir": {
        "PraNet-V1": (89.39, 83.55, 88.00, 91.25, 94.00, 3.04),
        "PVT-PraNet-V1": (87.09, 81.31, 84.52, 89.33, 92.58, 4.19),
        "PraNet-V2": (90.70, 85.29, 89.59, 91.70, 95.07, 2.35),
        "PVT-PraNet-V2": (91.52, 86.12, 90.39, 92.50, 95.64, 2.33),
    },
    "ETIS-LaribPolypDB": {
        "PraNet-V1": (62.75, 56.57, 60.07, 79.33, 80.77, 3.07),
        "PVT-PraNet-V1": (68.32, 60.02, 61.65, 81.38, 80.92, 4.14),
        "PraNet-V2": (64.05, 56.54, 60.43, 79.41, 79.74, 2.08),
        "PVT-PraNet-V2": (76.35, 68.72, 72.96, 86.50, 88.26, 1.45),
    },
}
"""Table 1 of PraNet-V2, times 100: set, network, and its scores in the order of `COLUMNS`."""


@dataclass(frozen=True)
class Table:
    """A title, a header and rows of text; the first `labels` columns name the row, the others are numbers."""

    title: str
    header: list[str]
    rows: list[list[str]]
    labels: int = 2

    def text(self) -> str:
        """The table in lines, labels to the left and numbers to the right."""
        lines = [self.header, *self.rows]
        widths = [max(len(line[column]) for line in lines) for column in range(len(self.header))]
        aligned = ["  ".join(cell.ljust(width) if column < self.labels else cell.rjust(width)
                             for column, (cell, width) in enumerate(zip(line, widths))).rstrip()
                   for line in lines]
        return "\n".join([self.title, aligned[0], "-" * (sum(widths) + 2 * (len(widths) - 1)), *aligned[1:]])


def results_table(scores: list[SetScores], mask_rule: str) -> Table:
    """The six metrics of every set, the methods one below the other."""
    rows = []
    for entry in scores:
        result = entry.metrics.result()
        cells = [f"{100 * result[name]:.3f}" for name in COLUMNS]
        rows.append([entry.dataset, entry.method, entry.scored(), *cells])
    header = ["set", "method", "images", *COLUMNS.values()]
    return Table(f"Measures times 100, mask rule {mask_rule}", header, rows)


def paper_table(scores: list[SetScores], method: str) -> Table:
    """The paper's Table 1, and behind each score how far the method's own lies above (+) or below it."""
    reached = {entry.dataset: entry.metrics.result() for entry in scores if entry.method == method}
    rows = []
    for dataset, networks in PAPER.items():
        own = reached.get(dataset)
        for network, published in networks.items():
            cells = [f"{score:.2f} {points(100 * own[name] - score)}" if own else f"{score:.2f}"
                     for name, score in zip(COLUMNS, published)]
            rows.append([dataset, network, *cells])
    title = f"The paper's Table 1, and by how many points {method} differs on the sets measured here"
    return Table(title, ["set", "network", *COLUMNS.values()], rows)


def points(difference: float) -> str:
    """A difference with its sign."""
    return f"{round(difference, 2) + 0.0:+.2f}"  # adding 0 turns -0.0 into 0.0


def notes(scores: list[SetScores]) -> list[str]:
    """A line for all that a reader of the scores must know: undefined ones, odd maps, maps left out."""
    lines = []
    for entry in scores:
        where = f"{entry.dataset}, {entry.method}"
        lines += [f"{where}: {name} is undefined for {count} of {entry.metrics.images} images "
                  f"({UNDEFINED[name]})" for name, count in entry.metrics.undefined.items() if count]
        if max(scores.brightest for scores in entry.scores) == 1:
            lines.append(f"{where}: no map has a level above 1, expected 0..255; multiply 0/1 maps by 255")
        lines += [f"{where}: left out: {defect}" for defect in entry.defects]
    return lines
