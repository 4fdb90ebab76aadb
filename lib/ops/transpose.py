"""Transposed matrices, and maps with their channels first or last.

Jittor's own runs on one core, on CUDA too unless a library is there that it downloads: the array then goes to
the host and back.
"""

from __future__ import annotations

from lib.ops import dispatch, launcher
from lib.ops.autograd import Function


def matrix_transpose(x):
    """(...,R,C) to (...,C,R), float32."""
    if not dispatch.fused():
        axes = list(range(x.ndim))
        return x.transpose([*axes[:-2], axes[-1], axes[-2]])
    return _MatrixTranspose()(x)


def channels_first(x):
    """(N,H,W,C) to (N,C,H,W), float32."""
    batch, height, width, channels = x.shape
    matrices = x.reshape(batch, height * width, channels)
    return matrix_transpose(matrices).reshape(batch, channels, height, width)


def channels_last(x):
    """(N,C,H,W) to (N,H,W,C), float32."""
    batch, channels, height, width = x.shape
    matrices = x.reshape(batch, channels, height * width)
    return matrix_transpose(matrices).reshape(batch, height, width, channels)


class _MatrixTranspose(Function):
    def execute(self, x):
        return self._swap(x)

    def grad(self, grad):
        return self._swap(grad)

    @staticmethod
    def _swap(x):
        *planes, rows, columns = x.shape
        call = """
            const long rows = data["rows"], columns = data["columns"];
            items(Transpose::tiles(out0->num / (rows * columns), rows, columns),
                  Transpose{in0_p, out0_p, rows, columns});
        """
        return launcher.run("transpose.cuh", call, [x], [((*planes, columns, rows), "float32")],
                            {"rows": rows, "columns": columns})[0]
