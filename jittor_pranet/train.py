"""The program `train`: trains a network by the published protocol."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from jittor_pranet.cli.arguments import prepare_device
from jittor_pranet.training.binary import BinaryTask
from jittor_pranet.training.multiclass import MulticlassTask
from jittor_pranet.training.options import (
    Config,
    add_arguments,
    new_config,
    resumed_config,
)
from jittor_pranet.training.snapshot import BEST, LAST, STATE, Snapshot, open_folder, read_snapshot
from jittor_pranet.training.task import Task
from jittor_pranet.training.tensorboard import TensorBoardLog
from jittor_pranet.training.trainer import LOG, Trainer
from utils import ranks
from utils.errors import UserError
from utils.runtime import collectives
from utils.runtime.memory import is_device_full

__all__ = ["add_arguments", "run"]

TASKS = {"binary": BinaryTask, "multiclass": MulticlassTask}


def run(args: argparse.Namespace) -> int:
    folder, snapshot = find_run(args)
    config = resumed_config(args, snapshot.config, str(snapshot.source)) if snapshot else new_config(args)
    if config.select_on_test and ranks.is_rank_0():
        print("warning: --select_on_test chooses best.npz on test sets, whose figures then say too much; "
              "--val_fraction is the honest way", file=sys.stderr)
    task = TASKS[config.task](config, in_memory=args.cache == "ram")
    device = prepare_device(args.device, config.precision, args.plain_ops)
    check_agreement(config, task, snapshot)
    tensorboard = None
    if ranks.is_rank_0():
        open_folder(folder)
        tensorboard = TensorBoardLog(folder / "tensorboard") if args.tensorboard else None
    trainer = Trainer(config, folder, task, args.workers, snapshot, tensorboard)
    print(f"{config.model_type}: {task}, batches of {config.batchsize}, {trainer.total_steps} steps "
          f"on {device}" + (f" in {ranks.WORLD_SIZE} processes" if ranks.WORLD_SIZE > 1 else ""))
    if snapshot:
        print(f"resumed after step {trainer.position.step}")
    try:
        code = trainer.run(args.save_every, args.save_steps)
    except RuntimeError as error:
        if not is_device_full(error):
            raise
        raise UserError(f"the GPU's memory does not hold batches of {config.batchsize} images at up to "
                        f"{max(task.sizes)} pixels; take a smaller --batchsize or --trainsize") from None
    print(f"weights: {folder / LAST}")
    for file, dice in trainer.position.best.items():
        print(f"best {'weights' if file == BEST else 'average'}: {folder / file} (mDice {dice:.4f})")
    print(f"log: {folder / LOG}")
    collectives.barrier()  # mpirun ends the others as soon as one has left with a code
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


def check_agreement(config: Config, task: Task, snapshot: Snapshot | None) -> None:
    """Raises UserError where ranks, on several machines perhaps, were given or see different things."""
    seen = {"flags": config, "training set": task.fingerprint,
            "snapshot to resume": snapshot and snapshot.position}
    for rank, others in enumerate(collectives.all_gather(seen)):
        for name, value in others.items():
            if value != seen[name]:
                raise UserError(f"process {rank} has another {name} than process {ranks.RANK}; give all "
                                "the same flags, and folders that they share")
