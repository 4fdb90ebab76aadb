"""Whether the operations of this package run fused or as plain formulas in Jittor's own operations."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from utils.runtime.backend import jt

_plain = False


def use_plain_ops(plain: bool = True) -> None:
    """Computes every operation by its plain formula from now on, or fused again."""
    global _plain
    _plain = plain


@contextlib.contextmanager
def plain_ops() -> Iterator[None]:
    """Plain formulas within the block."""
    before = _plain
    use_plain_ops()
    try:
        yield
    finally:
        use_plain_ops(before)


def fused() -> bool:
    """Whether the fused operations are to be used."""
    return not _plain


def fused_on_cpu() -> bool:
    """Whether operations that are fused on the CPU alone are to be used."""
    return not _plain and not jt.flags.use_cuda
