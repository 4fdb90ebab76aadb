"""Trains a network by the published protocol."""

from __future__ import annotations

import argparse
import hashlib
import math
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np

from jittor_pranet.options import prepare_device
from jittor_pranet.training.augmentation import augment
from jittor_pranet.training.board import Board
from jittor_pranet.training.logs import Log
from jittor_pranet.training.options import (
    Config,
    add_arguments,
    new_config,
    resumed_config,
    saved_config,
)
from jittor_pranet.training.pictures import write_curves, write_samples
from jittor_pranet.training.snapshot import (
    BEST,
    BEST_AVERAGE,
    LAST,
    STATE,
    Position,
    Snapshot,
    mend_derived,
    open_folder,
    read_snapshot,
    restore,
    write_best,
    write_snapshot,
)
from jittor_pranet.training.validation import Sample, find_selection, mean_dice
from utils import backend, processes
from utils.checkpoint import load_encoder_weights, load_weights
from utils.dataset import TrainSet, batches_per_epoch, epoch_batches
from utils.errors import UserError
from utils.image_io import Pair
from utils.interruption import Interruption
from utils.processes import Share
from utils.progress import Progress

__all__ = ["add_arguments", "run", "scaled_sizes"]

SCALES = (0.75, 1.0, 1.25)  # each batch makes one optimizer step at each
LOG, EPOCH_LOG = "log.csv", "epochs.csv"
CANDIDATES = {"val_mDice": BEST, "ema_mDice": BEST_AVERAGE}  # columns of the log, files of the best
AUGMENTATION = 2  # tells its random numbers from those of the order and the split


def run(args: argparse.Namespace) -> int:
    folder, snapshot = find_run(args)
    config = resumed_config(args, snapshot.config, str(snapshot.source)) if snapshot else new_config(args)
    if config.select_on_test and processes.is_first():
        print("warning: --select_on_test chooses best.npz on test sets, whose figures then say too much; "
              "--val_fraction is the honest way", file=sys.stderr)
    train_set = TrainSet(config.train_path, config.trainsize, in_memory=args.cache == "ram")
    device = prepare_device(args)
    check_agreement(config, train_set, snapshot)
    board = None
    if processes.is_first():
        open_folder(folder)
        board = Board(folder / "tensorboard") if args.tensorboard else None
    trainer = Trainer(config, folder, train_set, args.workers, snapshot, board)
    held = sum(map(len, trainer.selection.values()))
    print(f"{config.model_type}: {len(trainer.train_set)} pairs, {held} to choose the best weights on, "
          f"batches of {config.batchsize}, {trainer.total_steps} steps on {device}"
          + (f" in {processes.COUNT} processes" if processes.COUNT > 1 else ""))
    if snapshot:
        print(f"resumed after step {trainer.position.step}")
    code = trainer.run(args.save_every, args.save_steps)
    print(f"weights: {folder / LAST}")
    for file, dice in trainer.position.best.items():
        print(f"best {'weights' if file == BEST else 'average'}: {folder / file} (mDice {dice:.4f})")
    print(f"log: {folder / LOG}")
    processes.wait_for_all()  # mpirun ends the others as soon as one has left with a code
    return code


def find_run(args: argparse.Namespace) -> tuple[Path, Snapshot | None]:
    """The folder of the run and the snapshot to resume from, if any.

    Raises:
        UserError: the flags name no folder or two, a folder to resume holds no state, or that of a new run
            holds an earlier one.
    """
    resume, save = getattr(args, "resume", None), getattr(args, "train_save", None)
    if resume in (None, "auto") and save is None:
        raise UserError("--train_save is missing: the folder for the weights and logs")
    if resume not in (None, "auto"):
        folder = Path(resume).parent if Path(resume).name == STATE else Path(resume)
        if save is not None and Path(save).resolve() != folder.resolve():
            raise UserError(f"--train_save {save}: a resumed run goes on in its own folder, {folder}; "
                            "leave --train_save out")
        return folder, read_snapshot(folder)
    folder = Path(save)
    earlier = next((name for name in (STATE, LAST) if (folder / name).exists()), None)
    if resume == "auto":
        return folder, read_snapshot(folder) if earlier == STATE else None
    if earlier:
        raise UserError(f"{folder}: holds an earlier run ({earlier}); go on with it by --resume {folder}, or "
                        "choose another --train_save")
    return folder, None


