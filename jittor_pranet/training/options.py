"""The flags of the program train and the configuration that they make.

The configuration is all that decides the outcome. Its defaults stand here once; a flag that is not given
leaves no trace among the parsed arguments, so that a resumed run knows which ones were.
"""

from __future__ import annotations

import argparse
from dataclasses import MISSING, asdict, dataclass, fields, replace

from jittor_pranet.cli.arguments import add_device_arguments, fraction, positive, whole
from jittor_pranet.cli.scan_options import add_scan_arguments, scan_options_of
from jittor_pranet.cli.task_flags import check_task_flags
from lib.registry import GAINS, NETWORKS, TASKS, check_size, find_network
from utils.errors import UserError
from utils.parallel import WORKERS

# When a run is resumed: the data have moved, more is wanted.
MAY_CHANGE = ("train_path", "val_path", "test_path", "epoch", "max_steps")
# As published for scans of many classes; those of a binary network are `Config`'s own and the network's.
MULTICLASS = {"epoch": 300, "batchsize": 6, "trainsize": 224, "clip": None, "decay_rate": 1.0,
              "weight_decay": 1e-4}
RENAMED = {"turns": "rot90"}  # of the configuration: what snapshots of earlier versions call them


@dataclass(frozen=True)
class Config:
    """All that decides the outcome of a training; written into every snapshot."""

    train_path: str
    epoch: int
    batchsize: int
    task: str = "binary"
    model_type: str = "PraNet-V2"
    num_class: int = 1
    gain: str = "softmax"
    trainsize: int = 352
    lr: float = 1e-4
    weight_decay: float = 0.0
    clip: float | None = 0.5
    decay_rate: float = 0.1
    decay_epoch: int = 50
    max_steps: int | None = None
    warmup_steps: int = 0
    flips: bool = False
    rot90: bool = False
    ema: float | None = None
    val_fraction: float = 0.1
    select_on_test: tuple[str, ...] | None = None
    test_path: str | None = None
    slice_axis: int | None = None
    window: tuple[float, float] | None = None
    label_map: str | None = None
    train_list: str | None = None
    val_path: str | None = None
    val_list: str | None = None
    no_augmentation: bool = False
    published_validation: bool = False
    seed: int = 0
    precision: str = "fp32"
    backbone_weights: str | None = None
    weights: str | None = None
    published_epochs: bool = False
    weighted_bce: bool = False

    @property
    def epochs(self) -> int:
        return self.epoch - int(self.published_epochs)


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
    parser.add_argument("--save_every", type=whole(1), default=1, metavar="N",
                        help="epochs between snapshots")
    parser.add_argument("--save_steps", type=whole(1), default=None, metavar="N",
                        help="take a snapshot every N steps too, which bounds what a crash can cost")
    option("val_fraction", "share of the training set that is held out, of each source alike; multiclass: "
           "whole patients. best.npz has the highest mDice on it. 0 trains on all, as published, and writes "
           "no best.npz", type=fraction)
    option("backbone_weights", "ImageNet weights of the encoder", metavar="FILE")
    option("weights", "weights of the whole network to start from", metavar="FILE")
    option("seed", "of the initial weights, the order and DropPath", type=whole(0))
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
    option("select_on_test", "choose best.npz on these test sets instead, as the published script does: "
           "their figures are then no test any more", binary, nargs="+", metavar="SET")
    option("test_path", "folder with the sets of --select_on_test", binary, metavar="DIR")
    option("weighted_bce", "V1: weight the BCE, which the published code means to and does not", binary,
           action="store_true")
    scans = parser.add_argument_group("multiclass")
    add_scan_arguments(scans)
    option("train_list", "text file with the names of the scans to train on; all if left out", scans,
           metavar="FILE")
    option("val_path", "folder of scans to choose best.npz on, in place of a held-out share", scans,
           metavar="DIR")
    option("val_list", "text file with the names of the scans of --val_path to take", scans, metavar="FILE")
    option("no_augmentation", "leave out the published rotations and flips", scans, action="store_true")
    option("published_validation", "choose by the sum of foreground minus background maps, as the published "
           "script does; test takes the foreground's", scans, action="store_true")
    add_device_arguments(parser, precision=argparse.SUPPRESS)  # as for all of the configuration


def new_config(args: argparse.Namespace) -> Config:
    """The configuration of a new run. Raises UserError where flags are missing or exclude each other."""
    given = _given(args)
    if "train_path" not in given:
        raise UserError("--train_path is missing: the folder with the training set")
    network = find_network(given.get("model_type", Config.model_type))
    published = {"epoch": network.epochs, "batchsize": network.batch_size}
    if given.get("task") == "multiclass":
        published = MULTICLASS
    config = Config(**{**published, **given})
    check(config)
    return config


def resumed_config(args: argparse.Namespace, saved: dict, source: str) -> Config:
    """The configuration ``saved`` in the snapshot ``source``, with the given flags that may change.

    Raises:
        UserError: another flag differs from the snapshot's, or ``saved`` is no configuration of ours.
    """
    try:
        config = Config(**{RENAMED.get(name, name): tuple(value) if isinstance(value, list) else value
                           for name, value in saved.items()})
    except TypeError as error:
        raise UserError(f"{source}: its configuration is not of this version ({error}); start a new run "
                        "with --weights") from error
    given = _given(args)
    for name, value in given.items():
        if name not in MAY_CHANGE and value != getattr(config, name):
            raise UserError(f"--{name} {value}: the run of {source} has {getattr(config, name)}; leave it "
                            "out, or start a new run in another --train_save")
    config = replace(config, **given)
    check(config)
    return config


def check(config: Config) -> None:
    network = find_network(config.model_type)
    check_size(config.trainsize)
    check_task_flags("train", config.task, vars(config), vars(Config))
    if config.task == "multiclass":
        scan_options_of(config)
    if config.val_list and not config.val_path:
        raise UserError("--val_list: goes with --val_path, the folder of the scans")
    if not network.has_dsra:
        for name in ("gain", "published_validation"):
            if getattr(config, name) != getattr(Config, name):
                raise UserError(f"--{name}: is for networks with DSRA, {config.model_type} has none; "
                                "leave it out")
    if config.weighted_bce and network.decoder != "RA":
        raise UserError("--weighted_bce: only V1 networks have an unweighted BCE; leave it out")
    if bool(config.select_on_test) != bool(config.test_path):
        raise UserError("--select_on_test and --test_path: give both or none")
    if config.epochs == 0:
        raise UserError("--published_epochs --epoch 1: leaves no epoch to run; take --epoch 2")


def saved_config(config: Config) -> dict:
    return asdict(config)


def _given(args: argparse.Namespace) -> dict:
    names = {field.name for field in fields(Config)}
    return {name: tuple(value) if isinstance(value, list) else value
            for name, value in vars(args).items() if name in names and value is not None}
