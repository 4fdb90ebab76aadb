"""Adam and AdamW as PyTorch computes them, with gradients clamped by value; a network's moving average."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from lib import ops
from utils.runtime import collectives
from utils.runtime.backend import jt

AMP_LOSS_SCALE = 1024.0  # a pixel of a map has a gradient of 1e-7, and float16 ends at 6e-8
NO_CLIP = 3e38  # float32 ends there, and kernels compiled with -ffast-math must not see infinity


def trainable_parameters(model) -> list:
    """The parameters that take gradients: without running statistics and unused published layers."""
    return [value for value in model.parameters() if not value.is_stop_grad()]


class Adam:
    """Adam (Kingma and Ba, ICLR 2015), with weight decay AdamW (Loshchilov and Hutter, ICLR 2019).

    Jittor's own adds eps outside the bias correction and so takes other steps where gradients are tiny.
    Gradients are those of all processes' losses together.

    Args:
        clip: gradients are clamped element by element to [-clip, clip]; None leaves them.
        weight_decay: every parameter loses lr * weight_decay of itself at each step.
        loss_scale: the loss is multiplied by it and the gradients are divided by it again, so that float16
            holds what lies between; a power of two changes nothing else.
    """

    def __init__(self, parameters: list, clip: float | None, weight_decay: float = 0.0,
                 loss_scale: float = 1.0):
        self.parameters, self.weight_decay, self.loss_scale = parameters, weight_decay, loss_scale
        self.clip = NO_CLIP if clip is None else clip
        self.steps = 0
        self.means = [jt.zeros_like(value).stop_grad() for value in parameters]
        self.squares = [jt.zeros_like(value).stop_grad() for value in parameters]

    def step(self, loss, lr: float) -> None:
        """Moves every parameter once, with rate ``lr``, by the gradient of ``loss``.

        Raises ValueError if a step was taken of this loss before: its graph is gone.
        """
        if loss.is_stop_grad():
            raise ValueError("the loss has no gradient; each step needs one computed anew")
        scaled = loss if self.loss_scale == 1.0 else loss * self.loss_scale
        grads = [collectives.all_reduce(each) for each in ops.grad_and_release(scaled, self.parameters)]
        loss.stop_grad()
        self.steps += 1
        ops.adam_step(self.parameters, grads, self.means, self.squares, self.clip,
                      rate=lr / (1.0 - ops.BETAS[0] ** self.steps),
                      correction=(1.0 - ops.BETAS[1] ** self.steps) ** 0.5,
                      decay=1.0 - lr * self.weight_decay, scale=1.0 / self.loss_scale)


class MovingAverage:
    """The exponential moving average of a network's parameters and running statistics.

    The decay grows to its value as (1 + steps) / (10 + steps), so that the first weights are soon forgotten.
    """

    def __init__(self, model, decay: float):
        self.decay, self.steps = decay, 0
        self.variables = model.state_dict()
        self.values = {name: jt.array(value.numpy()).stop_grad() for name, value in self.variables.items()}

    def step(self) -> None:
        """Takes in the network's values after an optimizer step."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        ops.ema_step(list(self.values.values()), list(self.variables.values()), decay)

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Gives the network the average's values within the block; then its own again, bit for bit."""
        own = {name: variable.numpy() for name, variable in self.variables.items()}
        try:
            self._set({name: value.numpy() for name, value in self.values.items()})
            yield
        finally:
            self._set(own)
            jt.sync_all()

    def _set(self, values: dict) -> None:
        for name, variable in self.variables.items():
            variable.update(values[name])
