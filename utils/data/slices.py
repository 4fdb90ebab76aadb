"""Slices of scans as networks take them, read ahead of the network; and label maps back at a scan's size.

A slice is a picture, or one of a volume's. The preprocessing is the published one: resized to a square by
scipy's zoom, images by cubic splines and label maps by their nearest pixel; grey images as they are, in
[0, 1], colour in ImageNet's units.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from scipy import ndimage

from utils import ranks
from utils.data.image_io import defect_of, raise_defects
from utils.data.polyps import MEAN, STD, read_shards
from utils.data.scan_folders import Scan, find_scans
from utils.data.scans import ScanOptions, ScanPixels, read_scan
from utils.errors import UserError
from utils.parallel import WORKERS, prefetch, prefetch_in_processes
from utils.progress import track
from utils.runtime.memory import available_memory

AUGMENTATION = 3  # tells its random numbers from those of the order and the split
MAX_DEGREES = 20  # degrees either way


@dataclass(frozen=True)
class Slice:
    """A slice of a scan.

    Attributes:
        cached: its image (C,H,W) and labels (H,W), of a scan that is not to be read again.
    """

    scan: Scan
    index: int
    cached: tuple[np.ndarray, np.ndarray] | None = field(default=None, compare=False, repr=False)

    @property
    def name(self) -> str:
        return f"{self.scan.name}[{self.index}]" if self.scan.is_volume else self.scan.name

    def read(self, options: ScanOptions) -> tuple[np.ndarray, np.ndarray]:
        """Image (C,H,W) and labels (H,W). Raises UserError when the file can no longer be read."""
        if self.cached is not None:
            return self.cached
        pixels = read_scan(self.scan, options)
        return pixels.image[self.index], pixels.labels[self.index]


class LabelledSlices:
    """The slices of all scans in a folder, with their labels.

    Every scan is decoded once at the start, so that a broken one is named now and not an hour into training.
    Volumes stay in memory, where a slice of them is at hand.

    Attributes:
        scans: in the order of their names.
        slices_of: the slices of each of them.
        labelled: those that show a class.

    Args:
        names: a text file with the names of the scans to take, one in a line; None takes all.
        in_memory: keep pictures and slices as well.

    Raises:
        UserError: a scan is unreadable or has no labels, some are grey and others not, no scan shows a class,
            or the memory does not suffice.
    """

    def __init__(self, folder: str | Path, options: ScanOptions, size: int, in_memory: bool = False,
                 names: str | Path | None = None):
        self.options, self.size = options, size
        self.scans = find_scans(folder, names)
        self.free_memory = available_memory() // ranks.LOCAL_SIZE  # each rank keeps all
        self.slices_of: dict[Scan, list[Slice]] = {}
        self.labelled: set[Scan] = set()
        self.channels = self._check(folder, in_memory)

    def __len__(self) -> int:
        return sum(len(self.slices_of[scan]) for scan in self.scans)

    def subset(self, scans: list[Scan]) -> LabelledSlices:
        """A set of these scans of it, which are not checked again."""
        subset = object.__new__(type(self))
        subset.__dict__ = {**self.__dict__, "scans": scans}
        return subset

    @property
    def slices(self) -> list[Slice]:
        return [each for scan in self.scans for each in self.slices_of[scan]]

    @property
    def fingerprint(self) -> str:
        """Tells sets of other files apart: a digest of all names and the files' sizes in bytes."""
        listed = [(scan.name, scan.image.stat().st_size, scan.label.stat().st_size) for scan in self.scans]
        return hashlib.sha256(repr(listed).encode()).hexdigest()

    def _check(self, folder: str | Path, in_memory: bool) -> int:
        """Decodes every scan; returns the number of channels that all have."""
        channels: dict[int, Scan] = {}

        def decode(scan: Scan) -> None:
            pixels = read_scan(scan, self.options)
            if pixels.labels is None:
                raise UserError(f"{scan.image}: has no labels, which are needed here")
            if pixels.labels.any():
                self.labelled.add(scan)
            channels.setdefault(pixels.image.shape[1], scan)
            self.slices_of[scan] = self._slices_of(scan, pixels, keep=in_memory or scan.is_volume)

        defects = prefetch(lambda scan: defect_of(decode, scan), self.scans, WORKERS, ahead=2 * WORKERS)
        raise_defects(track(defects, len(self.scans), f"checking {folder}", "scans"))
        if len(channels) > 1:
            grey, colour = channels[1].image, channels[3].image
            raise UserError(f"{folder}: some images are grey, as {grey}, and some in colour, as {colour}; "
                            "expected all of one kind")
        if not self.labelled:
            raise UserError(f"{folder}: no label map shows a class, all are 0; expected labels from 1 to "
                            f"{self.options.num_class - 1}")
        return next(iter(channels))

    def _slices_of(self, scan: Scan, pixels: ScanPixels, keep: bool) -> list[Slice]:
        if not keep:
            return [Slice(scan, index) for index in range(len(pixels.image))]
        self.free_memory -= pixels.image.nbytes + pixels.labels.nbytes
        if self.free_memory < 0:
            raise UserError(f"{scan.image}: the memory does not hold the training set so far; take "
                            "volumes apart into slices, and --cache none")
        return [Slice(scan, index, (image, labels))
                for index, (image, labels) in enumerate(zip(pixels.image, pixels.labels))]


