"""Writes the maps of a trained network for test sets."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from jittor_pranet.options import add_network_arguments, fraction, load_segmenter, whole
from lib.segmenter import PolypSegmenter
from utils.dataset import WORKERS, TestImages, find_test_sets, image_batches
from utils.image_io import read_rgb, write_map
from utils.interruption import Interruption
from utils.overlay import overlay
from utils.progress import Progress

OVERLAYS, EVALUATION = "overlays", "evaluation"  # folders beside those of the sets


def add_arguments(parser: argparse.ArgumentParser) -> None:
    required = argparse.SUPPRESS  # keeps "(default: None)" out of the help
    add_network_arguments(parser)
    parser.add_argument("--test_path", required=True, metavar="DIR", default=required,
                        help="folder with one folder per test set, each with images/")
    parser.add_argument("--save_path", required=True, metavar="DIR", default=required,
                        help="maps go to SAVE_PATH/<set>/<image>.png")
    parser.add_argument("--datasets", nargs="+", default=None, metavar="SET",
                        help="test sets to take; all that are there if left out")
    parser.add_argument("--bs", type=whole(1), default=1,
                        help="images in a batch; the maps do not depend on it")
    parser.add_argument("--no_minmax", action="store_true",
                        help="write the probability; the published maps are stretched to 0..255 per image")
    parser.add_argument("--threshold", type=fraction, default=None, metavar="T",
                        help="write 255 where the map is above T (from 0 to below 1) and 0 elsewhere")
    parser.add_argument("--overlays", action="store_true",
                        help=f"write the images with the map's contour to SAVE_PATH/{OVERLAYS} too")
    parser.add_argument("--evaluate", action="store_true",
                        help="measure the maps against the masks of the test sets afterwards")
    parser.add_argument("--workers", type=whole(0), default=WORKERS,
                        help="processes that read images ahead; 0 reads them between the batches")


def run(args: argparse.Namespace) -> int:
    sets = {name: TestImages(folder, args.testsize)
            for name, folder in find_test_sets(args.test_path, args.datasets).items()}
    segmenter = load_segmenter(args)
    total = sum(map(len, sets.values()))
    print(f"{segmenter.model_type}: {total} images of {', '.join(sets)} on {segmenter.device}")
    with Interruption() as interruption, Progress(total, "testing", "image") as progress:
        for name, images in sets.items():
            for stem, values in set_maps(segmenter, images, args):
                write_results(Path(args.save_path), name, stem, images, values, args.overlays)
                progress.step(note=name)
                if interruption.signal:
                    print(f"stopped after {progress.done} of {total} images; run again to complete")
                    return interruption.exit_code
    print(f"maps: {Path(args.save_path).resolve()}")
    if args.overlays:
        print(f"overlays: {Path(args.save_path).resolve() / OVERLAYS}")
    return evaluate(args, sets) if args.evaluate else 0


def evaluate(args: argparse.Namespace, sets: dict[str, TestImages]) -> int:
    """Runs the program `evaluate` on what was written; a process of its own, since this one holds Jittor."""
    measured = [name for name in sets if (Path(args.test_path) / name / "masks").is_dir()]
    if len(measured) < len(sets):
        print(f"not measured, having no masks: {', '.join(name for name in sets if name not in measured)}")
    if not measured:
        return 0
    root = Path(__file__).resolve().parent.parent
    command = [sys.executable, "-m", "jittor_pranet", "evaluate", "--pred_root", args.save_path,
               "--gt_root", args.test_path, "--datasets", *measured,
               "--result_path", str(Path(args.save_path) / EVALUATION)]
    return subprocess.run(command, env={**os.environ, "PYTHONPATH": str(root)}).returncode


def set_maps(segmenter: PolypSegmenter, images: TestImages, args: argparse.Namespace):
    """Yields (stem, uint8 map of the image's own size) for a test set."""
    for batch, stems, sizes in image_batches(images, args.bs, args.workers):
        for stem, values in zip(stems, segmenter.maps(batch, sizes, minmax=not args.no_minmax)):
            if args.threshold is not None:
                values = np.where(values > args.threshold, 1.0, 0.0)
            yield stem, (values * 255).astype(np.uint8)


def write_results(folder: Path, name: str, stem: str, images: TestImages, values: np.ndarray,
                  with_overlay: bool) -> None:
    write_map(folder / name / f"{stem}.png", values)
    if with_overlay:
        picture = overlay(np.asarray(read_rgb(images.files[stem])), values)
        write_map(folder / OVERLAYS / name / f"{stem}.png", picture)
