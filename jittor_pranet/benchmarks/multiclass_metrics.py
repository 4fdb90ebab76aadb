"""Times the measures of label maps against medpy's on whole volumes, as the published evaluation calls it."""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from jittor_pranet.benchmarks.timing import shortest
from utils.data.scans import read_labels
from utils.metrics.multiclass import ScanScores, measure_scan
from utils.parallel import map_in_processes
from utils.progress import track

SCANS = 8  # that are shared among processes
SPACING = (2.5, 0.8, 0.8)  # mm, usual for abdominal CT

# Centre and half axes along depth, height and width, as shares of the volume.
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


def run(args: argparse.Namespace) -> int:
    """The measures of drawn organs in a volume, against medpy or, without it, plain formulas."""
    shape = tuple(args.shape)
    truth, found = draw(shape), draw(shape, displaced=2, strays=3)
    depth, height, width = shape
    print(f"{len(ORGANS)} organs in {width}x{height}x{depth} voxels; the found ones are displaced, with "
          "stray voxels")

    name, measure = _opponent()
    ours, in_mm, theirs, seconds = [], [], [], 0.0
    # In turns, so that what slows the machine for a while falls on both.
    for label in track(range(1, NUM_CLASS), NUM_CLASS - 1, name, "organ"):
        for _ in range(args.rounds):
            ours.append(shortest(1, lambda: measure_scan(found, truth, NUM_CLASS)))
            in_mm.append(shortest(1, lambda: measure_scan(found, truth, NUM_CLASS, SPACING)))
        start = time.perf_counter()
        theirs.append(measure(found == label, truth == label))
        seconds += time.perf_counter() - start
    scan = statistics.median(ours)
    print(f"ours            {scan:8.2f} s, median of {len(ours)}; with mm {statistics.median(in_mm):.2f} s")
    print(f"{name:15} {seconds:8.2f} s, once, on the whole volume; {seconds / scan:.1f} times as long")
    difference = np.abs(measure_scan(found, truth, NUM_CLASS).table("sound")[:, :4] - theirs).max()
    print(f"the figures of the two differ by {difference:.1e} at most")
    with tempfile.TemporaryDirectory() as folder:
        _time_workers(Path(folder), found, truth, args)
    return 0


def draw(shape: tuple[int, int, int], displaced: int = 0, strays: int = 0) -> np.ndarray:
    """uint8 (D, H, W) label map of `ORGANS`, displaced by some voxels, each with stray blocks elsewhere."""
    rng, labels = np.random.default_rng(0), np.zeros(shape, np.uint8)
    for label, (centre, radii) in enumerate(ORGANS.values(), start=1):
        middle = [share * side + displaced for share, side in zip(centre, shape)]
        reach = [1.2 * share * side for share, side in zip(radii, shape)]
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


def _opponent():
    """A name and what gives Dice, IoU, HD95 and ASSD of two objects."""
    try:
        from medpy.metric import binary
    except ImportError:
        from jittor_pranet.reference_metrics.multiclass import measure

        return "plain formulas", measure

    def by_medpy(found: np.ndarray, truth: np.ndarray) -> list[float]:
        # medpy's assd is these two before version 0.5, and since then another mean in the same time.
        directed = binary.asd(found, truth), binary.asd(truth, found)
        return [binary.dc(found, truth), binary.jc(found, truth), binary.hd95(found, truth),
                np.mean(directed)]
    return "medpy", by_medpy


def _time_workers(folder: Path, found: np.ndarray, truth: np.ndarray, args: argparse.Namespace) -> None:
    paths = folder / "found.npz", folder / "truth.npz"
    for path, labels in zip(paths, (found, truth)):
        np.savez_compressed(path, label=labels)
    for workers in sorted({max(1, count) for count in args.workers}):
        processes = workers if workers > 1 else 0
        seconds = shortest(1, lambda count=processes: list(
            map_in_processes(_measure_files, [paths] * SCANS, count, 8 * count)))
        print(f"{workers} worker(s) {SCANS / seconds:8.2f} scans per second from files, start included")


def _measure_files(paths: tuple[Path, Path]) -> ScanScores:
    return measure_scan(*map(read_labels, paths), NUM_CLASS)
