"""Trains a network by the published protocol."""

from __future__ import annotations

import argparse
import csv
import math
import time
from contextlib import nullcontext
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from jittor_pranet.options import positive, whole
from lib.catalog import NETWORKS, check_size, find_network
from utils import backend
from utils.checkpoint import load_encoder_weights, load_weights, save_weights
from utils.dataset import WORKERS, TrainSet, batches_per_epoch, epoch_batches
from utils.errors import UserError
from utils.interruption import Interruption
from utils.progress import Progress

SCALES = (0.75, 1.0, 1.25)  # each batch makes one optimizer step at each


@dataclass(frozen=True)
class Config:
    """All that decides the outcome of a training; written into every snapshot."""

    model_type: str
    train_path: str
    trainsize: int
    batchsize: int
    epoch: int
    lr: float
    clip: float
    decay_rate: float
    decay_epoch: int
    seed: int
    published_epochs: bool
    weighted_bce: bool
    max_steps: int | None
    backbone_weights: str | None
    weights: str | None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    default = argparse.SUPPRESS  # of options whose help says it
    parser.add_argument("--model_type", default="PraNet-V2", metavar="NAME",
                        help=f"one of {', '.join(NETWORKS)}")
    parser.add_argument("--train_path", required=True, metavar="DIR", default=default,
                        help="folder with images/ and masks/, paired by the files' stems")
    parser.add_argument("--train_save", required=True, metavar="DIR", default=default,
                        help="new folder for last.npz (the weights) and log.csv")
    parser.add_argument("--epoch", type=whole(1), default=default, help="epochs (published: V1 20, V2 30)")
    parser.add_argument("--batchsize", type=whole(1), default=default,
                        help="images in a batch (published: V1 16, V2 8)")
    parser.add_argument("--trainsize", type=int, default=352, help="side of the training images in pixels")
    parser.add_argument("--lr", type=positive, default=1e-4, help="learning rate of Adam")
    parser.add_argument("--clip", type=positive, default=0.5, help="gradients are clamped to [-CLIP, CLIP]")
    parser.add_argument("--decay_rate", type=positive, default=0.1, help="factor of lr at each decay")
    parser.add_argument("--decay_epoch", type=whole(1), default=50, help="epochs between two decays")
    parser.add_argument("--max_steps", type=whole(1), default=None, metavar="N",
                        help="stop after N optimizer steps; each batch makes three")
    parser.add_argument("--save_every", type=whole(1), default=1, metavar="N",
                        help="epochs between snapshots")
    parser.add_argument("--backbone_weights", default=None, metavar="FILE",
                        help="ImageNet weights of the encoder")
    parser.add_argument("--weights", default=None, metavar="FILE",
                        help="weights of the whole network to start from")
    parser.add_argument("--seed", type=whole(0), default=0, help="of the initial weights and the shuffling")
    parser.add_argument("--workers", type=whole(1), default=WORKERS, help="threads that read images ahead")
    parser.add_argument("--published_epochs", action="store_true",
                        help="run one epoch less than --epoch, as the published script does")
    parser.add_argument("--weighted_bce", action="store_true",
                        help="V1: weight the BCE, which the published code means to and does not")
    backend.add_device_argument(parser)


def run(args: argparse.Namespace) -> int:
    config = make_config(args)
    folder = new_folder(args.train_save)
    train_set = TrainSet(config.train_path, config.trainsize)
    device = backend.prepare(args.device)
    trainer = Trainer(config, folder, train_set, args.workers)
    print(f"{config.model_type}: {len(train_set)} pairs, batches of {config.batchsize}, "
          f"{trainer.total_steps} steps on {device}")
    code = trainer.run(args.save_every)
    print(f"weights: {trainer.snapshot_path}\nlog: {trainer.log_path}")
    return code


def make_config(args: argparse.Namespace) -> Config:
    network = find_network(args.model_type)
    check_size(args.trainsize)
    if args.weighted_bce and network.decoder != "RA":
        raise UserError("--weighted_bce: only V1 networks have an unweighted BCE; leave it out")
    if args.published_epochs and getattr(args, "epoch", network.epochs) == 1:
        raise UserError("--published_epochs --epoch 1: leaves no epoch to run; take --epoch 2")
    values = {"epoch": network.epochs, "batchsize": network.batch_size, **vars(args)}
    return Config(**{field.name: values[field.name] for field in fields(Config)})


