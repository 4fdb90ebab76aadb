"""The label maps of scans: one file for each picture, slice or volume, of its size."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from jittor_pranet.cli.arguments import prepare_device
from jittor_pranet.cli.scan_options import reading_of
from jittor_pranet.reports.overlay import label_overlay
from lib.inference import ScanSegmenter
from utils.data.image_io import write_map
from utils.data.polyps import prefetch
from utils.data.scan_folders import Scan
from utils.data.scan_sets import find_scan_sets
from utils.data.scans import Reading, ScanPixels, read_scan, write_labels
from utils.data.slices import network_input, resize_labels

AHEAD = 1  # scans read while the network works on one: they may be large


def find_sets(args: argparse.Namespace) -> dict[str, list[Scan]]:
    """The scans by set that the flags of `test` name."""
    return find_scan_sets(args.test_path, args.datasets, args.test_list)


def has_truth(args: argparse.Namespace, name: str, scans: list[Scan]) -> bool:
    """Whether the scans have labels; files that may hold both tell by the first of them."""
    return all(scan.label for scan in scans) and read_scan(scans[0], reading_of(args)).labels is not None


def load(args: argparse.Namespace, sets: dict[str, list[Scan]]) -> ScanSegmenter:
    """The network that the flags name; says what is to be done."""
    reading = reading_of(args)
    prepare_device(args)
    segmenter = ScanSegmenter(args.weights, args.model_type, args.testsize, args.device, args.tta == "flips",
                              reading.num_class, args.gain)
    print(f"{segmenter.model_type}: {sum(map(len, sets.values()))} scans of {', '.join(sets)}, "
          f"{reading.num_class} classes, at {args.testsize} pixels on {segmenter.device}")
    return segmenter


def write_maps(segmenter: ScanSegmenter, args: argparse.Namespace, sets: dict[str, list[Scan]],
               overlays: Path | None) -> Iterator[str]:
    """Yields the set of each scan as soon as its label map is written."""
    reading = reading_of(args)
    for name, scans in sets.items():
        for scan, pixels, labels in set_labels(segmenter, scans, reading, args.bs, args.workers):
            write_labels(Path(args.save_path) / name, scan, labels, pixels, args.nifti)
            for index, each in enumerate(labels if overlays else ()):
                picture = label_overlay(pixels.image[index], each)
                write_map(overlays / name / f"{scan.name}_{index:03d}.png", picture)
            yield name


def set_labels(segmenter: ScanSegmenter, scans: list[Scan], reading: Reading, batch_size: int, workers: int,
               ) -> Iterator[tuple[Scan, ScanPixels, np.ndarray]]:
    """Yields each scan, what its file holds, and the labels found, uint8 (D,H,W)."""
    def load(scan: Scan) -> tuple[Scan, ScanPixels, np.ndarray]:
        pixels = read_scan(scan, reading)
        return scan, pixels, network_input(pixels.image, segmenter.size)

    for scan, pixels, images in prefetch(load, scans, workers, AHEAD):
        maps = (each for start in range(0, len(images), batch_size)
                for each in segmenter.label_maps(images[start:start + batch_size]))
        yield scan, pixels, np.stack([resize_labels(each, pixels.image.shape[2:]) for each in maps])
