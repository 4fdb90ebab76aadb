"""The kernels of lib/ops/kernels as CUDA: compiled, with all that calls them, wherever there is an nvcc.

What they compute is tested on the CPU, in test_ops and test_cuda_on_cpu; this is about the language.
"""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from lib.ops import launcher, sizes
from tests.cuda_on_cpu import library
from tests.helpers import kernel_calls
from utils.runtime.backend import jt

ARCHITECTURES = ("80", "90")
SIZES = {name: value for name, value in vars(sizes).items() if name.isupper()}


def test_kernels_and_calls_compile_for_cuda(tmp_path):
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        pytest.skip("no nvcc on PATH")
    calls = kernel_calls.every_call()
    used = {call.file for call in calls} | {"parallel.cuh"}
    files = {path.name for path in launcher.FOLDER.glob("*.cuh")}
    assert used == files, "a kernel file that no operation uses"
    unit = tmp_path / "calls.cu"
    unit.write_text(kernel_calls.translation_unit(calls))
    targets = [f"-gencode=arch=compute_{each},code=sm_{each}" for each in ARCHITECTURES]
    command = [nvcc, "-std=c++14", *targets, "-Werror", "all-warnings", "-Xcompiler", "-Wall",
               "-c", str(unit), "-o", str(tmp_path / "calls.o")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", sorted(launcher.FOLDER.glob("*.cuh")), ids=lambda path: path.name)
def test_a_kernel_file_stands_alone(path, tmp_path):
    """As C++ without a warning, each with what it includes and no more."""
    unit = tmp_path / "unit.cc"
    unit.write_text(launcher.source(path.name))
    command = ["g++", "-std=c++14", "-fopenmp", "-Wall", "-Wextra", "-Wno-unused-function", "-Werror",
               "-fsyntax-only", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", sorted(launcher.FOLDER.glob("*.cuh")), ids=lambda path: path.name)
def test_nothing_encloses_an_include(path):
    """Jittor defines the types of a call after the last: within `#if` another compiler would miss them."""
    before, include, _ = launcher.source(path.name).rpartition("#include")
    assert include and "#if" not in before


def test_sizes_are_defined_by_python_alone():
    """Python makes room for what a kernel writes: with a size of its own one could write beyond."""
    texts = {path.name: path.read_text() for path in launcher.FOLDER.glob("*.cuh")}
    assert not {file: found for file, text in texts.items() if (found := own_sizes(text))}
    assert not [name for name in SIZES if not any(name in text for text in texts.values())], "unused"


@pytest.mark.parametrize("text", ["constexpr long LOSS_TILE = 4096;", "enum { A = 1, LOSS_TILE=2 };",
                                  "static const int a = 1, LOSS_TILE{7};", "#define LOSS_TILE 4096"])
def test_a_size_of_its_own_is_found(text):
    assert own_sizes(text) == ["LOSS_TILE"]


def own_sizes(text: str) -> list[str]:
    """The names of `SIZES` that a kernel defines."""
    return [name for name in SIZES if re.search(rf"#define\s+{name}\b|\b{name}\s*(=[^=]|\{{)", text)]


def test_room_is_made_for_what_a_kernel_writes(monkeypatch, tmp_path):
    """With other sizes, too, no operation writes beyond what Python has made for it."""
    for name, value in SIZES.items():
        monkeypatch.setattr(sizes, name, value // 16 + 7)
    monkeypatch.setattr(launcher, "source", launcher.source.__wrapped__)
    unit = tmp_path / "calls.cc"
    calls = kernel_calls.every_call()
    unit.write_text(kernel_calls.translation_unit(calls) + library.ATTEMPT)
    kernels = library.Kernels(calls, library.build(unit))

    def guarded(file, text, inputs, outputs, data=None):
        arrays, shapes = [each.numpy() for each in inputs], [tuple(shape) for shape, _ in outputs]
        results = kernels.run(kernel_calls.describe(file, text, inputs, outputs), arrays, shapes, data or {})
        with jt.flag_scope(auto_convert_64_to_32=0):
            return [jt.array(each.array) for each in results]

    kernel_calls.run_operations(guarded, (2, 3, 40, 30))
