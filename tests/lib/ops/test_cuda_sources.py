"""The kernels of lib/ops/kernels as CUDA: compiled, with all that calls them, wherever there is an nvcc.

What they compute is tested on the CPU, in test_ops and test_cuda_on_cpu; this is about the language.
"""

from __future__ import annotations

import importlib
import re
import shutil
import subprocess

import pytest

from lib.ops import launcher
from tests.helpers import kernel_calls

ARCHITECTURES = ("80", "90")


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
    unit.write_text(f'#include "{path}"\n')
    command = ["g++", "-std=c++14", "-fopenmp", "-Wall", "-Wextra", "-Wno-unused-function", "-Werror",
               "-fsyntax-only", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", sorted(launcher.FOLDER.glob("*.cuh")), ids=lambda path: path.name)
def test_nothing_encloses_an_include(path):
    """Jittor defines the types of a call after the last: within `#if` another compiler would miss them."""
    before, include, _ = launcher.source(path.name).rpartition("#include")
    assert include and "#if" not in before


@pytest.mark.parametrize(("module", "file", "names"), [
    ("launcher", "parallel.cuh", ["ROWS"]), ("updates", "updates.cuh", ["TENSORS"]),
    ("structure_loss", "structure_loss.cuh", ["SHARE", "SUMS", "SLOPES"]),
    ("mutation_sums", "mutation_sums.cuh", ["PATCH", "SINGLE_SUMS"])])
def test_room_is_made_for_what_a_kernel_writes(module, file, names):
    """Sizes of buffers are known to Python and to the kernels; if they differed, one would write beyond."""
    python, text = importlib.import_module(f"lib.ops.{module}"), (launcher.FOLDER / file).read_text()
    for name in names:
        found, = re.findall(rf"constexpr \w+ {name} = (\d+);", text)
        assert int(found) == getattr(python, name), name
