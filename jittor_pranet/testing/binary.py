"""The task binary: the maps of binary networks, one picture for each image, of its size."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from jittor_pranet.cli.arguments import load_segmenter
from jittor_pranet.reports.overlay import overlay
from jittor_pranet.testing.task import MapOptions
from utils.data.image_io import read_rgb, write_map
from utils.data.polyps import TestImages, find_test_sets, image_batches


class BinaryTask:
    """See `jittor_pranet.testing.task`.

    Args:
        minmax: stretch each map to 0..255.
        threshold: write 255 where a map is above it and 0 elsewhere; None leaves the map as it is.
    """

    unit = "image"

    def __init__(self, options: MapOptions, minmax: bool, threshold: float | None):
        self.options, self.minmax, self.threshold = options, minmax, threshold
        self.sets = {name: TestImages(folder, options.network.testsize)
                     for name, folder in find_test_sets(options.test_path, options.datasets).items()}

    def load(self) -> None:
        self.segmenter = load_segmenter(self.options.network)
        print(f"{self.segmenter.model_type}: {sum(map(len, self.sets.values()))} images of "
              f"{', '.join(self.sets)} on {self.segmenter.device}")

    def write_maps(self) -> Iterator[str]:
        overlays = self.options.overlays
        for name, images in self.sets.items():
            for stem, values in self._maps(images):
                write_map(self.options.save_path / name / f"{stem}.png", values)
                if overlays:
                    picture = overlay(np.asarray(read_rgb(images.files[stem])), values)
                    write_map(overlays / name / f"{stem}.png", picture)
                yield name

    def _maps(self, images: TestImages) -> Iterator[tuple[str, np.ndarray]]:
        """Yields (stem, uint8 map of the image's own size) for a test set."""
        for batch, stems, sizes in image_batches(images, self.options.batch_size, self.options.workers):
            for stem, values in zip(stems, self.segmenter.maps(batch, sizes, minmax=self.minmax)):
                if self.threshold is not None:
                    values = np.where(values > self.threshold, 1.0, 0.0)
                yield stem, (values * 255).astype(np.uint8)

    def has_ground_truth(self, name: str) -> bool:
        return (Path(self.options.test_path) / name / "masks").is_dir()

    def evaluate_flags(self) -> list[str]:
        return []
