"""What networks are timed at, inference and a training step: on the same weights and images everywhere."""

from __future__ import annotations

import argparse
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


@dataclass(frozen=True)
class _NetworkTask:
    """A batch of drawn images, a network with weights drawn from their names or, if not, fresh ones."""

    network: str
    batch: int
    size: int
    drawn_weights: bool = True
    passes: ClassVar[int]  # how often all products of the network are made
    calls_compared: ClassVar[int]  # of which the outputs are

    def __str__(self) -> str:
        return f"{self.network}, batch {self.batch}"

    def gmac(self) -> float:
        """Multiplications of a call in 1e9, as if in proportion to pixels; those of attention grow faster."""
        per_image = GMAC[self.network] * (self.size / COUNTED_SIZE) ** 2
        return self.passes * self.batch * per_image

    def our_network(self):
        """Without DropPath, whose draws differ."""
        from lib import build_model
        from lib.encoders.pvt_v2 import DropPath
        from utils.checkpoint import load_weights

        model = build_model(self.network)
        if self.drawn_weights:
            shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
            load_weights(model, {name: deterministic.weights(name, shape) for name, shape in shapes.items()})
        for module in model.modules():
            if isinstance(module, DropPath):
                module.rate = 0.0
        return model

    def reference(self, torch: Torch):
        """The same in PyTorch, on its device."""
        from jittor_pranet.reference_torch import build_torch_model
        from jittor_pranet.reference_torch.pvt_v2 import DropPath

        model = build_torch_model(self.network)
        if self.drawn_weights:
            shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()
                      if value.is_floating_point()}
            model.load_state_dict({name: torch.torch.from_numpy(deterministic.weights(name, shape))
                                   for name, shape in shapes.items()})
        for module in model.modules():
            if isinstance(module, DropPath):
                module.rate = 0.0
        return model.to(torch.device)

    def images(self) -> np.ndarray:
        return deterministic.images(self.batch, self.size)

    def masks(self) -> np.ndarray:
        return deterministic.masks(self.batch, self.size)


class Inference(_NetworkTask):
    """Images on the host to the map that is tested with on the host, without gradients."""

    passes, calls_compared = 1, 1

    def in_jittor(self, jittor: Jittor) -> Callable[[], list]:
        jt, model, images = jittor.jt, self.our_network(), self.images()
        model.eval()
        model.fuse()

        def work():
            with jt.no_grad():
                return [model.final_logits(model(jt.array(images))).numpy()]
        return work

    def in_torch(self, torch: Torch) -> Callable[[], list]:
        model, images = self.reference(torch).eval(), self.images()
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

        jt, model, batch = jittor.jt, self.our_network(), (self.images(), self.masks())
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
        model, batch = self.reference(torch).train(), (self.images(), self.masks())
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


def network_tasks(args: argparse.Namespace, *kinds: type, **settings) -> list:
    """One of each kind for each network and batch size. Raises UserError: unknown network, or such a size."""
    for name in args.model_type:
        find_network(name)
    check_size(args.testsize)
    return [kind(name, batch, args.testsize, **settings)
            for name in args.model_type for batch in args.bs for kind in kinds]
