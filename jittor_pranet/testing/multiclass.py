"""The task multiclass: the label maps of scans, one file for each picture, slice or volume, of its size."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import numpy as np

from jittor_pranet.reports.overlay import label_overlay
from jittor_pranet.testing.task import MapOptions
from lib.inference import ScanSegmenter
from utils.data.image_io import write_map
from utils.data.scan_folders import Scan
from utils.data.scans import ScanOptions, ScanPixels, read_scan, write_labels
from utils.data.slices import network_input, resize_labels
from utils.parallel import prefetch

AHEAD = 1  # scans read while the network works on one: they may be large


class MulticlassTask:
    """See `jittor_pranet.testing.task`.

    Args:
        scan_options: how scans are read.
        nifti: write .nii.gz in place of .npz.
    """

    unit = "scans"

    def __init__(self, sets: dict[str, list[Scan]], segmenter: ScanSegmenter, options: MapOptions,
                 scan_options: ScanOptions, nifti: bool):
        self.sets, self.segmenter, self.options = sets, segmenter, options
        self.scan_options, self.nifti = scan_options, nifti

    def __str__(self) -> str:
        return f"{sum(map(len, self.sets.values()))} scans of {', '.join(self.sets)}"

    def write_maps(self) -> Iterator[str]:
        overlays = self.options.overlays
        for name, scans in self.sets.items():
            for scan, pixels, labels in self._label_maps(scans):
                write_labels(self.options.save_path / name, scan, labels, pixels, self.nifti)
                for index, each in enumerate(labels if overlays else ()):
                    picture = label_overlay(pixels.image[index], each)
                    write_map(overlays / name / f"{scan.name}_{index:03d}.png", picture)
                yield name

    def _label_maps(self, scans: list[Scan]) -> Iterator[tuple[Scan, ScanPixels, np.ndarray]]:
        """Yields each scan, what its file holds, and its predicted labels, uint8 (D,H,W)."""
        def load(scan: Scan) -> tuple[Scan, ScanPixels, np.ndarray]:
            pixels = read_scan(scan, self.scan_options)
            return scan, pixels, network_input(pixels.image, self.segmenter.size)

        batch_size, trained = self.options.batch_size, self.segmenter.usage.channels
        for scan, pixels, images in prefetch(load, scans, self.options.workers, AHEAD):
            if trained not in (None, pixels.image.shape[1]):
                kinds = ("colour", "grey") if trained == 1 else ("grey", "colour")
                print("warning: {}: is {}, the weights were trained on {} images".format(scan.image, *kinds),
                      file=sys.stderr)
                trained = None  # said once
            names = [f"{scan.image}, slice {index}" for index in range(len(images))]
            maps = (each for start in range(0, len(images), batch_size)
                    for each in self.segmenter.label_maps(images[start:start + batch_size],
                                                           names[start:start + batch_size]))
            yield scan, pixels, np.stack([resize_labels(each, pixels.image.shape[2:]) for each in maps])

    def has_ground_truth(self, name: str) -> bool:
        """Files that may hold both image and labels tell by the first of them."""
        scans = self.sets[name]
        return all(scan.label for scan in scans) and read_scan(scans[0], self.scan_options).labels is not None
