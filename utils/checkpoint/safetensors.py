"""Files of safetensors: a header's length in 8 bytes, a JSON header of names, types, shapes and places, data.

`slots` checks the header; no more is read or allotted than the file has. What a header says beside the
arrays, its `__metadata__`, is passed over.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from utils import shallow_json
from utils.checkpoint.npy import check_sizes
from utils.checkpoint.unpickler import BFLOAT16, Storage

SUFFIX = ".safetensors"
MAX_HEADER = 1 << 20  # bytes; a PraNet-V2 has 0.1 MB
MAX_DIGITS = 19  # of a number in a header: a file has no more bytes
METADATA = "__metadata__"
KINDS = {"F16": "f2", "F32": "f4", "F64": "f8", "BF16": BFLOAT16, "I8": "i1", "I16": "i2", "I32": "i4",
         "I64": "i8", "U8": "u1", "U16": "u2", "U32": "u4", "U64": "u8", "BOOL": "b1"}
NAMES = {kind: name for name, kind in KINDS.items()}


@dataclass(frozen=True)
class Slot:
    """Where an array lies in a file: bytes from ``start`` on."""

    storage: Storage
    shape: tuple[int, ...]
    start: int

    @property
    def end(self) -> int:
        return self.start + self.storage.nbytes

    def array(self, file: BinaryIO) -> np.ndarray:
        file.seek(self.start)
        self.storage.fill(file.read(self.storage.nbytes))
        return self.storage.content.reshape(self.shape)


def begins(start: bytes) -> bool:
    """Whether a file with this start, 9 bytes of it, is of safetensors: a length below 4 GB, and JSON.

    Neither a pickle nor an archive has four zeros and a brace there.
    """
    return start[4:9] == b"\0\0\0\0{"


def slots(file: BinaryIO) -> dict[str, Slot]:
    """The arrays of a file by name, in the header's order; together they are all of its data.

    Raises:
        ValueError: the header is damaged, or does not fit the file.
    """
    size = os.fstat(file.fileno()).st_size
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    if length > MAX_HEADER:
        raise ValueError(f"has a header of {length} bytes, at most {MAX_HEADER} are expected")
    if 8 + length > size:
        raise ValueError(f"has {size} bytes, fewer than its header of {length}")
    found = {name: _slot(name, entry, 8 + length) for name, entry in _header(file.read(length)).items()
             if name != METADATA}
    position = 8 + length
    for slot in sorted(found.values(), key=lambda slot: (slot.start, slot.end)):
        if slot.start != position:
            raise ValueError("holds arrays that overlap or leave a gap")
        position = slot.end
    if position != size:
        raise ValueError(f"has {size} bytes, its header tells of {position}")
    return found


def _header(raw: bytes) -> dict:
    try:
        header = shallow_json.loads(raw.decode(), object_pairs_hook=_object, parse_int=_integer,
                                    parse_float=_refused, parse_constant=_refused)
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError("has a header that is not JSON") from error
    if not isinstance(header, dict):
        raise ValueError("has a header that is not a JSON object")
    return header


def _object(pairs: list[tuple[str, object]]) -> dict:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("has a header with one name twice")
    return result


def _integer(digits: str) -> int:
    if len(digits) > MAX_DIGITS:  # long ones take time
        raise ValueError(f"has a header with a number of {len(digits)} digits")
    return int(digits)


def _refused(number: str) -> None:
    raise ValueError("has a header with a number that is not a whole one")


def _slot(name: str, entry: object, data: int) -> Slot:
    """``data``: where the arrays of the file begin."""
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"tells of {name[:200]!r} something other than dtype, shape and data_offsets")
    kind, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(kind, str) or kind not in KINDS:
        raise ValueError(f"holds {name[:200]!r}, which is not of plain numbers ({', '.join(KINDS)})")
    if not isinstance(shape, list) or not isinstance(offsets, list) or len(offsets) != 2 or \
            any(type(number) is not int for number in (*shape, *offsets)):
        raise ValueError(f"holds {name[:200]!r}, whose shape and data_offsets are not lists of whole numbers")
    check_sizes("shape", tuple(shape))
    check_sizes("place", tuple(offsets))
    storage = Storage(KINDS[kind], math.prod(shape))
    if offsets[1] - offsets[0] != storage.nbytes:
        raise ValueError(f"holds {name[:200]!r} of shape {tuple(shape)} and {kind} in "
                         f"{offsets[1] - offsets[0]} bytes")
    return Slot(storage, tuple(shape), data + offsets[0])


def write(file: BinaryIO, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes arrays of plain numbers as PyTorch's loader of safetensors expects them.

    Raises:
        ValueError: an array is of another type.
    """
    header, position, ordered = {METADATA: {"format": "pt"}}, 0, {}
    # Wide types first: then each number lies at a multiple of its size.
    for name, array in sorted(arrays.items(), key=lambda item: -item[1].dtype.itemsize):
        if array.dtype.str[1:] not in NAMES:
            raise ValueError(f"{name}: an array of {array.dtype}, not of plain numbers")
        ordered[name] = np.asarray(array, array.dtype.newbyteorder("<"), order="C")
        header[name] = {"dtype": NAMES[array.dtype.str[1:]], "shape": list(array.shape),
                        "data_offsets": [position, position + array.nbytes]}
        position += array.nbytes
    raw = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    raw += b" " * (-len(raw) % 8)
    file.write(len(raw).to_bytes(8, "little") + raw)
    for array in ordered.values():
        file.write(array.tobytes())
