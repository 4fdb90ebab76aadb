"""Scores of label maps, class by class: Dice, IoU, HD95 and ASSD, on volumes and on pictures.

Prediction and target of a scan are reduced to a confusion matrix, from which Dice and IoU follow, and to the
distances between the surfaces of the two objects of each class. A surface is a small part of a volume: a k-d
tree of its voxels gives every voxel of the other surface its nearest one, the same that distance transforms
of the whole volume would give, however far apart the objects lie.

    metrics = MulticlassMetrics(num_class=9)
    for prediction, target, spacing in scans:  # uint8 (D, H, W) both; mm along D, H, W, or None
        metrics.add(measure_scan(prediction, target, 9, spacing))
    metrics.means()["Dice"]

Needs NumPy and SciPy only. The scores of a class that both maps hold are those of the published evaluation
of PraNet-V2 in EMCAD, which calls medpy (`metric.binary`, of a version before 0.5, whose ASSD is another mean
of the same distances); see `ABSENT_RULES` for classes that are not in both.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.spatial import KDTree

from utils.errors import UserError

METRICS = ("Dice", "IoU", "HD95", "ASSD", "HD95_mm", "ASSD_mm")
"""Of a class: two fractions of 1, two distances in voxels, and the same two in mm."""

STATES = ("both", "missed", "false", "absent")
"""Where a scan has a class: in prediction and target, the target only, the prediction only, in neither."""

ABSENT_RULES = {
    "sound": {"missed": (0.0, np.nan), "false": (0.0, np.nan), "absent": (np.nan, np.nan)},
    "published": {"missed": (0.0, 0.0), "false": (1.0, 0.0), "absent": (0.0, 0.0)},
}
"""What overlap (Dice, IoU) and distance (HD95, ASSD) are taken to be where a class is not in both maps.

