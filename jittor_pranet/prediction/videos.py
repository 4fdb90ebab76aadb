"""Videos through a network: an overlay video with the sound of the first, and a table of every frame."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from itertools import islice

import numpy as np
from PIL import Image

from jittor_pranet.prediction.output import REGION_COLUMNS, VIDEOS, Plan, region_cells
from jittor_pranet.reports.overlay import overlay
from lib.inference import PolypSegmenter
from utils.data import video
from utils.data.inputs import Source
from utils.data.polyps import normalise
from utils.errors import BadFile
from utils.files import atomic_write
from utils.progress import Progress
from utils.signals import Interruption

COLUMNS = ["frame", "time_s", *REGION_COLUMNS]


class Stopped(Exception):
    """Raised by a signal in the middle of a video."""


def predict_videos(segmenter: PolypSegmenter, sources: list[Source], plan: Plan, interruption: Interruption,
                   ) -> Iterator[tuple[Source, list | BadFile]]:
    """Yields each source with its row of the table, its files being written, or with its defect.

    A video is complete or absent: it ends, without a row, when a signal comes in the middle of it.

    Raises:
        UserError: a file cannot be written, or the device's memory does not hold one image.
    """
    for source in sources:
        try:
            outcome = VideoPrediction(segmenter, source, plan, interruption).run()
        except BadFile as error:
            outcome = error
        except Stopped:
            return
        yield source, outcome


class VideoPrediction:
    """The copy of one video with outlines, and the table beside it."""

    def __init__(self, segmenter: PolypSegmenter, source: Source, plan: Plan, interruption: Interruption):
        self.segmenter, self.source, self.plan, self.interruption = segmenter, source, plan, interruption
        self.count, self.shape = 0, (0, 0)

    def run(self) -> list:
        """The video's row of the table. Raises BadFile, `Stopped`, or UserError for a full disk."""
        suffix, path = video.suffix_of_copy(self.source.path), self.source.path
        name = f"{VIDEOS}/{self.source.name}"
        with atomic_write(self.plan.out / f"{name}.csv", "w", newline="", encoding="utf-8") as table, \
                atomic_write(self.plan.out / f"{name}{suffix}") as file, \
                Progress(video.length(path), path.name, "frames") as self.progress:
            self.table = csv.writer(table, lineterminator="\n")
            self.table.writerow(COLUMNS)
            video.redraw(path, file, suffix, self.outlined)
        height, width = self.shape
        return [f"{name}{suffix}", path, width, height, self.count, *[""] * len(REGION_COLUMNS)]

    def outlined(self, frames: video.Frames) -> Iterator[np.ndarray]:
        while part := list(islice(frames, self.plan.batch)):
            if self.interruption.signal:
                raise Stopped
            pictures = [picture for _, picture in part]
            images = np.stack([normalise(Image.fromarray(each), self.segmenter.size) for each in pictures])
            names = [f"{self.source.path}, frame {self.count + index}" for index in range(len(part))]
            maps = self.segmenter.maps(images, [each.shape[:2] for each in pictures], self.plan.minmax, names)
            for (seconds, picture), values in zip(part, maps):
                cells = region_cells(values, self.plan.threshold)
                self.table.writerow([self.count, f"{seconds:.3f}", *cells])
                self.count, self.shape = self.count + 1, values.shape
                self.progress.step()
                yield overlay(picture, np.uint8(255) * (values > self.plan.threshold))
