"""Tables of the measures of label maps, for the terminal and for the report."""

from __future__ import annotations

import math

from utils.metrics.multiclass import METRICS, STATES
from utils.metrics.scoring import SetScores
from utils.metrics.tables import Table, points

HEADINGS = dict(zip(METRICS, ("Dice", "IoU", "HD95", "ASSD", "HD95 mm", "ASSD mm")))

PAPER = {
    "Synapse": {
        "EMCAD-B2": (82.71, 74.65, 21.74),
        "EMCAD-B2-DSRA": (83.75, 74.81, 17.77),
        "MIST": (81.91, None, 14.93),
        "MIST-DSRA": (83.27, None, 14.11),
    },
    "ACDC": {
        "MIST": (91.73, None, None),
        "MIST-DSRA": (92.31, None, None),
        "MERIT": (91.78, None, None),
        "MERIT-DSRA": (92.28, None, None),
    },
}
"""Of Tables 2 and 3 of PraNet-V2: set, network, and its scores in the order of `PAPER_COLUMNS`."""
PAPER_COLUMNS = ("Dice", "IoU", "HD95")

CONSEQUENCES = {
    "sound": "missed and false ones have Dice and IoU 0 and no HD95 and ASSD, absent ones are left out",
    "published": "missed and absent ones have 0 in all metrics, false ones Dice and IoU 1, HD95 and ASSD 0",
}
"""What a rule of `ABSENT_RULES` does, in words."""


def class_names(num_class: int, given: list[str] | None) -> list[str]:
    """A name for each label: of the background, and of the others what is given or their numbers."""
    return ["background", *(given or map(str, range(1, num_class)))]


def means_table(scores: list[SetScores]) -> Table:
    """The means of every set, the methods one below the other."""
    columns = _columns(scores)
    rows = [[entry.dataset, entry.method, entry.scored(),
             *(shown(name, entry.metrics.means()[name]) for name in columns)] for entry in scores]
    title = ("Means over scans, then classes: Dice and IoU times 100, HD95 and ASSD in voxels unless in mm; "
             f"rule for absent classes: {scores[0].metrics.absent}")
    return Table(title, ["set", "method", "scans", *(HEADINGS[name] for name in columns)], rows)


def classes_table(dataset: str, scores: list[SetScores], names: list[str]) -> Table:
    """The scores of each class on one set, and in how many scans it is in which of `STATES`."""
    entries = [entry for entry in scores if entry.dataset == dataset]
    columns = _columns(entries)
    rows = []
    for label, name in enumerate(names[1:]):
        for entry in entries:
            scores_of_class = dict(zip(METRICS, entry.metrics.class_means()[label]))
            rows.append([name, entry.method, *(shown(column, scores_of_class[column]) for column in columns),
                         *map(str, entry.metrics.states[label])])
    for entry in entries:
        means = entry.metrics.means()
        rows.append(["mean", entry.method, *(shown(column, means[column]) for column in columns),
                     *map(str, entry.metrics.states.sum(axis=0))])
    title = (f"{dataset} by class; on the right, how many scans have it in both maps, only in the true one "
             "(missed), only in the predicted one (false), in neither (absent)")
    return Table(title, ["class", "method", *(HEADINGS[name] for name in columns), *STATES], rows)


def paper_table(scores: list[SetScores], method: str) -> Table:
    """The paper's scores, and behind each how far the method's own lies above (+) or below it."""
    reached = {entry.dataset: entry.metrics.means() for entry in scores if entry.method == method}
    rows = []
    for dataset, networks in PAPER.items():
        for network, published in networks.items():
            cells = []
            for name, score in zip(PAPER_COLUMNS, published):
                own = reached.get(dataset, {}).get(name, math.nan) * _scale(name)
                cells.append("-" if score is None else f"{score:.2f}" if math.isnan(own)
                             else f"{score:.2f} {points(own - score)}")
            rows.append([dataset, network, *cells])
    title = (f"The paper's Tables 2 and 3, made with --absent published, and by how much {method} differs "
             "on the sets measured here")
    return Table(title, ["set", "network", *PAPER_COLUMNS], rows)


def notes(scores: list[SetScores], names: list[str]) -> list[str]:
    """A line for all that a reader must know: absent classes, undefined scores, maps left out."""
    lines = []
    for entry in scores:
        where, metrics = f"{entry.dataset}, {entry.method}", entry.metrics
        objects = dict(zip(STATES, metrics.states.sum(axis=0)))
        if objects["both"] < metrics.states.sum():
            counts = ", ".join(f"{objects[state]} {state}" for state in STATES[1:])
            lines.append(f"{where}: of {len(names) - 1} classes in {len(metrics.tables)} scans, {counts}: "
                         f"{CONSEQUENCES[metrics.absent]}")
        for column in ("Dice", "HD95"):
            undefined = [name for name, means in zip(names[1:], metrics.class_means())
                         if math.isnan(means[METRICS.index(column)])]
            if undefined:
                lines.append(f"{where}: {column} is defined in no scan for {', '.join(undefined)}; "
                             "the mean is that of the other classes")
        if 0 < metrics.without_spacing < len(metrics.tables):
            lines.append(f"{where}: {metrics.without_spacing} of {len(metrics.tables)} scans do not say "
                         "their spacing; the scores in mm are those of the others")
        lines += [f"{where}: left out: {defect}" for defect in entry.defects]
    return lines


def shown(name: str, value: float) -> str:
    """A score as tables have it: a dash where it is undefined."""
    return "-" if math.isnan(value) else f"{_scale(name) * value:.2f}"


def _scale(name: str) -> int:
    return 100 if name in ("Dice", "IoU") else 1


def _columns(scores: list[SetScores]) -> list[str]:
    """`METRICS`, without those in mm where no scan says its spacing."""
    in_mm = any(entry.metrics.without_spacing < len(entry.pairs) for entry in scores)
    return [name for name in METRICS if in_mm or not name.endswith("_mm")]
