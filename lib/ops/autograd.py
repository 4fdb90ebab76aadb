"""Operations with a gradient of their own, and gradients of a graph that nobody needs again."""

from __future__ import annotations

from utils.runtime.backend import jt

_last = False


class Function(jt.Function):
    """A jt.Function that lets go of what it saved as `grad_and_release` passes.

    What Python holds Jittor keeps: every map of the forward pass would stay until the last gradient is there.
    """

    def _grad(self, *gradients):
        result = super()._grad(*gradients)
        if _last:
            self.__dict__.clear()
        return result


def grad_and_release(loss, variables: list) -> list:
    """The gradients of ``loss``; neither its graph nor they themselves can be differentiated again."""
    global _last
    _last = True
    try:
        return jt.grad(loss, variables, retain_graph=False)
    finally:
        _last = False
