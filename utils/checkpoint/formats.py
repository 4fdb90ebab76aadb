"""Files of weights, read into NumPy arrays: PyTorch's, Jittor's, safetensors and our own.

Neither PyTorch nor Jittor is imported, and nothing in a file is run (unpickler.py).
"""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import struct
import warnings
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import sha1
from typing import BinaryIO

import numpy as np

from utils import shallow_json
from utils.checkpoint import npy, safetensors
from utils.checkpoint.unpickler import Storage, safe_load
from utils.errors import UserError
from utils.files import sha256_of

MAX_BYTES = 1 << 30  # unpacked; the largest network here has 0.13 GB, with its optimiser's state 0.4
MAX_PICKLE = 1 << 26  # of PyTorch's data.pkl: names and shapes, a PraNet-V2 with Adam's moments has 1 MB
ZIP_START = b"PK"
PICKLE_START = b"\x80"
TORCH_LEGACY_START = pickle.dumps(0x1950A86A20F9469CFC6C, 2)
JITTOR_END = b"HCAJSLHD"

# What a parser raises on a damaged or hostile file. Types are checked where a wrong one would cost time or
# memory; elsewhere Python's own exceptions tell.
_MALFORMED = (
    ValueError, TypeError, AttributeError, LookupError, OverflowError, EOFError, MemoryError, RuntimeError,
    pickle.UnpicklingError, struct.error, zipfile.BadZipFile, zlib.error,
)


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """What a file of weights holds; as text, its path.

    Attributes:
        info, arrays: as `read_info` and `read_weights` give them.
        sha256: of the file, where it was asked for.
    """

    path: str | os.PathLike
    info: dict
    arrays: dict[str, np.ndarray] = field(repr=False)
    sha256: str | None = None

    def __str__(self) -> str:
        return str(self.path)


def read_checkpoint(path: str | os.PathLike, with_sha256: bool = False) -> Checkpoint:
    """All that a file of weights holds, read once. Raises what `read_info` and `read_weights` do."""
    with _reading(path) as file:
        sha256 = sha256_of(file) if with_sha256 else None
        return Checkpoint(path, _info(file), _arrays(file), sha256)


