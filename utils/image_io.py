"""Images and masks on disk: finding, pairing and reading them, and writing maps."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from utils.errors import UserError
from utils.files import write_whole

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")


@dataclass(frozen=True)
class Pair:
    """An image and its mask, which share ``stem``."""

    stem: str
    image: Path
    mask: Path


def find_images(folder: str | os.PathLike) -> dict[str, Path]:
    """Image files directly inside ``folder`` by stem, in the order of their names.

    Raises:
        UserError: the folder is missing or holds no image, or two files share a stem.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder{_nearest(folder)}")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in IMAGE_SUFFIXES or path.name.startswith("."):
            continue
        if path.stem in found:
            raise UserError(f"{path}: has the same stem as {found[path.stem].name}; images and masks are "
                            "paired by stem, so keep one of the two")
        found[path.stem] = path
    if not found:
        raise UserError(f"{folder}: holds no image (looked for {' '.join(IMAGE_SUFFIXES)})")
    return found


def find_pairs(images: str | os.PathLike, masks: str | os.PathLike) -> list[Pair]:
    """Pairs the images and masks of two folders by stem.

    Raises:
        UserError: a folder is missing or empty, or a file has no partner; up to five are named.
    """
    image_files, mask_files = find_images(images), find_images(masks)
    problems = []
    for having, lacking, what, folder in ((image_files, mask_files, "mask", masks),
                                          (mask_files, image_files, "image", images)):
        alone = [path.name for stem, path in having.items() if stem not in lacking]
        if alone:
            problems.append(f"{folder}: no {what} for {len(alone)} of {len(having)} files: {name_some(alone)}")
    if problems:
        raise UserError("; ".join(problems))
    return [Pair(stem, path, mask_files[stem]) for stem, path in image_files.items()]


def check_sizes(pairs: list[Pair]) -> None:
    """Reads the header of every file and compares the sizes of image and mask.

    Raises:
        UserError: a file is unreadable, or a mask's size is not its image's; up to five are named.
    """
    different = []
    for pair in pairs:
        image, mask = image_size(pair.image), image_size(pair.mask)
        if image != mask:
            different.append(f"{pair.mask} is {mask[0]}x{mask[1]}, its image {image[0]}x{image[1]}")
    if different:
        raise UserError(f"{len(different)} of {len(pairs)} masks differ in size from their image: "
                        f"{name_some(different)}")


def image_size(path: str | os.PathLike) -> tuple[int, int]:
    """(width, height) from the file's header. Raises UserError when it is no readable image."""
    with _reading(path), Image.open(path) as image:
        return image.size


def read_rgb(path: str | os.PathLike) -> Image.Image:
    """The image as 8-bit RGB. Raises UserError when it cannot be decoded or has 16 bits or floats."""
    return _read(path, "RGB")


def read_grey(path: str | os.PathLike) -> Image.Image:
    """The image as 8-bit grey, colours weighted as ITU-R 601 luma. Raises UserError as `read_rgb` does."""
    return _read(path, "L")


def write_map(path: str | os.PathLike, values: np.ndarray) -> None:
    """Writes a uint8 (H, W) array as PNG; the file is whole or absent."""
    with write_whole(path) as file:
        Image.fromarray(values).save(file, format="PNG")


def name_some(names: list[str], most: int = 5) -> str:
    """The first few names in one line, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _read(path: str | os.PathLike, mode: str) -> Image.Image:
    with _reading(path), Image.open(path) as image:
        if image.mode.startswith(("I", "F")):
            raise UserError(f"{path}: has pixels of mode {image.mode}, expected 8-bit; convert it to 8-bit first")
        return image.convert(mode)


class _reading:
    """Turns everything that decoding a stranger's file can raise into a UserError naming the file."""

    def __init__(self, path: str | os.PathLike):
        self.path = path
        self.warnings = warnings.catch_warnings()

    def __enter__(self) -> None:
        self.warnings.__enter__()
        # PIL only warns of a decompression bomb below twice its limit, and of broken metadata.
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)

    def __exit__(self, kind: type | None, error: BaseException | None, _) -> None:
        self.warnings.__exit__(None, None, None)
        if isinstance(error, Exception) and not isinstance(error, UserError):
            reason = getattr(error, "strerror", None) or " ".join(str(error).split())
            raise UserError(f"{self.path}: cannot be read as an image ({reason}); "
                            "replace the file or take it out of the set") from error


def _nearest(folder: Path) -> str:
    """What is there instead of a missing folder."""
    for parent in folder.parents:
        if parent.is_dir():
            inside = sorted(path.name for path in parent.iterdir() if path.is_dir())
            return f"; {parent} holds {name_some(inside)}" if inside else f"; {parent} holds no folder"
    return ""
