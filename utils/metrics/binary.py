"""Scores of polyp segmentation, equal to the published evaluation's, in one pass per image.

Each pair of a map and a mask is reduced to histograms: how often every grey level of the map occurs inside
and outside the mask, in each of the four quarters around the mask's centre. Dice, IoU, sensitivity,
specificity and the E-measure at all 256 thresholds, the S-measure and the mean absolute error follow from
these counts alone; only the weighted F-measure looks at pixels again, for their distance to the mask.

    metrics = BinaryMetrics()
    for levels, mask in pairs:          # uint8 (H, W) map, bool or uint8 (H, W) mask
        metrics.update(levels, mask)
    metrics.result()["meanDic"]

Needs NumPy and SciPy only. Sources:
    Dice / IoU, sensitivity, specificity: PraNet, Fan et al., MICCAI 2020 (its evaluation at 256 thresholds).
    wFm: Margolin, Zelnik-Manor, Tal, "How to Evaluate Foreground Maps?", CVPR 2014.
    S-measure: Fan, Cheng, Liu, Li, Borji, "Structure-measure", ICCV 2017.
    E-measure: Fan, Gong, Cao, Ren, Cheng, Borji, "Enhanced-alignment Measure", IJCAI 2018.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

EPS = np.finfo(np.float64).eps
LEVELS = np.arange(256)

# The published thresholds fall from 1 to 0 and are compared with level / 255 by `>=` in float64. In 66 of 256
# places linspace lands just above the level meant, so that this level counts as below its own threshold.
THRESHOLDS = np.linspace(1, 0, 256)
FIRST_LEVEL = np.searchsorted(LEVELS / 255, THRESHOLDS, side="left")
"""(256,) int: the lowest grey level that is marked as polyp at each of `THRESHOLDS`."""

MASK_RULES = {"mid": 127, "published": 0}
"""Grey levels of a mask above this one are polyp. Published masks have JPEG noise of 1..7 in the background,
which the published `> 0.5` on 0..255 takes for polyp; the papers' scores need mid-grey."""

CURVES = ("Dic", "IoU", "Em", "Sen", "Spe")
"""Metrics that have a score at each of the 256 thresholds."""

METRICS = ("meanDic", "meanIoU", "wFm", "Sm", "meanEm", "mae", "maxEm", "maxDic", "maxIoU",
           "meanSen", "maxSen", "meanSpe", "maxSpe")
"""The metrics of a set, named as in the published evaluation; all are fractions of 1."""

_KERNEL_REACH = 3  # pixels on each side of the weighted F-measure's 7x7 window
_KERNEL = np.exp(-np.arange(-_KERNEL_REACH, _KERNEL_REACH + 1) ** 2 / (2 * 5.0 ** 2))
_KERNEL /= _KERNEL.sum()
"""(7,) float64: the window, a Gaussian of 5 pixels, is the outer product of this with itself."""

UNDEFINED = {
    "wFm": "empty mask: nothing to weigh, counted as 0",
    "Sm": "mask's centre in the first row or column: a quarter without pixels, left out",
    "Spe": "full mask: no background, counted as 1 where a threshold finds any polyp",
}
"""Where the published evaluation gives NaN, why, and what is taken instead."""


@dataclass(frozen=True)
class PairScores:
    """The scores of one map against its mask.

    Attributes:
        curves: (5, 256) float64, the rows named by `CURVES`, the columns by `THRESHOLDS`.
        wFm, Sm, mae: weighted F-measure, S-measure and mean absolute error, fractions of 1.
        brightest: the map's highest level, 0..255.
        undefined: those keys of `UNDEFINED` that hold for this pair.
    """

    curves: np.ndarray
    wFm: float
    Sm: float
    mae: float
    brightest: int
    undefined: tuple[str, ...]

    def result(self) -> dict[str, float]:
        """The pair's scores under the names of `METRICS`."""
        return _by_name(self.curves, {"wFm": self.wFm, "Sm": self.Sm, "mae": self.mae})