def slice_batches(train_set: LabelledSlices, batch_size: int, seed: int, epoch: int, augmented: bool,
                  workers: int = WORKERS, first_batch: int = 0,
                  ) -> Iterator[tuple[np.ndarray, np.ndarray, list[str]]]:
    """Batches of one epoch: images (n,C,s,s) float32, labels (n,s,s) int32, and the batch's names.

    What a slice looks like depends on ``seed``, ``epoch`` and its position in the order, which depends on the
    former two. Of many processes each one gets the slices of its shard, and the names of all.

    Args:
        augmented: rotate and flip at random, see `augment`.
        workers, first_batch: as for `utils.data.polyps.epoch_batches`.

    Raises:
        UserError: a file can no longer be read.
    """
    slices = train_set.slices
    order = np.random.default_rng([seed, epoch]).permutation(len(slices)).tolist()
    jobs = [(slices[index], (seed, epoch, position, AUGMENTATION) if augmented else None)
            for position, index in enumerate(order)]
    load = functools.partial(prepare_slice, options=train_set.options, size=train_set.size)
    shape = (train_set.channels + 1, train_set.size, 4 * train_set.size)  # bytes of float32
    read = functools.partial(prefetch_in_processes, load, shape=shape, workers=workers)
    with closing(read_shards(jobs, batch_size, first_batch, read)) as batches:
        for batch, planes in batches:
            arrays = planes.view(np.float32)
            yield arrays[:, :-1], arrays[:, -1].astype(np.int32), [job[0].name for job in batch]


def prepare_slice(job: tuple[Slice, tuple[int, ...] | None], options: ScanOptions, size: int) -> np.ndarray:
    """A slice as the bytes of float32 (C + 1, size, size): the network's image, and the labels.

    Args:
        job: the slice, and the seed of its augmentation or None.
    """
    slice_, seed = job
    image, labels = slice_.read(options)
    if seed is not None:
        image, labels = augment(image, labels, np.random.default_rng(seed))
    planes = np.concatenate([network_input(image[None], size)[0], resize_labels(labels, (size, size))[None]])
    return planes.astype(np.float32).view(np.uint8)


def augment(image: np.ndarray, labels: np.ndarray, rng: np.random.Generator,
            ) -> tuple[np.ndarray, np.ndarray]:
    """Moves an image (C,H,W) and its labels (H,W) alike, as the published training does.

    Half of them: quarter turns and a flip, all equally likely; half of the rest: a rotation by up to 20
    degrees, by the nearest pixel. The remaining quarter stays as it is.
    """
    choice = rng.random()
    if choice < 0.5:
        quarters, axis = rng.integers(4), rng.integers(-2, 0)
        return tuple(np.ascontiguousarray(np.flip(np.rot90(each, quarters, axes=(-2, -1)), axis))
                     for each in (image, labels))
    if choice < 0.75:
        degrees = int(rng.integers(-MAX_DEGREES, MAX_DEGREES))
        return tuple(ndimage.rotate(each, degrees, axes=(-2, -1), order=0, reshape=False)
                     for each in (image, labels))
    return image, labels


def network_input(images: np.ndarray, size: int) -> np.ndarray:
    """Images float32 (N,C,H,W) in [0,1] as networks take them: (N,C,size,size)."""
    height, width = images.shape[2:]
    if (height, width) != (size, size):
        images = np.stack([[ndimage.zoom(plane, (size / height, size / width), order=3) for plane in image]
                           for image in images])
    if images.shape[1] == 3:
        images = (images - MEAN[:, None, None]) / STD[:, None, None]
    return images.astype(np.float32, copy=False)


def resize_labels(labels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A label map (H,W) at another (height, width), by the nearest pixel."""
    if labels.shape == size:
        return labels
    return ndimage.zoom(labels, (size[0] / labels.shape[0], size[1] / labels.shape[1]), order=0)
