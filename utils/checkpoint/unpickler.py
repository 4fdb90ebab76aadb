"""Reads pickled weights without running what a pickle asks for.

`pickle.load` calls whatever function a file names. This interpreter knows the opcodes that weights consist
of and the few names in `GLOBALS`, each standing for a function of this file; everything else is refused.
Nothing is imported, no attribute of a named thing is set, and time and memory grow with the file at most.
"""

from __future__ import annotations

import math
import pickletools
from collections import OrderedDict
from dataclasses import dataclass
from types import FunctionType
from typing import BinaryIO, Callable

import numpy as np

MAX_OPCODES = 1_000_000  # PraNet-V2 with both moments of its optimiser takes about 150 000
MAX_DIMENSIONS = 32  # NumPy's own limit
ELEMENT_TYPES = ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1")
BFLOAT16 = "bfloat16"  # NumPy has none: such storages are widened to float32, which is exact


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
    _check_sizes("shape", shape)
    if math.prod(shape) * dtype.itemsize != len(raw):
        raise ValueError(f"declares an array of shape {shape} and {dtype} over {len(raw)} bytes")
    return np.frombuffer(raw, dtype).reshape(shape, order="F" if fortran else "C")


def _check_sizes(what: str, sizes: object) -> None:
    if not isinstance(sizes, tuple) or len(sizes) > MAX_DIMENSIONS:
        raise ValueError(f"holds an array whose {what} is not a tuple of sizes")
    if not all(isinstance(size, int) and size >= 0 for size in sizes):
        raise ValueError(f"holds an array whose {what} is not of natural numbers")


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
    _check_sizes("shape", shape)
    _check_sizes("stride", strides)
    _check_sizes("offset", (offset,))
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


_OPCODES = {opcode.code.encode("latin-1"): opcode for opcode in pickletools.opcodes}
_STOP = _OPCODES[b"."]
_LITERALS = frozenset((
    "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "SHORT_BINSTRING", "BINSTRING", "SHORT_BINUNICODE",
    "BINUNICODE", "BINUNICODE8", "SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8",
))


def safe_load(stream: BinaryIO, storages: dict[str, Storage] | None = None) -> object:
    """Interprets one pickle and leaves ``stream`` behind it.

    Arrays come as objects with an ``array`` attribute. ``storages`` receives the PyTorch storages that the
    pickle refers to, by key, for the caller to fill; without it such a reference is refused.

    Raises:
        ValueError: an opcode or a name is not one that weights need, or the pickle is malformed; a malformed
            one may also raise LookupError, TypeError, AttributeError, OverflowError or MemoryError.
    """
    machine = _Machine(storages)
    for _ in range(MAX_OPCODES):
        code = stream.read(1)
        if not code:
            raise ValueError("ends in the middle of its pickle")
        opcode = _OPCODES.get(code)
        if opcode is None:
            raise ValueError(f"is no pickle: there is no opcode {code}")
        if opcode is _STOP:
            return machine.stack.pop()
        perform = machine.stack.append if opcode.name in _LITERALS else machine.performer(opcode.name)
        perform(opcode.arg.reader(stream) if opcode.arg else None)
    raise ValueError(f"has more than {MAX_OPCODES} pickle opcodes")


def _set_item(mapping: dict, key: object, value: object) -> None:
    # Names and counts are all the keys there are; hashing a nested tuple could take for ever.
    if not isinstance(key, (str, int)):
        raise ValueError(f"has a dictionary key that is a {type(key).__name__}, not a name")
    mapping[key] = value


