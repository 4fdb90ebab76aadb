"""Images and masks on disk: finding, pairing and reading them, and writing maps."""

from __future__ import annotations

import contextlib
import os
import stat
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, TypeVar

import numpy as np
from PIL import Image
from PIL.Image import Transpose

from utils.errors import UserError
from utils.files import atomic_write

Item = TypeVar("Item")
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")  # no others: PostScript starts Ghostscript
MAX_PIXELS = 89_478_485  # where Pillow begins to warn of decompression bombs: 256 MB as RGB

EXIF_ORIENTATION = 0x0112
TRANSPOSES = {2: Transpose.FLIP_LEFT_RIGHT, 3: Transpose.ROTATE_180, 4: Transpose.FLIP_TOP_BOTTOM,
              5: Transpose.TRANSPOSE, 6: Transpose.ROTATE_270, 7: Transpose.TRANSVERSE,
              8: Transpose.ROTATE_90}
"""What turns a picture of an EXIF orientation upright; 1 is upright."""


@dataclass(frozen=True)
class Pair:
    """An image and its mask, which share ``stem``."""

    stem: str
    image: Path
    mask: Path


def list_folder(folder: str | os.PathLike) -> list[Path]:
    """What lies in ``folder``, sorted by name, hidden files left out.

    Raises:
        UserError: it is missing (the nearest folder above it is named, and what that holds), no folder, or
            closed to us.
    """
    folder = Path(folder)
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except FileNotFoundError as error:
        raise UserError(f"{folder}: no such folder{_nearest(folder)}") from error
    except NotADirectoryError as error:
        raise UserError(f"{folder}: expected a folder, this is a file") from error
    except OSError as error:
        raise UserError(f"{folder}: cannot be listed ({error.strerror})") from error


def read_list(path: Path) -> list[str]:
    """The lines of a list file, stripped; empty lines and those with # in front are left out.

    Raises:
        UserError: the file cannot be read, or is no text.
    """
    try:
        lines = [line.strip() for line in path.read_bytes().splitlines()]
    except OSError as error:
        raise UserError(f"{path}: cannot be read as a list ({error.strerror})") from error
    if any(b"\0" in line for line in lines):
        raise UserError(f"{path}: is no text; expected a list with a name or path in each line")
    return [os.fsdecode(line) for line in lines if line and not line.startswith(b"#")]


def find_images(folder: str | os.PathLike) -> dict[str, Path]:
    """Image files directly inside ``folder`` by stem, in the order of their names.

    Raises:
        UserError: the folder is missing or holds no image, or two files share a stem.
    """
    images: dict[str, Path] = {}
    inside = list_folder(folder)
    for path in inside:
        if path.suffix.lower() not in IMAGE_SUFFIXES:
            continue
        if path.stem in images:
            raise UserError(f"{path}: has the same stem as {images[path.stem].name}; images and masks are "
                            "paired by stem, so keep one of the two")
        images[path.stem] = path
    if not images:
        raise UserError(f"{folder}: holds no image (looked for {' '.join(IMAGE_SUFFIXES)}); "
                        f"it holds {describe(inside)}")
    return images


def find_pairs(images: str | os.PathLike, masks: str | os.PathLike) -> list[Pair]:
    """Pairs the images and masks of two folders by stem.

    Raises:
        UserError: a folder is missing or empty, or a file has no partner; up to five are named.
    """
    image_files, mask_files = find_images(images), find_images(masks)
    problems = []
    for files, others, what, folder, other in ((image_files, mask_files, "mask", images, masks),
                                               (mask_files, image_files, "image", masks, images)):
        alone = [path.name for stem, path in files.items() if stem not in others]
        if alone:
            problems.append(f"{folder}: {len(alone)} of {len(files)} files have no {what} in {other}: "
                            f"{name_some(alone)}")
    if problems:
        raise UserError("; ".join(problems) + _suffix_hint(image_files, mask_files))
    return [Pair(stem, path, mask_files[stem]) for stem, path in image_files.items()]


def _suffix_hint(images: dict[str, Path], masks: dict[str, Path]) -> str:
    """What to do where every mask is called as its image with the same letters behind."""
    pairs = list(zip(sorted(images), sorted(masks)))
    suffix = pairs[0][1][len(pairs[0][0]):]
    if not suffix or len(images) != len(masks) or any(mask != image + suffix for image, mask in pairs):
        return ""
    return (f"; masks seem to be called NAME{suffix}: take {suffix} out of their names, in bash: for f in "
            f"masks/*{suffix}.*; do mv \"$f\" \"${{f/{suffix}./.}}\"; done")


