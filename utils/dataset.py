"""Training pairs and test images as float32 arrays, read ahead in threads (PIL and NumPy release the GIL).

The preprocessing is the published one: RGB, PIL's bilinear resize to a square, /255, ImageNet's mean and
deviation; masks grey, bilinear (so their edges are soft), /255. The three scales of training are the loop's.
"""

from __future__ import annotations

import copy
import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Callable, TypeVar

import numpy as np
from PIL import Image

from utils.errors import UserError
from utils.image_io import (
    Pair,
    check_headers,
    check_sizes,
    defect_of,
    describe,
    find_images,
    find_pairs,
    list_folder,
    raise_defects,
    read_grey,
    read_rgb,
)
from utils.progress import track

MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)
BENCHMARK = ("CVC-300", "CVC-ClinicDB", "Kvasir", "CVC-ColonDB", "ETIS-LaribPolypDB")
WORKERS = min(8, os.cpu_count() or 1)
BATCHES_AHEAD = 2  # read while the consumer works on one: a slow file then stalls nobody

Item, Result = TypeVar("Item"), TypeVar("Result")


class TrainSet:
    """The pairs of ``train_path``/images and ``train_path``/masks, resized to squares of side ``size``.

    Every file is decoded once at the start, so that a broken one is named now and not an hour into training.

    Raises:
        UserError: a folder or partner is missing, a file is unreadable, a mask has another size than its
            image, or no mask of the set holds a polyp.
    """

    def __init__(self, train_path: str | os.PathLike, size: int):
        root = _with_images(train_path)
        self.size = size
        self.pairs = find_pairs(root / "images", root / "masks")
        check_sizes(self.pairs)
        _check_pixels(self.pairs)

    def __len__(self) -> int:
        return len(self.pairs)

    def subset(self, pairs: list[Pair]) -> TrainSet:
        """A set of these pairs of it, which are not checked again."""
        subset = copy.copy(self)
        subset.pairs = pairs
        return subset

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """A normalised image, float32 (3, size, size), and its mask, float32 (1, size, size) in [0, 1]."""
        pair = self.pairs[index]
        mask = _square(read_grey(pair.mask), self.size)
        return normalise(read_rgb(pair.image), self.size), mask[None] / np.float32(255)


class TestImages:
    """The images of one folder, resized to squares of side ``size``. Masks are not looked at.

    Raises:
        UserError: the folder is missing or empty, or files in it are no images.
    """

    __test__ = False  # no test case, though pytest would take its name for one

    def __init__(self, folder: str | os.PathLike, size: int):
        self.size = size
        self.files = find_images(folder)
        self.stems = list(self.files)
        check_headers(self.files.values())

    def __len__(self) -> int:
        return len(self.stems)

    def __getitem__(self, index: int) -> tuple[np.ndarray, str, tuple[int, int]]:
        """A normalised image, float32 (3, size, size), its stem, and (height, width) of the file."""
        stem = self.stems[index]
        image = read_rgb(self.files[stem])
        return normalise(image, self.size), stem, (image.height, image.width)


def normalise(image: Image.Image, size: int) -> np.ndarray:
    """An RGB image as the networks take it: float32 (3, size, size) in ImageNet's units."""
    pixels = _square(image, size) / np.float32(255)
    return np.ascontiguousarray(((pixels - MEAN) / STD).transpose(2, 0, 1))


