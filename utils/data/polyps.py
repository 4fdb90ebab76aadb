"""Training pairs and test images as float32 arrays, read ahead of the network.

The preprocessing is the published one: RGB, PIL's bilinear resize to a square, /255, ImageNet's mean and
deviation; masks grey, bilinear (so their edges are soft), /255. The three scales of training are the loop's.
Files are decoded and resized to uint8 by other processes or once for all epochs; the rest is done per batch.
"""

from __future__ import annotations

import copy
import functools
import os
from collections.abc import Callable, Iterator, Sized
from contextlib import closing
from itertools import chain, islice
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image

from utils import ranks
from utils.data.image_io import (
    Pair,
    check_headers,
    check_sizes,
    defect_of,
    describe,
    find_images,
    find_pairs,
    image_size,
    list_folder,
    raise_defects,
    read_grey,
    read_rgb,
)
from utils.data.scan_folders import hint_of_scans
from utils.errors import UserError
from utils.parallel import WORKERS, prefetch, prefetch_in_processes
from utils.progress import track
from utils.runtime.memory import available_memory

Item = TypeVar("Item")
MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)
PLANES = 4  # of a pair as it is cached: red, green, blue, mask
BENCHMARK = ("CVC-300", "CVC-ClinicDB", "Kvasir", "CVC-ColonDB", "ETIS-LaribPolypDB")
BATCHES_AHEAD = 2  # read while the consumer works on one: a slow file then stalls nobody


class TrainSet:
    """The pairs of ``train_path``/images and ``train_path``/masks, resized to squares of side ``size``.

    Every file is decoded once at the start, so that a broken one is named now and not an hour into training.

    Args:
        in_memory: keep the resized pairs, so that no file is read again: 4 * size * size bytes each.

    Raises:
        UserError: a folder or partner is missing, a file is unreadable, a mask has another size than its
            image, no mask of the set holds a polyp, or the memory does not suffice.
    """

    def __init__(self, train_path: str | os.PathLike, size: int, in_memory: bool = False):
        root = training_folder(train_path)
        self.size = size
        self.pairs = find_pairs(root / "images", root / "masks")
        self.cached: dict[Pair, np.ndarray] = {}
        check_sizes(self.pairs)
        if in_memory:
            _check_memory(len(self.pairs), size)
        self._check_pixels(in_memory)

    def __len__(self) -> int:
        return len(self.pairs)

    def subset(self, pairs: list[Pair]) -> TrainSet:
        """A set of these pairs of it, which are not checked again."""
        subset = copy.copy(self)
        subset.pairs = pairs
        return subset

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """A normalised image, float32 (3, size, size), and its mask, float32 (1, size, size) in [0, 1]."""
        planes, = self.read([self.pairs[index]], workers=0, ahead=1)
        return _images_and_masks(planes)

    def read(self, pairs: list[Pair], workers: int, ahead: int) -> Iterator[np.ndarray]:
        """Yields the planes of each pair, uint8 (4, size, size), up to ``ahead`` of them read beforehand."""
        if self.cached:
            yield from (self.cached[pair] for pair in pairs)
            return
        load = functools.partial(read_planes, size=self.size)
        yield from prefetch_in_processes(load, pairs, (PLANES, self.size, self.size), workers, ahead)

    def _check_pixels(self, keep: bool) -> None:
        """Decodes every file; raises UserError naming the broken ones, or when no mask reaches mid-grey."""
        brightest = []

        def decode(pair: Pair) -> None:
            image, mask = read_rgb(pair.image), read_grey(pair.mask)
            brightest.append(mask.getextrema()[1])
            if keep:
                self.cached[pair] = _planes(image, mask, self.size)

        defects = prefetch(lambda pair: defect_of(decode, pair), self.pairs, WORKERS, ahead=2 * WORKERS)
        raise_defects(track(defects, len(self), "checking the training set", "pairs"))
        if max(brightest) < 128:
            raise UserError(f"{self.pairs[0].mask.parent}: no mask is brighter than {max(brightest)} of 255; "
                            "expected background 0 and polyp 255 (labels 0 and 1 must be multiplied by 255)")


class TestImages:
    """The images of one folder, resized to squares of side ``size``. Masks are not looked at.

    Raises:
        UserError: the folder is missing or empty, or files in it are no images.
    """

    __test__ = False  # no test case, though pytest would take its name for one

    def __init__(self, folder: str | os.PathLike, size: int):
        self.folder, self.size = Path(folder), size
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
    return in_imagenets_units(_square(image, size))


def in_imagenets_units(image: np.ndarray) -> np.ndarray:
    """uint8 (..., 3, s, s) to float32, step by step in place: several times faster than one expression."""
    values = image.astype(np.float32)
    values /= np.float32(255)
    values -= MEAN[:, None, None]
    values /= STD[:, None, None]
    return values


def read_image(path: Path, size: int) -> np.ndarray:
    """An image, uint8 (3, size, size). Raises UserError when the file cannot be read."""
    return _square(read_rgb(path), size)


def read_planes(pair: Pair, size: int) -> np.ndarray:
    """A pair's image and mask, uint8 (4, size, size). Raises UserError when a file cannot be read."""
    return _planes(read_rgb(pair.image), read_grey(pair.mask), size)


