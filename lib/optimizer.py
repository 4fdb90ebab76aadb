"""Adam as PyTorch computes it, with the gradients clamped by value."""

from __future__ import annotations

from utils.backend import jt


def trainable_parameters(model) -> list:
    """The parameters that take gradients: without running statistics and unused published layers."""
    return [value for value in model.parameters() if not value.is_stop_grad()]


class Adam:
    """Adam (Kingma and Ba, ICLR 2015, algorithm 1) without weight decay.

    Jittor's own adds eps outside the bias correction and so takes other steps where gradients are tiny.
    Gradients are first clamped element by element to [-clip, clip].
    """

    def __init__(self, parameters: list, clip: float, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8):
        self.parameters, self.clip, self.betas, self.eps = parameters, clip, betas, eps
        self.steps = 0
        self.means = [jt.zeros_like(value).stop_grad() for value in parameters]
        self.squares = [jt.zeros_like(value).stop_grad() for value in parameters]

    def step(self, loss, lr: float) -> None:
        """Takes the gradient of ``loss`` and moves every parameter once with rate ``lr``."""
        gradients = jt.grad(loss, self.parameters)
        self.steps += 1
        first, second = self.betas
        rate = lr / (1.0 - first ** self.steps)
        correction = (1.0 - second ** self.steps) ** 0.5
        for value, gradient, mean, square in zip(self.parameters, gradients, self.means, self.squares):
            gradient = jt.clamp(gradient, -self.clip, self.clip)
            mean.update(mean * first + gradient * (1.0 - first))
            square.update(square * second + gradient * gradient * (1.0 - second))
            value.update(value - rate * mean / (square.sqrt() / correction + self.eps))
