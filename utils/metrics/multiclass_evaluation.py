"""Measures predicted label maps of whole sets against the targets, which lie with their scans."""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from utils.data.image_io import describe, list_folder
from utils.data.scan_files import SUFFIXES, kind_of
from utils.data.scans import Scan, ScanOptions, read_labels, read_scan
from utils.errors import UserError
from utils.metrics.multiclass import MulticlassMetrics, ScanScores, measure_scan
from utils.metrics.scoring import SetScores, check_folders, default_workers, pairing_defects, score_pairs

SCANS_PER_WORKER = 8  # starting a process costs about as much as measuring this many volumes of ACDC


@dataclass(frozen=True)
class LabelPair:
    """The file of a predicted label map, and the scan that it belongs to."""

    map: Path
    scan: Scan


def evaluate_labels(methods: dict[str, Path], sets: dict[str, list[Scan]], options: ScanOptions, absent: str,
                    workers: int = 0, allow_missing: bool = False) -> list[SetScores]:
    """Measures the label maps ``root/<set>`` of every method against every set's own.

    The scores do not depend on the number of workers: 0 means one for every few scans, at most one per CPU.
    Maps with a defect are left out and named in the scores if ``allow_missing``.

    Raises:
        UserError: a folder is missing, a map has a defect, a set has no map to score, or a worker was killed.
    """
    for root in methods.values():
        check_folders(root, list(sets))
    plans = [plan_set(method, root / dataset, dataset, scans, MulticlassMetrics(options.num_class, absent))
             for dataset, scans in sets.items() for method, root in methods.items()]
    workers = workers or default_workers(sum(len(pairs) for _, pairs in plans), SCANS_PER_WORKER)
    measure = functools.partial(measure_files, options=options)
    return score_pairs(plans, measure, workers, allow_missing, "scan")


def plan_set(method: str, folder: Path, dataset: str, scans: list[Scan],
             metrics: MulticlassMetrics) -> tuple[SetScores, list[LabelPair]]:
    """The set's scores, empty but for the defects of pairing, and the pairs to measure."""
    maps, targets = find_maps(folder), {scan.name: scan.label or scan.image for scan in scans}
    scores = SetScores(method, dataset, len(scans), metrics,
                       defects=pairing_defects(folder, targets, maps, "label map"))
    return scores, [LabelPair(maps[scan.name], scan) for scan in scans if scan.name in maps]


def find_maps(folder: Path) -> dict[str, Path]:
    """The label maps of a folder by the name of their scan. Raises UserError: there is none, or two alike."""
    maps: dict[str, Path] = {}
    inside = list_folder(folder)
    for path in inside:
        kind, name = kind_of(path) or (None, None)
        if kind is None or path.is_dir():
            continue
        if name in maps:
            raise UserError(f"{path}: is of the same scan as {maps[name].name}; keep one of the two")
        maps[name] = path
    if not maps:
        suffixes = " ".join(suffix for each in SUFFIXES.values() for suffix in each)
        raise UserError(f"{folder}: holds no label map (looked for {suffixes}); it holds {describe(inside)}")
    return maps


def measure_files(pair: LabelPair, options: ScanOptions) -> ScanScores | str:
    """The scores of a pair, or the defect of its files."""
    try:
        prediction, target, spacing = read_pair(pair, options)
        return measure_scan(prediction, target, options.num_class, spacing)
    except UserError as error:
        return str(error)


def read_pair(pair: LabelPair, options: ScanOptions,
              ) -> tuple[np.ndarray, np.ndarray, tuple[float, float, float] | None]:
    """Prediction and target of a scan, uint8 (D, H, W) both, and its spacing along these in mm.

    Raises:
        UserError: a file is damaged, the scan has no labels, the two differ in shape, or the map holds labels
            that are no classes.
    """
    prediction = read_labels(pair.map, options.axis)
    # The image is not looked at: any window keeps it from being refused for want of one.
    pixels = read_scan(pair.scan, dataclasses.replace(options, window=options.window or (0.0, 1.0)))
    if pixels.labels is None:
        raise UserError(f"{pair.scan.image}: has no label map, so nothing can be measured; add it, or take "
                        "the scan out")
    if prediction.shape != pixels.labels.shape:
        raise UserError(f"{pair.map}: has the shape {prediction.shape}, its scan {pixels.labels.shape}; "
                        "write the map at the size of its scan")
    if prediction.max() >= options.num_class:
        raise UserError(f"{pair.map}: holds the label {prediction.max()}, expected "
                        f"0..{options.num_class - 1}; --num_class counts the background")
    return prediction, pixels.labels, pixels.spacing