class BinaryMetrics:
    """Gathers the pairs of one set; the set's scores are means over its images.

    Attributes:
        images: number of pairs taken so far.
        undefined: number of images for each key of `UNDEFINED`.
    """

    def __init__(self, mask_rule: str = "mid"):
        if mask_rule not in MASK_RULES:
            raise ValueError(f"mask rule {mask_rule!r} is unknown; known are {', '.join(MASK_RULES)}")
        self.mask_rule = mask_rule
        self.images = 0
        self.undefined = dict.fromkeys(UNDEFINED, 0)
        self._curves = np.zeros((len(CURVES), len(THRESHOLDS)))
        self._sums = {"wFm": 0.0, "Sm": 0.0, "mae": 0.0}

    def update(self, levels: np.ndarray, mask: np.ndarray) -> PairScores:
        """Takes a map, uint8 (H, W) with 255 for certain polyp, and its mask, bool or uint8 (H, W).

        A uint8 mask is cut by the mask rule. Returns the pair's own scores.

        Raises:
            ValueError: another dtype or number of axes, different shapes, no pixel, or a mask of 0 and 1.
        """
        scores = measure_pair(np.asarray(levels), binary_mask(np.asarray(mask), self.mask_rule))
        self.add(scores)
        return scores

    def add(self, scores: PairScores) -> None:
        """Takes a pair that was measured elsewhere, such as in another process."""
        self.images += 1
        self._curves += scores.curves
        for name in self._sums:
            self._sums[name] += getattr(scores, name)
        for name in scores.undefined:
            self.undefined[name] += 1

    def curves(self) -> dict[str, np.ndarray]:
        """For each of `CURVES` the mean over images, (256,) float64, at every one of `THRESHOLDS`."""
        self._require_images()
        return dict(zip(CURVES, self._curves / self.images))

    def result(self) -> dict[str, float]:
        """The set's scores under the names of `METRICS`: mean over images first, then over thresholds."""
        self._require_images()
        scalars = {name: total / self.images for name, total in self._sums.items()}
        return _by_name(self._curves / self.images, scalars)

    def _require_images(self) -> None:
        if not self.images:
            raise ValueError("no image was measured; call update() first")


def binary_mask(mask: np.ndarray, rule: str) -> np.ndarray:
    """(H, W) bool: a bool mask as it is, a uint8 mask cut by the rule of this name in `MASK_RULES`.

    Raises:
        ValueError: another dtype, or levels of 0 and 1 only, which the rule would take for an empty mask.
    """
    if mask.dtype == bool:
        return mask
    if mask.dtype != np.uint8:
        raise ValueError(f"mask has dtype {mask.dtype}, expected bool or uint8 (0..255)")
    polyp = mask > MASK_RULES[rule]
    if not polyp.any() and mask.any() and mask.max() == 1:
        raise ValueError("mask holds the levels 0 and 1 only, expected bool or levels of 0..255")
    return polyp


def measure_pair(levels: np.ndarray, mask: np.ndarray) -> PairScores:
    """The scores of one map, uint8 (H, W), against its mask, bool (H, W).

    Raises:
        ValueError: another dtype or number of axes, different shapes, or no pixel.
    """
    _check(levels, mask)
    lit = _bounds((levels != 0) | mask, margin=_KERNEL_REACH)
    crop, crop_mask = levels[lit], mask[lit]  # outside, the map is black and the mask empty
    quarters = _quarters(crop_mask, mask.shape, origin=(lit[0].start, lit[1].start))
    table = _histograms(crop, crop_mask, quarters)
    outside, inside = table.sum(axis=0)
    positives = int(inside.sum())

    return PairScores(
        curves=_threshold_curves(outside, inside),
        wFm=_weighted_f(crop, crop_mask) if positives else 0.0,
        Sm=_s_measure(table, quarters, mask.shape),
        mae=int(LEVELS @ outside + (255 - LEVELS) @ inside) / (255 * mask.size),
        brightest=int(np.flatnonzero(outside + inside)[-1]),
        undefined=_undefined(positives, quarters))


def _undefined(positives: int, quarters: list[_Quarter]) -> tuple[str, ...]:
    if positives == 0:
        return ("wFm",)
    if positives == sum(quarter.size for quarter in quarters):
        return ("Spe",)
    return () if all(quarter.size for quarter in quarters) else ("Sm",)


def _check(levels: np.ndarray, mask: np.ndarray) -> None:
    if levels.dtype != np.uint8:
        raise ValueError(f"map has dtype {levels.dtype}, expected uint8; make grey levels of values of 0..1 "
                         "with (values * 255).astype(np.uint8)")
    if mask.dtype != bool:
        raise ValueError(f"mask has dtype {mask.dtype}, expected bool; see binary_mask")
    if levels.ndim != 2 or levels.shape != mask.shape:
        raise ValueError(f"map has shape {levels.shape} and mask {mask.shape}, expected the same (H, W)")
    if levels.size == 0:
        raise ValueError(f"map has shape {levels.shape}, expected at least one pixel")


