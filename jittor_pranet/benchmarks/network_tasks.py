"""What networks are timed at, inference and a training step: on the same weights and images everywhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from jittor_pranet.benchmarks.frameworks import Jittor, Torch
from lib.registry import check_size, find_network
from utils.data.synthetic import deterministic

LR, CLIP = 1e-4, 0.5
COUNTED_SIZE = 352  # of the images that GMAC is for
GMAC = {"PraNet-V1": 13.0, "PVT-PraNet-V1": 12.05, "PraNet-V2": 13.0, "PVT-PraNet-V2": 12.05,
        "EMCAD-B2": 11.36, "EMCAD-B2-DSRA": 11.38}  # multiplications of one such image in 1e9, with one class


def seed_jittor(model, seed: int = 0) -> None:
    """Gives a network of Jittor parameters and running statistics that are seeded by their names."""
    from utils.checkpoint import load_weights

    load_weights(model, _seeded_weights(model, seed))


def seed_torch(model, seed: int = 0) -> None:
    """Gives a network of PyTorch the same, in its dtype and on its device."""
    import torch

    model.load_state_dict({name: torch.from_numpy(value)
                           for name, value in _seeded_weights(model, seed).items()})


def stop_drop_path(model) -> None:
    """Each framework draws its random numbers in its own way."""
    for module in model.modules():
        if type(module).__name__ == "DropPath":
            module.rate = 0.0


def _seeded_weights(model, seed: int) -> dict[str, np.ndarray]:
    return {name: deterministic.weights(name, tuple(value.shape), seed)
            for name, value in model.state_dict().items() if not name.endswith("num_batches_tracked")}


@dataclass(frozen=True)
class _NetworkTask:
    """A batch of synthetic images, and a network with weights seeded by their names or, if not, random."""

    network: str
    batch: int
    size: int
    seeded_weights: bool = True
    passes: ClassVar[int]  # how often all products of the network are made
    calls_compared: ClassVar[int]  # of which the outputs are

    def __str__(self) -> str:
        return f"{self.network}, batch {self.batch}"

    def gmac(self) -> float:
        """Multiplications of a call in 1e9, as if in proportion to pixels; those of attention grow faster."""
        per_image = GMAC[self.network] * (self.size / COUNTED_SIZE) ** 2
        return self.passes * self.batch * per_image

    def jittor_network(self):
        """The network in Jittor, without DropPath."""
        from lib import build_model

        return self._prepared(build_model(self.network), seed_jittor)

    def torch_network(self, torch: Torch):
        """The same in PyTorch, on its device."""
        from jittor_pranet.reference_torch import build_torch_model

        return self._prepared(build_torch_model(self.network), seed_torch).to(torch.device)

    def _prepared(self, model, seed: Callable):
        if self.seeded_weights:
            seed(model)
        stop_drop_path(model)
        return model

    def images(self) -> np.ndarray:
        return deterministic.images(self.batch, self.size)

    def masks(self) -> np.ndarray:
        return deterministic.masks(self.batch, self.size)


class Inference(_NetworkTask):
    """Images on the host to the map that is tested with on the host, without gradients."""

    passes, calls_compared = 1, 1

    def in_jittor(self, jittor: Jittor) -> Callable[[], list]:
        jt, model, images = jittor.jt, self.jittor_network(), self.images()
        model.eval()
        model.fuse()

        def work():
            with jt.no_grad():
                return [model.final_logits(model(jt.array(images))).numpy()]
        return work

    def in_torch(self, torch: Torch) -> Callable[[], list]:
        model, images = self.torch_network(torch).eval(), self.images()
        merged = torch.compile(lambda images: model.final_logits(model(images)))

        def work():
            with torch.torch.inference_mode():
                return [merged(torch.tensor(images)).cpu().numpy()]
        return work


class TrainingStep(_NetworkTask):
    """Images and masks on the host to moved weights and the loss.

    The loss of the second call shows what the first one made of the weights. Nobody waits for it before the
    next step, as in training: a GPU computes a step while the next one is planned.
    """

    unit_s = 0.5  # several steps, where a GPU makes them
    passes, calls_compared = 3, 2  # the products of forward, of the inputs' gradients, of the weights'

    def in_jittor(self, jittor: Jittor) -> Callable[[], list]:
        from lib.optimizer import Adam, trainable_parameters

        jt, model, batch = jittor.jt, self.jittor_network(), (self.images(), self.masks())
        model.train()
        optimizer = Adam(trainable_parameters(model), CLIP)

        def work():
            images, masks = (jt.array(each).stop_grad() for each in batch)
            loss = sum(model.losses(model(images), masks))
            optimizer.step(loss, LR)
            jt.sync_all()
            return [loss]
        return work

    def in_torch(self, torch: Torch) -> Callable[[], list]:
        model, batch = self.torch_network(torch).train(), (self.images(), self.masks())
        loss_of = torch.compile(lambda images, masks: sum(model.losses(model(images), masks)))
        parameters = list(model.parameters())
        optimizer = torch.torch.optim.Adam(parameters, lr=LR, fused=True)

        def work():
            loss = loss_of(*map(torch.tensor, batch))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.torch.nn.utils.clip_grad_value_(parameters, CLIP)
            optimizer.step()
            return [loss.detach()]
        return work


def network_tasks(networks: list[str], batches: list[int], size: int, *kinds: type, **settings) -> list:
    """One of each kind for each network and batch size. Raises UserError: unknown network, or such a size."""
    for name in networks:
        find_network(name)
    check_size(size)
    return [kind(name, batch, size, **settings) for name in networks for batch in batches for kind in kinds]
