"""One step of Adam or AdamW on many parameters."""

from __future__ import annotations

from lib.ops import choice, kernel
from utils.backend import jt

BETAS = (0.9, 0.999)
EPS = 1e-8
TENSORS = 16  # that one launch steps, as in pointwise.cuh


def adam_step(values: list, gradients: list, means: list, squares: list, clip: float, rate: float,
              correction: float, decay: float = 1.0, scale: float = 1.0) -> None:
    """Moves ``values`` and their moments, all float32.

    Gradients are multiplied by ``scale``, then clamped to [-clip, clip]; ``rate`` is lr / (1 - beta1^t) and
    ``correction`` is sqrt(1 - beta2^t). The values are multiplied by ``decay`` first (AdamW).
    """
    step = _fused if choice.fused() else _plain
    data = {"clip": clip, "rate": rate, "correction": correction, "decay": decay,
            "scale": scale}
    # Jittor compiles a kernel for the dimensions of its inputs: in order of these, groups have few kernels.
    tensors = sorted(zip(values, gradients, means, squares), key=lambda each: each[0].ndim)
    for start in range(0, len(tensors), TENSORS):
        group = [list(each) for each in zip(*tensors[start:start + TENSORS])]
        moved = step(*group, data)
        for variable, value in zip([*group[0], *group[2], *group[3]], moved):
            variable.update(value)


def _plain(values: list, gradients: list, means: list, squares: list, data: dict[str, float]):
    gradients = [jt.clamp(each * data["scale"], -data["clip"], data["clip"]) for each in gradients]
    means = [mean * BETAS[0] + each * (1.0 - BETAS[0]) for mean, each in zip(means, gradients)]
    squares = [square * BETAS[1] + each * each * (1.0 - BETAS[1]) for square, each in zip(squares, gradients)]
    values = [value * data["decay"] - data["rate"] * mean / (square.sqrt() / data["correction"] + EPS)
              for value, mean, square in zip(values, means, squares)]
    return values + means + squares


def _fused(values: list, gradients: list, means: list, squares: list, data: dict[str, float]):
    count = len(values)
    tensors = ", ".join(f"{{{_pointers(i, count)}, in{i}->num}}" for i in range(count))
    call = f"""
        const Adam body{{{{{tensors}}}, (float)data["scale"], (float)data["clip"], (float)data["rate"],
                        (float)data["correction"], (float)data["decay"], {EPS}f,
                        (float){BETAS[0]}, (float){1.0 - BETAS[0]!r}, (float){BETAS[1]},
                        (float){1.0 - BETAS[1]!r}}};
        long parts = 0;
        for (int i = 0; i < {count}; ++i) parts += Adam::parts(body.tensors[i].size);
        items(parts, body);
    """
    outputs = [(each.shape, "float32") for each in values] * 3
    return kernel.run("pointwise.cuh", call, [*values, *gradients, *means, *squares], outputs, data)


def _pointers(i: int, count: int) -> str:
    names = [f"in{index * count + i}_p" for index in range(4)]
    return ", ".join(names + [f"out{index * count + i}_p" for index in range(3)])
