"""The training loop: steps, epochs, validation, logs and snapshots of one run."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from jittor_pranet.training.logs import StepLog
from jittor_pranet.training.options import Config
from jittor_pranet.training.pictures import write_curves
from jittor_pranet.training.snapshot import (
    BEST,
    BEST_AVERAGE,
    Position,
    Snapshot,
    mend_derived,
    restore,
    write_best,
    write_snapshot,
)
from jittor_pranet.training.task import Task, Validation
from jittor_pranet.training.tensorboard import TensorBoardLog
from utils import ranks
from utils.checkpoint import load_encoder_weights, load_weights
from utils.errors import UserError, printable
from utils.progress import Progress
from utils.runtime import backend, collectives
from utils.signals import Interruption

LOG, EPOCH_LOG, CURVES, SAMPLES = "log.csv", "epochs.csv", "curves.png", "samples.png"
BEST_FILES = {"val_mDice": BEST, "ema_mDice": BEST_AVERAGE}  # by the column of the log that chooses them


def learning_rate(config: Config, epoch: int, step: int) -> float:
    """Learning rate at a 0-based epoch and global step.

    The published code multiplies by the decay again each epoch once it has begun.
    """
    rate = config.lr * config.decay_rate ** (epoch // config.decay_epoch)
    return rate * min((step + 1) / config.warmup_steps, 1.0) if config.warmup_steps else rate


def _mean(values: list[float | None]) -> float | None:
    """The mean of what is there: a log may have been lost, or have had other columns."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


@dataclass(frozen=True)
class Step:
    """A step that a GPU may still be at work on; its losses are this rank's part."""

    number: int
    epoch: int
    size: int
    lr: float
    stems: list[str]
    losses: list


