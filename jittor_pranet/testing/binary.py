"""The maps of binary networks: one picture for each image, of its size."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from jittor_pranet.cli.arguments import load_segmenter
from jittor_pranet.reports.overlay import overlay
from lib.inference import PolypSegmenter
from utils.data.image_io import read_rgb, write_map
from utils.data.polyps import TestImages, find_test_sets, image_batches


def find_sets(args: argparse.Namespace) -> dict[str, TestImages]:
    """The test sets that the flags of `test` name."""
    return {name: TestImages(folder, args.testsize)
            for name, folder in find_test_sets(args.test_path, args.datasets).items()}


def has_truth(args: argparse.Namespace, name: str, images: TestImages) -> bool:
    return (Path(args.test_path) / name / "masks").is_dir()


def load(args: argparse.Namespace, sets: dict[str, TestImages]) -> PolypSegmenter:
    """The network that the flags name; says what is to be done."""
    segmenter = load_segmenter(args)
    print(f"{segmenter.model_type}: {sum(map(len, sets.values()))} images of {', '.join(sets)} "
          f"on {segmenter.device}")
    return segmenter


def write_maps(segmenter: PolypSegmenter, args: argparse.Namespace, sets: dict[str, TestImages],
               overlays: Path | None) -> Iterator[str]:
    """Yields the set of each image as soon as its map is written."""
    for name, images in sets.items():
        for stem, values in set_maps(segmenter, images, args):
            write_map(Path(args.save_path) / name / f"{stem}.png", values)
            if overlays:
                picture = overlay(np.asarray(read_rgb(images.files[stem])), values)
                write_map(overlays / name / f"{stem}.png", picture)
            yield name


def set_maps(segmenter: PolypSegmenter, images: TestImages, args: argparse.Namespace,
             ) -> Iterator[tuple[str, np.ndarray]]:
    """Yields (stem, uint8 map of the image's own size) for a test set."""
    for batch, stems, sizes in image_batches(images, args.bs, args.workers):
        for stem, values in zip(stems, segmenter.maps(batch, sizes, minmax=not args.no_minmax)):
            if args.threshold is not None:
                values = np.where(values > args.threshold, 1.0, 0.0)
            yield stem, (values * 255).astype(np.uint8)