def check_sizes(pairs: Iterable[Pair]) -> None:
    """Reads the header of every file and compares the sizes of image and mask.

    Raises:
        UserError: files are unreadable, or masks have not their image's size; up to five are named.
    """
    raise_defects(defect_of(_check_size, pair) for pair in pairs)


def check_headers(paths: Iterable[Path]) -> None:
    """Reads the header of every file. Raises UserError naming up to five that are no images."""
    raise_defects(defect_of(image_size, path) for path in paths)


def defect_of(check: Callable[[Item], object], item: Item) -> str | None:
    """The text of the UserError that ``check(item)`` raises, or None."""
    try:
        check(item)
    except UserError as error:
        return str(error)
    return None


def raise_defects(defects: Iterable[str | None]) -> None:
    """Takes what `defect_of` gave for every item and raises one UserError with up to five of the texts."""
    defects = list(defects)
    texts = [defect for defect in defects if defect]
    if len(texts) == 1:
        raise UserError(texts[0])
    if texts:
        raise UserError(f"{len(texts)} of {len(defects)} have a defect: {name_some(texts, between=' | ')}")


def image_size(path: str | os.PathLike) -> tuple[int, int]:
    """(width, height) as `read_rgb` gives it, from the file's header. Raises UserError as that does."""
    with _open(path) as image:
        return image.size[::-1] if exif_orientation(image) >= 5 else image.size


def exif_orientation(image: Image.Image) -> int:
    """How a freshly opened image has to be turned to be upright: a key of `TRANSPOSES`, or 1 for not at all.

    A damaged EXIF block says nothing; viewers show such an image as it is. Pillow turns TIFF files by itself.
    """
    # Asked for what it has not, a PNG file is decoded to its end.
    if image.format == "TIFF" or (image.format == "PNG" and "exif" not in image.info):
        return 1
    try:
        orientation = image.getexif().get(EXIF_ORIENTATION)
    except Exception:
        return 1
    return orientation if orientation in TRANSPOSES else 1


def read_rgb(path: str | os.PathLike) -> Image.Image:
    """The image as 8-bit RGB, upright as its EXIF orientation tells, an alpha channel dropped.

    Masks are turned alike, so that image and mask agree as viewers show them.

    Raises:
        UserError: it cannot be decoded, has 16 bits or floats per pixel, several frames, or more than
            `MAX_PIXELS`.
    """
    return _read(path, "RGB")


def read_grey(path: str | os.PathLike) -> Image.Image:
    """The image as 8-bit grey, colours weighted as ITU-R 601 luma. Raises UserError as `read_rgb` does."""
    return _read(path, "L")


def read_levels(path: str | os.PathLike) -> np.ndarray:
    """The grey levels of a map or mask, (H, W) uint8; 1-bit images give 0 and 255.

    A palette or colour image is read if every pixel is a grey: unlike `read_grey`, no level is made up.

    Raises:
        UserError: it cannot be decoded, has 16 bits, floats, colours or transparent pixels.
    """
    with _open(path) as file:
        image = _upright(file)
        if image.mode in ("L", "1"):
            return np.asarray(image.convert("L"))
        _require_8_bits(image, path)
        red, green, blue, alpha = np.moveaxis(np.asarray(image.convert("RGBA")), 2, 0)
    if (alpha != 255).any():
        raise UserError(f"{path}: has transparent pixels, expected grey levels; flatten it first")
    coloured = np.count_nonzero((red != green) | (green != blue))
    if coloured:
        raise UserError(f"{path}: has {coloured} coloured pixels (mode {image.mode}), expected grey levels; "
                        "save the map or mask itself, not a coloured rendering of it")
    return red.copy()


def read_pixels(path: str | os.PathLike) -> np.ndarray:
    """A picture as it is: grey (H, W) uint8, or of its 16 or 32 bits; everything else RGB (H, W, 3) uint8.

    Raises:
        UserError: it cannot be decoded, has floats per pixel, several frames, or more than `MAX_PIXELS`.
    """
    with _open(path) as file:
        if file.mode.startswith("I"):
            return np.asarray(_upright(file))
        grey = file.mode in ("1", "L", "LA")
    return np.asarray(_read(path, "L" if grey else "RGB"))