def _by_name(curves: np.ndarray, scalars: dict[str, float]) -> dict[str, float]:
    scores = dict(scalars)
    for name, curve in zip(CURVES, curves):
        scores[f"mean{name}"], scores[f"max{name}"] = float(curve.mean()), float(curve.max())
    return {name: scores[name] for name in METRICS}


def _bounds(marked: np.ndarray, margin: int) -> tuple[slice, slice]:
    """The smallest box around the marked pixels, grown by a margin within the image; all if none is."""
    rows, columns = np.flatnonzero(marked.any(axis=1)), np.flatnonzero(marked.any(axis=0))
    if not rows.size:
        return slice(0, marked.shape[0]), slice(0, marked.shape[1])
    return tuple(slice(max(at[0] - margin, 0), at[-1] + margin + 1) for at in (rows, columns))


# ---------------------------------------------------------------- counts


@dataclass(frozen=True)
class _Quarter:
    """One of the four parts around the mask's centre: its (height, width), and its part of the crop."""

    shape: tuple[int, int]
    in_crop: tuple[slice, slice]

    @property
    def size(self) -> int:
        return self.shape[0] * self.shape[1]


def _quarters(crop_mask: np.ndarray, shape: tuple[int, int], origin: tuple[int, int]) -> list[_Quarter]:
    """Divides the image at the mask's centre; `origin` is the crop's first row and column in the image."""
    halves = []
    for axis, (length, start) in enumerate(zip(shape, origin)):
        counts = np.count_nonzero(crop_mask, axis=1 - axis)
        places = np.arange(start, start + len(counts))
        # The published Python rounds half to even and, unlike the authors' MATLAB, adds no 1 to the centre.
        centre = round(int(counts @ places) / int(counts.sum())) if counts.any() else length // 2
        cut = max(centre - start, 0)
        halves.append(((centre, slice(0, cut)), (length - centre, slice(cut, None))))
    return [_Quarter((height, width), (rows, columns))
            for height, rows in halves[0] for width, columns in halves[1]]


def _histograms(crop: np.ndarray, crop_mask: np.ndarray, quarters: list[_Quarter]) -> np.ndarray:
    """(4, 2, 256) int64: pixels of each grey level per quarter, outside (0) and inside (1) the mask."""
    code = crop | (crop_mask.astype(np.uint16) << 8)
    table = np.stack([np.bincount(code[quarter.in_crop].ravel(), minlength=512) for quarter in quarters])
    # Pixels that the crop left out are black and outside the mask.
    table[:, 0] += [quarter.size for quarter in quarters] - table.sum(axis=1)
    return table.reshape(4, 2, 256)


