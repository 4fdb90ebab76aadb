"""Compiles kernels for the CPU, as CUDA runs them or as the CPU does, and calls them from Python."""

from __future__ import annotations

import ctypes
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from tests.cuda_on_cpu.rewrite import rewrite
from tests.helpers.kernel_calls import Call, translation_unit

DEVICE = Path(__file__).with_name("device.h")
FLAGS = ("-std=c++14", "-O1", "-fopenmp", "-shared", "-fPIC")
ALIGNMENT = ("-fsanitize=alignment", "-DEMULATED_ALIGNMENT")

# Errors of what `call` runs come back as their text.
ATTEMPT = """
#include <exception>
#include <string>
extern "C" const char* attempt(void (*call)(Sized*, void**, const Numbers&), Sized* sizes, void** arrays,
                               const Numbers& data) {
    static std::string what;
    try {
        call(sizes, arrays, data);
        return nullptr;
    } catch (const std::exception& error) {
        what = error.what();
        return what.c_str();
    }
}
"""
_SET_ORDER = 'extern "C" void set_order(long order) { emulated::order() = order; }\n'


class _Sized(ctypes.Structure):
    _fields_ = (("num", ctypes.c_long), ("shape", ctypes.c_long * 8))


class _Numbers(ctypes.Structure):
    _fields_ = (("names", ctypes.POINTER(ctypes.c_char_p)), ("values", ctypes.POINTER(ctypes.c_double)))


class Guarded:
    """An array, ``offset`` bytes past a place for any access, between bytes that no call may touch."""

    FENCE, FILL = 1 << 16, 0xff  # bytes; a float of such bytes is no number

    def __init__(self, shape: tuple[int, ...], dtype: str, offset: int = 0):
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        self._memory = np.full(size + 2 * self.FENCE, self.FILL, np.uint8)
        self._start = self.FENCE // 2 - self._memory.ctypes.data % 64 + offset
        self.array = self._memory[self._start:self._start + size].view(dtype).reshape(shape)

    def intact(self) -> bool:
        before, after = self._memory[:self._start], self._memory[self._start + self.array.nbytes:]
        return bool((before == self.FILL).all() and (after == self.FILL).all())

    def written(self) -> np.ndarray:
        """bool, of the array's shape: which elements are not as they were at first."""
        places = np.ascontiguousarray(self.array).reshape(-1, 1).view(np.uint8)
        return (places != self.FILL).any(1).reshape(self.array.shape)


class Kernels:
    """Some calls in a shared library."""

    def __init__(self, calls: list[Call], path: Path):
        self._functions = {call: f"call_{index}" for index, call in enumerate(calls)}
        self._library = ctypes.CDLL(str(path))
        self._library.attempt.restype = ctypes.c_char_p

    def run(self, call: Call, inputs: list[np.ndarray], shapes: list[tuple[int, ...]], data: dict[str, float],
            offset: bool = False) -> list[Guarded]:
        """The outputs. ``offset``: no array begins at a multiple of more than the size of its elements.

        Raises AssertionError if the call has an error, or writes to an input or beyond an array.
        """
        arrays = [Guarded(shape, kind, np.dtype(kind).itemsize * offset) for shape, kind in
                  zip([*(each.shape for each in inputs), *shapes], [*call.inputs, *call.outputs])]
        for guarded, given in zip(arrays, inputs):
            guarded.array[...] = given
        sizes = (_Sized * len(arrays))(*((each.array.size, each.array.shape) for each in arrays))
        places = (ctypes.c_void_p * len(arrays))(*(each.array.ctypes.data for each in arrays))
        numbers = _Numbers((ctypes.c_char_p * len(data))(*(name.encode() for name in data)),
                           (ctypes.c_double * len(data))(*data.values()))
        function = self._library[self._functions[call]]
        error = self._library.attempt(function, sizes, places, ctypes.byref(numbers))
        assert error is None, f"{error.decode()} in {call}"
        assert all(each.intact() for each in arrays), f"written beyond an array: {call}"
        assert all(each.array.tobytes() == given.tobytes() for each, given in zip(arrays, inputs)), call
        return arrays[len(inputs):]

    def set_order(self, order: int) -> None:
        """Of the threads, as in device.h."""
        self._library.set_order(ctypes.c_long(order))


def build(source: Path, *more_flags: str) -> Path:
    """The shared library of a C++ file, beside it."""
    path = source.with_suffix(".so")
    command = ["g++", *FLAGS, *more_flags, str(source), "-o", str(path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return path


def compile_both(calls: list[Call], folder: Path) -> tuple[Kernels, Kernels]:
    """(CUDA's half on the CPU, the CPU's own half). Loops over elements have at most two blocks on CUDA."""
    unit = translation_unit(calls) + ATTEMPT
    few_blocks, count = re.subn("blocks < 65536 [?] blocks : 65536", "blocks < 2 ? blocks : 2", unit)
    assert count == 1, "how many blocks a loop over elements has at most is not where it was"
    head = f'#include "{DEVICE}"\n#define __CUDACC__\n'
    (folder / "cuda.cc").write_text(head + rewrite(few_blocks) + _SET_ORDER)
    (folder / "cpu.cc").write_text(unit)
    with ThreadPoolExecutor() as pool:
        cuda = pool.submit(build, folder / "cuda.cc", *ALIGNMENT)
        cpu = build(folder / "cpu.cc")
        return Kernels(calls, cuda.result()), Kernels(calls, cpu)
