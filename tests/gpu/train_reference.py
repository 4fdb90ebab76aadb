"""Trains the PyTorch network on CUDA as `train` trains ours: same flags, initial weights and batches.

Goes on where a run in the same folder stopped. DropPath draws other numbers.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F

from jittor_pranet.reference_torch import build_torch_model
from jittor_pranet.train import add_arguments
from jittor_pranet.training.binary import SCALES, scaled_sizes
from jittor_pranet.training.logs import StepLog
from jittor_pranet.training.options import Config, new_config
from jittor_pranet.training.trainer import learning_rate
from utils.checkpoint import read_weights, save_arrays
from utils.data.polyps import TrainSet, batches_per_epoch, epoch_batches
from utils.runtime import collectives
from utils.signals import Interruption

TOGETHER = 20  # steps whose losses are fetched at once, as the published code prints them: no GPU waits
COLUMNS = ("step", "epoch", "size", "lr", "loss", "seconds", "images_per_s")


class ReferenceTrainer:
    def __init__(self, config: Config, folder: Path, device: str):
        self.config, self.folder, self.device = config, folder, device
        folder.mkdir(parents=True, exist_ok=True)
        # The same arithmetic as ours: float32 throughout.
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.benchmark = True
        torch.manual_seed(config.seed)
        self.model = build_torch_model(config.model_type).to(device).train()
        self.optimizer = torch.optim.Adam(self.model.parameters())
        self.steps, self.rows, self.since = 0, [], 0.0
        self._load()
        self.log = StepLog(folder / "log.csv", COLUMNS, self.steps)

    def _load(self) -> None:
        if (self.folder / "state.pt").exists():
            state = torch.load(self.folder / "state.pt", map_location=self.device, weights_only=True)
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.steps = state["steps"]
            return
        weights = {name: torch.from_numpy(value) for name, value in read_weights(self.config.weights).items()}
        differ = self.model.load_state_dict(weights, strict=False)
        assert not differ.unexpected_keys
        assert all(name.endswith("num_batches_tracked") for name in differ.missing_keys)

    def save(self) -> None:
        self.record()
        state = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(),
                 "steps": self.steps}
        torch.save(state, self.folder / "state.part")
        (self.folder / "state.part").replace(self.folder / "state.pt")
        weights = {name: value.cpu().numpy() for name, value in state["model"].items()
                   if not name.endswith("num_batches_tracked")}
        save_arrays(weights, self.folder / "last.npz", {"model_type": self.config.model_type})

    def run(self) -> None:
        """To the end or to a signal, and saves."""
        config = self.config
        train_set = TrainSet(config.train_path, config.trainsize, in_memory=True)
        epoch_steps = batches_per_epoch(train_set, config.batchsize) * len(SCALES)
        sizes = scaled_sizes(config.trainsize)
        total = min(config.epochs * epoch_steps, config.max_steps or config.epochs * epoch_steps)
        with Interruption() as interruption:
            while self.steps < total and not collectives.any_signal(interruption):
                epoch, done = divmod(self.steps, epoch_steps)
                batch, scale = divmod(done, len(SCALES))
                batches = epoch_batches(train_set, config.batchsize, config.seed, epoch, 2, batch)
                for images, masks, _ in batches:
                    for size in sizes[scale:]:
                        if self.steps < total and not collectives.any_signal(interruption):
                            self.step(images, masks, size, epoch)
                    scale = 0
                    if collectives.any_signal(interruption):
                        break
        self.save()

    def step(self, images, masks, size: int, epoch: int) -> None:
        if not self.rows:
            self.since = time.perf_counter()
        rate, count = learning_rate(self.config, epoch, self.steps), len(images)
        images, masks = (F.interpolate(torch.from_numpy(batch).to(self.device), (size, size), mode="bilinear",
                                       align_corners=True) for batch in (images, masks))
        loss = sum(self.model.losses(self.model(images), masks))
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_value_(self.model.parameters(), self.config.clip)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.steps += 1
        self.rows.append({"step": self.steps, "epoch": epoch + 1, "size": size, "lr": rate,
                          "loss": loss.detach(), "images_per_s": count})
        if len(self.rows) == TOGETHER:
            self.record()

    def record(self) -> None:
        """Logs the steps that are not yet, at the mean of their times."""
        losses = [row["loss"].item() for row in self.rows]
        seconds = (time.perf_counter() - self.since) / max(len(self.rows), 1)
        for row, loss in zip(self.rows, losses):
            self.log.record(**{**row, "loss": loss, "seconds": seconds,
                               "images_per_s": row["images_per_s"] / seconds})
        if self.rows:
            print(f"step {self.steps}: loss {losses[-1]:.3f}, {seconds:.3g} s a step", flush=True)
        self.rows = []


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser)
    args = parser.parse_args(argv)
    device = "cpu" if args.device == "cpu" else "cuda"
    ReferenceTrainer(new_config(vars(args)), Path(args.train_save), device).run()


if __name__ == "__main__":
    main(sys.argv[1:])