def batches_per_epoch(train_set: TrainSet, batch_size: int) -> int:
    """How many batches `epoch_batches` yields: the last, smaller one counts."""
    return -(-len(train_set) // batch_size)


def epoch_batches(train_set: TrainSet, batch_size: int, seed: int, epoch: int,
                  workers: int = WORKERS, first_batch: int = 0,
                  ) -> Iterator[tuple[np.ndarray, np.ndarray, list[str]]]:
    """Batches of one epoch: images (n, 3, s, s) and masks (n, 1, s, s), float32, and their stems.

    The order depends on ``seed`` and ``epoch`` (both 0 or more) alone. The last batch is smaller where the
    division leaves a rest, as in the published loader.

    Args:
        first_batch: the batches before this one are passed over without being read.

    Raises:
        UserError: a file can no longer be read.
    """
    order = np.random.default_rng([seed, epoch]).permutation(len(train_set)).tolist()
    wanted = order[first_batch * batch_size:]
    samples = read_ahead(lambda index: (*train_set[index], train_set.pairs[index].stem), wanted,
                         workers, ahead=BATCHES_AHEAD * batch_size)
    for images, masks, stems in _batches(samples, batch_size):
        yield np.stack(images), np.stack(masks), list(stems)


def image_batches(test_images: TestImages, batch_size: int, workers: int = WORKERS,
                  ) -> Iterator[tuple[np.ndarray, list[str], list[tuple[int, int]]]]:
    """Batches in the order of the files' names: images (n, 3, s, s) float32, stems, (height, width) of each.

    Raises:
        UserError: a file cannot be decoded.
    """
    samples = read_ahead(test_images.__getitem__, range(len(test_images)),
                         workers, ahead=BATCHES_AHEAD * batch_size)
    for images, stems, sizes in _batches(samples, batch_size):
        yield np.stack(images), list(stems), list(sizes)


def find_test_sets(test_path: str | os.PathLike, names: list[str] | None = None) -> dict[str, Path]:
    """The images folders of ``test_path``/NAME/images by name.

    Args:
        names: the sets wanted, in this order; None takes all that are there, the benchmark's first.

    Raises:
        UserError: sets are missing (named, with what is there), or there is none.
    """
    root = Path(test_path)
    if os.path.isdir(root / "images"):
        raise UserError(f"{root}: is one test set; give the folder above it, {root.resolve().parent}, and "
                        f"name the set: {root.resolve().name}")
    folders = {folder.name: folder / "images" for folder in list_folder(root)}
    there = {name: images for name, images in folders.items() if os.path.isdir(images)}
    if not there:
        inner = root / "TestDataset"
        hint = f"; did you mean {inner}?" if os.path.isdir(inner) else ""
        raise UserError(f"{root}: holds no test set (expected SET/images, for example Kvasir/images){hint}")
    if names is None:
        benchmark = [name for name in BENCHMARK if name in there]
        names = benchmark + [name for name in there if name not in benchmark]
    missing = [name for name in names if name not in there]
    if missing:
        raise UserError(f"{root}: has no test set {', '.join(missing)}; there are {', '.join(there)}")
    return {name: there[name] for name in names}


def read_ahead(load: Callable[[Item], Result], items: Iterable[Item], workers: int, ahead: int,
               ) -> Iterator[Result]:
    """Yields ``load(item)`` in the order of ``items``, up to ``ahead`` of them loaded in threads beforehand.

    The first failure is raised in its place in the order; then, and when the consumer stops early, what
    is not begun is cancelled and the threads end.
    """
    pool = ThreadPoolExecutor(workers, thread_name_prefix="read-ahead")
    waiting: deque = deque()
    try:
        for item in items:
            waiting.append(pool.submit(load, item))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _batches(samples: Iterator[tuple], batch_size: int) -> Iterator[tuple]:
    """Groups samples by ``batch_size``, turned round: one tuple for each member of a sample."""
    while batch := list(islice(samples, batch_size)):
        yield tuple(zip(*batch))


def _square(image: Image.Image, size: int) -> np.ndarray:
    return np.asarray(image.resize((size, size), Image.BILINEAR), np.float32)


def _with_images(train_path: str | os.PathLike) -> Path:
    """``train_path`` when it holds images/; otherwise says what it seems to be."""
    root = Path(train_path)
    if os.path.isdir(root / "images"):
        return root
    inside = list_folder(root)
    hint = ""
    if root.resolve().name in ("images", "masks"):
        hint = f"; give the folder above it, {root.resolve().parent}"
    elif any(path.name == "TrainDataset" for path in inside):
        hint = f"; did you mean {root / 'TrainDataset'}?"
    raise UserError(f"{root}: expected the folders images and masks in it, it holds {describe(inside)}{hint}")


def _check_pixels(pairs: list[Pair]) -> None:
    """Decodes every file; raises UserError naming the broken ones, or when no mask reaches mid-grey."""
    brightest = []

    def decode(pair: Pair) -> None:
        read_rgb(pair.image)
        brightest.append(read_grey(pair.mask).getextrema()[1])

    defects = read_ahead(lambda pair: defect_of(decode, pair), pairs, WORKERS, ahead=2 * WORKERS)
    raise_defects(track(defects, len(pairs), "checking the training set", "pairs"))
    if max(brightest) < 128:
        raise UserError(f"{pairs[0].mask.parent}: no mask is brighter than {max(brightest)} of 255; expected "
                        "background 0 and polyp 255 (labels 0 and 1 must be multiplied by 255)")