NaN is undefined and left out of means. A class that is missed or made up overlaps by 0, as the formulas say,
and has no distance, since there is no second surface; one in neither map says nothing of a method. As
published, what is made up is perfect, what is rightly not predicted is wrong, and both are at distance 0.
"""


@dataclass(frozen=True)
class ScanScores:
    """The scores of one scan, before a rule for absent classes is applied.

    Attributes:
        confusion: (N, N) int64, voxels by target (row) and prediction (column), background included.
        voxels, mm: (N - 1, 2) float64, HD95 and ASSD of the classes 1..N-1, NaN where a class is not in both
            maps; None where distances were not asked for or the spacing is not known.
    """

    confusion: np.ndarray
    voxels: np.ndarray | None = None
    mm: np.ndarray | None = None

    def states(self) -> np.ndarray:
        """(N - 1,) int: the place in `STATES` of each class."""
        target, prediction = self.confusion.any(axis=1)[1:], self.confusion.any(axis=0)[1:]
        return np.select([target & prediction, target, prediction], [0, 1, 2], default=3)

    def table(self, absent: str) -> np.ndarray:
        """(N - 1, 6) float64: `METRICS` of each class by a rule of `ABSENT_RULES`, NaN where undefined."""
        states, rule = self.states(), ABSENT_RULES[absent]
        unknown = np.full((len(states), 2), np.nan)
        table = np.hstack([_overlaps(self.confusion), *(unknown if distances is None else distances
                                                        for distances in (self.voxels, self.mm))])
        measured = np.repeat([True, self.voxels is not None, self.mm is not None], 2)
        for state, (overlap, distance) in rule.items():
            scores = np.where(measured, [overlap] * 2 + [distance] * 4, np.nan)
            table[states == STATES.index(state)] = scores
        return table


class MulticlassMetrics:
    """Gathers the scans of one set; a class's scores are means over scans, the set's over its classes.

    Attributes:
        num_class: number of labels, the background included.
        absent: name of the rule in `ABSENT_RULES`.
        tables: for each scan its `ScanScores.table`.
        confusion: (N, N) int64, the sum of the scans'.
        states: (N - 1, 4) int64, for each class the number of scans in each of `STATES`.
        without_spacing: number of scans without scores in mm.
    """

    def __init__(self, num_class: int, absent: str = "sound"):
        self.num_class, self.absent = num_class, absent
        self.tables: list[np.ndarray] = []
        self.confusion = np.zeros((num_class, num_class), np.int64)
        self.states = np.zeros((num_class - 1, len(STATES)), np.int64)
        self.without_spacing = 0

    def add(self, scores: ScanScores) -> None:
        self.tables.append(scores.table(self.absent))
        self.confusion += scores.confusion
        self.states += scores.states()[:, None] == np.arange(len(STATES))
        self.without_spacing += scores.mm is None

    def class_means(self) -> np.ndarray:
        """(N - 1, 6) float64: `METRICS` of each class, means over the scans where it is defined, else NaN."""
        return _mean(np.stack(self.tables))

    def means(self) -> dict[str, float]:
        """`METRICS` of the set: means of `class_means` over the classes where it is defined, else NaN."""
        return dict(zip(METRICS, _mean(self.class_means()).tolist()))


LabelMeasures = MulticlassMetrics  # its former name


def measure_scan(prediction: np.ndarray, target: np.ndarray, num_class: int,
                 spacing: tuple[float, float, float] | None = None) -> ScanScores:
    """The scores of a predicted label map against the target, both uint8 (D, H, W); D = 1 is a picture.

    Args:
        spacing: mm between voxels along D, H, W; None gives no scores in mm.

    Raises:
        UserError: the maps differ in shape, or hold labels outside 0..num_class-1.
    """
    confusion = count_labels(prediction, target, num_class)
    if len(target) == 1:  # in a single slice every voxel would lie on a surface
        prediction, target, spacing = prediction[0], target[0], spacing and spacing[1:]
    voxels = np.full((num_class - 1, 2), np.nan)
    mm = None if spacing is None else voxels.copy()
    boxes = zip(*(ndimage.find_objects(labels, num_class - 1) for labels in (prediction, target)))
    for label, (box, target_box) in enumerate(boxes, start=1):
        if box is None or target_box is None:
            continue
        surfaces = _surface(prediction, label, box), _surface(target, label, target_box)
        voxels[label - 1] = _surface_distances(*surfaces)
        if spacing is not None:
            mm[label - 1] = _surface_distances(*(surface * spacing for surface in surfaces))
    return ScanScores(confusion, voxels, mm)


def count_labels(prediction: np.ndarray, target: np.ndarray, num_class: int) -> np.ndarray:
    """(N, N) int64: voxels by target (row) and prediction (column), of two uint8 (D, H, W) maps.

    `ScanScores` of these alone has Dice and IoU, which is quick. Raises UserError as `measure_scan` does.
    """
    if prediction.shape != target.shape:
        raise UserError(f"the predicted label map has shape {prediction.shape}, the true one {target.shape}; "
                        "a map has to be written at the size of its scan")
    for labels, which in ((prediction, "predicted"), (target, "true")):
        if labels.max() >= num_class:
            raise UserError(f"the {which} label map holds {labels.max()}, expected labels of "
                            f"0..{num_class - 1}; --num_class counts the background")
    counts = np.zeros(num_class ** 2, np.int64)
    for predicted, true in zip(prediction, target):  # a volume at once would take eight times its memory
        codes = true.astype(np.uint16) * num_class + predicted
        counts += np.bincount(codes.ravel(), minlength=num_class ** 2)
    return counts.reshape(num_class, num_class)


def _overlaps(confusion: np.ndarray) -> np.ndarray:
    """(N - 1, 2) float64: Dice and IoU of each class, NaN for one that is in neither map."""
    shared = np.diagonal(confusion)[1:]
    both = (confusion.sum(axis=0) + confusion.sum(axis=1))[1:]
    unions = np.stack([both, both - shared], axis=1)
    return np.divide(np.stack([2 * shared, shared], axis=1), unions,
                     where=unions > 0, out=np.full(unions.shape, np.nan))


def _surface(labels: np.ndarray, label: int, box: tuple[slice, ...]) -> np.ndarray:
    """(n, 2 or 3) int: the object's voxels with a neighbour across a face that is outside it.

    What lies beyond the map is outside as well: where its border cuts an object there is a surface.
    """
    region = labels[box] == label
    return np.argwhere(region & ~ndimage.binary_erosion(region)) + [side.start for side in box]


def _surface_distances(prediction: np.ndarray, target: np.ndarray) -> tuple[float, float]:
    """HD95 and ASSD of two surfaces, (n, 2 or 3) and (m, 2 or 3) points.

    HD95 is the 95th percentile of the distances of both directions together, ASSD the mean of their means.
    """
    # Building a tree asks for the number next to a coordinate. Next to 0 that is a subnormal one, which a
    # process that has loaded code compiled by -Ofast, as Jittor's is, takes for 0: it would never end.
    points = prediction + 1.0, target + 1.0
    directed = [KDTree(other).query(each)[0] for each, other in (points, points[::-1])]
    return np.percentile(np.concatenate(directed), 95), (directed[0].mean() + directed[1].mean()) / 2


def _mean(scores: np.ndarray) -> np.ndarray:
    """The mean over the first axis of what is defined; NaN where nothing is."""
    defined = np.count_nonzero(~np.isnan(scores), axis=0)
    return np.divide(np.nansum(scores, axis=0), defined, where=defined > 0,
                     out=np.full(scores.shape[1:], np.nan))