def learning_rate(config: Config, epoch: int, step: int) -> float:
    """Of an epoch and a step of the whole run, both counted from 0.

    The published code multiplies by the decay again each epoch once it has begun.
    """
    rate = config.lr * config.decay_rate ** (epoch // config.decay_epoch)
    return rate * min((step + 1) / config.warmup_steps, 1.0) if config.warmup_steps else rate


def scaled_sizes(size: int) -> list[int]:
    """The sides of the three scales: multiples of 32 next to 0.75, 1 and 1.25 times ``size``."""
    return [max(round(size * scale / 32), 1) * 32 for scale in SCALES]


def fingerprint(pairs: list[Pair]) -> str:
    """Tells sets of other files apart: a digest of all stems and the files' sizes in bytes."""
    listed = [(pair.stem, pair.image.stat().st_size, pair.mask.stat().st_size) for pair in pairs]
    return hashlib.sha256(repr(listed).encode()).hexdigest()


def check_agreement(config: Config, train_set: TrainSet, snapshot: Snapshot | None) -> None:
    """Raises UserError where processes, on several machines perhaps, were given or see different things."""
    seen = {"flags": config, "training set": fingerprint(train_set.pairs),
            "snapshot to resume": snapshot and snapshot.position}
    for rank, others in enumerate(processes.gather(seen)):
        for name, value in others.items():
            if value != seen[name]:
                raise UserError(f"process {rank} has another {name} than process {processes.RANK}; give all "
                                "the same flags, and folders that they share")


class Trainer:
    """One run: network, optimizer, position and logs.

    An epoch, a batch of it and a scale make a step; the number of steps done says where the run stands.
    Many processes each compute their share of a batch and stay in step; the first of them writes.
    """

    def __init__(self, config: Config, folder: Path, train_set: TrainSet, workers: int,
                 snapshot: Snapshot | None, board: Board | None):
        self.config, self.folder, self.workers, self.board = config, folder, workers, board
        self.data = fingerprint(train_set.pairs)
        train_pairs, self.selection = find_selection(config, train_set.pairs)
        self.train_set = train_set = train_set.subset(train_pairs)
        self.epoch_steps = batches_per_epoch(train_set, config.batchsize) * len(SCALES)
        self.total_steps = min(config.epochs * self.epoch_steps, config.max_steps or math.inf)
        self._build(fresh=snapshot is None)
        self.position = Position()
        if snapshot:
            self._restore(snapshot)
        processes.take_from_first([variable for part in self.parts().values() for variable in part.values()])
        backend.jt.sync_all()  # a step on values that are still to be computed would sum in another order
        self.first_step = self.position.step  # of this process: kernels are compiled in the steps after it
        self.losses = ["loss", *(f"map{stage}" for stage in self.model.decoder.stages)]
        self.judged = [column for column in CANDIDATES if column != "ema_mDice" or self.average]
        if processes.is_first():
            columns = ("step", "epoch", "size", "lr", *self.losses, "seconds", "images_per_s")
            self.log = Log(folder / LOG, columns, self.position.step)
            columns = ("step", "epoch", "lr", *self.losses, *self.judged, "seconds")
            self.epoch_log = Log(folder / EPOCH_LOG, columns, self.position.ended)

    def _build(self, fresh: bool) -> None:
        """Network and optimizer; the weights to start from are read in a ``fresh`` run only."""
        from lib import build_model
        from lib.optimizer import Adam, Average, trainable_parameters

        config = self.config
        backend.jt.set_global_seed(config.seed)
        self.model = build_model(config.model_type)
        if fresh and config.backbone_weights:
            load_encoder_weights(self.model.encoder, config.backbone_weights)
        if fresh and config.weights:
            load_weights(self.model, config.weights)
        self.model.decoder.weighted_bce = config.weighted_bce
        self.model.train()
        backend.jt.sync_all()  # the weights are drawn now, in an order that no option changes
        self.optimizer = Adam(trainable_parameters(self.model), config.clip)
        self.average = Average(self.model, config.ema) if config.ema else None

    def _restore(self, snapshot: Snapshot) -> None:
        if snapshot.data != self.data:
            raise UserError(f"{self.config.train_path}: is not the set that the run of {snapshot.source} was "
                            "begun with; give that one as --train_path, or start a new run with --weights")
        restore(snapshot, self.parts())
        if processes.is_first():
            mend_derived(snapshot)
        self.position = snapshot.position
        self.optimizer.steps = self.position.step
        if self.average:
            self.average.steps = self.position.step

    def run(self, save_every: int, save_steps: int | None) -> int:
        """Trains to the end or to a signal, saves, and returns the exit code."""
        if self.position.ended >= self.total_steps:
            return 0
        first, last = self.position.ended // self.epoch_steps, math.ceil(self.total_steps / self.epoch_steps)
        with Interruption() as interruption, \
                Progress(self.total_steps, "training", "step", self.position.step) as progress:
            for epoch in range(first, last):
                for row in self.train_epoch(epoch):
                    if processes.is_first():
                        self.record(self.log, row)
                    progress.step(note=self.note(row))
                    if interruption.agree():
                        self.save()
                        return interruption.exit_code
                    if save_steps and self.position.step % save_steps == 0:
                        self.save()
                if not self.end_epoch(epoch, interruption):
                    self.save()
                    return interruption.exit_code
                if (epoch + 1) % save_every == 0 or epoch + 1 == last:
                    self.save()
        return 0

    def record(self, log: Log, row: dict) -> None:
        log.add(**row)
        if self.board:
            self.board.add(log.path.stem, row["step"], row)

    def note(self, row: dict) -> str:
        losses = " ".join(f"{name} {row[name]:.3f}" for name in self.losses)
        return f"epoch {row['epoch']}/{self.config.epochs}, {losses}, {row['images_per_s']:.3g} images/s"

    def train_epoch(self, epoch: int):
        """Makes the steps of an epoch that are left to do; yields the row of the log for each."""
        first_batch, first_scale = divmod(self.position.step - epoch * self.epoch_steps, len(SCALES))
        config = self.config
        sizes = scaled_sizes(config.trainsize)
        batches = epoch_batches(self.train_set, config.batchsize, config.seed, epoch, self.workers,
                                first_batch)
        for number, (images, masks, stems) in enumerate(batches, first_batch):
            share = processes.share_of(len(stems))
            if config.flips or config.turns:
                rng = np.random.default_rng([config.seed, epoch, number, AUGMENTATION])
                images, masks = augment(images, masks, rng, share, config.flips, config.turns)
            for size in sizes[first_scale:]:
                if self.position.step >= self.total_steps:
                    return
                start = time.perf_counter()
                lr = learning_rate(config, epoch, self.position.step)
                losses = self.step(images, masks, share, size, lr)
                if not all(map(math.isfinite, losses)):
                    raise UserError(f"the loss of step {self.position.step + 1} is {sum(losses)} on "
                                    f"{', '.join(stems)}; lower --lr, or look at these images and masks. The "
                                    f"last snapshot in {self.folder} is of before")
                seconds = time.perf_counter() - start
                self.position.step += 1
                yield {"step": self.position.step, "epoch": epoch + 1, "size": size, "lr": lr,
                       **dict(zip(self.losses, (sum(losses), *losses))),
                       "seconds": round(seconds, 4), "images_per_s": round(len(stems) / seconds, 2)}
            first_scale = 0

    def step(self, images: np.ndarray, masks: np.ndarray, share: Share, size: int, lr: float) -> list[float]:
        """One optimizer step on this share of a batch at one scale; returns the batch's loss of each map."""
        from lib.ops import resize_bilinear

        jt = backend.jt
        np.random.seed(np.random.SeedSequence([self.config.seed, self.position.step]).generate_state(4))
        new_size = self.position.step - self.first_step < len(SCALES)
        with backend.compiling(f"step {self.position.step + 1}") if new_size else nullcontext(), \
                processes.sharing(share):
            images, masks = (resize_bilinear(jt.array(batch), (size, size), align_corners=True).stop_grad()
                             for batch in (images, masks))
            losses = [loss * share.fraction for loss in self.model.losses(self.model(images), masks)]
            self.optimizer.step(sum(losses), lr)
            jt.sync_all()  # as above: each step begins with nothing left to do, after a resume as well
            if self.average:
                self.average.step()
                jt.sync_all()
            own = [loss.item() for loss in losses]
        return [sum(parts) for parts in zip(*processes.gather(own))]

    def end_epoch(self, epoch: int, interruption: Interruption) -> bool:
        """Measures, keeps the best weights, logs and draws; False if a signal came in between."""
        start, measured = time.perf_counter(), {}
        for column in self.judged if self.selection else ():
            with self.average.in_place() if column == "ema_mDice" else nullcontext():
                measured[column] = self.measure(column, interruption)
            if measured[column] is None:
                return False
        if processes.is_first():
            self.report(epoch, measured, time.perf_counter() - start)
        self.position.ended = self.position.step
        return True

    def measure(self, column: str, interruption: Interruption) -> tuple[float, list[Sample]] | None:
        """mDice of the network as it is, and samples; None if a signal came.

        Keeps the weights if they are the best of this ``column``.
        """
        with backend.compiling("validation"):
            measured = mean_dice(self.model, self.selection, self.config, interruption)
        file = CANDIDATES[column]
        if measured and measured[0] > self.position.best.get(file, -math.inf):
            self.position.best[file] = measured[0]
            if processes.is_first():
                write_best(self.folder / file, self.model, measured[0], self.position.step,
                           saved_config(self.config))
        return measured

    def report(self, epoch: int, measured: dict[str, tuple[float, list[Sample]]], seconds: float) -> None:
        """Logs and draws an epoch, which was ``measured`` for ``seconds``."""
        dice = dict.fromkeys(self.judged)
        for column, (figure, samples) in measured.items():
            dice[column] = figure
            if CANDIDATES[column] == BEST:
                write_samples(self.folder / "samples.png", samples,
                              f"step {self.position.step}, mDice {figure:.4f} of all")
        rows = [row for row in self.log.rows if row["epoch"] == epoch + 1]
        means = {name: sum(row[name] for row in rows) / len(rows) for name in self.losses}
        seconds += sum(row["seconds"] for row in rows)
        self.record(self.epoch_log, {"step": self.position.step, "epoch": epoch + 1, "lr": rows[-1]["lr"],
                                     **means, **dice, "seconds": round(seconds, 1)})
        write_curves(self.folder / "curves.png", self.log.rows, self.epoch_log.rows)

    def save(self) -> None:
        """Writes a snapshot, which every process waits for."""
        if processes.is_first():
            write_snapshot(self.folder, self.parts(), self.position, saved_config(self.config), self.data)
        processes.wait_for_all()

    def parts(self) -> dict[str, dict]:
        """All variables that a snapshot holds, by kind and published name."""
        weights = self.model.state_dict()
        names = {id(value): name for name, value in weights.items()}
        trained = [names[id(value)] for value in self.optimizer.parameters]
        parts = {"weights": weights, "mean": dict(zip(trained, self.optimizer.means)),
                 "square": dict(zip(trained, self.optimizer.squares))}
        return {**parts, "average": self.average.values} if self.average else parts
