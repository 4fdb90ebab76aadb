"""The program `train`: trains a network by the published protocol."""

from __future__ import annotations

import argparse
import contextlib
import shlex
import sys
from collections.abc import Iterator
from dataclasses import MISSING, fields
from pathlib import Path

from jittor_pranet.cli.arguments import prepare_device
from jittor_pranet.cli.saved_flags import check_saved_flags
from jittor_pranet.cli.train_flags import add_arguments
from jittor_pranet.training.binary import BinaryTask
from jittor_pranet.training.multiclass import MulticlassTask
from jittor_pranet.training.options import Config, new_config, resumed_config
from jittor_pranet.training.snapshot import (
    BEST,
    LAST,
    STATE,
    WEIGHT_FILES,
    Snapshot,
    read_snapshot,
)
from jittor_pranet.training.task import Task
from jittor_pranet.training.tensorboard import TensorBoardLog
from jittor_pranet.training.trainer import CURVES, EPOCH_LOG, LOG, SAMPLES, Trainer
from utils import ranks
from utils.errors import UserError
from utils.outputs import output_folder
from utils.runtime import collectives
from utils.runtime.device import choose_device
from utils.runtime.memory import is_device_full

__all__ = ["add_arguments", "run"]

TASK_CLASSES = {"binary": BinaryTask, "multiclass": MulticlassTask}
TENSORBOARD = "tensorboard"
RUN_FILES = (*WEIGHT_FILES, LOG, EPOCH_LOG, CURVES, SAMPLES, TENSORBOARD)


def run(args: argparse.Namespace) -> int:
    ranks.check_launcher()
    flags = vars(args)
    folder, snapshot = find_run(flags.get("resume"), flags.get("train_save"), args.overwrite)
    if snapshot:
        check_snapshot(snapshot)
    config = resumed_config(flags, snapshot.config, str(snapshot.source)) if snapshot else new_config(flags)
    if config.select_on_test and ranks.is_rank_0():
        print("warning: --select_on_test chooses best.npz on test sets, whose scores then say too much; "
              "--val_fraction is the honest way", file=sys.stderr)
    choose_device(args.device)  # first what is quick to tell, then the data
    for path in (config.backbone_weights, config.weights):
        if path and not snapshot and not Path(path).is_file():
            raise UserError(f"{path}: no such file of weights")
    with run_folder(folder, config, resumed=snapshot is not None, overwrite=args.overwrite):
        task = TASK_CLASSES[config.task](config, in_memory=args.cache == "ram")
        device = prepare_device(args.device, config.precision, args.plain_ops)
        check_agreement(config, task, snapshot)
        tensorboard = TensorBoardLog(folder / TENSORBOARD) if args.tensorboard and ranks.is_rank_0() else None
        trainer = Trainer(config, folder, task, args.workers, snapshot, tensorboard)
        print(f"{config.model_type}: {task}, batches of {config.batchsize}, {trainer.total_steps} steps "
              f"on {device}" + (f" in {ranks.WORLD_SIZE} processes" if ranks.WORLD_SIZE > 1 else ""))
        if snapshot:
            print(f"resumed after step {trainer.position.step}")
        del snapshot  # the network and the optimizer hold its arrays now
        if trainer.is_finished:
            print(f"nothing left to do: all {trainer.total_steps} steps are done; --epoch or --max_steps ask "
                  "for more")
        code = train(trainer, args.save_every, args.save_steps)
    if code:
        print(f"stopped after step {trainer.position.step} of {trainer.total_steps}; this goes on: "
              f"pranet train --resume {shlex.quote(str(folder))}")
    print(f"weights: {folder / LAST}")
    for file, dice in trainer.position.best.items():
        print(f"best {'weights' if file == BEST else 'average'}: {folder / file} (mDice {100 * dice:.2f})")
    print(f"log: {folder / LOG}")
    collectives.barrier()  # mpirun ends the others as soon as one has left with a code
    return code


