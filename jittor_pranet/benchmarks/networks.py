"""Times the networks: inference, or a training step, with the same weights and images everywhere."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from jittor_pranet.benchmarks.contest import (
    OURS,
    Contender,
    Failed,
    Outcome,
    check_opponents,
    compete,
    contenders,
    turns,
)
from jittor_pranet.benchmarks.frameworks import Jittor, Torch
from jittor_pranet.benchmarks.report import Report, print_header, print_row
from jittor_pranet.benchmarks.timing import paired_ratio, quartiles
from lib.catalog import check_size, find_network
from tests import drawn
from utils import backend
from utils.progress import Progress

LR, CLIP = 1e-4, 0.5
GMAC = {"Res2Net50-v1b": 13.0, "PVTv2-B2": 12.05}  # of an image of 352x352, by encoder
COUNTED_AT = 352
TRAINING = 3  # a training step has the products of forward, gradient of inputs, gradient of weights


@dataclass(frozen=True)
class Inference:
    """Images on the host to the merged map on the host, without gradients."""

    network: str
    batch: int
    size: int
    passes: ClassVar[int] = 1

    def __str__(self) -> str:
        return f"{self.network}, batch {self.batch}"

    def in_jittor(self, jittor: Jittor) -> Callable[[], list]:
        jt, model = jittor.jt, _network(self.network)
        model.eval()
        images = drawn.images(self.batch, self.size)

        def work():
            with jt.no_grad():
                return [model.merge(model(jt.array(images))).numpy()]
        return work

    def in_torch(self, torch: Torch) -> Callable[[], list]:
        model = _twin(self.network, torch).eval()
        merged = torch.compile(lambda images: model.merge(model(images)))
        images = drawn.images(self.batch, self.size)

        def work():
            with torch.torch.inference_mode():
                return [merged(torch.tensor(images)).cpu().numpy()]
        return work


@dataclass(frozen=True)
class TrainingStep:
    """Images and masks on the host to the loss on the host and moved weights; DropPath is off."""

    network: str
    batch: int
    size: int
    passes: ClassVar[int] = TRAINING

    def __str__(self) -> str:
        return f"training {self.network}, batch {self.batch}"

    def in_jittor(self, jittor: Jittor) -> Callable[[], list]:
        from lib.optimizer import Adam, trainable_parameters

        jt, model = jittor.jt, _network(self.network)
        model.train()
        optimizer = Adam(trainable_parameters(model), CLIP)
        batch = self._batch()

        def work():
            images, masks = map(jt.array, batch)
            loss = sum(model.losses(model(images), masks))
            optimizer.step(loss, LR)
            jt.sync_all()
            return [loss.numpy()]
        return work

    def in_torch(self, torch: Torch) -> Callable[[], list]:
        model = _twin(self.network, torch).train()
        loss_of = torch.compile(lambda images, masks: sum(model.losses(model(images), masks)))
        parameters = list(model.parameters())
        optimizer = torch.torch.optim.Adam(parameters, lr=LR, fused=True)
        batch = self._batch()

        def work():
            loss = loss_of(*map(torch.tensor, batch))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.torch.nn.utils.clip_grad_value_(parameters, CLIP)
            optimizer.step()
            return [loss.item()]
        return work

    def _batch(self) -> tuple[np.ndarray, np.ndarray]:
        return drawn.images(self.batch, self.size), drawn.masks(self.batch, self.size)


def _network(name: str):
    """Ours, with weights drawn from their names."""
    from lib import build_model
    from lib.pvt_v2 import DropPath
    from utils.checkpoint import load_weights

    model = build_model(name)
    load_weights(model, {key: drawn.weights(key, tuple(value.shape))
                         for key, value in model.state_dict().items()})
    for module in model.modules():
        if isinstance(module, DropPath):
            module.rate = 0.0
    return model


def _twin(name: str, torch: Torch):
    """The same in PyTorch."""
    from tests.reference_torch import build_torch_model

    model = build_torch_model(name)
    model.load_state_dict({key: torch.torch.from_numpy(drawn.weights(key, tuple(value.shape)))
                           for key, value in model.state_dict().items() if value.is_floating_point()})
    for module in model.modules():
        if hasattr(module, "rate"):
            module.rate = 0.0
    return model.to(torch.device)


# ---------------------------------------------------------------- the floor


@dataclass(frozen=True)
class Product:
    """A product of two square float32 matrices, which no network can outdo."""

    side: int

    def __str__(self) -> str:
        return f"product of {self.side}x{self.side} matrices"

    def in_jittor(self, jittor: Jittor) -> Callable[[], list]:
        first, second = (jittor.jt.array(each) for each in self._factors())
        return lambda: [jittor.jt.matmul(first, second).sync()]

    def in_torch(self, torch: Torch) -> Callable[[], list]:
        first, second = map(torch.tensor, self._factors())
        return lambda: [first @ second]

    def _factors(self) -> list[np.ndarray]:
        return [drawn.stream(name).normal(size=(self.side, self.side)).astype(np.float32) for name in "ab"]


def product_rate(started: dict[str, Contender], device: str, rounds: int) -> float:
    """GMAC per second of the quickest contender."""
    task = Product(8192 if device == "cuda" else 2048)
    rates = []
    for contender in started.values():
        try:
            contender.ask("begin", task)
            rates.append(task.side**3 / 1e9 / min(contender.ask("time") for _ in range(rounds)))
        except Failed:  # what it has to do with the networks is in the table
            continue
    return max(rates, default=float("nan"))


# ---------------------------------------------------------------- the comparison


def run(args: argparse.Namespace) -> int:
    for name in args.model_type:
        find_network(name)
    check_size(args.testsize)
    check_opponents(args.against)
    device = backend.choose_device(args.device)
    names = [OURS, *args.against]
    kind = {"infer": Inference, "train": TrainingStep}[args.what]
    tasks = [kind(name, batch, args.testsize) for name in args.model_type for batch in args.bs]
    report = Report(args.json, device, {"what": args.what, "size": args.testsize, "device": device,
                                        "rounds": args.rounds, "precision": _precision(device, args.tf32)})
    rate, failed = None, False
    with Progress(len(tasks) * turns(len(names), args.rounds), "timing", "turn") as progress:
        for task in tasks:
            with contenders(names, device, args.tf32) as started:
                outcomes = compete(started, task, args.rounds, progress)
                if rate is None:
                    _introduce(report, started)
                    rate = report.content["gmac_per_s"] = product_rate(started, device, args.rounds)
                    print_header(*HEADER)
            floor = task.passes * GMAC[find_network(task.network).encoder] * task.batch / rate
            floor *= (task.size / COUNTED_AT) ** 2
            report.row(_entry(task, outcomes, floor))
            _print_rows(task, outcomes, floor, rate)
            failed |= any(outcome.failure for outcome in outcomes.values())
    report.complete()
    return int(failed)


def _precision(device: str, tf32: bool) -> str:
    return "float32, TF32 in convolutions" if device == "cuda" and tf32 else "float32"


def _introduce(report: Report, started: dict[str, Contender]) -> None:
    for name, contender in started.items():
        try:
            report.contender(name, contender.ask("describe"))
        except Failed as failure:
            report.contender(name, {"failure": str(failure)})


def _entry(task, outcomes: dict[str, Outcome], floor: float) -> dict:
    return {"network": task.network, "batch": task.batch, "floor_seconds": floor,
            "contenders": {name: outcome.as_json(outcomes[OURS]) for name, outcome in outcomes.items()}}


HEADER = ("network", "batch", "program", "ms per image", "quartiles", "ours takes", "peak MiB", "ours needs",
          "differs by", "warm-up s")


def _print_rows(task, outcomes: dict[str, Outcome], floor: float, rate: float) -> None:
    ours = outcomes[OURS]
    milliseconds = 1e3 / task.batch
    for name, outcome in outcomes.items():
        if outcome.failure:
            print_row(task.network, str(task.batch), name, outcome.failure, *[""] * (len(HEADER) - 4))
            continue
        low, median, high = (f"{milliseconds * seconds:.4g}" for seconds in quartiles(outcome.seconds))
        takes = needs = differs = ""
        if name != OURS and not ours.failure:
            takes = f"{paired_ratio(ours.seconds, outcome.seconds):.2f}x"
            needs = f"{ours.peak / outcome.peak:.2f}x"
            differs = ", ".join(f"{each:.0e}" for each in _compared(ours.differences(outcome), task))
        print_row(task.network, str(task.batch), name, median, f"{low} to {high}", takes,
                  f"{outcome.peak / 2**20:.0f}", needs, differs, f"{outcome.warm_up.seconds:.1f}")
    takes = "" if ours.failure else f"{ours.median / floor:.2f}x"
    print_row(task.network, str(task.batch), f"floor: products at {rate:.0f} GMAC/s",
              f"{milliseconds * floor:.4g}", "", takes, *[""] * (len(HEADER) - 6))


def _compared(differences: list[float], task) -> list[float]:
    """The maps of one call, or the losses of two steps, the second of which shows the first one's update."""
    return differences if isinstance(task, TrainingStep) else differences[:1]
