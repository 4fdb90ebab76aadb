"""Reads pickled weights without running what a pickle asks for.

`pickle.load` calls whatever function a file names. Here a pickle may use the opcodes that weights consist of
and the few names in `GLOBALS`, each standing for a function of this file; everything else is refused. Nothing
is imported, no attribute of a named thing is set, and time and memory grow with the file at most.

It is `pickle._Unpickler`, the one that Python has in Python. `pickle.Unpickler`, in C, lets no opcode be
changed: it hashes every dictionary key (800 bytes of nested tuples take for ever) and makes its memo as large
as the largest index (9 bytes take up to 64 GB).
"""

from __future__ import annotations

import math
import pickle
from collections import OrderedDict
from dataclasses import dataclass
from types import FunctionType
from typing import BinaryIO

import numpy as np

from utils.checkpoint.npy import ELEMENT_TYPES, check_sizes, dense

MAX_READS = 1_000_000  # of its opcodes and their arguments; a PraNet-V2 with Adam's moments takes 130 000
MAX_KEY_BITS = 60  # integers up to there are their own hash
BFLOAT16 = "bfloat16"  # NumPy has none: such storages are widened to float32, which is exact


@dataclass
class Storage:
    """A PyTorch storage, ``size`` elements that tensors are views of; it is filled after unpickling."""

    kind: str  # one of ELEMENT_TYPES, or BFLOAT16
    size: int
    content: np.ndarray | None = None

    @property
    def nbytes(self) -> int:
        """Its size in the file."""
        return self.size * (2 if self.kind == BFLOAT16 else np.dtype(self.kind).itemsize)

    @property
    def filled_nbytes(self) -> int:
        """Its size in memory."""
        return self.nbytes * (2 if self.kind == BFLOAT16 else 1)

    def fill(self, raw: bytes) -> None:
        if self.kind == BFLOAT16:
            self.content = (dense(raw, np.dtype("<u2"), (self.size,), False).astype("<u4") << 16).view("<f4")
        else:
            self.content = dense(raw, np.dtype(f"<{self.kind}"), (self.size,), False)