def batches_per_epoch(train_set: Sized, batch_size: int) -> int:
    """How many batches an epoch has: the last, smaller one counts."""
    return -(-len(train_set) // batch_size)


def epoch_batches(train_set: TrainSet, batch_size: int, seed: int, epoch: int,
                  workers: int = WORKERS, first_batch: int = 0,
                  ) -> Iterator[tuple[np.ndarray, np.ndarray, list[str]]]:
    """Batches of one epoch: images (n, 3, s, s) and masks (n, 1, s, s), float32, and the batch's stems.

    The order depends on ``seed`` and ``epoch`` (both 0 or more) alone. The last batch is smaller where the
    division leaves a rest, as in the published loader. Of many processes each one gets the images of its
    shard, and the stems of all.

    Args:
        workers: processes that read ahead; 0 reads in the calling one. The batches do not depend on it.
        first_batch: the batches before this one are passed over without being read.

    Raises:
        UserError: a file can no longer be read.
    """
    order = np.random.default_rng([seed, epoch]).permutation(len(train_set)).tolist()
    pairs = [train_set.pairs[index] for index in order]
    read = functools.partial(train_set.read, workers=workers)
    with closing(read_shards(pairs, batch_size, first_batch, read)) as batches:
        for batch, planes in batches:
            yield *_images_and_masks(planes), [pair.stem for pair in batch]


def read_shards(items: list[Item], batch_size: int, first_batch: int,
                read: Callable[..., Iterator[np.ndarray]]) -> Iterator[tuple[list[Item], np.ndarray]]:
    """Yields each batch of items from ``first_batch`` on, and the stacked planes of this rank's shard of it.

    Args:
        read: ``read(items, ahead=...)`` yields the planes of each item, so many of them read beforehand.
    """
    batches = [items[start:start + batch_size] for start in range(0, len(items), batch_size)][first_batch:]
    shards = [batch[ranks.shard_of(len(batch)).images] for batch in batches]
    ahead = BATCHES_AHEAD * max(map(len, shards), default=1)
    with closing(read(list(chain.from_iterable(shards)), ahead=ahead)) as planes:
        for batch, shard in zip(batches, shards):
            yield batch, np.stack(list(islice(planes, len(shard))))


def image_batches(test_images: TestImages, batch_size: int, workers: int = WORKERS,
                  ) -> Iterator[tuple[np.ndarray, list[str], list[tuple[int, int]]]]:
    """Batches in the order of the files' names: images (n, 3, s, s) float32, stems, (height, width) of each.

    Raises:
        UserError: a file cannot be decoded.
    """
    load = functools.partial(read_image, size=test_images.size)
    files, shape = list(test_images.files.values()), (3, test_images.size, test_images.size)
    ahead = BATCHES_AHEAD * batch_size
    with closing(prefetch_in_processes(load, files, shape, workers, ahead)) as images:
        for start in range(0, len(files), batch_size):
            batch = files[start:start + batch_size]
            stems, sizes = [path.stem for path in batch], [image_size(path)[::-1] for path in batch]
            yield in_imagenets_units(np.stack(list(islice(images, batch_size)))), stems, sizes


def training_folder(train_path: str | os.PathLike) -> Path:
    """``train_path`` when it holds images/. Raises UserError otherwise, saying what it seems to be."""
    root = Path(train_path)
    hint = hint_of_scans(root)
    if os.path.isdir(root / "images") and not hint:
        return root
    inside = list_folder(root)
    if root.resolve().name in ("images", "masks"):
        hint = f"; give the folder above it, {root.resolve().parent}"
    elif any(path.name == "TrainDataset" for path in inside):
        hint = f"; did you mean {root / 'TrainDataset'}?"
    raise UserError(f"{root}: expected the folders images and masks in it, it holds {describe(inside)}{hint}")


def find_test_sets(test_path: str | os.PathLike, names: list[str] | None = None) -> dict[str, Path]:
    """The images folders of ``test_path``/NAME/images by name.

    Args:
        names: of the sets, in this order; None takes all, the benchmark's first.

    Raises:
        UserError: sets are missing (named, with what is there), or there is none.
    """
    root = Path(test_path)
    if os.path.isdir(root / "images"):
        raise UserError(f"{root}: is one test set; give the folder above it, {root.resolve().parent}, and "
                        f"name the set: {root.resolve().name}")
    folders = {folder.name: folder / "images" for folder in list_folder(root)}
    available = {name: images for name, images in folders.items() if os.path.isdir(images)}
    if not available:
        inner = root / "TestDataset"
        hint = f"; did you mean {inner}?" if os.path.isdir(inner) else hint_of_scans(root)
        raise UserError(f"{root}: holds no test set (expected SET/images, for example Kvasir/images){hint}")
    if names is None:
        benchmark = [name for name in BENCHMARK if name in available]
        names = benchmark + [name for name in available if name not in benchmark]
    missing = [name for name in names if name not in available]
    if missing:
        raise UserError(f"{root}: has no test set {', '.join(missing)}; there are {', '.join(available)}")
    return {name: available[name] for name in names}


def _planes(image: Image.Image, mask: Image.Image, size: int) -> np.ndarray:
    return np.concatenate([_square(image, size), _square(mask, size)])


def _square(image: Image.Image, size: int) -> np.ndarray:
    """The bands of an image, uint8 (bands, size, size)."""
    return np.stack([np.asarray(band) for band in image.resize((size, size), Image.BILINEAR).split()])


def _images_and_masks(planes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Planes (..., 4, s, s) as networks take them: float32 images (..., 3, s, s), masks (..., 1, s, s)."""
    return in_imagenets_units(planes[..., :3, :, :]), planes[..., 3:, :, :] / np.float32(255)


def _check_memory(count: int, size: int) -> None:
    needed, available = count * PLANES * size**2 * ranks.LOCAL_SIZE, available_memory()
    if needed > available:
        where = f" in {ranks.LOCAL_SIZE} processes" if ranks.LOCAL_SIZE > 1 else ""
        raise UserError(f"--cache ram: {count} pairs of {size}x{size} pixels{where} take "
                        f"{needed / 1e6:.0f} MB, {available / 1e6:.0f} MB of memory are free; take --cache "
                        "none")
