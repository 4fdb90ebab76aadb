"""Average pooling."""

from __future__ import annotations


def average_pool(x, size: int, stride: int = 1, padding: int = 0):
    """Mean over size x size windows of (N,C,H,W) maps; pixels outside count as zero.

    Equals PyTorch's avg_pool2d. The window is summed along one axis, then the other: the 31x31 window of the
    losses takes 62 additions a pixel where the square takes 961. Jittor's own refuses a window as large as
    the map.
    """
    for axis in (2, 3):
        x = _window_sum(x, axis, size, stride, padding)
    return x / (size * size)


def _window_sum(x, axis: int, size: int, stride: int, padding: int):
    shape = list(x.shape)
    shape[axis] = (shape[axis] + 2 * padding - size) // stride + 1
    index = [f"i{i}" for i in range(4)]
    index[axis] = f"i{axis}*{stride}+i4-{padding}"
    return x.reindex([*shape, size], index).sum(4)
