"""The formats of scans: .npz, HDF5, NIfTI and pictures, read into arrays as the files hold them.

The files are strangers': sizes are bounded before anything is allocated, only plain numbers are read, and no
link of a file leads to another one. HDF5 and NIfTI need requirements-volumes.txt.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import gzip
import importlib
import io
import math
import os
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

import numpy as np

from utils.checkpoint import npy
from utils.data.image_io import IMAGE_SUFFIXES, read_indices, read_pixels
from utils.errors import UserError

SUFFIXES = {"nifti": (".nii.gz", ".nii"), "h5": (".npy.h5", ".h5", ".hdf5"), "npz": (".npz",),
            "picture": IMAGE_SUFFIXES}
WITH_LABELS = ("h5", "npz")  # a file holds image and label; of the others each has a file
IMAGE_KEYS, LABEL_KEY, SPACING_KEY = ("image", "img"), "label", "spacing"
KEYS = (*IMAGE_KEYS, LABEL_KEY, SPACING_KEY)
MAX_BYTES = 1 << 31  # of one array: 512x512x2048 voxels in float32
READ_ITEMSIZE = 4  # of what is made of an image, whatever the file has: float32
DEFLATE = 1  # HDF5's number of the filter
MAX_RATIO = 1100  # of an array to its file: deflate packs to 1/1032 at best
MAX_OFFSET = 1 << 24  # of a NIfTI's voxels; between header and voxels are extensions, mostly of some kB
MILLIMETRES = {"meter": 1000.0, "mm": 1.0, "micron": 0.001, "unknown": 1.0}


@dataclass(frozen=True)
class Stored:
    """What the files of a scan hold, axes in their order.

    Attributes:
        image: (H, W), (H, W, 3) of a picture, or a volume of three axes; any type of number.
        label: whole numbers or floats in the image's shape; None where no label is given.
        spacing: mm along each axis; None where the file does not say.
        header: the header of a NIfTI image.
    """

    image: np.ndarray
    label: np.ndarray | None = None
    spacing: tuple[float, ...] | None = None
    header: bytes | None = None


def kind_of(path: Path) -> tuple[str, str] | None:
    """The kind of a file, a key of `SUFFIXES`, and its name without suffix; None for other files."""
    for kind, suffixes in SUFFIXES.items():
        for suffix in suffixes:
            if path.name.lower().endswith(suffix) and len(path.name) > len(suffix):
                return kind, path.name[:-len(suffix)]
    return None


def read_stored(kind: str, image: Path, label: Path | None) -> Stored:
    """Reads a scan of a ``kind``; ``label`` is the file of its label, the image's where it holds both.

    Raises:
        UserError: a file is missing or damaged, holds no such arrays, too much, or anything but numbers.
    """
    if kind == "picture":
        return Stored(read_pixels(image), None if label is None else read_indices(label))
    if kind == "nifti":
        stored = read_nifti(image)
        return stored if label is None else Stored(stored.image, read_nifti(label).image, stored.spacing,
                                                   stored.header)
    with _reading(image, kind), _members(kind, image) as members:
        spacing = _spacing_in(members, image)
        array = _image_in(members, image).read()
        return Stored(array, members[LABEL_KEY].read() if LABEL_KEY in members else None, spacing)


def read_label(kind: str, path: Path) -> np.ndarray:
    """The label of a file of ``kind`` that may hold no image. Raises UserError as `read_stored` does."""
    if kind == "picture":
        return read_indices(path)
    if kind == "nifti":
        return read_nifti(path).image
    with _reading(path, kind), _members(kind, path) as members:
        if LABEL_KEY not in members:
            raise UserError(f"{path}: holds no {LABEL_KEY}; it holds {', '.join(members) or 'no array'}")
        return members[LABEL_KEY].read()


def image_shape(kind: str, path: Path) -> tuple[int, ...]:
    """The shape of the image that `read_stored` gives, from the file's head. Raises UserError alike.

    Only for volumes and slices, not for pictures.
    """
    with _reading(path, kind):
        if kind == "nifti":
            with _nifti_file(path) as file:
                return _volume_shape(_nifti_header(_nibabel(path), file))
        with _members(kind, path) as members:
            return _image_in(members, path).shape


def read_nifti(path: Path) -> Stored:
    """The volume of a NIfTI-1 or -2 file, scaled as its header says. Raises UserError."""
    with _reading(path, "nifti"), _nifti_file(path) as file:
        header = _nifti_header(_nibabel(path), file)
        shape, offset = _volume_shape(header), int(header["vox_offset"])
        dtype = header.get_data_dtype()
        size = math.prod(shape) * dtype.itemsize
        _check_array(shape, dtype)
        if not header.sizeof_hdr <= offset <= MAX_OFFSET:
            raise ValueError(f"says that its voxels begin at byte {offset}")
        file.seek(offset)
        content = file.read(size)
        if len(content) != size:
            raise ValueError(f"breaks off: {len(content)} of {size} bytes of voxels are there")
        image = np.frombuffer(content, dtype).reshape(shape, order="F")
        slope, intercept = header.get_slope_inter()
        if slope is not None and (slope, intercept) != (1, 0):
            image = _rescaled(image, slope, intercept)
        return Stored(image, spacing=_nifti_spacing(header), header=header.binaryblock)


def nifti_affine(path: Path) -> np.ndarray:
    """Where the voxels of a NIfTI lie, (4, 4) from indices to mm. Raises UserError."""
    with _reading(path, "nifti"), _nifti_file(path) as file:
        return _nifti_header(_nibabel(path), file).get_best_affine()


def nifti_bytes(path: Path, labels: np.ndarray, spacing: tuple[float, ...] | None, header: bytes | None,
                ) -> bytes:
    """A .nii.gz of uint8 ``labels`` with three axes, for writing to ``path``.

    Args:
        spacing: mm along each axis, 1 where it is None; not looked at where there is a header.
        header: of the image, whose affine, axes and spacing it takes over.
    """
    nibabel = _nibabel(path)
    if header is None:
        image = nibabel.Nifti1Image(labels, np.diag([*(spacing or (1, 1, 1)), 1]))
        image.header.set_xyzt_units("mm" if spacing else "unknown")
    else:
        given = _parsed(nibabel, header)
        Image = nibabel.Nifti1Image if isinstance(given, nibabel.Nifti1Header) else nibabel.Nifti2Image
        image = Image(labels, None, given)
        image.set_data_dtype(np.uint8)
        image.header.set_slope_inter(1, 0)
        image.header["cal_min"] = image.header["cal_max"] = 0  # of the image's grey levels
    return gzip.compress(image.to_bytes(), 5, mtime=0)


@dataclass(frozen=True)
class _Member:
    """An array of an .npz or HDF5 file, of a size that may be read."""

    shape: tuple[int, ...]
    read: Callable[[], np.ndarray]


@contextlib.contextmanager
def _members(kind: str, path: Path) -> Iterator[dict[str, _Member]]:
    """Those arrays of an .npz or HDF5 file that a scan consists of, none of them read yet."""
    with _h5_members(path) if kind == "h5" else _npz_members(path) as members:
        yield members


def _image_in(members: dict[str, _Member], path: Path) -> _Member:
    for key in IMAGE_KEYS:
        if key in members:
            return members[key]
    raise UserError(f"{path}: holds no image (looked for {' and '.join(IMAGE_KEYS)}); "
                    f"it holds {', '.join(members) or 'no array'}")


@contextlib.contextmanager
def _npz_members(path: Path) -> Iterator[dict[str, _Member]]:
    with zipfile.ZipFile(path) as archive:
        members = {}
        for key in KEYS:
            name = f"{key}.npy"
            if name in archive.namelist():
                _check_bytes(archive.getinfo(name).file_size)
                shape, dtype = npy.declared(archive, name)
                _check_array(shape, dtype)
                members[key] = _Member(shape, functools.partial(npy.member_array, archive, name))
        yield members


@contextlib.contextmanager
def _h5_members(path: Path) -> Iterator[dict[str, _Member]]:
    """Only what lies in the file itself."""
    h5py = _extra("h5py", path)
    with h5py.File(path, "r") as file:
        members = {}
        for key in KEYS:
            links = file.id.links
            if not links.exists(key.encode()):
                continue
            # Looked at by its kind: h5py's own look-up would follow a link into another file.
            if links.get_info(key.encode()).type != h5py.h5l.TYPE_HARD:
                raise ValueError(f"has a link for {key!r}, not an array")
            dataset = file[key]
            if not isinstance(dataset, h5py.Dataset) or dataset.is_virtual or dataset.external:
                raise ValueError(f"does not hold {key!r} as an array of its own")
            for shape in (dataset.shape, dataset.chunks or ()):
                _check_array(shape, dataset.dtype)
                _check_content(shape, dataset.dtype, path)
            if dataset.chunks:
                _check_chunks(dataset)
            members[key] = _Member(dataset.shape, functools.partial(dataset.__getitem__, ()))
        yield members


@contextlib.contextmanager
def _nifti_file(path: Path) -> Iterator[io.BufferedIOBase]:
    with gzip.open(path) if path.name.lower().endswith(".gz") else open(path, "rb") as file:
        yield file


def _nifti_header(nibabel, file: io.BufferedIOBase):
    # nibabel's own loading also takes in the extensions behind the header, whatever size they claim.
    start = file.read(nibabel.Nifti1Header.sizeof_hdr)
    if start[344:347] != b"n+1":
        start += file.read(nibabel.Nifti2Header.sizeof_hdr - len(start))
        if start[4:7] != b"n+2":
            raise ValueError("begins as no NIfTI file does")
    return _parsed(nibabel, start)


def _parsed(nibabel, header: bytes):
    Header = nibabel.Nifti1Header if len(header) == nibabel.Nifti1Header.sizeof_hdr else nibabel.Nifti2Header
    return Header(header, check=False)


def _volume_shape(header) -> tuple[int, ...]:
    """Three axes; behind them axes of length 1 may follow."""
    shape = tuple(map(int, header.get_data_shape()))
    if len(shape) == 2:
        shape = (*shape, 1)
    if len(shape) < 3 or min(shape) < 1 or max(shape[3:], default=1) > 1:
        raise ValueError(f"has the shape {shape}, expected a volume of three axes")
    return shape[:3]


def _nifti_spacing(header) -> tuple[float, ...] | None:
    unit = MILLIMETRES.get(header.get_xyzt_units()[0], 1.0)
    return _sound(tuple(unit * float(size) for size in header["pixdim"][1:4]))


def _spacing_in(members: dict[str, _Member], path: Path) -> tuple[float, ...] | None:
    if SPACING_KEY not in members:
        return None
    spacing = members[SPACING_KEY]
    if spacing.shape != (3,):
        raise UserError(f"{path}: its spacing has the shape {spacing.shape}, expected 3 figures in mm")
    return _sound(tuple(map(float, spacing.read())))


def _sound(spacing: tuple[float, ...]) -> tuple[float, ...] | None:
    """What is not above zero, or infinite, says nothing."""
    return spacing if all(math.isfinite(size) and size > 0 for size in spacing) else None


def _rescaled(image: np.ndarray, slope: float, intercept: float) -> np.ndarray:
    """The voxels as the header scales them, each as float64 rounds it to float32; a slice at a time."""
    values = np.empty(image.shape, np.float32, order="F")
    with np.errstate(all="ignore"):  # whether the result is finite, the reader looks at
        for index in range(image.shape[2]):
            values[..., index] = image[..., index] * np.float64(slope) + np.float64(intercept)
    return values


def _check_array(shape: tuple[int, ...], dtype: np.dtype) -> None:
    """Raises ValueError for anything but numbers, and for more than fit once they are float32 at least."""
    if dtype.kind not in "biuf" or dtype.itemsize > 8:
        raise ValueError(f"holds an array of {dtype}, not of plain numbers")
    _check_bytes(math.prod(shape) * max(dtype.itemsize, READ_ITEMSIZE))


def _check_bytes(size: int) -> None:
    if size > MAX_BYTES:
        raise ValueError(f"makes an array of {size} bytes, at most {MAX_BYTES} are expected: cut it into "
                         "parts")


def _check_chunks(dataset) -> None:
    """HDF5 unpacks a chunk to whatever is in it, not to the size that it has as a part of the array."""
    pipeline = dataset.id.get_create_plist()
    filters = [pipeline.get_filter(index)[0] for index in range(pipeline.get_nfilters())]
    if len(set(filters)) < len(filters):
        raise ValueError("packs its chunks twice")
    size, stored = math.prod(dataset.chunks) * dataset.dtype.itemsize, []
    dataset.id.chunk_iter(lambda chunk: stored.append((chunk.size, chunk.chunk_offset)))
    for packed, offset in stored:
        if packed > size + size // 8 + 1024:
            raise ValueError(f"has a chunk of {packed} bytes for {size}")
        if DEFLATE in filters and packed * MAX_RATIO > MAX_BYTES:
            _, content = dataset.id.read_direct_chunk(offset)
            unpacker = zlib.decompressobj()
            with contextlib.suppress(zlib.error):  # HDF5 will tell
                unpacker.decompress(content, size + 1024)
                if unpacker.unconsumed_tail:
                    raise ValueError(f"has a chunk that unpacks to more than its {size} bytes")


def _check_content(shape: tuple[int, ...], dtype: np.dtype, path: Path) -> None:
    """An HDF5 file can declare any size and hold nothing of it: all is the fill value then."""
    size, content = math.prod(shape) * dtype.itemsize, os.path.getsize(path)
    if size > MAX_RATIO * content:
        raise ValueError(f"declares an array of {size} bytes, a file of {content} holds at most "
                         f"{MAX_RATIO * content}: write its content")


@contextlib.contextmanager
def _reading(path: Path, kind: str) -> Iterator[None]:
    """Turns everything that decoding a stranger's file can raise into a UserError naming the file."""
    try:
        if os.path.exists(path) and not os.path.isfile(path):  # reading a pipe could wait for ever
            raise ValueError("it is a folder or a device")
        yield
    except UserError:
        raise
    except Exception as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
        if os.path.isfile(path) and os.path.getsize(path) == 0:
            reason = "the file is empty"
        elif getattr(error, "errno", None) == errno.EINVAL:
            reason = "it breaks off or is damaged"
        raise UserError(f"{path}: cannot be read as {' or '.join(SUFFIXES[kind])} ({reason}); "
                        "replace the file or take it out of the set") from error


def _nibabel(path: Path):
    return _extra("nibabel", path)


def _extra(module: str, path: Path):
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(f"{path}: needs {module}; install it: python -m pip install -r "
                        "requirements-volumes.txt") from error