def read_indices(path: str | os.PathLike) -> np.ndarray:
    """The class indices of a label map, whole numbers (H, W): grey levels, or the numbers of palette colours.

    Raises:
        UserError: as `read_pixels`, it is of colours that are no palette's, or a JPEG, which keeps no index.
    """
    with _open(path) as file:
        if file.format in ("JPEG", "MPO"):
            raise UserError(f"{path}: is a JPEG, which changes class indices; expected a PNG made from the "
                            "label map itself")
        if file.mode not in ("1", "L", "P") and not file.mode.startswith("I"):
            raise UserError(f"{path}: has pixels of mode {file.mode}, expected class indices in a grey or "
                            "palette PNG; convert its colours to indices first")
        return np.asarray(_upright(file)).astype(np.int32)


def write_map(path: str | os.PathLike, values: np.ndarray) -> None:
    """Writes a uint8 (H, W) or (H, W, 3) array as PNG; the file is complete or absent."""
    level = 6 if values.ndim == 2 else 1  # photographs take a multiple of the time to get a little smaller
    with atomic_write(path) as file:
        Image.fromarray(values).save(file, format="PNG", compress_level=level)


def name_some(names: list[str], limit: int = 5, between: str = ", ") -> str:
    """The first few names in one line, and how many more there are."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return between.join(names[:limit]) + more


def _read(path: str | os.PathLike, mode: str) -> Image.Image:
    with _open(path) as file:
        _require_8_bits(file, path)
        image = _upright(file)
        if "transparency" in image.info:  # a palette's alpha: PIL warns unless it goes through RGBA
            return image.convert("RGBA").convert(mode)
        return image.convert(mode)


@contextlib.contextmanager
def _open(path: str | os.PathLike) -> Iterator[Image.Image]:
    """A single picture of bounded size, its header read; UserError for anything else."""
    with _user_errors(path):
        _require_file(path)
        # Given a path, Pillow maps plain grey TIFF files into memory, and then turns them wrongly.
        with open(path, "rb") as file, Image.open(file, formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise Image.DecompressionBombError
            # The second frame of a camera's MPO file is a preview.
            if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
                raise UserError(f"{path}: holds {image.n_frames} frames or pages, expected one image; save "
                                "the one that you mean")
            yield image


def _require_file(path: str | os.PathLike) -> None:
    """Opening a pipe or a device could wait for ever."""
    if not stat.S_ISREG(os.stat(path).st_mode) and not os.path.isdir(path):
        raise UserError(f"{path}: is a pipe or a device, expected an image file; take it out of the set")


def _upright(image: Image.Image) -> Image.Image:
    orientation = exif_orientation(image)
    return image.transpose(TRANSPOSES[orientation]) if orientation in TRANSPOSES else image


def _require_8_bits(image: Image.Image, path: str | os.PathLike) -> None:
    if image.mode.startswith(("I", "F")):
        raise UserError(f"{path}: has pixels of mode {image.mode}, expected 8 bits; convert it first")


@contextlib.contextmanager
def _user_errors(path: str | os.PathLike) -> Iterator[None]:
    """Turns everything that decoding a stranger's file can raise into a UserError naming the file.

    Used in threads, so it leaves the warnings' filters alone: they belong to the process.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        if os.path.islink(path) and not os.path.exists(path):
            reason = f"a link to {os.readlink(path)}, which is not there"
        elif isinstance(error, Image.DecompressionBombError):
            reason = f"it has more than {MAX_PIXELS // 10**6} million pixels, as a decompression bomb would"
        elif os.path.isfile(path) and os.path.getsize(path) == 0:
            reason = "the file is empty"
        elif isinstance(error, Image.UnidentifiedImageError):
            reason = "its content is of no known image format"
        raise UserError(f"{path}: cannot be read as an image ({reason}); "
                        "replace the file or take it out of the set") from error


def _check_size(pair: Pair) -> None:
    image, mask = image_size(pair.image), image_size(pair.mask)
    if image != mask:
        raise UserError(f"{pair.mask}: is {mask[0]}x{mask[1]} pixels, its image {pair.image.name} "
                        f"{image[0]}x{image[1]}; give both the same size")


def describe(inside: list[Path]) -> str:
    """A folder's content in a few words: its folders by name, its files by suffix."""
    folders = [path.name + "/" for path in inside if path.is_dir()]
    suffixes = Counter(path.suffix or "without suffix" for path in inside if not path.is_dir())
    files = [f"{count} {suffix}" for suffix, count in suffixes.most_common()]
    return name_some(folders + files) or "nothing"


def _nearest(folder: Path) -> str:
    """What is there instead of a missing folder."""
    for parent in folder.parents:
        if parent.is_dir():
            return f"; {parent} holds {describe(list_folder(parent))}"
    return ""
