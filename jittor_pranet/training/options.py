"""The configuration of a training: all that decides the outcome, made of the flags that are given.

Its defaults stand here once; a flag that is not given is None or not there at all, so that a resumed run
knows which ones were.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

from jittor_pranet.cli.scan_options import scan_options_of
from jittor_pranet.cli.task_flags import check_task_flags
from lib.registry import check_size, find_network
from utils.data.scans import ScanOptions
from utils.errors import UserError

# When a run is resumed: the data have moved, more is wanted.
MAY_CHANGE = ("train_path", "val_path", "test_path", "epoch", "max_steps")
# As published for scans of many classes; those of a binary network are `Config`'s own and the network's.
MULTICLASS = {"epoch": 300, "batchsize": 6, "trainsize": 224, "clip": None, "decay_rate": 1.0,
              "weight_decay": 1e-4}
HOLD_OUT = ("images", "sequences")  # what is held out as one
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
    hold_out: str = "images"  # one of `HOLD_OUT`
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

    @property
    def scan_options(self) -> ScanOptions:
        """How scans are read. Raises what `scan_options_of` does."""
        return scan_options_of(self)


def new_config(flags: Mapping[str, object]) -> Config:
    """The configuration of a new run. Raises UserError where flags are missing or exclude each other."""
    given = _given(flags)
    if "train_path" not in given:
        raise UserError("--train_path is missing: the folder with the training set")
    network = find_network(given.get("model_type", Config.model_type))
    published = {"epoch": network.epochs, "batchsize": network.batch_size}
    if given.get("task") == "multiclass":
        published = MULTICLASS
    config = Config(**{**published, **given})
    check(config)
    _check_effects(given, config)
    return config


def _check_effects(given: Mapping[str, object], config: Config) -> None:
    """Raises UserError where a flag is given that another one leaves without effect."""
    selects = next((name for name in ("val_path", "select_on_test") if name in given), None)
    for name in ("val_fraction", "hold_out"):
        if name in given and selects:
            raise UserError(f"--{name}: nothing is held out where --{selects} says what the best weights are "
                            "chosen on; leave one of the two out")
    if "hold_out" in given and config.val_fraction == 0:
        raise UserError("--hold_out: nothing is held out with --val_fraction 0; leave one of the two out")
    if "weights" in given and "backbone_weights" in given:
        raise UserError("--backbone_weights: --weights holds the encoder's as well; leave one of the two out")


def resumed_config(flags: Mapping[str, object], saved: dict, source: str) -> Config:
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
    try:
        check(config)
    except UserError as error:
        raise UserError(f"{source}: {error}") from error
    given = _given(flags)
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
        _ = config.scan_options  # raises what is wrong with it
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


def _given(flags: Mapping[str, object]) -> dict:
    names = {field.name for field in fields(Config)}
    return {name: tuple(value) if isinstance(value, list) else value
            for name, value in flags.items() if name in names and value is not None}
