"""Scans and their label maps for multi-class segmentation: pictures, slices and volumes, uniform in memory.

A label map has classes, uint8, 0 the background. Where scans lie, scan_folders.py knows; their formats,
scan_files.py.
"""

from __future__ import annotations

import colorsys
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from utils.checkpoint import save_arrays
from utils.data import scan_files
from utils.data.scan_files import Stored
from utils.data.scan_folders import Scan, find_scans
from utils.errors import UserError
from utils.files import atomic_write

__all__ = ["PALETTE", "Scan", "ScanOptions", "ScanPixels", "find_scans", "read_labels", "read_scan",
           "write_labels"]

LABEL_MAPS = {"synapse": {5: 0, 9: 0, 10: 0, 12: 0, 13: 0, 11: 5}}
"""Raw labels to classes; others stay. synapse: of the 13 organs of BTCV the 8 that are measured."""
MAX_CLASSES = 256
ROUNDING = 1e-6  # an image scaled in float32 may leave [0, 1] by this


@dataclass(frozen=True)
class ScanOptions:
    """How scans are read.

    Attributes:
        num_class: classes with the background; labels from this on are refused.
        axis: the slicing axis of volumes; None takes the last of a NIfTI (axial) and the first of others.
        window: grey levels that become 0 and 1, those beyond are clipped; None takes images in [0, 1] as they
            are, and the 8 bits of pictures from 0 to 255.
        label_map: a key of `LABEL_MAPS`, or None.
    """

    num_class: int
    axis: int | None = None
    window: tuple[float, float] | None = None
    label_map: str | None = None

    def axis_of(self, kind: str) -> int:
        """The slicing axis of a volume of a kind of file."""
        return self.axis if self.axis is not None else 2 if kind == "nifti" else 0


@dataclass(frozen=True)
class ScanPixels:
    """A scan in memory; a picture or a slice is a volume of depth 1.

    Attributes:
        image: float32 (D, C, H, W) in [0, 1], C 1 for grey and 3 for RGB.
        labels: uint8 (D, H, W), or None where none are given.
        spacing: mm along D, H, W; None where the file does not say.
        nifti_axis: where D lies in a NIfTI of it.
        nifti_header: of the file, if it is a NIfTI, with affine, axes and units.
    """

    image: np.ndarray
    labels: np.ndarray | None
    spacing: tuple[float, float, float] | None
    nifti_axis: int = 2
    nifti_header: bytes | None = None


class ScaleError(UserError):
    """An image is not in [0, 1], and no window is given."""


class LabelError(UserError):
    """A label holds what is no class."""


class ShapeError(UserError):
    """An array has not the axes or the size that are expected."""


def read_scan(scan: Scan, options: ScanOptions) -> ScanPixels:
    """Reads a scan.

    Raises:
        UserError: a file is damaged, image and label differ in size (`ShapeError`), the image is not in
            [0, 1] and no window is given (`ScaleError`), or the label holds no classes (`LabelError`).
    """
    stored = scan_files.read_stored(scan.kind, scan.image, scan.label)
    _check_shapes(scan, stored)
    axis = options.axis_of(scan.kind) if scan.is_volume else None
    image = _scaled(stored.image, options.window, scan)
    if scan.kind == "picture" and image.ndim == 3:
        image = image.transpose(2, 0, 1)[None]
    else:
        image = _slices_first(image, axis)[:, None]
    labels = None
    if stored.label is not None:
        labels = _slices_first(_classes(stored.label, options, scan.label), axis)
    spacing = stored.spacing
    if spacing and axis:
        spacing = (spacing[axis], *spacing[:axis], *spacing[axis + 1:])
    return ScanPixels(np.ascontiguousarray(image), labels, spacing, options.axis_of("nifti"), stored.header)


def write_labels(folder: str | os.PathLike, scan: Scan, labels: np.ndarray, pixels: ScanPixels,
                 nifti: bool = False) -> Path:
    """Writes predicted ``labels``, uint8 (D, H, W), as a file of the scan's name. Gives its path.

    A picture's is a PNG with the palette. Others are .npz with ``label``, (D, H, W) or (H, W) of a slice, and
    ``spacing`` where it is known; with ``nifti`` .nii.gz, which lies in space as the scan's own file does.

    Raises:
        UserError: it cannot be written.
    """
    suffix = ".png" if scan.kind == "picture" else ".nii.gz" if nifti else ".npz"
    path = Path(folder) / (scan.name + suffix)
    if suffix == ".npz":
        spacing = {} if pixels.spacing is None else {"spacing": np.array(pixels.spacing)}
        save_arrays({"label": labels if scan.is_volume else labels[0], **spacing}, path, compressed=True)
        return path
    nifti_file = _as_nifti(path, labels, pixels) if suffix == ".nii.gz" else b""
    with atomic_write(path) as file:
        if suffix == ".png":
            picture = Image.fromarray(labels[0])
            picture.putpalette(PALETTE.tobytes())
            picture.save(file, format="PNG")
        else:
            file.write(nifti_file)
    return path