def new_folder(path: str) -> Path:
    """Makes the folder for a run. Raises UserError rather than write over an earlier one."""
    folder = Path(path)
    if (folder / "last.npz").exists():
        raise UserError(f"{folder}: holds the weights of an earlier run (last.npz); choose another "
                        "--train_save")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot be made ({error.strerror}); choose another folder") from error
    return folder


def learning_rate(config: Config, epoch: int) -> float:
    """Of an epoch counted from 0. The published code multiplies again each epoch once decay has begun."""
    return config.lr * config.decay_rate ** (epoch // config.decay_epoch)


def scaled_sizes(size: int) -> list[int]:
    """The sides of the three scales: multiples of 32 next to 0.75, 1 and 1.25 times ``size``."""
    return [max(round(size * scale / 32), 1) * 32 for scale in SCALES]


class Trainer:
    """Network, optimizer and position of one run."""

    def __init__(self, config: Config, folder: Path, train_set: TrainSet, workers: int):
        from lib import build_model
        from lib.optimizer import Adam, trainable_parameters

        self.config, self.train_set, self.workers = config, train_set, workers
        self.snapshot_path, self.log_path = folder / "last.npz", folder / "log.csv"
        self.epochs = config.epoch - int(config.published_epochs)
        self.total_steps = self.epochs * batches_per_epoch(train_set, config.batchsize) * len(SCALES)
        if config.max_steps is not None:
            self.total_steps = min(self.total_steps, config.max_steps)
        backend.jt.set_global_seed(config.seed)
        self.model = build_model(config.model_type)
        if config.backbone_weights:
            load_encoder_weights(self.model.encoder, config.backbone_weights)
        if config.weights:
            load_weights(self.model, config.weights)
        self.model.decoder.weighted_bce = config.weighted_bce
        self.model.train()
        self.optimizer = Adam(trainable_parameters(self.model), config.clip)

    def run(self, save_every: int) -> int:
        """Trains to the end or to a signal, saves, and returns the exit code."""
        with Interruption() as interruption, open(self.log_path, "w", newline="", buffering=1) as log, \
                Progress(self.total_steps, "training", "step") as progress:
            rows = csv.writer(log)
            rows.writerow(["step", "epoch", "size", "lr", "loss", "seconds"])
            for epoch in range(self.epochs):
                for row in self.train_epoch(epoch):
                    rows.writerow(row)
                    progress.step(note=f"loss {row[4]:.4f}")
                    if interruption.signal or self.optimizer.steps == self.total_steps:
                        self.save(epoch)
                        return interruption.exit_code
                if (epoch + 1) % save_every == 0:
                    self.save(epoch)
        raise AssertionError("the last step of the last epoch returns")

    def train_epoch(self, epoch: int):
        """Makes the steps of an epoch; yields the row of the log for each."""
        lr = learning_rate(self.config, epoch)
        batches = epoch_batches(self.train_set, self.config.batchsize, self.config.seed, epoch, self.workers)
        for images, masks, stems in batches:
            for size in scaled_sizes(self.config.trainsize):
                start = time.perf_counter()
                loss = self.step(images, masks, size, lr)
                if not math.isfinite(loss):
                    raise UserError(f"the loss of step {self.optimizer.steps} is {loss} on "
                                    f"{', '.join(stems)}; lower --lr, or look at these images and masks")
                yield [self.optimizer.steps, epoch + 1, size, lr, loss, round(time.perf_counter() - start, 4)]

    def step(self, images, masks, size: int, lr: float) -> float:
        """One optimizer step on a batch at one scale; returns its loss, summed over the maps."""
        from lib.ops import resize_bilinear

        first = self.optimizer.steps < len(SCALES)
        with backend.compiling(f"step {self.optimizer.steps + 1}") if first else nullcontext():
            images, masks = (resize_bilinear(backend.jt.array(batch), (size, size), align_corners=True)
                             for batch in (images, masks))
            loss = sum(self.model.losses(self.model(images), masks))
            self.optimizer.step(loss, lr)
            return loss.item()

    def save(self, epoch: int) -> None:
        info = {**asdict(self.config), "step": self.optimizer.steps, "epochs_begun": epoch + 1}
        save_weights(self.model, self.snapshot_path, info)
