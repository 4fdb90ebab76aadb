"""Arrays of NumPy's .npy and .npz files, read without running anything and without unpacking a bomb."""

from __future__ import annotations

import io
import zipfile
from typing import BinaryIO

import numpy as np

from utils.checkpoint.unpickler import dense


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
