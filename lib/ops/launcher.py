"""Runs the loops of lib/ops/kernels inside Jittor, compiled for the CPU or for CUDA from one source."""

from __future__ import annotations

import functools
import re
from pathlib import Path

from lib.ops import sizes
from utils.runtime.backend import jt

FOLDER = Path(__file__).parent / "kernels"

# Jittor compiles with -Ofast, which lets a NaN pass for a number: a loss that is none would look like one.
# The definition keeps glibc's vector exp, log and erf, which go with the whole of -Ofast.
_CPU_FLAGS = " -fno-finite-math-only -D__FAST_MATH__=1 "


@functools.cache
def source(*files: str) -> str:
    """The text of kernel files, each that they include put in once, after the `sizes` that it uses.

    Whole, because Jittor knows a compiled kernel by its text.
    """
    seen = set()

    def read(name: str) -> str:
        if name in seen:
            return ""
        seen.add(name)
        return re.sub(r'#include "(\w+\.cuh)"\n', lambda include: read(include[1]),
                      (FOLDER / name).read_text().replace("#pragma once\n", ""))

    text = "".join(map(read, files))
    definitions = "".join(f"constexpr long {name} = {value};\n" for name, value in vars(sizes).items()
                          if name.isupper() and re.search(rf"\b{name}\b", text))
    return f"namespace {{\nnamespace pranet {{\n{definitions}}}\n}}\n{text}"


def run(file: str, call: str, inputs: list, outputs: list[tuple],
        data: dict[str, float] | None = None) -> list:
    """Vars of the shapes and dtypes of ``outputs``, filled by the C++ statements ``call``.

    They find inputs at in0_p, in1_p ..., outputs at out0_p ... and numbers at data["name"].
    """
    shapes, types = zip(*outputs)
    return _run(file, call, data, [list(shape) for shape in shapes], list(types), inputs)


def update(file: str, call: str, inputs: list, variables: list, data: dict[str, float]) -> None:
    """Gives ``variables`` new values: ``call`` finds them as the last inputs, and as outputs.

    These lie where the variables do. Jittor knows nothing of that, and must have computed all that reads the
    variables.
    """
    _run(file, call, data, [*inputs, *variables], variables)


def _run(file: str, call: str, data: dict[str, float] | None, *arguments) -> list:
    data = {name: float(value) for name, value in (data or {}).items()}
    code = f"using namespace pranet;\n{call}\n"
    if jt.flags.use_cuda:
        return jt.code(*arguments, cuda_header=source(file), cuda_src=code, data=data)
    with jt.flag_scope(compile_options={f"FLAGS:{_CPU_FLAGS}": 1}):
        return jt.code(*arguments, cpu_header=source(file), cpu_src=code, data=data)


def partial_count(rows: int) -> int:
    """How many partial sums `column_sums` of parallel.cuh needs room for."""
    return -(-rows // sizes.ROWS_PER_SUM)


def column_sums(x):
    """The sums of float32 (...,C) over all but the last dimension, taken in float64: float32 (C,)."""
    columns = x.shape[-1]
    rows = x.numel() // columns
    call = """
        const long rows = data["rows"], columns = data["columns"];
        column_sums<1>(ColumnTerm{in0_p, columns}, rows, columns, out1_p, out0_p);
    """
    outputs = [((columns,), "float32"), ((partial_count(rows), columns), "float64")]
    return run("pointwise.cuh", call, [x], outputs, {"rows": rows, "columns": columns})[0]
