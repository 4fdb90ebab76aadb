"""What changes many tensors where they lie in memory: a step of Adam or AdamW, and of a moving average."""

from __future__ import annotations

from itertools import chain

from lib.ops import dispatch, launcher, sizes
from utils.runtime.backend import jt

BETAS = (0.9, 0.999)
EPS = 1e-8


def adam_step(values: list, grads: list, means: list, squares: list, clip: float, rate: float,
              correction: float, decay: float = 1.0, scale: float = 1.0) -> None:
    """Moves ``values`` and their moments, all float32.

    Gradients are multiplied by ``scale``, then clamped to [-clip, clip]; ``rate`` is lr / (1 - beta1^t) and
    ``correction`` is sqrt(1 - beta2^t). The values are multiplied by ``decay`` first (AdamW).
    """
    if dispatch.fused():
        _update("Adam", [grads], [values, means, squares], {
            "scale": scale, "clip": clip, "rate": rate, "correction": correction, "decay": decay, "eps": EPS,
            "old_mean": BETAS[0], "new_mean": 1.0 - BETAS[0],
            "old_square": BETAS[1], "new_square": 1.0 - BETAS[1]})
        return
    for value, grad, mean, square in zip(values, grads, means, squares):
        grad = jt.clamp(grad * scale, -clip, clip)
        mean.update(mean * BETAS[0] + grad * (1.0 - BETAS[0]))
        square.update(square * BETAS[1] + grad * grad * (1.0 - BETAS[1]))
        value.update(value * decay - rate * mean / (square.sqrt() / correction + EPS))


def ema_step(averages: list, values: list, decay: float) -> None:
    """Moves ``averages`` to decay times themselves and 1 - decay times ``values``, all float32."""
    if dispatch.fused():
        _update("Ema", [values], [averages], {"old": decay, "recent": 1.0 - decay})
        return
    for average, value in zip(averages, values):
        average.update(average * decay + value.detach() * (1.0 - decay))


def _update(change: str, inputs: list[list], variables: list[list], data: dict[str, float]) -> None:
    """Applies a ``change`` of updates.cuh, with ``data`` in the order of its numbers.

    Each tensor has an entry in every list.
    """
    jt.sync_all()  # all that still reads the variables as they were
    # Jittor compiles a kernel for the dimensions of its inputs: in order of these, groups have few kernels.
    tensors = sorted(zip(*inputs, *variables), key=lambda each: each[0].ndim)
    for start in range(0, len(tensors), sizes.TENSORS_PER_LAUNCH):
        groups = list(zip(*tensors[start:start + sizes.TENSORS_PER_LAUNCH]))
        read, changed = groups[:len(inputs)], groups[len(inputs):]
        launcher.update("updates.cuh", _call(change, len(read), len(changed), len(groups[0]), data),
                        [*chain(*read)], [*chain(*changed)], data)


def _call(change: str, read: int, changed: int, count: int, data: dict[str, float]) -> str:
    def tensor(i: int) -> str:
        places = [f"in{index * count + i}_p" for index in range(read + changed)]
        places += [f"out{index * count + i}_p" for index in range(changed)]
        return f"{{{', '.join(places)}, in{i}->num}}"

    tensors = ", ".join(map(tensor, range(count)))
    numbers = ", ".join(f'(float)data["{name}"]' for name in data)
    return f"update(Update<{change}>{{{{{tensors}}}, {{{numbers}}}}}, {count});"
