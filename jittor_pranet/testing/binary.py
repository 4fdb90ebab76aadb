"""The task binary: the maps of binary networks, one picture for each image, of its size."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from jittor_pranet.reports.overlay import overlay
from jittor_pranet.testing.task import MapOptions
from lib.inference import PolypSegmenter
from utils.data.image_io import read_rgb, write_map
from utils.data.polyps import TestImages, image_batches


class BinaryTask:
    """See `jittor_pranet.testing.task`.

    Args:
        minmax: stretch each map to 0..255.
        threshold: write 255 where a map is above it and 0 elsewhere; None leaves the map as it is.
    """

    unit = "images"

    def __init__(self, sets: dict[str, TestImages], segmenter: PolypSegmenter, options: MapOptions,
                 minmax: bool, threshold: float | None):
        self.sets, self.segmenter, self.options = sets, segmenter, options
        self.minmax, self.threshold = minmax, threshold

    def __str__(self) -> str:
        return f"{sum(map(len, self.sets.values()))} images of {', '.join(self.sets)}"

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
            names = [str(images.files[stem]) for stem in stems]
            for stem, values in zip(stems, self.segmenter.maps(batch, sizes, self.minmax, names)):
                if self.threshold is not None:
                    values = np.where(values > self.threshold, 1.0, 0.0)
                yield stem, (values * 255).astype(np.uint8)

    def has_ground_truth(self, name: str) -> bool:
        return (self.sets[name].folder.parent / "masks").is_dir()