def read_labels(path: str | os.PathLike, axis: int | None = None) -> np.ndarray:
    """A label map that `write_labels` or another program wrote: uint8 (D, H, W).

    Args:
        axis: the slicing axis of a NIfTI, the last one if None. In other files slices come first.

    Raises:
        UserError: the file is missing, damaged or no label map.
    """
    path = Path(path)
    kind, _ = scan_files.kind_of(path) or (None, None)
    if kind is None:
        raise UserError(f"{path}: expected a label map, a .png, .npz or .nii.gz")
    label = scan_files.read_label(kind, path)
    if label.ndim not in (2, 3) or 0 in label.shape:
        raise ShapeError(f"{path}: its label has the shape {label.shape}, expected two or three axes")
    options = ScanOptions(MAX_CLASSES, axis if kind == "nifti" else None)
    return _slices_first(_classes(label, options, path), options.axis_of(kind) if label.ndim == 3 else None)


def _as_nifti(path: Path, labels: np.ndarray, pixels: ScanPixels) -> bytes:
    axis, spacing = pixels.nifti_axis, pixels.spacing
    if spacing:
        spacing = (*spacing[1:axis + 1], spacing[0], *spacing[axis + 1:])
    return scan_files.nifti_bytes(path, np.moveaxis(labels, 0, axis), spacing, pixels.nifti_header)


def _slices_first(values: np.ndarray, axis: int | None) -> np.ndarray:
    """A volume with its slicing axis first; a slice or picture (axis None) as a volume of depth 1."""
    return np.ascontiguousarray(values[None] if axis is None else np.moveaxis(values, axis, 0))


def _check_shapes(scan: Scan, stored: Stored) -> None:
    shape, axes = stored.image.shape, 3 if scan.is_volume else 2
    if scan.kind == "picture":
        shape = shape[:2]
    if len(shape) != axes or 0 in shape:
        raise ShapeError(f"{scan.image}: its image has the shape {shape}, expected "
                         f"{'(D, H, W)' if scan.is_volume else '(H, W)'}, none of them 0")
    if stored.label is not None and stored.label.shape != shape:
        raise ShapeError(f"{scan.label}: its label has the shape {stored.label.shape}, its image {shape}; "
                         "give both the same size")


def _scaled(image: np.ndarray, window: tuple[float, float] | None, scan: Scan) -> np.ndarray:
    """Grey levels as float32 in [0, 1], see `ScanOptions`."""
    low, high = float(image.min()), float(image.max())
    if not np.isfinite([low, high]).all():
        raise UserError(f"{scan.image}: its image holds NaN or infinite values, expected finite grey levels; "
                        "mend it or take it out of the set")
    if window is None and scan.kind == "picture" and image.dtype == np.uint8:
        window = 0, 255
    elif window is None:
        if low < -ROUNDING or high > 1 + ROUNDING:
            raise ScaleError(f"{scan.image}: its grey levels go from {low:g} to {high:g}, expected 0 to 1; "
                             "say by --window LOW HIGH which become 0 and 1 (for abdominal CT in Hounsfield "
                             "units -125 275)")
        window = 0, 1
    with np.errstate(over="ignore"):  # infinite in float32: clipped
        values = image.astype(np.float32, copy=not image.flags.writeable)  # or else it is ours alone
    np.clip(values, *window, out=values)
    values -= np.float32(window[0])
    values /= np.float32(window[1]) - np.float32(window[0])
    return values


def _classes(label: np.ndarray, options: ScanOptions, path: Path) -> np.ndarray:
    """The classes of a label, uint8."""
    with np.errstate(invalid="ignore"):  # of NaN, which is not equal to itself
        fractions = label.dtype.kind == "f" and any((part != np.round(part)).any() for part in label)
    if fractions:
        raise LabelError(f"{path}: its label holds fractions, expected classes; it may have been resized "
                         "smoothly, or hold probabilities")
    if label.min() < 0 or label.max() >= MAX_CLASSES:
        raise _foreign(label[(label < 0) | (label >= options.num_class)], options, path)
    table = np.arange(MAX_CLASSES, dtype=np.uint8)
    for raw, mapped in LABEL_MAPS.get(options.label_map, {}).items():
        table[raw] = mapped
    raw = label.astype(np.uint8)
    classes = table[raw]
    if classes.max() >= options.num_class:
        raise _foreign(raw[classes >= options.num_class], options, path)
    return classes


def _foreign(values: np.ndarray, options: ScanOptions, path: Path) -> LabelError:
    """What to say of labels that are no classes."""
    labels = np.unique(values)
    more = f" and {len(labels) - 5} more" if len(labels) > 5 else ""
    names = ", ".join(f"{label:.9g}" for label in labels[:5]) + more
    hint = "; raw labels of Synapse need --label_map synapse" if options.num_class == 9 else ""
    return LabelError(f"{path}: holds the label {names} (in {values.size} pixels), expected 0 to "
                      f"{options.num_class - 1}; give the number of classes, background included, by "
                      f"--num_class, or mend the label{hint}")


def _palette() -> np.ndarray:
    """Black, the colours of Okabe and Ito, some of Paul Tol's, then hues in steps of the golden section."""
    named = ("000000", "E69F00", "56B4E9", "009E73", "F0E442", "0072B2", "D55E00", "CC79A7", "BBBBBB",
             "882255", "999933", "332288", "DDCC77", "44AA99", "AA4499", "117733")
    colours = [list(bytes.fromhex(name)) for name in named]
    for number in range(MAX_CLASSES - len(colours)):
        light = (0.75, 0.5, 0.95)[number % 3]
        red_green_blue = colorsys.hsv_to_rgb(number * 0.618034 % 1, 0.65, light)
        colours.append([round(255 * part) for part in red_green_blue])
    return np.array(colours, np.uint8)


PALETTE = _palette()
"""The colours of the classes, uint8 (256, 3), 0 black; the first ones can be told apart by all eyes."""
