"""What a file of weights says of its training, and how the network is used by it.

Others may have written the file, so what it says is checked like a flag.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Callable

from lib.registry import GAINS, MAX_SIZE, NETWORKS, SIZE_DIVISOR, TASKS, check_size, class_count
from utils.checkpoint import Checkpoint
from utils.data.scans import LABEL_MAPS, MAX_CLASSES
from utils.errors import UserError

MAX_GREY = 1e30  # of a window: float32 holds it
PUBLISHED_SIZE, PUBLISHED_SIZE_OF_SCANS = 352, 224  # pixels, of networks of one class and of several


@dataclass(frozen=True)
class Usage:
    """How a trained network is used; as text, for the line that names the network.

    Attributes:
        size: side of the square that images are resized to.
        size_origin: where the size is from, in words.
        channels: 1 for grey images, 3 for colour; None where the weights say nothing of it.
        conflicts: a line for each flag that is not as the weights say of their training.
    """

    size: int
    size_origin: str
    num_class: int
    gain: str
    channels: int | None
    conflicts: tuple[str, ...]

    def __str__(self) -> str:
        return "".join((f"{self.num_class} classes, " if self.num_class > 1 else "",
                        f"at {self.size} pixels{self.size_origin}",
                        f", gain {self.gain}" if self.gain != GAINS[0] else "",
                        ", grey images" if self.channels == 1 else ""))

    def warn(self) -> None:
        for line in self.conflicts:
            print(f"warning: {line}", file=sys.stderr)


def usage_of(checkpoint: Checkpoint, size: int | None = None, num_class: int | None = None,
             gain: str | None = None, channels: int | None = None) -> Usage:
    """How the network of a file is used: as the flags say, else as it was trained, else as published.

    Raises:
        UserError: what `settings_of` raises, or the size or the number of classes is none.
    """
    said = {**_counted(checkpoint), **settings_of(checkpoint)}
    trained, count = said.get("trainsize"), said.get("num_class", 1)
    size_used, origin = size, ""
    if size is None or size == trained:
        size_used, origin = trained, " as trained"
    if size_used is None:
        size_used = PUBLISHED_SIZE if (num_class or count) == 1 else PUBLISHED_SIZE_OF_SCANS
        origin = ", as published"
    check_size(size_used)
    kinds = {1: "grey", 3: "colour"}
    wishes = {"trainsize": (size, f"--testsize {size}: the weights were trained at {trained} pixels"),
              "num_class": (num_class, f"--num_class {num_class}: the weights are of {count}"),
              "gain": (gain, f"--gain {gain}: the weights were trained with {said.get('gain')}"),
              "channels": (channels, f"--{kinds.get(channels)}: the weights were trained on "
                                     f"{kinds.get(said.get('channels'))} images")}
    conflicts = tuple(line for name, (wish, line) in wishes.items()
                      if wish is not None and wish != said.get(name, wish))
    return Usage(size_used, origin, num_class or count, gain or said.get("gain", GAINS[0]),
                 channels or said.get("channels"), conflicts)


def _counted(checkpoint: Checkpoint) -> dict[str, int]:
    """The number of classes by the shapes of the weights, where these are of a published network."""
    count = class_count(checkpoint.arrays)
    is_sound, expected = SETTINGS["num_class"]
    if count is not None and not is_sound(count):
        raise UserError(f"{checkpoint}: is of {count} classes, expected {expected}")
    return {} if count is None else {"num_class": count}


def settings_of(checkpoint: Checkpoint) -> dict[str, object]:
    """Those of `SETTINGS` that a file of weights tells of its training.

    Raises:
        UserError: the file says something that no training has: it is named, with what is expected.
    """
    said = {name: checkpoint.info[name] for name in SETTINGS if checkpoint.info.get(name) is not None}
    for name, value in said.items():
        is_sound, expected = SETTINGS[name]
        if not is_sound(value):
            raise UserError(f"{checkpoint}: says {name} {repr(value)[:60]}, expected {expected}; if the "
                            "weights themselves are good, `convert --out FILE.pth` leaves out what they say")
    return said


def _whole(low: int, high: int) -> Callable[[object], bool]:
    return lambda value: type(value) is int and low <= value <= high


def _one_of(*values: object) -> Callable[[object], bool]:
    return lambda value: any(type(value) is type(each) and value == each for each in values)


def _is_size(value: object) -> bool:
    return _whole(SIZE_DIVISOR, MAX_SIZE)(value) and value % SIZE_DIVISOR == 0


def _is_window(value: object) -> bool:
    if not isinstance(value, (list, tuple)) or [*map(type, value)] not in ([float, float], [int, int]):
        return False
    return -MAX_GREY < value[0] < value[1] < MAX_GREY


# By name: whether a value is one that a training has, and what is expected in words.
SETTINGS: dict[str, tuple[Callable[[object], bool], str]] = {
    "task": (_one_of(*TASKS), " or ".join(TASKS)),
    "model_type": (_one_of(*NETWORKS), f"one of the known ones: {', '.join(NETWORKS)}"),
    "num_class": (_whole(1, MAX_CLASSES), f"a number from 1 to {MAX_CLASSES}"),
    "gain": (_one_of(*GAINS), f"one of {', '.join(GAINS)}"),
    "trainsize": (_is_size, f"a multiple of {SIZE_DIVISOR} up to {MAX_SIZE}"),
    "channels": (_one_of(1, 3), "1 (grey) or 3 (colour)"),
    "slice_axis": (_one_of(0, 1, 2), "0, 1 or 2"),
    "window": (_is_window, "two grey levels, the lower one first"),
    "label_map": (_one_of(*LABEL_MAPS), f"one of {', '.join(LABEL_MAPS)}"),
}