@dataclass(frozen=True)
class Tensor:
    """A PyTorch tensor: a strided view of a storage; offset and strides count elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def array(self) -> np.ndarray:
        content = self.storage.content
        if content is None:
            raise ValueError("lacks the content of a storage")
        if len(self.shape) != len(self.strides):
            raise ValueError(f"declares a tensor of shape {self.shape} with {len(self.strides)} strides")
        if 0 in self.shape:
            return np.empty(self.shape, content.dtype)
        # Checked here, in integers without end: NumPy's own check can be made to overflow.
        last = self.offset + sum((size - 1) * stride for size, stride in zip(self.shape, self.strides))
        if max(last + 1, math.prod(self.shape)) > content.size:
            raise ValueError(f"has a tensor of shape {self.shape} in a storage of {content.size} elements")
        steps = tuple(stride * content.itemsize for stride in self.strides)
        return np.ndarray(self.shape, content.dtype, content, self.offset * content.itemsize, steps)


@dataclass
class Pending:
    """A NumPy array between the two opcodes that make it: REDUCE creates it empty, BUILD fills it."""

    array: np.ndarray | None = None


# The functions that REDUCE may call. A pickle can pass one large object to thousands of calls, so a call
# costs next to nothing; it can nest a tuple that takes for ever to hash or to print, so both come after a
# check of the type.


def _ordered_dict(pairs: list | None = None) -> OrderedDict:
    result = OrderedDict()
    if pairs:  # Python 2 wrote the items here
        for key, value in pairs:
            _set_item(result, key, value)
        pairs.clear()  # a second call with the same list is free
    return result


def _tensor(storage, offset, shape, strides, requires_grad=False, hooks=None, metadata=None) -> Tensor:
    if not isinstance(storage, Storage):
        raise ValueError("holds a tensor without a storage")
    check_sizes("shape", shape)
    check_sizes("stride", strides)
    check_sizes("offset", (offset,))
    if metadata:
        raise ValueError("holds a negated or conjugated view; save a plain copy of it")
    return Tensor(storage, offset, shape, strides)


def _parameter(tensor, requires_grad=True, hooks=None) -> Tensor:
    return tensor


def _jittor_var(array) -> Pending:
    return array


def _numpy_reconstruct(subtype, shape, typecode) -> Pending:
    return Pending()


def _numpy_frombuffer(raw, dtype, shape, order) -> Pending:
    return Pending(dense(raw, dtype, shape, order == "F"))


def _numpy_scalar(dtype, raw) -> Pending:
    return Pending(dense(raw, dtype, (), False))


def _numpy_dtype(code, align=False, copy=False) -> np.dtype:
    if code not in ELEMENT_TYPES:
        raise ValueError("holds an array of a NumPy type other than plain numbers")
    return np.dtype(f"<{code}")


def _short_bytes(text, encoding) -> bytes:
    """The bytes of a NumPy scalar (a best score, say) in pickle protocol 2, which has no opcode for bytes."""
    if len(text) > 256:
        raise ValueError("holds NumPy arrays pickled with protocol 2; pickle them with protocol 4")
    return text.encode("latin-1")


# What a file may name. A function is what REDUCE may call; a string is only ever an argument.
GLOBALS = {
    "collections.OrderedDict": _ordered_dict,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch.HalfStorage": "f2",
    "torch.BFloat16Storage": BFLOAT16,
    "torch.FloatStorage": "f4",
    "torch.DoubleStorage": "f8",
    "torch.CharStorage": "i1",
    "torch.ShortStorage": "i2",
    "torch.IntStorage": "i4",
    "torch.LongStorage": "i8",
    "torch.ByteStorage": "u1",
    "torch.BoolStorage": "b1",
    "jittor.jittor_core.Var": _jittor_var,
    "_codecs.encode": _short_bytes,
    "numpy.ndarray": "ndarray",
    "numpy.dtype": _numpy_dtype,
    "numpy.core.multiarray._reconstruct": _numpy_reconstruct,
    "numpy.core.multiarray.scalar": _numpy_scalar,
    "numpy.core.numeric._frombuffer": _numpy_frombuffer,
}
GLOBALS.update({name.replace(".core.", "._core."): GLOBALS[name] for name in GLOBALS})  # as NumPy 2 says


class _LimitedStream:
    """The stream that a pickle is read from; it ends the reading of one that goes on and on."""

    def __init__(self, stream: BinaryIO):
        self.stream = stream
        self.reads = 0

    def read(self, size: int) -> bytes:
        self.reads += 1
        if self.reads > MAX_READS:
            raise ValueError(f"has a pickle of more than {MAX_READS} pieces")
        return self.stream.read(size)

    def readline(self) -> bytes:
        return self.stream.readline()


class _Opcodes(dict):
    def __missing__(self, code: int):
        raise ValueError(f"uses the pickle opcode {bytes([code])}, which no weights need")


class _Unpickler(pickle._Unpickler):
    """Python's unpickler; an opcode that is not in ``dispatch`` is refused before its argument is read."""

    def __init__(self, stream: BinaryIO, storages: dict[str, Storage] | None):
        super().__init__(_LimitedStream(stream), encoding="latin-1")
        self.storages = storages

    def load_frame(self):
        self.read(8)  # the frame's size: reading ahead would only need more memory

    def find_class(self, module: str, name: str) -> object:
        path = f"{module}.{name}"
        if path not in GLOBALS:
            raise ValueError(f"asks for {path[:200]!r}, which no weights need and which was not run")
        return GLOBALS[path]

    def load_setitem(self):
        self._set_items([self.stack.pop(-2), self.stack.pop()])

    def load_setitems(self):
        self._set_items(self.pop_mark())

    def _set_items(self, items: list) -> None:
        for key, value in zip(items[::2], items[1::2]):
            _set_item(self.stack[-1], key, value)

    def load_reduce(self):
        arguments, function = self.stack.pop(), self.stack.pop()
        # Only `find_class` puts functions on the stack, so this is one of GLOBALS.
        if not isinstance(function, FunctionType) or not isinstance(arguments, tuple):
            raise ValueError(f"calls a {type(function).__name__}, which no weights need")
        self.append(function(*arguments))

    def load_build(self):
        state = self.stack.pop()
        target = self.stack[-1]
        if isinstance(target, Pending):
            _, shape, dtype, fortran, raw = state
            target.array = dense(raw, dtype, shape, fortran)
        elif isinstance(target, np.dtype):
            if state[1] == ">" or state[2:5] != (None, None, None):
                raise ValueError("holds big-endian or structured arrays, little-endian numbers are expected")
        elif not isinstance(target, OrderedDict):  # a state dict's state is its `_metadata`, of no use here
            raise ValueError(f"sets the state of a {type(target).__name__}, which no weights need")

    def persistent_load(self, reference: object) -> Storage:
        if self.storages is None or not isinstance(reference, tuple) or reference[0] != "storage":
            raise ValueError("refers to something outside its pickle that is not a storage")
        _, kind, key, _location, size, *view = reference if len(reference) < 7 else ()
        if (kind not in ELEMENT_TYPES and kind != BFLOAT16) or not isinstance(key, (str, int)):
            raise ValueError("refers to a storage of unknown type or name")
        if any(view):
            raise ValueError("holds a view of a storage, as early PyTorch wrote; save it with a later one")
        check_sizes("number of elements", (size,))
        storage = self.storages.setdefault(str(key), Storage(kind, size))
        if (storage.kind, storage.size) != (kind, size):
            raise ValueError("uses one storage as two")
        return storage

    dispatch = _Opcodes({code[0]: pickle._Unpickler.dispatch[code[0]] for code in (
        pickle.PROTO, pickle.STOP, pickle.MARK, pickle.NONE, pickle.NEWTRUE, pickle.NEWFALSE,
        pickle.BININT, pickle.BININT1, pickle.BININT2, pickle.LONG1, pickle.BINFLOAT,
        pickle.BINSTRING, pickle.SHORT_BINSTRING, pickle.BINBYTES, pickle.SHORT_BINBYTES, pickle.BINBYTES8,
        pickle.BINUNICODE, pickle.SHORT_BINUNICODE, pickle.BINUNICODE8,
        pickle.EMPTY_TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3, pickle.TUPLE,
        pickle.EMPTY_LIST, pickle.APPEND, pickle.APPENDS, pickle.EMPTY_DICT,
        pickle.MEMOIZE, pickle.BINPUT, pickle.LONG_BINPUT, pickle.BINGET, pickle.LONG_BINGET,
        pickle.GLOBAL, pickle.STACK_GLOBAL, pickle.BINPERSID,
    )})
    dispatch.update({
        pickle.FRAME[0]: load_frame, pickle.REDUCE[0]: load_reduce, pickle.BUILD[0]: load_build,
        pickle.SETITEM[0]: load_setitem, pickle.SETITEMS[0]: load_setitems,
        pickle.BYTEARRAY8[0]: pickle._Unpickler.load_binbytes8,  # its own allots what a file only declares
    })


def safe_load(stream: BinaryIO, storages: dict[str, Storage] | None = None) -> object:
    """Loads one pickle and leaves ``stream`` behind it.

    Arrays come as objects with an ``array`` attribute. ``storages`` receives the PyTorch storages that the
    pickle refers to, by key, for the caller to fill; without it such a reference is refused.

    Raises:
        ValueError, pickle.UnpicklingError: an opcode or a name is not one that weights need, or the pickle is
            malformed; a malformed one may also raise EOFError, LookupError, TypeError, AttributeError,
            OverflowError, MemoryError or struct.error.
    """
    return _Unpickler(stream, storages).load()


def _set_item(mapping: dict, key: object, value: object) -> None:
    if not isinstance(mapping, dict):
        raise ValueError(f"adds items to a {type(mapping).__name__}")
    # Names and counts are all the keys there are. Hashing a nested tuple could take for ever, and so could
    # large integers, many of which can be given the same hash.
    if not isinstance(key, (str, int)) or (isinstance(key, int) and key.bit_length() > MAX_KEY_BITS):
        raise ValueError(f"has a dictionary key that is a {type(key).__name__}, not a name")
    mapping[key] = value
