"""Measures whole test sets: pairs maps with masks by stem and spreads the pairs over processes."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from utils.data.image_io import find_images, name_some, read_levels
from utils.data.scan_folders import hint_of_scans
from utils.errors import UserError
from utils.metrics.binary import BinaryMetrics, PairScores, binary_mask, measure_pair
from utils.metrics.scoring import SetScores, check_folders, default_workers, pairing_defects, score_pairs

IMAGES_PER_WORKER = 250  # starting a process costs about as much as measuring this many images


@dataclass(frozen=True)
class MapPair:
    """The file of a map and that of its mask, which share ``stem``."""

    stem: str
    map: Path
    mask: Path


def find_datasets(gt_root: Path, wanted: list[str] | None = None) -> list[str]:
    """The test sets in a folder, each a folder that holds `masks`; the wanted ones of them if any are named.

    Raises:
        UserError: there is no such folder, no set in it, or no set of a wanted name.
    """
    if not gt_root.is_dir():
        raise UserError(f"{gt_root}: no such folder; --gt_root takes the folder that holds the test sets")
    found = sorted(path.parent.name for path in gt_root.glob("*/masks") if path.is_dir())
    if not found:
        is_set = (gt_root / "masks").is_dir()
        hint = f"; give {gt_root.resolve().parent}" if is_set else hint_of_scans(gt_root)
        raise UserError(f"{gt_root}: holds no test set (a folder with masks/ in it){hint}")
    unknown = [name for name in wanted or [] if name not in found]
    if unknown:
        raise UserError(f"{gt_root}: has no set {name_some(unknown)}; with masks/ it holds "
                        f"{name_some(found, 20)}")
    return list(dict.fromkeys(wanted or found))


def evaluate(methods: dict[str, Path], gt_root: Path, datasets: list[str], mask_rule: str,
             workers: int = 0, allow_missing: bool = False) -> list[SetScores]:
    """Measures ``root/<set>`` against ``gt_root/<set>/masks`` for every set and every method's root.

    The scores do not depend on the number of workers: 0 means one for every few hundred images, at most
    one per CPU. Maps with a defect are left out and named in the scores if ``allow_missing``.

    Raises:
        UserError: a folder is missing, a map has a defect, a set has no map to score, or a worker was killed.
    """
    for root in methods.values():
        check_folders(root, datasets)
    plans = [plan_set(method, root, gt_root, dataset, mask_rule)
             for dataset in datasets for method, root in methods.items()]
    workers = workers or default_workers(sum(len(pairs) for _, pairs in plans), IMAGES_PER_WORKER)
    measure = functools.partial(measure_files, mask_rule=mask_rule)
    return score_pairs(plans, measure, workers, allow_missing, "image")


def plan_set(method: str, root: Path, gt_root: Path, dataset: str,
             mask_rule: str) -> tuple[SetScores, list[MapPair]]:
    """The set's scores, empty but for the defects of pairing, and the pairs to measure."""
    folder = root / dataset
    masks, maps = find_images(gt_root / dataset / "masks"), find_images(folder)
    scores = SetScores(method, dataset, len(masks), BinaryMetrics(mask_rule),
                       defects=pairing_defects(folder, masks, maps, "mask"))
    return scores, [MapPair(stem, maps[stem], mask) for stem, mask in masks.items() if stem in maps]


def measure_files(pair: MapPair, mask_rule: str) -> PairScores | str:
    """The scores of a pair, or the defect of its files."""
    try:
        return measure_pair(*read_pair(pair, mask_rule))
    except UserError as error:
        return str(error)


def read_pair(pair: MapPair, mask_rule: str) -> tuple[np.ndarray, np.ndarray]:
    """The levels of a map, (H, W) uint8, and its mask, (H, W) bool.

    Raises:
        UserError: one of them is not readable as grey levels, or they differ in size.
    """
    levels, grey = read_levels(pair.map), read_levels(pair.mask)
    if levels.shape != grey.shape:
        raise UserError(f"{pair.map}: is {levels.shape[1]}x{levels.shape[0]} pixels, its mask "
                        f"{grey.shape[1]}x{grey.shape[0]}; resize the map to its mask")
    try:
        return levels, binary_mask(grey, mask_rule)
    except ValueError as error:
        raise UserError(f"{pair.mask}: {error}; multiply it by 255") from error
