"""Arrays of NumPy's .npy and .npz files, read without running anything and without unpacking a bomb."""

from __future__ import annotations

import io
import math
import zipfile
from typing import BinaryIO

import numpy as np

MAX_DIMENSIONS = 32  # NumPy's own limit
ELEMENT_TYPES = ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1")


def member(archive: zipfile.ZipFile, name: str) -> bytes:
    """A member's content, checked against its checksum; never more than the size it declares.

    Raises:
        ValueError, zipfile.BadZipFile, zlib.error: it is damaged.
    """
    info = archive.getinfo(name)
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"has {name!r} compressed in a way that neither PyTorch nor NumPy uses")
    with archive.open(info) as file:
        content = file.read(info.file_size)  # without a size it would unpack first and then cut
    if len(content) != info.file_size:
        raise ValueError(f"breaks off in {name!r}")
    return content


def array(content: bytes) -> np.ndarray:
    """The array of a .npy file's ``content``, plain numbers of little-endian type; a view of it.

    Raises:
        ValueError: it is damaged, or holds anything but such numbers.
    """
    stream = io.BytesIO(content)
    shape, fortran, dtype = header(stream)
    return dense(stream.read(), dtype, shape, fortran)


def header(stream: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether it lies in Fortran's order, and type, as the head of a .npy file declares them."""
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(stream)
    return np.lib.format.read_array_header_2_0(stream)


def dense(raw: bytes, dtype: np.dtype, shape: tuple[int, ...], fortran: bool) -> np.ndarray:
    """The array of this ``shape`` and little-endian numeric ``dtype`` with the content ``raw``; a view of it.

    Raises:
        ValueError: the three do not belong together, or the type is not of plain numbers.
    """
    if not isinstance(dtype, np.dtype):
        raise ValueError("holds an array without a type")
    if dtype.str[1:] not in ELEMENT_TYPES:
        raise ValueError(f"holds an array of {dtype}, not of plain numbers")
    if dtype.str[0] == ">":
        raise ValueError("holds big-endian numbers, little-endian ones are expected")
    check_sizes("shape", shape)
    if math.prod(shape) * dtype.itemsize != len(raw):
        raise ValueError(f"declares an array of shape {shape} and {dtype} over {len(raw)} bytes")
    return np.frombuffer(raw, dtype).reshape(shape, order="F" if fortran else "C")


def check_sizes(what: str, sizes: object) -> None:
    if not isinstance(sizes, tuple) or len(sizes) > MAX_DIMENSIONS:
        raise ValueError(f"holds an array whose {what} is not a tuple of sizes")
    if not all(isinstance(size, int) and size >= 0 for size in sizes):
        raise ValueError(f"holds an array whose {what} is not of natural numbers")