class Trainer:
    """One run: network, optimizer, position and logs.

    An epoch, a batch of it and a scale make a step; the number of steps done says where the run stands.
    Each rank computes its shard of a batch; rank 0 writes.
    """

    def __init__(self, config: Config, folder: Path, task: Task, workers: int,
                 snapshot: Snapshot | None, tensorboard: TensorBoardLog | None):
        self.config, self.folder, self.task, self.workers = config, folder, task, workers
        self.tensorboard = tensorboard
        self.epoch_steps = task.batches_per_epoch * len(task.sizes)
        self.total_steps = min(config.epochs * self.epoch_steps, config.max_steps or math.inf)
        self._build(fresh=snapshot is None)
        self.position, self.saved = Position(), snapshot is not None
        self.step: Step | None = None  # begun, and not yet ended
        self.last_end = 0.0
        if snapshot:
            self._restore(snapshot)
        collectives.broadcast_parameters([variable for part in self.parts().values()
                                          for variable in part.values()])
        backend.jt.sync_all()  # a step on values that are still to be computed would sum in another order
        self.first_step = self.position.step  # of this process: kernels are compiled in the steps after it
        self.losses = ["loss", *task.loss_names(self.model)]
        self.best_columns = [column for column in BEST_FILES if column != "ema_mDice" or self.average]
        if ranks.is_rank_0():
            columns = ("step", "epoch", "size", "lr", *self.losses, "seconds", "images_per_s")
            self.log = StepLog(folder / LOG, columns, self.position.step)
            columns = ("step", "epoch", "lr", *self.losses, *self.best_columns, *task.score_names, "seconds")
            self.epoch_log = StepLog(folder / EPOCH_LOG, columns, self.position.ended)

    def _build(self, fresh: bool) -> None:
        """Network and optimizer; the weights to start from are read in a ``fresh`` run only."""
        from lib import build_model
        from lib.optimizer import AMP_LOSS_SCALE, Adam, MovingAverage, trainable_parameters

        config = self.config
        backend.jt.set_global_seed(config.seed)
        self.model = build_model(config.model_type, config.num_class, config.gain)
        if fresh and config.backbone_weights:
            load_encoder_weights(self.model.encoder, config.backbone_weights)
        if fresh and config.weights:
            load_weights(self.model, config.weights)
        self.model.train()
        backend.jt.sync_all()  # the weights are drawn now, in an order that no option changes
        self.optimizer = Adam(trainable_parameters(self.model), config.clip, config.weight_decay,
                              loss_scale=AMP_LOSS_SCALE if config.precision == "amp" else 1.0)
        self.average = MovingAverage(self.model, config.ema) if config.ema else None

    def _restore(self, snapshot: Snapshot) -> None:
        if snapshot.data != self.task.fingerprint:
            raise UserError(f"{self.config.train_path}: is not the set that the run of {snapshot.source} was "
                            "begun with; give that one as --train_path, or start a new run with --weights")
        restore(snapshot, self.parts())
        if ranks.is_rank_0():
            mend_derived(snapshot)
        self.position = snapshot.position
        self.optimizer.steps = self.position.step
        if self.average:
            self.average.steps = self.position.step

    @property
    def is_finished(self) -> bool:
        """Whether all steps are done, and the last epoch validated."""
        return self.position.ended >= self.total_steps

    def run(self, save_every: int, save_steps: int | None) -> int:
        """Trains to the end or to a signal, saves, and returns the exit code."""
        if self.is_finished:
            return 0
        first, last = self.position.ended // self.epoch_steps, math.ceil(self.total_steps / self.epoch_steps)
        with Interruption() as interruption, \
                Progress(self.total_steps, "training", "steps", self.position.step,
                         slow=len(self.task.sizes)) as self.progress:
            for epoch in range(first, last):
                for _ in self.train_epoch(epoch):
                    if collectives.any_signal(interruption):
                        self.save()
                        return interruption.exit_code
                    if save_steps and self.position.step % save_steps == 0:
                        self.save()
                validations = self.end_epoch(epoch, interruption)
                if validations is None or (epoch + 1) % save_every == 0 or epoch + 1 == last:
                    self.save()
                if validations is None:
                    return interruption.exit_code
                if ranks.is_rank_0():
                    self.draw(validations)
        return 0

    def record(self, log: StepLog, row: dict) -> None:
        log.record(**row)
        if self.tensorboard:
            self.tensorboard.add(log.path.stem, row["step"], row)

    def progress_text(self, row: dict) -> str:
        return (f"loss {row['loss']:.3f}, {row['images_per_s']:.3g} images/s, "
                f"epoch {row['epoch']}/{self.config.epochs}")

    def train_epoch(self, epoch: int) -> Iterator[None]:
        """Begins the steps of an epoch that are left to do; yields after each."""
        jt, sizes = backend.jt, self.task.sizes
        self.last_end = time.perf_counter()
        first_batch, first_size = divmod(self.position.step - epoch * self.epoch_steps, len(sizes))
        for images, targets, stems in self.task.batches(epoch, self.workers, first_batch):
            images, targets = jt.array(images).stop_grad(), jt.array(targets).stop_grad()
            for size in sizes[first_size:]:
                if self.position.step >= self.total_steps:
                    return
                self.begin_step(images, targets, stems, epoch, size)
                yield
            first_size = 0

    def begin_step(self, images, targets, stems: list[str], epoch: int, size: int) -> None:
        """Hands one optimizer step on this shard of a batch to the device.

        A GPU is at work on the step before while this one is planned; a CPU does one after the other.
        """
        jt, done = backend.jt, self.position.step
        np.random.seed(np.random.SeedSequence([self.config.seed, done]).generate_state(4))
        new_size = done - self.first_step < len(self.task.sizes)
        lr, shard = learning_rate(self.config, epoch, done), ranks.shard_of(len(stems))
        with collectives.sharding(shard):
            losses = [loss * shard.fraction for loss in self.task.losses(self.model, images, targets, size)]
            self.optimizer.step(sum(losses), lr)
            self.end_step()
            with backend.compiling(f"step {done + 1}") if new_size else nullcontext():
                jt.sync_all()  # as above: each step begins with nothing left to do, after a resume as well
                if self.average:
                    self.average.step()
                    jt.sync_all()
        self.position.step += 1
        self.step = Step(self.position.step, epoch + 1, size, lr, stems, losses)
        if not jt.flags.use_cuda:
            self.end_step()

    def end_step(self) -> None:
        """Waits for the step that was begun, if any, and logs its losses."""
        step, self.step = self.step, None
        if step is None:
            return
        gathered = collectives.all_gather([loss.item() for loss in step.losses])
        losses = [sum(parts) for parts in zip(*gathered)]
        if not all(map(math.isfinite, losses)):
            raise UserError(f"the loss of step {step.number} is {sum(losses)} on {', '.join(step.stems)}; "
                            "lower --lr, or look at these images and masks. The last snapshot in "
                            f"{self.folder} is of before")
        end = time.perf_counter()
        seconds, self.last_end = end - self.last_end, end
        row = {"step": step.number, "epoch": step.epoch, "size": step.size, "lr": step.lr,
               **dict(zip(self.losses, (sum(losses), *losses))),
               "seconds": round(seconds, 4), "images_per_s": round(len(step.stems) / seconds, 2)}
        if ranks.is_rank_0():
            self.record(self.log, row)
        self.progress.step(note=self.progress_text(row))

    def end_epoch(self, epoch: int, interruption: Interruption) -> dict[str, Validation] | None:
        """Validates, keeps the best weights, logs. Returns the validations by column; None after a signal."""
        self.end_step()
        columns = self.best_columns if self.task.selects else ()
        if columns and not self.saved:
            self.save()  # so that the best weights never lie alone: they are written before the epoch's state
        start, validations = time.perf_counter(), {}
        for column in columns:
            with self.average.in_place() if column == "ema_mDice" else nullcontext():
                validations[column] = self.validate(column, interruption)
            if validations[column] is None:
                return None
        if ranks.is_rank_0():
            self.report(epoch, validations, time.perf_counter() - start)
        self.position.ended = self.position.step
        return validations

    def validate(self, column: str, interruption: Interruption) -> Validation | None:
        """Scores of the network as it is; None after a signal.

        Keeps the weights if they are the best of this ``column``.
        """
        try:
            with backend.compiling("validation"):
                validations = self.task.validate(self.model, interruption)
        except KeyboardInterrupt:
            return None
        file = BEST_FILES[column]
        if validations and validations.dice > self.position.best.get(file, -math.inf):
            self.position.best[file] = validations.dice
            if ranks.is_rank_0():
                write_best(self.folder / file, self.model, validations.dice, self.position.step,
                           asdict(self.config), self.task.channels)
        return validations

    def report(self, epoch: int, validations: dict[str, Validation], seconds: float) -> None:
        """Logs an epoch and its validations, which took ``seconds``."""
        dice, scores = dict.fromkeys(self.best_columns), dict.fromkeys(self.task.score_names)
        for column, each in validations.items():
            dice[column] = each.dice
            if BEST_FILES[column] == BEST:
                scores.update(each.scores)
        rows = [row for row in self.log.rows if row["epoch"] == epoch + 1]
        means = {name: _mean([row[name] for row in rows]) for name in self.losses}
        seconds += sum(row["seconds"] or 0.0 for row in rows)
        lr = learning_rate(self.config, epoch, self.position.step - 1)
        self.record(self.epoch_log, {"step": self.position.step, "epoch": epoch + 1, "lr": lr,
                                     **means, **dice, **scores, "seconds": round(seconds, 1)})

    def draw(self, validations: dict[str, Validation]) -> None:
        """Draws curves and samples; what keeps them from being drawn does not end the run."""
        try:
            write_curves(self.folder / CURVES, self.log.rows, self.epoch_log.rows, self.losses[1:],
                         self.task.score_names)
            for column, each in validations.items():
                if BEST_FILES[column] == BEST:
                    title = f"step {self.position.step}, mDice {100 * each.dice:.2f} of all"
                    self.task.write_samples(self.folder / SAMPLES, each.samples, title)
        except (UserError, OSError, ValueError) as error:
            self.progress.say(f"not drawn: {printable(error)}")

    def save(self) -> None:
        """Writes a snapshot, which every rank waits for."""
        self.end_step()
        if ranks.is_rank_0():
            write_snapshot(self.folder, self.parts(), self.position, asdict(self.config),
                           self.task.fingerprint, self.task.channels)
        collectives.barrier()
        self.saved = True
        self.last_end = time.perf_counter()  # the next step's time is without this

    def parts(self) -> dict[str, dict]:
        """All variables that a snapshot holds, by kind and published name."""
        weights = self.model.state_dict()
        names = {id(value): name for name, value in weights.items()}
        trained = [names[id(value)] for value in self.optimizer.parameters]
        parts = {"weights": weights, "mean": dict(zip(trained, self.optimizer.means)),
                 "square": dict(zip(trained, self.optimizer.squares))}
        return {**parts, "average": self.average.values} if self.average else parts
