"""Times the metrics of label maps against medpy's on whole volumes, as the published evaluation calls it."""

from __future__ import annotations

import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jittor_pranet.benchmarks.timing import shortest, time_workers
from utils.data.scans import read_labels
from utils.metrics.multiclass import ScanScores, measure_scan
from utils.progress import track

SCANS = 8  # for the processes to measure
SPACING = (2.5, 0.8, 0.8)  # mm, usual for abdominal CT

# Centre and half axes along depth, height and width, as fractions of the volume.
ORGANS = {
    "liver": ((0.55, 0.42, 0.30), (0.30, 0.18, 0.20)),
    "stomach": ((0.60, 0.38, 0.62), (0.18, 0.12, 0.12)),
    "spleen": ((0.60, 0.50, 0.78), (0.15, 0.10, 0.06)),
    "right kidney": ((0.40, 0.58, 0.36), (0.17, 0.06, 0.06)),
    "left kidney": ((0.45, 0.58, 0.66), (0.17, 0.06, 0.06)),
    "pancreas": ((0.45, 0.45, 0.52), (0.08, 0.05, 0.14)),
    "gallbladder": ((0.45, 0.38, 0.38), (0.08, 0.04, 0.04)),
    "aorta": ((0.50, 0.56, 0.50), (0.48, 0.025, 0.025)),
}
NUM_CLASS = len(ORGANS) + 1


@dataclass(frozen=True)
class Options:
    """The flags of --what labels."""

    shape: list[int]
    rounds: int
    workers: list[int]


def run(options: Options) -> int:
    """The metrics of synthetic organs in a volume, against medpy or, without it, plain formulas."""
    shape = depth, height, width = tuple(options.shape)
    target, prediction = synthetic_labels(shape), synthetic_labels(shape, displaced=2, strays=3)
    print(f"{len(ORGANS)} organs in {width}x{height}x{depth} voxels; the found ones are displaced, with "
          "stray voxels")

    name, measure = _baseline()
    seconds, seconds_mm, baseline, baseline_seconds = [], [], [], 0.0
    # By organ, one after another, so that what slows the machine for a while falls on both.
    for label in track(range(1, NUM_CLASS), NUM_CLASS - 1, name, "organs"):
        for _ in range(options.rounds):
            seconds.append(shortest(1, lambda: measure_scan(prediction, target, NUM_CLASS)))
            seconds_mm.append(shortest(1, lambda: measure_scan(prediction, target, NUM_CLASS, SPACING)))
        start = time.perf_counter()
        baseline.append(measure(prediction == label, target == label))
        baseline_seconds += time.perf_counter() - start
    median = statistics.median(seconds)
    print(f"ours            {median:8.2f} s, median of {len(seconds)}; with mm "
          f"{statistics.median(seconds_mm):.2f} s")
    print(f"{name:15} {baseline_seconds:8.2f} s, once, on the whole volume; "
          f"{baseline_seconds / median:.1f} times as long")
    difference = np.abs(measure_scan(prediction, target, NUM_CLASS).table("sound")[:, :4] - baseline).max()
    print(f"the figures of the two differ by {difference:.1e} at most")
    with tempfile.TemporaryDirectory() as folder:
        _time_workers(Path(folder), prediction, target, options.workers)
    return 0


def synthetic_labels(shape: tuple[int, int, int], displaced: int = 0, strays: int = 0) -> np.ndarray:
    """uint8 (D, H, W) label map of `ORGANS`, displaced by some voxels, each with stray blocks elsewhere."""
    rng, labels = np.random.default_rng(0), np.zeros(shape, np.uint8)
    for label, (centre, radii) in enumerate(ORGANS.values(), start=1):
        middle = [fraction * side + displaced for fraction, side in zip(centre, shape)]
        reach = [1.2 * fraction * side for fraction, side in zip(radii, shape)]
        box = tuple(slice(max(0, int(at - half)), int(at + half) + 2) for at, half in zip(middle, reach))
        z, y, x = (1.2 * (np.arange(side)[part] - at) / half
                   for side, part, at, half in zip(shape, box, middle, reach))
        z, y, x = np.ix_(z, y, x)
        edge = 1 + 0.1 * np.sin(5 * np.arctan2(y, x) + label + 0.2 * displaced)
        labels[box][z * z + y * y + x * x < edge * edge] = label
        for _ in range(strays):
            at = [rng.integers(side - 2) for side in shape]
            labels[tuple(slice(start, start + 2) for start in at)] = label
    return labels


def _baseline():
    """A name and what gives Dice, IoU, HD95 and ASSD of two objects."""
    try:
        from medpy.metric import binary
    except ImportError:
        from jittor_pranet.reference_metrics.multiclass import measure

        return "plain formulas", measure

    def by_medpy(prediction: np.ndarray, target: np.ndarray) -> list[float]:
        # medpy's assd is these two before version 0.5, and since then another mean in the same time.
        directed = binary.asd(prediction, target), binary.asd(target, prediction)
        return [*(score(prediction, target) for score in (binary.dc, binary.jc, binary.hd95)),
                np.mean(directed)]
    return "medpy", by_medpy


def _time_workers(folder: Path, prediction: np.ndarray, target: np.ndarray, counts: list[int]) -> None:
    paths = folder / "prediction.npz", folder / "target.npz"
    for path, labels in zip(paths, (prediction, target)):
        np.savez_compressed(path, label=labels)
    for workers, seconds in time_workers(1, counts, _measure_files, [paths] * SCANS):
        print(f"{workers} worker(s) {SCANS / seconds:8.2f} scans per second from files, start included")


def _measure_files(paths: tuple[Path, Path]) -> ScanScores:
    return measure_scan(*map(read_labels, paths), NUM_CLASS)
