"""The metrics as their definitions read, by pixel and threshold: slow, and NaN where the published code is.

Shares nothing with `utils.metrics`; the tests compare the two and the benchmark times one against the other.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

EPS = np.finfo(np.float64).eps


def measure(levels: np.ndarray, mask: np.ndarray) -> dict[str, float]:
    """Every score of one map, uint8 (H, W), against its mask, bool (H, W); NaN where it is undefined."""
    grey, target = levels.astype(np.float64) / 255, mask.astype(np.float64)
    curves = np.array([_at_threshold(grey >= threshold, mask) for threshold in np.linspace(1, 0, 256)]).T
    scores = {"wFm": weighted_f(grey, target), "Sm": s_measure(grey, target),
              "mae": abs(grey - target).mean()}
    for name, curve in zip(("Dic", "IoU", "Em", "Sen", "Spe"), curves):
        scores[f"mean{name}"], scores[f"max{name}"] = curve.mean(), curve.max()
    return {name: float(score) for name, score in scores.items()}


def _at_threshold(marked: np.ndarray, mask: np.ndarray) -> tuple[float, ...]:
    """Dice, IoU, E-measure, sensitivity and specificity of a binary map."""
    hit, false = np.sum(marked & mask), np.sum(marked & ~mask)
    missed, passed = np.sum(~marked & mask), np.sum(~marked & ~mask)
    alignment = e_measure(marked.astype(np.float64), mask.astype(np.float64))
    if hit == 0:
        return 0.0, 0.0, alignment, 0.0, 0.0
    specificity = passed / (passed + false) if passed + false else np.nan
    dice, iou = 2 * hit / (2 * hit + false + missed), hit / (hit + false + missed)
    return dice, iou, alignment, hit / (hit + missed), specificity


def e_measure(marked: np.ndarray, target: np.ndarray) -> float:
    if target.sum() == 0:
        enhanced = 1 - marked
    elif target.sum() == target.size:
        enhanced = marked
    else:
        a, b = target - target.mean(), marked - marked.mean()
        enhanced = (2 * a * b / (a ** 2 + b ** 2 + EPS) + 1) ** 2 / 4
    return enhanced.sum() / (target.size - 1 + EPS)


def s_measure(grey: np.ndarray, target: np.ndarray) -> float:
    weight = target.mean()
    if weight == 0:
        return 1 - grey.mean()
    if weight == 1:
        return grey.mean()
    by_object = weight * _object(grey[target == 1]) + (1 - weight) * _object(1 - grey[target == 0])
    row, column = (int(at.mean().round()) for at in np.nonzero(target))
    by_region = 0.0
    for part in ((slice(row), slice(column)), (slice(row), slice(column, None)),
                 (slice(row, None), slice(column)), (slice(row, None), slice(column, None))):
        if target[part].size == 0:
            return np.nan
        by_region += target[part].size / target.size * _similarity(grey[part], target[part])
    return max(0.0, (by_object + by_region) / 2)


def _object(values: np.ndarray) -> float:
    mean = values.mean()
    return 2 * mean / (mean ** 2 + 1 + values.std() + EPS)


def _similarity(grey: np.ndarray, target: np.ndarray) -> float:
    x, y, freedom = grey.mean(), target.mean(), target.size - 1 + EPS
    variances = np.sum((grey - x) ** 2 / freedom) + np.sum((target - y) ** 2 / freedom)
    covariance = np.sum((grey - x) * (target - y) / freedom)
    above, below = 4 * x * y * covariance, (x ** 2 + y ** 2) * variances
    if above != 0:
        return above / (below + EPS)
    return 1.0 if below == 0 else 0.0


def weighted_f(grey: np.ndarray, target: np.ndarray) -> float:
    inside, outside = target == 1, target == 0
    if not inside.any():
        return np.nan
    error = np.abs(grey - target)
    distance, (rows, columns) = ndimage.distance_transform_edt(outside, return_indices=True)
    y, x = np.mgrid[-3:4, -3:4]
    kernel = np.exp(-(x ** 2 + y ** 2) / (2 * 5 ** 2))
    smooth = ndimage.convolve(error[rows, columns], kernel / kernel.sum(), mode="nearest")
    excused = np.where(inside & (smooth < error), smooth, error)
    weighted = excused * np.where(outside, 2 - np.exp(np.log(0.5) / 5 * distance), 1)

    hit, false = inside.sum() - weighted[inside].sum(), weighted[outside].sum()
    recall, precision = 1 - weighted[inside].mean(), hit / (hit + false + EPS)
    return 2 * recall * precision / (recall + precision + EPS)
