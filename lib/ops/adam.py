"""One step of Adam or AdamW on many parameters."""

from __future__ import annotations

from lib.ops import choice, kernel
from utils.backend import jt

BETAS = (0.9, 0.999)
EPS = 1e-8
TENSORS = 16  # that one launch steps, as in pointwise.cuh


def adam_step(values: list, gradients: list, means: list, squares: list, clip: float, rate: float,
              correction: float, decay: float = 1.0, scale: float = 1.0) -> None:
    """Moves ``values`` and their moments, all float32, where they lie in memory.

    Gradients are multiplied by ``scale``, then clamped to [-clip, clip]; ``rate`` is lr / (1 - beta1^t) and
    ``correction`` is sqrt(1 - beta2^t). The values are multiplied by ``decay`` first (AdamW).
    """
    data = {"clip": clip, "rate": rate, "correction": correction, "decay": decay,
            "scale": scale}
    if not choice.fused():
        _plain(values, gradients, means, squares, data)
        return
    jt.sync_all()  # all that still reads the values of before, which are overwritten
    # Jittor compiles a kernel for the dimensions of its inputs: in order of these, groups have few kernels.
    tensors = sorted(zip(values, gradients, means, squares), key=lambda each: each[0].ndim)
    for start in range(0, len(tensors), TENSORS):
        _fused(*(list(each) for each in zip(*tensors[start:start + TENSORS])), data)


def _plain(values: list, gradients: list, means: list, squares: list, data: dict[str, float]) -> None:
    for value, gradient, mean, square in zip(values, gradients, means, squares):
        gradient = jt.clamp(gradient * data["scale"], -data["clip"], data["clip"])
        mean.update(mean * BETAS[0] + gradient * (1.0 - BETAS[0]))
        square.update(square * BETAS[1] + gradient * gradient * (1.0 - BETAS[1]))
        value.update(value * data["decay"] - data["rate"] * mean / (square.sqrt() / data["correction"] + EPS))


def _fused(values: list, gradients: list, means: list, squares: list, data: dict[str, float]) -> None:
    count = len(values)
    tensors = ", ".join(f"{{out{i}_p, in{i}_p, out{count + i}_p, out{2 * count + i}_p, in{i}->num}}"
                        for i in range(count))
    call = f"""
        const Adam body{{{{{tensors}}}, (float)data["scale"], (float)data["clip"], (float)data["rate"],
                        (float)data["correction"], (float)data["decay"], {EPS}f,
                        (float){BETAS[0]}, (float){1.0 - BETAS[0]!r}, (float){BETAS[1]},
                        (float){1.0 - BETAS[1]!r}}};
        long parts = 0;
        for (int i = 0; i < {count}; ++i) parts += Adam::parts(body.tensors[i].size);
        items(parts, body);
    """
    kernel.update("pointwise.cuh", call, gradients, [*values, *means, *squares], data)