def read_weights(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Reads any supported file of weights; its content tells what it is, not its name.

    Supported are PyTorch's .pth (zip and, before 1.6, legacy), .safetensors, Jittor's .pkl and .pth, and our
    .npz. Each holds {name: array}, perhaps within {'state_dict': ...}, {'model_state_dict': ...} or
    {'model': ...}, and perhaps with `module.` before every name; both are taken off.

    Returns:
        Arrays by name, in the file's order and types (bfloat16 as float32), contiguous and writable.

    Raises:
        UserError: the file cannot be read, is damaged, or asks for anything but arrays.
    """
    with _reading(path) as file:
        return _arrays(file)


def read_info(path: str | os.PathLike) -> dict:
    """The ``info`` that `save_weights` put into a file; empty if the file has none.

    Raises:
        UserError: the file cannot be read or is damaged.
    """
    with _reading(path) as file:
        return _info(file)


@contextlib.contextmanager
def _reading(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """Opens ``path``; whatever goes wrong within is raised as a UserError that names it."""
    try:
        if os.path.exists(path) and not os.path.isfile(path):  # reading a pipe could wait for ever
            raise ValueError("is a folder or a device")
        with open(path, "rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the parsers warn of oddities on the way to an error
            size = os.fstat(file.fileno()).st_size
            if size > MAX_BYTES:
                raise ValueError(f"has {size} bytes, at most {MAX_BYTES} are expected")
            yield file
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}); "
                        "give the path of a .pth, .safetensors, .pkl or .npz file of weights") from error
    except _MALFORMED as error:
        found = error if isinstance(error, ValueError) else f"is damaged ({type(error).__name__}: {error})"
        raise UserError(f"{path}: {found}; a whole .pth, .safetensors, .pkl or .npz file of named weights is "
                        "expected: fetch it again or save it as a plain state dict") from error


def _info(file: BinaryIO) -> dict:
    if safetensors.begins(_start(file)) or not zipfile.is_zipfile(file):
        return {}
    with zipfile.ZipFile(file) as archive:
        info = shallow_json.loads(archive.comment.decode() or "{}")  # of bytes it would guess the encoding
    if not isinstance(info, dict):
        raise ValueError("has a comment that is not the JSON object of save_weights")
    return info


def _arrays(file: BinaryIO) -> dict[str, np.ndarray]:
    arrays = _named_arrays(_content(file))
    _check_total(array.nbytes for array in arrays.values())
    return {name: array.copy(order="C") for name, array in arrays.items()}


def _check_total(sizes: Iterable[int]) -> None:
    total = sum(sizes)
    if total > MAX_BYTES:
        raise ValueError(f"holds more than {MAX_BYTES} bytes of arrays: {total}")


def _content(file: BinaryIO) -> object:
    """What the file holds: mappings, lists, numbers, and arrays as `_named_arrays` takes them."""
    start = _start(file)
    if safetensors.begins(start):
        return _safetensors_content(file)
    if start.startswith(ZIP_START):
        with zipfile.ZipFile(file) as archive:
            return _zip_content(archive)
    if start == TORCH_LEGACY_START:
        return _torch_legacy_content(file.read())
    if start.startswith(PICKLE_START):
        return _pickle_content(file.read())
    raise ValueError(f"begins with {start!r}, as no file of weights does" if start else "is empty")


def _start(file: BinaryIO) -> bytes:
    """The first bytes of the file, which is left at its beginning."""
    file.seek(0)
    start = file.read(len(TORCH_LEGACY_START))
    file.seek(0)
    return start


def _safetensors_content(file: BinaryIO) -> dict[str, np.ndarray]:
    slots = safetensors.slots(file)
    _check_total(slot.storage.filled_nbytes for slot in slots.values())
    return {name: slot.array(file) for name, slot in slots.items()}


def _zip_content(archive: zipfile.ZipFile) -> object:
    members = {member.filename: member for member in archive.infolist()}
    unpacked = sum(member.file_size for member in members.values())
    if unpacked > MAX_BYTES:
        raise ValueError(f"unpacks to {unpacked} bytes, at most {MAX_BYTES} are expected")
    if members and all(name.endswith(".npy") for name in members):
        return {name[: -len(".npy")]: npy.member_array(archive, name) for name in members}
    pickles = [name for name in members if name.split("/")[1:] == ["data.pkl"]]
    if len(pickles) != 1:
        raise ValueError("is an archive, but neither PyTorch's nor NumPy's")
    return _torch_zip_content(archive, pickles[0][: -len("data.pkl")])


def _torch_zip_content(archive: zipfile.ZipFile, root: str) -> object:
    if f"{root}byteorder" in archive.namelist() and \
            npy.member(archive, f"{root}byteorder", len(b"little")) != b"little":
        raise ValueError("holds big-endian numbers, little-endian ones are expected")
    storages: dict[str, Storage] = {}
    content = safe_load(io.BytesIO(npy.member(archive, f"{root}data.pkl", MAX_PICKLE)), storages)
    _check_total(storage.filled_nbytes for storage in storages.values())
    for key, storage in storages.items():
        storage.fill(npy.member(archive, f"{root}data/{key}", storage.nbytes))
    return content


def _torch_legacy_content(raw: bytes) -> object:
    """Pickles of magic number, protocol, machine, content, storage keys; then each storage: size, bytes."""
    stream = io.BytesIO(raw)
    _magic, _protocol, machine = safe_load(stream), safe_load(stream), safe_load(stream)
    if not machine["little_endian"]:
        raise ValueError("holds big-endian numbers, little-endian ones are expected")
    storages: dict[str, Storage] = {}
    content = safe_load(stream, storages)
    keys = safe_load(stream)
    if not all(isinstance(key, str) for key in keys) or sorted(keys) != sorted(storages):
        raise ValueError("lists other storages than it uses")
    for key in keys:
        (size,) = struct.unpack("<q", stream.read(8))
        if size != storages[key].size:
            raise ValueError(f"has a storage of {size} elements, {storages[key].size} are declared")
        storages[key].fill(stream.read(storages[key].nbytes))
    return content


def _pickle_content(raw: bytes) -> object:
    """A pickle, as `jittor.save` writes it with its SHA-1 behind it, or without."""
    if raw.endswith(JITTOR_END):
        end = len(raw) - len(JITTOR_END) - sha1().digest_size
        raw, checksum = raw[:end], raw[end : -len(JITTOR_END)]
        if sha1(raw).digest() != checksum:
            raise ValueError("is damaged: its checksum does not match")
    stream = io.BytesIO(raw)
    content = safe_load(stream)
    if stream.read(1):
        raise ValueError("is damaged: it goes on where its content ends")
    return content


def _named_arrays(content: object) -> dict[str, np.ndarray]:
    """Finds the state dict in what a file holds and takes the arrays out of it."""
    if not isinstance(content, dict):
        raise ValueError(f"holds a {type(content).__name__}, not arrays by name")
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(content.get(key), dict):
            content = content[key]
            break
    if not content:
        raise ValueError("holds no arrays")
    arrays = {}
    for name, value in content.items():
        if not isinstance(name, str) or not name.isprintable():
            raise ValueError("holds an entry whose key is not a printable name")
        array = value if isinstance(value, np.ndarray) else getattr(value, "array", None)
        if array is None:
            raise ValueError(f"holds {name!r}, a {type(value).__name__}, where an array is expected")
        arrays[name] = array
    if all(name.startswith("module.") for name in arrays):
        arrays = {name[len("module."):]: array for name, array in arrays.items()}
    return arrays