def train(trainer: Trainer, save_every: int, save_steps: int | None) -> int:
    """Trains and returns the exit code. Raises UserError where the device's memory is too small."""
    try:
        return trainer.run(save_every, save_steps)
    except RuntimeError as error:
        if not is_device_full(error):
            raise
        raise UserError(f"the GPU's memory does not hold batches of {trainer.config.batchsize} images at up "
                        f"to {max(trainer.task.sizes)} pixels; take a smaller --batchsize or --trainsize"
                        ) from None


def check_snapshot(snapshot: Snapshot) -> None:
    """Raises UserError where a setting of a snapshot is not one that a flag could have given."""
    unset = {field.name: field.default for field in fields(Config)}
    optional = [field.name for field in fields(Config) if "None" in field.type]
    changed = {name: value for name, value in snapshot.config.items()
               if not (value is None and name in optional) and repr(value) != repr(unset.get(name, MISSING))}
    try:
        check_saved_flags(add_arguments, changed)
    except UserError as error:
        raise UserError(f"{snapshot.source}: holds a setting that no training has ({error}); start a new run "
                        "with --weights") from error


def find_run(resume: str | None, save: str | None, overwrite: bool) -> tuple[Path, Snapshot | None]:
    """The folder of the run and the snapshot to resume from, if any, by --resume and --train_save.

    Raises:
        UserError: the flags name no folder or two, a folder to resume holds no state, or that of a new run
            holds an earlier one that is not to be overwritten.
    """
    if resume and overwrite:
        raise UserError("--overwrite: begins anew, --resume goes on; give one of them")
    if resume in (None, "auto") and save is None:
        raise UserError("--train_save is missing: the folder for the weights and logs")
    if resume not in (None, "auto"):
        folder = Path(resume).parent if Path(resume).name == STATE else Path(resume)
        if save is not None and Path(save).resolve() != folder.resolve():
            raise UserError(f"--train_save {save}: a resumed run goes on in its own folder, {folder}; "
                            "leave --train_save out")
        return folder, read_snapshot(folder)
    folder = Path(save)
    earlier = next((name for name in WEIGHT_FILES if (folder / name).exists()), None)
    if resume == "auto" and earlier == STATE:
        return folder, read_snapshot(folder)
    if earlier and not overwrite:
        way = (f"go on with it by --resume {folder}" if earlier == STATE else
               f"it has no {STATE} to go on from: start from its weights by --weights in another folder")
        raise UserError(f"{folder}: holds an earlier run ({earlier}); {way}, or choose another --train_save; "
                        "--overwrite deletes it")
    return folder, None


@contextlib.contextmanager
def run_folder(folder: Path, config: Config, resumed: bool, overwrite: bool) -> Iterator[None]:
    """Lets rank 0 write a run's files in ``folder``, where nothing of a killed or an earlier run is left.

    Raises:
        UserError: see `output_folder`.
    """
    if not ranks.is_rank_0():
        yield
        return
    inputs = [path for path in (config.train_path, config.val_path, config.test_path, config.weights,
                                config.backbone_weights, config.train_list, config.val_list) if path]
    with output_folder(folder, RUN_FILES, inputs, "train", may_replace=resumed or overwrite):
        for name in WEIGHT_FILES if overwrite else ():
            (folder / name).unlink(missing_ok=True)
        yield


def check_agreement(config: Config, task: Task, snapshot: Snapshot | None) -> None:
    """Raises UserError where ranks, on several machines perhaps, were given or see different things."""
    seen = {"flags": config, "training set": task.fingerprint,
            "snapshot to resume": snapshot and snapshot.position}
    for rank, others in enumerate(collectives.all_gather(seen)):
        for name, value in others.items():
            if value != seen[name]:
                raise UserError(f"process {rank} has another {name} than process {ranks.RANK}; give all "
                                "the same flags, and folders that they share")