def _threshold_curves(outside: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """(5, 256) float64: `CURVES` at `THRESHOLDS` from (256,) counts of levels outside and inside the mask."""
    false_positive = np.cumsum(outside[::-1])[::-1][FIRST_LEVEL]
    true_positive = np.cumsum(inside[::-1])[::-1][FIRST_LEVEL]
    positives, negatives = inside.sum(), outside.sum()
    marked = true_positive + false_positive
    # The published code sets every score of the counts to 0, specificity too, where no polyp pixel is hit.
    hit = true_positive > 0
    specificity = (negatives - false_positive) / negatives if negatives else np.ones(len(THRESHOLDS))
    return np.stack([
        np.divide(2 * true_positive, positives + marked, where=hit, out=np.zeros(len(THRESHOLDS))),
        np.divide(true_positive, positives + false_positive, where=hit, out=np.zeros(len(THRESHOLDS))),
        _e_measure(true_positive, false_positive, int(positives), int(negatives)),
        np.divide(true_positive, positives, where=hit, out=np.zeros(len(THRESHOLDS))),
        np.where(hit, specificity, 0.0)])


def _e_measure(true_positive: np.ndarray, false_positive: np.ndarray,
               positives: int, negatives: int) -> np.ndarray:
    """E-measure (Fan 2018, eq. 2-5) of binary maps from counts: a pixel's term depends on its kind only."""
    size = positives + negatives
    true_negative = negatives - false_positive
    if positives == 0:
        total = true_negative
    elif negatives == 0:
        total = true_positive
    else:
        mean_mask, mean_map = positives / size, (true_positive + false_positive) / size
        total = 0.0
        for count, in_mask, in_map in ((true_positive, 1, 1), (positives - true_positive, 1, 0),
                                       (false_positive, 0, 1), (true_negative, 0, 0)):
            a, b = in_mask - mean_mask, in_map - mean_map
            total = total + count * (2 * a * b / (a * a + b * b + EPS) + 1) ** 2 / 4
    # Dividing by one pixel less lets a perfect map exceed 1 a little; kept from the published code.
    return total / (size - 1 + EPS)


# ---------------------------------------------------------------- S-measure


def _s_measure(table: np.ndarray, quarters: list[_Quarter], shape: tuple[int, int]) -> float:
    """S-measure (Fan 2017): half likeness of object and background, half structural likeness of quarters."""
    outside, inside = table.sum(axis=0)
    size, positives = shape[0] * shape[1], int(inside.sum())
    mean_level = int(LEVELS @ (outside + inside)) / (255 * size)
    if positives == 0:
        return 1 - mean_level
    if positives == size:
        return mean_level
    weight = positives / size
    by_object = weight * _object_likeness(inside) + (1 - weight) * _object_likeness(outside[::-1])
    by_region = sum(quarter.size / size * _region_likeness(counts, quarter, shape)
                    for counts, quarter in zip(table, quarters) if quarter.size)
    return max((by_object + by_region) / 2, 0.0)


def _object_likeness(counts: np.ndarray) -> float:
    """How bright and even the levels of these (256,) counts are; std with ddof=0 as in the published code."""
    values, total = LEVELS / 255, counts.sum()
    mean = (counts * values).sum() / total
    deviation = np.sqrt((counts * (values - mean) ** 2).sum() / total)
    return float(2 * mean / (mean * mean + 1 + deviation + EPS))


def _region_likeness(counts: np.ndarray, quarter: _Quarter, shape: tuple[int, int]) -> float:
    """Structural similarity of map and mask in a quarter, from its (2, 256) counts in exact integers."""
    size = quarter.size
    both = counts.sum(axis=0)
    positives = int(counts[1].sum())
    total, squares, shared = int(LEVELS @ both), int(LEVELS ** 2 @ both), int(LEVELS @ counts[1])
    spread_map = size * squares - total * total
    spread_mask = size * positives - positives * positives
    if spread_map == spread_mask == 0:
        # Map and mask each of one level count as alike or, if the published float mean of the level is off by
        # a rounding error, as unlike. The mean is therefore taken as there: over a part of a whole array.
        level = total // size / 255
        rounded = np.full(shape, level)[:quarter.shape[0], :quarter.shape[1]].mean()
        return float(rounded == level)
    mean_map, mean_mask = total / (255 * size), positives / size
    freedom = size - 1 + EPS
    variance_map, variance_mask = spread_map / (255 ** 2 * size * freedom), spread_mask / (size * freedom)
    covariance = (size * shared - total * positives) / (255 * size * freedom)
    return (4 * mean_map * mean_mask * covariance
            / ((mean_map ** 2 + mean_mask ** 2) * (variance_map + variance_mask) + EPS))


# ---------------------------------------------------------------- weighted F-measure

def _weighted_f(crop: np.ndarray, crop_mask: np.ndarray) -> float:
    """Weighted F-measure (Margolin 2014) of a map that is black outside the crop.

    The crop keeps `_KERNEL_REACH` pixels around the mask, or the image's edge: the window sees what it
    would see in the whole image. Nor does a pixel's nearest mask pixel depend on what was cut away.
    """
    nearest = ndimage.distance_transform_edt(~crop_mask, return_distances=False, return_indices=True)

    box = _bounds(crop_mask, margin=_KERNEL_REACH)
    mask = crop_mask[box]
    positives = np.count_nonzero(mask)
    # Within the mask a pixel's error may be excused by its neighbours'; a neighbour outside counts with the
    # error of the mask pixel nearest to it.
    error = 1 - crop[nearest[0][box], nearest[1][box]] / 255
    smooth = ndimage.correlate1d(ndimage.correlate1d(error, _KERNEL, axis=0, mode="nearest"),
                                 _KERNEL, axis=1, mode="nearest")
    missed = np.minimum(error, smooth)[mask].sum()

    # Outside an error weighs more the farther it lies from the mask: from 1 at the edge to 2 far away.
    wrong = (crop != 0) & ~crop_mask
    rows, columns = np.indices(crop.shape, dtype=np.int32, sparse=True)
    distance = np.sqrt(((nearest[0] - rows) ** 2 + (nearest[1] - columns) ** 2)[wrong])
    false = (crop[wrong] / 255 * (2 - np.exp(np.log(0.5) / 5 * distance))).sum()

    recall = 1 - missed / positives
    precision = (positives - missed) / (positives - missed + false + EPS)
    return float(2 * recall * precision / (recall + precision + EPS))
