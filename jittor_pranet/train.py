"""The program `train`: trains a network by the published protocol."""

from __future__ import annotations

import argparse
import contextlib
import shlex
import sys
from collections.abc import Iterator
from dataclasses import MISSING, fields
from pathlib import Path

from jittor_pranet.cli.arguments import (
    MAX_SEED,
    add_device_arguments,
    fraction,
    positive,
    prepare_device,
    whole,
)
from jittor_pranet.cli.saved_flags import check_saved_flags
from jittor_pranet.cli.scan_options import add_scan_arguments
from jittor_pranet.training.binary import BinaryTask
from jittor_pranet.training.multiclass import MulticlassTask
from jittor_pranet.training.options import HOLD_OUT, Config, new_config, resumed_config
from jittor_pranet.training.snapshot import (
    BEST,
    LAST,
    STATE,
    WEIGHT_FILES,
    Snapshot,
    read_snapshot,
    remove_unfinished,
)
from jittor_pranet.training.task import Task
from jittor_pranet.training.tensorboard import TensorBoardLog
from jittor_pranet.training.trainer import CURVES, EPOCH_LOG, LOG, SAMPLES, Trainer
from lib.registry import GAINS, NETWORKS, TASKS
from utils import ranks
from utils.errors import UserError
from utils.outputs import output_folder
from utils.parallel import WORKERS
from utils.runtime import collectives
from utils.runtime.memory import is_device_full

TASK_CLASSES = {"binary": BinaryTask, "multiclass": MulticlassTask}
TENSORBOARD = "tensorboard"
RUN_FILES = (*WEIGHT_FILES, LOG, EPOCH_LOG, CURVES, SAMPLES, TENSORBOARD)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    defaults = {field.name: field.default for field in fields(Config)}

    def option(name: str, help: str, group=parser, aliases: tuple[str, ...] = (), **kind) -> None:
        """Adds a flag of the configuration."""
        default = defaults[name]
        if default is not MISSING and default is not None and default is not False:
            help = f"{help} (default: {default})"
        group.add_argument(f"--{name}", *aliases, default=argparse.SUPPRESS, help=help, **kind)

    option("task", "binary: polyps and their masks; multiclass: scans, where every pixel has one of "
           "--num_class classes", choices=TASKS)
    option("model_type", f"one of {', '.join(NETWORKS)}", metavar="NAME")
    option("gain", "V2 and DSRA networks: how a stage raises its map by the deeper one's, see docs/dsra.md",
           choices=GAINS)
    option("train_path", "folder with images/ and masks/, paired by the files' stems; multiclass: with "
           "images/ and labels/, or with scans", metavar="DIR")
    parser.add_argument("--train_save", metavar="DIR", default=argparse.SUPPRESS,
                        help="new folder for the weights, the state to resume from and the logs")
    parser.add_argument("--resume", metavar="PATH", default=argparse.SUPPRESS,
                        help="continue the run in this folder with its options; auto: the one in "
                             "--train_save, or a new one where there is none")
    option("epoch", "epochs (published: V1 20, V2 30, multiclass 300)", type=whole(1))
    option("batchsize", "images in a batch (published: V1 16, V2 8, multiclass 6)", type=whole(1))
    option("trainsize", "side of the training images in pixels; multiclass: 224", type=int)
    option("lr", "learning rate of Adam", type=positive)
    option("weight_decay", "of AdamW; multiclass: 1e-4", type=fraction)
    option("clip", "gradients are clamped to [-CLIP, CLIP]; multiclass: not at all", type=positive)
    option("decay_rate", "factor of lr at each decay; multiclass: 1", type=positive)
    option("decay_epoch", "epochs between two decays", type=whole(1))
    option("warmup_steps", "the rate grows evenly to --lr over the first N steps", type=whole(0), metavar="N")
    option("ema", "keep the moving average of the weights with this decay, 0.999 for example, in ema.npz",
           type=fraction, metavar="DECAY")
    option("max_steps", "stop after N optimizer steps; a batch makes three, multiclass one", type=whole(1),
           metavar="N")
    parser.add_argument("--overwrite", action="store_true",
                        help="begin anew in a --train_save that holds an earlier run, which is deleted")
    parser.add_argument("--save_every", type=whole(1), default=1, metavar="N",
                        help="epochs between snapshots")
    parser.add_argument("--save_steps", type=whole(1), default=None, metavar="N",
                        help="take a snapshot every N steps too, which bounds what a crash can cost")
    option("val_fraction", "fraction of the training set that is held out, of each source alike; multiclass: "
           "whole patients. best.npz has the highest mDice on it. 0 trains on all, as published, and writes "
           "no best.npz; not with --val_path or --select_on_test, which name other images for it",
           type=fraction)
    option("backbone_weights", "ImageNet weights of the encoder; not with --weights", metavar="FILE")
    option("weights", "weights of the whole network, its encoder too, to start from", metavar="FILE")
    option("seed", "of the initial weights, the order and DropPath", type=whole(0, MAX_SEED))
    parser.add_argument("--workers", type=whole(0), default=WORKERS,
                        help="processes that read images ahead; 0 reads them between the steps")
    parser.add_argument("--cache", choices=("none", "ram"), default="none",
                        help="ram: keep the resized images, 0.5 MB each at 352 pixels; multiclass: the "
                             "pictures and slices as they are (volumes always stay)")
    parser.add_argument("--tensorboard", action="store_true",
                        help="write the logs for TensorBoard too, to TRAIN_SAVE/tensorboard")
    option("published_epochs", "run one epoch less than --epoch, as the published script does",
           action="store_true")
    binary = parser.add_argument_group("binary")
    option("flips", "mirror images left to right and top to bottom at random", binary, action="store_true")
    option("rot90", "rotate images by 0, 90, 180 or 270 degrees at random", binary, aliases=("--turns",),
           action="store_true")
    option("hold_out", "what --val_fraction holds out: images at random, as in earlier versions, or whole "
           "video sequences of CVC-ClinicDB, told by the frames' numbers, so that no near-duplicate of what "
           "is held out is trained on; other images one by one", binary, choices=HOLD_OUT)
    option("select_on_test", "choose best.npz on these test sets instead, as the published script does: "
           "their scores are then no test any more", binary, nargs="+", metavar="SET")
    option("test_path", "folder with the sets of --select_on_test", binary, metavar="DIR")
    option("weighted_bce", "V1: weight the BCE, which the published code means to and does not", binary,
           action="store_true")
    scans = parser.add_argument_group("multiclass")
    add_scan_arguments(scans)
    option("train_list", "text file with the names of the scans to train on; all if left out", scans,
           metavar="FILE")
    option("val_path", "folder of scans to choose best.npz on, in place of a held-out part", scans,
           metavar="DIR")
    option("val_list", "text file with the names of the scans of --val_path to take", scans, metavar="FILE")
    option("no_augmentation", "leave out the published rotations and flips", scans, action="store_true")
    option("published_validation", "choose by the sum of foreground minus background maps, as the published "
           "script does; test takes the foreground's", scans, action="store_true")
    add_device_arguments(parser, precision=argparse.SUPPRESS)  # as for all of the configuration


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
        remove_unfinished(folder)
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