class _Machine:
    """The stack machine that pickles are written for; one method an opcode."""

    def __init__(self, storages: dict[str, Storage] | None):
        self.stack: list = []
        self.marked: list[list] = []  # the stacks below each MARK
        self.memo: dict[int, object] = {}
        self.storages = storages

    def performer(self, opcode: str) -> Callable:
        perform = getattr(self, f"do_{opcode.lower()}", None)
        if perform is None:  # refused before its argument is read: some take long to parse
            raise ValueError(f"uses the pickle opcode {opcode}, which no weights need")
        return perform

    def pop_to_mark(self) -> list:
        items, self.stack = self.stack, self.marked.pop()
        return items

    def top(self, kind: type) -> object:
        if not isinstance(self.stack[-1], kind):
            raise ValueError(f"adds items to a {type(self.stack[-1]).__name__}")
        return self.stack[-1]

    def do_proto(self, version):
        pass

    def do_frame(self, size):
        pass

    def do_mark(self, _):
        self.marked.append(self.stack)
        self.stack = []

    def do_none(self, _):
        self.stack.append(None)

    def do_newtrue(self, _):
        self.stack.append(True)

    def do_newfalse(self, _):
        self.stack.append(False)

    def do_empty_tuple(self, _):
        self.stack.append(())

    def do_tuple1(self, _):
        self.stack[-1:] = [(self.stack[-1],)]

    def do_tuple2(self, _):
        self.stack[-2:] = [(self.stack[-2], self.stack[-1])]

    def do_tuple3(self, _):
        self.stack[-3:] = [(self.stack[-3], self.stack[-2], self.stack[-1])]

    def do_tuple(self, _):
        items = self.pop_to_mark()
        self.stack.append(tuple(items))

    def do_empty_list(self, _):
        self.stack.append([])

    def do_append(self, _):
        item = self.stack.pop()
        self.top(list).append(item)

    def do_appends(self, _):
        items = self.pop_to_mark()
        self.top(list).extend(items)

    def do_empty_dict(self, _):
        self.stack.append({})

    def do_setitem(self, _):
        value, key = self.stack.pop(), self.stack.pop()
        _set_item(self.top(dict), key, value)

    def do_setitems(self, _):
        items = self.pop_to_mark()
        target = self.top(dict)
        for key, value in zip(items[::2], items[1::2]):
            _set_item(target, key, value)

    def do_memoize(self, _):
        self.memo[len(self.memo)] = self.stack[-1]

    def do_binput(self, index):
        self.memo[index] = self.stack[-1]

    do_long_binput = do_binput

    def do_binget(self, index):
        self.stack.append(self.memo[index])

    do_long_binget = do_binget

    def do_global(self, module_and_name):
        name = module_and_name.replace(" ", ".")
        if name not in GLOBALS:
            raise ValueError(f"asks for {name[:200]!r}, which no weights need and which was not run")
        self.stack.append(GLOBALS[name])

    def do_stack_global(self, _):
        name, module = self.stack.pop(), self.stack.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise ValueError("asks for something without a name")
        self.do_global(f"{module[:100]} {name[:100]}")

    def do_reduce(self, _):
        arguments, function = self.stack.pop(), self.stack.pop()
        # Only `do_global` puts functions on the stack, so this is one of GLOBALS.
        if not isinstance(function, FunctionType) or not isinstance(arguments, tuple):
            raise ValueError(f"calls a {type(function).__name__}, which no weights need")
        self.stack.append(function(*arguments))

    def do_build(self, _):
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

    def do_binpersid(self, _):
        reference = self.stack.pop()
        if self.storages is None or not isinstance(reference, tuple) or reference[0] != "storage":
            raise ValueError("refers to something outside its pickle that is not a storage")
        _, kind, key, _location, size = reference[:5]
        if (kind not in ELEMENT_TYPES and kind != BFLOAT16) or not isinstance(key, (str, int)):
            raise ValueError("refers to a storage of unknown type or name")
        if any(reference[5:]):
            raise ValueError("holds a view of a storage, as early PyTorch wrote; save it with a later one")
        _check_sizes("number of elements", (size,))
        storage = self.storages.setdefault(str(key), Storage(kind, size))
        if (storage.kind, storage.size) != (kind, size):
            raise ValueError("uses one storage as two")
        self.stack.append(storage)
