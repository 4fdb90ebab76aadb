"""Arrays of NumPy's .npy and .npz files, read without running anything and without unpacking a bomb."""

from __future__ import annotations

import contextlib
import io
import math
import zipfile
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

MAX_DIMENSIONS = 32  # NumPy's own limit
MAX_HEADER = 10_000  # bytes, as NumPy's own limit; that of an array of plain numbers has 128
ELEMENT_TYPES = ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1")


def member(archive: zipfile.ZipFile, name: str, limit: int) -> bytes:
    """A member's content, checked against its checksum; never more than the size it declares.

    Raises:
        ValueError, zipfile.BadZipFile, zlib.error: it is damaged, or declares more than ``limit`` bytes.
    """
    with _opened(archive, name) as (stream, size):
        if size > limit:
            raise ValueError(f"unpacks {name!r} to {size} bytes, at most {limit} are expected")
        return _exactly(stream, size, name)


def member_array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    """The array of the .npy file ``name``: plain numbers of little-endian type, read-only.

    Raises:
        ValueError, zipfile.BadZipFile, zlib.error: it is damaged, or holds anything but such numbers.
    """
    with _opened(archive, name) as (stream, size):
        shape, fortran, dtype = _header(stream, size)
        return dense(_exactly(stream, size - stream.tell(), name), dtype, shape, fortran)


def declared(archive: zipfile.ZipFile, name: str) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type of the .npy file ``name``; its content stays packed. Raises as `member_array`."""
    with _opened(archive, name) as (stream, size):
        shape, _, dtype = _header(stream, size)
        return shape, dtype


@contextlib.contextmanager
def _opened(archive: zipfile.ZipFile, name: str) -> Iterator[tuple[BinaryIO, int]]:
    """A member as a stream, and the size that it declares."""
    info = archive.getinfo(name)
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"has {name!r} compressed in a way that neither PyTorch nor NumPy uses")
    with archive.open(info) as stream:
        yield stream, info.file_size


def _exactly(stream: BinaryIO, size: int, name: str) -> bytes:
    content = stream.read(size)  # without a size it would unpack first and then cut
    if len(content) != size:
        raise ValueError(f"breaks off in {name!r}")
    return content


def _header(stream: BinaryIO, size: int) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether it lies in Fortran's order, and type, as a .npy file of ``size`` bytes declares them."""
    version = np.lib.format.read_magic(stream)
    raw = stream.read(2 if version == (1, 0) else 4)
    length = int.from_bytes(raw, "little")
    if length > MAX_HEADER:
        raise ValueError(f"has an array with a header of {length} bytes, at most {MAX_HEADER} are expected")
    head = io.BytesIO(raw + stream.read(length))
    read = np.lib.format.read_array_header_1_0 if len(raw) == 2 else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(head)
    check_dense(dtype, shape, size - stream.tell())
    return shape, fortran, dtype


def dense(raw: bytes, dtype: np.dtype, shape: tuple[int, ...], fortran: bool) -> np.ndarray:
    """The array of this ``shape`` and little-endian numeric ``dtype`` with the content ``raw``; a view of it.

    Raises:
        ValueError: the three do not belong together, or the type is not of plain numbers.
    """
    check_dense(dtype, shape, len(raw))
    return np.frombuffer(raw, dtype).reshape(shape, order="F" if fortran else "C")


def check_dense(dtype: object, shape: object, size: int) -> None:
    """Raises ValueError unless ``size`` bytes are an array that `dense` can make."""
    if not isinstance(dtype, np.dtype):
        raise ValueError("holds an array without a type")
    if dtype.str[1:] not in ELEMENT_TYPES:
        raise ValueError(f"holds an array of {dtype}, not of plain numbers")
    if dtype.str[0] == ">":
        raise ValueError("holds big-endian numbers, little-endian ones are expected")
    check_sizes("shape", shape)
    if math.prod(shape) * dtype.itemsize != size:
        raise ValueError(f"declares an array of shape {shape} and {dtype} over {size} bytes")


def check_sizes(what: str, sizes: object) -> None:
    if not isinstance(sizes, tuple) or len(sizes) > MAX_DIMENSIONS:
        raise ValueError(f"holds an array whose {what} is not a tuple of sizes")
    if not all(isinstance(size, int) and size >= 0 for size in sizes):
        raise ValueError(f"holds an array whose {what} is not of natural numbers")
