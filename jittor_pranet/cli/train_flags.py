"""The flags of the program train, in groups."""

from __future__ import annotations

import argparse
from dataclasses import MISSING, fields

from jittor_pranet.cli.arguments import MAX_SEED, add_device_arguments, fraction, positive, whole
from jittor_pranet.cli.scan_options import add_scan_arguments
from jittor_pranet.training.options import HOLD_OUT, Config
from lib.registry import GAINS, NETWORKS, TASKS
from utils.parallel import WORKERS

DEFAULTS = {field.name: field.default for field in fields(Config)}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group
    _add_data(group("data"))
    _add_network(group("network"))
    _add_optimisation(group("optimisation"))
    _add_output(group("output"))
    add_device_arguments(group("device"), precision=argparse.SUPPRESS)  # as for all of the configuration
    _add_binary(group("task binary"))
    _add_multiclass(group("task multiclass"))


def _option(group, name: str, help: str, *aliases: str, **kind) -> None:
    """Adds a flag of the configuration; one that is not given leaves no trace."""
    default = DEFAULTS[name]
    if default is not MISSING and default is not None and default is not False:
        help = f"{help} (default: {default})"
    group.add_argument(f"--{name}", *aliases, default=argparse.SUPPRESS, help=help, **kind)


def _add_data(group) -> None:
    _option(group, "task", "binary: polyps and their masks; multiclass: scans, where every pixel has one of "
            "--num_class classes", choices=TASKS)
    _option(group, "train_path", "folder with images/ and masks/, paired by the files' stems; multiclass: "
            "with images/ and labels/, or with scans", "--data", metavar="DIR")
    _option(group, "trainsize", "side of the training images in pixels; multiclass: 224", type=int)
    _option(group, "val_fraction", "fraction of the training set that is held out, of each source alike; "
            "multiclass: whole patients. best.npz has the highest mDice on it. 0 trains on all, as "
            "published, and writes no best.npz; not with --val_path or --select_on_test, which name other "
            "images for it",
            type=fraction)
    group.add_argument("--workers", type=whole(0), default=WORKERS,
                       help="processes that read images ahead; 0 reads them between the steps")
    group.add_argument("--cache", choices=("none", "ram"), default="none",
                       help="ram: keep the resized images, 0.5 MB each at 352 pixels; multiclass: the "
                            "pictures and slices as they are (volumes always stay)")


def _add_network(group) -> None:
    _option(group, "model_type", f"one of {', '.join(NETWORKS)}", metavar="NAME")
    _option(group, "backbone_weights", "ImageNet weights of the encoder: the authors' .pth, or timm's "
            ".safetensors; not with --weights", metavar="FILE")
    _option(group, "weights", "weights of the whole network, its encoder too, to start from", metavar="FILE")
    _option(group, "gain", "V2 and DSRA networks: how a stage raises its map by the deeper one's, see "
            "docs/dsra.md", choices=GAINS)


def _add_optimisation(group) -> None:
    _option(group, "epoch", "epochs (published: V1 20, V2 30, multiclass 300)", type=whole(1))
    _option(group, "batchsize", "images in a batch (published: V1 16, V2 8, multiclass 6)", "--batch_size",
            type=whole(1))
    _option(group, "lr", "learning rate of Adam", type=positive)
    _option(group, "weight_decay", "of AdamW; multiclass: 1e-4", type=fraction)
    _option(group, "clip", "gradients are clamped to [-CLIP, CLIP]; multiclass: not at all", type=positive)
    _option(group, "decay_rate", "factor of lr at each decay; multiclass: 1", type=positive)
    _option(group, "decay_epoch", "epochs between two decays", type=whole(1))
    _option(group, "warmup_steps", "the rate grows evenly to --lr over the first N steps", type=whole(0),
            metavar="N")
    _option(group, "ema", "keep the moving average of the weights with this decay, 0.999 for example, in "
            "ema.npz", type=fraction, metavar="DECAY")
    _option(group, "max_steps", "stop after N optimizer steps; a batch makes three, multiclass one",
            type=whole(1), metavar="N")
    _option(group, "published_epochs", "run one epoch less than --epoch, as the published script does",
            action="store_true")
    _option(group, "seed", "of the initial weights, the order and DropPath", type=whole(0, MAX_SEED))


def _add_output(group) -> None:
    group.add_argument("--train_save", "--out", metavar="DIR", default=argparse.SUPPRESS,
                       help="new folder for the weights, the state to resume from and the logs")
    group.add_argument("--resume", metavar="PATH", default=argparse.SUPPRESS,
                       help="continue the run in this folder with its options; auto: the one in "
                            "--train_save, or a new one where there is none")
    group.add_argument("--overwrite", action="store_true",
                       help="begin anew in a --train_save that holds an earlier run, which is deleted")
    group.add_argument("--save_every", type=whole(1), default=1, metavar="N", help="epochs between snapshots")
    group.add_argument("--save_steps", type=whole(1), default=None, metavar="N",
                       help="take a snapshot every N steps too, which bounds what a crash can cost")
    group.add_argument("--tensorboard", action="store_true",
                       help="write the logs for TensorBoard too, to TRAIN_SAVE/tensorboard")


def _add_binary(group) -> None:
    _option(group, "flips", "mirror images left to right and top to bottom at random", action="store_true")
    _option(group, "rot90", "rotate images by 0, 90, 180 or 270 degrees at random", "--turns",
            action="store_true")
    _option(group, "hold_out", "what --val_fraction holds out: images at random, as in earlier versions, or "
            "whole video sequences of CVC-ClinicDB, told by the frames' numbers, so that no near-duplicate "
            "of what is held out is trained on; other images one by one", choices=HOLD_OUT)
    _option(group, "select_on_test", "choose best.npz on these test sets instead, as the published script "
            "does: their scores are then no test any more", nargs="+", metavar="SET")
    _option(group, "test_path", "folder with the sets of --select_on_test", metavar="DIR")
    _option(group, "weighted_bce", "V1: weight the BCE, which the published code means to and does not",
            action="store_true")


def _add_multiclass(group) -> None:
    add_scan_arguments(group)
    _option(group, "train_list", "text file with the names of the scans to train on; all if left out",
            metavar="FILE")
    _option(group, "val_path", "folder of scans to choose best.npz on, in place of a held-out part",
            metavar="DIR")
    _option(group, "val_list", "text file with the names of the scans of --val_path to take", metavar="FILE")
    _option(group, "no_augmentation", "leave out the published rotations and flips", action="store_true")
    _option(group, "published_validation", "choose by the sum of foreground minus background maps, as the "
            "published script does; test takes the foreground's", action="store_true")
